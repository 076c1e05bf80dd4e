//! The JSON Schema of an experiment file, put together from the schemas of the kinds.
//!
//! The loader checks a file by this schema and `attn-circuits schema` prints it for editors, so
//! that both always agree.

use super::Registries;
use crate::kind::Kind;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::sync::LazyLock;

/// The seed of a file that gives none.
///
/// ```
/// use attn_circuits::experiment::schema::DEFAULT_SEED;
/// use attn_circuits::experiment::{LoadOptions, load_str};
/// let text = "{ title: T, models: { m: { kind: bigram, vocab: 5, context: 9 } }, cells: [{ text: Nothing. }] }";
/// assert_eq!(load_str(text, "t.yaml".as_ref(), &[], &LoadOptions::default())?.seed, DEFAULT_SEED);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub const DEFAULT_SEED: u64 = 0;

/// Most models and cells of a file: many more than anybody reads, and few enough that looking at each with each takes no
/// time.
const MOST_ENTRIES: usize = 1000;

/// The dialect of the schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of the whole file.
///
/// ```
/// use attn_circuits::experiment::Registries;
/// use attn_circuits::experiment::schema::experiment_schema;
/// use serde_json::json;
/// let schema = experiment_schema(&Registries::standard());
/// assert_eq!(schema["required"], json!(["title", "models", "cells"]));
/// // One alternative for each kind; its documentation is that of the parameter type.
/// let models = &schema["properties"]["models"]["additionalProperties"]["oneOf"];
/// assert_eq!(models[0]["properties"]["kind"]["const"], "wired");
/// assert!(models[0]["description"].as_str().is_some_and(|text| text.starts_with("A model wired by hand")));
/// ```
pub fn experiment_schema(registries: &Registries) -> Cow<'static, Value> {
    // Putting it together takes longer than checking a file by it.
    static STANDARD: LazyLock<Value> = LazyLock::new(|| schema_of(&Registries::standard()));
    if registries.is_standard() { Cow::Borrowed(&STANDARD) } else { Cow::Owned(schema_of(registries)) }
}

fn schema_of(registries: &Registries) -> Value {
    let models: Vec<Value> = registries.models.iter().map(model).collect();
    let inputs: Vec<Value> = registries.inputs.iter().map(|kind| closed("kind", kind, Map::new(), &[])).collect();
    json!({
        "$schema": DIALECT,
        "title": "attn-circuits experiment",
        "description": "Models, inputs, and cells that measure, query and draw, in the order in which the report shows them.",
        "type": "object",
        "additionalProperties": false,
        "required": ["title", "models", "cells"],
        "properties": {
            "title": { "type": "string", "minLength": 1, "description": "Title of the report." },
            "seed": {
                "type": "integer", "format": "uint64", "minimum": 0, "default": DEFAULT_SEED,
                "description": "The number that every random draw of the run descends from."
            },
            "about": { "type": ["string", "null"], "description": "Opening prose of the report (Markdown)." },
            "models": {
                "type": "object", "minProperties": 1, "maxProperties": MOST_ENTRIES,
                "description": "The models by name: letters, digits, `_` and `-`.",
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$" },
                "additionalProperties": { "oneOf": models }
            },
            "inputs": {
                "type": "object",
                "description": "The token sequences by name; left out if no cell reads any.",
                "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$" },
                "additionalProperties": { "oneOf": inputs }
            },
            "cells": {
                "type": "array", "minItems": 1, "maxItems": MOST_ENTRIES,
                "description": "Prose, measurements, queries, figures and claims, in order.",
                "items": cell(registries)
            }
        }
    })
}

fn cell(registries: &Registries) -> Value {
    let table = json!({
        "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$",
        "description": "Name of the table: letters, digits and `_`."
    });
    let measure = object([
        ("name", with(&table, "description", "Name of the table; the measure's if not given.")),
        (
            "models",
            json!({
                "description": "The models measured: one name or a list; all if not given.",
                "anyOf": [{ "type": "string" }, { "type": "array", "minItems": 1, "items": { "type": "string" } }]
            }),
        ),
        ("input", json!({ "type": "string", "description": "The input read; the only one if not given." })),
    ]);
    let figure = object([
        ("of", json!({ "type": "string", "minLength": 1, "description": "The data: a table's name, or a SELECT." })),
        ("title", json!({ "type": "string", "minLength": 1, "description": "The message of the figure." })),
        ("name", with(&table, "description", "Used in the file name; the table's name if not given.")),
        ("caption", json!({ "type": ["string", "null"], "description": "Words under the figure (Markdown)." })),
    ]);
    let sql = |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
    let plain = |title: &str, properties: Value, required: Value| json!({ "title": title, "type": "object", "additionalProperties": false, "properties": properties, "required": required });
    let measures: Vec<Value> = registries.measures.iter().map(|kind| closed("measure", kind, measure.clone(), &[])).collect();
    let figures: Vec<Value> =
        registries.figures.iter().map(|kind| closed("figure", kind, figure.clone(), &["of", "title"])).collect();
    json!({ "oneOf": [
        plain("text", json!({ "text": { "type": "string", "description": "Prose (Markdown)." } }), json!(["text"])),
        { "title": "measure", "oneOf": measures },
        plain("query", json!({
            "query": sql("A derived table, shown in the report: polars SQL over the tables of the cells above."),
            "name": table,
        }), json!(["query", "name"])),
        { "title": "figure", "oneOf": figures },
        plain("claim", json!({
            "claim": sql("A statement (Markdown)."),
            "check": sql("SQL that yields one row; its boolean column, or the one named `holds`, decides. The others are shown."),
        }), json!(["claim", "check"])),
    ]})
}

/// A kind of model: its parameters, each of which can be swept if it is a single value.
fn model(kind: &Kind<dyn crate::model::build::ModelKind>) -> Value {
    let parameters = (kind.schema)().to_value();
    let swept: Map<String, Value> = properties(&parameters)
        .map(|(name, schema)| {
            let values = match scalar(schema) {
                Some(items) => json!({ "type": "array", "minItems": 1, "items": items, "description": description(schema) }),
                None => json!({ "not": {}, "description": "only single values can be swept, and this parameter is a list or a map" }),
            };
            (name.clone(), values)
        })
        .collect();
    let common = object([
        (
            "replicates",
            json!({
                "type": "integer", "format": "uint32", "minimum": 1, "default": 1,
                "description": "Number of models, each with its own random draws; tables tell them apart by the column `replicate`."
            }),
        ),
        (
            "sweep",
            json!({
                "type": "object", "additionalProperties": false, "minProperties": 1, "properties": swept,
                "description": "Parameter names, each with a list of values: one model for every combination. Tables get a column for each."
            }),
        ),
    ]);
    let mut schema = closed("kind", kind, common, &[]);
    let required: Vec<Value> = schema["required"].as_array().into_iter().flatten().skip(1).cloned().collect();
    schema["required"] = json!(["kind"]);
    let unless_swept: Vec<Value> = required.iter().map(required_unless_swept).collect();
    if !unless_swept.is_empty() {
        schema["allOf"] = Value::Array(unless_swept);
    }
    schema
}

fn required_unless_swept(name: &Value) -> Value {
    json!({ "anyOf": [
        { "required": [name] },
        { "required": ["sweep"], "properties": { "sweep": { "required": [name] } } }
    ]})
}

/// The parameter that `schema` asks for either in the model or in its sweep.
pub(super) fn as_required_unless_swept(schema: &Value) -> Option<&str> {
    let name = schema.pointer("/anyOf/0/required/0")?;
    (*schema == required_unless_swept(name)).then(|| name.as_str())?
}

/// The part of a schema that allows single values, if there is one.
fn scalar(schema: &Value) -> Option<Value> {
    for union in ["anyOf", "oneOf"] {
        if let Some(branches) = schema.get(union).and_then(Value::as_array) {
            let scalars: Vec<Value> = branches.iter().filter_map(scalar).collect();
            let null = branches.iter().filter(|branch| branch["type"] == "null").cloned();
            return (!scalars.is_empty()).then(|| json!({ "anyOf": scalars.iter().cloned().chain(null).collect::<Vec<_>>() }));
        }
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(only)) => vec![only],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return (schema.get("const").is_some() || schema.get("enum").is_some()).then(|| schema.clone()),
    };
    let types: Vec<&str> = types.into_iter().filter(|&name| name != "array" && name != "object").collect();
    types.iter().any(|&name| name != "null").then(|| match types.as_slice() {
        [only] => with(schema, "type", *only),
        several => with(schema, "type", several),
    })
}

/// A kind as a closed object: `tag: NAME`, the keys that all kinds share, then its parameters.
fn closed<T: ?Sized>(tag: &str, kind: &Kind<T>, common: Map<String, Value>, required: &[&str]) -> Value {
    let parameters = (kind.schema)().to_value();
    let about = description(&parameters);
    let mut all = object([(tag, json!({ "const": kind.name, "description": about }))]);
    all.extend(properties(&parameters).map(|(name, schema)| (name.clone(), schema.clone())));
    all.extend(common);
    let mut needed = vec![Value::from(tag)];
    needed.extend(required.iter().map(|&name| Value::from(name)));
    needed.extend(parameters["required"].as_array().into_iter().flatten().cloned());
    json!({
        "title": kind.name, "description": about, "type": "object", "additionalProperties": false,
        "properties": all, "required": needed
    })
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn description(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

fn object<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn with(schema: &Value, key: &str, value: impl serde::Serialize) -> Value {
    let mut schema = schema.clone();
    schema[key] = json!(value);
    schema
}

/// The keywords that [`validate`](super::validate) knows, and those that only describe.
#[cfg(test)]
const KNOWN: &[&str] = &[
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "prefixItems",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minProperties",
    "title",
    "description",
    "default",
    "examples",
];

/// Keywords of a kind's schema that the validator would pass over in silence, with where they are.
#[cfg(test)]
fn unknown_keywords(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let path = format!("{path}/{keyword}");
        match (keyword.as_str(), value) {
            (unknown, _) if !KNOWN.contains(&unknown) => found.push(path),
            ("properties", Value::Object(entries)) => {
                entries.iter().for_each(|(name, schema)| unknown_keywords(schema, &format!("{path}/{name}"), found));
            }
            ("anyOf" | "oneOf" | "prefixItems", Value::Array(branches)) => {
                branches.iter().for_each(|schema| unknown_keywords(schema, &path, found));
            }
            ("items" | "additionalProperties", schema) => unknown_keywords(schema, &path, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing;

    /// Every problem with the schemas of a registry: what the validator does not know, and keys that a kind must not take.
    fn check<T: ?Sized>(kinds: &[Kind<T>], taken: &[&str]) {
        for kind in kinds {
            let schema = (kind.schema)().to_value();
            let mut found = Vec::new();
            unknown_keywords(&schema, kind.name, &mut found);
            assert!(found.is_empty(), "the validator does not know these keywords: {found:#?}");
            for name in taken {
                assert!(schema["properties"].get(name).is_none(), "`{}` has a parameter called `{name}`", kind.name);
            }
        }
    }

    #[test]
    fn the_validator_knows_every_keyword_of_every_kind() {
        for registries in [Registries::standard(), testing::registries()] {
            check(registries.models, &["kind", "replicates", "sweep"]);
            check(registries.inputs, &["kind"]);
            check(registries.measures, &["measure", "name", "models", "input"]);
            check(registries.figures, &["figure", "of", "title", "name", "caption"]);
        }
    }

    #[test]
    fn required_parameters_may_be_swept_instead() {
        let name = json!("vocab");
        assert_eq!(as_required_unless_swept(&required_unless_swept(&name)), Some("vocab"));
        assert_eq!(as_required_unless_swept(&json!({ "anyOf": [{ "required": ["vocab"] }] })), None);
    }

    #[test]
    fn the_schema_describes_itself() {
        let schema = experiment_schema(&testing::registries());
        assert_eq!(schema["$schema"], DIALECT);
        let model = &schema["properties"]["models"]["additionalProperties"]["oneOf"][0];
        assert_eq!(model["properties"]["kind"]["const"], "toy");
        assert_eq!(model["properties"]["sweep"]["properties"]["noise"]["items"]["type"], "number");
        assert!(model["properties"]["sweep"]["properties"]["heads"]["not"].is_object());
    }
}
