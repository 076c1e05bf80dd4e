use super::columns::{INTEGER, NUMBER, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::loss::loss;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// How well the model predicts the next token at each position.
///
/// `loss` is the mean over sequences of −ln p(next token), in nats; `accuracy` the share of sequences in which the largest logit is
/// the next token. `position` is the one that predicts, so the last token has no row. `repeat` says in which repeat of a repeated
/// input the position lies (null before the first, and where the input does not repeat).
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loss {}

impl Described for Loss {
    const NAME: &'static str = "loss";
    const EXAMPLE: &'static str = "- measure: loss\n  input: repeated\n";
}

impl Measure for Loss {
    fn columns(&self) -> Schema {
        schema([("position", INTEGER), ("repeat", INTEGER), ("loss", NUMBER), ("accuracy", NUMBER)])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        Cost { rows: input.map_or(0, |input| input.length.saturating_sub(1)), bytes: super::chunk_bytes(model, input) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let batch = subject.required_input()?;
        let by_position = loss(model, batch)?;
        let positions = 0..by_position.loss.len();
        let repeat = |position| batch.repeats().and_then(|repeats| repeats.of(position)).map(integer);
        Ok(df!(
            "position" => positions.clone().map(integer).collect::<Vec<_>>(),
            "repeat" => positions.map(repeat).collect::<Vec<_>>(),
            "loss" => by_position.loss.to_vec(),
            "accuracy" => by_position.accuracy.to_vec(),
        )?)
    }
}
