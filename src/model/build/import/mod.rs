//! Models from files, in TransformerLens' names and shapes.

mod config;
mod weights;

use super::{BuildContext, ModelKind};
use crate::kind::Described;
use crate::model::{ModelConfig, Transformer};
use crate::tensor_file::TensorFile;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A model from a safetensors file and a `config.json`, in TransformerLens' names and shapes.
///
/// Numbers may be F32, F64, F16 or BF16, and are converted to F32. Biases may be absent. A setting or a tensor that would change
/// what the model computes, and that this program does not know, is refused.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The safetensors file; relative to the experiment file.
    pub weights: PathBuf,
    /// The configuration; relative to the experiment file. Default: `config.json` beside the weights.
    #[serde(default)]
    pub config: Option<PathBuf>,
}

impl Described for Import {
    const NAME: &'static str = "import";
    const EXAMPLE: &'static str = "\
mine:
  kind: import
  weights: mine/weights.safetensors
  config: mine/config.json
";
}

impl Import {
    fn paths(&self, base: &Path) -> (PathBuf, PathBuf) {
        let weights = base.join(&self.weights);
        let config = match &self.config {
            Some(config) => base.join(config),
            None => weights.with_file_name("config.json"),
        };
        (weights, config)
    }
}

impl ModelKind for Import {
    fn config(&self, base: &Path) -> Result<ModelConfig> {
        let (weights, config) = self.paths(base);
        let config = config::read(&config)?;
        let file = TensorFile::open(&weights)?;
        weights::check_header(&weights, &file.tensors()?, &config)?;
        Ok(config)
    }

    fn build(&self, context: &BuildContext) -> Result<Transformer> {
        let (weights, config) = self.paths(context.base);
        let config = config::read(&config)?;
        let file = TensorFile::open(&weights)?;
        let tensors = file.tensors()?;
        weights::check_header(&weights, &tensors, &config)?;
        let read = weights::read(&weights, &tensors, &config)?;
        Transformer::new(config, read).map_err(|error| Error::file(&weights, error.to_string()))
    }

    fn is_random(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
