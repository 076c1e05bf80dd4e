use super::columns::{INTEGER, NUMBER, check_heads, check_indices, head_count, heads, indices, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::input::{InputShape, TokenBatch};
use crate::kind::Described;
use crate::model::{Keep, ModelConfig};
use ndarray::{Axis, s};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// The attention patterns themselves: how much each position (`destination`) attends to itself and each one before (`source`).
///
/// `value` is a probability: it sums to 1 over the sources of a destination. Sources later than the destination have no row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// Which sequences of the input, counted from 0; default: the first.
    #[serde(default = "first")]
    #[schemars(length(min = 1))]
    sequences: Vec<usize>,
}

fn first() -> Vec<usize> {
    vec![0]
}

impl Described for Attention {
    const NAME: &'static str = "attention";
    const EXAMPLE: &'static str = "- measure: attention\n  input: repeated\n  heads: [\"0.0\", \"1.0\"]\n  sequences: [0]\n";
}

impl Measure for Attention {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("sequence", INTEGER),
            ("destination", INTEGER),
            ("source", INTEGER),
            ("destination_token", INTEGER),
            ("source_token", INTEGER),
            ("value", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, model: &ModelConfig, input: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())?;
        input.map_or(Ok(()), |input| check_indices("sequences", input.sequences, Some(&self.sequences)))
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let heads = head_count(model, self.heads.as_deref());
        let length = input.map_or(0, |input| input.length);
        let triangle = length.saturating_mul(length.saturating_add(1)) / 2;
        let rows = triangle.saturating_mul(heads).saturating_mul(self.sequences.len());
        let kept = InputShape { sequences: self.sequences.len(), length, repeats: None, min_vocab: 0, max_vocab: None };
        let bytes = super::pass_bytes(model, &kept, Keep { patterns: true, ..Keep::NOTHING });
        Cost { rows, bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let batch = subject.required_input()?;
        let heads = heads(model.config(), self.heads.as_deref())?;
        let sequences = indices("sequences", batch.sequences(), Some(&self.sequences))?;
        let tokens = batch.tokens().select(Axis(0), &sequences);
        let cache = model.run(&TokenBatch::new(tokens.clone(), None)?, Keep { patterns: true, ..Keep::NOTHING })?;

        let mut rows = Vec::new();
        for &id in &heads {
            for index in 0..sequences.len() {
                let pattern = cache.patterns[id.layer].slice(s![index, id.head, .., ..]);
                for ((destination, source), &value) in pattern.indexed_iter().filter(|&((i, j), _)| j <= i) {
                    rows.push((id, index, destination, source, value));
                }
            }
        }
        let token = |index: usize, position: usize| i64::from(tokens[(index, position)]);
        Ok(df!(
            "layer" => rows.iter().map(|row| integer(row.0.layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|row| integer(row.0.head)).collect::<Vec<_>>(),
            "sequence" => rows.iter().map(|row| integer(sequences[row.1])).collect::<Vec<_>>(),
            "destination" => rows.iter().map(|row| integer(row.2)).collect::<Vec<_>>(),
            "source" => rows.iter().map(|row| integer(row.3)).collect::<Vec<_>>(),
            "destination_token" => rows.iter().map(|row| token(row.1, row.2)).collect::<Vec<_>>(),
            "source_token" => rows.iter().map(|row| token(row.1, row.3)).collect::<Vec<_>>(),
            "value" => rows.iter().map(|row| f64::from(row.4)).collect::<Vec<_>>(),
        )?)
    }
}
