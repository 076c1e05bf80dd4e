use super::columns::{INTEGER, NUMBER, TEXT, integer, pair_schema, pair_table};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::components::{ComponentValue, components};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// The composition score of each pair of heads, split by singular component: which direction that is written is read, and which
/// direction that is read is written.
///
/// With A = W_OV = Σ σᵢ uᵢ vᵢᵀ of the earlier head and B = W_QK, W_QKᵀ or W_OV = Σ τⱼ xⱼ yⱼᵀ of the later one (`kind` `q`, `k`, `v`):
/// `side` `write` is component i of A against the whole of B, `score` = ‖vᵢᵀ B‖/‖B‖; `side` `read` is component j of B against the whole
/// of A, `score` = ‖A xⱼ‖/‖A‖. The square of the pair's composition score is the mean of these squares, weighted with σᵢ²/Σσ² (or
/// τⱼ²/Στ²). `index` counts from 0 by descending `singular_value`.
///
/// `chance`, `chance_sd` and `z` are as in `composition`: the mean square by chance is 1/d_model, exactly; the other two numbers are its
/// approximations, a few percent off where both maps have rank one. Singular values closer than a thousandth of the largest count as
/// equal: their vectors are not unique, so these components share the root of their mean squared score. Components whose singular
/// value is below a ten-thousandth of the largest, and those of heads that are all zeros or beside one, have no score.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompositionComponents {
    /// How many components of each side, those of the largest singular values; default: all, as many as d_head.
    #[serde(default)]
    #[schemars(range(min = 1))]
    components: Option<usize>,
}

impl Described for CompositionComponents {
    const NAME: &'static str = "composition_components";
    const EXAMPLE: &'static str = "- measure: composition_components\n  components: 4\n";
}

impl CompositionComponents {
    fn most(&self, model: &ModelConfig) -> usize {
        self.components.unwrap_or(usize::MAX).min(model.d_head).min(model.d_model)
    }
}

impl Measure for CompositionComponents {
    fn columns(&self) -> Schema {
        pair_schema([
            ("side", TEXT),
            ("index", INTEGER),
            ("singular_value", NUMBER),
            ("score", NUMBER),
            ("chance", NUMBER),
            ("chance_sd", NUMBER),
            ("z", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let rows = super::composition::pairs(model).saturating_mul(2).saturating_mul(self.most(model));
        // Of every head the factors and singular vectors; what is found, once as found and once as rows.
        let head = model.d_model.saturating_mul(model.d_head).saturating_mul(12 * size_of::<f64>());
        let heads = head.saturating_mul(model.n_layers).saturating_mul(model.n_heads);
        Cost { rows, bytes: heads.saturating_add(rows.saturating_mul(300)) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let all = components(subject.model, self.most(subject.model.config()))?;
        let pairs: Vec<_> = all.iter().map(|c| (c.channel, c.from, c.to)).collect();
        let number =
            |of: fn(&ComponentValue) -> Option<f64>| all.iter().map(|c| c.value.as_ref().and_then(of)).collect::<Vec<_>>();
        let values = df!(
            "side" => all.iter().map(|c| c.side.name()).collect::<Vec<_>>(),
            "index" => all.iter().map(|c| integer(c.index)).collect::<Vec<_>>(),
            "singular_value" => all.iter().map(|c| c.singular_value).collect::<Vec<_>>(),
            "score" => number(|v| Some(v.score)),
            "chance" => number(|v| Some(v.chance.mean)),
            "chance_sd" => number(|v| Some(v.chance.sd)),
            "z" => number(|v| v.z),
        )?;
        pair_table(&pairs, &values)
    }
}
