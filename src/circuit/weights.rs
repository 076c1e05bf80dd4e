//! The circuits that a model's weights are: each a low-rank product, none of them multiplied out.
//!
//! Row vectors, as in TransformerLens: `W_QK = W_Q W_Kᵀ` (rows: destination), `W_OV = W_V W_O` (rows: what is read). Elhage et al.
//! 2021, sections "QK and OV circuits" and "Path expansion of logits".

use crate::Result;
use crate::linalg::{Complex, LowRank, eigenvalues};
use crate::model::{HeadId, Transformer};
use ndarray::{Array2, ArrayView2, Axis, s};
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
    /// The OV circuit of a virtual head over tokens, `W_E W_OV(from) W_OV(to) W_U` `[V, V]`.
    VirtualOv {
        /// The head that moves first.
        from: HeadId,
        /// The head that moves on.
        to: HeadId,
    },
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
}

fn wide(w: ArrayView2<f32>) -> Array2<f64> {
    w.mapv(f64::from)
}

/// `A B` in double precision, without a copy of either of that width: `a` `[m, V]`, `b` `[V, p]`, summed in a fixed order.
fn product_over_tokens(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f64> {
    const TOKENS: usize = 2048;
    let mut sum = Array2::zeros((a.nrows(), b.ncols()));
    for start in (0..a.ncols()).step_by(TOKENS) {
        let end = (start + TOKENS).min(a.ncols());
        sum += &wide(a.slice(s![.., start..end])).dot(&wide(b.slice(s![start..end, ..])));
    }
    sum
}

impl<'a> Circuits<'a> {
    /// The circuits of `model`.
    pub fn new(model: &'a Transformer) -> Self {
        Self { model, unembed_embed: OnceLock::new(), embed_embed: OnceLock::new() }
    }

    /// The model.
    pub fn model(&self) -> &'a Transformer {
        self.model
    }

    /// `W_U W_E`, `[d, d]`: with it the eigenvalues of a circuit over tokens come from `[k, k]` matrices.
    fn unembed_embed(&self) -> &Array2<f64> {
        self.unembed_embed.get_or_init(|| product_over_tokens(self.model.w_u(), self.model.w_e()))
    }

    /// `W_Eᵀ W_E`, `[d, d]`.
    fn embed_embed(&self) -> &Array2<f64> {
        self.embed_embed.get_or_init(|| product_over_tokens(self.model.w_e().t(), self.model.w_e()))
    }

    /// `W_OV` as a product of `[d, k]` and `[k, d]`.
    fn ov(&self, id: HeadId) -> Result<LowRank> {
        let head = self.model.head(id);
        LowRank::from_f32(head.w_v, head.w_o)
    }

    /// `W_QK` as a product of `[d, k]` and `[k, d]`.
    fn qk(&self, id: HeadId) -> Result<LowRank> {
        let head = self.model.head(id);
        LowRank::from_f32(head.w_q, head.w_k.t())
    }

    /// The circuit between vectors of the stream that `circuit` is made of, what it is embedded by, and what it is read by.
    fn inner(&self, circuit: Circuit) -> Result<LowRank> {
        match circuit {
            Circuit::Direct => LowRank::from_f32(self.model.w_e(), self.model.w_u()),
            Circuit::Ov(id) | Circuit::FullOv(id) => self.ov(id),
            Circuit::Qk(id) | Circuit::FullQk(id) => self.qk(id),
            Circuit::KComposition { from, to } => self.qk(to)?.then(&self.ov(from)?.t()),
            Circuit::VirtualOv { from, to } => self.ov(from)?.then(&self.ov(to)?),
        }
    }

    /// The circuit as a low-rank product.
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn low_rank(&self, circuit: Circuit) -> Result<LowRank> {
        let inner = self.inner(circuit)?;
        match circuit {
            Circuit::Direct | Circuit::Ov(_) | Circuit::Qk(_) => Ok(inner),
            Circuit::FullOv(_) | Circuit::VirtualOv { .. } => self.between(inner, self.model.w_u()),
            Circuit::FullQk(_) | Circuit::KComposition { .. } => self.between(inner, self.model.w_e().t()),
        }
    }

    /// `W_E M W` for `M` between vectors of the stream.
    fn between(&self, inner: LowRank, right: ArrayView2<f32>) -> Result<LowRank> {
        inner.dot(wide(right).view())?.t().dot(wide(self.model.w_e()).t()).map(|product| product.t())
    }

    /// The eigenvalues that can differ from zero, at most `k`, by descending magnitude.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the iteration does not converge.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn eigenvalues(&self, circuit: Circuit) -> Result<Vec<Complex>> {
        let inner = self.inner(circuit)?;
        let middle = match circuit {
            Circuit::Direct | Circuit::Ov(_) | Circuit::Qk(_) => return inner.eigenvalues(),
            Circuit::FullOv(_) | Circuit::VirtualOv { .. } => self.unembed_embed(),
            Circuit::FullQk(_) | Circuit::KComposition { .. } => self.embed_embed(),
        };
        // Those of W_E A B W are those of B W W_E A.
        let mut values = inner.closed_by(middle.view()).and_then(|core| eigenvalues(core.view()))?;
        values.truncate(self.model.w_e().len_of(Axis(0)));
        Ok(values)
    }
}

/// `Σ Re λ / Σ |λ|`, in `[−1, 1]`: how much a circuit maps things to themselves; `None` if there is nothing but zeros.
///
/// Of a full OV circuit it is the copying score, of a K-composition term over tokens the matching score (Elhage et al. 2021,
/// "Copying matrices and eigenvalues").
pub fn positive_share(eigenvalues: &[Complex]) -> Option<f64> {
    let size: f64 = eigenvalues.iter().map(|value| value.norm()).sum();
    (size > 0.0).then(|| eigenvalues.iter().map(|value| value.re).sum::<f64>() / size)
}
