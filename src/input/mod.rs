//! Token sequences: what `inputs:` of an experiment can hold.

mod repeated_tokens;
mod tokens;

pub use repeated_tokens::RepeatedTokens;
pub use tokens::Tokens;

use crate::kind;
use crate::kind::Kind;
use crate::stream::Stream;
use crate::{Error, Result};
use ndarray::{Array2, ArrayView2};
use std::fmt::Debug;
use std::path::Path;

/// How the sequences of a batch repeat: `start` leading tokens, then `count` copies of a period.
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
    /// The repeat (1, 2, …) that a position lies in; `None` before the first.
    pub fn of(&self, position: usize) -> Option<usize> {
        position.checked_sub(self.start).map(|offset| offset / self.period + 1).filter(|&repeat| repeat <= self.count)
    }
}

/// Sequences of equal length, with what is known of their structure.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    tokens: Array2<u32>,
    repeats: Option<Repeats>,
}

impl TokenBatch {
    /// A batch `[B, n]`.
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

/// What is known of an input before its tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// Number of sequences.
    pub sequences: usize,
    /// Length of each.
    pub length: usize,
    /// Their repeats, if any.
    pub repeats: Option<Repeats>,
    /// Smallest vocabulary that holds every token.
    pub min_vocab: usize,
}

/// What an input may use besides its own parameters.
#[derive(Clone, Debug)]
pub struct InputContext<'a> {
    /// Relative paths start here: the folder of the experiment file.
    pub base: &'a Path,
    /// The stream of this input.
    pub stream: Stream,
    /// Vocabulary of the model that will read the tokens.
    pub d_vocab: usize,
}

/// The checked parameters of a kind of input.
pub trait InputKind: Send + Sync + Debug {
    /// The shape, found before any computing.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::File`] say what is wrong with the parameters or the file.
    fn shape(&self, base: &Path) -> Result<InputShape>;

    /// The tokens for a model with this vocabulary.
    ///
    /// # Errors
    /// Those of [`InputKind::shape`], or a vocabulary smaller than [`InputShape::min_vocab`].
    fn build(&self, context: &InputContext) -> Result<TokenBatch>;
}

/// All kinds of input.
pub static INPUTS: &[Kind<dyn InputKind>] = &[kind!(dyn InputKind, RepeatedTokens), kind!(dyn InputKind, Tokens)];

impl InputShape {
    /// Checks that a vocabulary holds the tokens.
    fn check_vocab(&self, d_vocab: usize) -> Result<()> {
        if d_vocab >= self.min_vocab {
            return Ok(());
        }
        let needed = self.min_vocab;
        Err(Error::invalid(format!("the input needs a vocabulary of at least {needed}, but the model has one of {d_vocab}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_example_parses_into_its_kind() {
        for kind in INPUTS {
            let inputs: serde_json::Map<String, Value> = serde_yaml::from_str(kind.example).unwrap();
            let mut input = inputs.into_iter().next().unwrap().1;
            assert_eq!(input.as_object_mut().unwrap().remove("kind").unwrap(), kind.name);
            (kind.parse)(input).unwrap().shape(Path::new(".")).unwrap();
            assert!(!kind.doc().is_empty());
        }
    }

    #[test]
    fn the_schema_bounds_every_token() {
        let schema = (Kind::find(INPUTS, "tokens").unwrap().schema)().to_value();
        let token = &schema["properties"]["tokens"]["items"]["items"];
        assert_eq!((token["minimum"].as_u64(), token["maximum"].as_u64()), (Some(0), Some(u32::MAX.into())), "{schema:#}");
    }
}
