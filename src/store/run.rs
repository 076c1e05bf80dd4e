use super::{Manifest, hash, parquet_table};
use crate::query::{self, Tables};
use crate::{Error, Result, files};
use polars::prelude::DataFrame;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Larger files are not read back.
const LARGEST_RESULT: u64 = 16 << 30;

/// The results of a run as they lie in a folder: what the manifest says, and the files that it speaks of.
///
/// ```
/// use attn_circuits::store::Run;
/// let run = Run::open("results/induction")?;
/// let scores = run.table("head_scores")?;
/// assert_eq!(scores.height(), run.manifest.tables["head_scores"].rows);
///
/// let best = run.select("SELECT model, layer, head, value FROM head_scores WHERE score = 'prefix_matching' ORDER BY value DESC")?;
/// assert!(best.column("value")?.f64()?.get(0) > Some(0.9));
/// assert!(run.manifest.claims().all(|claim| claim.holds));
///
/// // Figures are counted as in the report.
/// assert!(run.figure(1)?.starts_with("<svg"));
/// assert!(run.source()?.contains("cells:"));
/// assert_eq!(run.select("SHOW TABLES")?.height(), run.manifest.tables.len());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder, as an absolute path.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Run {
    /// Reads the manifest of a results folder.
    ///
    /// # Errors
    /// [`Error::File`] if the folder is not there, holds no results, or those of another version.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        // `.` and `..` have no name beside which a new folder could be written.
        let folder = fs::canonicalize(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::file(folder, "is not there; `run` makes it"),
            _ => Error::io(folder)(error),
        })?;
        let manifest = Manifest::read(&folder)?;
        Ok(Self { folder, manifest })
    }

    /// The content of a file; `path` is relative to the folder. It must lie there and not only seem to: what a link leads to would
    /// become a part of the report.
    ///
    /// # Errors
    /// [`Error::File`] if it is missing or a link out of the folder, [`Error::Io`] if it cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(path);
        let real = fs::canonicalize(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::file(&path, "is missing; `run` makes it anew"),
            _ => Error::io(&path)(error),
        })?;
        if !real.starts_with(&self.folder) {
            return Err(Error::file(&path, format!("is a link out of the folder, to {}; `run` makes it anew", real.display())));
        }
        files::read(&path, LARGEST_RESULT, "a file of results")
    }

    /// The experiment file that was run.
    ///
    /// # Errors
    /// Those of [`Run::read`].
    pub fn source(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read("experiment.yaml")?).into_owned())
    }

    /// A file of which the manifest knows the hash.
    ///
    /// # Errors
    /// [`Error::File`] if it is missing, or not what the run wrote.
    pub fn checked(&self, path: &str, blake3: &str) -> Result<Vec<u8>> {
        let bytes = self.read(path)?;
        if hash(&bytes) != blake3 {
            return Err(Error::file(self.folder.join(path), "is not what the run wrote; `run` makes it anew"));
        }
        Ok(bytes)
    }

    /// A table, from its Parquet file.
    ///
    /// # Errors
    /// Those of [`Run::checked`]; [`Error::Invalid`] if the manifest knows no such table.
    pub fn table(&self, name: &str) -> Result<DataFrame> {
        let record = self.manifest.tables.get(name).ok_or_else(|| Error::invalid(format!("there is no table `{name}`")))?;
        let path = format!("tables/{name}.parquet");
        parquet_table(self.checked(&path, &record.parquet)?, &self.folder.join(path))
    }

    /// All tables, in the order of the cells that made them.
    ///
    /// # Errors
    /// Those of [`Run::table`].
    pub fn tables(&self) -> Result<Tables> {
        self.manifest.tables.keys().map(|name| Ok((name.clone(), self.table(name)?))).collect()
    }

    /// What polars SQL over the tables of the run answers: [`query::select`]. Only the tables that the query
    /// names are read, or all if it names none: `SHOW TABLES`.
    ///
    /// # Errors
    /// Those of [`Run::table`]; [`Error::Table`] if the query cannot be run.
    pub fn select(&self, sql: &str) -> Result<DataFrame> {
        let names = self.manifest.tables.keys();
        let mut read: Vec<_> = names.clone().filter(|name| query::may_read(sql, name)).collect();
        if read.is_empty() {
            // Such as `SHOW TABLES`.
            read = names.collect();
        }
        query::select(sql, &read.into_iter().map(|name| Ok((name.clone(), self.table(name)?))).collect::<Result<_>>()?)
    }

    /// A figure as an SVG document, by its number in the report, from 1.
    ///
    /// # Errors
    /// Those of [`Run::checked`]; [`Error::Invalid`] if there are not as many.
    pub fn figure(&self, number: usize) -> Result<String> {
        let drawn = self.manifest.artifacts.iter().filter(|artifact| artifact.path.ends_with(".svg"));
        let figure = number.checked_sub(1).and_then(|before| drawn.clone().nth(before)).ok_or_else(|| {
            let figures = drawn.count();
            Error::invalid(format!("there is no figure {number}: {} has {figures}, counted from 1", self.folder.display()))
        })?;
        let svg = self.checked(&figure.path, &figure.blake3)?;
        String::from_utf8(svg).map_err(|_| Error::file(self.folder.join(&figure.path), "is no text; `figures` draws it anew"))
    }
}

/// Whether a folder holds results of a run.
pub fn is_results(folder: &Path) -> bool {
    folder.join("manifest.json").is_file()
}

/// The results folders that `folder` stands for: itself if it holds results, else those in it, by name.
///
/// # Errors
/// [`Error::File`] if there is no such folder, or there are no results in it.
pub fn results_in(folder: &Path) -> Result<Vec<PathBuf>> {
    if is_results(folder) {
        return Ok(vec![folder.to_path_buf()]);
    }
    let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::file(folder, "is not there; `run` makes it"),
        _ => Error::io(folder)(error),
    })?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io(folder))?.path();
        // A run in the making has a name that starts with a dot.
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && is_results(&path) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Error::file(folder, "holds no results of a run; `run` makes them"));
    }
    found.sort();
    Ok(found)
}
