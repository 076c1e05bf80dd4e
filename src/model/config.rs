use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How the residual stream is normalised before each layer and before the unembedding.
///
/// A row `x` `[d]` of the stream becomes `(x − m)/√(v + eps)`, `m` being its mean and `v` the mean of `(x − m)²`. With
/// [`Normalization::Ln`] that is multiplied by a weight and added to a bias, `[d]` each. Source: Ba, Kiros and Hinton 2016,
/// "Layer Normalization".
///
/// ```
/// # use attn_circuits::model::{Normalization, Positions};
/// # use attn_circuits::prelude::*;
/// # let config = ModelConfig {
/// #     n_layers: 0, n_heads: 0, d_model: 4, d_head: 0, d_vocab: 4, n_ctx: 8,
/// #     normalization: Normalization::None, eps: 0.0, positions: Positions::None, attn_scale: 1.0,
/// # };
/// let config = ModelConfig { normalization: Normalization::LnPre, eps: 0.0, ..config };
/// // No layers, and `W_E` and `W_U` are the identity: logits are a normalised one-hot vector.
/// # let (w_e, w_u) = (Array2::eye(4), Array2::eye(4));
/// let model = Transformer::new(config, Weights { w_e, w_pos: None, blocks: vec![], ln_final: None, w_u, b_u: None })?;
/// let cache = model.run(&TokenBatch::new(array![[2]], None)?, Keep { logits: true, ..Keep::NOTHING })?;
/// let logits = cache.logits.expect("logits were asked for");
/// // Its mean is 1/4, and its variance 3/16.
/// assert!((logits[[0, 0, 2]] - 3f32.sqrt()).abs() < 1e-6);
/// assert!(logits.sum().abs() < 1e-6);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalization {
    /// Not at all: the stream is linear.
    None,
    /// LayerNorm with learned weight and bias.
    Ln,
    /// LayerNorm without parameters: centre, then divide by the root of the mean square.
    LnPre,
}

/// Where positions enter.
///
/// The shortformer scheme is that of Press, Smith and Lewis 2020, "Shortformer", and of the models of Elhage et al. 2021; the
/// rotary one that of Su et al. 2021, "RoFormer".
///
/// ```
/// # use attn_circuits::model::Positions;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let yaml = "{ kind: random, layers: 1, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
///     positions: rotary }";
/// let model = notebook.model("random", yaml)?;
/// assert_eq!(model.config().positions, Positions::Rotary { dim: 4, base: 10_000.0, adjacent_pairs: false });
/// // Where all tokens are the same, rotary scores depend on the distance alone.
/// let same = TokenBatch::new(Array2::from_elem((1, 9), 3), None)?;
/// let scores = &model.run(&same, Keep { scores: true, ..Keep::NOTHING })?.scores[0];
/// assert!((scores[[0, 1, 8, 5]] - scores[[0, 1, 3, 0]]).abs() < 1e-5);
/// assert!((scores[[0, 1, 8, 5]] - scores[[0, 1, 8, 6]]).abs() > 1e-5);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// Nowhere.
    None,
    /// `W_pos` is added to the embedding.
    Standard,
    /// `W_pos` is added to the input of queries and keys only, never to values or the stream.
    Shortformer,
    /// Queries and keys are rotated by an angle proportional to the position.
    Rotary {
        /// How many of the `d_head` coordinates are rotated; even.
        dim: usize,
        /// The angle of pair `i` is `position · base^(−2i/dim)`.
        base: f64,
        /// Pairs are `(2i, 2i + 1)` instead of `(i, i + dim/2)`.
        adjacent_pairs: bool,
    },
}

/// The shape and the options of an attention-only transformer, in TransformerLens' names.
///
/// ```
/// use attn_circuits::model::{ModelConfig, Normalization, Positions};
/// let config = ModelConfig {
///     n_layers: 2, n_heads: 4, d_model: 64, d_head: 16, d_vocab: 33, n_ctx: 61,
///     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 4.0,
/// };
/// config.check()?;
/// assert_eq!(config.to_string(), "2 layers × 4 heads, d_model 64, d_head 16, vocabulary 33, context 61");
/// assert!(config.has_w_pos());
/// // Options that are not the plain ones are named.
/// let rotary = Positions::Rotary { dim: 16, base: 10_000.0, adjacent_pairs: false };
/// let config = ModelConfig { positions: rotary, normalization: Normalization::LnPre, ..config };
/// assert!(config.to_string().ends_with("rotary positions, LayerNorm without weights") && !config.has_w_pos());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Number of layers `L`; 0 is a bigram model.
    pub n_layers: usize,
    /// Heads per layer `H`.
    pub n_heads: usize,
    /// Width of the residual stream `d`.
    pub d_model: usize,
    /// Width of a head `k`; `H·k` need not be `d`.
    pub d_head: usize,
    /// Vocabulary size `V`.
    pub d_vocab: usize,
    /// Longest context `C`.
    pub n_ctx: usize,
    /// Normalisation of the stream.
    pub normalization: Normalization,
    /// Added to the variance in the normalisation.
    pub eps: f64,
    /// Position scheme.
    pub positions: Positions,
    /// Attention scores are divided by this; `√d_head` unless a file says otherwise.
    pub attn_scale: f64,
}

impl ModelConfig {
    /// Whether the model has a `W_pos`, `[C, d]`: with standard and shortformer positions.
    pub fn has_w_pos(&self) -> bool {
        matches!(self.positions, Positions::Standard | Positions::Shortformer)
    }

    /// Number of weights, `2Vd + 4LHdk` and with a `W_pos` `Cd`; biases and LayerNorms are left out. The largest number there is
    /// if it is beyond counting.
    ///
    /// ```
    /// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
    /// # let config = ModelConfig {
    /// #     n_layers: 2, n_heads: 4, d_model: 64, d_head: 16, d_vocab: 33, n_ctx: 61,
    /// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 4.0,
    /// # };
    /// // Embedding and unembedding, positions, and four matrices for each head.
    /// assert_eq!(config.n_params(), 2 * 33 * 64 + 61 * 64 + 4 * (2 * 4) * 64 * 16);
    /// let absurd = ModelConfig { d_model: usize::MAX, d_vocab: usize::MAX, ..config };
    /// assert_eq!(absurd.n_params(), u128::MAX);
    /// ```
    pub fn n_params(&self) -> u128 {
        let product = |factors: &[usize]| factors.iter().fold(1u128, |all, &factor| all.saturating_mul(factor as u128));
        let positions = if self.has_w_pos() { product(&[self.n_ctx, self.d_model]) } else { 0 };
        let heads = product(&[4, self.n_layers, self.n_heads, self.d_model, self.d_head]);
        product(&[2, self.d_vocab, self.d_model]).saturating_add(positions).saturating_add(heads)
    }

    /// Checks that the numbers describe a model.
    ///
    /// ```
    /// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
    /// # let config = ModelConfig {
    /// #     n_layers: 2, n_heads: 4, d_model: 64, d_head: 16, d_vocab: 33, n_ctx: 61,
    /// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 4.0,
    /// # };
    /// # use attn_circuits::Error;
    /// let positions = Positions::Rotary { dim: 5, base: 10_000.0, adjacent_pairs: false };
    /// let Err(Error::Invalid(text)) = (ModelConfig { positions, ..config.clone() }).check() else { panic!("5 is odd") };
    /// assert_eq!(text, "rotary_dim must be even and at most d_head = 16, not 5");
    /// // Without layers, heads do not matter.
    /// assert!((ModelConfig { n_heads: 0, ..config.clone() }).check().is_err());
    /// (ModelConfig { n_layers: 0, n_heads: 0, ..config }).check()?;
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the first field that is wrong.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("d_model", self.d_model), ("d_vocab", self.d_vocab), ("n_ctx", self.n_ctx)] {
            if value == 0 {
                return Err(Error::invalid(format!("{name} must be at least 1")));
            }
        }
        if self.n_layers > 0 && (self.n_heads == 0 || self.d_head == 0) {
            return Err(Error::invalid("a model with layers needs n_heads and d_head of at least 1"));
        }
        if !(self.attn_scale.is_finite() && self.attn_scale > 0.0) {
            return Err(Error::invalid(format!("attn_scale must be positive, not {}", self.attn_scale)));
        }
        if !(self.eps.is_finite() && self.eps >= 0.0) {
            return Err(Error::invalid(format!("eps must not be negative, and is {}", self.eps)));
        }
        if let Positions::Rotary { dim, base, .. } = self.positions {
            if dim % 2 == 1 || dim > self.d_head {
                let text = format!("rotary_dim must be even and at most d_head = {}, not {dim}", self.d_head);
                return Err(Error::invalid(text));
            }
            if !(base.is_finite() && base > 0.0) {
                return Err(Error::invalid(format!("rotary_base must be positive, not {base}")));
            }
        }
        Ok(())
    }
}

impl ModelConfig {
    /// Every head, layer by layer.
    ///
    /// ```
    /// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
    /// # let config = ModelConfig {
    /// #     n_layers: 2, n_heads: 4, d_model: 64, d_head: 16, d_vocab: 33, n_ctx: 61,
    /// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 4.0,
    /// # };
    /// let heads: Vec<String> = config.heads().map(|head| head.to_string()).collect();
    /// assert_eq!(heads, ["0.0", "0.1", "0.2", "0.3", "1.0", "1.1", "1.2", "1.3"]);
    /// assert_eq!(ModelConfig { n_layers: 0, ..config }.heads().count(), 0);
    /// ```
    pub fn heads(&self) -> impl Iterator<Item = HeadId> + use<> {
        let n_heads = self.n_heads;
        (0..self.n_layers).flat_map(move |layer| (0..n_heads).map(move |head| HeadId { layer, head }))
    }

    /// Checks that the model has the head.
    ///
    /// ```
    /// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
    /// # let config = ModelConfig {
    /// #     n_layers: 2, n_heads: 4, d_model: 64, d_head: 16, d_vocab: 33, n_ctx: 61,
    /// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 4.0,
    /// # };
    /// # use attn_circuits::model::HeadId;
    /// config.check_head(HeadId::new(1, 3))?;
    /// let error = config.check_head(HeadId::new(2, 0)).map_err(|error| error.to_string());
    /// assert_eq!(error, Err("there is no head 2.0: the model has 2 layers of 4 heads, counted from 0".to_string()));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has not, with the number of those that there are.
    pub fn check_head(&self, id: HeadId) -> Result<()> {
        if id.layer < self.n_layers && id.head < self.n_heads {
            return Ok(());
        }
        let (layers, heads) = (self.n_layers, self.n_heads);
        Err(Error::invalid(format!("there is no head {id}: the model has {layers} layers of {heads} heads, counted from 0")))
    }

    /// Checks that the model has two heads, and that one can read what the other writes.
    ///
    /// ```
    /// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
    /// # let config = ModelConfig {
    /// #     n_layers: 2, n_heads: 4, d_model: 64, d_head: 16, d_vocab: 33, n_ctx: 61,
    /// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 4.0,
    /// # };
    /// # use attn_circuits::model::HeadId;
    /// let (previous, induction) = (HeadId::new(0, 0), HeadId::new(1, 0));
    /// config.check_edge(previous, induction)?;
    /// assert!(config.check_edge(induction, previous).is_err());
    /// // Heads of one layer are parallel: they read the same stream.
    /// assert!(config.check_edge(previous, HeadId::new(0, 1)).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if one is not there, or `to` is in no later layer than `from`.
    pub fn check_edge(&self, from: HeadId, to: HeadId) -> Result<()> {
        self.check_head(from)?;
        self.check_head(to)?;
        if from.layer < to.layer {
            return Ok(());
        }
        Err(Error::invalid(format!("head {to} does not read what {from} writes: it is in no later layer")))
    }
}

impl fmt::Display for ModelConfig {
    /// `2 layers × 4 heads, d_model 64, d_head 16, vocabulary 33, context 61`, and the options that are not the plain ones.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { n_layers, n_heads, d_model, d_head, d_vocab, n_ctx, .. } = self;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        match n_layers {
            0 => write!(f, "no layers, d_model {d_model}")?,
            _ => {
                let (s, t) = (plural(*n_layers), plural(*n_heads));
                write!(f, "{n_layers} layer{s} × {n_heads} head{t}, d_model {d_model}, d_head {d_head}")?;
            }
        }
        write!(f, ", vocabulary {d_vocab}, context {n_ctx}")?;
        match self.positions {
            Positions::None => write!(f, ", no positions")?,
            Positions::Standard => {}
            Positions::Shortformer => write!(f, ", shortformer positions")?,
            Positions::Rotary { .. } => write!(f, ", rotary positions")?,
        }
        match self.normalization {
            Normalization::None => Ok(()),
            Normalization::Ln => write!(f, ", LayerNorm"),
            Normalization::LnPre => write!(f, ", LayerNorm without weights"),
        }
    }
}

/// A head by layer and place, written `0.3`: layer 0, head 3.
///
/// ```
/// use attn_circuits::model::HeadId;
/// let head: HeadId = "1.3".parse()?;
/// assert_eq!((head.layer, head.head), (1, 3));
/// assert_eq!(head, HeadId::new(1, 3));
/// assert_eq!(head.to_string(), "1.3");
/// // Ordered by layer, then by place.
/// assert!(HeadId::new(0, 11) < head);
/// assert!("3".parse::<HeadId>().is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadId {
    /// Layer, from 0.
    pub layer: usize,
    /// Head within the layer, from 0.
    pub head: usize,
}

impl HeadId {
    /// Head `head` of layer `layer`, both counted from 0. Any numbers will do: [`ModelConfig::check_head`] says whether a model
    /// has it.
    pub fn new(layer: usize, head: usize) -> Self {
        Self { layer, head }
    }
}

impl fmt::Display for HeadId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}.{}", self.layer, self.head)
    }
}

impl FromStr for HeadId {
    type Err = Error;

    /// Reads layer and head, as in `0.3`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else.
    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('.').and_then(|(layer, head)| Some((layer.parse().ok()?, head.parse().ok()?)));
        let (layer, head) =
            parts.ok_or_else(|| Error::invalid(format!("`{text}` is no head: write layer and head as in `0.3`, in quotes")))?;
        Ok(Self { layer, head })
    }
}
