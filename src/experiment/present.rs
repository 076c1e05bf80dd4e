use super::ingredients::parameters_key;
use super::run::{Count, Progress, Silent};
use super::run_tables::key_of_tables;
use crate::figure::{Drawing, FIGURES, Figure, Style};
use crate::kind::Kind;
use crate::query::{self, Tables};
use crate::report::{Block, Report, number, render};
use crate::store::{
    Artifact, Cache, CellRecord, FigureRecord, Key, Manifest, PROGRAM, Staging, Stored, is_results, known_files, parquet_table,
};
use crate::{Error, Result, files};
use indexmap::IndexSet;
use rayon::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Derived tables with more rows are folded away in the report, as measured ones are.
const LONGEST_SHOWN: usize = 16;

/// Draws all figures and the report from what a run computed, its manifest and its tables, and writes them, with their hashes into
/// the manifest. Nothing is measured; only the queries of figures are run. Answers with how many figures were not drawn, since they
/// were in the cache. `own` are the figures of the experiment, of whatever kinds; where there are none, the manifest says them.
///
/// # Errors
/// [`Error::Invalid`] with the figure's number and name if its data cannot be drawn; [`Error::Io`].
pub(super) fn present(
    manifest: &mut Manifest,
    own: Option<&[&dyn Figure]>,
    tables: &Tables,
    source: &str,
    (cache, staging): (Option<&Cache>, &Staging),
    progress: &dyn Progress,
) -> Result<Count> {
    let drawn = drawings((manifest, own), tables, &Style::default(), cache, progress)?;
    let mut reused = Count::default();
    drawn.iter().for_each(|(_, _, was_there)| reused.add(*was_there));
    let drawings: Vec<_> = drawn.into_iter().map(|(path, drawing, _)| (path, drawing)).collect();
    let report = report(manifest, tables, source, &drawings)?;
    let mut artifacts = Vec::new();
    let mut write = |path: String, bytes: &[u8]| {
        artifacts.push(Artifact::new(&path, bytes));
        staging.write(&path, bytes)
    };
    for (path, drawing) in &drawings {
        write(format!("{path}.svg"), drawing.svg.as_bytes())?;
        write(format!("{path}.png"), &drawing.png)?;
    }
    write("report.html".to_string(), report.as_bytes())?;
    manifest.artifacts = artifacts;
    Ok(reused)
}

fn kept_drawing(cache: &Cache, key: &Key) -> Option<Drawing> {
    let [svg, png] = <[Vec<u8>; 2]>::try_from(cache.get(key)?).ok()?;
    Some(Drawing { svg: String::from_utf8(svg).ok()?, png })
}

/// All figures, each with its path without the ending, and whether it was in the cache.
fn drawings(
    (manifest, own): (&Manifest, Option<&[&dyn Figure]>),
    tables: &Tables,
    style: &Style,
    cache: Option<&Cache>,
    progress: &dyn Progress,
) -> Result<Vec<(String, Drawing, bool)>> {
    let figures: Vec<_> = manifest.figures().collect();
    progress.phase("drawing", figures.len());
    figures
        .par_iter()
        .enumerate()
        .map(|(index, &FigureRecord { kind, name, title, of, parameters })| {
            let number = index + 1;
            let parameters = style.sized(parameters.clone());
            let mut reused = false;
            let mut draw = |figure: &dyn Figure| -> Result<Drawing> {
                let key = parameters_key(Key::new("figure").text(kind).text(title), &parameters, &(&figure, style));
                let key = key_of_tables(key, of, manifest.tables.iter());
                if let Some(kept) = cache.and_then(|cache| kept_drawing(cache, &key)) {
                    reused = true;
                    return Ok(kept);
                }
                let drawing = figure.draw_as(&query::data(of, tables)?, title, style)?;
                if let Some(cache) = cache {
                    cache.put(&key, &[drawing.svg.as_bytes(), &drawing.png]);
                }
                Ok(drawing)
            };
            let drawing = match own.and_then(|own| own.get(index)) {
                Some(figure) => draw(*figure),
                None => parsed(kind, &parameters).and_then(|figure| draw(figure.as_ref())),
            };
            let drawing = drawing.map_err(|error| {
                let reason = match error {
                    Error::Figure(reason) => reason,
                    other => other.to_string(),
                };
                Error::invalid(format!("figure {number} ({name}) cannot be drawn: {reason}"))
            })?;
            progress.step(name);
            Ok((format!("figures/{number:02}-{name}"), drawing, reused))
        })
        .collect()
}

fn parsed(figure: &str, parameters: &Value) -> Result<Box<dyn Figure>> {
    let kind = Kind::find(FIGURES, figure).ok_or_else(|| Error::Figure(format!("there is no figure `{figure}`")))?;
    (kind.parse)(parameters.clone()).map_err(|error| Error::Figure(error.to_string()))
}

fn report(manifest: &Manifest, tables: &Tables, source: &str, drawings: &[(String, Drawing)]) -> Result<String> {
    let mut drawings = drawings.iter().enumerate();
    let mut blocks = Vec::with_capacity(manifest.cells.len());
    for cell in &manifest.cells {
        blocks.push(match cell {
            CellRecord::Text { markdown } => Block::Text { markdown },
            CellRecord::Measure { table, measure, models, input, other_inputs } => {
                let input = input.as_ref().map_or(String::new(), |input| format!(" on {input}"));
                let others: String = other_inputs.iter().map(|(parameter, name)| format!(", {parameter}: {name}")).collect();
                let caption = format!("{measure} of {}{input}{others}", models.join(", "));
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
    let mut lines = vec![("Made by".to_string(), manifest.program.clone())];
    lines.extend(manifest.drawn_by.iter().map(|program| ("Drawn by".to_string(), program.clone())));
    lines.extend([("Experiment".to_string(), manifest.file.clone()), ("Seed".to_string(), manifest.seed.to_string())]);
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

/// Draws figures and report of a results folder again from its stored tables, measuring nothing, and puts them in place. The
/// manifest then says by which program, if it is another one than made the tables.
///
/// # Errors
/// [`Error::File`] if the folder holds no results, or a table is missing or not what the run wrote; the folder is left as it was
/// then.
pub fn redraw(folder: &Path, progress: &dyn Progress) -> Result<Manifest> {
    // What is no results folder is said before anything is made beside it, and all is read anew when nobody else writes there.
    let folder = &Stored::open(folder)?.folder;
    let staging = Staging::new(folder, &|| progress.waiting(folder))?;
    let stored = Stored::open(folder)?;
    let mut manifest = stored.manifest.clone();
    manifest.drawn_by = (manifest.program != PROGRAM).then(|| PROGRAM.to_string());
    let source = stored.read("experiment.yaml")?;
    let tables = copied_tables(&stored, &staging)?;
    present(&mut manifest, None, &tables, &String::from_utf8_lossy(&source), (None, &staging), progress)?;
    staging.write("experiment.yaml", &source)?;
    // Results that were kept without it, in a repository say, are drawn all the same.
    if stored.folder.join("run.json").exists() {
        staging.write("run.json", &stored.read("run.json")?)?;
    }
    staging.write("manifest.json", manifest.to_json().as_bytes())?;
    staging.publish()?;
    progress.finish();
    Ok(manifest)
}

/// Checks that figures may be drawn into a folder, which need not be there yet: they would be in the way of the next run among
/// the results of one.
///
/// # Errors
/// [`Error::File`] if results of a run lie there, or around it.
pub fn check_drawn_into(target: &Path) -> Result<()> {
    if is_results(target) {
        let text = "holds results of a run, and other figures would make its manifest untrue; choose another folder";
        return Err(Error::file(target, text));
    }
    // Other programs have manifests, too, and it is no harm to draw below one of those.
    match resolved(target)?.ancestors().find(|folder| known_files(folder).is_some()) {
        Some(results) => {
            let what = "which holds results of a run: figures there would be in the way of the next one";
            Err(Error::file(target, format!("lies in {}, {what}; choose another folder", results.display())))
        }
        None => Ok(()),
    }
}

/// Where a path leads when the folders in it that are not there have been made.
fn resolved(path: &Path) -> Result<PathBuf> {
    let mut resolved = PathBuf::new();
    for component in std::path::absolute(path).map_err(Error::io(path))?.components() {
        match component {
            Component::ParentDir => _ = resolved.pop(),
            other => resolved.push(other),
        }
        if let Ok(real) = fs::canonicalize(&resolved) {
            resolved = real;
        }
    }
    Ok(resolved)
}

/// Draws the figures of a results folder in another style into the folder `target`, as `NN-NAME.svg` and `.png`; the results stay as
/// they are. Each file appears whole or not at all. Answers with the number of figures.
///
/// # Errors
/// Those of [`redraw`] and [`check_drawn_into`].
pub fn draw_into(folder: &Path, target: &Path, style: &Style) -> Result<usize> {
    let stored = Stored::open(folder)?;
    check_drawn_into(target)?;
    let mut tables = Tables::new();
    for name in stored.manifest.tables.keys() {
        tables.insert(name.clone(), stored.table(name)?);
    }
    let drawings = drawings((&stored.manifest, None), &tables, style, None, &Silent)?;
    fs::create_dir_all(target).map_err(Error::io(target))?;
    for (path, drawing, _) in &drawings {
        let name = path.trim_start_matches("figures/");
        for (end, bytes) in [("svg", drawing.svg.as_bytes()), ("png", &drawing.png)] {
            files::replace(&target.join(format!("{name}.{end}")), bytes)?;
        }
    }
    Ok(drawings.len())
}

/// All tables of a results folder, whose files are copied on the way.
fn copied_tables(stored: &Stored, staging: &Staging) -> Result<Tables> {
    let mut tables = Tables::new();
    for (name, record) in &stored.manifest.tables {
        let csv = format!("tables/{name}.csv");
        staging.write(&csv, &stored.checked(&csv, &record.csv)?)?;
        let parquet = format!("tables/{name}.parquet");
        let bytes = stored.checked(&parquet, &record.parquet)?;
        staging.write(&parquet, &bytes)?;
        tables.insert(name.clone(), parquet_table(bytes, &stored.folder.join(&parquet))?);
    }
    Ok(tables)
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
