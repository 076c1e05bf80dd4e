//! An experiment that grows cell by cell.

use super::shown::{Shown, shown};
use super::text::{CellText, Draft};
use crate::batch::TokenBatch;
use crate::experiment::{self, Experiment, LoadOptions, RunOptions};
use crate::model::Transformer;
use crate::store::{Cache, Lock, Run, hash};
use crate::{Error, Result, files};
use polars::prelude::DataFrame;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

#[cfg(test)]
mod tests;

/// Bytes that the cache of a notebook may take.
const CACHE: u64 = 1 << 30;
/// What the experiment of a notebook is called in messages, and its results folder.
const NAME: &str = "notebook";
/// How a file begins that a notebook has written; the hash of what it wrote comes next.
const SAVED: &str = "# Written by a notebook, which writes it again unless somebody has changed it: ";
/// How the folders of notebooks begin, in the system's folder for temporary files.
const FOLDER: &str = "attn-circuits-notebook-";

/// Removes the folders of notebooks whose process has ended without doing so, as that of a notebook does when its kernel is stopped:
/// the lock beside such a folder is nobody's.
fn clean_up() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let folder = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(FOLDER));
        // One that has no lock yet is just being made.
        if is_ours
            && files::beside(&folder, "lock").exists()
            && let Some(_lock) = Lock::try_acquire(&folder)
        {
            // Somebody else's stays.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// An experiment that grows cell by cell, and whose cells are run when they are given.
///
/// It speaks the language of experiment files: what is given to [`Notebook::model`] is an entry of `models:`, to
/// [`Notebook::cell`] one of `cells:`. A name that is given again replaces what had it, at its place; so a cell of a notebook can be
/// run twice. What cannot be run is refused, with the line at fault, and changes nothing.
///
/// ```
/// use attn_circuits::prelude::*;
/// let mut notebook = Notebook::new("What does each head of an induction circuit do?")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 10, repeats: 3 }")?;
/// assert_eq!((model.config().n_layers, tokens.tokens().dim()), (2, (4, 31)));
///
/// // A table, then a query over it, which the notebook keeps as a table too.
/// let scores = notebook.cell("measure: head_scores")?.table()?;
/// assert!(scores.schema().contains("value"));
/// notebook.cell(
///     "name: best
/// query: SELECT score, MAX(value) AS most FROM head_scores GROUP BY score",
/// )?;
/// let matching = notebook.select("SELECT most FROM best WHERE score = 'prefix_matching'")?;
/// assert!(matching.column("most")?.f64()?.get(0) > Some(0.9));
///
/// // What cannot be run says where it is wrong, and leaves the notebook as it is.
/// let refused = notebook.cell("measure: head_score");
/// assert!(refused.is_err_and(|error| error.to_string().contains("did you mean `head_scores`?")));
/// assert!(notebook.table("head_scores")?.equals(&scores));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct Notebook {
    draft: Draft,
    base: PathBuf,
    cache: Cache,
    results: TempDir,
    /// Behind the folder, so that it is given back when that is gone.
    _lock: Lock,
}

impl Notebook {
    /// A notebook without models, inputs and cells. Relative paths in it start from the working directory, which in Jupyter is the
    /// folder of the notebook.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// let notebook = Notebook::new("Nothing yet")?;
    /// assert_eq!(notebook.yaml(), "title: Nothing yet\ncells:\n  - text: Nothing is asked yet.\n");
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if there is no room for temporary files.
    pub fn new(title: &str) -> Result<Self> {
        let here = Path::new(".");
        clean_up();
        let results = tempfile::Builder::new().prefix(FOLDER).tempdir().map_err(Error::io(std::env::temp_dir()))?;
        let lock = Lock::acquire(results.path(), &|| ())?;
        let cache = Cache::new(results.path().join("cache"), CACHE);
        let base = std::path::absolute(here).map_err(Error::io(here))?;
        Ok(Self { draft: Draft::new(title), base, cache, results, _lock: lock })
    }

    /// The number that every random draw descends from, `seed:` of the file; 0 without it. What was drawn before stays as it was drawn:
    /// set it first.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// let random = "{ kind: random, layers: 1, heads: 1, d_model: 8, vocab: 5, context: 9 }";
    /// let mut notebook = Notebook::new("Two draws")?;
    /// let first = notebook.model("one", random)?;
    /// notebook.seed(1);
    /// assert_ne!(notebook.model("one", random)?.w_e(), first.w_e());
    /// notebook.seed(0);
    /// assert_eq!(notebook.model("one", random)?.w_e(), first.w_e());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn seed(&mut self, seed: u64) {
        self.draft.seed = Some(seed);
    }

    /// Adds an entry of `models:`, or replaces the one of that name, and answers with the model; of several (a sweep, replicates), with
    /// the first.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// let mut notebook = Notebook::new("Models")?;
    /// let wired = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// let imported = notebook.model("trained", "{ kind: import, weights: experiments/models/trained/weights.safetensors }")?;
    /// assert_eq!((wired.config().d_vocab, imported.config().n_layers), (17, 2));
    /// // Of a model with noise, the first level.
    /// let noisy = "{ kind: wired, circuit: induction, vocab: 17, context: 31, sweep: { noise: [0.0, 0.5] } }";
    /// assert_eq!(notebook.model("noisy", noisy)?.w_e(), wired.w_e());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Experiment`] shows what is wrong with the entry, or with cells that read it; those of building the model.
    pub fn model(&mut self, name: &str, yaml: &str) -> Result<Transformer> {
        let draft = self.draft.with_model(name, yaml);
        let experiment = self.loaded(&draft)?;
        let instance = experiment.instances().find(|instance| instance.name == name);
        let model = experiment.build(&instance.ok_or_else(|| Error::invalid(format!("there is no model `{name}`")))?)?;
        self.check_cells(&experiment)?;
        self.draft = draft;
        Ok(model)
    }

    /// Adds an entry of `inputs:`, or replaces the one of that name, and answers with its tokens, for the vocabulary of the first
    /// model that can read them. Where there are several, cells have to name theirs (`input: repeated`), also those that were there
    /// before.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// let mut notebook = Notebook::new("Inputs")?;
    /// notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// // A start token, then ten tokens three times.
    /// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 10, repeats: 3 }")?;
    /// let sequence = tokens.tokens().row(0).to_vec();
    /// assert_eq!(sequence[1..11], sequence[11..21]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Experiment`] shows what is wrong with the entry, or with cells that read it; [`Error::Invalid`] if there is no model
    /// yet.
    pub fn input(&mut self, name: &str, yaml: &str) -> Result<TokenBatch> {
        if !self.draft.has_models() {
            return Err(Error::invalid("an input is drawn for the vocabulary of a model: add a model first"));
        }
        let draft = self.draft.with_input(name, yaml);
        let experiment = self.loaded(&draft)?;
        let fits = |d_vocab: usize| {
            let shape = experiment.inputs.get(name).map(|input| input.shape);
            shape.is_some_and(|shape| d_vocab >= shape.min_vocab && shape.max_vocab.is_none_or(|most| d_vocab <= most))
        };
        let vocabularies: Vec<_> = experiment.instances().map(|instance| instance.variant.config.d_vocab).collect();
        let chosen = vocabularies.iter().find(|&&d_vocab| fits(d_vocab)).or(vocabularies.first());
        let d_vocab = *chosen.ok_or_else(|| Error::invalid("there are no models"))?;
        let tokens = experiment.tokens(name, d_vocab)?;
        self.check_cells(&experiment)?;
        self.draft = draft;
        Ok(tokens)
    }

    /// Runs a cell, written as in an experiment file (with or without the dash before it): `measure: head_scores`. A table that has
    /// the name of one that is there replaces it; so does a figure of the same title, and a claim or a text of the same words.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// let table = notebook.cell("measure: composition")?;
    /// let figure = notebook.cell("{ figure: composition_graph, of: composition, title: Who reads whom }")?;
    /// let claim = notebook.cell(
    ///     "claim: They compose through keys.
    /// check: SELECT MAX(score) > 0.1 FROM composition WHERE kind = 'k'",
    /// )?;
    /// assert!(matches!(table, Shown::Table(_)));
    /// assert!(matches!(figure, Shown::Figure { svg, .. } if svg.contains("Who reads whom")));
    /// assert!(matches!(claim, Shown::Claim(Claim { holds: true, .. })));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Experiment`] shows what is wrong with the cell, or with later cells if it replaces one; whatever running it says.
    pub fn cell(&mut self, yaml: &str) -> Result<Shown> {
        let cell = CellText::new(yaml)?;
        let (mut draft, mut index) = self.draft.with_cell(cell.clone());
        let mut experiment = self.loaded(&draft);
        if experiment.is_err() && self.draft.has(&cell) {
            // It may read what was made after the one that it replaces.
            let (moved, last) = self.draft.with_cell_last(cell);
            if let Ok(loaded) = self.loaded(&moved) {
                (draft, index, experiment) = (moved, last, Ok(loaded));
            }
        }
        let run = self.run_of(&experiment?)?;
        let shown = shown(&run, index)?;
        self.draft = draft;
        Ok(shown)
    }

    /// Takes a cell away: the one with the table of this name, or else the figure of this title, the claim or the text of these words.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// notebook.cell("measure: composition")?;
    /// notebook.cell("{ name: largest, query: SELECT MAX(score) AS score FROM composition }")?;
    /// // The query reads the table.
    /// assert!(notebook.remove("composition").is_err());
    /// notebook.remove("largest")?;
    /// notebook.remove("composition")?;
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none; [`Error::Experiment`] if other cells need it.
    pub fn remove(&mut self, what: &str) -> Result<()> {
        let draft = self.draft.without(what)?;
        self.loaded(&draft)?;
        self.draft = draft;
        Ok(())
    }

    /// A table of the cells so far.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// notebook.cell("{ measure: composition, name: pairs }")?;
    /// // One pair of heads through each of K, Q and V.
    /// assert_eq!(notebook.table("pairs")?.height(), 3);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no table of that name.
    pub fn table(&self, name: &str) -> Result<DataFrame> {
        self.run()?.table(name)
    }

    /// What polars SQL over the tables of the cells so far answers; unlike a `query:` cell, it leaves nothing behind.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// notebook.cell("measure: composition")?;
    /// let best = notebook.select("SELECT kind FROM composition ORDER BY score DESC LIMIT 1")?;
    /// assert_eq!(best, df!("kind" => ["k"])?);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Table`] if the query cannot be run.
    pub fn select(&self, sql: &str) -> Result<DataFrame> {
        self.run()?.select(sql)
    }

    /// The results of all cells, in a folder that lives as long as the notebook, and in which the next cell puts its own: what was
    /// computed before is not computed again.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// notebook.cell("measure: composition")?;
    /// let run = notebook.run()?;
    /// assert_eq!(run.manifest.tables["composition"].rows, 3);
    /// assert!(run.folder.join("report.html").exists());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Whatever running the cells says.
    pub fn run(&self) -> Result<Run> {
        self.run_of(&self.loaded(&self.draft)?)
    }

    /// The experiment file that the notebook is.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// let mut notebook = Notebook::new("Composition")?;
    /// notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// notebook.cell("measure: composition")?;
    /// let lines = [
    ///     "title: Composition",
    ///     "models:",
    ///     "  wired: { kind: wired, circuit: induction, vocab: 17, context: 31 }",
    ///     "cells:",
    ///     "  - measure: composition",
    ///     "",
    /// ];
    /// assert_eq!(notebook.yaml(), lines.join("\n"));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn yaml(&self) -> String {
        self.draft.yaml()
    }

    /// Writes the notebook as an experiment file, which `attn-circuits run` runs. Relative paths in it start from the folder of the
    /// file then.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
    /// # let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
    /// let path = folder.path().join("mine.yaml");
    /// notebook.save(&path)?;
    /// // The notebook may write its file again; one that somebody has changed stays.
    /// notebook.save(&path)?;
    /// std::fs::write(&path, "title: Mine now\n").map_err(Error::io(&path))?;
    /// assert!(notebook.save(&path).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Experiment`] if it is no experiment there; [`Error::File`] if a file is there that no notebook has written, or that
    /// somebody has changed since.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let yaml = self.yaml();
        experiment::load_str(&yaml, path, &[], &LoadOptions::default())?;
        if path.exists() {
            let there = files::read_text(path, experiment::LARGEST, "an experiment file")?;
            let (first, rest) = there.split_once('\n').unwrap_or((&there, ""));
            if first.strip_prefix(SAVED) != Some(&hash(rest.as_bytes())) {
                let text =
                    "was not written by a notebook, or has been changed since, and is left as it is: choose another name";
                return Err(Error::file(path, text));
            }
        }
        files::replace(path, format!("{SAVED}{}\n{yaml}", hash(yaml.as_bytes())).as_bytes())
    }

    fn loaded(&self, draft: &Draft) -> Result<Experiment> {
        let path = self.base.join(NAME).with_extension("yaml");
        experiment::load_str(&draft.yaml(), &path, &[], &LoadOptions::default())
    }

    /// Runs the cells that there are, on other models or inputs.
    fn check_cells(&self, experiment: &Experiment) -> Result<()> {
        if !self.draft.has_cells() { Ok(()) } else { self.run_of(experiment).map(drop) }
    }

    fn run_of(&self, experiment: &Experiment) -> Result<Run> {
        let options = RunOptions { cache: Some(&self.cache), ..RunOptions::default() };
        Run::open(experiment::run(experiment, self.results.path(), &options)?.folder)
    }
}
