//! How far a run is, and what of it was there already.

use crate::names::counted;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// Hears how far a run is.
///
/// ```
/// use attn_circuits::experiment::{LoadOptions, Progress, Reused, RunOptions, load_str, run};
/// use std::path::Path;
/// use std::sync::Mutex;
/// # use attn_circuits::Error;
///
/// #[derive(Default)]
/// struct Phases(Mutex<Vec<String>>);
/// impl Progress for Phases {
///     fn phase(&self, name: &str, steps: usize) {
///         self.0.lock().expect("no thread has panicked").push(format!("{name} {steps}"));
///     }
///     fn step(&self, _: &str) {}
///     fn finish(&self) {}
///     fn reused(&self, _: &Reused) {}
///     fn waiting(&self, _: &Path) {}
/// }
/// # let text = "
/// # title: Composition
/// # models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25, sweep: { noise: [0.0, 0.5] } } }
/// # cells:
/// #   - measure: composition
/// #   - { query: SELECT MAX(score) AS score FROM composition, name: largest }
/// # ";
/// # let experiment = load_str(text, "composition.yaml".as_ref(), &[], &LoadOptions::default())?;
/// # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
///
/// // Two models, one measure, one query.
/// let phases = Phases::default();
/// run(&experiment, out.path(), &RunOptions { progress: &phases, ..RunOptions::default() })?;
/// assert_eq!(*phases.0.lock().expect("no thread has panicked"), ["measuring 2", "asking 1", "drawing 0"]);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub trait Progress: Sync {
    /// A phase begins that has `steps` steps.
    fn phase(&self, name: &str, steps: usize);
    /// A step of the phase is done.
    fn step(&self, name: &str);
    /// The last phase is over.
    fn finish(&self);
    /// Some of the run was there already.
    fn reused(&self, reused: &Reused);
    /// Another process writes the results in this folder; the run goes on when it has ended.
    fn waiting(&self, folder: &Path);
}

/// A [`Progress`] that tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: &str, _: usize) {}
    fn step(&self, _: &str) {}
    fn finish(&self) {}
    fn reused(&self, _: &Reused) {}
    fn waiting(&self, _: &Path) {}
}

/// How many of all are not computed anew; of a [`Reused`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Taken from the cache.
    pub reused: usize,
    /// All.
    pub all: usize,
}

impl Count {
    /// Counts one more.
    pub(super) fn add(&mut self, reused: bool) {
        self.reused += usize::from(reused);
        self.all += 1;
    }
}

/// What of a run was in the cache. Shown as `13 of 14 measurements, 8 of 8 queries, …`.
///
/// ```
/// use attn_circuits::experiment::{Count, Reused};
/// let queries = Count { reused: 2, all: 3 };
/// let reused = Reused { measurements: Count { reused: 0, all: 1 }, queries, ..Reused::default() };
/// assert_eq!(reused.to_string(), "0 of 1 measurement, 2 of 3 queries");
/// assert!(reused.any() && !Reused::default().any());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reused {
    /// Measures of a model: a cell has as many as it measures models.
    pub measurements: Count,
    /// Derived tables.
    pub queries: Count,
    /// Claims.
    pub claims: Count,
    /// Figures.
    pub figures: Count,
}

impl Reused {
    /// Whether anything was.
    pub fn any(&self) -> bool {
        self.counts().iter().any(|(count, _)| count.reused > 0)
    }

    fn counts(&self) -> [(Count, &'static str); 4] {
        [(self.measurements, "measurement"), (self.queries, "query"), (self.claims, "claim"), (self.figures, "figure")]
    }
}

impl fmt::Display for Reused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let words = |(Count { reused, all }, name): (Count, &str)| format!("{reused} of {}", counted(all, name));
        let there = self.counts().into_iter().filter(|(count, _)| count.all > 0);
        f.write_str(&there.map(words).collect::<Vec<_>>().join(", "))
    }
}
