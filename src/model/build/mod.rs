//! Kinds of model: what `models:` of an experiment can hold.

use super::{ModelConfig, Transformer};
use crate::Result;
use crate::kind::Kind;
use crate::stream::Stream;
use std::fmt::Debug;
use std::path::Path;

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

    /// Whether two replicates differ: false for a model without random draws.
    fn is_random(&self) -> bool;
}

/// All kinds of model.
pub static MODELS: &[Kind<dyn ModelKind>] = &[];
