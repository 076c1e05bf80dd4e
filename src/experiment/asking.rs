//! The `query:` and `claim:` cells of a run.

use super::progress::Reused;
use super::run::RunOptions;
use super::run_tables::{Encoded, RunTables, Written};
use super::{Cell, Experiment, FigureCell};
use crate::Result;
use crate::query::{self, Verdict};
use crate::store::{CellRecord, Key, Staging};
use std::collections::HashMap;

/// Runs queries and claims, in order, over the tables above them; answers with what became of every cell.
pub(super) fn derive(
    experiment: &Experiment,
    mut measured: HashMap<usize, Written>,
    (tables, staging): (&mut RunTables, &Staging),
    options: &RunOptions,
    reused: &mut Reused,
) -> Result<Vec<CellRecord>> {
    let steps = experiment.cells.iter().filter(|cell| matches!(cell, Cell::Query { .. } | Cell::Claim { .. })).count();
    options.progress.phase("asking", steps);
    let mut records = Vec::with_capacity(experiment.cells.len());
    for (index, cell) in experiment.cells.iter().enumerate() {
        records.push(match cell {
            Cell::Text(markdown) => CellRecord::Text { markdown: markdown.clone() },
            Cell::Measure(cell) => {
                tables.insert(&cell.name, measured.remove(&index).expect("every measure cell has a table"));
                CellRecord::Measure {
                    table: cell.name.clone(),
                    measure: cell.kind.clone(),
                    models: cell.models.clone(),
                    input: cell.input.clone(),
                    other_inputs: cell.other_inputs.clone(),
                }
            }
            Cell::Query { sql, name, .. } => {
                let (table, was_there) = answer(sql, tables, options)?;
                reused.queries.add(was_there);
                tables.insert(name, table.write(name, staging)?);
                options.progress.step(name);
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
                let (verdict, was_there) = judge(check, decides, tables, options)?;
                reused.claims.add(was_there);
                options.progress.step(statement);
                CellRecord::Claim {
                    statement: statement.clone(),
                    check: check.clone(),
                    holds: verdict.holds,
                    numbers: verdict.numbers,
                }
            }
        });
    }
    Ok(records)
}

/// A derived table, and whether it was in the cache.
fn answer(sql: &str, tables: &RunTables, options: &RunOptions) -> Result<(Encoded, bool)> {
    let key = tables.key(Key::new("query"), sql);
    if let Some(table) = options.cache.and_then(|cache| Encoded::cached(cache, &key)) {
        return Ok((table, true));
    }
    let table = Encoded::new(query::select(sql, &tables.read_by(sql))?)?;
    if let Some(cache) = options.cache {
        table.keep(cache, &key);
    }
    Ok((table, false))
}

/// What a claim's check finds, and whether it was in the cache.
fn judge(check: &str, decides: &str, tables: &RunTables, options: &RunOptions) -> Result<(Verdict, bool)> {
    let key = tables.key(Key::new("claim").text(decides), check);
    let cached = options.cache.and_then(|cache| cache.get(&key));
    if let Some(verdict) = cached.and_then(|parts| serde_json::from_slice(parts.first()?).ok()) {
        return Ok((verdict, true));
    }
    let verdict = query::check(check, decides, &tables.read_by(check))?;
    if let Some(cache) = options.cache {
        cache.put(&key, &[&serde_json::to_vec(&verdict).expect("a verdict has string keys only")]);
    }
    Ok((verdict, false))
}
