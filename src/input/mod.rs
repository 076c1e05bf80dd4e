//! Token sequences: what `inputs:` of an experiment can hold.
//!
//! A kind of input is the parameters of an entry of `inputs:`. Made without an experiment, it is given the vocabulary of the
//! model and a [`Stream`]:
//!
//! ```
//! use attn_circuits::input::{InputContext, InputKind, RepeatedTokens};
//! use attn_circuits::stream::Stream;
//!
//! let kind = RepeatedTokens { sequences: 4, period: 6, repeats: 2, start: true, distinct: true };
//! let stream = Stream::new(2021).child("repeated");
//! let batch = kind.build(&InputContext { base: ".".as_ref(), stream, d_vocab: 13, original: None })?;
//!
//! assert_eq!(batch.tokens().dim(), (4, 13)); // [B, n]: a start token, and two periods of 6
//! for sequence in batch.tokens().rows() {
//!     assert_eq!((sequence[0], sequence[1] > 0), (0, true));
//!     assert!((1..=6).all(|position| sequence[position] == sequence[position + 6]));
//! }
//! // A period of 13 tokens and the start token need a vocabulary of 14.
//! let longer = RepeatedTokens { period: 13, ..kind };
//! assert_eq!(longer.shape(".".as_ref(), None)?.min_vocab, 14);
//! # Ok::<(), attn_circuits::Error>(())
//! ```
//!
//! [`Tokens`] are given, in place or in a file, and what is declared of them is checked:
//!
//! ```
//! use attn_circuits::Error;
//! use attn_circuits::input::{InputKind, Tokens};
//!
//! let sequences = vec![vec![0, 5, 3, 5, 3], vec![0, 7, 1, 7, 1]];
//! let kind = Tokens { tokens: Some(sequences), file: None, tensor: None, period: Some(2), start: None };
//! let shape = kind.shape(".".as_ref(), None)?;
//! assert_eq!((shape.sequences, shape.length, shape.min_vocab), (2, 5, 8));
//! assert_eq!(shape.repeats.map(|repeats| (repeats.start, repeats.count)), Some((1, 2)));
//!
//! let wrong = Tokens { tokens: Some(vec![vec![0, 5], vec![0, -1]]), period: None, ..kind };
//! assert!(matches!(wrong.shape(".".as_ref(), None), Err(Error::Parameter { path, .. }) if path == "tokens[1][1]"));
//! # Ok::<(), Error>(())
//! ```
//!
//! [`Markov`] is text of a [chain](crate::chain), which a model of kind `bigram` with the same chain is:
//!
//! ```
//! use attn_circuits::chain::ChainKind;
//! use attn_circuits::input::{InputContext, InputKind, Markov};
//! use attn_circuits::stream::Stream;
//!
//! let short = Markov { sequences: 2, length: 10, chain: ChainKind::default(), start: true };
//! let long = Markov { sequences: 3, length: 20, ..short.clone() };
//! let context = InputContext { base: ".".as_ref(), stream: Stream::new(2021).child("text"), d_vocab: 13, original: None };
//! let (short, long) = (short.build(&context)?, long.build(&context)?);
//! assert_eq!((long.tokens().dim(), long.repeats()), ((3, 20), None));
//! // Longer and further sequences begin as the shorter ones do.
//! assert_eq!(short.tokens(), long.tokens().slice(ndarray::s![..2, ..10]));
//! # Ok::<(), attn_circuits::Error>(())
//! ```
//!
//! [`Corrupted`] is made of another input, which it names, by a [`Recipe`]:
//!
//! ```
//! use attn_circuits::input::{Corrupted, InputContext, InputKind, Repeats, TokenBatch};
//! use attn_circuits::stream::Stream;
//! use ndarray::array;
//!
//! let kind: Corrupted = serde_json::from_value(serde_json::json!({ "of": "repeated", "recipe": "swapped_repeats" }))?;
//! assert_eq!(kind.of(), Some("repeated"));
//!
//! let repeats = Repeats { start: 1, period: 2, count: 2 };
//! let repeated = TokenBatch::new(array![[0, 5, 3, 5, 3], [0, 7, 1, 7, 1]], Some(repeats))?;
//! let stream = Stream::new(2021).child("swapped");
//! let context = InputContext { base: ".".as_ref(), stream, d_vocab: 9, original: Some(&repeated) };
//! assert_eq!(kind.build(&context)?.tokens(), array![[0, 7, 1, 5, 3], [0, 5, 3, 7, 1]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod corrupted;
mod markov;
mod recipe;
mod repeated_tokens;
mod tokens;

pub use corrupted::Corrupted;
pub use markov::Markov;
pub use recipe::Recipe;
pub use repeated_tokens::RepeatedTokens;
pub use tokens::Tokens;

pub use crate::batch::{Repeats, TokenBatch};
use crate::kind;

use crate::kind::Kind;
use crate::stream::Stream;
use crate::{Error, Result};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// What is known of an input before its tokens are.
///
/// ```
/// use attn_circuits::chain::ChainKind;
/// use attn_circuits::input::{InputKind, Markov};
/// // Any vocabulary up to the largest chain will do: the tokens are drawn for that of the model.
/// let text = Markov { sequences: 64, length: 40, chain: ChainKind::default(), start: true };
/// let shape = text.shape(".".as_ref(), None)?;
/// assert_eq!((shape.sequences, shape.length, shape.repeats), (64, 40, None));
/// assert_eq!((shape.min_vocab, shape.max_vocab), (1, Some(4096)));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// Number of sequences `B`.
    pub sequences: usize,
    /// Length `n` of each.
    pub length: usize,
    /// Their repeats, if any.
    pub repeats: Option<Repeats>,
    /// Smallest vocabulary that holds every token.
    pub min_vocab: usize,
    /// Largest vocabulary that tokens can be made for, where there is a limit.
    pub max_vocab: Option<usize>,
}

/// What an input may use besides its own parameters. [The module](self) has examples.
#[derive(Clone, Debug)]
pub struct InputContext<'a> {
    /// Relative paths start here: the folder of the experiment file.
    pub base: &'a Path,
    /// The stream of this input.
    pub stream: Stream,
    /// Vocabulary of the model that will read the tokens.
    pub d_vocab: usize,
    /// The input that this one is made of ([`InputKind::of`]), as it is for the same vocabulary.
    pub original: Option<&'a TokenBatch>,
}

/// The checked parameters of a kind of input.
///
/// An input of one's own, all of whose tokens are alike:
///
/// ```
/// use attn_circuits::input::{InputContext, InputKind, InputShape, TokenBatch};
/// use attn_circuits::{Error, Result};
/// use ndarray::Array2;
/// # use std::path::Path;
///
/// #[derive(Debug)]
/// struct Alike {
///     sequences: usize,
///     length: usize,
///     token: u32,
/// }
///
/// impl InputKind for Alike {
///     fn shape(&self, _: &Path, _: Option<&InputShape>) -> Result<InputShape> {
///         let Self { sequences, length, token } = *self;
///         Ok(InputShape { sequences, length, repeats: None, min_vocab: token as usize + 1, max_vocab: None })
///     }
///
///     fn build(&self, context: &InputContext) -> Result<TokenBatch> {
///         if context.d_vocab <= self.token as usize {
///             return Err(Error::invalid("the vocabulary does not have the token"));
///         }
///         TokenBatch::new(Array2::from_elem((self.sequences, self.length), self.token), None)
///     }
/// }
/// # use attn_circuits::stream::Stream;
/// # let context = InputContext { base: ".".as_ref(), stream: Stream::new(0), d_vocab: 9, original: None };
/// let kind = Alike { sequences: 2, length: 3, token: 7 };
/// assert_eq!(InputShape::of(&kind.build(&context)?), kind.shape(".".as_ref(), None)?);
/// # Ok::<(), Error>(())
/// ```
///
/// With [`Described`](crate::kind::Described) and an entry in the registry, an experiment file can name it.
pub trait InputKind: Send + Sync + Debug {
    /// The name of the input that this one is made of, as its parameter `of` gives it.
    fn of(&self) -> Option<&str> {
        None
    }

    /// The files that the tokens are read from, as the parameters name them, relative to the folder of the experiment file. A
    /// file that is not here must not be read: what has been computed from one is taken for the same as long as it does not
    /// change.
    ///
    /// ```
    /// use attn_circuits::input::{InputKind, Tokens};
    /// let kind = Tokens { tokens: None, file: Some("data/tokens.json".into()), tensor: None, period: None, start: None };
    /// assert_eq!(kind.files(), [std::path::Path::new("data/tokens.json")]);
    /// ```
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The shape, found before any computing; `original` is that of the input that this one is made of.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Parameter`] and [`Error::File`] say what is wrong with the parameters or the file;
    /// [`Error::Io`] if a file cannot be read.
    fn shape(&self, base: &Path, original: Option<&InputShape>) -> Result<InputShape>;

    /// The tokens for a model with this vocabulary, `[B, n]` as [`InputKind::shape`] says: the same for the same stream.
    ///
    /// # Errors
    /// Those of [`InputKind::shape`]; [`Error::Invalid`] if the vocabulary is not between [`InputShape::min_vocab`] and
    /// [`InputShape::max_vocab`].
    fn build(&self, context: &InputContext) -> Result<TokenBatch>;

    /// The largest number of bytes that making the tokens holds beside them: an estimate for planning.
    ///
    /// ```
    /// use attn_circuits::chain::ChainKind;
    /// use attn_circuits::input::{InputKind, Markov};
    /// // Three tables of the chain, `[V, V]` in double precision.
    /// let text = Markov { sequences: 64, length: 40, chain: ChainKind::default(), start: true };
    /// assert_eq!(text.building_bytes(100), 3 * 100 * 100 * 8);
    /// ```
    fn building_bytes(&self, d_vocab: usize) -> usize {
        let _ = d_vocab;
        0
    }
}

/// All kinds of input.
///
/// ```
/// use attn_circuits::input::INPUTS;
/// assert_eq!(INPUTS.iter().map(|kind| kind.name).collect::<Vec<_>>(), ["corrupted", "markov", "repeated_tokens", "tokens"]);
///
/// let input = (INPUTS[2].parse)(serde_json::json!({ "sequences": 64, "period": 20, "repeats": 3 }))?;
/// let shape = input.shape(".".as_ref(), None)?;
/// assert_eq!((shape.length, shape.min_vocab), (61, 21));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub static INPUTS: &[Kind<dyn InputKind>] = &[
    kind!(dyn InputKind, Corrupted),
    kind!(dyn InputKind, Markov),
    kind!(dyn InputKind, RepeatedTokens),
    kind!(dyn InputKind, Tokens),
];

impl InputShape {
    /// What the tokens themselves say.
    ///
    /// ```
    /// use attn_circuits::input::{InputShape, TokenBatch};
    /// use ndarray::array;
    /// let shape = InputShape::of(&TokenBatch::new(array![[0, 5, 3], [0, 7, 1]], None)?);
    /// assert_eq!(shape, InputShape { sequences: 2, length: 3, repeats: None, min_vocab: 8, max_vocab: None });
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn of(batch: &TokenBatch) -> Self {
        let largest = batch.tokens().iter().copied().max().unwrap_or(0);
        Self {
            sequences: batch.sequences(),
            length: batch.length(),
            repeats: batch.repeats(),
            min_vocab: largest as usize + 1,
            max_vocab: None,
        }
    }

    /// Checks that a vocabulary holds the tokens, and that they can be made for it.
    fn check_vocab(&self, d_vocab: usize) -> Result<()> {
        let wrong = |bound: String| {
            Err(Error::invalid(format!("the input needs a vocabulary of {bound}, but the model has one of {d_vocab}")))
        };
        match (self.min_vocab, self.max_vocab) {
            (least, _) if d_vocab < least => wrong(format!("at least {least}")),
            (_, Some(most)) if d_vocab > most => wrong(format!("at most {most}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexmap::IndexMap;
    use serde_json::Value;

    #[test]
    fn every_example_parses_into_its_kind() {
        for kind in INPUTS {
            let inputs: IndexMap<String, Value> = serde_yaml::from_str(kind.example).unwrap();
            let mut shapes: IndexMap<String, InputShape> = IndexMap::new();
            let mut last = String::new();
            for (name, mut input) in inputs {
                last = input.as_object_mut().unwrap().remove("kind").unwrap().as_str().unwrap().to_string();
                let input = (Kind::find(INPUTS, &last).unwrap().parse)(input).unwrap();
                let shape = input.shape(Path::new("."), input.of().map(|of| &shapes[of])).unwrap();
                shapes.insert(name, shape);
            }
            assert_eq!(last, kind.name);
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
