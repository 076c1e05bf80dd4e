//! Which circuits there are, and how large.

use crate::model::{HeadId, ModelConfig};

/// A circuit of a model.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let (from, to) = (HeadId::new(0, 0), HeadId::new(1, 0));
/// let matching = Circuit::KComposition { from, to };
/// assert!(matching.is_over_tokens() && !Circuit::Qk(to).is_over_tokens());
/// assert_eq!(matching.heads(), (Some(to), Some(from)));
/// // The pair scores 20 where the token before is the one here, whatever it is, and 0 elsewhere.
/// let scores = Circuits::new(&model).low_rank(matching)?.dense() / model.config().attn_scale;
/// assert!((scores - Array2::<f64>::eye(13) * 20.0).iter().all(|error| error.abs() < 1e-4));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
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
pub(super) enum Ends {
    /// Nothing: it maps vectors of the stream to vectors of the stream.
    Stream,
    /// `W_E … W_U`: from tokens to logits.
    Logits,
    /// `W_E … W_Eᵀ`: from tokens to tokens.
    Tokens,
}

impl Circuit {
    pub(super) fn ends(self) -> Ends {
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

/// How many numbers a circuit is; see [`size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// As two factors.
    pub factored: usize,
    /// As one matrix.
    pub expanded: usize,
}

/// The size of a circuit as a low-rank product (`2 V k` over tokens, `2 V d` of the direct path, `2 d k` between vectors of the
/// stream) and multiplied out (`V²` or `d²`). It is also the number of multiply-adds that it takes to send one vector through it.
/// Beyond what can be counted it is the largest number there is.
///
/// ```
/// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
/// use attn_circuits::circuit::weights::{Circuit, size};
/// use attn_circuits::model::HeadId;
/// let config = ModelConfig {
///     n_layers: 12, n_heads: 12, d_model: 768, d_head: 64, d_vocab: 50257, n_ctx: 1024,
///     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 8.0,
/// };
/// // Of a model like GPT-2 small: what a head raises for each token, as two factors of 64 columns and as a table.
/// let table = size(&config, Circuit::FullOv(HeadId::new(0, 0)));
/// assert_eq!((table.factored, table.expanded), (2 * 50257 * 64, 50257 * 50257));
/// let stream = size(&config, Circuit::Ov(HeadId::new(0, 0)));
/// assert_eq!((stream.factored, stream.expanded), (2 * 768 * 64, 768 * 768));
/// ```
pub fn size(model: &ModelConfig, circuit: Circuit) -> Size {
    let (width, inner) = match circuit {
        Circuit::Direct => (model.d_vocab, model.d_model),
        circuit if circuit.is_over_tokens() => (model.d_vocab, model.d_head),
        _ => (model.d_model, model.d_head),
    };
    Size { factored: width.saturating_mul(2).saturating_mul(inner), expanded: width.saturating_mul(width) }
}
