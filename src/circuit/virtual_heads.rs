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

/// A pair of heads, the first in an earlier layer than the second. There is one for every path of order 2.
///
/// ```
/// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
/// use attn_circuits::circuit::paths::count_of_order;
/// use attn_circuits::circuit::virtual_heads::VirtualHead;
/// use attn_circuits::model::HeadId;
/// # let config = ModelConfig {
/// #     n_layers: 3, n_heads: 4, d_model: 16, d_head: 4, d_vocab: 10, n_ctx: 12,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 2.0,
/// # };
/// assert_eq!(VirtualHead::all(&config).len() as u128, count_of_order(&config, 2));
/// // Heads of one layer do not read each other.
/// let (from, to) = (HeadId::new(1, 0), HeadId::new(2, 3));
/// assert_eq!(VirtualHead::among(&[from, to], &[from, to]), [VirtualHead { from, to }]);
/// ```
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
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::virtual_heads::{VirtualHead, virtual_head_scores};
/// // Two previous-token heads in sequence are one that looks two positions back.
/// let model = notebook.model("two", "{ kind: wired, circuit: previous-of-previous, vocab: 13, context: 13 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let two_back = Score::find("offset_2").expect("a score of this crate");
/// let found = virtual_head_scores(&model, &tokens, &VirtualHead::all(model.config()), &[two_back])?;
/// assert!(found[0].values.as_ref().is_some_and(|values| (values[0] - 1.0).abs() < 1e-4));
/// assert_eq!(found[0].ceiling, Some(1.0));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the model cannot read the batch, as [`Transformer::check_batch`] finds.
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
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::virtual_heads::{VirtualHead, virtual_copying};
/// let copying = |model: &Transformer| virtual_copying(&Circuits::new(model), &VirtualHead::all(model.config()));
/// let model = notebook.model("two", "{ kind: wired, circuit: previous-of-previous, vocab: 13, context: 13 }")?;
/// assert!(copying(&model)?[0].is_some_and(|score| (score - 1.0).abs() < 1e-6));
/// // The induction head reads the other one through its keys: nothing is passed on from value to value.
/// let model = notebook.model("induction", "{ kind: wired, circuit: induction, vocab: 13, context: 13 }")?;
/// assert_eq!(copying(&model)?, [None]);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
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
