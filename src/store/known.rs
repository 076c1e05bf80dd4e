//! What in a folder is results of a run.

use super::manifest::LARGEST;
use crate::{Error, Result, files};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

/// Files that every results folder has, beside its tables and what the manifest lists.
const FIXED: [&str; 4] = ["experiment.yaml", "manifest.json", "report.html", "run.json"];

/// Checks that results may be written to `target`: there is nothing yet, or nothing but what a run wrote.
///
/// # Errors
/// [`Error::File`] if something else stands there, or a file that no run wrote lies among the results.
pub(super) fn check_target(target: &Path) -> Result<()> {
    let in_the_way = || {
        let text = "is in the way: it holds no results of a run, and is not overwritten; move it or choose another --out";
        Error::file(target, text)
    };
    let files = match files_below(target) {
        Ok(files) if files.is_empty() => return Ok(()),
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) if target.is_file() => return Err(in_the_way()),
        Err(error) => return Err(Error::io(target)(error)),
    };
    let known = known_files(target).ok_or_else(in_the_way)?;
    match files.iter().find(|file| !known.contains(*file)) {
        Some(file) => {
            let text = "lies among the results, but no run wrote it: it would be lost; move it elsewhere";
            Err(Error::file(target.join(file), text))
        }
        None => Ok(()),
    }
}

/// The files that the manifest of a results folder knows; none if it is not a manifest of ours, of whatever version.
pub fn known_files(folder: &Path) -> Option<HashSet<String>> {
    let manifest: Value =
        serde_json::from_slice(&files::read(&folder.join("manifest.json"), LARGEST, "a manifest").ok()?).ok()?;
    manifest.get("program")?.as_str().filter(|program| program.starts_with("attn-circuits"))?;
    let mut known: HashSet<String> = FIXED.iter().map(ToString::to_string).collect();
    for name in manifest.get("tables")?.as_object()?.keys() {
        known.extend(["csv", "parquet"].map(|end| format!("tables/{name}.{end}")));
    }
    for artifact in manifest.get("artifacts")?.as_array()? {
        known.insert(artifact.get("path")?.as_str()?.to_string());
    }
    Some(known)
}

/// Paths of all files below a folder, relative to it and with `/`.
///
/// # Errors
/// What the system says.
pub fn files_below(folder: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    collect(folder, "", &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
