//! Measures: what a `measure:` cell computes, one file each.

use crate::Result;
use crate::input::{InputShape, TokenBatch};
use crate::kind::Kind;
use crate::model::{ModelConfig, Transformer};
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

    /// Checks the parameters against a model and an input, before anything is computed.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`], in words that stand alone: "there is no head 3.1: the model has 2 layers of 4 heads".
    fn check(&self, model: &ModelConfig, input: Option<&InputShape>) -> Result<()> {
        let _ = (model, input);
        Ok(())
    }

    /// Number of rows for one model, and the largest number of bytes that computing them holds beside model and input: an
    /// estimate for planning.
    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost;

    /// Computes the table of one model: the columns of [`Measure::columns`], sorted by the leading ones.
    ///
    /// # Errors
    /// Whatever the parameters and the model do not allow.
    fn compute(&self, model: &Transformer, input: Option<&TokenBatch>) -> Result<DataFrame>;
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
pub static MEASURES: &[Kind<dyn Measure>] = &[];
