//! Two tables side by side: which rows belong together, and which cells differ.

mod rows;
mod table;
#[cfg(test)]
mod tests;

pub use table::{CellDifference, ColumnComparison, TableComparison, compare};

use crate::{Error, Result};
use serde_json::Value;
use std::fmt;

/// How far two numbers may lie apart and still count as the same: by at most this, or by at most this share of the greater one.
///
/// ```
/// use attn_circuits::experiment::compare::Tolerance;
/// let tolerance = Tolerance::new(1e-3)?;
/// assert!(tolerance.admits(0.5, 0.5009) && !tolerance.admits(0.5, 0.502));
/// assert!(tolerance.admits(4000.0, 4003.0) && !tolerance.admits(4000.0, 4005.0));
/// // What is no number is equal only to itself.
/// assert!(tolerance.admits(f64::NAN, f64::NAN) && !tolerance.admits(f64::NAN, 0.0));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance(f64);

impl Tolerance {
    /// Nothing but equal numbers.
    pub const EXACT: Self = Self(0.0);

    /// What results are verified within unless something else is asked for: 200 times the largest difference that was found between
    /// processors with and without AVX-512 (4.8e-7), and far below what any claim or figure shows.
    pub const DEFAULT: Self = Self(1e-4);

    /// A tolerance.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is negative or not finite.
    pub fn new(tolerance: f64) -> Result<Self> {
        if tolerance.is_finite() && tolerance >= 0.0 {
            return Ok(Self(tolerance));
        }
        Err(Error::invalid(format!("a tolerance is a number from 0 on, not {tolerance}")))
    }

    /// Whether two values are the same within it: numbers with a fraction; whole ones, texts and truths only if they are equal.
    ///
    /// ```
    /// use attn_circuits::experiment::compare::Tolerance;
    /// use serde_json::json;
    /// assert_eq!(Tolerance::DEFAULT.to_string(), "1e-4");
    /// assert!(Tolerance::DEFAULT.same(&json!(0.5), &json!(0.50001)) && !Tolerance::EXACT.same(&json!(0.5), &json!(0.50001)));
    /// // A count is right or wrong, however large.
    /// assert!(!Tolerance::DEFAULT.same(&json!(1_000_000), &json!(1_000_001)));
    /// assert!(Tolerance::new(-1.0).is_err());
    /// ```
    pub fn same(self, left: &Value, right: &Value) -> bool {
        match (left.as_f64(), right.as_f64()) {
            (Some(a), Some(b)) if left.is_f64() || right.is_f64() => self.admits(a, b),
            _ => left == right,
        }
    }

    /// Whether two numbers are the same within it.
    pub fn admits(self, left: f64, right: f64) -> bool {
        let same = left == right || (left.is_nan() && right.is_nan());
        same || (left.is_finite() && right.is_finite() && (left - right).abs() <= self.0 * left.abs().max(right.abs()).max(1.0))
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:e}", self.0)
    }
}
