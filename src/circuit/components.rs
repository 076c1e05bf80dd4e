//! Composition taken apart: by singular components of what a head writes and reads, and by angles between the two subspaces.
//!
//! With `A = Σ σ_i u_i v_iᵀ` (what the earlier head writes) and `B = Σ τ_j x_j y_jᵀ` (what the later one reads), the square of the
//! composition score is the mean of the squared scores of the components of either, weighted with `σ_i²/‖A‖²` or `τ_j²/‖B‖²`.

use super::composition::{Chance, Reduced, reduce, relative, stack};
use crate::Result;
use crate::linalg::{LowRank, Svd, haar, singular_values};
use crate::model::{Channel, HeadId, ModelConfig, Transformer};
use crate::stream::Stream;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Singular values up to this part of the largest count as zero: the directions of smaller ones are rounding of the weights.
///
/// ```
/// use attn_circuits::circuit::components::RANK_TOLERANCE;
/// use attn_circuits::linalg::svd;
/// use ndarray::{Array2, array};
/// // A rank is counted relative to the largest value, so the scale of weights does not matter.
/// let values = Array2::from_diag(&array![1.0, 1e-3, 1e-6]);
/// assert_eq!(svd(values.view())?.rank(RANK_TOLERANCE), 2);
/// assert_eq!(svd((&values * 1e-9).view())?.rank(RANK_TOLERANCE), 2);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub const RANK_TOLERANCE: f64 = 1e-4;

/// Singular values closer than this part of the largest count as equal: their vectors turn among each other at the least rounding,
/// so only what they do together is defined.
///
/// ```
/// use attn_circuits::circuit::components::{EQUAL_TOLERANCE, components};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// // The keys of a wired head read V directions equally strongly: they share one score, however the model is rotated.
/// let model = notebook.model("turned", "{ kind: wired, circuit: induction, vocab: 5, context: 6, rotate: true }")?;
/// let all = components(&model, usize::MAX)?;
/// let (read, none) = (&all[..5], &all[5]);
/// let score = read[0].value.map(|value| value.score);
/// assert!(score.is_some_and(|score| (score - 1.0 / 5f64.sqrt()).abs() < 1e-6));
/// for one in read {
///     assert!((one.singular_value / read[0].singular_value - 1.0).abs() < EQUAL_TOLERANCE);
///     assert_eq!(one.value.map(|value| value.score), score);
/// }
/// // d_head is 6 here, for the positions: the last component is zero.
/// assert_eq!((none.index, none.value), (5, None));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub const EQUAL_TOLERANCE: f64 = 1e-3;

/// Whose singular components are taken.
///
/// ```
/// use attn_circuits::circuit::components::Side;
/// assert_eq!([Side::Read, Side::Write].map(Side::name), ["read", "write"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Those of the map by which the later head reads.
    Read,
    /// Those of the map by which the earlier head writes.
    Write,
}

impl Side {
    /// The name in tables: `read`, `write`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// Pairs of heads in different layers through every channel, in the order of tables: by channel, then the head that writes, then the
/// one that reads.
fn pairs(config: &ModelConfig) -> impl Iterator<Item = (Channel, HeadId, HeadId)> + '_ {
    Channel::ALL.into_iter().flat_map(move |channel| {
        config
            .heads()
            .flat_map(move |from| config.heads().filter(move |to| from.layer < to.layer).map(move |to| (channel, from, to)))
    })
}

/// Singular vectors of a head's circuits.
struct Directions {
    ov: Svd,
    qk: Svd,
}

impl Directions {
    fn of(model: &Transformer, id: HeadId) -> Result<Self> {
        let head = model.head(id);
        Ok(Self { ov: LowRank::from_f32(head.w_v, head.w_o)?.svd()?, qk: LowRank::from_f32(head.w_q, head.w_k.t())?.svd()? })
    }

    /// Directions that are written, in columns `[d, r]`, with their singular values.
    fn written(&self) -> (ArrayView2<'_, f64>, &Svd) {
        (self.ov.v.view(), &self.ov)
    }

    /// Directions that are read through a channel, in columns `[d, r]`, with their singular values.
    fn read(&self, channel: Channel) -> (ArrayView2<'_, f64>, &Svd) {
        match channel {
            Channel::K => (self.qk.v.view(), &self.qk),
            Channel::Q => (self.qk.u.view(), &self.qk),
            Channel::V => (self.ov.u.view(), &self.ov),
        }
    }
}

/// The composition of one singular component of one head with the whole map of the other; [`components`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// Through which input.
    pub channel: Channel,
    /// The head that writes.
    pub from: HeadId,
    /// The head that reads.
    pub to: HeadId,
    /// Whose component it is.
    pub side: Side,
    /// Which one, by descending singular value, from 0.
    pub index: usize,
    /// Its singular value.
    pub singular_value: f64,
    /// Score and chance; none where the singular value counts as zero, or the other head is all zeros.
    pub value: Option<ComponentValue>,
}

/// The numbers of a [`Component`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComponentValue {
    /// `‖v_iᵀ B‖/‖B‖` for a component that is written, `‖A x_j‖/‖A‖` for one that is read.
    pub score: f64,
    /// What chance gives.
    pub chance: Chance,
    /// `(score − chance)/sd`; none if chance has no spread.
    pub z: Option<f64>,
}

/// Ranges of singular values that count as equal; those that count as zero are left out.
fn groups(svd: &Svd) -> Vec<Range<usize>> {
    let rank = svd.rank(RANK_TOLERANCE);
    let apart = svd.s.first().map_or(0.0, |largest| largest * EQUAL_TOLERANCE);
    let mut groups: Vec<Range<usize>> = Vec::new();
    for index in 0..rank {
        match groups.last_mut() {
            Some(group) if svd.s[index - 1] - svd.s[index] <= apart => group.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}

/// The values of the components of one head, whose squared scores are `squares`, against a map with singular values `other`.
fn values(svd: &Svd, squares: &[f64], other: &[f64], d: usize) -> Vec<Option<ComponentValue>> {
    let mut values = vec![None; svd.s.len()];
    let Some(other) = relative(other) else { return values };
    for group in groups(svd) {
        let count = group.len();
        let score = (squares[group.clone()].iter().sum::<f64>() / count as f64).sqrt();
        let chance = Chance::new(&vec![1.0; count], &other, d);
        values[group].fill(Some(ComponentValue { score, chance, z: chance.z(score) }));
    }
    values
}

/// The composition score of every pair, split by singular component of either side: sorted as [`super::composition::composition`]
/// is, then by side and index; at most `most` components a side.
///
/// Components with singular values closer than [`EQUAL_TOLERANCE`] share the root of their mean squared score, and its chance. The
/// mean square by chance is `1/d`, as for whole maps. A model with fewer than two layers has none.
///
/// ```
/// use attn_circuits::circuit::components::{Side, components};
/// use attn_circuits::circuit::composition::composition;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 12, d_head: 3, vocab: 7, context: 5 }")?;
/// let (pair, all) = (&composition(&model)?[0], components(&model, usize::MAX)?);
/// // Those of the first pair, d_head = 3 of each head: first what is read, then what is written.
/// for (side, own) in [Side::Read, Side::Write].into_iter().zip(all.chunks(3)) {
///     assert!(own.iter().all(|c| (c.channel, c.from, c.to, c.side) == (pair.channel, pair.from, pair.to, side)));
///     // Weighted with the squares of the singular values, the squared scores make up that of the pair.
///     let parts = own.iter().filter_map(|c| Some((c.singular_value.powi(2), c.value?.score.powi(2))));
///     let (weights, sum) = parts.fold((0.0, 0.0), |all, part| (all.0 + part.0, all.1 + part.0 * part.1));
///     assert!(pair.value.is_some_and(|whole| (sum / weights - whole.score.powi(2)).abs() < 1e-6));
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if a decomposition does not converge.
pub fn components(model: &Transformer, most: usize) -> Result<Vec<Component>> {
    let config = model.config();
    let (n_heads, d) = (config.n_heads, config.d_model);
    if config.n_layers < 2 {
        return Ok(Vec::new());
    }
    let heads: Vec<HeadId> = config.heads().collect();
    let reduced: Vec<Reduced> = heads.par_iter().map(|&id| reduce(model, id)).collect::<Result<_>>()?;
    let directions: Vec<Directions> = heads.par_iter().map(|&id| Directions::of(model, id)).collect::<Result<_>>()?;
    let single = |m: ArrayView2<f64>| m.mapv(|v| v as f32);
    let written: Vec<Array2<f32>> = directions.iter().map(|head| single(head.written().0.t())).collect();

    // Of each later head and channel: squared scores of all components of all earlier heads, and of its own against each of them.
    let jobs: Vec<(Channel, usize)> =
        Channel::ALL.into_iter().flat_map(|channel| (n_heads..heads.len()).map(move |to| (channel, to))).collect();
    let found: Vec<Vec<Component>> = jobs
        .par_iter()
        .map(|&(channel, to)| {
            let earlier = heads[to].layer * n_heads;
            let (read, svd) = directions[to].read(channel);
            let reads = &reduced[to].read[Channel::ALL.iter().position(|&c| c == channel).expect("all channels are there")];
            let writes = stack(Axis(0), written[..earlier].iter()).dot(reads);
            let of_reads = stack(Axis(0), reduced[..earlier].iter().map(|head| &head.write)).dot(&single(read));
            let square = |v: &f32| f64::from(*v).powi(2);
            let (block, wide) = (written[0].nrows(), reduced[0].write.nrows());
            let mut all = Vec::new();
            for from in 0..earlier {
                let own = &directions[from].ov;
                let rows = writes.slice(s![from * block..(from + 1) * block, ..]);
                let squares: Vec<f64> = rows.rows().into_iter().map(|row| row.iter().map(square).sum()).collect();
                let of_write = values(own, &squares, reduced[to].reading(channel), d);
                let rows = of_reads.slice(s![from * wide..(from + 1) * wide, ..]);
                let squares: Vec<f64> = rows.columns().into_iter().map(|column| column.iter().map(square).sum()).collect();
                let of_read = values(svd, &squares, reduced[from].writing(), d);
                for (side, spectrum, values) in [(Side::Read, &svd.s, of_read), (Side::Write, &own.s, of_write)] {
                    all.extend(values.into_iter().take(most).enumerate().map(|(index, value)| Component {
                        channel,
                        from: heads[from],
                        to: heads[to],
                        side,
                        index,
                        singular_value: spectrum[index],
                        value,
                    }));
                }
            }
            all
        })
        .collect();
    let mut all: Vec<Component> = found.into_iter().flatten().collect();
    all.sort_by_key(|c| (c.channel, c.from, c.to, c.side, c.index));
    Ok(all)
}

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
/// [`super::composition::composition`] is. A subspace is spanned by the singular vectors whose values count as different from zero
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
/// [`crate::Error::Invalid`] if there are fewer than two draws, or a decomposition does not converge.
pub fn principal_angles(model: &Transformer, most: Option<usize>, draws: usize, stream: &Stream) -> Result<Vec<Angles>> {
    if draws < 2 {
        return Err(crate::Error::invalid(format!("{draws} random subspaces have no standard deviation: draw at least two")));
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
    use super::*;
    use crate::circuit::composition::composition;
    use crate::circuit::testing::model;
    use serde_json::json;

    fn random() -> Transformer {
        model("random", json!({ "layers": 3, "heads": 2, "d_model": 12, "d_head": 3, "vocab": 7, "context": 5 }))
    }

    fn wired() -> Transformer {
        model("wired", json!({ "circuit": "induction", "vocab": 5, "context": 6, "rotate": true }))
    }

    fn dense(model: &Transformer, channel: Channel, from: HeadId, to: HeadId) -> [Array2<f64>; 2] {
        let wide = |w: ndarray::ArrayView2<f32>| w.mapv(f64::from);
        let (a, b) = (model.head(from), model.head(to));
        let write = wide(a.w_v).dot(&wide(a.w_o));
        let read = match channel {
            Channel::K => wide(b.w_k).dot(&wide(b.w_q).t()),
            Channel::Q => wide(b.w_q).dot(&wide(b.w_k).t()),
            Channel::V => wide(b.w_v).dot(&wide(b.w_o)),
        };
        [write, read]
    }

    fn norm(m: &Array2<f64>) -> f64 {
        m.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    #[test]
    fn components_are_those_of_the_multiplied_out_maps() {
        let model = random();
        let found = components(&model, usize::MAX).unwrap();
        assert_eq!(found.len(), composition(&model).unwrap().len() * 2 * 3);
        for component in found {
            let [a, b] = dense(&model, component.channel, component.from, component.to);
            let (whole, other) = if component.side == Side::Write { (&a, &b) } else { (&b, &a) };
            let svd = crate::linalg::svd(whole.view()).unwrap();
            let vector = if component.side == Side::Write { &svd.v } else { &svd.u }.column(component.index).to_owned();
            let through = if component.side == Side::Write { vector.dot(other) } else { other.dot(&vector) };
            let score = through.iter().map(|v| v * v).sum::<f64>().sqrt() / norm(other);
            assert!((component.singular_value - svd.s[component.index]).abs() < 1e-9 * svd.s[0]);
            assert!((component.value.unwrap().score - score).abs() < 1e-5, "{component:?} {score}");
        }
    }

    #[test]
    fn the_squares_of_components_make_up_that_of_the_whole() {
        for model in [random(), wired()] {
            let all = components(&model, usize::MAX).unwrap();
            for pair in composition(&model).unwrap() {
                for side in [Side::Read, Side::Write] {
                    let own = || {
                        let of = |c: &&Component| (c.channel, c.from, c.to, c.side) == (pair.channel, pair.from, pair.to, side);
                        all.iter().filter(of)
                    };
                    let square = |c: &Component| c.singular_value.powi(2);
                    let whole: f64 = own().map(square).sum();
                    let sum: f64 = own().map(|c| square(c) * c.value.map_or(0.0, |value| value.score.powi(2))).sum();
                    let score = pair.value.unwrap().score;
                    assert!((sum / whole - score * score).abs() < 1e-6, "{pair:?} {side:?}: {sum} of {whole}");
                }
            }
        }
    }

    /// The wired heads are flat: no component is singled out, and what rotation makes of the equal ones does not show.
    #[test]
    fn equal_components_share_their_score() {
        let found = components(&wired(), usize::MAX).unwrap();
        let channel = |channel| found.iter().filter(move |c| c.channel == channel && c.value.is_some());
        assert_eq!(channel(Channel::K).count(), 10);
        for component in channel(Channel::K) {
            assert!((component.value.unwrap().score - 1.0 / 5f64.sqrt()).abs() < 1e-6, "{component:?}");
        }
        assert!(channel(Channel::Q).chain(channel(Channel::V)).all(|c| c.value.unwrap().score < 1e-6));
        // The rest of d_head = 6 is zero.
        assert!(found.iter().all(|c| c.value.is_some() == (c.index < 5)));
        let few = components(&wired(), 2).unwrap();
        assert!(few.len() == 12 && few.iter().all(|c| c.index < 2));
    }

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
}
