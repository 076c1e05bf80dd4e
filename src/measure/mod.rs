//! Measures: what a `measure:` cell computes, one file each.

mod ablation;
mod activation_patching;
mod attention;
mod bigrams;
mod circuit_size;
mod circuit_table;
mod circuits;
mod closed_forms;
mod columns;
mod composition;
mod composition_components;
mod copying;
mod detection;
mod eigenvalues;
mod eigenvectors;
mod head_scores;
mod logit_attribution;
mod logits;
mod loss;
mod path_patching;
mod paths;
mod principal_angles;
mod score_paths;
mod scores;
mod singular_values;
mod skip_trigram_rank;
mod skip_trigrams;
mod term_importance;
mod token_swap;
mod virtual_heads;

pub use ablation::Ablation;
pub use activation_patching::ActivationPatching;
pub use attention::Attention;
pub use bigrams::Bigrams;
pub use circuit_size::CircuitSize;
pub use circuit_table::CircuitTable;
pub use closed_forms::ClosedForms;
pub use composition::Composition;
pub use composition_components::CompositionComponents;
pub use copying::Copying;
pub use detection::Detection;
pub use eigenvalues::Eigenvalues;
pub use eigenvectors::Eigenvectors;
pub use head_scores::HeadScores;
pub use logit_attribution::LogitAttribution;
pub use logits::Logits;
pub use loss::Loss;
pub use path_patching::PathPatching;
pub use paths::Paths;
pub use principal_angles::PrincipalAngles;
pub use score_paths::ScorePaths;
pub use singular_values::SingularValues;
pub use skip_trigram_rank::SkipTrigramRank;
pub use skip_trigrams::SkipTrigrams;
pub use term_importance::TermImportance;
pub use token_swap::TokenSwap;
pub use virtual_heads::VirtualHeads;

use crate::input::{InputShape, TokenBatch};
use crate::kind;
use crate::kind::Kind;
use crate::model::build::ModelKind;
use crate::model::intervention::Pass;
use crate::model::{Keep, ModelConfig, Normalization, Transformer};
use crate::stream::Stream;
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema};
use std::fmt::Debug;

/// The checked parameters of a measure.
///
/// A measure sees one model and one input at a time; the runner adds the key columns (`model`, swept parameters, `replicate`) in
/// front and stacks the tables.
pub trait Measure: Send + Sync + Debug {
    /// Columns after the keys, in order. Known without computing, so that queries are checked before the run.
    fn columns(&self) -> Schema;

    /// Whether the measure reads an input; if not, naming one is an error.
    fn needs_input(&self) -> bool;

    /// Further inputs of the experiment that parameters name: only of measures that need an input. They are drawn for the same
    /// vocabulary, and [`Subject::other`] and [`Subject::counterpart`] give them out.
    fn other_inputs(&self) -> Vec<OtherInput<'_>> {
        Vec::new()
    }

    /// Checks the parameters against a model and an input, before anything is computed.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`], in words that stand alone: "there is no head 3.1: the model has 2 layers of 4 heads".
    fn check(&self, model: &ModelConfig, input: Option<&InputShape>) -> Result<()> {
        let _ = (model, input);
        Ok(())
    }

    /// Number of rows for one model, and the largest number of bytes that computing them holds beside model and input: an
    /// estimate for planning. Inputs and weights are counted elsewhere.
    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost;

    /// Computes the table of one model: the columns of [`Measure::columns`], its rows in an order that is the measure's own and
    /// always the same. The runner keeps it. As a rule the leading columns ascend, with nulls first; paths and sources do not stand
    /// in the order of their texts, but shorter ones first, and as they follow in the model.
    ///
    /// # Errors
    /// Whatever the parameters and the model do not allow.
    fn compute(&self, subject: &Subject) -> Result<DataFrame>;
}

/// An input that a parameter of a measure names, beside the cell's `input`. Its sequences are as long as those of `input`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherInput<'a> {
    /// The parameter, `corrupted`.
    pub parameter: &'static str,
    /// The name that it gives.
    pub name: &'a str,
    /// Whether there must be as many sequences as in `input`, since each is the counterpart of one there.
    pub same_sequences: bool,
}

/// What a measure looks at: one model, and what belongs to it.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Transformer,
    /// The tokens that it reads, for a measure that needs an input.
    pub input: Option<&'a TokenBatch>,
    /// The tokens of the [`OtherInput`]s, each with its parameter.
    pub others: Vec<(&'a str, &'a TokenBatch)>,
    /// The parameters that the model was built from, where they are known: theory starts from them.
    pub origin: Option<&'a dyn ModelKind>,
    /// The stream of the measure's own random draws: one for each cell, the same for all its models.
    pub stream: Stream,
}

impl<'a> Subject<'a> {
    /// A model that is measured outside of an experiment.
    pub fn new(model: &'a Transformer, input: Option<&'a TokenBatch>) -> Self {
        Self { model, input, others: Vec::new(), origin: None, stream: Stream::new(0) }
    }

    /// The same with the input that a parameter of the measure names, whatever its name.
    ///
    /// ```
    /// use attn_circuits::input::{Recipe, TokenBatch};
    /// use attn_circuits::measure::Subject;
    /// use attn_circuits::stream::Stream;
    /// # use attn_circuits::model::build::{BuildContext, MODELS};
    /// # let parameters = serde_json::json!({ "layers": 1, "heads": 1, "d_model": 4, "vocab": 9, "context": 5 });
    /// # let random = MODELS.iter().find(|kind| kind.name == "random").unwrap();
    /// # let context = BuildContext { base: "".as_ref(), stream: Stream::new(1) };
    /// # let model = (random.parse)(parameters).unwrap().build(&context)?;
    /// let clean = TokenBatch::new(ndarray::array![[0, 5, 3, 5, 3]], None)?;
    /// let corrupted = Recipe::OtherTokens.apply(&clean, model.config().d_vocab, &Stream::new(2021))?;
    ///
    /// let subject = Subject::new(&model, Some(&clean)).with("corrupted", &corrupted);
    /// assert_eq!(subject.counterpart("corrupted")?, &corrupted);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    #[must_use]
    pub fn with(mut self, parameter: &'a str, batch: &'a TokenBatch) -> Self {
        self.others.retain(|(taken, _)| *taken != parameter);
        self.others.push((parameter, batch));
        self
    }

    /// The input that a parameter of the measure names ([`Measure::other_inputs`]).
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, or its sequences are not as long as those of [`Subject::input`].
    pub fn other(&self, parameter: &str) -> Result<&'a TokenBatch> {
        let found = self.others.iter().find(|(of, _)| *of == parameter).map(|(_, batch)| *batch);
        let other = found.ok_or_else(|| Error::invalid(format!("this measure needs an input for its `{parameter}`")))?;
        match self.input.map(TokenBatch::length) {
            Some(length) if length != other.length() => {
                let found = other.length();
                Err(Error::invalid(format!(
                    "the input for `{parameter}` has sequences of {found} tokens, but `input` of {length}"
                )))
            }
            _ => Ok(other),
        }
    }

    /// [`Subject::other`] where each sequence is the counterpart of the one at the same place in [`Subject::input`].
    ///
    /// # Errors
    /// Those of [`Subject::other`]; [`Error::Invalid`] if there are not as many sequences.
    pub fn counterpart(&self, parameter: &str) -> Result<&'a TokenBatch> {
        let other = self.other(parameter)?;
        match self.input.map(TokenBatch::sequences) {
            Some(sequences) if sequences != other.sequences() => {
                let found = other.sequences();
                Err(Error::invalid(format!("the input for `{parameter}` has {found} sequences, but `input` has {sequences}")))
            }
            _ => Ok(other),
        }
    }

    /// The input of a measure that needs one.
    fn required_input(&self) -> Result<&'a TokenBatch> {
        self.input.ok_or_else(|| Error::invalid("this measure needs an input"))
    }
}

/// What one model's table costs, estimated before the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Rows of the table.
    pub rows: usize,
    /// Bytes held while computing.
    pub bytes: usize,
}

/// All measures.
pub static MEASURES: &[Kind<dyn Measure>] = &[
    kind!(dyn Measure, Ablation),
    kind!(dyn Measure, ActivationPatching),
    kind!(dyn Measure, Attention),
    kind!(dyn Measure, Bigrams),
    kind!(dyn Measure, CircuitSize),
    kind!(dyn Measure, CircuitTable),
    kind!(dyn Measure, ClosedForms),
    kind!(dyn Measure, Composition),
    kind!(dyn Measure, CompositionComponents),
    kind!(dyn Measure, Copying),
    kind!(dyn Measure, Detection),
    kind!(dyn Measure, Eigenvalues),
    kind!(dyn Measure, Eigenvectors),
    kind!(dyn Measure, HeadScores),
    kind!(dyn Measure, LogitAttribution),
    kind!(dyn Measure, Logits),
    kind!(dyn Measure, Loss),
    kind!(dyn Measure, PathPatching),
    kind!(dyn Measure, Paths),
    kind!(dyn Measure, PrincipalAngles),
    kind!(dyn Measure, ScorePaths),
    kind!(dyn Measure, SingularValues),
    kind!(dyn Measure, SkipTrigramRank),
    kind!(dyn Measure, SkipTrigrams),
    kind!(dyn Measure, TermImportance),
    kind!(dyn Measure, TokenSwap),
    kind!(dyn Measure, VirtualHeads),
];

/// Bytes of as many numbers as the factors say; the largest number there is if they are beyond counting.
fn bytes_of<T>(factors: &[usize]) -> usize {
    factors.iter().fold(size_of::<T>(), |bytes, &factor| bytes.saturating_mul(factor))
}

/// Bytes of a forward pass that keeps `keep` of all sequences of `input`.
fn pass_bytes(model: &ModelConfig, input: &InputShape, keep: Keep) -> usize {
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
fn positions_at_once(input: Option<&InputShape>) -> usize {
    input.map_or(0, |input| sequences_at_once(input).saturating_mul(input.length))
}

/// Bytes of the chunks that are worked on at the same time, with patterns, `z`, the stream and logits kept.
fn chunk_bytes(model: &ModelConfig, input: Option<&InputShape>) -> usize {
    let Some(input) = input else { return 0 };
    let keep = Keep { patterns: true, z: true, residual: true, logits: true, ..Keep::NOTHING };
    pass_bytes(model, &InputShape { sequences: sequences_at_once(input), ..*input }, keep)
}

/// Bytes of a sweep of interventions: the chunks that are worked on at the same time, as many runs beside the clean one as `others`
/// says, a run under intervention and a sum for the means for each thread, and what comes out.
fn sweep_bytes(model: &ModelConfig, input: Option<&InputShape>, others: usize, interventions: usize, groups: usize) -> usize {
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
fn folded_weights(model: &ModelConfig) -> usize {
    if model.normalization == Normalization::None {
        return 0;
    }
    let heads = model.n_layers.saturating_mul(model.n_heads).saturating_mul(model.d_head).saturating_mul(3);
    heads.saturating_add(model.d_vocab).saturating_mul(model.d_model).saturating_mul(size_of::<f32>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Positions;
    use serde_json::{Value, json};

    fn parsed(name: &str, parameters: Value) -> Box<dyn Measure> {
        (Kind::find(MEASURES, name).unwrap().parse)(parameters).unwrap()
    }

    fn config([n_layers, n_heads, d_model, d_head, d_vocab, n_ctx]: [usize; 6]) -> ModelConfig {
        let (normalization, positions) = (Normalization::LnPre, Positions::Standard);
        ModelConfig { n_layers, n_heads, d_model, d_head, d_vocab, n_ctx, normalization, eps: 1e-5, positions, attn_scale: 1.0 }
    }

    /// Each with its default parameters.
    fn measures() -> impl Iterator<Item = (&'static str, Box<dyn Measure>)> {
        MEASURES.iter().map(|kind| (kind.name, (kind.parse)(json!({})).unwrap()))
    }

    /// The estimate is made of whatever sizes a file asks for: it is what finds out that they are too large.
    #[test]
    fn what_is_beyond_counting_is_checked_and_costed_without_a_panic() {
        const HUGE: [usize; 3] = [usize::MAX, 1 << 63, 1 << 32];
        for huge in HUGE {
            // One number huge, all but one, all.
            let single = (0..6).map(|which| std::array::from_fn(|i| if i == which { huge } else { 2 }));
            let others = (0..6).map(|which| std::array::from_fn(|i| if i == which { 2 } else { huge }));
            for sizes in single.chain(others).chain([[huge; 6], [0, 1, 5, 5, 5, huge]]) {
                let model = config(sizes);
                let repeats = crate::batch::Repeats { start: 1, period: huge, count: huge };
                let (repeats, min_vocab, max_vocab) = (Some(repeats), huge, None);
                let shape = |sequences, length| InputShape { sequences, length, repeats, min_vocab, max_vocab };
                for input in [None, Some(shape(huge, 2)), Some(shape(2, huge)), Some(shape(huge, huge))] {
                    for (name, measure) in measures() {
                        // Neither does it list what there is too much of. Some refuse what is too large.
                        let _ = measure.check(&model, input.as_ref());
                        let cost = measure.cost(&model, input.as_ref());
                        let all = sizes == [huge; 6] && input.is_some_and(|input| input.length == huge);
                        assert!(!all || cost.bytes > 1 << 40, "{name}: {cost:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_inputs_are_as_long_and_counterparts_as_many() {
        let builder = Kind::find(crate::model::build::MODELS, "random").unwrap().parse;
        let builder = builder(json!({ "layers": 0, "heads": 1, "d_model": 1, "vocab": 3, "context": 9 })).unwrap();
        let context = crate::model::build::BuildContext { base: std::path::Path::new(""), stream: Stream::new(1) };
        let model = builder.build(&context).unwrap();
        let batch = |sequences, length| TokenBatch::new(ndarray::Array2::zeros((sequences, length)), None).unwrap();
        let (input, same, more, longer) = (batch(2, 3), batch(2, 3), batch(5, 3), batch(2, 4));
        let subject =
            Subject::new(&model, Some(&input)).with("a", &longer).with("a", &same).with("b", &more).with("c", &longer);
        assert!(std::ptr::eq(subject.counterpart("a").unwrap(), &same));
        assert!(std::ptr::eq(subject.other("b").unwrap(), &more));
        let error = |result: Result<&TokenBatch>| result.unwrap_err().to_string();
        assert_eq!(error(subject.counterpart("b")), "the input for `b` has 5 sequences, but `input` has 2");
        assert_eq!(error(subject.other("c")), "the input for `c` has sequences of 4 tokens, but `input` of 3");
        assert_eq!(error(subject.other("d")), "this measure needs an input for its `d`");
    }

    #[test]
    fn a_chain_costs_its_table_and_other_models_do_not() {
        let measure = parsed("closed_forms", json!({}));
        let table = |layers, vocab: usize| measure.cost(&config([layers, 1, 5, 5, vocab, 9]), None).bytes >= vocab * vocab * 64;
        assert!(table(0, 4096));
        // Chains end there.
        assert!(!table(0, 4097));
        assert!(!table(1, 4096));
    }
}
