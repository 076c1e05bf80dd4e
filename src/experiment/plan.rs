//! What a run will cost, from the sizes alone.

use super::{Cell, Experiment, Input, MeasureCell, Model};
use crate::figure;
use crate::input::InputShape;
use crate::model::build::weight_bytes;
use indexmap::IndexMap;
use polars::prelude::{DataType, Schema};
use std::path::{Path, PathBuf};

/// How often a table is in memory at most, in part or in whole, when it is sorted and written: as it was measured, sorted, and as CSV
/// and Parquet. A run with a table of 2040000 rows and little else takes 0.98 of what comes of this.
const COPIES_OF_TABLES: usize = 4;

/// The estimated cost of an experiment, by [`Experiment::plan`].
///
/// ```
/// use attn_circuits::experiment::plan::model_plan;
/// use attn_circuits::experiment::{LoadOptions, RunOptions, load_str, run};
/// # use attn_circuits::Error;
/// # let text = "
/// # title: Chance
/// # models: { chance: { kind: random, layers: 2, heads: 3, d_model: 12, vocab: 10, context: 9, replicates: 5 } }
/// # cells: [{ text: Pairs. }, { measure: composition }]
/// # ";
/// # let experiment = load_str(text, "chance.yaml".as_ref(), &[], &LoadOptions::default())?;
/// # let out = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
/// // Five random models of two layers with three heads, d_model 12; prose, then `measure: composition`.
/// let plan = experiment.plan();
/// let model = &plan.models[0];
/// assert_eq!((model.instances, model), (5, &model_plan("chance", &experiment.models["chance"])));
/// assert_eq!(model.bytes, 4 * experiment.models["chance"].variants[0].config.n_params() as usize);
/// // Nine pairs of heads through three channels, in each of five models.
/// assert_eq!((plan.cells[0].rows, plan.cells[1].rows), (0, 5 * 3 * 9));
/// assert!(plan.peak_bytes >= plan.tables_bytes && plan.tables_bytes >= plan.cells[1].table_bytes);
/// // The rows are known, and not only estimated.
/// let found = run(&experiment, out.path(), &RunOptions::default())?.manifest;
/// assert_eq!(found.tables["composition"].rows, plan.cells[1].rows);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One entry for each entry of `models:`.
    pub models: Vec<ModelPlan>,
    /// One entry for each cell; empty for those that measure nothing.
    pub cells: Vec<CellPlan>,
    /// Bytes of all measured tables while they are sorted and written. What queries derive from them is as a rule less than that, and
    /// not known before ([`crate::query::execute`] bounds it).
    pub tables_bytes: usize,
    /// Bytes of the bitmaps of the figures that are drawn at the same time.
    pub drawing_bytes: usize,
    /// Bytes that the run needs at its peak beside the program itself: for its tables and the largest cell at work, or for sorting
    /// and writing the tables, or for them and the figures.
    pub peak_bytes: usize,
}

/// The cost of an entry of `models:`; of a [`Plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPlan {
    /// Its name.
    pub name: String,
    /// Number of models: variants times replicates.
    pub instances: usize,
    /// Bytes of the weights of the largest.
    pub bytes: usize,
}

/// The cost of a cell; of a [`Plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CellPlan {
    /// Rows of its table.
    pub rows: usize,
    /// Bytes of its table.
    pub table_bytes: usize,
    /// Bytes held while the most expensive models are measured, one a thread: weights, activations, and the tokens that they read.
    pub working_bytes: usize,
}

impl Experiment {
    /// Estimates the cost of every model and cell; [`Plan`] has an example.
    pub fn plan(&self) -> Plan {
        let models: Vec<ModelPlan> = self.models.iter().map(|(name, model)| model_plan(name, model)).collect();
        let cells: Vec<CellPlan> = self.cells.iter().map(|cell| self.cell_plan(cell)).collect();
        let tables = cells.iter().fold(0, |sum: usize, cell| sum.saturating_add(cell.table_bytes));
        let tables_bytes = tables.saturating_mul(COPIES_OF_TABLES);
        let working = cells.iter().map(|cell| cell.working_bytes).max().unwrap_or_default();
        let drawing_bytes = self.drawing_bytes();
        // One after the other: tables grow while models are measured, are sorted and written, and lie there while figures are drawn.
        let peak_bytes = tables_bytes.max(tables.saturating_add(working.max(drawing_bytes)));
        Plan { models, cells, tables_bytes, drawing_bytes, peak_bytes }
    }

    /// Of the largest figures, one a thread.
    fn drawing_bytes(&self) -> usize {
        let drawn = self.cells.iter().filter_map(|cell| match cell {
            Cell::Figure(figure) => Some(figure::drawing_bytes(&figure.parameters)),
            _ => None,
        });
        let mut drawn: Vec<usize> = drawn.collect();
        drawn.sort_unstable_by_key(|&bytes| std::cmp::Reverse(bytes));
        drawn.into_iter().take(rayon::current_num_threads()).fold(0, usize::saturating_add)
    }

    fn cell_plan(&self, cell: &Cell) -> CellPlan {
        let Cell::Measure(cell) = cell else { return CellPlan::default() };
        let named = cell.input.iter().chain(cell.other_inputs.values());
        let inputs: IndexMap<&str, &Input> = named.flat_map(|name| self.made_of(name)).collect();
        measure_plan(cell, cell.models.iter().filter_map(|name| self.models.get(name)), &inputs)
    }
}

/// The cost of an entry of `models:`, as the [`Plan`] of its experiment has it.
pub fn model_plan(name: &str, model: &Model) -> ModelPlan {
    ModelPlan {
        name: name.to_string(),
        instances: model.variants.len().saturating_mul(model.replicates),
        bytes: model.variants.iter().map(|variant| weight_bytes::<f32>(&variant.config)).max().unwrap_or_default(),
    }
}

/// The cost of measuring these models. `inputs` has all that the cell reads, and what these are made of.
fn measure_plan<'a>(cell: &MeasureCell, models: impl Iterator<Item = &'a Model>, inputs: &IndexMap<&str, &Input>) -> CellPlan {
    let shape = cell.input.as_ref().and_then(|name| inputs.get(name.as_str())).map(|input| &input.shape);
    let mut plan = CellPlan::default();
    let mut building = 0;
    let mut instances = 0usize;
    for model in models {
        instances = instances.saturating_add(model.variants.len().saturating_mul(model.replicates));
        for variant in &model.variants {
            let cost = cell.measure.cost(&variant.config, shape);
            plan.rows = plan.rows.saturating_add(cost.rows.saturating_mul(model.replicates));
            // A model is built first, and then measured.
            let making = variant.builder.building_bytes(&variant.config);
            let weights = weight_bytes::<f32>(&variant.config);
            plan.working_bytes = plan.working_bytes.max(making.max(cost.bytes).saturating_add(weights));
            let to_build = inputs.values().map(|input| input.builder.building_bytes(variant.config.d_vocab));
            building = to_build.max().unwrap_or_default().max(building);
        }
    }
    // As many models are measured at once as there are threads; they share the tokens, which are made one input and vocabulary at
    // a time.
    let of_input = |s: InputShape| s.sequences.saturating_mul(s.length).saturating_mul(size_of::<u32>());
    let tokens = inputs.values().fold(0, |sum: usize, input| sum.saturating_add(of_input(input.shape)));
    plan.working_bytes = plan.working_bytes.saturating_mul(instances.min(rayon::current_num_threads()));
    plan.working_bytes = plan.working_bytes.saturating_add(tokens).saturating_add(building);
    plan.table_bytes = plan.rows.saturating_mul(row_bytes(&cell.schema));
    plan
}

/// Bytes of a row in memory: a string is a view of 16 bytes.
fn row_bytes(columns: &Schema) -> usize {
    columns
        .iter()
        .map(|(_, data_type)| match data_type {
            DataType::Boolean | DataType::Int8 | DataType::UInt8 => 1,
            DataType::Int16 | DataType::UInt16 => 2,
            DataType::Int32 | DataType::UInt32 | DataType::Float32 => 4,
            DataType::String => 16,
            _ => 8,
        })
        .sum()
}

/// The memory that is free for this process, with what it has already, where the system says: on this machine, and in the group of
/// processes (a container, a batch job) that it belongs to.
///
/// ```
/// use attn_circuits::experiment::LoadOptions;
/// use attn_circuits::experiment::plan::available_memory;
/// // What a run may need, unless something else is asked for.
/// assert_eq!(LoadOptions::default().memory_limit.is_some(), available_memory().is_some());
/// ```
pub fn available_memory() -> Option<usize> {
    let free = system_number("/proc/meminfo", "MemAvailable:");
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let free = free.into_iter().chain(free_in_groups(&groups, Path::new("/sys/fs/cgroup"))).min();
    free?.checked_add(program_bytes())
}

/// What the limits of Linux control groups leave: `groups` is what the system says of this process, `root` where the groups lie.
fn free_in_groups(groups: &str, root: &Path) -> Option<usize> {
    let number = |file: PathBuf| std::fs::read_to_string(file).ok()?.trim().parse::<usize>().ok();
    let free = |line: &str| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let (root, limit, used, unneeded) = match controllers {
            "" => (root.to_path_buf(), "memory.max", "memory.current", ["inactive_file ", "active_file "]),
            _ if controllers.split(',').any(|controller| controller == "memory") => (
                root.join("memory"),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                ["total_inactive_file ", "total_active_file "],
            ),
            _ => return None,
        };
        let free = |folder: &Path| {
            // What is kept of files that were read is given up when there is no room.
            let statistics = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
            let of_line = |line: &str| unneeded.iter().find_map(|name| line.strip_prefix(name)?.parse::<usize>().ok());
            let unneeded: usize = statistics.lines().filter_map(of_line).sum();
            let used = number(folder.join(used))?.saturating_sub(unneeded);
            Some(number(folder.join(limit))?.saturating_sub(used))
        };
        // The limits of all groups around it hold, too; one that is named but not to be seen here is that of the container's root.
        let folders = root.join(group.trim_start_matches('/'));
        let folders = folders.ancestors().take_while(|folder| folder.starts_with(&root));
        folders.filter_map(free).min()
    };
    groups.lines().filter_map(free).min()
}

/// Bytes that the process has in memory: before a run, the program itself, of which the executable's pages are the largest part.
/// Nothing where the system does not tell.
///
/// ```
/// use attn_circuits::experiment::plan::{available_memory, program_bytes};
/// // Where the system says what is free, it says this as well.
/// assert!(available_memory().is_none() || program_bytes() > 0);
/// ```
pub fn program_bytes() -> usize {
    system_number("/proc/self/status", "VmRSS:").unwrap_or_default()
}

/// Bytes in a file of the kernel's that has lines like `VmRSS:  1024 kB`.
pub(super) fn system_number(file: &str, name: &str) -> Option<usize> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// A size as people write it: `2GiB`, `500 MB`, `1.5G`, `3000000`. `K`, `M`, `G` and `T` alone are multiples of 1024, as `KiB` is.
///
/// ```
/// use attn_circuits::experiment::plan::parse_bytes;
/// assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
/// assert_eq!((parse_bytes("1.5G"), parse_bytes("500 MB")), (Ok(3 << 29), Ok(500_000_000)));
/// assert!(parse_bytes("0").is_err() && parse_bytes("two").is_err());
/// ```
///
/// # Errors
/// In words, what a size looks like.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = (text[..digits].parse::<f64>(), text[digits..].trim().to_ascii_lowercase());
    let factor = match unit.as_str() {
        "" | "b" => Some(1.0),
        _ => ["k", "m", "g", "t"].iter().zip(1..).find_map(|(letter, power)| match unit.strip_prefix(letter)? {
            "" | "ib" => Some(1024f64.powi(power)),
            "b" => Some(1000f64.powi(power)),
            _ => None,
        }),
    };
    match (number, factor) {
        (Ok(number), Some(factor)) if number > 0.0 && number * factor < usize::MAX as f64 => Ok((number * factor) as usize),
        _ => Err("write a size as in 2GiB, 500M or 1.5G".to_string()),
    }
}

/// `1.5 GiB`.
///
/// ```
/// use attn_circuits::experiment::plan::bytes;
/// assert_eq!((bytes(1023), bytes(1536)), ("1023 bytes".into(), "1.5 KiB".into()));
/// // A sum that is beyond counting.
/// assert_eq!(bytes(usize::MAX), "more than 16 EiB");
/// ```
pub fn bytes(count: usize) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if count == usize::MAX { format!("more than {value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(usize::MAX), "more than 16 EiB");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("3000000", 3_000_000),
            ("2GiB", 2 << 30),
            ("2g", 2 << 30),
            (" 1.5 G ", 3 << 29),
            ("500M", 500 << 20),
            ("500MB", 500_000_000),
            ("1KB", 1000),
            ("7k", 7 << 10),
            ("1T", 1 << 40),
            ("12b", 12),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text:?}");
        }
        for text in ["", "G", "-1G", "0", "1e9", "2 gigs", "2GiBs", "1.2.3M", "99999999999T", "NaN", "inf"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn limits_of_groups_of_processes_count() {
        let root = tempfile::tempdir().unwrap();
        let write = |folder: &str, files: &[(&str, &str)]| {
            let folder = root.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
        };
        write("jobs/mine", &[("memory.max", "max\n"), ("memory.current", "7\n")]);
        write(
            "jobs",
            &[
                ("memory.max", "1000\n"),
                ("memory.current", "400\n"),
                ("memory.stat", "file 300\ninactive_file 60\nactive_file 40\n"),
            ],
        );
        write("memory/box", &[("memory.limit_in_bytes", "500\n"), ("memory.usage_in_bytes", "100\n")]);
        write("jobs/mine/small", &[("memory.max", "200\n"), ("memory.current", "50\n")]);
        let free = |groups: &str| free_in_groups(groups, root.path());
        assert_eq!(free("0::/jobs/mine/small\n"), Some(150));
        assert_eq!(free("0::/jobs/mine\n"), Some(700));
        assert_eq!(free("0::/jobs/mine/of/a/host\n"), Some(700));
        assert_eq!(free("4:cpu,memory:/box\n0::/jobs/mine\n"), Some(400));
        assert_eq!(free("4:cpu:/box\n0::/\n"), None);
        assert_eq!(free(""), None);
    }

    #[test]
    fn a_text_costs_the_table_of_its_chain() {
        let plan = |chain_tokens: usize| {
            let text = format!(
                "title: Chains\nmodels:\n  \
                 m: {{ kind: random, layers: 0, heads: 1, d_model: 1, vocab: {chain_tokens}, context: 2 }}\n\
                 inputs:\n  text: {{ kind: markov, sequences: 1, length: 2 }}\ncells:\n  - measure: loss\n"
            );
            let options = crate::experiment::LoadOptions { memory_limit: None, ..Default::default() };
            crate::experiment::load_str(&text, std::path::Path::new("x.yaml"), &[], &options).unwrap().plan()
        };
        assert!(plan(4096).peak_bytes >= 2 * 8 * 4096 * 4096);
        assert!(plan(64).peak_bytes < 8 * 4096 * 4096);
    }
}
