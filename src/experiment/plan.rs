//! What a run will cost, from the sizes alone.

use super::{Cell, Experiment, Input, MeasureCell, Model};
use crate::model::ModelConfig;
use polars::prelude::{DataType, Schema};

/// The estimated cost of an experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One entry for each entry of `models:`.
    pub models: Vec<ModelPlan>,
    /// One entry for each cell; empty for those that measure nothing.
    pub cells: Vec<CellPlan>,
    /// Bytes of all measured tables and of the largest cell at work: what the run needs at least.
    pub peak_bytes: usize,
}

/// The cost of an entry of `models:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPlan {
    /// Its name.
    pub name: String,
    /// Number of models: variants times replicates.
    pub instances: usize,
    /// Bytes of the weights of the largest.
    pub bytes: usize,
}

/// The cost of a cell.
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
    /// Estimates the cost of every model and cell.
    pub fn plan(&self) -> Plan {
        let models: Vec<ModelPlan> = self.models.iter().map(|(name, model)| model_plan(name, model)).collect();
        let cells: Vec<CellPlan> = self.cells.iter().map(|cell| self.cell_plan(cell)).collect();
        let tables = cells.iter().fold(0, |sum: usize, cell| sum.saturating_add(cell.table_bytes));
        let working = cells.iter().map(|cell| cell.working_bytes).max().unwrap_or_default();
        Plan { models, cells, peak_bytes: tables.saturating_add(working) }
    }

    fn cell_plan(&self, cell: &Cell) -> CellPlan {
        let Cell::Measure(cell) = cell else { return CellPlan::default() };
        let input = cell.input.as_ref().and_then(|name| self.inputs.get(name));
        measure_plan(cell, cell.models.iter().filter_map(|name| self.models.get(name)), input)
    }
}

/// The cost of an entry of `models:`.
pub fn model_plan(name: &str, model: &Model) -> ModelPlan {
    ModelPlan {
        name: name.to_string(),
        instances: model.variants.len().saturating_mul(model.replicates),
        bytes: model.variants.iter().map(|variant| weight_bytes(&variant.config)).max().unwrap_or_default(),
    }
}

fn measure_plan<'a>(cell: &MeasureCell, models: impl Iterator<Item = &'a Model>, input: Option<&Input>) -> CellPlan {
    let shape = input.map(|input| &input.shape);
    let mut plan = CellPlan::default();
    let mut building = 0;
    let mut instances = 0usize;
    for model in models {
        instances = instances.saturating_add(model.variants.len().saturating_mul(model.replicates));
        for variant in &model.variants {
            let cost = cell.measure.cost(&variant.config, shape);
            plan.rows = plan.rows.saturating_add(cost.rows.saturating_mul(model.replicates));
            plan.working_bytes = plan.working_bytes.max(cost.bytes.saturating_add(weight_bytes(&variant.config)));
            building = input.map_or(0, |input| input.builder.building_bytes(variant.config.d_vocab)).max(building);
        }
    }
    // As many models are measured at once as there are threads; they share the tokens, which are made one vocabulary at a time.
    let tokens = shape.map_or(0, |s| s.sequences.saturating_mul(s.length).saturating_mul(size_of::<u32>()));
    plan.working_bytes = plan.working_bytes.saturating_mul(instances.min(rayon::current_num_threads()));
    plan.working_bytes = plan.working_bytes.saturating_add(tokens).saturating_add(building);
    plan.table_bytes = plan.rows.saturating_mul(row_bytes(&cell.schema));
    plan
}

/// Bytes of a model's weights; the largest number there is if it is beyond counting.
pub fn weight_bytes(config: &ModelConfig) -> usize {
    usize::try_from(config.n_params()).unwrap_or(usize::MAX).saturating_mul(size_of::<f32>())
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

/// The memory that is free on this machine, where the system says.
pub fn available_memory() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

/// `1.5 GiB`.
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
