//! What a notebook or a small program needs, in one line: `use attn_circuits::prelude::*;`.
//!
//! | for | there is |
//! | --- | --- |
//! | models | [`Transformer`], of a [`ModelConfig`] and [`Weights`]; [`HeadId`], [`Channel`]; [`Keep`] for a run; [`export`] |
//! | tokens | [`TokenBatch`], with its [`Repeats`]; [`token_batch`] from a table, [`save_tokens`] to a file |
//! | circuits in the weights | [`Circuits`] of a model, [`Circuit`]; [`composition`], [`copying_score`], [`positive_share`] |
//! | attention patterns | [`head_scores`], by a [`Score`] |
//! | interventions | [`Intervention`], a list of [`Edit`]s that put a [`Replacement`] at a [`Site`]; [`Reader`], [`Downstream`] |
//! | a batch under many of them | [`Sweep`] |
//! | measures, as in experiments | [`MEASURES`], each a [`Measure`] of a [`Subject`] |
//! | results on disk | [`Run`] |
//! | a notebook | [`Notebook`], whose cells give what is [`Shown`]: text, a table, a figure, a [`Claim`] |
//! | what a cell shows | [`Show`], by its [`Content`]; [`attention`] for patterns, [`circuit()`] for a circuit over tokens |
//! | errors | [`Error`], [`Result`] |
//! | arrays | the crate [`ndarray`], and of it [`Array1`], [`Array2`], [`array!`], [`s!`]; [`num_complex`] for eigenvalues |
//! | tables | the crate [`polars`], and of it [`DataFrame`], [`df!`], [`NamedFrom`], [`ChunkAgg`] |
//!
//! ```
//! use attn_circuits::prelude::*;
//!
//! let mut notebook = Notebook::new("Which heads copy?")?;
//! let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
//! let circuits = Circuits::new(&model);
//! let (mut heads, mut scores) = (Vec::new(), Vec::new());
//! for head in model.config().heads() {
//!     heads.push(head.to_string());
//!     scores.push(copying_score(&circuits, Circuit::FullOv(head))?);
//! }
//! // The induction head does. The previous-token head writes nothing that the unembedding reads, and has no score.
//! assert!(scores[0].is_none() && scores[1].is_some_and(|score| (score - 1.0).abs() < 1e-4));
//! // The last line of a cell shows the table.
//! let table = df!("head" => heads, "copying" => scores)?;
//! assert!(table.content().html.is_some());
//! # Ok::<(), attn_circuits::Error>(())
//! ```

pub use crate::circuit::composition::composition;
pub use crate::circuit::copying::copying_score;
pub use crate::circuit::head_scores::{Score, head_scores};
pub use crate::circuit::sweep::Sweep;
pub use crate::circuit::weights::{Circuit, Circuits, positive_share};
pub use crate::input::{Repeats, TokenBatch};
pub use crate::measure::{MEASURES, Measure, Subject};
pub use crate::model::export::export;
pub use crate::model::intervention::{Downstream, Edit, Intervention, Reader, Replacement, Site};
pub use crate::model::{Channel, HeadId, Keep, ModelConfig, Transformer, Weights};
pub use crate::notebook::{Claim, Content, Notebook, Show, Shown, attention, circuit, save_tokens, token_batch};
pub use crate::store::Run;
pub use crate::{Error, Result};
pub use ndarray;
pub use ndarray::{Array1, Array2, array, s};
// By which a notebook can say what type a variable with eigenvalues has.
pub use num_complex;
pub use polars;
pub use polars::prelude::{ChunkAgg, DataFrame, NamedFrom, df};
