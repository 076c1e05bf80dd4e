use super::ingredients::parameters_key;
use super::progress::{Count, Progress};
use super::run_tables::key_of_tables;
use crate::figure::{Drawing, FIGURES, Figure, Style};
use crate::kind::Kind;
use crate::query::{self, Tables};
use crate::report::{Block, Report, number, render};
use crate::store::{Artifact, Cache, CellRecord, FigureRecord, Key, Manifest, Staging};
use crate::{Error, Result};
use indexmap::IndexSet;
use rayon::prelude::*;
use serde_json::Value;

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
pub(super) fn drawings(
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
                let drawing = figure.draw(&query::data(of, tables)?, title, style)?;
                if let Some(cache) = cache {
                    cache.put(&key, &[drawing.svg.as_bytes(), &drawing.png]);
                }
                Ok(drawing)
            };
            let drawing = match own.and_then(|own| own.get(index)) {
                Some(figure) => draw(*figure),
                None => Kind::make(FIGURES, "figure", kind, parameters.clone()).and_then(|figure| draw(figure.as_ref())),
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
///
/// ```
/// use attn_circuits::experiment::named;
/// use serde_json::json;
/// // What `SELECT MAX(value) > 0.9 AS holds, MAX(value) AS best` compares, and what it says of that.
/// let numbers = [("best".to_string(), json!(0.98765)), ("max(value)".to_string(), json!(0.98765))];
/// assert_eq!(named(&numbers), [("best".to_string(), "0.9877".to_string())]);
/// assert_eq!(named(&numbers[1..]), [("max(value)".to_string(), "0.9877".to_string())]);
/// ```
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
