//! The path expansion: with attention patterns (and normalisation scales) held at their values in a run, the logits are a sum over
//! the paths from the embedding through heads of increasing layers to the unembedding (Elhage et al. 2021, "Path expansion of
//! logits").
//!
//! Everything here is summed over groups of positions: each group is a list of positions below `n − 1`, since the last token
//! predicts nothing. An empty group, or one with another position, is refused with [`crate::Error::Invalid`], and so is a batch
//! that the model cannot read, as [`crate::model::Transformer::check_batch`] finds.

mod attribution;
mod expansion;
mod orders;
mod scores;

pub use attribution::{Attribution, Component, logit_attribution};
pub use expansion::{Effect, Expansion, Part, paths};
pub use orders::{Term, TermImportance, term_importance};
pub use scores::{ScoreTerms, Source, Split, score_paths, source_count};

use crate::model::frozen::FrozenRun;
use crate::model::{HeadId, ModelConfig};
use ndarray::{Array2, ArrayView2};
use std::cmp::Ordering;
use std::fmt;

/// A chain of heads of increasing layers; without heads it is the direct path.
///
/// ```
/// use attn_circuits::circuit::paths::Path;
/// use attn_circuits::model::HeadId;
/// let path = Path::new(vec![HeadId::new(0, 1), HeadId::new(1, 2)]);
/// assert_eq!((path.order(), path.heads()[1]), (2, HeadId::new(1, 2)));
/// assert_eq!(path.to_string(), "0.1>1.2");
/// // The direct path has no heads, and comes first: paths are sorted by order.
/// let direct = Path::new(vec![]);
/// assert_eq!(direct.to_string(), "direct");
/// assert!(direct < path && Path::new(vec![HeadId::new(1, 0)]) < path);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path(Vec<HeadId>);

impl Path {
    /// The path through these heads, in order.
    pub fn new(heads: Vec<HeadId>) -> Self {
        Self(heads)
    }

    /// Its heads.
    pub fn heads(&self) -> &[HeadId] {
        &self.0
    }

    /// Number of its heads.
    pub fn order(&self) -> usize {
        self.0.len()
    }
}

impl Ord for Path {
    /// Shorter paths first, then head by head.
    fn cmp(&self, other: &Self) -> Ordering {
        (self.order(), &self.0).cmp(&(other.order(), &other.0))
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Path {
    /// `direct`, `0.1`, `0.1>1.2`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("direct");
        }
        let heads: Vec<_> = self.0.iter().map(HeadId::to_string).collect();
        f.write_str(&heads.join(">"))
    }
}

/// How many paths of exactly this order there are: `C(L, order) · H^order`; the largest number if it is beyond counting.
///
/// ```
/// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
/// use attn_circuits::circuit::paths::count_of_order;
/// # let config = ModelConfig {
/// #     n_layers: 3, n_heads: 4, d_model: 16, d_head: 4, d_vocab: 10, n_ctx: 12,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 2.0,
/// # };
/// // Of three layers of four heads: two of the layers, and one head of each.
/// assert_eq!(count_of_order(&config, 2), 3 * 4 * 4);
/// // No path passes through two heads of one layer: they do not read each other.
/// assert_eq!(count_of_order(&config, 4), 0);
/// ```
pub fn count_of_order(config: &ModelConfig, order: usize) -> u128 {
    if order > config.n_layers {
        return 0;
    }
    let layers = (0..order).try_fold(1u128, |count, i| {
        // C(L, i + 1) from C(L, i): the product is a multiple of i + 1.
        count.checked_mul((config.n_layers - i) as u128).map(|product| product / (i + 1) as u128)
    });
    let heads = u32::try_from(order).ok().and_then(|order| (config.n_heads as u128).checked_pow(order));
    layers.zip(heads).and_then(|(layers, heads)| layers.checked_mul(heads)).unwrap_or(u128::MAX)
}

/// How many paths there are through at most `max_order` heads, the direct one included; the largest number if it is beyond
/// counting.
///
/// ```
/// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
/// use attn_circuits::circuit::paths::count_up_to;
/// # let config = ModelConfig {
/// #     n_layers: 3, n_heads: 4, d_model: 16, d_head: 4, d_vocab: 10, n_ctx: 12,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 2.0,
/// # };
/// // A path goes by each of three layers, or through one of its four heads.
/// assert_eq!(count_up_to(&config, 3), (1 + 4u128).pow(3));
/// assert_eq!(count_up_to(&config, 1), 1 + 3 * 4);
/// ```
pub fn count_up_to(config: &ModelConfig, max_order: usize) -> u128 {
    // Beyond counting, further orders add nothing: there may be any number of them.
    let add = |sum: u128, order| sum.checked_add(count_of_order(config, order));
    (0..=max_order.min(config.n_layers)).try_fold(0u128, add).unwrap_or(u128::MAX)
}

/// Sums of values `[b, n − 1]` over the sequences and the positions of each group.
fn sums(values: ArrayView2<f64>, groups: &[Vec<usize>]) -> Vec<f64> {
    folded(values, groups, 0.0, |sum, value| sum + value)
}

/// The largest of values `[b, n − 1]` over the sequences and the positions of each group; 0 without any.
fn maxima(values: ArrayView2<f64>, groups: &[Vec<usize>]) -> Vec<f64> {
    folded(values, groups, 0.0, f64::max)
}

fn folded(values: ArrayView2<f64>, groups: &[Vec<usize>], start: f64, fold: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let group = |positions: &Vec<usize>| {
        let rows = values.rows().into_iter();
        rows.fold(start, |all, row| positions.iter().fold(all, |all, &position| fold(all, row[position])))
    };
    groups.iter().map(group).collect()
}

/// What sums over each group are divided by to be means.
fn sizes(groups: &[Vec<usize>], sequences: usize) -> Vec<f64> {
    groups.iter().map(|positions| (positions.len() * sequences) as f64).collect()
}

/// What tokens and positions write to the stream.
fn source(run: &FrozenRun) -> Array2<f32> {
    let mut x = run.embedded();
    if let Some(placed) = run.placed() {
        x += &placed;
    }
    x
}

/// All that biases of the heads' outputs write to the stream, and all that later heads carry on of it.
fn biased(run: &FrozenRun) -> Array2<f32> {
    let mut x = run.zeros();
    for layer in 0..run.frozen().model().config().n_layers {
        let moved = run.layer(layer, &x);
        x += &moved;
        for constant in
            [run.frozen().b_o(layer).map(|b| b.to_owned()), run.frozen().head_constants(layer)].into_iter().flatten()
        {
            x += &constant;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Normalization, Positions};

    #[test]
    fn groups_over_which_nothing_can_be_averaged_are_refused() {
        let model = crate::circuit::testing::model(
            "random",
            serde_json::json!({ "layers": 1, "heads": 1, "d_model": 4, "vocab": 7, "context": 5 }),
        );
        let batch = crate::batch::TokenBatch::new(ndarray::array![[0, 5, 3, 5, 3]], None).unwrap();
        for (group, holds) in [(vec![0, 3], true), (vec![4], false), (vec![], false)] {
            let groups = [vec![1], group];
            assert_eq!(paths(&model, &batch, 1, &groups).is_ok(), holds, "{groups:?}");
            assert_eq!(term_importance(&model, &batch, &groups).is_ok(), holds, "{groups:?}");
            assert_eq!(logit_attribution(&model, &batch, &groups).is_ok(), holds, "{groups:?}");
        }
    }

    fn config(n_layers: usize, n_heads: usize) -> ModelConfig {
        ModelConfig {
            n_layers,
            n_heads,
            d_model: 4,
            d_head: 2,
            d_vocab: 5,
            n_ctx: 8,
            normalization: Normalization::None,
            eps: 1e-5,
            positions: Positions::None,
            attn_scale: 1.0,
        }
    }

    #[test]
    fn the_orders_of_all_paths_add_up() {
        for (layers, heads) in [(0, 0), (1, 3), (2, 4), (5, 2)] {
            let config = config(layers, heads);
            assert_eq!(count_up_to(&config, usize::MAX), (1 + heads as u128).pow(layers as u32));
        }
        assert_eq!(count_of_order(&config(3, 4), 2), 3 * 16);
        assert_eq!(count_of_order(&config(3, 4), 4), 0);
        assert_eq!(count_up_to(&config(3, 4), 1), 13);
        assert_eq!(count_up_to(&config(10_000, usize::MAX), usize::MAX), u128::MAX);
    }

    #[test]
    fn paths_are_written_as_chains_and_sorted_by_order() {
        let path = |heads: &[(usize, usize)]| Path::new(heads.iter().map(|&(l, h)| HeadId::new(l, h)).collect());
        let mut all = [path(&[(1, 0)]), path(&[(0, 1), (1, 2)]), path(&[]), path(&[(0, 10)]), path(&[(0, 2)])];
        all.sort();
        assert_eq!(all.map(|path| path.to_string()), ["direct", "0.2", "0.10", "1.0", "0.1>1.2"]);
    }
}
