use super::circuits::{self, CircuitName};
use super::columns::{INTEGER, TEXT, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::weights::{Size, size};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{Column, DataFrame, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

/// How large each circuit is, kept as two factors and multiplied out.
///
/// A circuit of inner size r between spaces of m and p dimensions has r·(m + p) numbers as two factors (`factored`) and m·p as one
/// matrix (`expanded`). Each is also the number of multiply-adds that it takes to send one vector through it. `ov` and `qk`: r =
/// d_head, m = p = d_model; `full_ov` and `full_qk`: r = d_head, m = p = d_vocab; `direct`: r = d_model, m = p = d_vocab. Two factors
/// are the smaller form while r < m·p/(m + p), half the width for a square circuit.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitSize {}

/// Circuits of no head and of one.
const CIRCUITS: [CircuitName; 5] =
    [CircuitName::Direct, CircuitName::FullOv, CircuitName::FullQk, CircuitName::Ov, CircuitName::Qk];

impl Described for CircuitSize {
    const NAME: &'static str = "circuit_size";
    const EXAMPLE: &'static str = "- measure: circuit_size\n";
}

impl Measure for CircuitSize {
    fn columns(&self) -> Schema {
        schema([("circuit", TEXT), ("layer", INTEGER), ("head", INTEGER), ("factored", INTEGER), ("expanded", INTEGER)])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let rows = circuits::count(model, &CIRCUITS, None);
        Cost { rows, bytes: rows.saturating_mul(100) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model.config();
        let circuits = circuits::circuits(model, &CIRCUITS, None)?;
        let mut table = circuits::head_columns(circuits.iter());
        let number = |name: &str, of: fn(Size) -> usize| {
            Column::new(name.into(), circuits.iter().map(|&(_, circuit)| integer(of(size(model, circuit)))).collect::<Vec<_>>())
        };
        table.push(number("factored", |size| size.factored));
        table.push(number("expanded", |size| size.expanded));
        Ok(DataFrame::new(circuits.len(), table)?)
    }
}
