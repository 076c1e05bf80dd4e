//! Work in a notebook: values that show themselves below a cell, and an experiment that grows cell by cell.
//!
//! In evcxr, the Rust kernel of Jupyter, a cell ends with a value, and [`Show`] says what it looks like: tables as HTML, figures as
//! SVG, models and inputs by their shapes, claims with the numbers that were compared. [`crate::prelude`] has all that takes.
//!
//! A [`Notebook`] holds models, inputs and cells as an experiment file does, in the same words, and runs each cell when it is given.
//! What has been found out in it is an experiment already: [`Notebook::save`] writes the file.
//!
//! ```
//! use attn_circuits::prelude::*;
//!
//! let mut notebook = Notebook::new("Is there an induction head?")?;
//! notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
//! notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 10, repeats: 3 }")?;
//! notebook.cell("measure: head_scores")?;
//! let claim = notebook.cell(
//!     "claim: One head looks behind earlier copies of the current token.
//! check: SELECT MAX(value) > 0.9 FROM head_scores WHERE score = 'prefix_matching'",
//! )?;
//! assert!(matches!(claim, Shown::Claim(Claim { holds: true, .. })));
//! # Ok::<(), attn_circuits::Error>(())
//! ```

mod session;
mod show;
mod shown;
mod text;
mod tokens;
mod views;

pub use session::Notebook;
pub use show::{Content, Show};
pub use shown::{Claim, Shown};
pub use tokens::{save_tokens, token_batch};
pub use views::{AttentionView, CircuitView, attention, circuit};
