use super::circuits::{self, HeadCircuit};
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

/// The singular values of a head's circuits, descending: those that can differ from zero, `d_head` of them (fewer where `d_model`, or
/// the vocabulary of a circuit over tokens, is smaller).
///
/// The largest is the most that the circuit lengthens a vector; how fast they fall says how many dimensions the head really uses. From
/// the weights alone. Biases, LayerNorm and the scale of the scores are left out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SingularValues {
    /// Which circuits.
    #[serde(default = "default_circuits")]
    #[schemars(length(min = 1))]
    circuits: Vec<HeadCircuit>,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
}

fn default_circuits() -> Vec<HeadCircuit> {
    vec![HeadCircuit::Ov, HeadCircuit::Qk, HeadCircuit::FullOv, HeadCircuit::FullQk]
}

impl Described for SingularValues {
    const NAME: &'static str = "singular_values";
    const EXAMPLE: &'static str = "- measure: singular_values\n  circuits: [ov, qk]\n";
}

impl Measure for SingularValues {
    fn columns(&self) -> Schema {
        schema([("circuit", TEXT), ("layer", INTEGER), ("head", INTEGER), ("index", INTEGER), ("value", NUMBER)])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let circuits = circuits::count(model, &self.circuits, self.heads.as_deref());
        Cost { rows: circuits.saturating_mul(model.d_head.min(model.d_model)), bytes: circuits::bytes(model) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let chosen = circuits::circuits(subject.model.config(), &self.circuits, self.heads.as_deref())?;
        let circuits = Circuits::new(subject.model);
        circuits.prepare(&chosen.iter().map(|(_, circuit)| *circuit).collect::<Vec<_>>(), Shared::Norms);
        let values = chosen.par_iter().map(|(_, circuit)| circuits.singular_values(*circuit)).collect::<Result<Vec<_>>>()?;
        let rows = || chosen.iter().zip(&values).flat_map(|(key, values)| values.iter().enumerate().map(move |row| (key, row)));
        let mut columns = circuits::head_columns(rows().map(|(key, _)| key));
        columns.extend([
            Column::new("index".into(), rows().map(|(_, (index, _))| integer(index)).collect::<Vec<_>>()),
            Column::new("value".into(), rows().map(|(_, (_, value))| *value).collect::<Vec<_>>()),
        ]);
        Ok(DataFrame::new_infer_height(columns)?)
    }
}
