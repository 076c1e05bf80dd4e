use super::circuits::{self, CircuitName};
use super::columns::{INTEGER, NUMBER, TEXT, check_heads, schema};
use super::{Cost, Measure, Subject};
use crate::circuit::copying::{chance_sd, copying};
use crate::circuit::weights::{Circuits, Shared};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use crate::{Error, Result};
use polars::prelude::{Column, DataFrame, Schema};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// Whether a circuit maps tokens to themselves: `score` = Σ Re λ / Σ |λ| over its eigenvalues, from −1 to 1.
///
/// Of the full OV circuit (`full_ov`) this is the copying score of a head: near 1 where the head raises the tokens that it attends
/// to. Of `full_qk` and of the composition terms it is the matching score: near 1 where a head attends to the token (or, through an
/// earlier previous-token head: right after the token) that it stands on (Elhage et al. 2021, "Copying matrices and eigenvalues").
///
/// `chance_sd` is the standard deviation of the score if all its matrices were independently Gaussian (its mean is 0): close to
/// 1.5/`d_head` for one head and to 2/`d_head` for two where `d_model` and the vocabulary are much larger; `z` = score/`chance_sd`.
/// All are null, but `chance_sd`, where the circuit is zero or nilpotent to the precision of the weights.
///
/// Positive eigenvalues need not mean copying, so the diagonal of circuits over tokens is shown too: `diagonal_rank` is the mean rank
/// of a token's own entry in its row, 0 if always the largest and 1 if always the smallest (½ by chance); `diagonal_top_share`
/// the share of tokens whose own entry is among the `top_percent` largest of their row (at least one; by chance that share). Ties
/// count by half. Null for circuits that are not over tokens. From the weights alone; biases and LayerNorm are left out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copying {
    /// Which circuits.
    #[serde(default = "default_circuits")]
    #[schemars(length(min = 1))]
    circuits: Vec<CircuitName>,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); of a circuit of two heads, the later one. Default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// How many tokens stand for the vocabulary, evenly spaced: of a circuit over tokens their rows are looked at, and in a row only
    /// their entries are ranked, the token's own among them. Default: 2048, or all.
    #[serde(default = "default_tokens")]
    #[schemars(range(min = 1))]
    tokens: usize,
    /// What counts as the largest of a row, in percent of the tokens that are ranked. Default: 5.
    #[serde(default = "default_percent")]
    #[schemars(range(min = 0.0, max = 100.0))]
    top_percent: f64,
}

fn default_circuits() -> Vec<CircuitName> {
    vec![CircuitName::FullOv]
}

fn default_tokens() -> usize {
    2048
}

fn default_percent() -> f64 {
    5.0
}

impl Described for Copying {
    const NAME: &'static str = "copying";
    const EXAMPLE: &'static str = "- measure: copying\n  circuits: [full_ov, k_composition]\n";
}

impl Measure for Copying {
    fn columns(&self) -> Schema {
        schema([
            ("circuit", TEXT),
            ("layer", INTEGER),
            ("head", INTEGER),
            ("from_layer", INTEGER),
            ("from_head", INTEGER),
            ("score", NUMBER),
            ("chance_sd", NUMBER),
            ("z", NUMBER),
            ("diagonal_rank", NUMBER),
            ("diagonal_top_share", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        if !(0.0..=100.0).contains(&self.top_percent) {
            let text = format!("top_percent must lie between 0 and 100, and is {}", self.top_percent);
            return Err(Error::parameter("top_percent", text));
        }
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        // For each token: an entry in a block of 128 rows, its part of both factors, what embeds and what reads it.
        let token = model.d_model.saturating_add(model.d_head).saturating_mul(3).saturating_add(128);
        let of_thread = self.tokens.min(model.d_vocab).saturating_mul(token).saturating_mul(size_of::<f64>());
        let bytes = circuits::bytes(model).saturating_add(of_thread.saturating_mul(rayon::current_num_threads()));
        Cost { rows: circuits::count(model, &self.circuits, self.heads.as_deref()), bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let config = subject.model.config();
        let chosen = circuits::circuits(config, &self.circuits, self.heads.as_deref())?;
        let circuits = Circuits::new(subject.model);
        circuits.prepare(&chosen.iter().map(|(_, circuit)| *circuit).collect::<Vec<_>>(), Shared::Both);
        let of_circuit = |(_, circuit): &(&str, _)| copying(&circuits, *circuit, self.tokens, self.top_percent);
        let found = chosen.par_iter().map(of_circuit).collect::<Result<Vec<_>>>()?;
        let chance: Vec<f64> = chosen.iter().map(|(_, circuit)| chance_sd(config, *circuit)).collect();
        let z = found.iter().zip(&chance).map(|(of, sd)| of.score.map(|score| score / sd)).collect::<Vec<_>>();
        let mut columns = circuits::key_columns(chosen.iter());
        columns.extend([
            Column::new("score".into(), found.iter().map(|of| of.score).collect::<Vec<_>>()),
            Column::new("chance_sd".into(), chance),
            Column::new("z".into(), z),
            Column::new("diagonal_rank".into(), found.iter().map(|of| of.diagonal.and_then(|d| d.rank)).collect::<Vec<_>>()),
            Column::new(
                "diagonal_top_share".into(),
                found.iter().map(|of| of.diagonal.map(|d| d.top_share)).collect::<Vec<_>>(),
            ),
        ]);
        Ok(DataFrame::new_infer_height(columns)?)
    }
}
