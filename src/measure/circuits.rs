//! The circuits that measures of weights can be asked for, by name.

use super::columns::{self, integer};
use crate::Result;
use crate::circuit::weights::Circuit;
use crate::model::{HeadId, ModelConfig};
use polars::prelude::Column;
use schemars::JsonSchema;
use serde::Deserialize;

/// A circuit of one head.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(super) enum HeadCircuit {
    /// `W_E W_OV W_U`: token at the source, token that it raises.
    FullOv,
    /// `W_E W_QK W_Eᵀ`: token at the destination, token at the source.
    FullQk,
    /// `W_OV = W_V W_O`, between vectors of the stream.
    Ov,
    /// `W_QK = W_Q W_Kᵀ`, between vectors of the stream.
    Qk,
}

/// A circuit of one head, or of two in different layers, or of none. In the order of their names.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(super) enum CircuitName {
    /// `W_E W_U`: token here, token next. Of no head, and not for measures that are about heads.
    #[serde(skip)]
    Direct,
    /// `W_E W_OV W_U`: token at the source, token that it raises.
    FullOv,
    /// `W_E W_QK W_Eᵀ`: token at the destination, token at the source.
    FullQk,
    /// `W_E W_QK (W_OV of an earlier head)ᵀ W_Eᵀ`: token at the destination, token that the earlier head moved to the source.
    KComposition,
    /// `W_OV = W_V W_O`, between vectors of the stream.
    Ov,
    /// `W_E (W_OV of an earlier head) W_QK W_Eᵀ`: token that the earlier head moved to the destination, token at the source.
    QComposition,
    /// `W_QK = W_Q W_Kᵀ`, between vectors of the stream.
    Qk,
    /// `W_E (W_OV of an earlier head) W_OV W_U`: the OV circuit of a virtual head.
    VirtualOv,
}

impl From<HeadCircuit> for CircuitName {
    fn from(name: HeadCircuit) -> Self {
        match name {
            HeadCircuit::FullOv => Self::FullOv,
            HeadCircuit::FullQk => Self::FullQk,
            HeadCircuit::Ov => Self::Ov,
            HeadCircuit::Qk => Self::Qk,
        }
    }
}

impl CircuitName {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::FullOv => "full_ov",
            Self::FullQk => "full_qk",
            Self::KComposition => "k_composition",
            Self::Ov => "ov",
            Self::QComposition => "q_composition",
            Self::Qk => "qk",
            Self::VirtualOv => "virtual_ov",
        }
    }

    /// The circuits of this name that belong to the head `to`, by the earlier head where there is one.
    fn of_head(self, model: &ModelConfig, to: HeadId) -> Vec<Circuit> {
        let earlier = || model.heads().take_while(|from| from.layer < to.layer);
        match self {
            Self::Direct => Vec::new(),
            Self::FullOv => vec![Circuit::FullOv(to)],
            Self::FullQk => vec![Circuit::FullQk(to)],
            Self::Ov => vec![Circuit::Ov(to)],
            Self::Qk => vec![Circuit::Qk(to)],
            Self::KComposition => earlier().map(|from| Circuit::KComposition { from, to }).collect(),
            Self::QComposition => earlier().map(|from| Circuit::QComposition { from, to }).collect(),
            Self::VirtualOv => earlier().map(|from| Circuit::VirtualOv { from, to }).collect(),
        }
    }
}

/// A circuit with the name that tables give it.
pub(super) type Named = (&'static str, Circuit);

fn sorted<N: Copy + Into<CircuitName>>(names: &[N]) -> Vec<CircuitName> {
    let mut names: Vec<CircuitName> = names.iter().map(|&name| name.into()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The circuits that the parameters `circuits` and `heads` name, sorted as tables are: by name, by head, by earlier head. Of a pair,
/// `heads` names the later one.
pub(super) fn circuits<N: Copy + Into<CircuitName>>(
    model: &ModelConfig,
    names: &[N],
    heads: Option<&[String]>,
) -> Result<Vec<Named>> {
    let heads = columns::heads(model, heads)?;
    let of_name = |name: CircuitName| {
        let of_none = (name == CircuitName::Direct).then_some(Circuit::Direct);
        let of_heads = heads.iter().flat_map(move |&id| name.of_head(model, id));
        of_none.into_iter().chain(of_heads).map(move |circuit| (name.name(), circuit)).collect::<Vec<_>>()
    };
    Ok(sorted(names).into_iter().flat_map(of_name).collect())
}

/// An upper bound on how many circuits [`circuits`] yields, without listing them.
pub(super) fn count<N: Copy + Into<CircuitName>>(model: &ModelConfig, names: &[N], heads: Option<&[String]>) -> usize {
    let chosen = columns::head_count(model, heads);
    let earlier = model.n_layers.saturating_sub(1).saturating_mul(model.n_heads);
    // Half of the pairs that have an order, if every head is asked for.
    let pairs = if heads.is_some() { chosen.saturating_mul(earlier) } else { chosen.saturating_mul(earlier) / 2 };
    let of_name = |name| match name {
        CircuitName::Direct => 1,
        CircuitName::KComposition | CircuitName::QComposition | CircuitName::VirtualOv => pairs,
        CircuitName::FullOv | CircuitName::FullQk | CircuitName::Ov | CircuitName::Qk => chosen,
    };
    sorted(names).into_iter().map(of_name).fold(0, usize::saturating_add)
}

/// Bytes that the eigenvalues of circuits hold: what they share, and the factors that each thread works on.
pub(super) fn bytes(model: &ModelConfig) -> usize {
    let (d, k) = (model.d_model, model.d_head);
    // Two shared products, two triangular factors, and twice as many on the way.
    let shared = d.saturating_mul(d).saturating_mul(8);
    // Blocks of 2048 tokens.
    let block = d.saturating_mul(model.d_vocab.min(2048)).saturating_mul(3);
    let factors = d.saturating_mul(k).saturating_mul(12);
    let of_thread = block.saturating_add(factors).saturating_mul(rayon::current_num_threads());
    shared.saturating_add(of_thread).saturating_mul(size_of::<f64>())
}

fn number<'a>(name: &str, rows: impl Iterator<Item = &'a Named>, of: fn(&Circuit) -> Option<usize>) -> Column {
    Column::new(name.into(), rows.map(|(_, circuit)| of(circuit).map(integer)).collect::<Vec<_>>())
}

/// The columns `circuit, layer, head` of a table, from the circuits of its rows.
pub(super) fn head_columns<'a>(rows: impl Iterator<Item = &'a Named> + Clone) -> Vec<Column> {
    vec![
        Column::new("circuit".into(), rows.clone().map(|(name, _)| *name).collect::<Vec<_>>()),
        number("layer", rows.clone(), |circuit| circuit.heads().0.map(|id| id.layer)),
        number("head", rows, |circuit| circuit.heads().0.map(|id| id.head)),
    ]
}

/// The columns `circuit, layer, head, from_layer, from_head` of a table whose circuits may be of two heads.
pub(super) fn key_columns<'a>(rows: impl Iterator<Item = &'a Named> + Clone) -> Vec<Column> {
    let mut columns = head_columns(rows.clone());
    columns.push(number("from_layer", rows.clone(), |circuit| circuit.heads().1.map(|id| id.layer)));
    columns.push(number("from_head", rows, |circuit| circuit.heads().1.map(|id| id.head)));
    columns
}
