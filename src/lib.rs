//! Reproducible experiments that take attention-only transformers apart.
//!
//! The modules form layers; a lower one never imports a higher one. From the bottom:
//!
//! | module | holds |
//! | --- | --- |
//! | [`error`], [`stream`], [mod@kind] | errors, named random streams, registries of what a YAML file can name |
//! | [`batch`] | token sequences, as models read them |
//! | [`linalg`] | low-rank products and decompositions |
//! | [`chain`] | bigram chains: a language of which everything is known |
//! | [`model`] | configuration, weights, forward pass with cache, interventions; [`model::build`] makes models |
//! | [`input`] | where token sequences come from |
//! | [`circuit`] | the mathematics on weights and caches: composition, head scores, sweeps of interventions, detection |
//! | [`measure`] | one file per measure: its YAML parameters and its table |
//! | [`figure`] | one file per kind of figure |
//! | [`query`] | polars SQL over tables |
//! | [`report`] | the HTML report |
//! | [`store`] | the results tree on disk, and the cache |
//! | [`experiment`] | the YAML file: loading with exact errors, planning, running; verifying and comparing results |
//! | [`notebook`], [`prelude`] | values that show themselves in a notebook, and an experiment that grows cell by cell |
//! | [`cli`] | the commands |

pub mod batch;
pub mod chain;
pub mod circuit;
pub mod cli;
pub mod error;
pub mod experiment;
pub mod figure;
mod files;
pub mod input;
pub mod kind;
pub mod linalg;
pub mod measure;
pub mod model;
mod names;
pub mod notebook;
pub mod prelude;
pub mod query;
pub mod report;
pub mod store;
pub mod stream;
mod tensor_file;

pub use error::{Error, Result};
