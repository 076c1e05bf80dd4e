use super::columns::{INTEGER, NUMBER, check_indices, indices, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::input::{InputShape, TokenBatch};
use crate::kind::Described;
use crate::model::{Keep, ModelConfig};
use ndarray::Axis;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// The logits: `value` for each `sequence`, `position` and `token` of the vocabulary.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logits {
    /// Which sequences of the input, counted from 0; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    sequences: Option<Vec<usize>>,
    /// Which positions, counted from 0; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    positions: Option<Vec<usize>>,
}

impl Described for Logits {
    const NAME: &'static str = "logits";
    const EXAMPLE: &'static str = "- measure: logits\n  input: repeated\n  sequences: [0]\n  positions: [21, 22]\n";
}

impl Measure for Logits {
    fn columns(&self) -> Schema {
        schema([("sequence", INTEGER), ("position", INTEGER), ("token", INTEGER), ("value", NUMBER)])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, _: &ModelConfig, input: Option<&InputShape>) -> Result<()> {
        let Some(input) = input else { return Ok(()) };
        check_indices("sequences", input.sequences, self.sequences.as_deref())?;
        check_indices("positions", input.length, self.positions.as_deref())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let Some(input) = input else { return Cost::default() };
        let sequences = self.sequences.as_ref().map_or(input.sequences, Vec::len);
        let positions = self.positions.as_ref().map_or(input.length, Vec::len);
        let kept = InputShape { sequences, ..*input };
        let bytes = super::pass_bytes(model, &kept, Keep { logits: true, ..Keep::NOTHING });
        Cost { rows: sequences.saturating_mul(positions).saturating_mul(model.d_vocab), bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let batch = subject.required_input()?;
        let sequences = indices("sequences", batch.sequences(), self.sequences.as_deref())?;
        let positions = indices("positions", batch.length(), self.positions.as_deref())?;
        let tokens = batch.tokens().select(Axis(0), &sequences);
        let cache = model.run(&TokenBatch::new(tokens, None)?, Keep { logits: true, ..Keep::NOTHING })?;
        let logits = cache.logits.expect("logits were asked for").select(Axis(1), &positions);
        let keys: Vec<_> = logits.indexed_iter().map(|(key, _)| key).collect();
        Ok(df!(
            "sequence" => keys.iter().map(|key| integer(sequences[key.0])).collect::<Vec<_>>(),
            "position" => keys.iter().map(|key| integer(positions[key.1])).collect::<Vec<_>>(),
            "token" => keys.iter().map(|key| integer(key.2)).collect::<Vec<_>>(),
            "value" => logits.iter().map(|&value| f64::from(value)).collect::<Vec<_>>(),
        )?)
    }
}
