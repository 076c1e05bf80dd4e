use crate::{Error, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// `manifest.json`: what made the results, and what they are. With the tables, all that drawing figures and report takes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// `attn-circuits` and its version.
    pub program: String,
    /// Git revision of the repository that the experiment file lies in, if it lies in one.
    pub git_revision: Option<String>,
    /// Name of the experiment file.
    pub file: String,
    /// Title of the experiment.
    pub title: String,
    /// Opening prose (Markdown).
    pub about: Option<String>,
    /// The number that every random draw descends from.
    pub seed: u64,
    /// What `--set` changed.
    pub overrides: IndexMap<String, Value>,
    /// The models, one entry for each that was built.
    pub models: Vec<ModelRecord>,
    /// The whole experiment as plain values, with the overrides.
    pub parameters: Value,
    /// The cells in order, with what became of them.
    pub cells: Vec<CellRecord>,
    /// Tables by name.
    pub tables: IndexMap<String, TableRecord>,
    /// Figures and report: path and hash.
    pub artifacts: Vec<Artifact>,
}

/// One model that was built.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ModelRecord {
    /// Its name in the experiment.
    pub model: String,
    /// Its kind.
    pub kind: String,
    /// Values of the swept parameters.
    pub swept: IndexMap<String, Value>,
    /// Which replicate, from 1.
    pub replicate: usize,
    /// Seed of its random streams, as hex digits.
    pub stream: String,
    /// Shape in words: `2 layers × 4 heads, d_model 64, …`.
    pub shape: String,
    /// Number of weights, biases left out.
    pub parameters: u64,
}

/// A cell and what became of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "cell")]
pub enum CellRecord {
    /// Prose.
    Text {
        /// Markdown.
        markdown: String,
    },
    /// A measured table.
    Measure {
        /// Name of the table.
        table: String,
        /// Kind of measure.
        measure: String,
        /// Models measured.
        models: Vec<String>,
        /// Input read.
        input: Option<String>,
    },
    /// A derived table.
    Query {
        /// Name of the table.
        table: String,
        /// The query.
        sql: String,
    },
    /// A figure.
    Figure {
        /// Kind of figure.
        figure: String,
        /// Name in the file name.
        name: String,
        /// Title.
        title: String,
        /// Words under it (Markdown).
        caption: Option<String>,
        /// Its data: a table's name, or a query.
        of: String,
        /// Parameters of the kind.
        parameters: Value,
    },
    /// A claim.
    Claim {
        /// The sentence (Markdown).
        statement: String,
        /// The query that checks it.
        check: String,
        /// Whether it holds.
        holds: bool,
        /// The numbers compared.
        numbers: Vec<(String, Value)>,
    },
}

/// One table on disk.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TableRecord {
    /// Number of rows.
    pub rows: usize,
    /// Column names and types.
    pub columns: Vec<(String, String)>,
    /// BLAKE3 of `tables/NAME.csv`.
    pub csv: String,
    /// BLAKE3 of `tables/NAME.parquet`.
    pub parquet: String,
}

/// A file and its BLAKE3.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Artifact {
    /// Path within the results folder.
    pub path: String,
    /// BLAKE3 as hex digits.
    pub blake3: String,
}

impl Artifact {
    /// The record of a file that is about to be written.
    pub fn new(path: &str, bytes: &[u8]) -> Self {
        Self { path: path.to_string(), blake3: blake3::hash(bytes).to_hex().to_string() }
    }
}

impl Manifest {
    /// The file's text.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest has string keys only");
        text.push('\n');
        text
    }

    /// Reads the manifest of a results folder.
    ///
    /// # Errors
    /// [`Error::File`] if the folder holds none, or one that this version cannot read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = fs::read_to_string(&path)
            .map_err(|error| Error::file(folder, format!("holds no results of a run ({error}); `run` makes them")))?;
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|error| Error::file(&path, format!("is not a manifest of this version ({error}); `run` makes it anew")))?;
        // Names become paths: a manifest from elsewhere must not lead out of the folder.
        let figures = manifest.cells.iter().filter_map(|cell| match cell {
            CellRecord::Figure { name, .. } => Some(name),
            _ => None,
        });
        let is_plain = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        match manifest.tables.keys().chain(figures).find(|name| !is_plain(name)) {
            Some(name) => Err(Error::file(&path, format!("holds `{name}`, which cannot be a name"))),
            None => Ok(manifest),
        }
    }

    /// Number of claims that hold, and of all claims.
    pub fn claims(&self) -> (usize, usize) {
        let verdicts = self.cells.iter().filter_map(|cell| match cell {
            CellRecord::Claim { holds, .. } => Some(*holds),
            _ => None,
        });
        verdicts.fold((0, 0), |(holding, all), holds| (holding + usize::from(holds), all + 1))
    }
}
