use super::columns::{INTEGER, NUMBER, count, integer, schema, tokens};
use super::{Cost, Measure, Subject, bytes_of};
use crate::Result;
use crate::circuit::table::{BLOCK, bigrams};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What the direct path says comes next: the largest entries of each row of W_E W_U + b_U.
///
/// A model without layers is this table, and nothing else (Elhage et al. 2021, "Zero-layer transformers"). `value` is the logit of
/// `out` after `token`, minus the mean of that row over the vocabulary: adding a number to a whole row changes nothing, so only such
/// differences mean something. `probability` is what the row's softmax gives it. `out` comes in the order of tokens; sort by `value`
/// for the largest. From the weights alone: positions, LayerNorm and the biases of heads are left out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bigrams {
    /// How many next tokens for each, those of the largest logits (of equal ones the first).
    #[serde(default = "ten")]
    #[schemars(range(min = 1))]
    top: usize,
    /// Which tokens; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    tokens: Option<Vec<usize>>,
}

fn ten() -> usize {
    10
}

impl Described for Bigrams {
    const NAME: &'static str = "bigrams";
    const EXAMPLE: &'static str = "- measure: bigrams\n  top: 5\n";
}

impl Measure for Bigrams {
    fn columns(&self) -> Schema {
        schema([("token", INTEGER), ("out", INTEGER), ("value", NUMBER), ("probability", NUMBER)])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        tokens("tokens", model, self.tokens.as_deref()).map(drop)
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let rows = count(self.tokens.as_deref(), model.d_vocab).saturating_mul(self.top.min(model.d_vocab));
        // Both factors in double precision, twice while one is centred; blocks of rows in work.
        let factors = bytes_of::<f64>(&[3, model.d_vocab, model.d_model]);
        let blocks = bytes_of::<f64>(&[3, BLOCK, rayon::current_num_threads(), model.d_vocab]);
        Cost { rows, bytes: factors.saturating_add(blocks).saturating_add(rows.saturating_mul(80)) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let chosen = tokens("tokens", subject.model.config(), self.tokens.as_deref())?;
        let found = bigrams(subject.model, chosen.as_deref(), self.top)?;
        Ok(df!(
            "token" => found.iter().map(|(entry, _)| integer(entry.row)).collect::<Vec<_>>(),
            "out" => found.iter().map(|(entry, _)| integer(entry.column)).collect::<Vec<_>>(),
            "value" => found.iter().map(|(entry, _)| entry.value).collect::<Vec<_>>(),
            "probability" => found.iter().map(|(_, probability)| *probability).collect::<Vec<_>>(),
        )?)
    }
}
