//! The experiment file: what it says, loading it with exact errors, planning and running it, and what can be done with its results:
//! drawing them again, verifying them, comparing two runs, the page over all of them.

mod asking;
mod cells;
pub mod compare;
mod diagnostic;
pub mod diff;
mod folder;
mod index;
mod ingredients;
mod inputs;
mod load;
mod measuring;
mod models;
mod overrides;
pub mod plan;
mod present;
mod progress;
mod reads;
mod redraw;
mod registries;
mod run;
mod run_tables;
pub mod schema;
mod sql;
mod tables;
#[cfg(test)]
mod testing;
mod up_to_date;
mod validate;
pub mod verify;
mod yaml;

pub use index::{Indexed, index, refresh_index, update_index};
pub(crate) use load::LARGEST;
pub use load::{LoadOptions, load, load_str, load_with};
pub use present::named;
pub use progress::{Count, Progress, Reused, Silent};
pub use redraw::{check_drawn_into, draw_into, redraw};
pub use registries::Registries;
pub use run::{Finished, RunOptions, run};
pub use up_to_date::up_to_date;

use crate::figure::Figure;
use crate::input::{InputKind, InputShape};
use crate::measure::Measure;
use crate::model::ModelConfig;
use crate::model::build::ModelKind;
use crate::stream::Stream;
use indexmap::IndexMap;
use polars::prelude::Schema;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An experiment, read and checked: every name in it refers to something, every query runs on the tables' columns, every model
/// reads its inputs.
///
/// ```
/// use attn_circuits::experiment::{Cell, LoadOptions, load_str};
/// let text = "
/// title: Is there an induction head?
/// models:
///   wired: { kind: wired, circuit: induction, vocab: 13, context: 25, sweep: { noise: [0.0, 0.5] } }
/// inputs:
///   repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }
/// cells:
///   - measure: head_scores
///   - query: SELECT noise, value FROM head_scores WHERE score = 'prefix_matching' AND head = 0 AND layer = 1
///     name: induction_head
/// ";
/// let experiment = load_str(text, "heads.yaml".as_ref(), &[], &LoadOptions::default())?;
/// assert_eq!(experiment.models["wired"].swept, ["noise"]);
/// assert_eq!(experiment.inputs["repeated"].shape.length, 1 + 2 * 6);
/// // What a cell leaves open is settled, and the columns of every table are known before anything is computed.
/// let [Cell::Measure(scores), Cell::Query { schema, .. }] = &experiment.cells[..] else {
///     panic!("a measure and a query")
/// };
/// assert_eq!((scores.name.as_str(), scores.input.as_deref()), ("head_scores", Some("repeated")));
/// assert_eq!(schema.iter_names().collect::<Vec<_>>(), ["noise", "value"]);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct Experiment {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub source: String,
    /// Title.
    pub title: String,
    /// The number that every random draw descends from.
    pub seed: u64,
    /// Opening prose (Markdown).
    pub about: Option<String>,
    /// Models by name, in the file's order.
    pub models: IndexMap<String, Model>,
    /// Inputs by name.
    pub inputs: IndexMap<String, Input>,
    /// Cells in order.
    pub cells: Vec<Cell>,
    /// The whole file as plain values with `--set` applied, for the manifest.
    pub resolved: Value,
    /// The files that it reads, by the names that it gives them, with their BLAKE3 when it was loaded.
    pub digests: BTreeMap<PathBuf, String>,
    /// What `--set` changed: `("models.wired.noise", 0.3)`.
    pub overrides: Vec<(String, Value)>,
    /// The same as it was given: `("models.wired.noise", "0.3")`.
    pub set: Vec<(String, String)>,
}

impl Experiment {
    /// The folder that relative paths in the file start from.
    ///
    /// ```
    /// # let text = "{ title: T, models: { m: { kind: bigram, vocab: 5, context: 9 } }, cells: [{ text: Nothing. }] }";
    /// use attn_circuits::experiment::{LoadOptions, load_str};
    /// let load = |path: &str| load_str(text, path.as_ref(), &[], &LoadOptions::default());
    /// assert_eq!(load("mine/heads.yaml")?.base(), "mine");
    /// assert_eq!(load("heads.yaml")?.base(), "");
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn base(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Every model of the experiment, in the file's order: by entry, then variant, then replicate.
    ///
    /// ```
    /// use attn_circuits::experiment::{LoadOptions, load_str};
    /// let text = "
    /// title: Chance
    /// models:
    ///   narrow: { kind: random, layers: 2, heads: 2, d_model: 8, vocab: 5, context: 9, replicates: 2, sweep: { heads: [1, 2] } }
    ///   bigram: { kind: bigram, vocab: 5, context: 9 }
    /// cells: [{ measure: composition, models: narrow }]
    /// ";
    /// let experiment = load_str(text, "chance.yaml".as_ref(), &[], &LoadOptions::default())?;
    /// let all: Vec<_> = experiment.instances().map(|one| (one.name, one.variant.values.clone(), one.replicate)).collect();
    /// let (one, two) = (vec![1.into()], vec![2.into()]);
    /// let narrow = [("narrow", one.clone(), 1), ("narrow", one, 2), ("narrow", two.clone(), 1), ("narrow", two, 2)];
    /// assert_eq!((&all[..4], &all[4]), (&narrow[..], &("bigram", vec![], 1)));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn instances(&self) -> impl Iterator<Item = Instance<'_>> {
        self.models.iter().flat_map(|(name, model)| model.instances(name))
    }

    /// Every figure of the experiment, in order.
    ///
    /// ```
    /// use attn_circuits::experiment::{LoadOptions, load_str};
    /// let text = "
    /// title: Heads
    /// models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25 } }
    /// inputs: { repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 } }
    /// cells:
    ///   - measure: head_scores
    ///   - { figure: heatmap, of: head_scores, title: Scores, x: head, y: layer, color: value, facet: score }
    /// ";
    /// let experiment = load_str(text, "heads.yaml".as_ref(), &[], &LoadOptions::default())?;
    /// let columns: Vec<_> = experiment.figures().map(|figure| figure.columns()).collect();
    /// assert_eq!(columns, [[("x", "head"), ("y", "layer"), ("color", "value"), ("facet", "score")]]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn figures(&self) -> impl Iterator<Item = &dyn Figure> {
        self.cells.iter().filter_map(|cell| match cell {
            Cell::Figure(cell) => Some(cell.figure.as_ref()),
            _ => None,
        })
    }

    /// The stream of an input's random draws.
    fn input_stream(&self, name: &str) -> Stream {
        Stream::new(self.seed).child("inputs").child(name)
    }

    /// The stream of a measure's own random draws.
    fn cell_stream(&self, cell: &MeasureCell) -> Stream {
        Stream::new(self.seed).child("cells").child(&cell.name)
    }

    /// An input, the one that it is made of, the one that that is made of, and so on.
    fn made_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a Input)> {
        let entry = |name: &str| self.inputs.get_key_value(name).map(|(name, input)| (name.as_str(), input));
        std::iter::successors(entry(name), move |(_, input)| entry(input.builder.of()?))
    }
}

/// One model: an entry of `models:` at one combination of swept values, and its number among the replicates; one of
/// [`Experiment::instances`].
#[derive(Clone, Copy, Debug)]
pub struct Instance<'a> {
    /// Name of the entry.
    pub name: &'a str,
    /// The entry.
    pub model: &'a Model,
    /// Index into [`Model::variants`].
    pub variant_index: usize,
    /// The variant.
    pub variant: &'a Variant,
    /// From 1.
    pub replicate: usize,
}

impl Model {
    /// Every model of this entry, which is called `name`.
    ///
    /// ```
    /// # use attn_circuits::experiment::{LoadOptions, load_str};
    /// # let text = "
    /// # title: Noise
    /// # models:
    /// #   noisy: { kind: wired, circuit: induction, vocab: 9, context: 9, replicates: 3, sweep: { noise: [0.1, 0.2] } }
    /// # cells: [{ measure: composition }]
    /// # ";
    /// # let experiment = load_str(text, "noise.yaml".as_ref(), &[], &LoadOptions::default())?;
    /// // `replicates: 3, sweep: { noise: [0.1, 0.2] }`
    /// let noisy = &experiment.models["noisy"];
    /// let places: Vec<_> = noisy.instances("noisy").map(|instance| (instance.variant_index, instance.replicate)).collect();
    /// assert_eq!(places, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn instances<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Instance<'a>> {
        self.variants.iter().enumerate().flat_map(move |(variant_index, variant)| {
            (1..=self.replicates).map(move |replicate| Instance { name, model: self, variant_index, variant, replicate })
        })
    }
}

impl Instance<'_> {
    /// The stream of this model's random draws. Variants of a sweep share that of their replicate: what differs between them is the
    /// swept value alone.
    ///
    /// ```
    /// # use attn_circuits::experiment::{LoadOptions, load_str};
    /// # let text = "
    /// # title: Noise
    /// # models:
    /// #   noisy: { kind: wired, circuit: induction, vocab: 9, context: 9, replicates: 2, sweep: { noise: [0.1, 0.2] } }
    /// # cells: [{ measure: composition }]
    /// # ";
    /// # let experiment = load_str(text, "noise.yaml".as_ref(), &[], &LoadOptions::default())?;
    /// // `replicates: 2, sweep: { noise: [0.1, 0.2] }`: of each replicate, the same noise at two strengths.
    /// let streams: Vec<_> = experiment.instances().map(|instance| instance.stream(experiment.seed).to_string()).collect();
    /// assert_eq!((&streams[0], &streams[1]), (&streams[2], &streams[3]));
    /// assert_ne!(streams[0], streams[1]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn stream(&self, seed: u64) -> Stream {
        Stream::new(seed).child("models").child(self.name).child(self.replicate.to_string())
    }

    /// The value of a swept parameter, if the model is swept by it.
    fn swept(&self, name: &str) -> Option<&Value> {
        let index = self.model.swept.iter().position(|swept| swept == name)?;
        self.variant.values.get(index)
    }
}

/// An entry of `models:`; several models ([`Model::instances`]) if it is swept or replicated.
#[derive(Debug)]
pub struct Model {
    /// Its kind, `wired`.
    pub kind: String,
    /// Names of the swept parameters, in order.
    pub swept: Vec<String>,
    /// Number of replicates, from 1.
    pub replicates: usize,
    /// One variant for each combination of swept values (a single one without a sweep), first parameter slowest.
    pub variants: Vec<Variant>,
}

/// A model at one combination of swept values; [`Experiment::instances`] goes through all.
#[derive(Debug)]
pub struct Variant {
    /// Values of [`Model::swept`], as they are in the file: numbers, strings, booleans or null.
    pub values: Vec<Value>,
    /// The parameters as they are in the file, with the swept values.
    pub parameters: Value,
    /// The parameters, ready to build.
    pub builder: Box<dyn ModelKind>,
    /// Its configuration.
    pub config: ModelConfig,
}

/// An entry of `inputs:`, whose tokens [`Experiment::tokens`] draws.
#[derive(Debug)]
pub struct Input {
    /// Its kind, `repeated_tokens`.
    pub kind: String,
    /// The parameters as they are in the file.
    pub parameters: Value,
    /// The parameters, ready to build.
    pub builder: Box<dyn InputKind>,
    /// Its shape.
    pub shape: InputShape,
}

/// A cell; the example of [`Experiment`] looks at two.
#[derive(Debug)]
pub enum Cell {
    /// Prose (Markdown).
    Text(String),
    /// A measurement: writes the table `name`.
    Measure(MeasureCell),
    /// A derived table.
    Query {
        /// polars SQL over the tables of the cells before.
        sql: String,
        /// Name of the table.
        name: String,
        /// Its columns.
        schema: Schema,
    },
    /// A figure.
    Figure(FigureCell),
    /// A statement with a check.
    Claim {
        /// The sentence (Markdown).
        statement: String,
        /// polars SQL that yields one row; its boolean column decides.
        check: String,
        /// Name of the deciding column.
        decides: String,
    },
}

/// A `measure:` cell; the example of [`Experiment`] looks at one.
#[derive(Debug)]
pub struct MeasureCell {
    /// Kind of measure, `head_scores`.
    pub kind: String,
    /// Name of the table.
    pub name: String,
    /// Names of the models measured.
    pub models: Vec<String>,
    /// Name of the input, where the measure reads one.
    pub input: Option<String>,
    /// Names of further inputs that the measure reads, by the parameter that names each.
    pub other_inputs: IndexMap<String, String>,
    /// The parameters as they are in the file.
    pub parameters: Value,
    /// The parameters.
    pub measure: Box<dyn Measure>,
    /// All columns: keys, then the measure's.
    pub schema: Schema,
}

/// A `figure:` cell, whose parameters [`Experiment::figures`] gives.
#[derive(Debug)]
pub struct FigureCell {
    /// Kind of figure, `heatmap`.
    pub kind: String,
    /// Name used in the file name (`NN-NAME.svg`).
    pub name: String,
    /// The data: a table's name, or the SQL that yields it.
    pub of: String,
    /// Title; the message of the figure.
    pub title: String,
    /// Words under it (Markdown).
    pub caption: Option<String>,
    /// The parameters.
    pub figure: Box<dyn Figure>,
    /// The parameters as they are in the file, for the manifest; what stood in other files is among them.
    pub parameters: Value,
}
