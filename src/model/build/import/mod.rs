//! Models from files, in TransformerLens' names and shapes.

mod config;
mod weights;

use super::{BuildContext, MATRICES_OF_A_ROTATION, ModelKind, squares, weight_bytes};
use crate::kind::Described;
use crate::linalg::haar;
use crate::model::{ModelConfig, Transformer, Weights};
use crate::stream::Stream;
use crate::tensor_file::TensorFile;
use crate::{Error, Result};
use ndarray::Axis;
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
    /// A null model: every head is turned in the stream by a random rotation of its own (uniform, by Haar's measure). What a head is
    /// by itself stays (the singular values and eigenvalues of `W_QK` and `W_OV`); how heads lie to each other, to the embedding
    /// and to the unembedding is left to chance.
    #[serde(default)]
    pub scramble: bool,
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
        weights::check_header(&TensorFile::open(&weights)?, &config)?;
        Ok(config)
    }

    fn build(&self, context: &BuildContext) -> Result<Transformer> {
        let (weights, config) = self.paths(context.base);
        let config = config::read(&config)?;
        let file = TensorFile::open(&weights)?;
        weights::check_header(&file, &config)?;
        let mut read = weights::read(&file, &config)?;
        if self.scramble {
            scramble(&mut read, &context.stream.child("scramble"));
        }
        Transformer::new(config, read).map_err(|error| Error::file(&weights, error.to_string()))
    }

    fn files(&self) -> Vec<PathBuf> {
        let (weights, config) = self.paths(Path::new(""));
        vec![weights, config]
    }

    fn building_bytes(&self, config: &ModelConfig) -> usize {
        // Of the file itself there is never more in memory than a piece.
        let rotations = if self.scramble { squares(MATRICES_OF_A_ROTATION, config.d_model) } else { 0 };
        weight_bytes::<f32>(config).saturating_add(rotations)
    }

    fn is_random(&self) -> bool {
        self.scramble
    }
}

/// Turns every head by a rotation of its own: `W_Q, W_K, W_V → R W`, `W_O → W_O Rᵀ`.
fn scramble(weights: &mut Weights, stream: &Stream) {
    let d_model = weights.w_e.ncols();
    for (layer, block) in weights.blocks.iter_mut().enumerate() {
        for head in 0..block.w_q.len_of(Axis(0)) {
            let turn = haar(d_model, d_model, &mut stream.rng(format!("{layer}.{head}"))).mapv(|v| v as f32);
            for w in [&mut block.w_q, &mut block.w_k, &mut block.w_v] {
                let turned = turn.dot(&w.index_axis(Axis(0), head));
                w.index_axis_mut(Axis(0), head).assign(&turned);
            }
            let turned = block.w_o.index_axis(Axis(0), head).dot(&turn.t());
            block.w_o.index_axis_mut(Axis(0), head).assign(&turned);
        }
    }
}

#[cfg(test)]
mod tests;
