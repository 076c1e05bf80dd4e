use super::columns::{INTEGER, NUMBER, integer, pair_schema, pair_table};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::components::{Angles, Overlap, principal_angles};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// How the subspace that an earlier head writes to lies to the one that a later head reads from: the cosines of their principal angles.
///
/// Written: the row space of W_OV of the earlier head, of k₁ dimensions. Read: what the later head's queries (`q`), keys (`k`) or values
/// (`v`) depend on, of k₂ dimensions. Unlike a composition score these do not weigh directions by their singular values. The row with
/// `index` null is the mean overlap: `squared` is the mean of the squared cosines, tr(P₁P₂)/min(k₁, k₂) with P the projections, and
/// `cosine` its root; its `chance` = max(k₁, k₂)/d and `chance_sd` are exact. Index 0, 1, … are the angles themselves, by descending
/// cosine; their chance level is simulated with `draws` random subspaces (Haar's measure), so `chance_sd` has a relative error of about
/// 1/√(2·draws). `chance`, `chance_sd` and `z` = (squared − chance)/chance_sd refer to `squared`; `z` is null where chance leaves no
/// choice, as for subspaces that are too large to avoid each other.
///
/// A dimension counts if its singular value exceeds a ten-thousandth of the largest. Where a head is all zeros there is one row, of
/// nulls. From the weights alone, LayerNorm left out.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalAngles {
    /// Random subspaces for each pair of sizes.
    #[serde(default = "draws")]
    #[schemars(range(min = 2, max = 100_000))]
    draws: usize,
    /// How many angles of each pair, those of the largest cosines, beside their mean: 0 for the mean alone. Default: all.
    #[serde(default)]
    angles: Option<usize>,
}

fn draws() -> usize {
    256
}

impl Described for PrincipalAngles {
    const NAME: &'static str = "principal_angles";
    const EXAMPLE: &'static str = "- measure: principal_angles\n  angles: 1\n";
}

impl Measure for PrincipalAngles {
    fn columns(&self) -> Schema {
        pair_schema([
            ("index", INTEGER),
            ("cosine", NUMBER),
            ("squared", NUMBER),
            ("chance", NUMBER),
            ("chance_sd", NUMBER),
            ("z", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let inner = model.d_head.min(model.d_model);
        let angles = self.angles.unwrap_or(usize::MAX).min(inner);
        let rows = super::composition::pairs(model).saturating_mul(angles.saturating_add(1));
        let head = model.d_model.saturating_mul(model.d_head).saturating_mul(8 * size_of::<f64>());
        let heads = head.saturating_mul(model.n_layers).saturating_mul(model.n_heads);
        let drawn = self.draws.saturating_mul(inner).saturating_mul(size_of::<f64>());
        Cost { rows, bytes: heads.saturating_add(drawn).saturating_add(rows.saturating_mul(220)) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let all = principal_angles(subject.model, self.angles, self.draws, &subject.stream.child("principal_angles"))?;
        let rows: Vec<(&Angles, Option<usize>, Option<Overlap>)> = all
            .iter()
            .flat_map(|pair| {
                let each = pair.each.iter().enumerate().map(move |(index, overlap)| (pair, Some(index), Some(*overlap)));
                std::iter::once((pair, None, pair.mean)).chain(each)
            })
            .collect();
        let pairs: Vec<_> = rows.iter().map(|(pair, ..)| (pair.channel, pair.from, pair.to)).collect();
        let number = |of: fn(&Overlap) -> Option<f64>| rows.iter().map(|row| row.2.as_ref().and_then(of)).collect::<Vec<_>>();
        let values = df!(
            "index" => rows.iter().map(|row| row.1.map(integer)).collect::<Vec<_>>(),
            "cosine" => number(|overlap| Some(overlap.squared.sqrt())),
            "squared" => number(|overlap| Some(overlap.squared)),
            "chance" => number(|overlap| Some(overlap.chance.mean)),
            "chance_sd" => number(|overlap| Some(overlap.chance.sd)),
            "z" => number(|overlap| overlap.z),
        )?;
        pair_table(&pairs, &values)
    }
}
