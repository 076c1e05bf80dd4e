use ndarray::{Array3, Array4};

/// What a forward pass keeps. Nothing costs memory that is not asked for.
///
/// ```
/// use attn_circuits::model::Keep;
/// let keep = Keep { patterns: true, logits: true, ..Keep::NOTHING };
/// assert!(!keep.scores);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Attention scores before softmax.
    pub scores: bool,
    /// Attention patterns.
    pub patterns: bool,
    /// Queries, keys and values.
    pub qkv: bool,
    /// Values mixed by the patterns, before `W_O`.
    pub z: bool,
    /// What each head adds to the stream (without `b_O`).
    pub results: bool,
    /// The residual stream before each layer and after the last.
    pub residual: bool,
    /// Logits.
    pub logits: bool,
}

impl Keep {
    /// Nothing.
    pub const NOTHING: Self =
        Self { scores: false, patterns: false, qkv: false, z: false, results: false, residual: false, logits: false };
    /// Everything.
    pub const ALL: Self =
        Self { scores: true, patterns: true, qkv: true, z: true, results: true, residual: true, logits: true };
}

/// What a forward pass kept: one entry a layer (that the pass went through), empty where it was not asked for.
///
/// `b` counts the sequences of this cache, `n` positions.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    /// `[b, H, n, n]` a layer: `[.., destination, source]`; minus infinity where the source is later than the destination.
    pub scores: Vec<Array4<f32>>,
    /// `[b, H, n, n]` a layer; rows sum to 1, zero above the diagonal.
    pub patterns: Vec<Array4<f32>>,
    /// `[b, n, 3·H, k]` a layer: the queries of all heads, then their keys, then their values, positions and biases in them.
    pub qkv: Vec<Array4<f32>>,
    /// `[b, n, H, k]` a layer.
    pub z: Vec<Array4<f32>>,
    /// `[b, n, H, d]` a layer.
    pub results: Vec<Array4<f32>>,
    /// `[b, n, d]`, one more than layers: entry `l` is the stream before layer `l`.
    pub residual: Vec<Array3<f32>>,
    /// `[b, n, V]`.
    pub logits: Option<Array3<f32>>,
}
