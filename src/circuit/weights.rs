//! The circuits that a model's weights are: each a low-rank product, none of them multiplied out.
//!
//! Row vectors, as in TransformerLens: `W_QK = W_Q W_Kᵀ` (rows: destination), `W_OV = W_V W_O` (rows: what is read). Elhage et al.
//! 2021, sections "QK and OV circuits" and "Path expansion of logits".

use crate::Result;
use crate::linalg::{Complex, LowRank, eigenvalues, r_factor_by_blocks, thin_qr};
use crate::model::{HeadId, ModelConfig, Transformer};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;
use std::sync::OnceLock;

/// A circuit of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Circuit {
    /// The direct path, `W_E W_U` `[V, V]`: token here, token next.
    Direct,
    /// `W_OV` `[d, d]`.
    Ov(HeadId),
    /// `W_QK` `[d, d]`, not divided by the scale of the scores.
    Qk(HeadId),
    /// `W_E W_OV W_U` `[V, V]`: token at the source, token that it raises.
    FullOv(HeadId),
    /// `W_E W_QK W_Eᵀ` `[V, V]`: token at the destination, token at the source.
    FullQk(HeadId),
    /// What the OV circuit of `from` adds to the keys of `to`, over tokens: `W_E W_QK(to) W_OV(from)ᵀ W_Eᵀ` `[V, V]`.
    KComposition {
        /// The head that writes.
        from: HeadId,
        /// The head whose keys read it.
        to: HeadId,
    },
    /// What the OV circuit of `from` adds to the queries of `to`, over tokens: `W_E W_OV(from) W_QK(to) W_Eᵀ` `[V, V]`.
    QComposition {
        /// The head that writes.
        from: HeadId,
        /// The head whose queries read it.
        to: HeadId,
    },
    /// The OV circuit of a virtual head over tokens, `W_E W_OV(from) W_OV(to) W_U` `[V, V]`.
    VirtualOv {
        /// The head that moves first.
        from: HeadId,
        /// The head that moves on.
        to: HeadId,
    },
}

/// What a circuit is embedded and read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Nothing: it maps vectors of the stream to vectors of the stream.
    Stream,
    /// `W_E … W_U`: from tokens to logits.
    Logits,
    /// `W_E … W_Eᵀ`: from tokens to tokens.
    Tokens,
}

impl Circuit {
    fn ends(self) -> Ends {
        match self {
            Self::Ov(_) | Self::Qk(_) => Ends::Stream,
            Self::Direct | Self::FullOv(_) | Self::VirtualOv { .. } => Ends::Logits,
            Self::FullQk(_) | Self::KComposition { .. } | Self::QComposition { .. } => Ends::Tokens,
        }
    }

    /// Whether rows and columns are tokens (and not vectors of the stream).
    pub fn is_over_tokens(self) -> bool {
        self.ends() != Ends::Stream
    }

    /// The head that the circuit belongs to (the later one of two), and the earlier one; the direct path has none.
    pub fn heads(self) -> (Option<HeadId>, Option<HeadId>) {
        match self {
            Self::Direct => (None, None),
            Self::Ov(id) | Self::Qk(id) | Self::FullOv(id) | Self::FullQk(id) => (Some(id), None),
            Self::KComposition { from, to } | Self::QComposition { from, to } | Self::VirtualOv { from, to } => {
                (Some(to), Some(from))
            }
        }
    }
}

/// The circuits of one model. What several of them share is computed once, when it is first needed.
///
/// ```
/// # use attn_circuits::model::{BlockWeights, HeadId, ModelConfig, Normalization, Positions, Transformer, Weights};
/// use attn_circuits::circuit::weights::{Circuit, Circuits};
/// use ndarray::{Array2, Array3};
/// # let config = ModelConfig {
/// #     n_layers: 1, n_heads: 1, d_model: 3, d_head: 3, d_vocab: 3, n_ctx: 8,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::None, attn_scale: 1.0,
/// # };
/// # let one = || Array2::<f32>::eye(3).insert_axis(ndarray::Axis(0));
/// # let block = BlockWeights {
/// #     ln: None, w_q: one(), w_k: one(), w_v: one(), w_o: one() * 2.0, b_q: None, b_k: None, b_v: None, b_o: None,
/// # };
/// # let weights = Weights {
/// #     w_e: Array2::eye(3), w_pos: None, blocks: vec![block], ln_final: None, w_u: Array2::eye(3), b_u: None,
/// # };
/// // A model of three tokens, all of whose matrices are the identity, but W_O, which is twice that.
/// let model = Transformer::new(config, weights)?;
/// let circuits = Circuits::new(&model);
/// let copying = Circuit::FullOv(HeadId::new(0, 0));
/// assert_eq!(circuits.low_rank(copying)?.dense(), Array2::<f64>::eye(3) * 2.0);
/// assert_eq!(circuits.eigenvalues(copying)?[0].re, 2.0);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct Circuits<'a> {
    model: &'a Transformer,
    /// `W_U W_E`, `[d, d]`.
    unembed_embed: OnceLock<Array2<f64>>,
    /// `W_Eᵀ W_E`, `[d, d]`.
    embed_embed: OnceLock<Array2<f64>>,
    /// The triangular factor of `W_E`, `[min(V, d), d]`.
    embed: OnceLock<Array2<f64>>,
    /// The triangular factor of `W_Uᵀ`, `[min(V, d), d]`.
    unembed: OnceLock<Array2<f64>>,
    /// The longest row of `W_E`, and the longest column of `W_U`.
    longest: OnceLock<(f64, f64)>,
}

/// What circuits share that [`Circuits::prepare`] computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// That of their eigenvalues.
    Eigenvalues,
    /// That of their norms and singular values.
    Norms,
    /// That of both.
    Both,
}

/// A norm of no more than so many times what rounding makes is that of a circuit of zeros.
const ROUNDING: f64 = 30.0;

fn wide(w: ArrayView2<f32>) -> Array2<f64> {
    w.mapv(f64::from)
}

/// So many tokens are held in double precision at once.
const TOKENS: usize = 2048;

/// Row blocks of `w` `[V, d]`, each in double precision.
fn blocks(w: ArrayView2<'_, f32>) -> impl Iterator<Item = Array2<f64>> {
    let rows = w.nrows();
    (0..rows).step_by(TOKENS).map(move |start| wide(w.slice(s![start..(start + TOKENS).min(rows), ..])))
}

/// A band of `A B` in double precision, without a copy of either of the width of `V`: `a` `[m, V]`, `b` `[V, p]`.
fn band_over_tokens(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f64> {
    let mut sum = Array2::zeros((a.nrows(), b.ncols()));
    for (a, b) in a.axis_chunks_iter(Axis(1), TOKENS).zip(blocks(b)) {
        sum += &wide(a).dot(&b);
    }
    sum
}

/// `A B` in double precision, band by band: `a` `[m, V]`, `b` `[V, p]`. The same to the digit whether in parallel or not.
fn product_over_tokens(a: ArrayView2<f32>, b: ArrayView2<f32>, parallel: bool) -> Array2<f64> {
    const BAND: usize = 128;
    let bands: Vec<_> = a.axis_chunks_iter(Axis(0), BAND).collect();
    let bands: Vec<Array2<f64>> = if parallel {
        bands.par_iter().map(|band| band_over_tokens(*band, b)).collect()
    } else {
        bands.iter().map(|band| band_over_tokens(*band, b)).collect()
    };
    let views: Vec<_> = bands.iter().map(|band| band.view()).collect();
    ndarray::concatenate(Axis(0), &views).expect("bands have equally many columns")
}

/// `W M`, `[V, k]`, for `w` `[V, d]` and `m` `[d, k]`.
fn over_tokens(w: ArrayView2<f32>, m: ArrayView2<f64>) -> Array2<f64> {
    let mut product = Array2::zeros((w.nrows(), m.ncols()));
    for (mut to, block) in product.axis_chunks_iter_mut(Axis(0), TOKENS).zip(blocks(w)) {
        ndarray::linalg::general_mat_mul(1.0, &block, &m, 0.0, &mut to);
    }
    product
}

impl<'a> Circuits<'a> {
    /// The circuits of `model`.
    pub fn new(model: &'a Transformer) -> Self {
        Self {
            model,
            unembed_embed: OnceLock::new(),
            embed_embed: OnceLock::new(),
            embed: OnceLock::new(),
            unembed: OnceLock::new(),
            longest: OnceLock::new(),
        }
    }

    /// The model.
    pub fn model(&self) -> &'a Transformer {
        self.model
    }

    /// `W_U W_E`, `[d, d]`: with it the eigenvalues of a circuit over tokens come from `[k, k]` matrices.
    fn unembed_embed(&self) -> &Array2<f64> {
        self.unembed_embed.get_or_init(|| product_over_tokens(self.model.w_u(), self.model.w_e(), false))
    }

    /// `W_Eᵀ W_E`, `[d, d]`.
    fn embed_embed(&self) -> &Array2<f64> {
        self.embed_embed.get_or_init(|| product_over_tokens(self.model.w_e().t(), self.model.w_e(), false))
    }

    fn embed(&self) -> &Array2<f64> {
        self.embed.get_or_init(|| r_factor_by_blocks(self.model.config().d_model, blocks(self.model.w_e())))
    }

    fn unembed(&self) -> &Array2<f64> {
        self.unembed.get_or_init(|| r_factor_by_blocks(self.model.config().d_model, blocks(self.model.w_u().reversed_axes())))
    }

    /// The lengths of the longest row of `W_E` and of the longest column of `W_U`.
    pub(super) fn longest(&self) -> (f64, f64) {
        *self.longest.get_or_init(|| {
            let square = |v: f32| f64::from(v).powi(2);
            let rows = self.model.w_e().outer_iter().map(|row| row.iter().map(|&v| square(v)).sum::<f64>()).fold(0.0, f64::max);
            // Row by row, as it lies in memory.
            let mut columns = Array1::<f64>::zeros(self.model.config().d_vocab);
            self.model.w_u().outer_iter().for_each(|row| columns.zip_mut_with(&row, |sum, &v| *sum += square(v)));
            (rows.sqrt(), columns.into_iter().fold(0.0, f64::max).sqrt())
        })
    }

    /// Computes what `circuits` share, with all threads. Otherwise the first circuit that needs it computes it, alone.
    pub fn prepare(&self, circuits: &[Circuit], shared: Shared) {
        // Not inside `get_or_init`: a thread that waits there for its other half may be handed a circuit that waits for this one.
        let set = |place: &OnceLock<Array2<f64>>, left: ArrayView2<f32>| {
            if place.get().is_none() {
                place.get_or_init({
                    let product = product_over_tokens(left, self.model.w_e(), true);
                    || product
                });
            }
        };
        let any = |ends| circuits.iter().any(|circuit| circuit.ends() == ends);
        if shared != Shared::Norms && any(Ends::Logits) {
            set(&self.unembed_embed, self.model.w_u());
        }
        if shared != Shared::Norms && any(Ends::Tokens) {
            set(&self.embed_embed, self.model.w_e().t());
        }
        if shared != Shared::Eigenvalues && (any(Ends::Logits) || any(Ends::Tokens)) {
            let unembed = || {
                if any(Ends::Logits) {
                    self.unembed();
                }
            };
            rayon::join(|| _ = self.embed(), unembed);
        }
    }

    /// The heads' matrices that a circuit is made of, two for each circuit between vectors of the stream, in their order.
    fn factors(&self, circuit: Circuit) -> Vec<ArrayView2<'a, f32>> {
        let ov = |id: HeadId| {
            let head = self.model.head(id);
            [head.w_v, head.w_o]
        };
        let qk = |id: HeadId| {
            let head = self.model.head(id);
            [head.w_q, head.w_k.reversed_axes()]
        };
        let transposed = |[a, b]: [ArrayView2<'a, f32>; 2]| [b.reversed_axes(), a.reversed_axes()];
        match circuit {
            Circuit::Direct => Vec::new(),
            Circuit::Ov(id) | Circuit::FullOv(id) => ov(id).to_vec(),
            Circuit::Qk(id) | Circuit::FullQk(id) => qk(id).to_vec(),
            Circuit::KComposition { from, to } => [qk(to), transposed(ov(from))].concat(),
            Circuit::QComposition { from, to } => [ov(from), qk(to)].concat(),
            Circuit::VirtualOv { from, to } => [ov(from), ov(to)].concat(),
        }
    }

    /// The circuit between vectors of the stream that `circuit` embeds and reads.
    pub(super) fn inner(&self, circuit: Circuit) -> Result<LowRank> {
        let factors = self.factors(circuit);
        let mut pairs = factors.chunks_exact(2).map(|pair| LowRank::from_f32(pair[0], pair[1]));
        let d = self.model.config().d_model;
        let first = pairs.next().unwrap_or_else(|| LowRank::new(Array2::eye(d), Array2::eye(d)))?;
        pairs.try_fold(first, |product, next| product.then(&next?))
    }

    /// The circuit as a low-rank product.
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn low_rank(&self, circuit: Circuit) -> Result<LowRank> {
        if circuit == Circuit::Direct {
            return LowRank::from_f32(self.model.w_e(), self.model.w_u());
        }
        let inner = self.inner(circuit)?;
        let (w_e, w_u) = (self.model.w_e(), self.model.w_u().reversed_axes());
        let between =
            |right| LowRank::new(over_tokens(w_e, inner.left()), over_tokens(right, inner.right().t()).reversed_axes());
        match circuit.ends() {
            Ends::Stream => Ok(inner),
            Ends::Logits => between(w_u),
            Ends::Tokens => between(w_e),
        }
    }

    /// What reads a circuit over tokens, `[d, V]`: `W_U`, or `W_Eᵀ`.
    pub(super) fn reader(&self, circuit: Circuit) -> ArrayView2<'a, f32> {
        if circuit.ends() == Ends::Tokens { self.model.w_e().reversed_axes() } else { self.model.w_u() }
    }

    /// A product of the circuit's norm and singular values, of width `d` however many tokens there are: the circuit in orthonormal
    /// bases of what `W_E` writes and what reads it. Not one of its eigenvalues.
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn compressed(&self, circuit: Circuit) -> Result<LowRank> {
        let inner = self.inner(circuit)?;
        match self.triangles(circuit) {
            None => Ok(inner),
            Some((embed, reader)) => inner.after(embed.view())?.dot(reader.t()),
        }
    }

    /// The triangular factors of what embeds and what reads a circuit over tokens, each of width `d`.
    pub(super) fn triangles(&self, circuit: Circuit) -> Option<(&Array2<f64>, &Array2<f64>)> {
        match circuit.ends() {
            Ends::Stream => None,
            Ends::Logits => Some((self.embed(), self.unembed())),
            Ends::Tokens => Some((self.embed(), self.embed())),
        }
    }

    /// The singular values that can differ from zero, descending: `min(d, k)` of them, or `min(V, d, k)` of a circuit over tokens.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the iteration does not converge.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn singular_values(&self, circuit: Circuit) -> Result<Vec<f64>> {
        self.compressed(circuit)?.singular_values()
    }

    /// A matrix no larger than `[k, k]` whose eigenvalues are those of the circuit, apart from zeros: `B A` for a circuit `A B`, the
    /// head's part of `A` with orthonormal columns; where there are fewer than `k` tokens, the circuit itself.
    ///
    /// Since `A` is orthonormal, the norm of the matrix, too, is a property of the circuit: `W_V M` and `M⁻¹ W_O` have the same one.
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn core(&self, circuit: Circuit) -> Result<Array2<f64>> {
        if circuit.is_over_tokens() && self.model.config().d_vocab < self.width(circuit) {
            return Ok(self.low_rank(circuit)?.dense());
        }
        let inner = self.inner(circuit)?;
        // The direct path has the identity there.
        let inner = if circuit == Circuit::Direct {
            inner
        } else {
            let (q, r) = thin_qr(inner.left());
            LowRank::new(q, r.dot(&inner.right()))?
        };
        match circuit.ends() {
            Ends::Stream => Ok(inner.right().dot(&inner.left())),
            Ends::Logits => inner.closed_by(self.unembed_embed().view()),
            Ends::Tokens => inner.closed_by(self.embed_embed().view()),
        }
    }

    /// How many eigenvalues a circuit has as a low-rank product: `k`, or `d` of the direct path.
    fn width(&self, circuit: Circuit) -> usize {
        self.factors(circuit).first().map_or(self.model.config().d_model, |first| first.ncols())
    }

    /// The eigenvalues that can differ from zero, by descending magnitude (see [`eigenvalues`]): `k` of them, or `d` of the direct
    /// path. Where `V` or `d` is smaller than that, the rest are zeros.
    ///
    /// Those of a circuit that has not enough eigenvectors are only accurate to a root of the machine precision.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the iteration does not converge.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn eigenvalues(&self, circuit: Circuit) -> Result<Vec<Complex>> {
        self.eigenvalues_of(circuit, self.core(circuit)?.view())
    }

    /// [`Circuits::eigenvalues`], where the core is known.
    pub(super) fn eigenvalues_of(&self, circuit: Circuit, core: ArrayView2<f64>) -> Result<Vec<Complex>> {
        let mut values = eigenvalues(core)?;
        values.resize(self.width(circuit), Complex::new(0.0, 0.0));
        Ok(values)
    }

    /// The norm of a circuit; none where it is zero as far as weights in single precision can tell: no more than what rounding leaves.
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn norm_if_any(&self, circuit: Circuit) -> Result<Option<f64>> {
        let (norm, rounding) = self.norm_and_rounding(circuit)?;
        Ok((norm > ROUNDING * rounding).then_some(norm))
    }

    /// The norm of a circuit, and about how much of it the rounding of all weights to single precision can make up: half a unit in
    /// the last place of every weight, independent of each other.
    ///
    /// A circuit that wiring or pruning made zero has a norm of this size, not of 0, if its model was rotated or stored.
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn norm_and_rounding(&self, circuit: Circuit) -> Result<(f64, f64)> {
        let heads: Vec<_> = self.factors(circuit).into_iter().map(wide).collect();
        let (left, right) = match circuit.ends() {
            Ends::Stream => (None, None),
            Ends::Logits => (Some(self.embed().view()), Some(self.unembed().t())),
            Ends::Tokens => (Some(self.embed().view()), Some(self.embed().t())),
        };
        let chain: Vec<_> = left.into_iter().chain(heads.iter().map(|w| w.view())).chain(right).collect();
        let square = |a: &Array2<f64>| a.iter().map(|v| v * v).sum::<f64>();
        // ‖M_1 … M_i‖², and from the other end ‖M_i … M_n‖².
        let squares = |mut factors: Box<dyn Iterator<Item = ArrayView2<f64>> + '_>, steps: usize| {
            let mut product = factors.next().map(|first| first.to_owned()).unwrap_or_default();
            let mut all = vec![square(&product)];
            for factor in factors.take(steps) {
                product = product.dot(&factor);
                all.push(square(&product));
            }
            all
        };
        let n = chain.len();
        let before = squares(Box::new(chain.iter().map(|m| m.view())), n - 2);
        let behind = squares(Box::new(chain.iter().rev().map(|m| m.t())), n - 2);
        let mut noise = 0.0;
        for (i, factor) in chain.iter().enumerate() {
            let (rows, columns) = (factor.nrows() as f64, factor.ncols() as f64);
            let before = if i == 0 { rows } else { before[i - 1] };
            let behind = if i == n - 1 { columns } else { behind[n - 2 - i] };
            noise += square(&factor.to_owned()) / (rows * columns) * before * behind;
        }
        Ok((self.compressed(circuit)?.norm(), f64::from(f32::EPSILON) / 2.0 * noise.sqrt()))
    }
}

/// How many numbers a circuit is; see [`size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// As two factors.
    pub factored: usize,
    /// As one matrix.
    pub expanded: usize,
}

/// The size of a circuit as a low-rank product and multiplied out. It is also the number of multiply-adds that it takes to send one
/// vector through it. Beyond what can be counted it is the largest number there is.
pub fn size(model: &ModelConfig, circuit: Circuit) -> Size {
    let (width, inner) = match circuit {
        Circuit::Direct => (model.d_vocab, model.d_model),
        circuit if circuit.is_over_tokens() => (model.d_vocab, model.d_head),
        _ => (model.d_model, model.d_head),
    };
    Size { factored: width.saturating_mul(2).saturating_mul(inner), expanded: width.saturating_mul(width) }
}

/// `Σ Re λ / Σ |λ|`, in `[−1, 1]`: how much a circuit maps things to themselves; `None` if there is nothing but zeros.
///
/// Of a full OV circuit it is the copying score, of a K-composition term over tokens the matching score (Elhage et al. 2021,
/// "Copying matrices and eigenvalues").
pub fn positive_share(eigenvalues: &[Complex]) -> Option<f64> {
    // In parts of a power of two near the largest: no sum overflows, and no digit is rounded otherwise than without it.
    let largest = eigenvalues.iter().fold(0.0, |largest: f64, value| largest.max(value.re.abs()).max(value.im.abs()));
    let unit = f64::powi(2.0, -(largest.log2() as i32).clamp(-1000, 1000));
    let size: f64 = eigenvalues.iter().map(|value| (value * unit).norm()).sum();
    (size > 0.0).then(|| eigenvalues.iter().map(|value| value.re * unit).sum::<f64>() / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_positive_share_does_not_depend_on_the_unit() {
        let share = |unit: f64| positive_share(&[(3.0, 4.0), (-1.0, 0.0)].map(|(re, im)| Complex::new(re * unit, im * unit)));
        // The least that keeps all digits, and the greatest that does not overflow.
        for unit in [1.0, f64::MIN_POSITIVE, f64::MAX / 4.0] {
            assert!((share(unit).unwrap() - 2.0 / 6.0).abs() < 1e-15, "{unit}");
        }
        assert_eq!(share(0.0), None);
        assert_eq!(positive_share(&[]), None);
        assert_eq!(positive_share(&[Complex::new(5e-324, 0.0)]), Some(1.0));
    }
}
