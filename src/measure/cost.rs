//! What tables cost, estimated before a run from sizes alone.

use crate::input::InputShape;
use crate::model::intervention::Pass;
use crate::model::{Keep, ModelConfig, Normalization};

/// What one model's table costs, estimated before the run.
///
/// ```
/// # use attn_circuits::prelude::*;
/// use attn_circuits::input::InputShape;
/// use attn_circuits::kind::parsed;
/// use attn_circuits::measure::Attention;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let measure: Attention = parsed(serde_json::json!({ "sequences": [0, 1] }))?;
/// let cost = measure.cost(model.config(), Some(&InputShape::of(&tokens)));
/// // For two heads and two sequences, each pair of a position and one that is not later.
/// assert_eq!(cost.rows, 2 * 2 * (13 * 14 / 2));
/// assert_eq!(cost.rows, measure.compute(&Subject::new(&model, Some(&tokens)))?.height());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Rows of the table.
    pub rows: usize,
    /// Bytes held while computing.
    pub bytes: usize,
}

/// Bytes of as many numbers as the factors say; the largest number there is if they are beyond counting.
pub(super) fn bytes_of<T>(factors: &[usize]) -> usize {
    factors.iter().fold(size_of::<T>(), |bytes, &factor| bytes.saturating_mul(factor))
}

/// Bytes of a forward pass that keeps `keep` of all sequences of `input`.
pub(super) fn pass_bytes(model: &ModelConfig, input: &InputShape, keep: Keep) -> usize {
    let (layers, heads, n) = (model.n_layers, model.n_heads, input.length);
    let kept = [
        (true, bytes_of::<f32>(&[3, heads, model.d_head, n])),
        (keep.scores, bytes_of::<f32>(&[layers, heads, n, n])),
        (keep.patterns, bytes_of::<f32>(&[layers, heads, n, n])),
        (keep.qkv, bytes_of::<f32>(&[layers, 3, heads, model.d_head, n])),
        (keep.z, bytes_of::<f32>(&[layers, heads, model.d_head, n])),
        (keep.results, bytes_of::<f32>(&[layers, heads, model.d_model, n])),
        (keep.residual, bytes_of::<f32>(&[layers.saturating_add(1), model.d_model, n])),
        (keep.logits, bytes_of::<f32>(&[model.d_vocab, n])),
    ];
    let sequence = kept.iter().filter(|(kept, _)| *kept).fold(0usize, |sum, (_, bytes)| sum.saturating_add(*bytes));
    sequence.saturating_mul(input.sequences)
}

/// Sequences of the chunks that are worked on at the same time.
fn sequences_at_once(input: &InputShape) -> usize {
    let at_once = crate::model::chunk_sequences(input.length).saturating_mul(rayon::current_num_threads());
    input.sequences.min(at_once)
}

/// Positions of the chunks that are worked on at the same time.
pub(super) fn positions_at_once(input: Option<&InputShape>) -> usize {
    input.map_or(0, |input| sequences_at_once(input).saturating_mul(input.length))
}

/// Bytes of the chunks that are worked on at the same time, with patterns, `z`, the stream and logits kept.
pub(super) fn chunk_bytes(model: &ModelConfig, input: Option<&InputShape>) -> usize {
    let Some(input) = input else { return 0 };
    let keep = Keep { patterns: true, z: true, residual: true, logits: true, ..Keep::NOTHING };
    pass_bytes(model, &InputShape { sequences: sequences_at_once(input), ..*input }, keep)
}

/// Bytes of a sweep of interventions: the chunks that are worked on at the same time, as many runs beside the clean one as
/// `others` says, a run under intervention and a sum for the means for each thread, and what comes out.
pub(super) fn sweep_bytes(
    model: &ModelConfig,
    input: Option<&InputShape>,
    others: usize,
    interventions: usize,
    groups: usize,
) -> usize {
    let Some(input) = input else { return 0 };
    let chunks = InputShape { sequences: sequences_at_once(input), ..*input };
    let clean = pass_bytes(model, &chunks, Pass::KEEP);
    let other = pass_bytes(model, &chunks, Keep { residual: false, logits: false, ..Pass::KEEP }).saturating_mul(others);
    let width = model.n_heads.saturating_mul(model.d_head).saturating_mul(6).saturating_add(model.d_model.saturating_mul(4));
    let threads = rayon::current_num_threads();
    // Each thread has a chunk under one intervention, and perhaps a pattern that is replaced.
    let (n, chunk) = (input.length, crate::model::chunk_sequences(input.length).min(input.sequences));
    let one = bytes_of::<f32>(&[threads, chunk, n, width.saturating_add(n)]);
    let means = bytes_of::<f64>(&[threads.saturating_add(1), model.n_layers, n, model.n_heads, model.d_head]);
    let logits = bytes_of::<f32>(&[threads, model.d_vocab, model.d_head.saturating_add(crate::model::LEAST_ROWS_OF_LOGITS)]);
    let readout = bytes_of::<f32>(&[model.n_heads, model.d_head, model.d_vocab]);
    let outcomes = bytes_of::<f64>(&[3, interventions.saturating_add(1), input.sequences, groups]);
    [clean, other, one, means, logits, readout, outcomes].into_iter().fold(0, usize::saturating_add)
}

/// Bytes of the matrices that read from the stream, into which a frozen run folds the LayerNorms before them.
pub(super) fn folded_weights(model: &ModelConfig) -> usize {
    if model.normalization == Normalization::None {
        return 0;
    }
    let heads = model.n_layers.saturating_mul(model.n_heads).saturating_mul(model.d_head).saturating_mul(3);
    heads.saturating_add(model.d_vocab).saturating_mul(model.d_model).saturating_mul(size_of::<f32>())
}
