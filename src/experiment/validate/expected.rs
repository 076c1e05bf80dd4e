//! Whether one value fits, and what a schema asks for in words.

use crate::experiment::diagnostic::{Diagnostic, list};
use crate::experiment::yaml::{Node, Value as Yaml};
use crate::names::closest;
use serde_json::Value as Json;

/// Whether the value itself fits: its type, its range, its length. Not what is inside it.
pub fn fits(node: &Node, schema: &Json) -> bool {
    if let Some(expected) = schema.get("const") {
        return node.to_json() == *expected;
    }
    if let Some(allowed) = schema["enum"].as_array() {
        return allowed.contains(&node.to_json());
    }
    if !has_type(node, schema) {
        return false;
    }
    let at_least = |keyword: &str, count: usize| schema[keyword].as_u64().is_none_or(|least| count as u64 >= least);
    let at_most = |keyword: &str, count: usize| schema[keyword].as_u64().is_none_or(|most| count as u64 <= most);
    match &node.value {
        Yaml::Int(value) => in_format(*value, schema) && in_range(*value as f64, schema),
        Yaml::Float(value) => in_range(*value, schema),
        Yaml::Str(text) => {
            let length = text.chars().count();
            at_least("minLength", length) && at_most("maxLength", length)
        }
        Yaml::Seq(items) => at_least("minItems", items.len()) && at_most("maxItems", items.len()),
        Yaml::Map(entries) => at_least("minProperties", entries.len()) && at_most("maxProperties", entries.len()),
        Yaml::Null | Yaml::Bool(_) => true,
    }
}

/// The JSON types that a schema allows; all if it names none.
pub fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(only) => vec![only],
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether the value has a type that the schema allows.
pub fn has_type(node: &Node, schema: &Json) -> bool {
    let types = types(schema);
    let names: &[&str] = match &node.value {
        Yaml::Null => &["null"],
        Yaml::Bool(_) => &["boolean"],
        Yaml::Int(_) => &["integer", "number"],
        Yaml::Float(_) => &["number"],
        Yaml::Str(_) => &["string"],
        Yaml::Seq(_) => &["array"],
        Yaml::Map(_) => &["object"],
    };
    types.is_empty() || types.iter().any(|name| names.contains(name))
}

fn in_range(value: f64, schema: &Json) -> bool {
    let bound = |keyword: &str| schema[keyword].as_f64();
    bound("minimum").is_none_or(|least| value >= least)
        && bound("maximum").is_none_or(|most| value <= most)
        && bound("exclusiveMinimum").is_none_or(|below| value > below)
        && bound("exclusiveMaximum").is_none_or(|above| value < above)
}

fn format_range(schema: &Json) -> Option<(i128, i128)> {
    Some(match schema["format"].as_str()? {
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint" | "uint64" => (0, u64::MAX.into()),
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "int" | "int64" => (i64::MIN.into(), i64::MAX.into()),
        _ => return None,
    })
}

fn in_format(value: i128, schema: &Json) -> bool {
    format_range(schema).is_none_or(|(least, most)| (least..=most).contains(&value))
}

/// "`period` must be an integer of at least 1, not the string `twenty`".
pub fn mismatch(node: &Node, schema: &Json, name: &str) -> Diagnostic {
    let found = match &node.value {
        Yaml::Seq(items) if has_type(node, schema) => count(items.len(), "a list of", "item"),
        Yaml::Map(entries) if has_type(node, schema) => count(entries.len(), "a map of", "entry"),
        Yaml::Int(value) if has_type(node, schema) => value.to_string(),
        Yaml::Float(value) if has_type(node, schema) => format!("{value:?}"),
        _ => node.describe(),
    };
    let mut wanted = expected(schema);
    // The limit of the machine's numbers is worth words only where it is the limit that was passed.
    if let (Yaml::Int(value), Some((_, most))) = (&node.value, format_range(schema))
        && *value > most
    {
        wanted = format!("an integer of at most {most}");
    }
    let most =
        |keyword: &str, found: usize| schema[keyword].as_u64().filter(|&most| found as u64 > most).map(|most| most as usize);
    let too_long = match &node.value {
        Yaml::Seq(items) => most("maxItems", items.len()).map(|most| count(most, "a list of at most", "item")),
        Yaml::Map(entries) => most("maxProperties", entries.len()).map(|most| count(most, "a map of at most", "entry")),
        _ => None,
    };
    wanted = too_long.unwrap_or(wanted);
    let problem = Diagnostic::new(node.span, format!("{name} must be {wanted}, not {found}"));
    match help(node, schema) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn help(node: &Node, schema: &Json) -> Option<String> {
    let types = types(schema);
    let options = texts(schema);
    match &node.value {
        Yaml::Str(text) if !options.is_empty() => closest(text, &options).map(|near| format!("did you mean `{near}`?")),
        Yaml::Str(text) if types.contains(&"boolean") => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("write `true`".to_string()),
            "no" | "off" | "n" | "false" => Some("write `false`".to_string()),
            _ => None,
        },
        Yaml::Str(text) if types.contains(&"integer") || types.contains(&"number") => {
            text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|_| format!("write it without quotes: {text}"))
        }
        Yaml::Float(value) if types.contains(&"integer") && value.fract() == 0.0 => Some(format!("write {value:.0}")),
        Yaml::Int(value) if types.contains(&"string") => Some(format!("put it in quotes: \"{value}\"")),
        Yaml::Bool(value) if types.contains(&"string") => Some(format!("put it in quotes: \"{value}\"")),
        _ if types.contains(&"array") && node.is_scalar() && node.value != Yaml::Null => {
            Some("a list is written in brackets: [first, second]".to_string())
        }
        _ => None,
    }
}

/// The texts that a schema of fixed texts allows.
pub fn texts(schema: &Json) -> Vec<&str> {
    if let Some(text) = schema["const"].as_str() {
        return vec![text];
    }
    schema["enum"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// What the schema asks for: "an integer of at least 1".
pub fn expected(schema: &Json) -> String {
    if let Some(value) = schema.get("const") {
        return quoted(value);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        // That null is allowed need not be said: it stands for leaving the key out.
        let named = allowed.iter().filter(|value| !value.is_null());
        let names: Vec<String> = named.map(|value| value.as_str().map_or(value.to_string(), String::from)).collect();
        return if let [only] = names.as_slice() { format!("`{only}`") } else { format!("one of {}", list(&names)) };
    }
    if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        return either(branches);
    }
    let names: Vec<String> = types(schema)
        .iter()
        .map(|&name| match name {
            "integer" => format!("an integer{}", range(schema)),
            "number" => format!("a number{}", range(schema)),
            "string" if schema["minLength"].as_u64().is_some_and(|least| least > 0) => "a string that is not empty".to_string(),
            "string" => "a string".to_string(),
            "boolean" => "`true` or `false`".to_string(),
            "array" => match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
                (Some(least), Some(most)) if least == most => count(least as usize, "a list of", "item"),
                (Some(least), _) if least > 0 => count(least as usize, "a list of at least", "item"),
                (_, Some(most)) => count(most as usize, "a list of at most", "item"),
                _ => "a list".to_string(),
            },
            "object" if schema["minProperties"].as_u64().is_some_and(|least| least > 0) => {
                "a map that is not empty".to_string()
            }
            "object" => "a map".to_string(),
            other => other.to_string(),
        })
        .collect();
    if names.is_empty() { "something else".to_string() } else { names.join(" or ") }
}

/// What a union asks for, each alternative once.
pub fn either(branches: &[Json]) -> String {
    let fixed: Vec<&str> = branches.iter().flat_map(texts).collect();
    let mut parts = Vec::new();
    if fixed.len() > 1 {
        parts.push(format!("one of {}", list(&fixed)));
    }
    for branch in branches {
        let part = expected(branch);
        if (fixed.len() < 2 || texts(branch).is_empty()) && !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(" or ")
}

fn range(schema: &Json) -> String {
    let bound = |keyword: &str| schema.get(keyword).filter(|value| value.is_number());
    let low = bound("minimum")
        .map(|at| format!("at least {}", plain(at)))
        .or(bound("exclusiveMinimum").map(|at| format!("above {}", plain(at))));
    let high = bound("maximum")
        .map(|at| format!("at most {}", plain(at)))
        .or(bound("exclusiveMaximum").map(|at| format!("below {}", plain(at))));
    match (low, high) {
        (None, None) => String::new(),
        (Some(low), None) => format!(" {}{low}", of(&low)),
        (None, Some(high)) => format!(" {}{high}", of(&high)),
        (Some(low), Some(high)) => format!(" {}{low} and {high}", of(&low)),
    }
}

fn of(bound: &str) -> &'static str {
    if bound.starts_with("at") { "of " } else { "" }
}

fn plain(number: &Json) -> String {
    match number.as_f64() {
        Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value:.0}"),
        _ => number.to_string(),
    }
}

fn quoted(value: &Json) -> String {
    format!("`{}`", value.as_str().map_or(value.to_string(), String::from))
}

fn count(number: usize, before: &str, noun: &str) -> String {
    match number {
        0 => format!("an empty {}", before.split(' ').nth(1).unwrap_or_default()),
        1 => format!("{before} 1 {noun}"),
        _ => match noun.strip_suffix('y') {
            Some(stem) => format!("{before} {number} {stem}ies"),
            None => format!("{before} {number} {noun}s"),
        },
    }
}
