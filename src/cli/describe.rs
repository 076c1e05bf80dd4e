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

/// Explains `[NAME]`, `[circuit, NAME]`, `[circuit, NAME, n]`, `[score, NAME]`, or `[measure, NAME]` and the like: all that is
/// called so, if no category says which is meant.
///
/// # Errors
/// [`Error::Invalid`] if nothing is called that, or it is no circuit and a number stands behind it.
pub(super) fn describe(words: &[String]) -> Result<String> {
    let (category, name, n) = match words {
        [category, name, n] => (Some(category.as_str()), name.as_str(), Some(n)),
        [category, name] => (Some(category.as_str()), name.as_str(), None),
        [name] => (None, name.as_str(), None),
        _ => (None, "", None),
    };
    let wanted = |of: &str| category.is_none_or(|category| category == of);
    let entries = entries();
    let mut cards: Vec<String> =
        entries.iter().filter(|entry| entry.name == name && wanted(entry.category)).map(card).collect();
    if let Some(score) = score(name).filter(|_| wanted("score")) {
        cards.push(score_card(name, &score));
    }
    if let Some(preset) = Preset::find(name).filter(|_| wanted("circuit")) {
        let n = n.map(|n| n.parse()).transpose();
        let n = n.map_err(|_| Error::invalid(format!("the number of a circuit must be a whole number, not `{}`", words[2])))?;
        cards.push(circuit(preset, n)?);
    } else if let Some(n) = n.filter(|_| !cards.is_empty()) {
        return Err(Error::invalid(format!("only a circuit may have a number behind its name: leave `{n}` out")));
    }
    if cards.is_empty() {
        let known = entries.iter().map(|entry| (entry.category, entry.name));
        let known = known.chain(CIRCUITS.iter().map(|preset| ("circuit", preset.name)));
        let known: Vec<_> = known.chain(CONVENTIONS.iter().chain([&OFFSET]).map(|score| ("score", score.name))).collect();
        // What is of the category comes first; the category may be wrong, too.
        let names = |all: bool| known.iter().filter(|(of, _)| all || wanted(of)).map(|(_, name)| *name).collect::<Vec<_>>();
        let hint = closest(name, &names(false)).or_else(|| closest(name, &names(true)));
        let hint = hint.map_or("`list` shows all".to_string(), |name| format!("did you mean `{name}`?"));
        return Err(Error::invalid(format!("nothing is called `{}`; {hint}", words.join(" "))));
    }
    Ok(cards.join("\n"))
}

/// The text of a preset, as it can be pasted into a file.
fn circuit(preset: &Preset, n: Option<usize>) -> Result<String> {
    let mut text = format!("# circuit `{}`\n# {}\n", preset.name, preset.description);
    if let Some(Number { counts, default, .. }) = &preset.n {
        let _ = writeln!(text, "# n: number of {counts}, here {}; default {default}", n.unwrap_or(*default));
    }
    Ok(text + &preset.text(n)?)
}

fn card(entry: &Entry) -> String {
    let mut text = format!("{} `{}`\n\n{}\n", entry.category, entry.name, entry.doc);
    let own = |name: &str| entry.schema.get("properties").is_some_and(|properties| properties.get(name).is_some());
    if let Some(lines) = parameters(&entry.schema, &own, true) {
        let _ = write!(text, "\nParameters:\n{}", indented(&lines, 2));
    }
    let tag = if matches!(entry.category, "model" | "input") { "kind" } else { entry.category };
    if let Some(whole) = find(&experiment_schema(&Registries::standard()), tag, entry.name) {
        // Without fields: those of `sweep` are the parameters above.
        if let Some(lines) = parameters(whole, &|name| name != tag && !own(name), false) {
            let _ = write!(text, "\nKeys of every {}:\n{}", entry.category, indented(&lines, 2));
        }
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

/// Name, type, default and description of the properties that are `wanted`, none if there are none; `deep` with the fields of those
/// that are maps, or lists of maps.
fn parameters(object: &Value, wanted: &dyn Fn(&str) -> bool, deep: bool) -> Option<String> {
    let properties = object.get("properties").and_then(Value::as_object);
    let required = object.get("required").and_then(Value::as_array);
    let mut text = String::new();
    for (name, schema) in properties.into_iter().flatten().filter(|(name, _)| wanted(name)) {
        let is_required = required.is_some_and(|list| list.iter().any(|item| item == name));
        let default = schema.get("default").filter(|default| !default.is_null());
        let note = match (is_required, default) {
            (true, _) => "required".to_string(),
            (false, Some(default)) => format!("default {default}"),
            (false, None) => "optional".to_string(),
        };
        let _ = writeln!(text, "{name}: {} ({note})", type_of(schema));
        text += &indented(schema.get("description").and_then(Value::as_str).unwrap_or_default(), 4);
        if let Some(fields) = map_in(schema).filter(|_| deep).and_then(|map| parameters(map, &|_| true, true)) {
            text += &indented(&fields, 4);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The map with named fields that a value of this schema is, or that a list holds, or that is one of the alternatives.
fn map_in(schema: &Value) -> Option<&Value> {
    if schema.get("properties").is_some() {
        return Some(schema);
    }
    let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    schema.get("items").into_iter().chain(alternatives).find_map(map_in)
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
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
