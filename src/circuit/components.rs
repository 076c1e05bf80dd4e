//! Composition taken apart: by singular components of what a head writes and reads, and by angles between the two subspaces.
//!
//! With `A = Σ σ_i u_i v_iᵀ` (what the earlier head writes) and `B = Σ τ_j x_j y_jᵀ` (what the later one reads), the square of the
//! composition score is the mean of the squared scores of the components of either, weighted with `σ_i²/‖A‖²` or `τ_j²/‖B‖²`.

mod angles;

pub use angles::{Angles, Overlap, mean_overlap_by_chance, principal_angles};

use super::composition::{Chance, Reduced, reduce, relative, stack};
use crate::Result;
use crate::linalg::{LowRank, Svd};
use crate::model::{Channel, HeadId, ModelConfig, Transformer};
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::composition::composition;
    use crate::circuit::testing::model;
    use serde_json::json;

    pub(super) fn random() -> Transformer {
        model("random", json!({ "layers": 3, "heads": 2, "d_model": 12, "d_head": 3, "vocab": 7, "context": 5 }))
    }

    pub(super) fn wired() -> Transformer {
        model("wired", json!({ "circuit": "induction", "vocab": 5, "context": 6, "rotate": true }))
    }

    pub(super) fn dense(model: &Transformer, channel: Channel, from: HeadId, to: HeadId) -> [Array2<f64>; 2] {
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
}
