//! The results tree on disk: written whole or not at all.

mod manifest;
mod staging;
mod tables;

pub use manifest::{Artifact, CellRecord, Manifest, ModelRecord, TableRecord};
pub use staging::{Staging, check_target};
pub use tables::{read_parquet, to_csv, to_parquet};
