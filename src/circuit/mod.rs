//! The mathematics on weights and caches; no tables.

pub mod ablation;
pub mod closed_forms;
pub mod composition;
pub mod copying;
pub mod head_scores;
pub mod loss;
pub mod paths;
pub mod token_swap;
pub mod virtual_heads;
pub mod weights;
