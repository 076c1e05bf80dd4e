//! The results tree on disk: written whole or not at all, by one process at a time; and the cache of what runs have computed.

mod cache;
mod key;
mod known;
mod lock;
mod manifest;
mod parquet;
mod replaced;
mod run;
mod staging;
mod tables;

pub use cache::Cache;
pub use key::Key;
pub(crate) use known::{files_below, known_files};
pub(crate) use lock::Lock;
pub(crate) use manifest::hash;
pub use manifest::{Artifact, CellRecord, ClaimRecord, FigureRecord, Manifest, ModelRecord, PROGRAM, TableRecord};
pub use replaced::replace_file;
pub use run::{Run, is_results, results_in};
pub use staging::{Staging, clean_up};
pub use tables::{as_read, csv_table, decode_parquet, parquet_table, to_csv, to_parquet};
