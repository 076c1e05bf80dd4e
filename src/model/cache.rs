use ndarray::{Array3, Array4};

/// What a forward pass keeps. Nothing costs memory that is not asked for.
///
/// ```
/// use attn_circuits::model::Keep;
/// let keep = Keep { patterns: true, logits: true, ..Keep::NOTHING };
/// assert!(keep.patterns && !keep.scores);
/// assert!(Keep::ALL.scores);
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
///
/// What each head adds to the stream is in [`Cache::results`], so that a run can be taken apart:
///
/// ```
/// # use attn_circuits::prelude::*;
/// # use ndarray::Axis;
/// # let mut notebook = Notebook::new("example")?;
/// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
/// let model = notebook.model("random", yaml)?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let cache = model.run(&tokens, Keep::ALL)?;
/// let (b, n, d) = (4, 13, 16);
/// assert_eq!((cache.scores[0].dim(), cache.patterns[1].dim()), ((b, 2, n, n), (b, 2, n, n)));
/// assert_eq!((cache.qkv[0].dim(), cache.z[0].dim(), cache.results[0].dim()), ((b, n, 6, 4), (b, n, 2, 4), (b, n, 2, d)));
/// assert_eq!((cache.residual.len(), cache.residual[2].dim()), (3, (b, n, d)));
/// // A layer adds what its heads write (and `b_O`, where there is one).
/// let after = &cache.residual[0] + &cache.results[0].sum_axis(Axis(2));
/// assert!((after - &cache.residual[1]).iter().all(|off| off.abs() < 1e-5));
/// // Attention is to all sources together 1, and to those that come later 0.
/// assert!((cache.patterns[0].sum_axis(Axis(3)) - 1.0).iter().all(|off| off.abs() < 1e-5));
/// assert_eq!((cache.patterns[0][[0, 0, 2, 3]], cache.scores[0][[0, 0, 2, 3]]), (0.0, f32::NEG_INFINITY));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
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
