//! Attention-only transformers: configuration, weights, forward pass.

mod attention;
pub mod build;
mod cache;
mod config;
pub mod export;
mod forward;
pub mod frozen;
mod weights;

pub use cache::{Cache, Keep};
pub use config::{HeadId, ModelConfig, Normalization, Positions};
pub use forward::Chunk;
pub(crate) use forward::{Steer, chunk_sequences};
pub use weights::{BlockWeights, Head, LayerNorm, Transformer, Weights};
