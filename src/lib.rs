//! Reproducible experiments that take attention-only transformers apart.
//!
//! What Elhage et al. 2021, [A Mathematical Framework for Transformer
//! Circuits](https://transformer-circuits.pub/2021/framework/index.html), reads off the weights and the attention patterns of
//! such a model, this crate computes: of models wired by hand, where it is known what is to be found, of random ones, which say
//! what chance gives, and of trained ones, imported under TransformerLens' names. An experiment is a text with models, inputs,
//! measures, queries, figures and claims, each claim with a check; running it writes tables and a report.
//!
//! Vectors are rows, as in TransformerLens: an activation multiplies a weight from the left, and the paper's products stand in
//! the opposite order. So `W_QK = W_Q W_K^T` and `W_OV = W_V W_O`, both `[d_model, d_model]` of rank `d_head` at most, and kept
//! as their factors.
//!
//! # Who reads whom
//!
//! A line of YAML is a model, here given to a [`Notebook`](notebook::Notebook). This one is an induction circuit over 13 tokens:
//! the previous-token head `0.0` writes to each position which token stood before it, and the induction head `1.0` looks for
//! positions to which its own token has been written. The paper's composition scores show it in the weights alone:
//!
//! ```
//! use attn_circuits::prelude::*;
//!
//! let mut notebook = Notebook::new("Is there an induction head?")?;
//! let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
//! for pair in composition(&model)? {
//!     let value = pair.value.expect("no head is all zeros");
//!     // Two maps of 13 dimensions in perfect overlap score 1/√13. By chance, in a stream of 64, it is about 1/√64.
//!     let expected = if pair.channel == Channel::K { 1.0 / 13f64.sqrt() } else { 0.0 };
//!     assert!((value.score - expected).abs() < 1e-6 && (value.chance.mean - 0.125).abs() < 0.01);
//! }
//! # Ok::<(), attn_circuits::Error>(())
//! ```
//!
//! # An induction head, found and confirmed
//!
//! Where a model is not wired, an induction head has to be found. Its pattern gives it away: on random tokens that repeat, it
//! attends to what comes after an earlier copy of the current token. Taking it out tells whether the model needs it:
//!
//! ```
//! use attn_circuits::prelude::*;
//! # let mut notebook = Notebook::new("Is there an induction head?")?;
//! # let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
//!
//! // A start token, then six random tokens, twice.
//! let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
//! let matching = Score::find("prefix_matching").expect("a score of this crate");
//! let scores = head_scores(&model, &tokens, &[matching])?;
//! let values = scores[0].values.as_deref().expect("the tokens repeat");
//! let (best, value) = model.config().heads().zip(values).max_by(|a, b| a.1.total_cmp(b.1)).expect("it has heads");
//! assert!(best == HeadId::new(1, 0) && *value > 0.99);
//!
//! // What positions 7 to 11 predict has been there before. Without the head all 13 tokens are alike.
//! let without = Intervention::of_heads(&[best], Replacement::Zero);
//! let found = Sweep::new(&model, &tokens).run(&[without], &[(7..12).collect()])?;
//! assert!(found.clean.mean_loss(0) < 0.01);
//! assert!((found.intervened[0].mean_loss(0) - 13f64.ln()).abs() < 1e-4);
//! # Ok::<(), attn_circuits::Error>(())
//! ```
//!
//! # An experiment, and its results
//!
//! As the other head is read through keys alone, taking it out must matter where the later pattern is computed anew, and not
//! where it is held. That is a claim, and an experiment checks it. From a file, `attn-circuits run prefix.yaml` would run it;
//! here the library does:
//!
//! ```
//! use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
//! use attn_circuits::prelude::*;
//!
//! let text = "
//! title: What is missed without the previous-token head?
//! models:
//!   wired: { kind: wired, circuit: induction, vocab: 13, context: 25 }
//! inputs:
//!   repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }
//! cells:
//!   - measure: ablation
//!     methods: [zero]
//!     channels: [all]
//!   - claim: The second repeat is guessed among its six tokens, but only where the later pattern is computed anew.
//!     check: |
//!       SELECT MIN(CASE WHEN patterns = 'recomputed' THEN loss END) > LN(6)
//!              AND MAX(CASE WHEN patterns = 'frozen' THEN ABS(loss_change) END) < 0.00001
//!       FROM ablation WHERE layer = 0 AND repeat = 2
//! ";
//! let experiment = load_str(text, "prefix.yaml".as_ref(), &[], &LoadOptions::default())?;
//! # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
//! let finished = run(&experiment, out.path(), &RunOptions::default())?;
//!
//! let results = Run::open(finished.folder)?;
//! assert!(results.manifest.claims().all(|claim| claim.holds));
//! // Where it is held, the induction head alone is missed.
//! let missed = "SELECT layer, head FROM ablation WHERE patterns = 'frozen' AND repeat = 2 AND loss_change > 1";
//! assert_eq!(results.select(missed)?, df!("layer" => [1i64], "head" => [0i64])?);
//! # Ok::<(), attn_circuits::Error>(())
//! ```
//!
//! # Where to go on
//!
//! * The folder `notebooks` has a course of the paper in Jupyter notebooks. [`notebook`] says how values show themselves in one,
//!   and [`prelude`] what comes with its first line.
//! * The folder `examples` has programs for what people come with, each run by `cargo run --example NAME`: `find_induction_heads`
//!   in weights of one's own, `own_detector`, tried on circuits that are known, and `add_a_measure`.
//! * [`circuit`] lists the paper's quantities, [`measure`] the tables of them that an experiment can ask for, and
//!   [`model::intervention`] has the vocabulary of ablation and patching. `attn-circuits list` shows all that an experiment can
//!   name; `attn-circuits describe NAME` explains it, with its parameters and its columns.
//! * The folder `experiments` has lessons, whose reports are in `results`. `attn-circuits new NAME` writes a file to start from.
//!
//! # The modules
//!
//! They form layers; a lower one never imports a higher one. From the bottom:
//!
//! | module | holds |
//! | --- | --- |
//! | [`error`], [`stream`], [mod@kind] | errors, named random streams, registries of what a YAML file can name |
//! | [`batch`] | token sequences, as models read them |
//! | [`linalg`] | low-rank products and decompositions |
//! | [`chain`] | bigram chains: a language of which everything is known |
//! | [`model`] | configuration, weights, forward pass with cache, interventions; [`model::build`] makes models |
//! | [`input`] | where token sequences come from |
//! | [`circuit`] | the mathematics on weights and caches: composition, head scores, sweeps of interventions, detection |
//! | [`measure`] | one file per measure: its YAML parameters and its table |
//! | [`figure`] | one file per kind of figure |
//! | [`query`] | polars SQL over tables |
//! | [`report`] | the HTML report |
//! | [`store`] | the results tree on disk, and the cache |
//! | [`experiment`] | the YAML file: loading with exact errors, planning, running; verifying and comparing results |
//! | [`notebook`], [`prelude`] | values that show themselves in a notebook, and an experiment that grows cell by cell |
//! | [`cli`] | the commands |

pub mod batch;
pub mod chain;
pub mod circuit;
pub mod cli;
pub mod error;
pub mod experiment;
pub mod figure;
mod files;
pub mod input;
pub mod kind;
pub mod linalg;
pub mod measure;
pub mod model;
mod names;
pub mod notebook;
pub mod prelude;
pub mod query;
pub mod report;
pub mod store;
pub mod stream;
mod tensor_file;

pub use error::{Error, Result};
