//! Stored results beside new ones.

use super::{Finding, Verification};
use crate::experiment::compare::{TableComparison, Tolerance, compare};
use crate::names::{counted, shorten};
use crate::store::{CellRecord, Manifest, Run, csv_table, files_below, hash, known_files, parquet_table};
use crate::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;

/// Differing cells of a table that are named.
const NAMED: usize = 3;

/// What is compared with what.
pub(super) struct Comparing<'a> {
    pub stored: &'a Run,
    /// The new results.
    pub again: &'a Run,
    /// Parameters that are swept, which are keys of tables.
    pub swept: BTreeSet<String>,
    pub tolerance: Tolerance,
}

impl Comparing<'_> {
    pub fn all(&self, found: &mut Verification) -> Result<()> {
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
        for file in files_below(folder).map_err(Error::io(folder))? {
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
        for (end, promised, new) in [("csv", &before.csv, &after.csv), ("parquet", &before.parquet, &after.parquet)] {
            let path = format!("tables/{name}.{end}");
            let bytes = match self.stored.read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    found.fault(format!("{path} cannot be read"), vec![error.to_string()]);
                    continue;
                }
            };
            let is = hash(&bytes);
            if is != *promised {
                let also = if is == *new { ", but it is what the experiment yields" } else { "" };
                found.fault(format!("{path} is not what the manifest says{also}"), vec![]);
            }
            if is == *new {
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
                Ok(table) => compare(&table, again, &self.swept, self.tolerance)?,
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

    /// What to say of a table whose bytes differ: an error if more than the tolerance allows does.
    fn finding(&self, compared: &TableComparison, path: &str, name: &str) -> Result<Finding, Finding> {
        let tolerance = self.tolerance;
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
            1 => format!("1 of {cells} values differs by more than {tolerance}"),
            _ => format!("{differing} of {cells} values differ by more than {tolerance}"),
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
                Ok(bytes) => hash(&bytes),
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
