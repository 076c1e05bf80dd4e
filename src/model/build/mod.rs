//! Kinds of model: what `models:` of an experiment can hold.

mod bigram;
mod import;
mod random;
pub mod wired;

pub use bigram::{Bigram, CutChain};
pub use import::Import;
pub use random::{Initialisation, Random};
pub use wired::Wired;

use super::{ModelConfig, Transformer};
use crate::kind;
use crate::kind::Kind;
use crate::names::closest;
use crate::stream::Stream;
use crate::{Error, Result};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// What a builder may use besides its own parameters.
#[derive(Clone, Debug)]
pub struct BuildContext<'a> {
    /// Relative paths start here: the folder of the experiment file.
    pub base: &'a Path,
    /// The stream of this model and replicate; draws take a name below it, one per tensor.
    pub stream: Stream,
}

/// The checked parameters of a kind of model.
pub trait ModelKind: Send + Sync + Debug {
    /// The configuration of the model that [`ModelKind::build`] makes, found without making it. Whatever can be wrong with the
    /// parameters (and the header of a file of weights) is found here, before anything is computed.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] and [`crate::Error::File`] say what is wrong and what to do.
    fn config(&self, base: &Path) -> Result<ModelConfig>;

    /// Makes the model.
    ///
    /// # Errors
    /// Those of [`ModelKind::config`], and what only the numbers show (NaN in a file, say).
    fn build(&self, context: &BuildContext) -> Result<Transformer>;

    /// The files that the model is read from, as the parameters name them, relative to the folder of the experiment file. A file
    /// that is not here must not be read: what has been computed from one is taken for the same as long as it does not change.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The largest number of bytes that [`ModelKind::build`] holds beside the weights of the model, whose configuration is `config`:
    /// an estimate for planning. The weights themselves are in memory twice while the heads of a layer are put side by side.
    fn building_bytes(&self, config: &ModelConfig) -> usize {
        weight_bytes::<f32>(config)
    }

    /// Whether two replicates differ: false for a model without random draws.
    fn is_random(&self) -> bool;

    /// The circuit that the model was wired by, however blurred it is by now: which heads are meant to do what. `None` where nobody
    /// knows.
    ///
    /// # Errors
    /// Those of [`ModelKind::config`].
    fn wiring(&self) -> Result<Option<wired::Wiring>> {
        Ok(None)
    }

    /// What theory can start from to say what a measure should find in this very model.
    ///
    /// # Errors
    /// Those of [`ModelKind::config`].
    fn theory(&self) -> Result<Theory> {
        Ok(Theory::Nothing)
    }
}

/// What is known of all models of a kind with the same parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Theory {
    /// Nothing: its weights come from training, or its circuit is blurred.
    Nothing,
    /// Its circuit, to which every weight is true but for a rotation of the stream.
    Wiring(wired::Wiring),
    /// The distribution of its independent Gaussian weights.
    Initialisation(Initialisation),
    /// The bigram chain that it is, as far as its width allows.
    Chain(CutChain),
}

/// All kinds of model.
pub static MODELS: &[Kind<dyn ModelKind>] =
    &[kind!(dyn ModelKind, Wired), kind!(dyn ModelKind, Random), kind!(dyn ModelKind, Bigram), kind!(dyn ModelKind, Import)];

/// A model with more weights is a slip of the pen: refusing it here keeps every later product of sizes from overflowing.
const MAX_WEIGHTS: u128 = 1 << 40;

/// Bytes of a model's weights as numbers of type `T`; the largest number there is if it is beyond counting.
pub(crate) fn weight_bytes<T>(config: &ModelConfig) -> usize {
    usize::try_from(config.n_params()).unwrap_or(usize::MAX).saturating_mul(size_of::<T>())
}

/// Bytes of so many square matrices in double precision.
fn squares(count: usize, width: usize) -> usize {
    [count, width, width].iter().fold(size_of::<f64>(), |bytes, &factor| bytes.saturating_mul(factor))
}

/// Square matrices as wide as the stream that making a random rotation and turning by it takes.
const MATRICES_OF_A_ROTATION: usize = 4;

/// Checks a configuration and that its weights can be counted, before anything multiplies its numbers.
fn checked(config: ModelConfig) -> Result<ModelConfig> {
    config.check()?;
    let ModelConfig { n_layers, n_heads, d_model, d_head, d_vocab, n_ctx, .. } = config;
    let weights = config.n_params();
    if weights > MAX_WEIGHTS {
        let text = format!(
            "the model would have {weights} weights (n_layers {n_layers}, n_heads {n_heads}, d_model {d_model}, d_head {d_head}, \
             d_vocab {d_vocab}, n_ctx {n_ctx}); the limit is {MAX_WEIGHTS}"
        );
        return Err(Error::invalid(text));
    }
    Ok(config)
}

/// "; did you mean `x`?" for the nearest candidate, or nothing.
fn did_you_mean<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    closest(name, &candidates.collect::<Vec<_>>()).map(|candidate| format!("; did you mean `{candidate}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_example_parses_into_its_kind() {
        for kind in MODELS {
            let models: serde_json::Map<String, Value> = serde_yaml::from_str(kind.example).unwrap();
            let mut model = models.into_iter().next().unwrap().1;
            let fields = model.as_object_mut().unwrap();
            assert_eq!(fields.remove("kind").unwrap(), kind.name);
            // These belong to every kind of model.
            fields.retain(|name, _| !["sweep", "replicates"].contains(&name.as_str()));
            let parsed = (kind.parse)(model).unwrap();
            if kind.name != "import" {
                parsed.config(Path::new(".")).unwrap();
            }
            assert!(!kind.doc().is_empty());
        }
    }

    #[test]
    fn suggestions_are_near() {
        let names = || ["previous", "position", "token"].into_iter();
        assert_eq!(did_you_mean("previos", names()), "; did you mean `previous`?");
        assert_eq!(did_you_mean("output", names()), "");
    }
}
