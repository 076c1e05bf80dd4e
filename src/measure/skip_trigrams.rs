use super::columns::{INTEGER, NUMBER, check_heads, count, head_count, heads, integer, schema, tokens};
use super::{Cost, Measure, Subject, bytes_of};
use crate::Result;
use crate::circuit::skip_trigrams::{Among, SkipTrigram, skip_trigrams};
use crate::circuit::table::BLOCK;
use crate::circuit::weights::Circuits;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::{HeadId, ModelConfig};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// The skip-trigrams of each head: `source` … `destination` → `out`, those that raise `out` most.
///
/// `attention` is the softmax of the destination's row of the full QK circuit W_E W_QK W_Eᵀ/scale over all tokens of the vocabulary: how
/// much it attends to the source if every token stands once before it. `effect` is the source's entry of the full OV circuit
/// W_E W_OV W_U for `out`, minus the mean of its row: what full attention does to that logit, against all others. Their product is what
/// is ranked, and the `top` largest of each head are the rows; of equal ones the first, by source, destination and out, which is also
/// the order of the table. (Elhage et al. 2021, "One-layer attention-only transformers".) For a head of a later layer it is what the
/// head does to plain token embeddings. From the weights alone: positions, biases and LayerNorm are left out.
///
/// Takes a time of the square of the vocabulary for each head, but not its memory.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkipTrigrams {
    /// How many of each head.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 100_000))]
    top: usize,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// Only these tokens as sources; default: all. Attention is still divided among all tokens.
    #[serde(default)]
    #[schemars(length(min = 1))]
    sources: Option<Vec<usize>>,
    /// Only these tokens as destinations; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    destinations: Option<Vec<usize>>,
    /// Only these tokens as outs; default: all. An effect is still against the mean of all tokens.
    #[serde(default)]
    #[schemars(length(min = 1))]
    outs: Option<Vec<usize>>,
}

fn twenty() -> usize {
    20
}

impl Described for SkipTrigrams {
    const NAME: &'static str = "skip_trigrams";
    const EXAMPLE: &'static str = "- measure: skip_trigrams\n  top: 10\n  heads: [\"0.0\"]\n";
}

impl Measure for SkipTrigrams {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("source", INTEGER),
            ("destination", INTEGER),
            ("out", INTEGER),
            ("attention", NUMBER),
            ("effect", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        for (name, list) in [("sources", &self.sources), ("destinations", &self.destinations), ("outs", &self.outs)] {
            tokens(name, model, list.as_deref())?;
        }
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let heads = head_count(model, self.heads.as_deref());
        let chosen = |list: &Option<Vec<usize>>| count(list.as_deref(), model.d_vocab);
        let triples = chosen(&self.sources).saturating_mul(chosen(&self.destinations)).saturating_mul(chosen(&self.outs));
        let rows = heads.saturating_mul(self.top.min(triples));
        // The factors of both circuits in double precision with the embeddings that they are made of; blocks of rows in work, each
        // with its candidates.
        let factors = bytes_of::<f64>(&[2, model.d_vocab, model.d_model.saturating_add(model.d_head.saturating_mul(4))]);
        let blocks = bytes_of::<f64>(&[BLOCK, rayon::current_num_threads(), model.d_vocab.saturating_mul(4)]);
        let candidates = bytes_of::<f64>(&[self.top, model.d_vocab / BLOCK + BLOCK]);
        let bytes = [blocks, candidates, rows.saturating_mul(120)].into_iter().fold(factors, usize::saturating_add);
        Cost { rows, bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model.config();
        let sources = tokens("sources", model, self.sources.as_deref())?;
        let destinations = tokens("destinations", model, self.destinations.as_deref())?;
        let outs = tokens("outs", model, self.outs.as_deref())?;
        let among = Among { sources: sources.as_deref(), destinations: destinations.as_deref(), outs: outs.as_deref() };
        let circuits = Circuits::new(subject.model);
        let mut found: Vec<(HeadId, SkipTrigram)> = Vec::new();
        for id in heads(model, self.heads.as_deref())? {
            found.extend(skip_trigrams(&circuits, id, among, self.top)?.into_iter().map(|trigram| (id, trigram)));
        }
        let token = |of: fn(&SkipTrigram) -> usize| found.iter().map(|(_, t)| integer(of(t))).collect::<Vec<_>>();
        Ok(df!(
            "layer" => found.iter().map(|(id, _)| integer(id.layer)).collect::<Vec<_>>(),
            "head" => found.iter().map(|(id, _)| integer(id.head)).collect::<Vec<_>>(),
            "source" => token(|t| t.source),
            "destination" => token(|t| t.destination),
            "out" => token(|t| t.out),
            "attention" => found.iter().map(|(_, t)| t.attention).collect::<Vec<_>>(),
            "effect" => found.iter().map(|(_, t)| t.effect).collect::<Vec<_>>(),
        )?)
    }
}
