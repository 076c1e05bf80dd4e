use super::columns::{INTEGER, NUMBER, TEXT, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::head_scores::{SCORES, head_scores};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What each head attends to: scores of its attention pattern, in every convention under its own name.
///
/// `previous_token`, `current_token`, `first_token`: mean attention to the position before, to the own position, to position 0.
/// `duplicate_token`: attention mass on earlier copies of the current token, mean over the positions that have one.
/// `prefix_matching`: attention mass on positions right after an earlier copy of the current token, mean over the positions of
/// repeats 2.. (where the input does not repeat: over the positions with an earlier copy). `tl_…`: TransformerLens'
/// `detect_head` with error measure `mul` or `abs`; `_excl` leaves out column 0 and the diagonal.
///
/// `floor` is what uniform attention scores on this input, `ceiling` what an ideal head scores (one that attends to the right
/// sources and nothing else, and to position 0 where there are none). A value is null where the input has nothing to attend to.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadScores {}

impl Described for HeadScores {
    const NAME: &'static str = "head_scores";
    const EXAMPLE: &'static str = "- measure: head_scores\n  input: repeated\n";
}

impl Measure for HeadScores {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("score", TEXT),
            ("value", NUMBER),
            ("floor", NUMBER),
            ("ceiling", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let heads = model.n_layers.saturating_mul(model.n_heads);
        Cost { rows: heads.saturating_mul(SCORES.len()), bytes: super::chunk_bytes(model, input) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let scores = head_scores(model, subject.required_input()?)?;
        let rows: Vec<_> = model.config().heads().flat_map(|id| scores.iter().map(move |score| (id, score))).collect();
        Ok(df!(
            "layer" => rows.iter().map(|(id, _)| integer(id.layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|(id, _)| integer(id.head)).collect::<Vec<_>>(),
            "score" => rows.iter().map(|(_, s)| s.score.name).collect::<Vec<_>>(),
            "value" => rows.iter().map(|(id, s)| s.value.as_ref().map(|v| v[(id.layer, id.head)])).collect::<Vec<_>>(),
            "floor" => rows.iter().map(|(_, s)| s.floor).collect::<Vec<_>>(),
            "ceiling" => rows.iter().map(|(_, s)| s.ceiling).collect::<Vec<_>>(),
        )?)
    }
}
