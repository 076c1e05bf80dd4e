use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How the residual stream is normalised before each layer and before the unembedding.
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
    /// Whether the model has a `W_pos`.
    pub fn has_w_pos(&self) -> bool {
        matches!(self.positions, Positions::Standard | Positions::Shortformer)
    }

    /// Number of weights, biases left out; the largest number there is if it is beyond counting.
    pub fn n_params(&self) -> u128 {
        let product = |factors: &[usize]| factors.iter().fold(1u128, |all, &factor| all.saturating_mul(factor as u128));
        let positions = if self.has_w_pos() { product(&[self.n_ctx, self.d_model]) } else { 0 };
        let heads = product(&[4, self.n_layers, self.n_heads, self.d_model, self.d_head]);
        product(&[2, self.d_vocab, self.d_model]).saturating_add(positions).saturating_add(heads)
    }

    /// Checks that the numbers describe a model.
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
    pub fn heads(&self) -> impl Iterator<Item = HeadId> + use<> {
        let n_heads = self.n_heads;
        (0..self.n_layers).flat_map(move |layer| (0..n_heads).map(move |head| HeadId { layer, head }))
    }

    /// Checks that the model has the head.
    ///
    /// # Errors
    /// [`Error::Invalid`] says how many heads there are.
    pub fn check_head(&self, id: HeadId) -> Result<()> {
        if id.layer < self.n_layers && id.head < self.n_heads {
            return Ok(());
        }
        let (layers, heads) = (self.n_layers, self.n_heads);
        Err(Error::invalid(format!("there is no head {id}: the model has {layers} layers of {heads} heads, counted from 0")))
    }

    /// Checks that the model has two heads, and that one can read what the other writes.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadId {
    /// Layer, from 0.
    pub layer: usize,
    /// Head within the layer, from 0.
    pub head: usize,
}

impl HeadId {
    /// Head `head` of layer `layer`.
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

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('.').and_then(|(layer, head)| Some((layer.parse().ok()?, head.parse().ok()?)));
        let (layer, head) =
            parts.ok_or_else(|| Error::invalid(format!("`{text}` is no head: write layer and head as in `0.3`, in quotes")))?;
        Ok(Self { layer, head })
    }
}
