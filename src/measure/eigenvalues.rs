use super::circuits::{self, CircuitName};
use super::columns::{INTEGER, NUMBER, TEXT, check_heads, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::weights::{Circuits, Shared};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{Column, DataFrame, Schema};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// The eigenvalues of a head's circuits, `re` + i `im`: the `d_head` of them that can differ from zero, from the weights alone.
///
/// `index` counts them by descending magnitude, then descending real part, then descending imaginary part, so that of a conjugate
/// pair the one above the real axis comes first; magnitudes and real parts within 1e-4 of the largest magnitude count as equal.
/// There are always `d_head` rows, zeros among them. `from_layer` and `from_head` are the earlier head of a circuit of two, otherwise
/// null. Biases, LayerNorm and the scale of the scores are left out.
///
/// Random heads fill a disc about 0; a head that copies has eigenvalues with positive real parts (Elhage et al. 2021, "Copying
/// matrices and eigenvalues"). Where a circuit has not enough eigenvectors (a nilpotent one: all are 0), its eigenvalues are only
/// accurate to a root of the rounding of the weights, and may be far off: the measure `copying` tells such a circuit apart.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Eigenvalues {
    /// Which circuits.
    #[serde(default = "default_circuits")]
    #[schemars(length(min = 1))]
    circuits: Vec<CircuitName>,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); of a circuit of two heads, the later one. Default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
}

fn default_circuits() -> Vec<CircuitName> {
    vec![CircuitName::Ov, CircuitName::FullOv, CircuitName::Qk]
}

impl Described for Eigenvalues {
    const NAME: &'static str = "eigenvalues";
    const EXAMPLE: &'static str = "- measure: eigenvalues\n  circuits: [full_ov, k_composition]\n";
}

impl Measure for Eigenvalues {
    fn columns(&self) -> Schema {
        schema([
            ("circuit", TEXT),
            ("layer", INTEGER),
            ("head", INTEGER),
            ("from_layer", INTEGER),
            ("from_head", INTEGER),
            ("index", INTEGER),
            ("re", NUMBER),
            ("im", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let circuits = circuits::count(model, &self.circuits, self.heads.as_deref());
        Cost { rows: circuits.saturating_mul(model.d_head), bytes: circuits::bytes(model) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let chosen = circuits::circuits(subject.model.config(), &self.circuits, self.heads.as_deref())?;
        let circuits = Circuits::new(subject.model);
        circuits.prepare(&chosen.iter().map(|(_, circuit)| *circuit).collect::<Vec<_>>(), Shared::Eigenvalues);
        let values = chosen.par_iter().map(|(_, circuit)| circuits.eigenvalues(*circuit)).collect::<Result<Vec<_>>>()?;
        let rows = || chosen.iter().zip(&values).flat_map(|(key, values)| values.iter().enumerate().map(move |row| (key, row)));
        let mut columns = circuits::key_columns(rows().map(|(key, _)| key));
        columns.extend([
            Column::new("index".into(), rows().map(|(_, (index, _))| integer(index)).collect::<Vec<_>>()),
            Column::new("re".into(), rows().map(|(_, (_, value))| value.re).collect::<Vec<_>>()),
            Column::new("im".into(), rows().map(|(_, (_, value))| value.im).collect::<Vec<_>>()),
        ]);
        Ok(DataFrame::new_infer_height(columns)?)
    }
}
