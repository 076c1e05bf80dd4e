use super::columns::{NUMBER, pair_count, pair_schema, pair_table};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::composition::composition;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::{Channel, ModelConfig};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// How much of what an earlier head writes a later head reads, through its queries (`q`), keys (`k`) and values (`v`).
///
/// `score` is ‖A B‖/(‖A‖ ‖B‖) in Frobenius norms, with A = W_OV of the earlier head and B = W_QK, W_QKᵀ or W_OV of the later one
/// (Elhage et al. 2021). `chance` and `chance_sd` are its mean and standard deviation if one of the two were turned at random in
/// the stream, `z` = (score − chance)/chance_sd. `alignment` = ‖A B‖²/Σ σᵢ(A)² σᵢ(B)² is 1 where the two are as composed as their
/// spectra allow. Where a head is all zeros, the numbers are null. From the weights alone, LayerNorm left out.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Composition {}

impl Described for Composition {
    const NAME: &'static str = "composition";
    const EXAMPLE: &'static str = "- measure: composition\n";
}

/// Pairs of heads in different layers, times the three channels.
pub(super) fn pairs(model: &ModelConfig) -> usize {
    pair_count(model, None, None).saturating_mul(Channel::ALL.len())
}

impl Measure for Composition {
    fn columns(&self) -> Schema {
        pair_schema([("score", NUMBER), ("chance", NUMBER), ("chance_sd", NUMBER), ("z", NUMBER), ("alignment", NUMBER)])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let rows = pairs(model);
        let factor = model.d_model.saturating_mul(model.d_head).saturating_mul(4 * size_of::<f64>());
        Cost { rows, bytes: factor.saturating_mul(model.n_layers).saturating_mul(model.n_heads) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let all = composition(model)?;
        let number = |of: fn(&crate::circuit::composition::CompositionValue) -> Option<f64>| {
            all.iter().map(|pair| pair.value.as_ref().and_then(of)).collect::<Vec<_>>()
        };
        let pairs: Vec<_> = all.iter().map(|pair| (pair.channel, pair.from, pair.to)).collect();
        let values = df!(
            "score" => number(|value| Some(value.score)),
            "chance" => number(|value| Some(value.chance.mean)),
            "chance_sd" => number(|value| Some(value.chance.sd)),
            "z" => number(|value| value.z),
            "alignment" => number(|value| Some(value.alignment)),
        )?;
        pair_table(&pairs, &values)
    }
}
