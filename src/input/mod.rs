//! Token sequences: what `inputs:` of an experiment can hold.

mod corrupted;
mod markov;
mod repeated_tokens;
mod tokens;

pub use corrupted::{Corrupted, Recipe};
pub use markov::Markov;
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
    /// Largest vocabulary that tokens can be made for, where there is a limit.
    pub max_vocab: Option<usize>,
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
    /// The input that this one is made of ([`InputKind::of`]), as it is for the same vocabulary.
    pub original: Option<&'a TokenBatch>,
}

/// The checked parameters of a kind of input.
pub trait InputKind: Send + Sync + Debug {
    /// The name of the input that this one is made of, as its parameter `of` gives it.
    fn of(&self) -> Option<&str> {
        None
    }

    /// The files that the tokens are read from, as the parameters name them, relative to the folder of the experiment file. A file
    /// that is not here must not be read: what has been computed from one is taken for the same as long as it does not change.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The shape, found before any computing; `original` is that of the input that this one is made of.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Parameter`] and [`Error::File`] say what is wrong with the parameters or the file.
    fn shape(&self, base: &Path, original: Option<&InputShape>) -> Result<InputShape>;

    /// The tokens for a model with this vocabulary.
    ///
    /// # Errors
    /// Those of [`InputKind::shape`], or a vocabulary outside of [`InputShape::min_vocab`] to [`InputShape::max_vocab`].
    fn build(&self, context: &InputContext) -> Result<TokenBatch>;

    /// The largest number of bytes that making the tokens holds beside them: an estimate for planning.
    fn building_bytes(&self, d_vocab: usize) -> usize {
        let _ = d_vocab;
        0
    }
}

/// All kinds of input.
pub static INPUTS: &[Kind<dyn InputKind>] = &[
    kind!(dyn InputKind, Corrupted),
    kind!(dyn InputKind, Markov),
    kind!(dyn InputKind, RepeatedTokens),
    kind!(dyn InputKind, Tokens),
];

impl InputShape {
    /// What the tokens themselves say.
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
