//! The circuits that a model's weights are: each a low-rank product, none of them multiplied out.
//!
//! Row vectors, as in TransformerLens: `W_QK = W_Q W_Kᵀ` (rows: destination), `W_OV = W_V W_O` (rows: what is read). Elhage et al.
//! 2021, sections "QK and OV circuits" and "Path expansion of logits".

mod kinds;
mod norm;
mod over_tokens;
mod share;

pub use kinds::{Circuit, Size, size};
pub use share::positive_share;

use crate::Result;
use crate::linalg::{Complex, LowRank, eigenvalues, r_factor_by_blocks, thin_qr};
use crate::model::{HeadId, Transformer};
use kinds::Ends;
use ndarray::{Array1, Array2, ArrayView2};
use over_tokens::{blocks, over_tokens, product_over_tokens};
use std::sync::OnceLock;

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
/// assert_eq!(circuits.model().config().d_vocab, 3);
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
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::weights::Shared;
    /// let model = notebook.model("small", "{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: 20, context: 9 }")?;
    /// let circuits = Circuits::new(&model);
    /// let wanted: Vec<_> = model.config().heads().map(Circuit::FullOv).collect();
    /// circuits.prepare(&wanted, Shared::Eigenvalues);
    /// // Sooner, and the same to the digit.
    /// assert_eq!(circuits.eigenvalues(wanted[3])?, Circuits::new(&model).eigenvalues(wanted[3])?);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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

    /// The circuit as a low-rank product: `[d, d]` between vectors of the stream, `[V, V]` over tokens.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let yaml = "{ kind: random, layers: 1, heads: 2, d_model: 8, vocab: 9, context: 8, positions: none }";
    /// let model = notebook.model("one", yaml)?;
    /// let circuits = Circuits::new(&model);
    /// let row = |circuit, token| Ok::<_, Error>(circuits.low_rank(circuit)?.dense().row(token).to_owned());
    /// // The first token of a sequence attends to itself: its logits are its bigrams, and what it raises through each head.
    /// let logits = model.run(&TokenBatch::new(array![[7, 3]], None)?, Keep { logits: true, ..Keep::NOTHING })?.logits;
    /// let of_heads = row(Circuit::FullOv(HeadId::new(0, 0)), 7)? + row(Circuit::FullOv(HeadId::new(0, 1)), 7)?;
    /// let sum = row(Circuit::Direct, 7)? + of_heads;
    /// let found = logits.map(|logits| logits.slice(s![0, 0, ..]).mapv(f64::from)).expect("logits were asked for");
    /// assert!((found - sum).iter().all(|error| error.abs() < 1e-4));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
    /// bases of what `W_E` writes and what reads it. Not one of its eigenvalues. At most `[d, d]`; a circuit between vectors of
    /// the stream is as it is.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("small", "{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: 20, context: 9 }")?;
    /// let circuits = Circuits::new(&model);
    /// let table = Circuit::FullOv(HeadId::new(1, 0));
    /// let (small, whole) = (circuits.compressed(table)?, circuits.low_rank(table)?);
    /// assert_eq!((small.dim(), whole.dim()), ((8, 8), (20, 20)));
    /// assert!((small.norm() - whole.norm()).abs() < 1e-9 * whole.norm());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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

    /// The singular values that can differ from zero, descending: `min(d, k)` of them, or `min(V, d, k)` of a circuit over
    /// tokens, or `min(V, d)` of the direct path.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("small", "{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: 20, context: 9 }")?;
    /// let circuits = Circuits::new(&model);
    /// let head = HeadId::new(1, 0);
    /// assert_eq!(circuits.singular_values(Circuit::FullQk(head))?.len(), 4);
    /// assert_eq!(circuits.singular_values(Circuit::Direct)?.len(), 8);
    /// // The wired induction head gives each of 13 tokens a logit of 10: ten times the identity.
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
    /// let of_wired = Circuits::new(&model).singular_values(Circuit::FullOv(head))?;
    /// assert!(of_wired.len() == 13 && of_wired.iter().all(|value| (value - 10.0).abs() < 1e-4));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
    /// head's part of `A` with orthonormal columns; where there are fewer than `k` tokens, the circuit itself. Of the direct path
    /// it is `W_U W_E` `[d, d]`; where there are fewer than `d` tokens, the path itself.
    ///
    /// Since `A` is orthonormal, the norm of the matrix, too, is a property of the circuit: `W_V M` and `M⁻¹ W_O` have the same one.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("small", "{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: 20, context: 9 }")?;
    /// let circuits = Circuits::new(&model);
    /// let table = Circuit::FullOv(HeadId::new(0, 0));
    /// let mut weights = model.to_weights();
    /// weights.blocks[0].w_v *= 3.0;
    /// weights.blocks[0].w_o /= 3.0;
    /// let same = Transformer::new(model.config().clone(), weights)?;
    /// let (core, other) = (circuits.core(table)?, Circuits::new(&same).core(table)?);
    /// assert_eq!(core.dim(), (4, 4));
    /// let square = |core: &Array2<f64>| core.iter().map(|v| v * v).sum::<f64>();
    /// assert!((square(&core) - square(&other)).abs() < 1e-5 * square(&core));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("small", "{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: 20, context: 9 }")?;
    /// let circuits = Circuits::new(&model);
    /// // As many as the head is wide, and they sum to the trace of the table.
    /// let table = Circuit::FullOv(HeadId::new(0, 1));
    /// let values = circuits.eigenvalues(table)?;
    /// let sum: f64 = values.iter().map(|value| value.re).sum();
    /// assert_eq!(values.len(), 4);
    /// assert!((sum - circuits.low_rank(table)?.trace()?).abs() < 1e-9);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
}
