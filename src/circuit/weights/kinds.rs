//! Which circuits there are, and how large.

use crate::model::{HeadId, ModelConfig};

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
