//! What commands about stored results are given: results folders, folders of them, experiment files.

use crate::store::{is_results, results_in};
use crate::{Error, Result};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Targets {
    /// Results folders, folders that hold some, or experiment files whose results are wanted [default: all results]
    #[arg(value_name = "DIR-or-FILE")]
    targets: Vec<PathBuf>,
    /// Folder in which the results of experiment files lie
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

/// A results folder, and the experiment file by which it was named.
#[derive(Debug)]
pub(super) struct Target {
    /// As it was named.
    pub folder: PathBuf,
    /// The folder itself, as an absolute path without links.
    pub real: PathBuf,
    pub file: Option<PathBuf>,
}

impl Targets {
    /// The results folders meant, each once.
    ///
    /// # Errors
    /// [`crate::Error::File`] about the first that is not there or holds no results.
    pub fn resolve(&self) -> Result<Vec<Target>> {
        let named = match self.targets.as_slice() {
            [] => all_in(&self.results)?,
            targets => {
                let found: Result<Vec<_>> = targets.iter().map(|target| resolve(target, &self.results)).collect();
                found?.into_iter().flatten().collect()
            }
        };
        let mut found: Vec<Target> = Vec::new();
        for one in named {
            match found.iter_mut().find(|other| other.real == one.real) {
                None => found.push(one),
                // A link beside what it leads to is another name of it.
                Some(other) if other.folder.is_symlink() && !one.folder.is_symlink() => *other = one,
                Some(_) => {}
            }
        }
        Ok(found)
    }

    /// The folders of which all results are meant: their index pages are to be written.
    pub fn whole_folders(&self) -> Vec<&Path> {
        let named = if self.targets.is_empty() { std::slice::from_ref(&self.results) } else { &self.targets };
        named.iter().map(PathBuf::as_path).filter(|target| target.is_dir() && !is_results(target)).collect()
    }
}

/// The results that `target` names: an experiment file, a folder, or the name of an experiment whose results lie in `results`.
pub(super) fn resolve(target: &Path, results: &Path) -> Result<Vec<Target>> {
    if target.is_file() {
        let folder = results.join(target.file_stem().unwrap_or_default());
        let mut found = all_in(&folder)?;
        found.iter_mut().for_each(|one| one.file = Some(target.to_path_buf()));
        return Ok(found);
    }
    let named = results.join(target);
    let is_name = target.components().count() == 1 && !target.exists() && named.is_dir();
    all_in(if is_name { &named } else { target })
}

fn all_in(folder: &Path) -> Result<Vec<Target>> {
    let target = |folder: PathBuf| {
        let real = fs::canonicalize(&folder).map_err(Error::io(&folder))?;
        Ok(Target { folder, real, file: None })
    };
    results_in(folder)?.into_iter().map(target).collect()
}
