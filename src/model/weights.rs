use super::{HeadId, ModelConfig, Normalization};
use crate::{Error, Result};
use ndarray::{Array, Array1, Array2, Array3, ArrayView1, ArrayView2, Axis, Dimension, s};

/// Weight and bias of a LayerNorm, `[d]` each.
///
/// A row of the stream, once it is centred and divided by the root of its variance, is multiplied by [`LayerNorm::w`], and
/// [`LayerNorm::b`] is added.
///
/// ```
/// use attn_circuits::model::{LayerNorm, Normalization, Positions};
/// use attn_circuits::prelude::*;
/// # let config = ModelConfig {
/// #     n_layers: 0, n_heads: 1, d_model: 3, d_head: 3, d_vocab: 3, n_ctx: 8,
/// #     normalization: Normalization::Ln, eps: 1e-5, positions: Positions::None, attn_scale: 1.0,
/// # };
/// let ln_final = Some(LayerNorm { w: Array1::zeros(3), b: array![0.0, 5.0, 0.0] });
/// # let (w_e, w_u) = (Array2::eye(3), Array2::eye(3));
/// let model = Transformer::new(config, Weights { w_e, w_pos: None, blocks: vec![], ln_final, w_u, b_u: None })?;
/// // The weight being zero, the bias is all that the unembedding reads, whatever the token.
/// let cache = model.run(&TokenBatch::new(array![[0, 2]], None)?, Keep { logits: true, ..Keep::NOTHING })?;
/// assert_eq!(cache.logits, Some(array![[[0.0, 5.0, 0.0], [0.0, 5.0, 0.0]]]));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// Scale.
    pub w: Array1<f32>,
    /// Shift.
    pub b: Array1<f32>,
}

/// The tensors of one layer in TransformerLens' shapes; a bias may be absent.
///
/// ```
/// use attn_circuits::model::{BlockWeights, Normalization, Positions};
/// use attn_circuits::prelude::*;
/// use ndarray::{Array3, Axis};
/// # let config = ModelConfig {
/// #     n_layers: 1, n_heads: 1, d_model: 3, d_head: 3, d_vocab: 3, n_ctx: 8,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::None, attn_scale: 1.0,
/// # };
/// let block = BlockWeights {
///     ln: None,
///     // All scores are 0, so that attention is uniform; what is attended to is copied.
///     w_q: Array3::zeros((1, 3, 3)),
///     w_k: Array3::zeros((1, 3, 3)),
///     w_v: Array2::eye(3).insert_axis(Axis(0)),
///     w_o: Array2::eye(3).insert_axis(Axis(0)),
///     b_q: None, b_k: None, b_v: None, b_o: None,
/// };
/// # let (w_e, w_u) = (Array2::eye(3), Array2::eye(3));
/// let weights = Weights { w_e, w_pos: None, blocks: vec![block], ln_final: None, w_u, b_u: None };
/// let model = Transformer::new(config, weights)?;
/// let cache = model.run(&TokenBatch::new(array![[0, 2]], None)?, Keep { logits: true, ..Keep::NOTHING })?;
/// // The last logits are the token that stands there, and the mean of both.
/// let logits = cache.logits.expect("logits were asked for");
/// assert_eq!(logits.slice(s![0, 1, ..]), array![0.5, 0.0, 1.5]);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BlockWeights {
    /// Only with [`Normalization::Ln`].
    pub ln: Option<LayerNorm>,
    /// `[H, d, k]`
    pub w_q: Array3<f32>,
    /// `[H, d, k]`
    pub w_k: Array3<f32>,
    /// `[H, d, k]`
    pub w_v: Array3<f32>,
    /// `[H, k, d]`
    pub w_o: Array3<f32>,
    /// `[H, k]`
    pub b_q: Option<Array2<f32>>,
    /// `[H, k]`
    pub b_k: Option<Array2<f32>>,
    /// `[H, k]`
    pub b_v: Option<Array2<f32>>,
    /// `[d]`
    pub b_o: Option<Array1<f32>>,
}

/// All tensors of a model in TransformerLens' shapes: what builders make and files hold.
///
/// [`Transformer::new`] makes a model of them, [`Transformer::to_weights`] takes it apart again.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
/// let model = notebook.model("random", yaml)?;
/// let mut weights = model.to_weights();
/// assert_eq!((weights.w_e.dim(), weights.w_u.dim()), ((10, 16), (16, 10)));    // [V, d], [d, V]
/// assert_eq!(weights.blocks[1].w_q.dim(), (2, 16, 4));                         // [H, d, k]
/// // The model without its last layer has the same stream before that layer.
/// weights.blocks.pop();
/// let shorter = Transformer::new(ModelConfig { n_layers: 1, ..model.config().clone() }, weights)?;
/// let tokens = TokenBatch::new(array![[3, 1, 4, 1, 5]], None)?;
/// let keep = Keep { residual: true, ..Keep::NOTHING };
/// assert_eq!(shorter.run(&tokens, keep)?.residual, model.run(&tokens, keep)?.residual[..2]);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// `[V, d]`
    pub w_e: Array2<f32>,
    /// `[C, d]`, only with standard and shortformer positions.
    pub w_pos: Option<Array2<f32>>,
    /// One entry a layer.
    pub blocks: Vec<BlockWeights>,
    /// Only with [`Normalization::Ln`].
    pub ln_final: Option<LayerNorm>,
    /// `[d, V]`
    pub w_u: Array2<f32>,
    /// `[V]`
    pub b_u: Option<Array1<f32>>,
}

/// One layer with the weights of its heads side by side, so that one product serves them all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub ln: Option<LayerNorm>,
    /// `[d, 3·H·k]`: all queries, then all keys, then all values, head by head.
    pub w_qkv: Array2<f32>,
    /// `[3·H·k]`, in the same order.
    pub b_qkv: Option<Array1<f32>>,
    /// `[H·k, d]`
    pub w_o: Array2<f32>,
    /// `[d]`
    pub b_o: Option<Array1<f32>>,
}

/// An attention-only transformer: a checked configuration and weights that fit it.
///
/// Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". [`Transformer::run`] says what is computed.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
/// let model = notebook.model("random", yaml)?;
/// let config = model.config();
/// assert_eq!(model.w_e().dim(), (config.d_vocab, config.d_model));
/// assert_eq!(model.w_u().dim(), (config.d_model, config.d_vocab));
/// // Positions are standard, so that there is a `W_pos`; biases were not asked for.
/// assert_eq!(model.w_pos().map(|w_pos| w_pos.dim()), Some((config.n_ctx, config.d_model)));
/// assert_eq!(model.b_u(), None);
/// for id in config.heads() {
///     assert_eq!(model.head(id).w_o.dim(), (config.d_head, config.d_model));
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Transformer {
    pub(super) config: ModelConfig,
    pub(super) w_e: Array2<f32>,
    pub(super) w_pos: Option<Array2<f32>>,
    pub(super) blocks: Vec<Block>,
    pub(super) ln_final: Option<LayerNorm>,
    pub(super) w_u: Array2<f32>,
    pub(super) b_u: Option<Array1<f32>>,
}

/// The four matrices of one head, as views.
///
/// Source: Elhage et al. 2021: `W_QK = W_Q W_Kᵀ` says what is attended to, `W_OV = W_V W_O` what that does. Both are `[d, d]`, of
/// rank `k` at most; [`crate::circuit::weights`] answers questions about them without multiplying them out.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let previous_token = model.head(HeadId::new(0, 0));
/// assert_eq!((previous_token.w_q.dim(), previous_token.w_o.dim()), ((64, 25), (25, 64)));    // [d, k], [k, d]
/// // Tokens stand at the coordinates 0 to 12 of the stream, positions at 13 to 37, previous tokens at 38 to 50.
/// let w_qk = previous_token.w_q.dot(&previous_token.w_k.t());
/// assert_eq!(w_qk[(13 + 7, 13 + 6)], 20.0 * 25f32.sqrt());    // Position 7 looks for 6; scores are divided by √k.
/// let w_ov = previous_token.w_v.dot(&previous_token.w_o);
/// assert_eq!((w_ov[(4, 38 + 4)], w_ov.sum()), (1.0, 13.0));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `[d, k]`
    pub w_q: ArrayView2<'a, f32>,
    /// `[d, k]`
    pub w_k: ArrayView2<'a, f32>,
    /// `[d, k]`
    pub w_v: ArrayView2<'a, f32>,
    /// `[k, d]`
    pub w_o: ArrayView2<'a, f32>,
}

fn expect(name: impl Into<String>, found: &[usize], expected: &[usize]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shape { name: name.into(), found: found.to_vec(), expected: expected.to_vec() })
}

fn finite<D: Dimension>(name: impl Into<String>, array: &Array<f32, D>) -> Result<()> {
    match array.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some((index, value)) => {
            let value = if value.is_nan() { "NaN" } else { "infinite" };
            let place = entry(&name.into(), array.shape(), index);
            Err(Error::invalid(format!("{place} is {value}: every weight must be a finite number")))
        }
    }
}

/// The entry of a tensor at an index into its flat, row-major values, as NumPy and PyTorch write it: `blocks.0.attn.W_Q[2, 5, 1]`.
pub(in crate::model) fn entry(name: &str, shape: &[usize], mut index: usize) -> String {
    let mut place: Vec<String> = Vec::with_capacity(shape.len());
    for &length in shape.iter().rev() {
        place.push((index % length.max(1)).to_string());
        index /= length.max(1);
    }
    place.reverse();
    format!("{name}[{}]", place.join(", "))
}

impl Transformer {
    /// A model, once it is checked that every shape fits the configuration and every number is finite.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// let model = notebook.model("random", yaml)?;
    /// let wrong = Weights { w_u: Array2::zeros((10, 16)), ..model.to_weights() };
    /// let Err(Error::Shape { name, expected, .. }) = Transformer::new(model.config().clone(), wrong) else { panic!("[V, d]") };
    /// assert_eq!((name.as_str(), expected), ("unembed.W_U", vec![16, 10]));
    ///
    /// let mut wrong = model.to_weights();
    /// wrong.blocks[1].w_q[[1, 5, 2]] = f32::NAN;
    /// let error = Transformer::new(model.config().clone(), wrong).map_err(|error| error.to_string());
    /// assert!(error.is_err_and(|text| text.starts_with("blocks.1.attn.W_Q[1, 5, 2] is NaN")));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] names the first tensor whose shape is wrong; [`Error::Invalid`] an absent or superfluous tensor, the
    /// place of a NaN or an infinity, or what [`ModelConfig::check`] finds.
    pub fn new(config: ModelConfig, weights: Weights) -> Result<Self> {
        config.check()?;
        let ModelConfig { n_layers, n_heads, d_model, d_head, d_vocab, n_ctx, .. } = config;
        let norms = config.normalization == Normalization::Ln;
        let check_norm = |name: &str, norm: &Option<LayerNorm>| match norm {
            Some(norm) if norms => {
                for (part, array) in [("w", &norm.w), ("b", &norm.b)] {
                    expect(format!("{name}.{part}"), array.shape(), &[d_model])?;
                    finite(format!("{name}.{part}"), array)?;
                }
                Ok(())
            }
            None if !norms => Ok(()),
            Some(_) => Err(Error::invalid(format!("{name} has weights, but the normalisation takes none"))),
            None => Err(Error::invalid(format!("{name} has no weights, but the normalisation is LN"))),
        };

        expect("embed.W_E", weights.w_e.shape(), &[d_vocab, d_model])?;
        finite("embed.W_E", &weights.w_e)?;
        match &weights.w_pos {
            Some(w_pos) if config.has_w_pos() => {
                expect("pos_embed.W_pos", w_pos.shape(), &[n_ctx, d_model])?;
                finite("pos_embed.W_pos", w_pos)?;
            }
            None if !config.has_w_pos() => {}
            Some(_) => return Err(Error::invalid("pos_embed.W_pos is given, but the position scheme has none")),
            None => return Err(Error::invalid("pos_embed.W_pos is missing, but the position scheme needs it")),
        }
        expect("unembed.W_U", weights.w_u.shape(), &[d_model, d_vocab])?;
        finite("unembed.W_U", &weights.w_u)?;
        if let Some(b_u) = &weights.b_u {
            expect("unembed.b_U", b_u.shape(), &[d_vocab])?;
            finite("unembed.b_U", b_u)?;
        }
        check_norm("ln_final", &weights.ln_final)?;
        if weights.blocks.len() != n_layers {
            let text = format!("there are weights for {} layers, but n_layers is {n_layers}", weights.blocks.len());
            return Err(Error::invalid(text));
        }
        for (layer, block) in weights.blocks.iter().enumerate() {
            check_norm(&format!("blocks.{layer}.ln1"), &block.ln)?;
            for (name, array, shape) in [
                ("W_Q", &block.w_q, [n_heads, d_model, d_head]),
                ("W_K", &block.w_k, [n_heads, d_model, d_head]),
                ("W_V", &block.w_v, [n_heads, d_model, d_head]),
                ("W_O", &block.w_o, [n_heads, d_head, d_model]),
            ] {
                expect(format!("blocks.{layer}.attn.{name}"), array.shape(), &shape)?;
                finite(format!("blocks.{layer}.attn.{name}"), array)?;
            }
            for (name, bias) in [("b_Q", &block.b_q), ("b_K", &block.b_k), ("b_V", &block.b_v)] {
                if let Some(bias) = bias {
                    expect(format!("blocks.{layer}.attn.{name}"), bias.shape(), &[n_heads, d_head])?;
                    finite(format!("blocks.{layer}.attn.{name}"), bias)?;
                }
            }
            if let Some(b_o) = &block.b_o {
                expect(format!("blocks.{layer}.attn.b_O"), b_o.shape(), &[d_model])?;
                finite(format!("blocks.{layer}.attn.b_O"), b_o)?;
            }
        }
        let blocks = weights.blocks.into_iter().map(|block| Block::stack(&config, block)).collect();
        Ok(Self {
            config,
            w_e: weights.w_e,
            w_pos: weights.w_pos,
            blocks,
            ln_final: weights.ln_final,
            w_u: weights.w_u,
            b_u: weights.b_u,
        })
    }

    /// The configuration, which was checked.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// `W_E`, `[V, d]`.
    pub fn w_e(&self) -> ArrayView2<'_, f32> {
        self.w_e.view()
    }

    /// `W_pos`, `[C, d]`, where the position scheme has one.
    pub fn w_pos(&self) -> Option<ArrayView2<'_, f32>> {
        self.w_pos.as_ref().map(|w| w.view())
    }

    /// `W_U`, `[d, V]`.
    pub fn w_u(&self) -> ArrayView2<'_, f32> {
        self.w_u.view()
    }

    /// `b_U`, `[V]`, where the model has one.
    pub fn b_u(&self) -> Option<ArrayView1<'_, f32>> {
        self.b_u.as_ref().map(|b| b.view())
    }

    /// The matrices of one head, as views; [`Head`] has an example.
    ///
    /// # Panics
    /// If the model has no such head: [`ModelConfig::heads`] lists those that there are.
    pub fn head(&self, HeadId { layer, head }: HeadId) -> Head<'_> {
        let (n_heads, d_head) = (self.config.n_heads, self.config.d_head);
        let block = &self.blocks[layer];
        let part = |which: usize| {
            let start = (which * n_heads + head) * d_head;
            block.w_qkv.slice(s![.., start..start + d_head])
        };
        let w_o = block.w_o.slice(s![head * d_head..(head + 1) * d_head, ..]);
        Head { w_q: part(0), w_k: part(1), w_v: part(2), w_o }
    }

    /// The tensors in TransformerLens' shapes.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// let model = notebook.model("random", yaml)?;
    /// let weights = model.to_weights();
    /// assert_eq!(weights.blocks[0].w_v.index_axis(ndarray::Axis(0), 1), model.head(HeadId::new(0, 1)).w_v);
    /// assert!(Transformer::new(model.config().clone(), weights)? == model);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn to_weights(&self) -> Weights {
        Weights {
            w_e: self.w_e.clone(),
            w_pos: self.w_pos.clone(),
            blocks: self.blocks.iter().map(|block| block.unstack(&self.config)).collect(),
            ln_final: self.ln_final.clone(),
            w_u: self.w_u.clone(),
            b_u: self.b_u.clone(),
        }
    }
}

impl Block {
    fn stack(config: &ModelConfig, block: BlockWeights) -> Self {
        let ModelConfig { n_heads, d_model, d_head, .. } = *config;
        let width = n_heads * d_head;
        let mut w_qkv = Array2::zeros((d_model, 3 * width));
        for (which, w) in [&block.w_q, &block.w_k, &block.w_v].into_iter().enumerate() {
            for (head, matrix) in w.axis_iter(Axis(0)).enumerate() {
                let start = which * width + head * d_head;
                w_qkv.slice_mut(s![.., start..start + d_head]).assign(&matrix);
            }
        }
        let biases = [&block.b_q, &block.b_k, &block.b_v];
        let b_qkv = biases.iter().any(|b| b.is_some()).then(|| {
            let mut b_qkv = Array1::zeros(3 * width);
            for (which, bias) in biases.iter().enumerate() {
                if let Some(bias) = bias {
                    let mut place = b_qkv.slice_mut(s![which * width..(which + 1) * width]);
                    place.iter_mut().zip(bias.iter()).for_each(|(to, from)| *to = *from);
                }
            }
            b_qkv
        });
        let w_o = block.w_o.as_standard_layout().into_owned();
        let w_o = w_o.into_shape_with_order((width, d_model)).expect("W_O was checked to be [H, k, d]");
        Self { ln: block.ln, w_qkv, b_qkv, w_o, b_o: block.b_o }
    }

    fn unstack(&self, config: &ModelConfig) -> BlockWeights {
        let ModelConfig { n_heads, d_model, d_head, .. } = *config;
        let input = |which: usize| {
            Array3::from_shape_fn((n_heads, d_model, d_head), |(h, row, column)| {
                self.w_qkv[(row, (which * n_heads + h) * d_head + column)]
            })
        };
        let bias = |which: usize| {
            let b = self.b_qkv.as_ref()?;
            Some(Array2::from_shape_fn((n_heads, d_head), |(h, column)| b[(which * n_heads + h) * d_head + column]))
        };
        BlockWeights {
            ln: self.ln.clone(),
            w_q: input(0),
            w_k: input(1),
            w_v: input(2),
            w_o: Array3::from_shape_fn((n_heads, d_head, d_model), |(h, row, column)| self.w_o[(h * d_head + row, column)]),
            b_q: bias(0),
            b_k: bias(1),
            b_v: bias(2),
            b_o: self.b_o.clone(),
        }
    }
}
