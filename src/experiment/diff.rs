//! Two runs side by side: what made them differ, and what differs.

mod settings;
#[cfg(test)]
mod tests;

pub use settings::{Line, Setting};

use super::compare::{TableComparison, Tolerance, compare};
use super::named;
use crate::Result;
use crate::store::{ClaimRecord, Manifest, Run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Everything in which two runs differ: what [`diff()`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// The programs that made them, where they are not the same.
    pub programs: Option<(String, String)>,
    /// What was set differently, with the lines that set it.
    pub settings: Vec<Setting>,
    /// Files that both experiments read and that held something else, by the names that these give them.
    pub files: Vec<String>,
    /// Tables, in the order of the first run.
    pub tables: Vec<TableDifference>,
    /// Claims, in the order of the first run.
    pub claims: Vec<ClaimDifference>,
}

/// A table that is not the same in both runs; of a [`Difference`].
#[derive(Clone, Debug, PartialEq)]
pub struct TableDifference {
    /// Its name.
    pub name: String,
    /// What is different.
    pub change: Change<usize, TableComparison>,
}

/// A claim that is not the same in both runs; of a [`Difference`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimDifference {
    /// The sentence, in one line.
    pub statement: String,
    /// Its verdict in one run, or what is different.
    pub change: Change<bool, ClaimChange>,
}

/// What became of something from the first run to the second; [`diff()`] has an example.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T, C> {
    /// Only the first run has it.
    Removed(T),
    /// Only the second run has it.
    Added(T),
    /// Both have it, and it differs.
    Changed(C),
}

/// How a claim differs; of a [`ClaimDifference`].
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimChange {
    /// Whether it holds, in the first run and in the second.
    pub holds: (bool, bool),
    /// The numbers that differ: name, in the first run, in the second; nothing where one does not show it.
    pub numbers: Vec<(String, String, String)>,
}

impl Difference {
    /// Whether there is none. Another version of the program is none, as long as it yields the same.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.files.is_empty() && self.tables.is_empty() && self.claims.is_empty()
    }
}

/// Compares the results in two folders; numbers count as the same within `tolerance`. Figures and reports come from the rest and are
/// not compared.
///
/// ```
/// use attn_circuits::experiment::compare::Tolerance;
/// use attn_circuits::experiment::diff::{Change, diff};
/// # use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
/// # use attn_circuits::Error;
/// # let text = "title: Copies
/// # models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25, scale: 10 } }
/// # inputs: { repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 } }
/// # cells:
/// #   - measure: loss
/// #   - claim: The last position is no surprise.
/// #     check: SELECT MAX(loss) < 0.1 FROM loss WHERE position = 11
/// # ";
/// # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
/// # let set = [("models.wired.scale".to_string(), "1".to_string())];
/// # let run = |name: &str, set: &[(String, String)]| {
/// #     let experiment = load_str(text, "copies.yaml".as_ref(), set, &LoadOptions::default())?;
/// #     Ok::<_, Error>(run(&experiment, &out.path().join(name), &RunOptions::default())?.folder)
/// # };
/// # let (a, b) = (run("a", &[])?, run("b", &set)?);
/// // Two runs of a file whose second line says `scale: 10`, one of them with `--set models.wired.scale=1`.
/// let found = diff(&a, &b, Tolerance::DEFAULT)?;
/// let scale = &found.settings[0];
/// assert_eq!((scale.left.as_deref(), scale.right.as_deref()), (Some("10"), Some("1")));
/// assert!(scale.left_line.as_ref().is_some_and(|line| line.place.as_ref().is_some_and(|(_, number)| *number == 2)));
/// assert!(scale.right_line.as_ref().is_some_and(|line| line.text == "--set models.wired.scale=1"));
/// // Other losses, and a claim that fails now.
/// assert!(matches!(&found.tables[0].change, Change::Changed(table) if table.differing() > 0));
/// assert!(matches!(&found.claims[0].change, Change::Changed(claim) if claim.holds == (true, false)));
/// assert!(!found.is_empty() && found.files.is_empty() && found.programs.is_none());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::File`] if a folder holds no results, or a table in it is not what its run wrote;
/// [`crate::Error::Experiment`] if its `experiment.yaml` is no YAML.
pub fn diff(left: &Path, right: &Path, tolerance: Tolerance) -> Result<Difference> {
    let (a, b) = (Run::open(left)?, Run::open(right)?);
    let programs = (a.manifest.program.clone(), b.manifest.program.clone());
    Ok(Difference {
        programs: (programs.0 != programs.1).then_some(programs),
        settings: settings::settings((&a, left), (&b, right))?,
        files: files(&a.manifest, &b.manifest),
        tables: tables(&a, &b, tolerance)?,
        claims: claims(&a.manifest, &b.manifest, tolerance),
    })
}

/// A file that only one of them reads is a setting.
fn files(a: &Manifest, b: &Manifest) -> Vec<String> {
    let differs = |(file, hash): &(&String, &String)| b.files.get(*file).is_some_and(|other| other != *hash);
    a.files.iter().filter(differs).map(|(file, _)| file.clone()).collect()
}

fn tables(a: &Run, b: &Run, tolerance: Tolerance) -> Result<Vec<TableDifference>> {
    let (left, right) = (&a.manifest.tables, &b.manifest.tables);
    let swept: BTreeSet<String> = a.manifest.swept().chain(b.manifest.swept()).cloned().collect();
    let mut found = Vec::new();
    for (name, record) in left {
        let change = match right.get(name) {
            None => Change::Removed(record.rows),
            Some(other) if other.parquet == record.parquet => continue,
            Some(_) => match compare(&a.table(name)?, &b.table(name)?, &swept, tolerance)? {
                same if !same.differs() && !same.reordered_rows => continue,
                different => Change::Changed(different),
            },
        };
        found.push(TableDifference { name: name.clone(), change });
    }
    for (name, record) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
        found.push(TableDifference { name: name.clone(), change: Change::Added(record.rows) });
    }
    Ok(found)
}

fn claims(a: &Manifest, b: &Manifest, tolerance: Tolerance) -> Vec<ClaimDifference> {
    let (left, mut right) = (a.claims(), b.claims().collect::<Vec<_>>());
    let mut found = Vec::new();
    for claim in left {
        let (statement, holds, numbers) = (claim.line(), claim.holds, claim.numbers);
        let Some(at) = right.iter().position(|other| other.line() == statement) else {
            found.push(ClaimDifference { statement, change: Change::Removed(holds) });
            continue;
        };
        let ClaimRecord { holds: other, numbers: others, .. } = right.remove(at);
        let find = |numbers: &[(String, Value)], name: &str| {
            numbers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
        };
        let exact =
            |numbers: &[(String, Value)], name: &str| find(numbers, name).map_or("–".to_string(), |value| value.to_string());
        // As the report shows them, unless that hides the difference.
        let shown = |name: &str| {
            let rounded = |numbers: &[(String, String)]| {
                numbers.iter().find(|(other, _)| other == name).map_or("–".to_string(), |(_, value)| value.clone())
            };
            match (rounded(&named(numbers)), rounded(&named(others))) {
                (a, b) if a == b => (exact(numbers, name), exact(others, name)),
                different => different,
            }
        };
        let names: Vec<String> = named(numbers).into_iter().chain(named(others)).map(|(name, _)| name).collect();
        let mut changed: Vec<(String, String, String)> = Vec::new();
        for name in names {
            let equal = match (find(numbers, &name), find(others, &name)) {
                (Some(a), Some(b)) => tolerance.same(&a, &b),
                _ => false,
            };
            if !equal && !changed.iter().any(|(other, ..)| *other == name) {
                let (left, right) = shown(&name);
                changed.push((name, left, right));
            }
        }
        if holds != other || !changed.is_empty() {
            let change = ClaimChange { holds: (holds, other), numbers: changed };
            found.push(ClaimDifference { statement, change: Change::Changed(change) });
        }
    }
    let added = |claim: ClaimRecord| ClaimDifference { statement: claim.line(), change: Change::Added(claim.holds) };
    found.extend(right.into_iter().map(added));
    found
}
