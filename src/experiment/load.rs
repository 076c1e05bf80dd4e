//! From a file to a checked [`Experiment`], or all that is wrong with it.

use super::diagnostic::{Diagnostic, Sources, Span, render};
use super::ingredients::Digests;
use super::models::Entries;
use super::plan::{available_memory, bytes, model_plan, program_bytes};
use super::schema::{DEFAULT_SEED, experiment_schema};
use super::validate::{Outcome, validate};
use super::yaml::{Node, Value, parse};
use super::{Cell, Experiment, Registries, folder, overrides};
use crate::{Error, Result, files};
use serde_json::Value as Json;
use std::path::Path;

/// Larger files are no experiments.
pub(crate) const LARGEST: u64 = 16 << 20;

/// How to load.
///
/// ```
/// use attn_circuits::experiment::{LoadOptions, load_str};
/// let text = "
/// title: Too large
/// models: { large: { kind: random, layers: 12, heads: 12, d_model: 768, vocab: 50257, context: 1024 } }
/// cells: [{ measure: composition }]
/// ";
/// let options = LoadOptions { memory_limit: Some(200 << 20), ..LoadOptions::default() };
/// let refused = load_str(text, "large.yaml".as_ref(), &[], &options).expect_err("it has 425 MB of weights");
/// assert!(refused.to_string().contains("the memory limit is 200.0 MiB"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions<'a> {
    /// The kinds that the file can use.
    pub registries: Registries<'a>,
    /// Bytes that the process may come to need: the run, and the program itself.
    pub memory_limit: Option<usize>,
    /// Whether errors are for a terminal with colours.
    pub colour: bool,
}

impl Default for LoadOptions<'static> {
    /// The kinds of this crate, the memory that this machine has free, no colour.
    fn default() -> Self {
        Self { registries: Registries::standard(), memory_limit: available_memory(), colour: false }
    }
}

/// Loads an experiment file and checks it, with the overrides `(path, value)` of `--set` applied.
///
/// ```
/// use attn_circuits::experiment::load;
/// let noisy = load("experiments/induction.yaml", &[("models.wired.noise".into(), "0.1".into())])?;
/// assert_eq!(noisy.overrides, [("models.wired.noise".to_string(), 0.1.into())]);
/// // A path that leads nowhere is shown with what is there.
/// let wrong = load("experiments/induction.yaml", &[("models.wird.noise".into(), "0.1".into())]);
/// assert!(wrong.is_err_and(|error| error.to_string().contains("did you mean `wired`?")));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Experiment`] with all problems, each with its place in the file; [`Error::File`] if a results folder cannot be called
/// like the file, or it is no file of at most 16 MiB; [`Error::Io`] if it cannot be read.
pub fn load(path: impl AsRef<Path>, overrides: &[(String, String)]) -> Result<Experiment> {
    load_with(path, overrides, &LoadOptions::default())
}

/// [`load`] with options.
///
/// ```
/// use attn_circuits::experiment::{LoadOptions, load_with};
/// let options = LoadOptions { memory_limit: None, ..LoadOptions::default() };
/// let experiment = load_with("experiments/composition.yaml", &[], &options)?;
/// assert_eq!(experiment.base(), "experiments");
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// Those of [`load`].
pub fn load_with(path: impl AsRef<Path>, overrides: &[(String, String)], options: &LoadOptions) -> Result<Experiment> {
    let path = path.as_ref();
    match String::from_utf8(files::read(path, LARGEST, "an experiment file")?) {
        Ok(text) => load_str(&text, path, overrides, options),
        Err(error) => {
            let start = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let sources = Sources::new(path.display().to_string(), text.as_ref());
            let problem = Diagnostic::new(Span { source: 0, start, end: start + 1 }, "this is not UTF-8");
            Err(Error::Experiment(render(vec![problem.help("save the file as UTF-8")], &sources, options.colour)))
        }
    }
}

/// Loads the experiment `text` as if it were the file `path`: relative paths start in its folder.
///
/// ```
/// use attn_circuits::experiment::{LoadOptions, load_str};
/// let text = "title: Heads
/// models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25 } }
/// inputs: { repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 } }
/// cells:
///   - measure: head_scores
///   - claim: Some head matches prefixes.
///     check: SELECT MAX(valeu) > 0.9 FROM head_scores WHERE score = 'prefix_matching'
/// ";
/// let problem = load_str(text, "heads.yaml".as_ref(), &[], &LoadOptions::default()).expect_err("there is no such column");
/// let problem = problem.to_string();
/// assert!(problem.contains("heads.yaml:7:23") && problem.contains("did you mean `value`?"));
/// // The results folder would have no name.
/// assert!(load_str(&text.replace("valeu", "value"), ".yaml".as_ref(), &[], &LoadOptions::default()).is_err());
/// ```
///
/// # Errors
/// Those of [`load`].
pub fn load_str(text: &str, path: &Path, overrides: &[(String, String)], options: &LoadOptions) -> Result<Experiment> {
    folder::check_name(path)?;
    let body = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut sources = Sources::new(path.display().to_string(), body);
    let fail = |problems, sources: &Sources| Err(Error::Experiment(render(problems, sources, options.colour)));
    let (mut root, duplicates) = match parse(body, 0, 0) {
        Ok(parsed) => parsed,
        Err(problems) => return fail(problems, &sources),
    };
    if root.value == Value::Null {
        let problem = Diagnostic::new(root.span, "the file is empty");
        let help =
            "an experiment has a `title`, `models`, `inputs` and `cells`; `attn-circuits new NAME` writes one to start from";
        return fail(vec![problem.help(help)], &sources);
    }
    let mut applied = Vec::new();
    let mut problems = duplicates;
    let before = problems.len();
    for (path, value) in overrides {
        match overrides::apply(&mut root, path, value, &mut sources) {
            Ok(node) => applied.push((path.clone(), node.to_json())),
            Err(more) => problems.extend(more),
        }
    }
    if problems.len() > before {
        return fail(problems, &sources);
    }
    let mut loader = Loader {
        registries: options.registries,
        base: path.parent().unwrap_or(Path::new("")),
        sources: &sources,
        outcome: validate(&root, &experiment_schema(&options.registries)),
        problems: Vec::new(),
        digests: Digests::new(),
        variants: 0,
        limit: options.memory_limit.unwrap_or(usize::MAX),
    };
    let loaded = loader.experiment(&root);
    problems.append(&mut loader.outcome.diagnostics);
    problems.append(&mut loader.problems);
    match loaded {
        Some(parts) if problems.is_empty() => Ok(Experiment {
            path: path.to_path_buf(),
            source: text.to_string(),
            resolved: root.to_json(),
            overrides: applied,
            set: overrides.to_vec(),
            ..parts
        }),
        _ => fail(problems, &sources),
    }
}

/// What the steps of loading share.
pub struct Loader<'l> {
    /// The kinds.
    pub registries: Registries<'l>,
    /// Relative paths start here.
    pub base: &'l Path,
    /// The texts.
    pub sources: &'l Sources,
    /// What the schema found: no follow-on errors in what already has one.
    pub outcome: Outcome,
    /// What was found since.
    pub problems: Vec<Diagnostic>,
    /// The files that were read, with what they held.
    pub digests: Digests,
    /// Combinations of swept values so far.
    pub variants: usize,
    /// Bytes that the process may come to need.
    pub limit: usize,
}

impl Loader<'_> {
    fn experiment(&mut self, root: &Node) -> Option<Experiment> {
        let models = self.models(root);
        let inputs = self.inputs(root);
        let too_large = self.check_models(&models);
        // With a model that does not fit, no cell's cost means anything; its names and queries are checked all the same.
        let cells = self.cells(root, &models, &inputs);
        if too_large || !self.problems.is_empty() || !self.outcome.diagnostics.is_empty() {
            return None;
        }
        let text = |key: &str| root.get(key).and_then(Node::as_str).map(String::from);
        let seed = match root.get("seed").map(|node| &node.value) {
            Some(&Value::Int(seed)) => u64::try_from(seed).ok()?,
            _ => DEFAULT_SEED,
        };
        let experiment = Experiment {
            path: Default::default(),
            source: String::new(),
            title: text("title")?,
            seed,
            about: text("about"),
            models: models.into_iter().map(|(name, model)| Some((name, model.value?))).collect::<Option<_>>()?,
            inputs: inputs.into_iter().map(|(name, input)| Some((name, input.value?))).collect::<Option<_>>()?,
            cells,
            resolved: Json::Null,
            overrides: Vec::new(),
            set: Vec::new(),
            digests: std::mem::take(&mut self.digests),
        };
        self.check_cells(root, &experiment);
        Some(experiment)
    }

    /// Reports models that do not fit into memory; answers whether there are any.
    fn check_models(&mut self, models: &Entries<super::Model>) -> bool {
        let limit = self.limit;
        let before = self.problems.len();
        for (name, named) in models {
            let Some(plan) = named.value.as_ref().map(|model| model_plan(name, model)) else { continue };
            if plan.bytes >= limit {
                let message = format!(
                    "the weights of model `{name}` take {}, and the memory limit is {}",
                    bytes(plan.bytes),
                    bytes(limit)
                );
                let help = "make its vocabulary, context or width smaller";
                self.problems.push(Diagnostic::new(named.span, message).help(help));
            }
        }
        self.problems.len() > before
    }

    /// Reports the cell that costs most if the run does not fit into memory.
    fn check_cells(&mut self, root: &Node, experiment: &Experiment) {
        let limit = self.limit;
        let plan = experiment.plan();
        let nodes = root.get("cells").map(Node::items).unwrap_or_default();
        let total = |cell: &super::plan::CellPlan| cell.table_bytes.saturating_add(cell.working_bytes);
        let program = program_bytes();
        let Some((index, cost)) = plan.cells.iter().enumerate().max_by_key(|(_, cell)| total(cell)) else { return };
        // Without a limit nothing is too much, not even what cannot be counted.
        if limit == usize::MAX || plan.peak_bytes.saturating_add(program) < limit {
            return;
        }
        // What the program itself takes is worth words only where it decides.
        let own = if plan.peak_bytes < limit { format!(" of {}", bytes(program)) } else { String::new() };
        let mut message = format!(
            "the run needs about {} beside the program itself{own}, and the memory limit is {}",
            bytes(plan.peak_bytes),
            bytes(limit)
        );
        let mut span = nodes[index].span;
        if let Cell::Measure(cell) = &experiment.cells[index] {
            span = nodes[index].get("measure").map_or(span, |tag| tag.span);
            message += &format!(
                ": most of it for `{}`, whose table has {} rows and takes {}, with {} at work",
                cell.name,
                cost.rows,
                bytes(cost.table_bytes),
                bytes(cost.working_bytes),
            );
        }
        let help = "measure fewer models or sequences, or limit the measure by its parameters; `--memory-limit` sets the limit";
        self.problems.push(Diagnostic::new(span, message).help(help));
    }
}

#[cfg(test)]
mod tests;
