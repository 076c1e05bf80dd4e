//! `list` and `describe`: what a YAML file can name, from the same docs as the source.

use super::score_card::{score, score_card};
use crate::circuit::head_scores::{CONVENTIONS, OFFSET};
use crate::experiment::Registries;
use crate::experiment::schema::experiment_schema;
use crate::figure::FIGURES;
use crate::input::INPUTS;
use crate::kind::Kind;
use crate::measure::MEASURES;
use crate::model::build::MODELS;
use crate::model::build::wired::circuits::{CIRCUITS, Number, Preset};
use crate::names::closest;
use crate::{Error, Result};
use serde_json::Value;
use std::fmt::Write;

/// What `list` and `describe` know of a kind, whatever it is a kind of.
struct Entry {
    category: &'static str,
    name: &'static str,
    doc: String,
    schema: Value,
    example: &'static str,
    /// Columns of a measure's table after the keys.
    columns: Vec<String>,
}

fn entry<T: ?Sized>(category: &'static str, kind: &Kind<T>) -> Entry {
    let schema = (kind.schema)().to_value();
    Entry { category, name: kind.name, doc: kind.doc(), schema, example: kind.example, columns: Vec::new() }
}

fn entries() -> Vec<Entry> {
    let mut all: Vec<Entry> = MODELS.iter().map(|kind| entry("model", kind)).collect();
    all.extend(INPUTS.iter().map(|kind| entry("input", kind)));
    for kind in MEASURES {
        let measure = (kind.parse)(Value::Object(serde_json::Map::new()));
        let columns = measure.map(|m| m.columns().iter_names().map(ToString::to_string).collect()).unwrap_or_default();
        all.push(Entry { columns, ..entry("measure", kind) });
    }
    all.extend(FIGURES.iter().map(|kind| entry("figure", kind)));
    all
}

/// One line for each kind and each wired circuit.
pub(super) fn list() -> String {
    let mut text = String::new();
    let entries = entries();
    for (category, title) in [
        ("model", "Kinds of model (models: NAME: kind:)"),
        ("input", "Kinds of input (inputs: NAME: kind:)"),
        ("measure", "Measures (cells: - measure:)"),
        ("figure", "Figures (cells: - figure:)"),
    ] {
        let of_category = entries.iter().filter(|entry| entry.category == category);
        section(&mut text, title, of_category.map(|entry| (entry.name, first_sentence(&entry.doc))));
    }
    section(
        &mut text,
        "Wired circuits (kind: wired, circuit:)",
        CIRCUITS.iter().map(|preset| (preset.name, first_sentence(preset.description))),
    );
    section(
        &mut text,
        "Scores (measure: head_scores)",
        CONVENTIONS.iter().chain([&OFFSET]).map(|score| (score.name, score.summary.trim_end_matches('.').to_string())),
    );
    text.push_str("`describe NAME` explains one of them.\n");
    text
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = (&'static str, String)>) {
    let lines: Vec<_> = lines.collect();
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let _ = writeln!(text, "{title}");
    for (name, summary) in lines {
        let _ = writeln!(text, "  {name:<width$}  {summary}");
    }
    text.push('\n');
}

fn first_sentence(doc: &str) -> String {
    let paragraph = doc.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    paragraph.split_once(". ").map_or(paragraph.trim_end_matches('.'), |(sentence, _)| sentence).to_string()
}

/// Explains `[NAME]`, `[circuit, NAME]`, `[circuit, NAME, n]`, `[score, NAME]`, or `[measure, NAME]` and the like.
///
/// # Errors
/// [`Error::Invalid`] if nothing is called that.
pub(super) fn describe(words: &[String]) -> Result<String> {
    if let [category, name, n] = words
        && category == "circuit"
        && let Some(preset) = Preset::find(name)
    {
        let n = n.parse().map_err(|_| Error::invalid(format!("the number of a circuit must be a whole number, not `{n}`")))?;
        return circuit(preset, Some(n));
    }
    let (category, name) = match words {
        [category, name] => (Some(category.as_str()), name.as_str()),
        [name] => (None, name.as_str()),
        _ => (None, ""),
    };
    if matches!(category, None | Some("circuit"))
        && let Some(preset) = Preset::find(name)
    {
        return circuit(preset, None);
    }
    if matches!(category, None | Some("score"))
        && let Some(score) = score(name)
    {
        return Ok(score_card(name, &score));
    }
    let entries = entries();
    let wanted = |entry: &&Entry| entry.name == name && category.is_none_or(|category| category == entry.category);
    let found: Vec<_> = entries.iter().filter(wanted).collect();
    if found.is_empty() {
        let others = CIRCUITS.iter().map(|preset| preset.name).chain(CONVENTIONS.iter().map(|score| score.name));
        let names: Vec<_> = entries.iter().map(|entry| entry.name).chain(others).collect();
        let hint = closest(name, &names).map_or("`list` shows all".to_string(), |name| format!("did you mean `{name}`?"));
        return Err(Error::invalid(format!("nothing is called `{}`; {hint}", words.join(" "))));
    }
    Ok(found.into_iter().map(card).collect::<Vec<_>>().join("\n"))
}

/// The text of a preset, as it can be pasted into a file.
fn circuit(preset: &Preset, n: Option<usize>) -> Result<String> {
    let mut text = format!("# {}\n", preset.description);
    if let Some(Number { counts, default, .. }) = &preset.n {
        let _ = writeln!(text, "# n: number of {counts}, here {}; default {default}", n.unwrap_or(*default));
    }
    Ok(text + &preset.text(n)?)
}

fn card(entry: &Entry) -> String {
    let mut text = format!("{} `{}`\n\n{}\n", entry.category, entry.name, entry.doc);
    let own = |name: &str| entry.schema.get("properties").is_some_and(|properties| properties.get(name).is_some());
    parameters(&mut text, "Parameters", &entry.schema, own);
    let tag = if matches!(entry.category, "model" | "input") { "kind" } else { entry.category };
    if let Some(whole) = find(&experiment_schema(&Registries::standard()), tag, entry.name) {
        parameters(&mut text, &format!("Keys of every {}", entry.category), whole, |name| name != tag && !own(name));
    }
    if !entry.columns.is_empty() {
        let _ =
            writeln!(text, "\nColumns after the keys (model, swept parameters, replicate):\n  {}", entry.columns.join(", "));
    }
    let _ = write!(text, "\nExample:\n");
    for line in entry.example.trim_end().lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// The object of the experiment's schema whose `tag` is `name`: with the keys that all kinds of its category share.
fn find<'a>(schema: &'a Value, tag: &str, name: &str) -> Option<&'a Value> {
    if schema.pointer(&format!("/properties/{tag}/const")).is_some_and(|value| value == name) {
        return Some(schema);
    }
    match schema {
        Value::Array(items) => items.iter().find_map(|item| find(item, tag, name)),
        Value::Object(entries) => entries.values().find_map(|value| find(value, tag, name)),
        _ => None,
    }
}

/// Name, type, default and description of the properties that are `wanted`, under a heading.
fn parameters(text: &mut String, heading: &str, object: &Value, wanted: impl Fn(&str) -> bool) {
    let properties = object.get("properties").and_then(Value::as_object);
    let wanted: Vec<_> = properties.into_iter().flatten().filter(|(name, _)| wanted(name)).collect();
    if wanted.is_empty() {
        return;
    }
    let required = object.get("required").and_then(Value::as_array);
    let _ = writeln!(text, "\n{heading}:");
    for (name, schema) in wanted {
        let is_required = required.is_some_and(|list| list.iter().any(|item| item == name));
        let default = schema.get("default").filter(|default| !default.is_null());
        let note = match (is_required, default) {
            (true, _) => "required".to_string(),
            (false, Some(default)) => format!("default {default}"),
            (false, None) => "optional".to_string(),
        };
        let _ = writeln!(text, "  {name}: {} ({note})", type_of(schema));
        for line in schema.get("description").and_then(Value::as_str).unwrap_or_default().lines() {
            let _ = writeln!(text, "      {line}");
        }
    }
}

/// The type of a parameter in words: `integer ≥ 1`, `gaussian | xavier`, `list of string`.
fn type_of(schema: &Value) -> String {
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    if let Some(alternatives) = alternatives {
        let mut names: Vec<_> = alternatives.iter().map(type_of).filter(|name| name != "null").collect();
        names.dedup();
        return names.join(" | ");
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | ");
    }
    if let Some(value) = schema.get("const") {
        return value.as_str().map_or_else(|| value.to_string(), str::to_string);
    }
    let name = match schema.get("type") {
        Some(Value::String(name)) => name.as_str(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any"),
        _ => "any",
    };
    if name == "array" {
        return format!("list of {}", schema.get("items").map_or_else(|| "any".to_string(), type_of));
    }
    let mut limits = Vec::new();
    for (key, sign) in [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")] {
        if let Some(limit) = schema.get(key).filter(|limit| !(name == "integer" && key == "minimum" && **limit == 0)) {
            limits.push(format!("{sign} {}", limit.as_f64().map_or_else(|| limit.to_string(), |limit| limit.to_string())));
        }
    }
    let name = if name == "object" { "map" } else { name };
    [name.to_string(), limits.join(" and ")].join(" ").trim_end().to_string()
}
