//! A batch of token sequences: what models read.

use crate::{Error, Result};
use ndarray::{Array2, ArrayView2};

/// How the sequences of a batch repeat: `start` leading tokens, then `count` copies of a period.
///
/// ```
/// use attn_circuits::input::Repeats;
/// // A start token and three periods of 20, the sequence of the framework paper: 61 tokens.
/// let repeats = Repeats { start: 1, period: 20, count: 3 };
/// assert_eq!(repeats.start + repeats.count * repeats.period, 61);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeats {
    /// Positions before the first period (1 with a start token, else 0).
    pub start: usize,
    /// Tokens in a period.
    pub period: usize,
    /// Number of copies of the period.
    pub count: usize,
}

impl Repeats {
    /// The repeat (1, 2, …) that a position lies in; `None` before the first and behind the last.
    ///
    /// ```
    /// use attn_circuits::input::Repeats;
    /// let repeats = Repeats { start: 1, period: 2, count: 2 };
    /// let of_each: Vec<_> = (0..6).map(|position| repeats.of(position)).collect();
    /// assert_eq!(of_each, [None, Some(1), Some(1), Some(2), Some(2), None]);
    /// ```
    ///
    /// # Panics
    /// If the period is 0 and the position not before it; no [`TokenBatch`] has such repeats.
    pub fn of(&self, position: usize) -> Option<usize> {
        position.checked_sub(self.start).map(|offset| offset / self.period + 1).filter(|&repeat| repeat <= self.count)
    }
}

/// Sequences of equal length, with what is known of their structure.
///
/// ```
/// use attn_circuits::input::{Repeats, TokenBatch};
/// use ndarray::array;
///
/// let repeats = Repeats { start: 1, period: 2, count: 2 };
/// let batch = TokenBatch::new(array![[0, 5, 3, 5, 3], [0, 7, 1, 7, 1]], Some(repeats))?;
/// assert_eq!((batch.sequences(), batch.length()), (2, 5)); // B, n
/// assert_eq!(batch.tokens().row(1).to_vec(), [0, 7, 1, 7, 1]);
/// assert_eq!(batch.repeats().map(|repeats| repeats.count), Some(2));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    tokens: Array2<u32>,
    repeats: Option<Repeats>,
}

impl TokenBatch {
    /// A batch `[B, n]`.
    ///
    /// ```
    /// use attn_circuits::Error;
    /// use attn_circuits::input::{Repeats, TokenBatch};
    /// use ndarray::{Array2, array};
    ///
    /// let repeats = Repeats { start: 0, period: 2, count: 2 };
    /// assert!(TokenBatch::new(array![[5, 3, 5, 3]], Some(repeats)).is_ok());
    /// // The repeats are checked, token by token; and there is no batch of nothing.
    /// let wrong = TokenBatch::new(array![[5, 3, 5, 4]], Some(repeats));
    /// assert!(wrong.is_err_and(|error| error.to_string().contains("position 3")));
    /// assert!(matches!(TokenBatch::new(Array2::zeros((0, 4)), None), Err(Error::Invalid(_))));
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no sequence or no position, or if `repeats` does not describe the tokens.
    pub fn new(tokens: Array2<u32>, repeats: Option<Repeats>) -> Result<Self> {
        let (sequences, length) = tokens.dim();
        if sequences == 0 || length == 0 {
            return Err(Error::invalid("an input needs at least one sequence of at least one token"));
        }
        if let Some(Repeats { start, period, count }) = repeats {
            if period == 0 || count == 0 || start + period * count != length {
                let text = format!("{start} + {count} repeats of {period} tokens are not the {length} positions of the input");
                return Err(Error::invalid(text));
            }
            for ((sequence, position), &token) in tokens.indexed_iter() {
                if position >= start + period && token != tokens[(sequence, position - period)] {
                    let text = format!("sequence {sequence} does not repeat with period {period} at position {position}");
                    return Err(Error::invalid(text));
                }
            }
        }
        Ok(Self { tokens, repeats })
    }

    /// The tokens, `[B, n]`.
    pub fn tokens(&self) -> ArrayView2<'_, u32> {
        self.tokens.view()
    }

    /// Number of sequences `B`.
    pub fn sequences(&self) -> usize {
        self.tokens.nrows()
    }

    /// Length `n` of each sequence.
    pub fn length(&self) -> usize {
        self.tokens.ncols()
    }

    /// The repeats, where the input has them.
    pub fn repeats(&self) -> Option<Repeats> {
        self.repeats
    }
}
