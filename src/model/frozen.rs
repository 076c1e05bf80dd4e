//! The model as an affine map: attention patterns and normalisation scales are held at their values in a run.
//!
//! What is left is linear in the residual stream, so that everything written to it can be followed by itself (Elhage et al. 2021,
//! "Path expansion of logits"). Centring and weights of a LayerNorm are folded into the matrix that reads after it, and its bias
//! into that matrix's bias; only the scale, a number for each position, belongs to the run.
//!
//! Streams are `[b·n, d]`, sequence after sequence. Layers and heads are those of the model: others are a panic.
//!
//! ```
//! use attn_circuits::model::frozen::Frozen;
//! # use attn_circuits::prelude::*;
//! # let mut notebook = Notebook::new("example")?;
//! let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
//!     layer_norm: ln_pre }";
//! let model = notebook.model("random", yaml)?;
//! # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
//! let frozen = Frozen::new(&model);
//! let run = frozen.run(tokens.tokens(), model.run(&tokens, Keep { logits: true, ..Frozen::KEEP })?);
//! let written = |x: &Array2<f32>| (0..2).fold(x.clone(), |x, layer| &x + &run.layer(layer, &x));
//! // Tokens and positions by themselves, through all layers: together they give what the model says.
//! let mut logits = run.unembed(&written(&run.embedded()));
//! logits += &run.unembed(&written(&run.placed().expect("positions are standard")));
//! let said = run.cache().logits.as_ref().expect("logits were asked for");
//! assert!(logits.iter().zip(said).all(|(sum, said)| (sum - said).abs() < 1e-4));
//! # Ok::<(), attn_circuits::Error>(())
//! ```

mod run;

pub use run::FrozenRun;

use super::weights::Block;
use super::{Cache, HeadId, Keep, LayerNorm, Normalization, Positions, Transformer};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, CowArray, Ix2, s};

/// A matrix that reads from the stream, with what a LayerNorm does before it folded in, except for the scale.
#[derive(Debug)]
struct Reader<'a> {
    /// `[d, p]`
    w: CowArray<'a, f32, Ix2>,
    /// `[p]`
    b: Option<Array1<f32>>,
}

impl<'a> Reader<'a> {
    fn new(normalization: Normalization, ln: Option<&LayerNorm>, w: &'a Array2<f32>, b: Option<&Array1<f32>>) -> Self {
        if normalization == Normalization::None {
            return Self { w: w.view().into(), b: b.cloned() };
        }
        let mut folded = w.clone();
        let mut bias = b.cloned();
        if let Some(ln) = ln {
            let shift = ln.b.dot(w);
            bias = Some(bias.map_or_else(|| shift.clone(), |bias| bias + &shift));
            folded.rows_mut().into_iter().zip(&ln.w).for_each(|(mut row, &weight)| row *= weight);
        }
        // Centring a row vector before the product is centring the matrix's columns.
        let mut mean = Array1::<f64>::zeros(folded.ncols());
        for row in folded.rows() {
            mean.iter_mut().zip(row).for_each(|(mean, &v)| *mean += f64::from(v));
        }
        let mean = mean.mapv(|sum| (sum / w.nrows() as f64) as f32);
        folded -= &mean;
        Self { w: folded.into(), b: bias }
    }
}

/// A model whose runs can be frozen.
///
/// `L`, `H`, `d`, `k` and `V` are those of its configuration. What it has of a layer, with LayerNorm folded in, is meant for a
/// stream once that is multiplied by the scale of the run.
///
/// ```
/// # use attn_circuits::model::frozen::Frozen;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
/// #     layer_norm: ln, biases: true }";
/// # let model = notebook.model("random", yaml)?;
/// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// // `model` has LayerNorm and biases, and 2 layers of 2 heads; `tokens` are 4 sequences of 13.
/// let frozen = Frozen::new(&model);
/// assert_eq!(frozen.model().config().n_layers, 2);
/// assert!(frozen.has_bias());
/// // Centring is folded into what reads the stream: a constant in it is read as nothing.
/// assert_eq!(frozen.w_u().dim(), (16, 10));
/// assert!(frozen.w_u().sum_axis(ndarray::Axis(0)).iter().all(|sum| sum.abs() < 1e-5));
/// // What heads write is not folded: one under the other, as they are.
/// assert_eq!(frozen.w_o(1).slice(s![4..8, ..]), model.head(HeadId::new(1, 1)).w_o);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct Frozen<'a> {
    model: &'a Transformer,
    layers: Vec<Reader<'a>>,
    unembed: Reader<'a>,
}

impl<'a> Frozen<'a> {
    /// What a run has to keep so that it can be frozen: patterns and the residual stream.
    pub const KEEP: Keep = Keep { patterns: true, residual: true, ..Keep::NOTHING };

    /// Folds every LayerNorm into the matrices behind it. Without LayerNorm nothing is copied.
    pub fn new(model: &'a Transformer) -> Self {
        let normalization = model.config.normalization;
        let layer = |block: &'a Block| Reader::new(normalization, block.ln.as_ref(), &block.w_qkv, block.b_qkv.as_ref());
        Self {
            model,
            layers: model.blocks.iter().map(layer).collect(),
            unembed: Reader::new(normalization, model.ln_final.as_ref(), &model.w_u, model.b_u.as_ref()),
        }
    }

    /// The model.
    pub fn model(&self) -> &'a Transformer {
        self.model
    }

    /// Whether the model has any bias that is not zero, those of LayerNorms included.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, layer_norm: ln }";
    /// let model = notebook.model("random", yaml)?;
    /// // Its LayerNorms have biases, but they are zero.
    /// assert!(!Frozen::new(&model).has_bias());
    /// let mut weights = model.to_weights();
    /// weights.ln_final.iter_mut().for_each(|norm| norm.b[3] = 0.1);
    /// let model = Transformer::new(model.config().clone(), weights)?;
    /// assert!(Frozen::new(&model).has_bias());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn has_bias(&self) -> bool {
        let model = self.model;
        let norms = model.blocks.iter().filter_map(|block| block.ln.as_ref()).chain(&model.ln_final);
        let biases = model.blocks.iter().flat_map(|block| [&block.b_qkv, &block.b_o]);
        let mut all = norms.map(|ln| &ln.b).chain(biases.flatten()).chain(&model.b_u);
        all.any(|bias| bias.iter().any(|&v| v != 0.0))
    }

    /// `b_O` of a layer, `[d]`, where it has one. [`Frozen::head_constants`] has an example.
    pub fn b_o(&self, layer: usize) -> Option<ArrayView1<'_, f32>> {
        self.model.blocks[layer].b_o.as_ref().map(|b| b.view())
    }

    /// What the heads of a layer write whatever they read, `[d]`: `b_V W_O`, summed over the heads, the bias of a LayerNorm
    /// folded into `b_V`. Attention to all sources together is 1, so it is the same at every position.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
    /// #     layer_norm: ln, biases: true }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // `model` has LayerNorm and biases, and 2 layers of 2 heads; `tokens` are 4 sequences of 13.
    /// let frozen = Frozen::new(&model);
    /// let run = frozen.run(tokens.tokens(), model.run(&tokens, Keep { logits: true, ..Frozen::KEEP })?);
    /// // The model step by step: what is linear, and what is constant.
    /// let mut x = run.embedded() + run.placed().expect("positions are standard");
    /// for layer in 0..2 {
    ///     x += &run.layer(layer, &x.clone());
    ///     x += &frozen.head_constants(layer).expect("there are biases");
    ///     x += &frozen.b_o(layer).expect("there are biases");
    /// }
    /// let logits = run.unembed(&x) + frozen.unembed_bias().expect("there are biases");
    /// let said = run.cache().logits.as_ref().expect("logits were asked for");
    /// assert!(logits.iter().zip(said).all(|(sum, said)| (sum - said).abs() < 1e-4));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn head_constants(&self, layer: usize) -> Option<Array1<f32>> {
        let b = self.layers[layer].b.as_ref()?;
        let width = self.model.config.n_heads * self.model.config.d_head;
        Some(b.slice(s![2 * width..]).dot(&self.model.blocks[layer].w_o))
    }

    /// What the unembedding adds whatever it reads, `[V]`: `b_U`, the bias of a LayerNorm folded into it.
    /// [`Frozen::head_constants`] has an example.
    pub fn unembed_bias(&self) -> Option<ArrayView1<'_, f32>> {
        self.unembed.b.as_ref().map(|b| b.view())
    }

    /// The matrix that reads the last stream, once that is scaled, `[d, V]`: `W_U`, or that with a LayerNorm folded in.
    pub fn w_u(&self) -> ArrayView2<'_, f32> {
        self.unembed.w.view()
    }

    /// `W_O` of a layer, head under head, `[H·k, d]`; the example of [`Frozen`] slices one head out of it.
    pub fn w_o(&self, layer: usize) -> ArrayView2<'_, f32> {
        self.model.blocks[layer].w_o.view()
    }

    /// The columns of a head's queries and keys among those of its layer.
    fn query_and_key_columns(&self, id: HeadId) -> [std::ops::Range<usize>; 2] {
        let (n_heads, d_head) = (self.model.config.n_heads, self.model.config.d_head);
        [0, 1].map(|which| {
            let start = (which * n_heads + id.head) * d_head;
            start..start + d_head
        })
    }

    /// What a head's queries and keys read from the stream, once that is scaled: `W_Q` and `W_K` side by side, `[d, 2k]`.
    ///
    /// With [`Frozen::b_qk`], [`Frozen::position_qk`] and [`Frozen::turn`], the attention scores of a head can be taken apart
    /// (Elhage et al. 2021, "Path expansion of attention scores QK circuit"):
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
    /// #     layer_norm: ln, biases: true, positions: shortformer }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // `model` has LayerNorm, biases and shortformer positions; `tokens` are 4 sequences of 13.
    /// let frozen = Frozen::new(&model);
    /// let run = frozen.run(tokens.tokens(), model.run(&tokens, Keep { scores: true, ..Frozen::KEEP })?);
    /// let (id, n, k) = (HeadId::new(1, 0), 13, 4);
    /// # let residual = &run.cache().residual[1];
    /// # let mut x = residual.clone().into_shape_with_order((4 * n, 16)).expect("4 sequences of 13 positions");
    /// // `x`, `[b·n, d]`, is the stream before layer 1.
    /// run.scale(1, &mut x);
    /// let mut qk = x.dot(&frozen.w_qk(id)) + frozen.b_qk(id).expect("there are biases");
    /// let position = frozen.position_qk(id, n).expect("positions are shortformer");
    /// qk.axis_chunks_iter_mut(ndarray::Axis(0), n).for_each(|mut sequence| sequence += &position);
    /// frozen.turn(n, &mut qk);
    /// // What position 9 of the first sequence looks for, and what position 4 offers.
    /// let score = qk.row(9).slice(s![..k]).dot(&qk.row(4).slice(s![k..])) / model.config().attn_scale as f32;
    /// assert!((score - run.cache().scores[1][[0, 0, 9, 4]]).abs() < 1e-4);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn w_qk(&self, id: HeadId) -> Array2<f32> {
        let reader = &self.layers[id.layer];
        let parts = self.query_and_key_columns(id).map(|columns| reader.w.slice(s![.., columns]));
        ndarray::concatenate(ndarray::Axis(1), &parts).expect("both have d rows")
    }

    /// What is added to a head's queries and keys whatever they read, side by side, `[2k]`: `b_Q` and `b_K`, the bias of a
    /// LayerNorm folded in. [`Frozen::w_qk`] has an example.
    pub fn b_qk(&self, id: HeadId) -> Option<Array1<f32>> {
        let b = self.layers[id.layer].b.as_ref()?;
        let parts = self.query_and_key_columns(id).map(|columns| b.slice(s![columns]));
        Some(ndarray::concatenate(ndarray::Axis(0), &parts).expect("vectors"))
    }

    /// What positions add to queries and keys beside the stream, side by side, `[n, 2k]`: only with shortformer positions.
    /// [`Frozen::w_qk`] has an example; `n` is at most the context.
    pub fn position_qk(&self, id: HeadId, n: usize) -> Option<Array2<f32>> {
        let w_pos = self.model.w_pos.as_ref().filter(|_| self.model.config.positions == Positions::Shortformer)?;
        // Positions come in behind the normalisation, so they meet the weights as they are.
        let head = self.model.head(id);
        let w = ndarray::concatenate(ndarray::Axis(1), &[head.w_q, head.w_k]).expect("both have d rows");
        Some(w_pos.slice(s![..n, ..]).dot(&w))
    }

    /// Rotates queries and keys, `[b·n, 2k]`, in place, where the position scheme is rotary; with others they stay as they are.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
    ///     positions: rotary }";
    /// let model = notebook.model("random", yaml)?;
    /// let frozen = Frozen::new(&model);
    /// let ones = Array2::<f32>::ones((5, 8));    // One sequence of 5 positions, d_head 4.
    /// let mut turned = ones.clone();
    /// frozen.turn(5, &mut turned);
    /// // Position 0 is not rotated; the others are, and keep their length.
    /// assert_eq!(turned.row(0), ones.row(0));
    /// assert!(turned.row(3) != ones.row(3));
    /// assert!((turned.row(3).dot(&turned.row(3)) - 8.0).abs() < 1e-5);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn turn(&self, n: usize, qk: &mut Array2<f32>) {
        self.model.turn(n, qk.view_mut());
    }

    /// Freezes a run of `tokens`, `[b, n]`; `cache` is that of the same tokens, and keeps at least [`Frozen::KEEP`]. Scales are
    /// those of the cached stream: `1/√(v + eps)`, `v` the variance of a row.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // `model` has neither LayerNorm nor biases; `tokens` are 4 sequences of 13.
    /// let frozen = Frozen::new(&model);
    /// let run = frozen.run(tokens.tokens(), model.run(&tokens, Frozen::KEEP)?);
    /// // What is left of the model is linear.
    /// let (tokens, positions) = (run.embedded(), run.placed().expect("positions are standard"));
    /// let both = run.layer(0, &(&tokens + &positions));
    /// let sum = run.layer(0, &tokens) + run.layer(0, &positions);
    /// assert!((both - sum).iter().all(|off| off.abs() < 1e-5));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn run<'r>(&'r self, tokens: ArrayView2<'r, u32>, cache: Cache) -> FrozenRun<'r, 'a> {
        FrozenRun::new(self, tokens, cache)
    }
}
