//! Attention-only transformers: configuration, weights, forward pass.

pub mod build;
mod config;
mod weights;

pub use config::{ModelConfig, Normalization, Positions};
pub use weights::{BlockWeights, Head, LayerNorm, Transformer, Weights};
