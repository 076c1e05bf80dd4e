use super::columns::{INTEGER, NUMBER, TEXT, groups, repeats, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::paths::logit_attribution;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What each component contributes to the logit of the token that follows, directly and through no other head.
///
/// `component` is `embed`, `position` (with standard positions), each head (`0.3`, its `b_V` included), and `bias` (each `b_O` and
/// what the unembedding adds; only where the model has biases other than zero). `value` is the mean contribution over sequences and positions, and
/// the components sum to the mean logit. `above_mean` is the same less the mean contribution to the logits of all tokens: a number
/// added to all logits alike changes no prediction. With LayerNorm, the last one's scale is held at its value in the run; its
/// centring and its weight are applied to each component, its bias belongs to `bias`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogitAttribution {}

impl Described for LogitAttribution {
    const NAME: &'static str = "logit_attribution";
    const EXAMPLE: &'static str = "- measure: logit_attribution\n  input: repeated\n";
}

impl Measure for LogitAttribution {
    fn columns(&self) -> Schema {
        schema([("component", TEXT), ("repeat", INTEGER), ("value", NUMBER), ("above_mean", NUMBER)])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let components = model.n_layers.saturating_mul(model.n_heads).saturating_add(3);
        let rows = components.saturating_mul(groups(input.and_then(|input| input.repeats)));
        // A folded copy of W_U, and two directions of the stream for each position.
        let streams = super::positions_at_once(input).saturating_mul(model.d_model).saturating_mul(3);
        let folded = super::folded_weights(model);
        let bytes = streams.saturating_mul(size_of::<f32>()).saturating_add(folded);
        Cost { rows, bytes: bytes.saturating_add(super::chunk_bytes(model, input)) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let batch = subject.required_input()?;
        let (repeats, groups) = repeats(batch);
        let found = logit_attribution(subject.model, batch, &groups)?;
        let rows = || found.iter().flat_map(|part| (0..repeats.len()).map(move |group| (part, group)));
        Ok(df!(
            "component" => rows().map(|(part, _)| part.component.to_string()).collect::<Vec<_>>(),
            "repeat" => rows().map(|(_, group)| repeats[group]).collect::<Vec<_>>(),
            "value" => rows().map(|(part, group)| part.logit[group]).collect::<Vec<_>>(),
            "above_mean" => rows().map(|(part, group)| part.above_mean[group]).collect::<Vec<_>>(),
        )?)
    }
}
