//! Angles between what one head writes and what another reads.

use super::{Directions, RANK_TOLERANCE, pairs};
use crate::circuit::composition::Chance;
use crate::linalg::{Svd, haar, singular_values};
use crate::model::{Channel, HeadId, Transformer};
use crate::stream::Stream;
use crate::{Error, Result};
use ndarray::{ArrayView2, s};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// A squared cosine, or a mean of some, against chance; part of [`Angles`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// The squared cosine, or the mean of all of a pair.
    pub squared: f64,
    /// Mean and standard deviation of the same by chance.
    pub chance: Chance,
    /// `(squared − chance)/sd`; none if chance has no spread.
    pub z: Option<f64>,
}

impl Overlap {
    fn new(squared: f64, chance: Chance) -> Self {
        Self { squared, chance, z: chance.z(squared) }
    }
}

/// The principal angles between what one head writes and what a later one reads; [`principal_angles`] makes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Angles {
    /// Through which input.
    pub channel: Channel,
    /// The head that writes.
    pub from: HeadId,
    /// The head that reads.
    pub to: HeadId,
    /// The mean of the squared cosines; none if a subspace has no dimension.
    pub mean: Option<Overlap>,
    /// Each squared cosine, descending: as many as the smaller subspace has dimensions.
    pub each: Vec<Overlap>,
}

/// Mean and standard deviation of `tr(P₁ P₂)/min(k₁, k₂)` for subspaces of `k₁` and `k₂` dimensions (each from 1 to `d`), one of
/// them turned at random in `d` dimensions: exact. `P₁`, `P₂` are the projections onto them.
///
/// By the first two moments of Haar's measure: `E[tr] = k₁ k₂/d`, and `Var[tr] = 2 k₁ (d − k₁) k₂ (d − k₂)/(d² (d − 1)(d + 2))`.
///
/// ```
/// use attn_circuits::circuit::components::mean_overlap_by_chance;
/// // Of two directions the squared cosine has the beta distribution of ½ and (d − 1)/2.
/// let (d, chance) = (16.0f64, mean_overlap_by_chance(16, 1, 1));
/// assert!((chance.mean - 1.0 / d).abs() < 1e-12);
/// assert!((chance.sd - (2.0 * (d - 1.0) / (d + 2.0)).sqrt() / d).abs() < 1e-12);
/// // The whole stream holds every direction.
/// let whole = mean_overlap_by_chance(16, 16, 3);
/// assert_eq!((whole.mean, whole.sd), (1.0, 0.0));
/// ```
pub fn mean_overlap_by_chance(d: usize, k1: usize, k2: usize) -> Chance {
    let least = k1.min(k2) as f64;
    let (d, k1, k2) = (d as f64, k1 as f64, k2 as f64);
    let spread = if d > 1.0 { 2.0 * k1 * (d - k1) * k2 * (d - k2) / (d * d * (d - 1.0) * (d + 2.0)) } else { 0.0 };
    Chance { mean: k1 * k2 / d / least, sd: spread.sqrt() / least }
}

/// Means and standard deviations of each squared cosine, descending, between a fixed subspace of `k2` dimensions and one of `k1`
/// dimensions that is drawn at random (by Haar's measure) in `d` dimensions: from `draws` draws.
fn each_by_chance(d: usize, k1: usize, k2: usize, draws: usize, stream: &Stream) -> Result<Vec<Chance>> {
    let draw = |index: usize| {
        let turned = haar(d, k1, &mut stream.rng(index.to_string()));
        let cosines = singular_values(turned.slice(s![..k2, ..]))?;
        Ok(cosines.into_iter().map(|cosine| cosine * cosine).collect::<Vec<_>>())
    };
    let drawn: Vec<Vec<f64>> = (0..draws).into_par_iter().map(draw).collect::<Result<_>>()?;
    let chance = |index: usize| {
        let values = || drawn.iter().map(|squares| squares[index]);
        let mean = values().sum::<f64>() / draws as f64;
        let variance = values().map(|square| (square - mean).powi(2)).sum::<f64>() / (draws - 1) as f64;
        // Subspaces too large to avoid each other share directions for certain: what spread there is, is rounding.
        Chance { mean, sd: Some(variance.sqrt()).filter(|&sd| sd > 1e-9).unwrap_or(0.0) }
    };
    Ok((0..k1.min(k2)).map(chance).collect())
}

/// The principal angles of every pair of heads in different layers through every channel, sorted as
/// [`crate::circuit::composition::composition`] is. A subspace is spanned by the singular vectors whose values count as different from zero
/// ([`RANK_TOLERANCE`]). Of each pair the `most` largest cosines, all without it; `draws` (at least two) random subspaces from
/// `stream` tell what chance gives each, its standard deviation to a relative error of about `1/√(2 draws)`.
///
/// The cosines are the singular values of the product of two orthonormal bases (Björck and Golub 1973).
///
/// ```
/// use attn_circuits::circuit::components::principal_angles;
/// # use attn_circuits::prelude::*;
/// # use attn_circuits::stream::Stream;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 5, context: 6 }")?;
/// // The keys of 1.0 read all V directions that 0.0 writes, its queries and values none of them.
/// for pair in principal_angles(&model, None, 100, &Stream::new(1))? {
///     let expected = if pair.channel == Channel::K { 1.0 } else { 0.0 };
///     assert_eq!(pair.each.len(), 5);
///     assert!(pair.each.iter().chain(&pair.mean).all(|overlap| (overlap.squared - expected).abs() < 1e-9));
///     // By chance V of d_model = 3 V + C dimensions.
///     assert!(pair.mean.is_some_and(|mean| (mean.chance.mean - 5.0 / 21.0).abs() < 1e-12));
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if there are fewer than two draws, or a decomposition does not converge.
pub fn principal_angles(model: &Transformer, most: Option<usize>, draws: usize, stream: &Stream) -> Result<Vec<Angles>> {
    if draws < 2 {
        return Err(Error::invalid(format!("{draws} random subspaces have no standard deviation: draw at least two")));
    }
    let config = model.config();
    let d = config.d_model;
    let heads: Vec<HeadId> = config.heads().collect();
    let directions: Vec<Directions> = heads.par_iter().map(|&id| Directions::of(model, id)).collect::<Result<_>>()?;
    let of = |id: HeadId| &directions[id.layer * config.n_heads + id.head];
    let spanned = |(vectors, svd): (ArrayView2<f64>, &Svd)| vectors.slice(s![.., ..svd.rank(RANK_TOLERANCE)]).to_owned();

    let pairs: Vec<_> = pairs(config).collect();
    let found: Vec<((usize, usize), Vec<f64>)> = pairs
        .par_iter()
        .map(|&(channel, from, to)| {
            let (write, read) = (spanned(of(from).written()), spanned(of(to).read(channel)));
            let cosines = singular_values(write.t().dot(&read).view())?;
            Ok(((write.ncols(), read.ncols()), cosines))
        })
        .collect::<Result<_>>()?;
    let mut by_chance = BTreeMap::new();
    for &(sizes, _) in &found {
        by_chance.entry(sizes).or_insert_with(Vec::new);
    }
    let most = most.unwrap_or(usize::MAX);
    for (&(k1, k2), each) in by_chance.iter_mut().filter(|_| most > 0) {
        *each = each_by_chance(d, k1, k2, draws, &stream.child(format!("{d} {k1} {k2}")))?;
    }
    type Pair = (Channel, HeadId, HeadId);
    type Cosines = ((usize, usize), Vec<f64>);
    let angles = |((channel, from, to), ((k1, k2), cosines)): (Pair, Cosines)| {
        let squares: Vec<f64> = cosines.iter().map(|cosine| (cosine * cosine).min(1.0)).collect();
        let mean = (!squares.is_empty()).then(|| {
            let mean = squares.iter().sum::<f64>() / squares.len() as f64;
            Overlap::new(mean, mean_overlap_by_chance(d, k1, k2))
        });
        let each = squares.iter().zip(&by_chance[&(k1, k2)]).take(most).map(|(&square, &chance)| Overlap::new(square, chance));
        Angles { channel, from, to, mean, each: each.collect() }
    };
    Ok(pairs.into_iter().zip(found).map(angles).collect())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{dense, random, wired};
    use super::*;

    #[test]
    fn angles_of_wired_heads_are_exact() {
        for pair in principal_angles(&wired(), None, 8, &Stream::new(1)).unwrap() {
            let expected = if pair.channel == Channel::K { 1.0 } else { 0.0 };
            assert_eq!(pair.each.len(), 5, "the subspaces have as many dimensions as there are tokens");
            let mean = pair.mean.unwrap();
            assert!((mean.squared - expected).abs() < 1e-9);
            assert!(pair.each.iter().all(|overlap| (overlap.squared - expected).abs() < 1e-9));
            // 5 of 21 dimensions.
            assert!((mean.chance.mean - 5.0 / 21.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_mean_overlap_is_the_trace_of_the_projections() {
        let model = random();
        for pair in principal_angles(&model, None, 8, &Stream::new(1)).unwrap() {
            let [a, b] = dense(&model, pair.channel, pair.from, pair.to);
            let onto = |vectors: ndarray::ArrayView2<f64>| vectors.dot(&vectors.t());
            let written = crate::linalg::svd(a.view()).unwrap();
            let read = crate::linalg::svd(b.view()).unwrap();
            let trace = onto(written.v.slice(s![.., ..3])).dot(&onto(read.u.slice(s![.., ..3]))).diag().sum();
            assert!((pair.mean.unwrap().squared - trace / 3.0).abs() < 1e-9);
            assert!(pair.each.is_sorted_by(|a, b| a.squared >= b.squared));
        }
    }

    /// The simulated angles add up to the exact mean and spread of the trace.
    #[test]
    fn the_chance_level_of_angles_is_that_of_random_subspaces() {
        let draws = 4000;
        for (d, k1, k2) in [(9, 2, 4), (9, 4, 2), (6, 3, 3), (5, 4, 3)] {
            let stream = Stream::new(7);
            let each = each_by_chance(d, k1, k2, draws, &stream).unwrap();
            let exact = mean_overlap_by_chance(d, k1, k2);
            let sum = each.iter().map(|chance| chance.mean).sum::<f64>() / each.len() as f64;
            assert!((sum - exact.mean).abs() < 4.0 * exact.sd / (draws as f64).sqrt(), "{d} {k1} {k2}: {sum} {exact:?}");
            let drawn: Vec<f64> = (0..draws)
                .map(|index| {
                    let turned = haar(d, k1, &mut stream.rng(index.to_string()));
                    turned.slice(s![..k2, ..]).iter().map(|v| v * v).sum::<f64>() / k1.min(k2) as f64
                })
                .collect();
            let variance = drawn.iter().map(|v| (v - exact.mean).powi(2)).sum::<f64>() / draws as f64;
            assert!((variance.sqrt() / exact.sd - 1.0).abs() < 0.05, "{d} {k1} {k2}: {} {exact:?}", variance.sqrt());
        }
        // Three and four of five dimensions share two for certain.
        let forced = each_by_chance(5, 4, 3, 50, &Stream::new(7)).unwrap();
        assert!(forced[..2].iter().all(|chance| (chance.mean - 1.0).abs() < 1e-9 && chance.sd == 0.0) && forced[2].sd > 0.0);
    }

    #[test]
    fn one_draw_has_no_spread() {
        assert!(principal_angles(&random(), None, 1, &Stream::new(1)).unwrap_err().to_string().contains("draw at least two"));
    }
}
