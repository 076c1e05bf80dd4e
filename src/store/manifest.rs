use crate::names::shorten;
use crate::{Error, Result, files};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Larger manifests are not those of any run: each of the most models that an experiment can have takes some hundred bytes.
pub(super) const LARGEST: u64 = 1 << 30;

/// This program and its version, as manifests name it.
///
/// ```
/// use attn_circuits::store::PROGRAM;
/// let version = PROGRAM.strip_prefix("attn-circuits ").expect("it starts with the name");
/// assert_eq!(version.split('.').count(), 3);
/// ```
pub const PROGRAM: &str = concat!("attn-circuits ", env!("CARGO_PKG_VERSION"));

/// `manifest.json`: what made the results, and what they are. With the tables, all that drawing figures and report takes.
///
/// ```
/// use attn_circuits::store::{CellRecord, Manifest, PROGRAM};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("Who reads whom?")?;
/// notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25, sweep: { noise: [0.0, 0.5] } }")?;
/// notebook.cell("measure: composition")?;
/// notebook.cell("{ figure: composition_graph, of: composition, title: Who reads whom, facet: noise }")?;
/// notebook.cell("claim: Somebody\n  does.\ncheck: SELECT MAX(score) > 0.1 AS holds, COUNT(*) AS rows FROM composition")?;
///
/// let Run { manifest, folder } = notebook.run()?;
/// assert_eq!((manifest.program.as_str(), manifest.title.as_str(), manifest.seed), (PROGRAM, "Who reads whom?", 0));
/// assert_eq!((manifest.models.len(), &manifest.models[1].swept["noise"]), (2, &0.5.into()));
/// assert!(matches!(&manifest.cells[0], CellRecord::Measure { table, .. } if *table == "composition"));
/// assert_eq!(manifest.tables["composition"].rows, 2 * 3);
/// let figure = manifest.figures().next().expect("there is one");
/// assert_eq!((figure.kind, figure.of), ("composition_graph", "composition"));
/// let claim = manifest.claims().next().expect("there is one");
/// assert_eq!((claim.line().as_str(), claim.holds, manifest.verdicts()), ("Somebody does.", true, (1, 1)));
/// // Figures and report, each with its hash.
/// assert!(manifest.artifacts.iter().any(|file| file.path == "report.html" && file.blake3.len() == 64));
/// assert_eq!(Manifest::read(&folder)?, manifest);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// `attn-circuits` and its version: what made the tables.
    pub program: String,
    /// The same of what has drawn figures and report again, if that was another version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn_by: Option<String>,
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
    /// The files that were read, by the names that the experiment gives them, with their BLAKE3 as hex digits.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub files: IndexMap<String, String>,
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

/// One model that was built; of a [`Manifest`].
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

/// A cell and what became of it; of a [`Manifest`].
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
        /// Further inputs read, by the parameter that names each.
        #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
        other_inputs: IndexMap<String, String>,
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

/// A claim, [`CellRecord::Claim`] by itself: one of [`Manifest::claims`].
#[derive(Clone, Copy, Debug)]
pub struct ClaimRecord<'a> {
    /// The sentence (Markdown).
    pub statement: &'a str,
    /// The query that checks it.
    pub check: &'a str,
    /// Whether it holds.
    pub holds: bool,
    /// The numbers compared.
    pub numbers: &'a [(String, Value)],
}

impl ClaimRecord<'_> {
    /// The sentence in one line.
    pub fn line(&self) -> String {
        self.statement.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What a figure is drawn from, [`CellRecord::Figure`] by itself: one of [`Manifest::figures`].
#[derive(Clone, Copy, Debug)]
pub struct FigureRecord<'a> {
    /// Kind of figure.
    pub kind: &'a str,
    /// Name in the file name.
    pub name: &'a str,
    /// Title.
    pub title: &'a str,
    /// Its data: a table's name, or a query.
    pub of: &'a str,
    /// Parameters of the kind.
    pub parameters: &'a Value,
}

/// One table on disk; of a [`Manifest`].
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
    ///
    /// ```
    /// use attn_circuits::store::Artifact;
    /// let artifact = Artifact::new("report.html", b"<p>Nothing yet.");
    /// assert_eq!((artifact.path.as_str(), artifact.blake3.len()), ("report.html", 64));
    /// assert_ne!(artifact.blake3, Artifact::new("report.html", b"<p>Something.").blake3);
    /// ```
    pub fn new(path: &str, bytes: &[u8]) -> Self {
        Self { path: path.to_string(), blake3: hash(bytes) }
    }
}

/// BLAKE3 as hex digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Whether a path leads to something within the folder that it starts from, on any system.
fn is_inside(path: &str) -> bool {
    let is_step = |step: &str| !matches!(step, "" | "." | "..") && !step.contains(['\\', ':', '\0']);
    path.split('/').all(is_step)
}

impl Manifest {
    /// The file's text.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
    /// let run = notebook.run()?;
    /// assert_eq!(run.manifest.to_json().as_bytes(), run.read("manifest.json")?);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a manifest has string keys only");
        text.push('\n');
        text
    }

    /// Reads the manifest of a results folder.
    ///
    /// ```
    /// use attn_circuits::store::Manifest;
    /// let folder = tempfile::tempdir()?;
    /// let refused = |why: &str| Manifest::read(folder.path()).is_err_and(|error| error.to_string().contains(why));
    /// assert!(refused("holds no results of a run"));
    /// // That of another program, or of another version.
    /// std::fs::write(folder.path().join("manifest.json"), r#"{ "program": "attn-circuits 9.0.0" }"#)?;
    /// assert!(refused("is not a manifest of this version"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] if the folder holds none, or one that this version cannot read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = files::read_text(&path, LARGEST, "a manifest").map_err(|error| match error {
            Error::Io { source, .. } => Error::file(folder, format!("holds no results of a run ({source}); `run` makes them")),
            other => other,
        })?;
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|error| Error::file(&path, format!("is not a manifest of this version ({error}); `run` makes it anew")))?;
        // Names become paths: a manifest from elsewhere must not lead out of the folder.
        let figures = manifest.figures().map(|figure| figure.name);
        let is_plain =
            |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if let Some(name) = manifest.tables.keys().map(String::as_str).chain(figures).find(|name| !is_plain(name)) {
            return Err(Error::file(&path, format!("holds `{}`, which cannot be a name", shorten(name))));
        }
        match manifest.artifacts.iter().map(|artifact| &artifact.path).find(|path| !is_inside(path)) {
            Some(inner) => Err(Error::file(&path, format!("holds `{}`, which leads out of the folder", shorten(inner)))),
            None => Ok(manifest),
        }
    }

    /// Names of the parameters that any model sweeps.
    pub(crate) fn swept(&self) -> impl Iterator<Item = &String> {
        self.models.iter().flat_map(|model| model.swept.keys())
    }

    /// Every file that it has the hash of, with that: tables, figures and report.
    pub(crate) fn hashed(&self) -> impl Iterator<Item = (String, &str)> {
        let tables = self.tables.iter().flat_map(|(name, table)| {
            [("csv", &table.csv), ("parquet", &table.parquet)]
                .map(|(end, hash)| (format!("tables/{name}.{end}"), hash.as_str()))
        });
        tables.chain(self.artifacts.iter().map(|artifact| (artifact.path.clone(), artifact.blake3.as_str())))
    }

    /// The claims, in order.
    pub fn claims(&self) -> impl Iterator<Item = ClaimRecord<'_>> {
        self.cells.iter().filter_map(|cell| match cell {
            CellRecord::Claim { statement, check, holds, numbers } => {
                Some(ClaimRecord { statement, check, holds: *holds, numbers })
            }
            _ => None,
        })
    }

    /// The figures, in order: the first is number 1.
    pub fn figures(&self) -> impl Iterator<Item = FigureRecord<'_>> {
        self.cells.iter().filter_map(|cell| match cell {
            CellRecord::Figure { figure, name, title, of, parameters, .. } => {
                Some(FigureRecord { kind: figure, name, title, of, parameters })
            }
            _ => None,
        })
    }

    /// Number of claims that hold, and of all claims.
    pub fn verdicts(&self) -> (usize, usize) {
        self.claims().fold((0, 0), |(holding, all), claim| (holding + usize::from(claim.holds), all + 1))
    }
}
