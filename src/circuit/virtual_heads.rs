//! Virtual heads: what two heads in sequence are together.
//!
//! Written out, the logits of a model of two layers hold a term for each pair of heads, in which the second one moves what the first
//! one moved. It has the form of a head: the pattern `A^{h2} A^{h1}` and the OV circuit `W_OV^{h1} W_OV^{h2}` (Elhage et al. 2021,
//! "Virtual attention heads").

use super::copying::copying_score;
use super::head_scores::{HeadScore, Score, score_patterns, uniform};
use super::weights::{Circuit, Circuits, Shared};
use crate::Result;
use crate::batch::TokenBatch;
use crate::model::{HeadId, ModelConfig, Transformer};
use ndarray::s;
use rayon::prelude::*;

/// A pair of heads, the first in an earlier layer than the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualHead {
    /// The head that moves first.
    pub from: HeadId,
    /// The head that moves on.
    pub to: HeadId,
}

impl VirtualHead {
    /// Every virtual head of a model that begins with one of `from` and ends with one of `to`, in order.
    pub fn among(from: &[HeadId], to: &[HeadId]) -> Vec<Self> {
        let ends = |&from: &HeadId| to.iter().filter(move |to| to.layer > from.layer).map(move |&to| Self { from, to });
        let mut pairs: Vec<_> = from.iter().flat_map(ends).collect();
        pairs.sort_unstable();
        pairs
    }

    /// Every virtual head of a model, in order.
    pub fn all(model: &ModelConfig) -> Vec<Self> {
        let heads: Vec<_> = model.heads().collect();
        Self::among(&heads, &heads)
    }
}

/// Scores the patterns `A^{h2} A^{h1}` of virtual heads on a batch, as [`super::head_scores::head_scores`] does those of heads.
///
/// The floor is what two heads of uniform attention score together: attention that is passed on twice drifts to the first positions.
///
/// # Errors
/// If the model cannot read the batch.
///
/// # Panics
/// If the model has no such heads.
pub fn virtual_head_scores(
    model: &Transformer,
    batch: &TokenBatch,
    pairs: &[VirtualHead],
    scores: &[Score],
) -> Result<Vec<HeadScore>> {
    let one = uniform(batch.length());
    let floor = one.dot(&one);
    score_patterns(model, batch, scores, pairs.len(), floor.view(), |cache, sequence, take| {
        let pattern = |id: HeadId| cache.patterns[id.layer].slice(s![sequence, id.head, .., ..]);
        for (place, pair) in pairs.iter().enumerate() {
            take(place, pattern(pair.to).dot(&pattern(pair.from)).view());
        }
    })
}

/// Copying scores of the OV circuits of virtual heads over tokens, `W_E W_OV^{h1} W_OV^{h2} W_U`; `None` where that is zero or
/// nilpotent: the second head reads nothing of what the first one writes.
///
/// # Errors
/// [`crate::Error::Invalid`] if eigenvalues do not converge.
///
/// # Panics
/// If the model has no such heads.
pub fn virtual_copying(circuits: &Circuits, pairs: &[VirtualHead]) -> Result<Vec<Option<f64>>> {
    let of_pairs: Vec<_> = pairs.iter().map(|&VirtualHead { from, to }| Circuit::VirtualOv { from, to }).collect();
    circuits.prepare(&of_pairs, Shared::Both);
    of_pairs.par_iter().map(|&circuit| copying_score(circuits, circuit)).collect()
}

#[cfg(test)]
mod tests;
