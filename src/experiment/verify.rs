//! Whether stored results are what their experiment yields: run again elsewhere, and compared.

mod comparing;
mod source;

use super::compare::Tolerance;
use super::{Finished, LoadOptions, Progress, RunOptions, run};
use crate::store::{Manifest, Run};
use crate::{Error, Result};
use comparing::Comparing;
use source::stored_experiment;
use std::path::{Path, PathBuf};

/// How to [`verify()`].
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
        Self { tolerance: Tolerance::DEFAULT, file: None, load: LoadOptions::default() }
    }
}

/// What became of a verification, by [`Verification::verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every file is the same to the byte.
    Same,
    /// All values are the same within the tolerance, but not every byte.
    WithinTolerance,
    /// Something is not the same.
    Differs,
}

/// Something that was found, in words; of a [`Verification`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is, in a line: `table head_scores: 3 of 640 values differ by more than 1e-4`.
    pub what: String,
    /// Where exactly, a line each.
    pub details: Vec<String>,
}

/// A verification: stored results beside those of a run of their own experiment. [`verify()`] has an example.
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
/// ```
/// use attn_circuits::experiment::Silent;
/// use attn_circuits::experiment::verify::{Verdict, VerifyOptions, verify};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// # notebook.cell("measure: composition")?;
/// let folder = notebook.run()?.folder;
/// let found = verify(&folder, &VerifyOptions::default(), &Silent)?;
/// assert_eq!((found.verdict(), found.faults.len()), (Verdict::Same, 0));
/// // Somebody changes a file.
/// let table = folder.join("tables/composition.csv");
/// std::fs::write(&table, "score\n1.0\n").map_err(Error::io(&table))?;
/// let found = verify(&folder, &VerifyOptions::default(), &Silent)?;
/// assert_eq!(found.verdict(), Verdict::Differs);
/// assert_eq!(found.faults[0].what, "tables/composition.csv is not what the manifest says");
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if the folder holds no results, or the experiment names files and its own file was not found; those of
/// [`super::load_str`] and [`super::run`].
pub fn verify(folder: &Path, options: &VerifyOptions, progress: &dyn Progress) -> Result<Verification> {
    let stored = Run::open(folder)?;
    let mut notes = Vec::new();
    let experiment = stored_experiment(&stored, folder, options, &mut notes)?;
    let elsewhere = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    // Without a cache: what is compared must have been computed.
    let Finished { folder: again, manifest, .. } = run(&experiment, elsewhere.path(), &RunOptions { cache: None, progress })?;
    let again = Run::open(&again)?;
    let mut found = Verification { folder: folder.to_path_buf(), manifest, faults: Vec::new(), close: Vec::new(), notes };
    let swept = stored.manifest.swept().cloned().collect();
    Comparing { stored: &stored, again: &again, swept, tolerance: options.tolerance }.all(&mut found)?;
    Ok(found)
}
