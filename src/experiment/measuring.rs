//! The `measure:` cells of a run.

use super::progress::Reused;
use super::run::RunOptions;
use super::run_tables::{Encoded, Written};
use super::tables::{MODEL, REPLICATE};
use super::{Cell, Experiment, Instance, MeasureCell};
use crate::input::{InputContext, TokenBatch};
use crate::measure::Subject;
use crate::model::Transformer;
use crate::model::build::BuildContext;
use crate::store::{Cache, Key, Staging, decode_parquet, to_parquet};
use crate::{Error, Result};
use polars::prelude::{AnyValue, Column, DataFrame, DataType, Scalar, Schema, SortMultipleOptions};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Inputs already drawn, by name and vocabulary.
struct Inputs<'a> {
    experiment: &'a Experiment,
    drawn: Mutex<HashMap<(&'a str, usize), Arc<TokenBatch>>>,
}

impl<'a> Inputs<'a> {
    fn get(&self, name: &'a str, d_vocab: usize) -> Result<Arc<TokenBatch>> {
        let mut drawn = self.drawn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let missing: Vec<_> =
            self.experiment.made_of(name).take_while(|(name, _)| !drawn.contains_key(&(*name, d_vocab))).collect();
        for (name, input) in missing.into_iter().rev() {
            let original = input.builder.of().map(|of| drawn[&(of, d_vocab)].clone());
            let stream = self.experiment.input_stream(name);
            let context = InputContext { base: self.experiment.base(), stream, d_vocab, original: original.as_deref() };
            let batch = input.builder.build(&context)?;
            // What was read is what the keys say, or else nothing that is made of it must be found under them.
            self.experiment.check_unchanged(&input.builder.files())?;
            drawn.insert((name, d_vocab), Arc::new(batch));
        }
        Ok(drawn[&(name, d_vocab)].clone())
    }
}

impl Experiment {
    /// Makes one of the models ([`Experiment::instances`]).
    ///
    /// ```
    /// use attn_circuits::experiment;
    /// let experiment = experiment::load("experiments/induction.yaml", &[])?;
    /// let wired = experiment.instances().find(|instance| instance.name == "wired").expect("it has a model `wired`");
    /// let model = experiment.build(&wired)?;
    /// assert_eq!(model.config(), &wired.variant.config);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`crate::model::build::ModelKind::build`]; [`Error::File`] if a file that it reads is another one than when the
    /// experiment was loaded.
    pub fn build(&self, instance: &Instance) -> Result<Transformer> {
        let builder = &instance.variant.builder;
        let model = builder.build(&BuildContext { base: self.base(), stream: instance.stream(self.seed) })?;
        self.check_unchanged(&builder.files())?;
        Ok(model)
    }

    /// The tokens of an input for models with a vocabulary of `d_vocab`.
    ///
    /// ```
    /// # use attn_circuits::experiment::{LoadOptions, load_str};
    /// # let text = "
    /// # title: Repeats
    /// # models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25 } }
    /// # inputs: { repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 } }
    /// # cells: [{ measure: loss }]
    /// # ";
    /// # let experiment = load_str(text, "repeats.yaml".as_ref(), &[], &LoadOptions::default())?;
    /// // `kind: repeated_tokens, sequences: 4, period: 6, repeats: 2`
    /// let tokens = experiment.tokens("repeated", 13)?;
    /// assert_eq!(tokens.tokens().dim(), (4, 1 + 2 * 6));
    /// // Every run, and every cell, reads the same ones.
    /// assert_eq!(experiment.tokens("repeated", 13)?, tokens);
    /// assert!(experiment.tokens("repeated", 6).is_err() && experiment.tokens("repaeted", 13).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such input; those of [`crate::input::InputKind::build`]; [`Error::File`] as in
    /// [`Experiment::build`].
    pub fn tokens(&self, input: &str, d_vocab: usize) -> Result<TokenBatch> {
        let (name, _) =
            self.inputs.get_key_value(input).ok_or_else(|| Error::invalid(format!("there is no input `{input}`")))?;
        let drawn = Inputs { experiment: self, drawn: Mutex::default() }.get(name, d_vocab)?;
        Ok(Arc::unwrap_or_clone(drawn))
    }
}

/// One model measured by one cell, and what its rows of the table depend on.
struct Part<'a> {
    instance: Instance<'a>,
    key: Key,
}

/// A cell with all its parts, in the order of the experiment's models.
struct Job<'a> {
    index: usize,
    cell: &'a MeasureCell,
    parts: Vec<Part<'a>>,
    /// What the whole table depends on.
    key: Key,
}

/// The tables of all measure cells, by the cells' indices, written as they are made. A model is built once, measured by all cells that
/// name it, and dropped; not even once where all that they would find is in the cache.
pub(super) fn measure(
    experiment: &Experiment,
    staging: &Staging,
    options: &RunOptions,
    reused: &mut Reused,
) -> Result<HashMap<usize, Written>> {
    let models: Vec<_> = experiment.instances().map(|instance| (instance, experiment.model_key(&instance))).collect();
    let jobs: Vec<Job> = experiment
        .cells
        .iter()
        .enumerate()
        .filter_map(|(index, cell)| match cell {
            Cell::Measure(cell) => Some(job(experiment, &models, index, cell)),
            _ => None,
        })
        .collect();
    let mut tables = HashMap::new();
    let mut missing = Vec::new();
    for job in &jobs {
        match options.cache.and_then(|cache| Encoded::cached(cache, &job.key)) {
            Some(table) => {
                job.parts.iter().for_each(|_| reused.measurements.add(true));
                tables.insert(job.index, table.write(&job.cell.name, staging)?);
            }
            None => missing.push(job),
        }
    }
    for (job, parts) in missing.iter().zip(measure_parts(experiment, &missing, options, reused)?) {
        let table = Encoded::new(stack(job.cell, parts)?)?;
        if let Some(cache) = options.cache {
            table.keep(cache, &job.key);
        }
        tables.insert(job.index, table.write(&job.cell.name, staging)?);
    }
    Ok(tables)
}

fn job<'a>(experiment: &Experiment, models: &[(Instance<'a>, Key)], index: usize, cell: &'a MeasureCell) -> Job<'a> {
    let of_cell = experiment.cell_key(cell);
    let named = models.iter().filter(|(instance, _)| cell.models.iter().any(|name| name == instance.name));
    let parts: Vec<_> = named.map(|(instance, key)| Part { instance: *instance, key: key.clone().key(&of_cell) }).collect();
    let key = parts.iter().fold(Key::new("table").key(&of_cell), |key, part| key.key(&part.key));
    Job { index, cell, parts, key }
}

/// The rows of every part, job by job: from the cache, or measured.
fn measure_parts(
    experiment: &Experiment,
    jobs: &[&Job],
    options: &RunOptions,
    reused: &mut Reused,
) -> Result<Vec<Vec<DataFrame>>> {
    let cached = |part: &Part| options.cache.and_then(|cache| cached_part(cache, &part.key));
    // One after the other: where polars uses threads of its own, a thread of ours that waits for them begins the next part meanwhile,
    // and in it the next, until there is no stack left.
    let mut found: Vec<Vec<Option<DataFrame>>> = jobs.iter().map(|job| job.parts.iter().map(cached).collect()).collect();
    // What is left to do, by model: indices into `jobs` and their parts.
    let mut to_do: Vec<(Instance, Vec<(usize, usize)>)> = Vec::new();
    let mut place: HashMap<(&str, usize, usize), usize> = HashMap::new();
    for (at, job) in jobs.iter().enumerate() {
        for (part, &Part { instance, .. }) in job.parts.iter().enumerate() {
            reused.measurements.add(found[at][part].is_some());
            if found[at][part].is_none() {
                let index = *place.entry((instance.name, instance.variant_index, instance.replicate)).or_insert_with(|| {
                    to_do.push((instance, Vec::new()));
                    to_do.len() - 1
                });
                to_do[index].1.push((at, part));
            }
        }
    }
    let steps = to_do.iter().map(|(_, parts)| parts.len()).sum();
    if steps > 0 {
        options.progress.phase("measuring", steps);
    }
    let inputs = Inputs { experiment, drawn: Mutex::default() };
    let of_instance = |(instance, parts): &(Instance, Vec<(usize, usize)>)| -> Result<Vec<(usize, usize, DataFrame)>> {
        let model = experiment.build(instance)?;
        let measure = |&(at, part): &(usize, usize)| {
            let Job { cell, parts, .. } = jobs[at];
            let table = measure_one(instance, cell, &model, &inputs)?;
            if let Some(cache) = options.cache {
                cache.put(&parts[part].key, &[&to_parquet(&table)?]);
            }
            options.progress.step(&format!("{} of {}", cell.name, instance.name));
            Ok((at, part, table))
        };
        parts.iter().map(measure).collect()
    };
    // A thread that waits for a part of its own work begins another model meanwhile, and holds both. In waves there are never
    // more models at once than threads, as the plan has it.
    for wave in to_do.chunks(rayon::current_num_threads()) {
        let measured: Vec<_> = wave.par_iter().map(of_instance).collect::<Result<_>>()?;
        for (at, part, table) in measured.into_iter().flatten() {
            found[at][part] = Some(table);
        }
    }
    Ok(found.into_iter().map(|parts| parts.into_iter().flatten().collect()).collect())
}

fn cached_part(cache: &Cache, key: &Key) -> Option<DataFrame> {
    let [bytes] = <[Vec<u8>; 1]>::try_from(cache.get(key)?).ok()?;
    decode_parquet(bytes).ok()
}

/// The whole table: the parts one below the other, sorted by the key columns.
fn stack(cell: &MeasureCell, parts: Vec<DataFrame>) -> Result<DataFrame> {
    let mut stacked = DataFrame::empty_with_schema(&cell.schema);
    for part in &parts {
        stacked.vstack_mut(part)?;
    }
    let keys: Vec<String> = key_names(&cell.schema).map(ToString::to_string).collect();
    // Measures sort their own rows, so a stable sort by the keys in front sorts the table.
    let order = SortMultipleOptions::default().with_nulls_last(false).with_maintain_order(true);
    Ok(stacked.sort(keys, order)?)
}

/// The key columns of a table: all up to `replicate`.
fn key_names(schema: &Schema) -> impl Iterator<Item = &str> {
    let last = schema.index_of(REPLICATE).unwrap_or(0);
    schema.iter_names().take(last + 1).map(|name| name.as_str())
}

fn measure_one<'a>(instance: &Instance, cell: &'a MeasureCell, model: &Transformer, inputs: &Inputs<'a>) -> Result<DataFrame> {
    let draw = |name: &'a String| inputs.get(name, model.config().d_vocab);
    let batch = cell.input.as_ref().map(draw).transpose()?;
    let others: Vec<_> =
        cell.other_inputs.iter().map(|(parameter, name)| Ok((parameter.as_str(), draw(name)?))).collect::<Result<_>>()?;
    let values = cell.measure.compute(&Subject {
        model,
        input: batch.as_deref(),
        others: others.iter().map(|(parameter, batch)| (*parameter, batch.as_ref())).collect(),
        origin: Some(instance.variant.builder.as_ref()),
        stream: inputs.experiment.cell_stream(cell),
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
