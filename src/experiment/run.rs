use super::present::present;
use super::tables::{MODEL, REPLICATE};
use super::{Cell, Experiment, FigureCell, Input, Instance, MeasureCell};
use crate::input::{InputContext, TokenBatch};
use crate::measure::Subject;
use crate::model::Transformer;
use crate::model::build::BuildContext;
use crate::query::{self, Tables};
use crate::store::{CellRecord, Manifest, ModelRecord, Staging, TableRecord, check_target, to_csv, to_parquet};
use crate::stream::Stream;
use crate::{Error, Result};
use indexmap::IndexMap;
use polars::prelude::{AnyValue, Column, DataFrame, DataType, Scalar, Schema, SortMultipleOptions};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

/// Hears how far a run is.
pub trait Progress: Sync {
    /// A phase begins that has `steps` steps.
    fn phase(&self, name: &str, steps: usize);
    /// A step of the phase is done.
    fn step(&self, name: &str);
    /// The last phase is over.
    fn finish(&self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: &str, _: usize) {}
    fn step(&self, _: &str) {}
    fn finish(&self) {}
}

impl Instance<'_> {
    fn record(&self, seed: u64) -> ModelRecord {
        let swept = self.model.swept.iter().cloned().zip(self.variant.values.iter().cloned());
        ModelRecord {
            model: self.name.to_string(),
            kind: self.model.kind.clone(),
            swept: swept.collect(),
            replicate: self.replicate,
            stream: self.stream(seed).to_string(),
            shape: self.variant.config.to_string(),
            parameters: self.variant.config.n_params() as u64,
        }
    }
}

/// Inputs already drawn, by name and vocabulary.
struct Inputs<'a> {
    experiment: &'a Experiment,
    drawn: Mutex<HashMap<(&'a str, usize), std::sync::Arc<TokenBatch>>>,
}

impl<'a> Inputs<'a> {
    fn get(&self, name: &'a str, d_vocab: usize) -> Result<std::sync::Arc<TokenBatch>> {
        let mut drawn = self.drawn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(batch) = drawn.get(&(name, d_vocab)) {
            return Ok(batch.clone());
        }
        let Input { builder, .. } = &self.experiment.inputs[name];
        let stream = Stream::new(self.experiment.seed).child("inputs").child(name);
        let batch = builder.build(&InputContext { base: self.experiment.base(), stream, d_vocab })?;
        let batch = std::sync::Arc::new(batch);
        drawn.insert((name, d_vocab), batch.clone());
        Ok(batch)
    }
}

/// Runs an experiment and writes its results to `out/<stem of the file>`: whole, or not at all.
///
/// Returns the results folder and the manifest.
///
/// # Errors
/// What the models, the measures and the file system say; nothing is written then, and the last results stay.
pub fn run(experiment: &Experiment, out: &Path, progress: &dyn Progress) -> Result<(PathBuf, Manifest)> {
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let clock = Instant::now();
    let target = out.join(experiment.path.file_stem().unwrap_or_default());
    check_target(&target)?;

    let measured = measure(experiment, progress)?;
    let measuring = clock.elapsed();
    let (tables, cells) = derive(experiment, measured, progress)?;

    let mut manifest = Manifest {
        program: format!("attn-circuits {}", env!("CARGO_PKG_VERSION")),
        git_revision: git_revision(experiment.base()),
        file: experiment.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        title: experiment.title.clone(),
        about: experiment.about.clone(),
        seed: experiment.seed,
        overrides: experiment.overrides.iter().cloned().collect(),
        models: experiment.instances().map(|instance| instance.record(experiment.seed)).collect(),
        parameters: experiment.resolved.clone(),
        cells,
        tables: IndexMap::new(),
        artifacts: Vec::new(),
    };
    let presented = present(&manifest, &tables, &experiment.source, progress)?;
    let staging = Staging::new(&target)?;
    manifest.tables = write_tables(&tables, &staging)?;
    presented.write(&mut manifest, &staging)?;
    staging.write("experiment.yaml", experiment.source.as_bytes())?;
    staging.write("manifest.json", manifest.to_json().as_bytes())?;
    let about_this_run = json!({
        "started_unix_seconds": started,
        "wall_seconds": clock.elapsed().as_secs_f64(),
        "measuring_seconds": measuring.as_secs_f64(),
        "threads": rayon::current_num_threads(),
        "peak_memory_bytes": peak_memory(),
        "host": host(),
        "platform": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    });
    staging.write("run.json", format!("{about_this_run:#}\n").as_bytes())?;
    staging.publish()?;
    progress.finish();
    Ok((target, manifest))
}

/// Computes every measure cell; models are built once, measured by all cells that name them, and dropped.
fn measure(experiment: &Experiment, progress: &dyn Progress) -> Result<HashMap<usize, DataFrame>> {
    let cells: Vec<(usize, &MeasureCell)> = experiment
        .cells
        .iter()
        .enumerate()
        .filter_map(|(index, cell)| match cell {
            Cell::Measure(cell) => Some((index, cell)),
            _ => None,
        })
        .collect();
    let uses = |instance: &Instance, cell: &MeasureCell| cell.models.iter().any(|name| name == instance.name);
    let instances: Vec<_> =
        experiment.instances().filter(|instance| cells.iter().any(|(_, cell)| uses(instance, cell))).collect();
    let steps = instances.iter().map(|i| cells.iter().filter(|(_, cell)| uses(i, cell)).count()).sum();
    progress.phase("measuring", steps);

    let inputs = Inputs { experiment, drawn: Mutex::default() };
    let of_instance = |instance: &Instance| -> Result<Vec<(usize, DataFrame)>> {
        let stream = instance.stream(experiment.seed);
        let model = instance.variant.builder.build(&BuildContext { base: experiment.base(), stream })?;
        let mut tables = Vec::new();
        for (index, cell) in cells.iter().filter(|(_, cell)| uses(instance, cell)) {
            tables.push((*index, measure_one((instance, experiment.seed), cell, &model, &inputs)?));
            progress.step(&format!("{} of {}", cell.name, instance.name));
        }
        Ok(tables)
    };
    let parts: Vec<_> = instances.par_iter().map(of_instance).collect::<Result<_>>()?;

    let mut stacked: HashMap<usize, DataFrame> = HashMap::new();
    for (index, part) in parts.into_iter().flatten() {
        match stacked.get_mut(&index) {
            Some(table) => drop(table.vstack_mut(&part)?),
            None => drop(stacked.insert(index, part)),
        }
    }
    for (index, cell) in &cells {
        let table = stacked.remove(index).unwrap_or_else(|| DataFrame::empty_with_schema(&cell.schema));
        let keys: Vec<String> = key_names(&cell.schema).map(ToString::to_string).collect();
        // Measures sort their own rows, so a stable sort by the keys in front sorts the table.
        let order = SortMultipleOptions::default().with_nulls_last(false).with_maintain_order(true);
        stacked.insert(*index, table.sort(keys, order)?.align_chunks_par().clone());
    }
    Ok(stacked)
}

/// The key columns of a table: all up to `replicate`.
fn key_names(schema: &Schema) -> impl Iterator<Item = &str> {
    let last = schema.index_of(REPLICATE).unwrap_or(0);
    schema.iter_names().take(last + 1).map(|name| name.as_str())
}

fn measure_one<'a>(
    (instance, seed): (&Instance, u64),
    cell: &'a MeasureCell,
    model: &Transformer,
    inputs: &Inputs<'a>,
) -> Result<DataFrame> {
    let batch = cell.input.as_deref().map(|name| inputs.get(name, model.config().d_vocab)).transpose()?;
    let values = cell.measure.compute(&Subject {
        model,
        input: batch.as_deref(),
        origin: Some(instance.variant.builder.as_ref()),
        stream: Stream::new(seed).child("cells").child(&cell.name),
    })?;
    let rows = values.height();
    let mut columns = Vec::with_capacity(cell.schema.len());
    for name in key_names(&cell.schema) {
        let dtype = cell.schema.try_get(name)?.clone();
        let value = match name {
            MODEL => AnyValue::StringOwned(instance.name.into()),
            REPLICATE => AnyValue::Int64(instance.replicate as i64),
            swept => swept_value(instance.swept(swept), &dtype),
        };
        columns.push(Column::new_scalar(name.into(), Scalar::new(dtype, value), rows));
    }
    columns.extend(values.into_columns());
    let table = DataFrame::new(rows, columns)?;
    if table.schema().as_ref() != &cell.schema {
        let text = format!("measure {} made columns {:?}, not those it promised: a defect", cell.kind, table.schema());
        return Err(Error::invalid(text));
    }
    Ok(table)
}

fn swept_value(value: Option<&Value>, dtype: &DataType) -> AnyValue<'static> {
    let value = value.unwrap_or(&Value::Null);
    match dtype {
        DataType::Int64 => value.as_i64().map_or(AnyValue::Null, AnyValue::Int64),
        DataType::Float64 => value.as_f64().map_or(AnyValue::Null, AnyValue::Float64),
        DataType::Boolean => value.as_bool().map_or(AnyValue::Null, AnyValue::Boolean),
        _ => match value {
            Value::Null => AnyValue::Null,
            Value::String(text) => AnyValue::StringOwned(text.as_str().into()),
            other => AnyValue::StringOwned(other.to_string().into()),
        },
    }
}

/// Runs queries and claims, in order, over the tables above them.
fn derive(
    experiment: &Experiment,
    mut measured: HashMap<usize, DataFrame>,
    progress: &dyn Progress,
) -> Result<(Tables, Vec<CellRecord>)> {
    let steps = experiment.cells.iter().filter(|cell| matches!(cell, Cell::Query { .. } | Cell::Claim { .. })).count();
    progress.phase("asking", steps);
    let mut tables = Tables::new();
    let mut records = Vec::with_capacity(experiment.cells.len());
    for (index, cell) in experiment.cells.iter().enumerate() {
        records.push(match cell {
            Cell::Text(markdown) => CellRecord::Text { markdown: markdown.clone() },
            Cell::Measure(cell) => {
                tables.insert(cell.name.clone(), measured.remove(&index).expect("every measure cell has a table"));
                CellRecord::Measure {
                    table: cell.name.clone(),
                    measure: cell.kind.clone(),
                    models: cell.models.clone(),
                    input: cell.input.clone(),
                }
            }
            Cell::Query { sql, name, .. } => {
                tables.insert(name.clone(), query::select(sql, &tables)?);
                progress.step(name);
                CellRecord::Query { table: name.clone(), sql: sql.clone() }
            }
            Cell::Figure(FigureCell { kind, name, of, title, caption, parameters, .. }) => CellRecord::Figure {
                figure: kind.clone(),
                name: name.clone(),
                title: title.clone(),
                caption: caption.clone(),
                of: of.clone(),
                parameters: parameters.clone(),
            },
            Cell::Claim { statement, check, decides } => {
                let verdict = query::check(check, decides, &tables)?;
                progress.step(statement);
                CellRecord::Claim {
                    statement: statement.clone(),
                    check: check.clone(),
                    holds: verdict.holds,
                    numbers: verdict.numbers,
                }
            }
        });
    }
    Ok((tables, records))
}

fn write_tables(tables: &Tables, staging: &Staging) -> Result<IndexMap<String, TableRecord>> {
    let write = |(name, table): (&String, &DataFrame)| -> Result<(String, TableRecord)> {
        let (csv, parquet) = (to_csv(table)?, to_parquet(table)?);
        staging.write(&format!("tables/{name}.csv"), &csv)?;
        staging.write(&format!("tables/{name}.parquet"), &parquet)?;
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let columns = table.schema().iter().map(|(name, dtype)| (name.to_string(), dtype.to_string())).collect();
        Ok((name.clone(), TableRecord { rows: table.height(), columns, csv: hash(&csv), parquet: hash(&parquet) }))
    };
    let tables: Vec<_> = tables.iter().collect();
    tables.into_par_iter().map(write).collect::<Result<Vec<_>>>().map(IndexMap::from_iter)
}

fn git_revision(folder: &Path) -> Option<String> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let output = Command::new("git").arg("-C").arg(folder).args(["rev-parse", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Most bytes that the process had in memory at once, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn host() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_string())
}
