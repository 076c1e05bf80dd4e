//! Whether stored results are what their experiment yields: run again elsewhere, and compared.

use super::compare::{TableComparison, Tolerance, compare};
use super::{Experiment, Finished, LoadOptions, Progress, RunOptions, load, load_str, run};
use crate::names::{counted, shorten};
use crate::store::{CellRecord, Manifest, Stored, csv_table, files_below, known_files, parquet_table};
use crate::{Error, Result, files};
use polars::prelude::DataFrame;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Differing cells of a table that are named.
const NAMED: usize = 3;

/// Tables and figures are compared within this unless something else is asked for.
///
/// Weights and activations are 32-bit numbers, of a relative precision of 6e-8. Another kind of processor adds them up in another
/// order; what comes out then differs by some hundred times that where many numbers are added and where an exponential follows
/// (scores of a sharp head are in the hundreds, and their error is multiplied by the pattern's slope). Two orders of magnitude above
/// that, and still far below what any claim or figure shows.
pub const TOLERANCE: f64 = 1e-4;

/// How to verify.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions<'a> {
    /// How far numbers may lie apart.
    pub tolerance: Tolerance,
    /// The experiment file, if the caller knows it. It is looked for otherwise: paths in it are relative to its folder, which the
    /// results do not keep.
    pub file: Option<&'a Path>,
    /// How the experiment is loaded.
    pub load: LoadOptions<'a>,
}

impl Default for VerifyOptions<'static> {
    fn default() -> Self {
        Self { tolerance: Tolerance::new(TOLERANCE).unwrap_or(Tolerance::EXACT), file: None, load: LoadOptions::default() }
    }
}

/// What became of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every file is the same to the byte.
    Same,
    /// All values are the same within the tolerance, but not every byte.
    WithinTolerance,
    /// Something is not the same.
    Differs,
}

/// Something that was found, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, in a line: `table head_scores: 3 of 640 values differ by more than 1e-4`.
    pub what: String,
    /// Where exactly, a line each.
    pub details: Vec<String>,
}

/// A verification: stored results beside those of a run of their own experiment.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The results folder.
    pub folder: PathBuf,
    /// The manifest of the new run.
    pub manifest: Manifest,
    /// What is not as it should be.
    pub faults: Vec<Finding>,
    /// Tables whose values are the same within the tolerance only.
    pub close: Vec<Finding>,
    /// What a reader should know, and what is no fault.
    pub notes: Vec<String>,
}

impl Verification {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        match (self.faults.is_empty(), self.close.is_empty()) {
            (false, _) => Verdict::Differs,
            (true, false) => Verdict::WithinTolerance,
            (true, true) => Verdict::Same,
        }
    }

    fn fault(&mut self, what: impl Into<String>, details: Vec<String>) {
        self.faults.push(Finding { what: what.into(), details });
    }
}

/// Runs the experiment that is stored in a results folder again, in a temporary folder, and compares. The stored results are only
/// read.
///
/// # Errors
/// [`Error::File`] if the folder holds no results, or the experiment names files and its own file was not found; those of
/// [`super::load_str`] and [`super::run`].
pub fn verify(folder: &Path, options: &VerifyOptions, progress: &dyn Progress) -> Result<Verification> {
    let stored = Stored::open(folder)?;
    let mut notes = Vec::new();
    let experiment = stored_experiment(&stored, folder, options, &mut notes)?;
    let elsewhere = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    // Without a cache: what is compared must have been computed.
    let Finished { folder: again, manifest, .. } = run(&experiment, elsewhere.path(), &RunOptions { cache: None, progress })?;
    let again = Stored::open(&again)?;
    let mut found = Verification { folder: folder.to_path_buf(), manifest, faults: Vec::new(), close: Vec::new(), notes };
    Comparing { stored: &stored, again: &again, tolerance: options.tolerance }.all(&mut found)?;
    Ok(found)
}

/// The stored experiment, with the overrides of its run, as if it stood where its file stands.
fn stored_experiment(stored: &Stored, folder: &Path, options: &VerifyOptions, notes: &mut Vec<String>) -> Result<Experiment> {
    let manifest = &stored.manifest;
    // A name, even in a manifest from elsewhere: nothing is read from a path in it.
    let name = Path::new(&manifest.file).file_name().ok_or_else(|| {
        Error::file(
            stored.folder.join("manifest.json"),
            format!("says that `{}` was run, which is no file name", manifest.file),
        )
    })?;
    let source = stored.source()?;
    // JSON is YAML.
    let overrides: Vec<_> = manifest.overrides.iter().map(|(path, value)| (path.clone(), value.to_string())).collect();
    let looked = places(&stored.folder);
    let found = match options.file {
        Some(file) => Some(file.to_path_buf()),
        None => looked.iter().map(|place| place.join(name)).find(|path| path.is_file()),
    };
    if let Some(file) = found {
        if files::read(&file, load::LARGEST, "an experiment file")? != source.as_bytes() {
            let text = "has changed since these results were made; what is verified is the text that was run";
            notes.push(format!("{} {text}", file.display()));
        }
        return load_str(&source, &file, &overrides, &options.load);
    }
    // Without colours: what is found becomes a part of another message.
    let load = LoadOptions { colour: false, ..options.load };
    load_str(&source, &stored.folder.join(name), &overrides, &load).map_err(|error| {
        let places: Vec<_> = looked.iter().map(|place| place.display().to_string()).collect();
        let text = format!(
            "its experiment file `{}` was not found (looked in {}), and the paths in it are relative to its folder: name the file \
             itself, as in `verify experiments/{}`\n\n{error}",
            name.display(),
            places.join(", "),
            name.display(),
        );
        Error::file(folder, text)
    })
}

/// Where the experiment file of a results folder is looked for: where the user stands, then around the results, and in a folder
/// `experiments` at each of these.
fn places(folder: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    let here = std::env::current_dir().ok();
    for place in here.iter().map(PathBuf::as_path).chain(folder.ancestors().skip(1).take(2)) {
        for place in [place.to_path_buf(), place.join("experiments")] {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}

/// What is compared with what.
struct Comparing<'a> {
    stored: &'a Stored,
    /// The new results.
    again: &'a Stored,
    tolerance: Tolerance,
}

impl Comparing<'_> {
    fn all(&self, found: &mut Verification) -> Result<()> {
        let (before, now) = (&self.stored.manifest, &self.again.manifest);
        if before.program != now.program || before.drawn_by.is_some() {
            let drawn = before.drawn_by.iter().map(|program| format!(", drawn by {program}")).collect::<String>();
            found.notes.push(format!("made by {}{drawn}, verified by {}", before.program, now.program));
        }
        self.what_was_run(found);
        // What makes tables differ stands before them.
        self.files_read(found);
        self.unknown_files(found)?;
        for name in before.tables.keys().chain(now.tables.keys().filter(|name| !before.tables.contains_key(*name))) {
            match (before.tables.contains_key(name), now.tables.contains_key(name)) {
                (true, false) => {
                    found.fault(format!("table {name} is stored, but the experiment makes none of this name"), vec![])
                }
                (false, _) => found.fault(format!("table {name} is not stored, but the experiment makes it"), vec![]),
                _ => self.table(name, found)?,
            }
        }
        self.claims(found);
        self.artifacts(found);
        Ok(())
    }

    /// Everything in the manifest but the results themselves.
    fn what_was_run(&self, found: &mut Verification) {
        let fixed = |manifest: &Manifest| {
            let Manifest { title, about, seed, overrides, models, parameters, cells, .. } = manifest;
            let without_results = |cell: &CellRecord| match cell {
                CellRecord::Claim { statement, check, .. } => {
                    CellRecord::Claim { statement: statement.clone(), check: check.clone(), holds: true, numbers: Vec::new() }
                }
                other => other.clone(),
            };
            let cells: Vec<_> = cells.iter().map(without_results).collect();
            serde_json::json!({
                "title": title, "about": about, "seed": seed, "overrides": overrides, "parameters": parameters,
                "models": models, "cells": cells,
            })
        };
        let mut details = Vec::new();
        differing_values(&fixed(&self.stored.manifest), &fixed(&self.again.manifest), String::new(), &mut details);
        if !details.is_empty() {
            let count = details.len();
            details.truncate(NAMED);
            found.fault(
                format!("manifest.json does not say what experiment.yaml says, in {}", counted(count, "place")),
                details,
            );
        }
    }

    fn files_read(&self, found: &mut Verification) {
        let (before, now) = (&self.stored.manifest.files, &self.again.manifest.files);
        // Versions that did not write them down say nothing about them.
        if before.is_empty() {
            return;
        }
        for file in now.keys().chain(before.keys().filter(|file| !now.contains_key(*file))) {
            let name = shorten(file);
            match (before.get(file), now.get(file)) {
                (Some(then), Some(hash)) if then == hash => {}
                (Some(then), Some(hash)) => {
                    let details = vec![format!("BLAKE3 {then:.64} stored, {hash} now")];
                    found.fault(format!("{name} is another file now than the one that was read"), details);
                }
                (None, _) => found.fault(format!("{name} is not in manifest.json, but the experiment reads it"), vec![]),
                (_, None) => found.fault(format!("{name} is in manifest.json, but the experiment does not read it"), vec![]),
            }
        }
    }

    fn unknown_files(&self, found: &mut Verification) -> Result<()> {
        let folder = &self.stored.folder;
        let known = known_files(folder).unwrap_or_default();
        for file in files_below(folder, "").map_err(Error::io(folder))? {
            if !known.contains(&file) {
                found.fault(format!("{file} lies among the results, but no run wrote it"), vec![]);
            }
        }
        Ok(())
    }

    /// Compares both files of a table: by hash, then cell by cell.
    fn table(&self, name: &str, found: &mut Verification) -> Result<()> {
        let (before, after) = (&self.stored.manifest.tables[name], &self.again.manifest.tables[name]);
        let mut computed = None;
        let mut wrong: Vec<Finding> = Vec::new();
        let mut close = None;
        for (end, promised, hash) in [("csv", &before.csv, &after.csv), ("parquet", &before.parquet, &after.parquet)] {
            let path = format!("tables/{name}.{end}");
            let bytes = match self.stored.read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    found.fault(format!("{path} cannot be read"), vec![error.to_string()]);
                    continue;
                }
            };
            let is = blake3::hash(&bytes).to_hex().to_string();
            if is != *promised {
                let also = if is == *hash { ", but it is what the experiment yields" } else { "" };
                found.fault(format!("{path} is not what the manifest says{also}"), vec![]);
            }
            if is == *hash {
                continue;
            }
            let again = match &computed {
                Some(again) => again,
                None => computed.insert(self.again.table(name)?),
            };
            let read = match end {
                "csv" => csv_table(bytes, again.schema(), &self.stored.folder.join(&path)),
                _ => parquet_table(bytes, &self.stored.folder.join(&path)),
            };
            let compared = match read {
                Ok(table) => self.compare(&table, again)?,
                Err(error) => {
                    found.fault(error.to_string(), vec![]);
                    continue;
                }
            };
            // Both files of a table that has other values say the same thing twice.
            match self.finding(&compared, &path, name) {
                Err(finding) if wrong.iter().any(|other| other.details == finding.details) => {}
                Err(finding) => wrong.push(finding),
                Ok(finding) => close = Some(finding),
            }
        }
        let differs = !wrong.is_empty();
        found.faults.append(&mut wrong);
        found.close.extend(close.filter(|_| !differs));
        Ok(())
    }

    fn compare(&self, stored: &DataFrame, again: &DataFrame) -> Result<TableComparison> {
        let swept: BTreeSet<String> =
            self.stored.manifest.models.iter().flat_map(|model| model.swept.keys().cloned()).collect();
        compare(stored, again, &swept, self.tolerance)
    }

    /// What to say of a table whose bytes differ: an error if more than the tolerance allows does.
    fn finding(&self, compared: &TableComparison, path: &str, name: &str) -> Result<Finding, Finding> {
        let tolerance = self.tolerance.get();
        let cells: usize = compared.rows.0.max(compared.rows.1) * compared.columns.len();
        if !compared.differs() {
            let (within, largest) = compared.within();
            let mut what = match within {
                0 => format!("table {name}: all values are equal"),
                1 => format!("table {name}: 1 value differs by {largest:.1e}"),
                _ => format!("table {name}: {within} values differ by {largest:.1e} at most"),
            };
            if compared.reordered_rows {
                what += ", rows in another order";
            }
            return Ok(Finding { what, details: vec![] });
        }
        let mut details = Vec::new();
        let columns =
            |columns: &[(String, String)]| columns.iter().map(|c| format!("{} ({})", c.0, c.1)).collect::<Vec<_>>().join(", ");
        if !compared.removed_columns.is_empty() {
            details.push(format!("only stored: column {}", columns(&compared.removed_columns)));
        }
        if !compared.added_columns.is_empty() {
            details.push(format!("not stored: column {}", columns(&compared.added_columns)));
        }
        for (column, stored, now) in &compared.retyped_columns {
            details.push(format!("column {column}: {stored} stored, {now} now"));
        }
        if compared.reordered_columns {
            details.push("columns stand in another order".to_string());
        }
        for (words, (count, rows)) in [("only stored", &compared.removed_rows), ("not stored", &compared.added_rows)] {
            if let Some(first) = rows.first() {
                details.push(format!("{words}: {}, the first {first}", counted(*count, "row")));
            }
        }
        for (column, cell) in compared.first(NAMED) {
            details.push(format!("{}: {column} is {} stored, {} now", cell.place, cell.left, cell.right));
        }
        let differing = compared.differing();
        let mut what = format!("{path}: ");
        what += &match differing {
            0 => "not the same columns and rows".to_string(),
            1 => format!("1 of {cells} values differs by more than {tolerance:e}"),
            _ => format!("{differing} of {cells} values differ by more than {tolerance:e}"),
        };
        Err(Finding { what, details })
    }

    fn claims(&self, found: &mut Verification) {
        for (before, now) in self.stored.manifest.claims().zip(self.again.manifest.claims()) {
            let statement = before.line();
            let word = |holds: bool| if holds { "holds" } else { "fails" };
            if before.holds != now.holds {
                let details = vec![format!("{} stored, {} now", word(before.holds), word(now.holds))];
                found.fault(format!("claim: {statement}"), details);
                continue;
            }
            let mut details = Vec::new();
            if !before.numbers.iter().map(|(name, _)| name).eq(now.numbers.iter().map(|(name, _)| name)) {
                details.push("not the same numbers".to_string());
            }
            for ((name, left), (_, right)) in before.numbers.iter().zip(now.numbers) {
                if !self.tolerance.same(left, right) {
                    details.push(format!("{name} is {left} stored, {right} now"));
                }
            }
            if !details.is_empty() {
                found.fault(format!("claim: {statement}"), details);
            }
        }
    }

    /// Figures and report. Those of other numbers look different, which is no further fault.
    fn artifacts(&self, found: &mut Verification) {
        let (before, now) = (&self.stored.manifest, &self.again.manifest);
        let same_numbers = found.faults.is_empty() && found.close.is_empty();
        let mut differing = Vec::new();
        for artifact in &before.artifacts {
            let path = &artifact.path;
            // PNGs are not kept in repositories; the SVG beside each is what was drawn.
            let left_out = path.ends_with(".png") && !self.stored.folder.join(path).exists();
            let is = match self.stored.read(path) {
                _ if left_out => artifact.blake3.clone(),
                Ok(bytes) => blake3::hash(&bytes).to_hex().to_string(),
                Err(error) => {
                    found.fault(format!("{path} cannot be read"), vec![error.to_string()]);
                    continue;
                }
            };
            if is != artifact.blake3 {
                found.fault(format!("{path} is not what the manifest says"), vec![]);
            }
            match now.artifacts.iter().find(|other| other.path == *path) {
                Some(other) if other.blake3 == is => {}
                Some(_) => differing.push(path.clone()),
                None => found.fault(format!("{path} is stored, but the experiment makes none of this name"), vec![]),
            }
        }
        for artifact in &now.artifacts {
            if !before.artifacts.iter().any(|other| other.path == artifact.path) {
                found.fault(format!("{} is not stored, but the experiment makes it", artifact.path), vec![]);
            }
        }
        if differing.is_empty() {
            return;
        }
        let verb = if differing.len() == 1 { "differs" } else { "differ" };
        let what = format!("{} of {} files of figures and report {verb}", differing.len(), before.artifacts.len());
        if same_numbers {
            found.fault(format!("{what}, though all values are the same"), differing);
        } else {
            found.notes.push(what);
        }
    }
}

/// The paths at which two trees of values differ, with both values.
fn differing_values(left: &Value, right: &Value, path: String, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let null = Value::Null;
                differing_values(a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), path, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differing_values(a, b, format!("{path}[{index}]"), found);
            }
        }
        _ if left == right => {}
        _ => {
            found.push(format!("{path}: {} stored, {} now", shorten(&left.to_string()), shorten(&right.to_string())));
        }
    }
}
