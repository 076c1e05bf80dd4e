use super::run::Progress;
use crate::figure::{Drawing, FIGURES};
use crate::kind::Kind;
use crate::query::{self, Tables};
use crate::report::{Block, Report, number, render};
use crate::store::{Artifact, CellRecord, Manifest, Staging, read_parquet};
use crate::{Error, Result};
use indexmap::IndexSet;
use rayon::prelude::*;
use serde_json::Value;
use std::path::Path;
use std::{fs, io};

/// Derived tables with more rows are folded away in the report, as measured ones are.
const LONGEST_SHOWN: usize = 16;

/// Figures and report, ready to be written.
#[derive(Debug)]
pub struct Presented {
    /// Path within the results folder, and content.
    files: Vec<(String, Vec<u8>)>,
}

impl Presented {
    /// Writes the files, and their hashes into the manifest.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, manifest: &mut Manifest, staging: &Staging) -> Result<()> {
        self.files.iter().try_for_each(|(path, bytes)| staging.write(path, bytes))?;
        manifest.artifacts = self.files.iter().map(|(path, bytes)| Artifact::new(path, bytes)).collect();
        Ok(())
    }
}

/// Draws all figures and the report from what a run computed: its manifest and its tables. Nothing is computed but the queries of
/// the figures.
///
/// # Errors
/// [`Error::Invalid`] with the figure's number and name if its data cannot be drawn.
pub fn present(manifest: &Manifest, tables: &Tables, source: &str, progress: &dyn Progress) -> Result<Presented> {
    let figures: Vec<_> = manifest.cells.iter().filter(|cell| matches!(cell, CellRecord::Figure { .. })).collect();
    progress.phase("drawing", figures.len());
    let drawings: Vec<(String, Drawing)> = figures
        .par_iter()
        .enumerate()
        .map(|(index, cell)| {
            let CellRecord::Figure { figure, name, title, of, parameters, .. } = cell else {
                unreachable!("only figures are drawn")
            };
            let number = index + 1;
            let drawing = draw(figure, title, of, parameters, tables).map_err(|error| {
                let reason = match error {
                    Error::Figure(reason) => reason,
                    other => other.to_string(),
                };
                Error::invalid(format!("figure {number} ({name}) cannot be drawn: {reason}"))
            })?;
            progress.step(name);
            Ok((format!("figures/{number:02}-{name}"), drawing))
        })
        .collect::<Result<_>>()?;

    let report = report(manifest, tables, source, &drawings)?;
    let mut files = Vec::new();
    for (path, drawing) in drawings {
        files.push((format!("{path}.svg"), drawing.svg.into_bytes()));
        files.push((format!("{path}.png"), drawing.png));
    }
    files.push(("report.html".to_string(), report.into_bytes()));
    Ok(Presented { files })
}

fn draw(figure: &str, title: &str, of: &str, parameters: &Value, tables: &Tables) -> Result<Drawing> {
    let kind = Kind::find(FIGURES, figure).ok_or_else(|| Error::Figure(format!("there is no figure `{figure}`")))?;
    let figure = (kind.parse)(parameters.clone()).map_err(|error| Error::Figure(error.to_string()))?;
    figure.draw(&query::data(of, tables)?, title)
}

fn report(manifest: &Manifest, tables: &Tables, source: &str, drawings: &[(String, Drawing)]) -> Result<String> {
    let mut drawings = drawings.iter().enumerate();
    let mut blocks = Vec::with_capacity(manifest.cells.len());
    for cell in &manifest.cells {
        blocks.push(match cell {
            CellRecord::Text { markdown } => Block::Text { markdown },
            CellRecord::Measure { table, measure, models, input } => {
                let input = input.as_ref().map_or(String::new(), |input| format!(" on {input}"));
                let caption = format!("{measure} of {}{input}", models.join(", "));
                table_block(table, caption, None, tables)?
            }
            CellRecord::Query { table, sql } => table_block(table, String::new(), Some(sql), tables)?,
            CellRecord::Figure { title, caption, .. } => {
                let (index, (path, drawing)) = drawings.next().expect("every figure was drawn");
                Block::Figure {
                    number: index + 1,
                    title,
                    caption: caption.as_deref(),
                    svg: &drawing.svg,
                    path: format!("{path}.svg"),
                }
            }
            CellRecord::Claim { statement, check, holds, numbers } => {
                Block::Claim { statement, check, holds: *holds, numbers: named(numbers) }
            }
        });
    }
    render(&Report {
        title: &manifest.title,
        about: manifest.about.as_deref(),
        blocks,
        provenance: provenance(manifest),
        source,
    })
}

fn table_block<'a>(name: &'a str, caption: String, query: Option<&'a str>, tables: &'a Tables) -> Result<Block<'a>> {
    let data = tables.get(name).ok_or_else(|| Error::invalid(format!("there is no table `{name}`")))?;
    let folded = query.is_none() || data.height() > LONGEST_SHOWN;
    Ok(Block::Table { name, caption, query, data, csv: format!("tables/{name}.csv"), folded })
}

fn provenance(manifest: &Manifest) -> Vec<(String, String)> {
    let mut lines = vec![
        ("Made by".to_string(), manifest.program.clone()),
        ("Experiment".to_string(), manifest.file.clone()),
        ("Seed".to_string(), manifest.seed.to_string()),
    ];
    lines.extend(manifest.overrides.iter().map(|(path, value)| (format!("--set {path}"), value.to_string())));
    let names: IndexSet<&str> = manifest.models.iter().map(|record| record.model.as_str()).collect();
    for name in names {
        let built: Vec<_> = manifest.models.iter().filter(|record| record.model == name).collect();
        let (first, count) = (built[0], built.len());
        let alike = built.iter().all(|record| record.shape == first.shape);
        let mut words = format!("{}: {}", first.kind, first.shape);
        if count > 1 {
            words += &if alike { format!(" ({count} models)") } else { format!(" (the first of {count} models)") };
        }
        for parameter in first.swept.keys() {
            words += &format!("; swept: {parameter} {}", range(built.iter().filter_map(|record| record.swept.get(parameter))));
        }
        lines.push((format!("Model {name}"), words));
    }
    lines
}

/// The distinct values that a parameter is swept over, shortened to `1, 2, …, 64`.
fn range<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    let values: IndexSet<String> = values.map(shown).collect();
    let mut values: Vec<_> = values.iter().map(String::as_str).collect();
    if values.len() > 6 {
        values.splice(2..values.len() - 1, ["…"]);
    }
    values.join(", ")
}

/// The numbers of a claim as the report and the terminal show them: those that have a name in the check, as in `AS score`. Other
/// columns are called what computes them (`MAX(CASE WHEN …`), and are shown only where none has a name.
pub fn named(numbers: &[(String, Value)]) -> Vec<(String, String)> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_alphabetic() || c == '_') && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let any = numbers.iter().any(|(name, _)| is_name(name));
    numbers.iter().filter(|(name, _)| !any || is_name(name)).map(|(name, value)| (name.clone(), shown(value))).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(value) => value.as_f64().map_or_else(|| value.to_string(), number),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Draws figures and report of a results folder again from its stored tables, computing nothing, and puts them in place.
///
/// # Errors
/// [`Error::File`] if the folder holds no results, or a table is missing or not what the run wrote; the folder is left as it was
/// then.
pub fn redraw(folder: &Path, progress: &dyn Progress) -> Result<Manifest> {
    // `.` and `..` have no name beside which the new folder could be written.
    let folder = &fs::canonicalize(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::file(folder, "is not there; `run` makes it"),
        _ => Error::io(folder)(error),
    })?;
    let mut manifest = Manifest::read(folder)?;
    let source = stored(folder, "experiment.yaml")?;
    let mut tables = Tables::new();
    let staging = Staging::new(folder)?;
    for (name, record) in &manifest.tables {
        for (end, hash) in [("csv", &record.csv), ("parquet", &record.parquet)] {
            let path = format!("tables/{name}.{end}");
            let bytes = stored(folder, &path)?;
            if blake3::hash(&bytes).to_hex().as_str() != hash {
                return Err(Error::file(folder.join(path), "is not what the run wrote; `run` makes it anew"));
            }
            staging.write(&path, &bytes)?;
        }
        tables.insert(name.clone(), read_parquet(&folder.join(format!("tables/{name}.parquet")))?);
    }
    let presented = present(&manifest, &tables, &String::from_utf8_lossy(&source), progress)?;
    presented.write(&mut manifest, &staging)?;
    staging.write("experiment.yaml", &source)?;
    // Results that were kept without it, in a repository say, are drawn all the same.
    if folder.join("run.json").exists() {
        staging.write("run.json", &stored(folder, "run.json")?)?;
    }
    staging.write("manifest.json", manifest.to_json().as_bytes())?;
    staging.publish()?;
    progress.finish();
    Ok(manifest)
}

/// A file of a results folder.
fn stored(folder: &Path, path: &str) -> Result<Vec<u8>> {
    let path = folder.join(path);
    fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::file(&path, "is missing; `run` makes it anew"),
        _ => Error::io(&path)(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn helper_columns_are_shown_only_where_no_number_has_a_name() {
        let shown = |names: &[&str]| -> Vec<String> {
            let numbers: Vec<_> = names.iter().map(|name| (name.to_string(), json!(0.25))).collect();
            named(&numbers).into_iter().map(|(name, value)| format!("{name} = {value}")).collect()
        };
        assert_eq!(shown(&["score", "ABS(score) = 1", "MAX(CASE WHEN x", "_2"]), ["score = 0.25", "_2 = 0.25"]);
        assert_eq!(shown(&["COUNT(*)", "1"]), ["COUNT(*) = 0.25", "1 = 0.25"]);
        assert!(shown(&[]).is_empty());
    }

    #[test]
    fn a_sweep_is_named_by_its_range() {
        let range = |values: &[Value]| range(values.iter());
        assert_eq!(range(&[json!(0.1), json!(0.1), json!(2), json!("x"), json!(null)]), "0.1, 2, x, null");
        let many: Vec<_> = (1..=12).map(|i| json!(i)).collect();
        assert_eq!(range(&many), "1, 2, …, 12");
    }
}
