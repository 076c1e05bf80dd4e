//! Attention-only transformers: configuration, weights, forward pass.

pub mod build;
mod config;
pub mod export;
pub(crate) mod tensor_file;
mod weights;

pub use config::{ModelConfig, Normalization, Positions};
pub use weights::{BlockWeights, Head, LayerNorm, Transformer, Weights};
