//! Measures: what a `measure:` cell computes, one file each.
//!
//! A measure is the parameters of such a cell. It can be computed outside of an experiment, too:
//!
//! ```
//! # use attn_circuits::prelude::*;
//! use attn_circuits::measure::Composition;
//! # let mut notebook = Notebook::new("example")?;
//! let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
//! let table = Composition {}.compute(&Subject::new(&model, None))?;
//!
//! // One pair of heads, and three channels: the induction head reads the previous-token head by its keys alone.
//! assert_eq!(table.height(), 3);
//! assert!((table.column("score")?.f64()?.max().unwrap_or(0.0) - 1.0 / 13f64.sqrt()).abs() < 1e-6);
//! # Ok::<(), attn_circuits::Error>(())
//! ```
//!
//! Parameters that are private are parsed, as a file has them: by `serde_json::from_value`, or by the entry of [`MEASURES`].
//! `describe NAME`, as well as the documentation of each type, says what parameters and columns mean. The experiments below show
//! what the measures find where the truth is known.
//!
#![doc = include_str!("examples.md")]

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
mod cost;
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
mod subject;
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
pub use cost::Cost;
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
pub use subject::{OtherInput, Subject};
pub use term_importance::TermImportance;
pub use token_swap::TokenSwap;
pub use virtual_heads::VirtualHeads;

use crate::Result;
use crate::input::InputShape;
use crate::kind;
use crate::kind::Kind;
use crate::model::ModelConfig;
use cost::{bytes_of, chunk_bytes, folded_weights, pass_bytes, positions_at_once, sweep_bytes};
use polars::prelude::{DataFrame, Schema};
use std::fmt::Debug;

/// The checked parameters of a measure.
///
/// A measure sees one model and one input at a time; the runner adds the key columns (`model`, swept parameters, `replicate`) in
/// front and stacks the tables.
///
/// A measure of one's own; `examples/add_a_measure.rs` makes one that experiment files can name:
///
/// ```
/// use attn_circuits::input::InputShape;
/// use attn_circuits::measure::{Cost, Measure, Subject};
/// use attn_circuits::model::ModelConfig;
/// use polars::prelude::{DataFrame, DataType, Field, Schema, df};
/// # use attn_circuits::prelude::Notebook;
///
/// /// The weights of a model, biases left out.
/// #[derive(Debug)]
/// struct Size {}
///
/// impl Measure for Size {
///     fn columns(&self) -> Schema {
///         [Field::new("weights".into(), DataType::Int64)].into_iter().collect()
///     }
///
///     fn needs_input(&self) -> bool {
///         false
///     }
///
///     fn cost(&self, _: &ModelConfig, _: Option<&InputShape>) -> Cost {
///         Cost { rows: 1, bytes: 0 }
///     }
///
///     fn compute(&self, subject: &Subject) -> attn_circuits::Result<DataFrame> {
///         Ok(df!("weights" => [subject.model.config().n_params() as i64])?)
///     }
/// }
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("tiny", "{ kind: random, layers: 0, heads: 1, d_model: 4, vocab: 10, context: 9 }")?;
/// let table = Size {}.compute(&Subject::new(&model, None))?;
/// assert_eq!(table, df!("weights" => [2 * 10 * 4 + 9 * 4_i64])?); // W_E, W_U and W_pos
/// assert_eq!(*table.schema().as_ref(), Size {}.columns());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub trait Measure: Send + Sync + Debug {
    /// Columns after the keys, in order. Known without computing, so that queries are checked before the run.
    ///
    /// ```
    /// use attn_circuits::measure::{Loss, Measure};
    /// assert_eq!(Loss {}.columns().iter_names().collect::<Vec<_>>(), ["position", "repeat", "loss", "accuracy"]);
    /// ```
    fn columns(&self) -> Schema;

    /// Whether the measure reads an input; if not, naming one is an error.
    ///
    /// ```
    /// use attn_circuits::measure::{Composition, Loss, Measure};
    /// assert!(Loss {}.needs_input() && !Composition {}.needs_input());
    /// ```
    fn needs_input(&self) -> bool;

    /// Further inputs of the experiment that parameters name: only of measures that need an input. They are drawn for the same
    /// vocabulary, and [`Subject::other`] and [`Subject::counterpart`] give them out.
    ///
    /// ```
    /// use attn_circuits::kind::parsed;
    /// use attn_circuits::measure::{Measure, OtherInput, PathPatching};
    /// let measure: PathPatching = parsed(serde_json::json!({ "corrupted": "swapped" }))?;
    /// assert_eq!(measure.other_inputs(), [OtherInput { parameter: "corrupted", name: "swapped", same_sequences: true }]);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    fn other_inputs(&self) -> Vec<OtherInput<'_>> {
        Vec::new()
    }

    /// Checks the parameters against a model and an input, before anything is computed.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// use attn_circuits::kind::parsed;
    /// use attn_circuits::measure::Attention;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
    /// let of = |head: &str| parsed::<Attention>(serde_json::json!({ "heads": [head] }));
    /// assert!(of("1.0")?.check(model.config(), None).is_ok());
    /// let refused = of("3.1")?.check(model.config(), None);
    /// assert!(refused.is_err_and(|error| error.to_string().starts_with("heads[0]: there is no head 3.1")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] where one parameter is at fault, [`crate::Error::Invalid`] otherwise, in words that stand alone:
    /// "there is no head 3.1: the model has 2 layers of 4 heads".
    fn check(&self, model: &ModelConfig, input: Option<&InputShape>) -> Result<()> {
        let _ = (model, input);
        Ok(())
    }

    /// Number of rows for one model, and the largest number of bytes that computing them holds beside model and input: an
    /// estimate for planning. Inputs and weights are counted elsewhere.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// use attn_circuits::measure::Composition;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 3, heads: 4, d_model: 16, vocab: 10, context: 12 }")?;
    /// // Three pairs of layers with 4 · 4 pairs of heads each, through three channels.
    /// assert_eq!(Composition {}.cost(model.config(), None).rows, 3 * 16 * 3);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost;

    /// Computes the table of one model: the columns of [`Measure::columns`], its rows in an order that is the measure's own and
    /// always the same. The runner keeps it. As a rule the leading columns ascend, with nulls first; paths and sources do not
    /// stand in the order of their texts, but shorter ones first, and as they follow in the model.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// use attn_circuits::measure::Loss;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
    /// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// let table = Loss {}.compute(&Subject::new(&model, Some(&tokens)))?;
    /// // A row for each position but the last. In the second repeat the induction head is right: ln(1 + (V − 1) e^(−γ)), γ = 10.
    /// assert_eq!(table.height(), tokens.length() - 1);
    /// let least = table.column("loss")?.f64()?.min().unwrap_or(f64::NAN);
    /// assert!((least - (12.0 * (-10f64).exp()).ln_1p()).abs() < 1e-5);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if an input that is needed is not there or does not fit the model, or numbers do not converge;
    /// those of [`Measure::check`], and whatever else the parameters and the model do not allow.
    fn compute(&self, subject: &Subject) -> Result<DataFrame>;
}

/// All measures.
///
/// ```
/// use attn_circuits::measure::MEASURES;
/// // Each can be parsed without parameters: what is missing is found when it is checked against a model.
/// for kind in MEASURES {
///     let measure = (kind.parse)(serde_json::json!({}))?;
///     assert!(!measure.columns().is_empty() && kind.example.contains(kind.name));
/// }
/// # Ok::<(), serde_json::Error>(())
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Normalization, Positions};
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
    fn a_chain_costs_its_table_and_other_models_do_not() {
        let measure = parsed("closed_forms", json!({}));
        let table = |layers, vocab: usize| measure.cost(&config([layers, 1, 5, 5, vocab, 9]), None).bytes >= vocab * vocab * 64;
        assert!(table(0, 4096));
        // Chains end there.
        assert!(!table(0, 4097));
        assert!(!table(1, 4096));
    }
}
