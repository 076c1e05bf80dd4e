use super::columns::{INTEGER, NUMBER, TEXT, integer, schema};
use super::{Cost, Measure, Subject, scores};
use crate::Result;
use crate::circuit::head_scores::{CONVENTIONS, Score, head_scores};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What each head attends to: scores of its attention pattern, in every convention under its own name.
///
/// The same ideal head scores 1, 0.98 or 0.5 by different conventions for the same thing. So each is a score of its own: `list`
/// shows them, and `describe NAME` gives the formula of one, who uses it, and what an ideal head scores by it and by all others.
/// `previous_token` and `prefix_matching` are the two that tell the parts of an induction circuit; both are 1 for an ideal head.
///
/// `floor` is what uniform attention scores on this input, `ceiling` what an ideal head scores: one that divides its attention
/// equally among the right sources, and attends to position 0 where there are none. (With three or more repeats a head that prefers
/// the latest copy can beat the ceiling of the `induction_stripe` scores, which look at that copy alone.) Means are over
/// the sequences and the destinations named. A value is null where the input has nothing that the score looks for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadScores {
    /// Which scores; default: all that `list` shows but `offset_N`.
    #[serde(default)]
    #[schemars(schema_with = "scores::schema")]
    scores: Option<Vec<String>>,
    /// Adds attention to the position so many before: `[2, 3]` stands for the scores `offset_2` and `offset_3`.
    #[serde(default)]
    #[schemars(title = "offset_N")]
    offsets: Vec<usize>,
}

impl HeadScores {
    fn scores(&self) -> Vec<Score> {
        match &self.scores {
            Some(names) => scores::chosen(names.iter().map(String::as_str), &self.offsets),
            None => scores::chosen(CONVENTIONS.iter().map(|convention| convention.name), &self.offsets),
        }
    }
}

impl Described for HeadScores {
    const NAME: &'static str = "head_scores";
    const EXAMPLE: &'static str = "\
- measure: head_scores
  input: repeated
  scores: [previous_token, prefix_matching]
  offsets: [2]
";
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
        Cost { rows: heads.saturating_mul(self.scores().len()), bytes: super::chunk_bytes(model, input) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let found = head_scores(model, subject.required_input()?, &self.scores())?;
        let heads = model.config().heads().enumerate();
        let rows: Vec<_> = heads.flat_map(|head| found.iter().map(move |score| (head, score))).collect();
        Ok(df!(
            "layer" => rows.iter().map(|((_, id), _)| integer(id.layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|((_, id), _)| integer(id.head)).collect::<Vec<_>>(),
            "score" => rows.iter().map(|(_, found)| found.score.name()).collect::<Vec<_>>(),
            "value" => rows.iter().map(|((place, _), found)| found.values.as_ref().map(|v| v[*place])).collect::<Vec<_>>(),
            "floor" => rows.iter().map(|(_, found)| found.floor).collect::<Vec<_>>(),
            "ceiling" => rows.iter().map(|(_, found)| found.ceiling).collect::<Vec<_>>(),
        )?)
    }
}
