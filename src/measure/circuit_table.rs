use super::circuits::{self, CircuitName, key_columns};
use super::columns::{INTEGER, NUMBER, TEXT, check_heads, count, integer, schema, tokens};
use super::{Cost, Measure, Subject, bytes_of};
use crate::Result;
use crate::circuit::table::{BLOCK, Entry, Wanted, entries};
use crate::circuit::weights::{Circuit, Circuits};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{Column, DataFrame, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

/// Circuits over tokens, multiplied out: a number for each pair of tokens, whole or the largest of each row.
///
/// `direct`: W_E W_U, what the current token (row) does to the logit of each next one (column). `full_ov`: W_E W_OV W_U, what
/// attending to a token (row) does to the logit of each (column). `full_qk`: W_E W_QK W_Eᵀ, the attention score of a token at the
/// destination (row) for each at the source (column). `k_composition` and `q_composition`: the part of the score that an earlier head
/// (`from_layer`, `from_head`) adds through the keys or the queries, by the token that it attends to. `virtual_ov`: the OV circuits of both heads in sequence.
/// From the weights alone: positions, biases and LayerNorm are left out. Circuits between coordinates of the stream (`ov`, `qk`)
/// have no table: their entries are different in every basis of the stream.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitTable {
    /// Which circuits; default: `[full_ov, full_qk]`.
    #[serde(default = "default_circuits")]
    #[schemars(length(min = 1))]
    circuits: Vec<TokenCircuit>,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: all. Of a pair, the later one.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// Tokens whose rows are wanted; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    rows: Option<Vec<usize>>,
    /// Tokens whose columns are wanted; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    columns: Option<Vec<usize>>,
    /// So many entries of each row, the largest (of equal ones the first); default: the whole row.
    #[serde(default)]
    #[schemars(range(min = 1))]
    top: Option<usize>,
    /// Each row minus its mean over all columns: all that a softmax along the row can see.
    #[serde(default)]
    centered: bool,
    /// Divide `full_qk`, `k_composition` and `q_composition` by the scale of the scores (√d_head), so that they are attention scores. Without it they
    /// are the products as they stand.
    #[serde(default)]
    scaled: bool,
}

/// A circuit whose rows and columns are tokens.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum TokenCircuit {
    /// The direct path, token here by token next: W_E W_U.
    Direct,
    /// Token at the source by token that it raises: W_E W_OV W_U.
    FullOv,
    /// Token at the destination by token at the source: W_E W_QK W_Eᵀ.
    FullQk,
    /// Token at the destination by token that an earlier head moved to the source: W_E W_QK (W_OV of the earlier head)ᵀ W_Eᵀ.
    KComposition,
    /// Token that an earlier head moved to the destination by token at the source: W_E (W_OV of the earlier head) W_QK W_Eᵀ.
    QComposition,
    /// Token at the first source by token that it raises, through two heads in sequence: W_E (W_OV of the earlier head) W_OV W_U.
    VirtualOv,
}

impl From<TokenCircuit> for CircuitName {
    fn from(name: TokenCircuit) -> Self {
        match name {
            TokenCircuit::Direct => Self::Direct,
            TokenCircuit::FullOv => Self::FullOv,
            TokenCircuit::FullQk => Self::FullQk,
            TokenCircuit::KComposition => Self::KComposition,
            TokenCircuit::QComposition => Self::QComposition,
            TokenCircuit::VirtualOv => Self::VirtualOv,
        }
    }
}

fn default_circuits() -> Vec<TokenCircuit> {
    vec![TokenCircuit::FullOv, TokenCircuit::FullQk]
}

impl Described for CircuitTable {
    const NAME: &'static str = "circuit_table";
    const EXAMPLE: &'static str = "- measure: circuit_table\n  circuits: [full_ov]\n  heads: [\"1.0\"]\n  top: 5\n";
}

impl Measure for CircuitTable {
    fn columns(&self) -> Schema {
        schema([
            ("circuit", TEXT),
            ("layer", INTEGER),
            ("head", INTEGER),
            ("from_layer", INTEGER),
            ("from_head", INTEGER),
            ("row_token", INTEGER),
            ("column_token", INTEGER),
            ("value", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        tokens("rows", model, self.rows.as_deref())?;
        tokens("columns", model, self.columns.as_deref())?;
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let circuits = circuits::count(model, &self.circuits, self.heads.as_deref());
        let (rows, columns) = (count(self.rows.as_deref(), model.d_vocab), count(self.columns.as_deref(), model.d_vocab));
        let of_row = self.top.map_or(columns, |top| top.min(columns));
        let entries = circuits.saturating_mul(rows).saturating_mul(of_row);
        // The factors in double precision, with the embeddings that they are made of; blocks of rows in work.
        let factors = bytes_of::<f64>(&[2, model.d_vocab, model.d_model.saturating_add(model.d_head)]);
        let blocks = bytes_of::<f64>(&[3, BLOCK, rayon::current_num_threads(), columns]);
        // An entry is kept once as found and once as a row of the table.
        Cost { rows: entries, bytes: factors.saturating_add(blocks).saturating_add(entries.saturating_mul(120)) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let chosen = circuits::circuits(model.config(), &self.circuits, self.heads.as_deref())?;
        let circuits = Circuits::new(model);
        let (rows, columns) = (
            tokens("rows", model.config(), self.rows.as_deref())?,
            tokens("columns", model.config(), self.columns.as_deref())?,
        );
        let wanted = Wanted { rows: rows.as_deref(), columns: columns.as_deref(), top: self.top, centered: self.centered };
        let mut found = Vec::new();
        for (name, circuit) in chosen {
            let scores = matches!(circuit, Circuit::FullQk(_) | Circuit::KComposition { .. } | Circuit::QComposition { .. });
            let unit = if self.scaled && scores { model.config().attn_scale } else { 1.0 };
            let of_circuit = entries(&circuits, circuit, wanted)?.into_iter();
            found.extend(of_circuit.map(|entry| ((name, circuit), entry, entry.value / unit)));
        }
        let mut table = key_columns(found.iter().map(|(circuit, ..)| circuit));
        let token = |name: &str, of: fn(&Entry) -> usize| {
            Column::new(name.into(), found.iter().map(|(_, entry, _)| integer(of(entry))).collect::<Vec<_>>())
        };
        table.push(token("row_token", |entry| entry.row));
        table.push(token("column_token", |entry| entry.column));
        table.push(Column::new("value".into(), found.iter().map(|(.., value)| *value).collect::<Vec<_>>()));
        Ok(DataFrame::new(found.len(), table)?)
    }
}
