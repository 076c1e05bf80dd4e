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
//! # Pairs of heads
//!
//! [`Composition`], [`CompositionComponents`] and [`PrincipalAngles`] compare what one head writes with what another reads;
//! [`VirtualHeads`] are the two in sequence. In a wired induction circuit the previous-token head writes a flat subspace of V
//! dimensions, and the keys of the induction head read exactly that: the score is 1/√V, of the pair and of each direction.
//!
//! ```
//! # use attn_circuits::Error;
//! # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! let experiment = "
//! title: Pairs of heads
//! models:
//!   wired: { kind: wired, circuit: induction, vocab: 13, context: 25 }
//! inputs:
//!   repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }
//! cells:
//!   - measure: composition
//!   - claim: The score is as high as the spectra of the two heads allow.
//!     check: SELECT ABS(MAX(score) - 1 / SQRT(13)) < 0.00001 AND MAX(alignment) > 0.99999 FROM composition WHERE kind = 'k'
//!   - measure: composition_components
//!   - claim: No direction is read more than another.
//!     check: SELECT MAX(ABS(score - 1 / SQRT(13))) < 0.00001 FROM composition_components WHERE kind = 'k'
//!   - measure: principal_angles
//!   - claim: The subspaces that are written and read are one.
//!     check: SELECT MIN(cosine) > 0.99999 FROM principal_angles WHERE kind = 'k'
//!   - measure: virtual_heads
//!     scores: [duplicate_token, v_composition]
//!   - claim: Looking after a copy, then one back, is looking at the copy. But this virtual head moves nothing.
//!     check: SELECT MAX(value) > 0.999 AND MIN(value) < 0.00001 FROM virtual_heads
//! ";
//! # let experiment = load_str(experiment, "example.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! # let manifest = run(&experiment, out.path(), &RunOptions::default())?.manifest;
//! assert!(manifest.claims().all(|claim| claim.holds));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Spectra of circuits
//!
//! [`Copying`], [`Eigenvalues`], [`Eigenvectors`] and [`SingularValues`]: an induction head that is wired with `scale: 10` maps
//! each of the V tokens to 10 times itself.
//!
//! ```
//! # use attn_circuits::Error;
//! # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! let experiment = "
//! title: Spectra of circuits
//! models:
//!   wired: { kind: wired, circuit: induction, vocab: 13, context: 25 }
//! cells:
//!   - measure: eigenvalues
//!     circuits: [full_ov]
//!   - claim: V eigenvalues are 10, and the others 0.
//!     check: |
//!       SELECT SUM(CASE WHEN ABS(re - 10) < 0.001 THEN 1 ELSE 0 END) = 13
//!              AND SUM(CASE WHEN ABS(re) < 0.001 THEN 1 ELSE 0 END) = COUNT(*) - 13 AND MAX(ABS(im)) < 0.001
//!       FROM eigenvalues WHERE layer = 1
//!   - measure: eigenvectors
//!     heads: ['1.0']
//!   - claim: What attention to an eigenvector adds is the eigenvalue times the eigenvector.
//!     check: SELECT MIN(multiplicity) = 13 AND MAX(ABS(effect - re * weight)) < 0.0001 FROM eigenvectors
//!   - measure: copying
//!     circuits: [full_ov, k_composition]
//!   - claim: The head copies what it attends to, and attends to where the token before matches.
//!     check: SELECT MIN(score) > 0.9999 FROM copying WHERE layer = 1
//!   - measure: singular_values
//!     circuits: [ov]
//!   - claim: The previous-token head moves all tokens alike.
//!     check: SELECT COUNT(*) = 13 AND MAX(value) - MIN(value) < 0.00001 FROM singular_values WHERE layer = 0 AND value > 0.00001
//! ";
//! # let experiment = load_str(experiment, "example.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! # let manifest = run(&experiment, out.path(), &RunOptions::default())?.manifest;
//! assert!(manifest.claims().all(|claim| claim.holds));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Tables over tokens
//!
//! [`Bigrams`], [`CircuitTable`], [`CircuitSize`], [`SkipTrigrams`] and [`SkipTrigramRank`]. One head that raises
//! `keep … in → mind` (tokens 1, 2, 4) and `keep … at → bay` (1, 3, 5) raises the crossed pairs, too, since its table has rank
//! one.
//!
//! ```
//! # use attn_circuits::Error;
//! # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! let experiment = "
//! title: Tables over tokens
//! models:
//!   wired: { kind: wired, circuit: skip-trigram-bug, n: 1, vocab: 6, context: 13 }
//! cells:
//!   - measure: bigrams
//!   - claim: The direct path says nothing.
//!     check: SELECT MAX(ABS(probability - 1.0 / 6)) < 0.000001 FROM bigrams
//!   - measure: circuit_table
//!     circuits: [full_ov]
//!   - claim: The head raises two tokens by its scale of 10, both where it attends to `keep`.
//!     check: SELECT COUNT(*) = 2 AND ABS(SUM(value) - 20) < 0.001 AND AVG(row_token) = 1 FROM circuit_table WHERE value > 0.001
//!   - measure: circuit_size
//!   - claim: The direct path has d_model (V + V) numbers as two factors, and V² multiplied out.
//!     check: SELECT MIN(factored) = 12 * (6 + 6) AND MIN(expanded) = 6 * 6 FROM circuit_size WHERE circuit = 'direct'
//!   - measure: skip_trigrams
//!   - claim: The crossed pairs are raised as well.
//!     check: SELECT COUNT(*) = 4 FROM skip_trigrams WHERE attention > 0.999 AND source = 1 AND effect > 1
//!   - measure: skip_trigram_rank
//!     target: [{ source: 1, destination: 2, out: 4, value: 10 }, { source: 1, destination: 3, out: 5, value: 10 }]
//!   - claim: Of a table with the singular values 10 and 10 √(2/3), one head leaves √(2/5), and two leave nothing.
//!     check: >
//!       SELECT ABS(MAX(residual) - SQRT(0.4)) < 0.00001 AND MIN(residual) < 0.00001
//!       FROM skip_trigram_rank WHERE of = 'target' AND heads > 0
//! ";
//! # let experiment = load_str(experiment, "example.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! # let manifest = run(&experiment, out.path(), &RunOptions::default())?.manifest;
//! assert!(manifest.claims().all(|claim| claim.holds));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Attention
//!
//! [`Attention`], [`HeadScores`], [`ScorePaths`] and [`TokenSwap`]: the induction head attends behind earlier copies of the
//! current token, since its keys hold the token before, and whatever token stands there.
//!
//! ```
//! # use attn_circuits::Error;
//! # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! let experiment = "
//! title: Attention
//! models:
//!   wired: { kind: wired, circuit: induction, vocab: 13, context: 25 }
//! inputs:
//!   repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }
//! cells:
//!   - measure: attention
//!   - claim: The attention of each position is divided among itself and those before.
//!     check: SELECT ABS(SUM(value) - 2 * 13) < 0.0001 AND MAX(source - destination) = 0 FROM attention
//!   - measure: head_scores
//!     scores: [previous_token, prefix_matching]
//!   - claim: Each head is an ideal one.
//!     check: SELECT COUNT(*) = 2 FROM head_scores WHERE ABS(value - ceiling) < 0.00001
//!   - measure: score_paths
//!     targets: [prefix_matching]
//!     heads: ['1.0']
//!   - claim: It is all K-composition.
//!     check: SELECT MIN(share) > 0.9999 FROM score_paths WHERE query_path = 'embed' AND key_path = '0.0'
//!   - measure: token_swap
//!   - claim: The attended token does not matter for where the induction head looks, and says what it moves.
//!     check: SELECT MAX(row_change) < 0.00001 AND MIN(follows) > 0.9999 FROM token_swap WHERE layer = 1
//! ";
//! # let experiment = load_str(experiment, "example.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! # let manifest = run(&experiment, out.path(), &RunOptions::default())?.manifest;
//! assert!(manifest.claims().all(|claim| claim.holds));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Logits and losses
//!
//! [`Logits`], [`Loss`], [`LogitAttribution`], [`Paths`] and [`TermImportance`]: sums that hold for every model.
//!
//! ```
//! # use attn_circuits::Error;
//! # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! let experiment = "
//! title: Logits and losses
//! models:
//!   random: { kind: random, layers: 2, heads: 2, d_model: 16, vocab: 13, context: 25 }
//! inputs:
//!   repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }
//! cells:
//!   - measure: logits
//!   - claim: There is one for each sequence, position and token.
//!     check: SELECT COUNT(*) = 4 * 13 * 13 FROM logits
//!   - measure: logit_attribution
//!   - measure: paths
//!   - claim: What components and what paths contribute to the logit of the next token is the same in all.
//!     check: >
//!       SELECT ABS(a.total - p.total) < 0.0001
//!       FROM (SELECT SUM(value) AS total FROM logit_attribution WHERE repeat IS NULL) AS a
//!       CROSS JOIN (SELECT SUM(logit) AS total FROM paths WHERE repeat IS NULL) AS p
//!   - measure: loss
//!   - measure: term_importance
//!   - claim: The orders of paths take off the loss what it is below ln V.
//!     check: >
//!       SELECT ABS(t.total - (LN(13) - l.mean)) < 0.0001
//!       FROM (SELECT SUM(reduction) AS total FROM term_importance WHERE layers IS NULL AND repeat IS NULL) AS t
//!       CROSS JOIN (SELECT AVG(loss) AS mean FROM loss) AS l
//! ";
//! # let experiment = load_str(experiment, "example.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! # let manifest = run(&experiment, out.path(), &RunOptions::default())?.manifest;
//! assert!(manifest.claims().all(|claim| claim.holds));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Interventions
//!
//! [`Ablation`], [`PathPatching`] and [`ActivationPatching`]: the previous-token head acts through the keys of the induction
//! head, and through nothing else.
//!
//! ```
//! # use attn_circuits::Error;
//! # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! let experiment = "
//! title: Interventions
//! models:
//!   wired: { kind: wired, circuit: induction, vocab: 13, context: 25 }
//! inputs:
//!   repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }
//!   swapped: { kind: corrupted, of: repeated, recipe: swapped_repeats }
//! cells:
//!   - measure: ablation
//!     input: repeated
//!     heads: ['0.0']
//!     methods: [zero]
//!     channels: [all]
//!   - claim: The head is missed, but not where later patterns are held as they were.
//!     check: |
//!       SELECT MAX(CASE WHEN patterns = 'frozen' THEN ABS(loss_change) END) < 0.0001
//!              AND MIN(CASE WHEN patterns = 'recomputed' THEN loss_change END) > 2
//!       FROM ablation WHERE repeat = 2
//!   - measure: path_patching
//!     input: repeated
//!     from: ['0.0']
//!     channels: [k, q, v]
//!   - claim: Cutting what it sends to the keys costs as much as taking out the head, and all else nothing.
//!     check: >
//!       SELECT MAX(ABS(p.loss_change - CASE WHEN p.channel = 'k' THEN a.loss_change ELSE 0 END)) < 0.0001
//!       FROM path_patching AS p JOIN ablation AS a ON p.repeat = a.repeat WHERE a.patterns = 'recomputed'
//!   - measure: activation_patching
//!     input: repeated
//!     corrupted: swapped
//!     what: [z]
//!     directions: [restore]
//!   - claim: What the induction head writes restores everything.
//!     check: SELECT MIN(recovered) > 0.9999 FROM activation_patching WHERE layer = 1 AND repeat = 2
//! ";
//! # let experiment = load_str(experiment, "example.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! # let manifest = run(&experiment, out.path(), &RunOptions::default())?.manifest;
//! assert!(manifest.claims().all(|claim| claim.holds));
//! # Ok::<(), Error>(())
//! ```
//!
//! # Theory
//!
//! [`ClosedForms`] says what a measure should find, and [`Detection`] whether it tells the circuit from other heads.
//!
//! ```
//! # use attn_circuits::Error;
//! # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! let experiment = "
//! title: Theory
//! models:
//!   wired: { kind: wired, circuit: induction, vocab: 13, context: 25 }
//!   hidden: { kind: wired, circuit: induction, vocab: 13, context: 25, distractors: 2 }
//! inputs:
//!   repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }
//! cells:
//!   - measure: composition
//!     models: wired
//!   - measure: closed_forms
//!     models: wired
//!     keys: [13]
//!   - claim: The K-composition is what theory says of the wiring.
//!     check: >
//!       SELECT ABS(MAX(score) - MAX(expected)) <= MAX(tolerance)
//!       FROM composition JOIN closed_forms ON composition.model = closed_forms.model
//!       WHERE kind = 'k' AND quantity = 'composition_k'
//!   - measure: detection
//!     models: hidden
//!     detectors: [alignment, matching, previous_token]
//!   - claim: What was wired stands above all that is random.
//!     check: SELECT MIN(auc) = 1 FROM detection
//! ";
//! # let experiment = load_str(experiment, "example.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! # let manifest = run(&experiment, out.path(), &RunOptions::default())?.manifest;
//! assert!(manifest.claims().all(|claim| claim.holds));
//! # Ok::<(), Error>(())
//! ```

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
    /// [`Error::Parameter`] where one parameter is at fault, [`Error::Invalid`] otherwise, in words that stand alone: "there is
    /// no head 3.1: the model has 2 layers of 4 heads".
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
    /// [`Error::Invalid`] if an input that is needed is not there or does not fit the model, or numbers do not converge; those of
    /// [`Measure::check`], and whatever else the parameters and the model do not allow.
    fn compute(&self, subject: &Subject) -> Result<DataFrame>;
}

/// An input that a parameter of a measure names, beside the cell's `input`. Its sequences are as long as those of `input`.
///
/// ```
/// use attn_circuits::kind::parsed;
/// use attn_circuits::measure::{Ablation, Measure};
/// // Means may be taken over as many sequences as one likes.
/// let measure: Ablation = parsed(serde_json::json!({ "reference": "much" }))?;
/// let others = measure.other_inputs();
/// assert_eq!((others[0].parameter, others[0].name, others[0].same_sequences), ("reference", "much", false));
/// # Ok::<(), serde_json::Error>(())
/// ```
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
///
/// ```
/// # use attn_circuits::prelude::*;
/// use attn_circuits::measure::CircuitSize;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 12 }")?;
/// let subject = Subject::new(&model, None);
/// assert!(subject.input.is_none() && subject.others.is_empty() && subject.origin.is_none());
/// // The direct path, and four circuits of each head.
/// assert_eq!(CircuitSize {}.compute(&subject)?.height(), 1 + 4 * 4);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
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
    /// A model that is measured outside of an experiment: without further inputs, without knowing where it comes from, and with
    /// the root stream of the seed 0.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// use attn_circuits::kind::parsed;
    /// use attn_circuits::measure::ClosedForms;
    /// use attn_circuits::model::build::{ModelKind, Wired};
    /// # use attn_circuits::model::build::BuildContext;
    /// use attn_circuits::stream::Stream;
    /// let circuit = serde_json::json!({ "circuit": "induction", "vocab": 13, "context": 25 });
    /// let wired: Wired = parsed(circuit)?;
    /// let model = wired.build(&BuildContext { base: ".".as_ref(), stream: Stream::new(0) })?;
    ///
    /// // What the model and random draws come from can be added: theory needs the first, a bootstrap the second.
    /// let unknown = Subject::new(&model, None);
    /// let known = Subject { origin: Some(&wired), stream: Stream::new(2021).child("measure"), ..unknown.clone() };
    /// let theory: ClosedForms = parsed(serde_json::json!({}))?;
    /// assert_eq!(theory.compute(&unknown)?.height(), 0);
    /// assert!(theory.compute(&known)?.height() > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(model: &'a Transformer, input: Option<&'a TokenBatch>) -> Self {
        Self { model, input, others: Vec::new(), origin: None, stream: Stream::new(0) }
    }

    /// The same with the input that a parameter of the measure names, whatever its name.
    ///
    /// ```
    /// use attn_circuits::input::{Recipe, TokenBatch};
    /// use attn_circuits::measure::Subject;
    /// use attn_circuits::stream::Stream;
    /// # let mut notebook = attn_circuits::prelude::Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 1, heads: 1, d_model: 4, vocab: 9, context: 5 }")?;
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
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 1, heads: 1, d_model: 4, vocab: 9, context: 5 }")?;
    /// let input = TokenBatch::new(array![[0, 5, 3]], None)?;
    /// let (more, longer) = (TokenBatch::new(array![[0, 1, 2], [0, 2, 1]], None)?, TokenBatch::new(array![[0, 1, 2, 3]], None)?);
    /// let subject = Subject::new(&model, Some(&input)).with("reference", &more).with("corrupted", &longer);
    /// assert_eq!(subject.other("reference")?, &more);
    /// assert!(subject.other("corrupted").is_err_and(|error| error.to_string().contains("4 tokens, but `input` of 3")));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 1, heads: 1, d_model: 4, vocab: 9, context: 5 }")?;
    /// let (input, more) = (TokenBatch::new(array![[0, 5, 3]], None)?, TokenBatch::new(array![[0, 1, 2], [0, 2, 1]], None)?);
    /// let subject = Subject::new(&model, Some(&input)).with("corrupted", &more);
    /// assert!(subject.other("corrupted").is_ok() && subject.counterpart("corrupted").is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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

/// Bytes of a sweep of interventions: the chunks that are worked on at the same time, as many runs beside the clean one as
/// `others` says, a run under intervention and a sum for the means for each thread, and what comes out.
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
