//! Attention-only transformers: configuration, weights, forward pass.

mod attention;
pub mod build;
mod cache;
mod channel;
mod config;
pub mod export;
mod forward;
pub mod frozen;
pub mod intervention;
mod weights;

pub use cache::{Cache, Keep};
pub use channel::Channel;
pub use config::{HeadId, ModelConfig, Normalization, Positions};
pub use forward::Chunk;
pub(crate) use forward::chunk_sequences;
pub(crate) use intervention::LEAST_ROWS_OF_LOGITS;
pub use weights::{BlockWeights, Head, LayerNorm, Transformer, Weights};
