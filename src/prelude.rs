//! What a notebook or a small program needs, in one line: `use attn_circuits::prelude::*;`.
//!
//! The crates whose types appear in the library come with it: arrays are those of [`ndarray`], tables those of [`polars`].

pub use crate::circuit::composition::composition;
pub use crate::circuit::copying::copying_score;
pub use crate::circuit::head_scores::{Score, head_scores};
pub use crate::circuit::weights::{Circuit, Circuits, positive_share};
pub use crate::input::{Repeats, TokenBatch};
pub use crate::measure::{MEASURES, Measure, Subject};
pub use crate::model::export::export;
pub use crate::model::intervention::{Edit, Intervention, Replacement, Site};
pub use crate::model::{Channel, HeadId, Keep, ModelConfig, Transformer, Weights};
pub use crate::notebook::{Claim, Content, Notebook, Show, Shown, attention, circuit, save_tokens, token_batch};
pub use crate::store::Run;
pub use crate::{Error, Result};
pub use ndarray;
pub use ndarray::{Array1, Array2, array, s};
pub use polars;
pub use polars::prelude::{ChunkAgg, DataFrame, NamedFrom, df};
