//! Checks a tree against a JSON Schema and reports every problem at its exact place.
//!
//! A general validator says "matches none of the alternatives" where a file has several kinds of object. This one finds the
//! alternative that was meant (by its `kind:`, by the key that is there, by the type of the value) and reports inside it.

use super::diagnostic::{Diagnostic, Span, list};
use super::schema::as_required_unless_swept;
use super::yaml::{Key, Node, Value as Yaml};
use serde_json::Value as Json;
use std::collections::HashSet;

mod expected;
mod union;

/// What validation found.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The problems.
    pub diagnostics: Vec<Diagnostic>,
    /// The path of each problem (`models/wired/vocab`).
    failed: HashSet<String>,
    /// Every path on the way to one of these: looking one up must not take longer with every problem.
    above: HashSet<String>,
}

impl Outcome {
    /// Whether something at or below `path` is wrong.
    pub fn failed(&self, path: &str) -> bool {
        self.above.contains(path)
    }

    /// Whether the value at `path` is wrong as a whole, whatever is in it.
    pub fn failed_itself(&self, path: &str) -> bool {
        self.failed.contains(path)
    }

    fn note(&mut self, path: String) {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        self.above.extend(ends.map(|end| path[..end].to_string()));
        self.failed.insert(path);
    }
}

/// Checks `root`, an experiment file.
pub fn validate(root: &Node, schema: &Json) -> Outcome {
    let mut validator = Validator { outcome: Outcome::default(), path: Vec::new() };
    validator.check(
        root,
        schema,
        &Place { name: "the experiment".to_string(), anchor: root.entries().first().map_or(root.span, |(key, _)| key.span) },
    );
    validator.outcome
}

/// How messages call a value, and where they report that something is missing from it.
struct Place {
    name: String,
    anchor: Span,
}

struct Validator {
    outcome: Outcome,
    path: Vec<String>,
}

impl Validator {
    fn report(&mut self, problem: Diagnostic) {
        self.outcome.diagnostics.push(problem);
        self.outcome.note(self.path.join("/"));
    }

    fn within(&mut self, segment: impl Into<String>, check: impl FnOnce(&mut Self)) {
        self.path.push(segment.into());
        check(self);
        self.path.pop();
    }

    fn check(&mut self, node: &Node, schema: &Json, place: &Place) {
        if schema.get("not").is_some() {
            let why = schema["description"].as_str().unwrap_or("it is not allowed here");
            return self.report(Diagnostic::new(place.anchor, format!("{} must not be here: {why}", place.name)));
        }
        if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            return self.check_union(node, branches, schema, place);
        }
        if !expected::fits(node, schema) {
            return self.report(expected::mismatch(node, schema, &place.name));
        }
        match &node.value {
            Yaml::Seq(items) => self.check_items(items, schema, place),
            Yaml::Map(entries) => self.check_entries(node, entries, schema, place),
            _ => {}
        }
    }

    fn check_items(&mut self, items: &[Node], schema: &Json, place: &Place) {
        let prefix = schema["prefixItems"].as_array().map_or(&[][..], Vec::as_slice);
        for (index, item) in items.iter().enumerate() {
            let Some(schema) = prefix.get(index).or_else(|| schema.get("items")) else { continue };
            let anchor = item.entries().first().map_or(item.span, |(key, _)| key.span);
            let name = if self.path == ["cells"] { "this cell".to_string() } else { item_name(&place.name, index) };
            self.within(index.to_string(), |this| this.check(item, schema, &Place { name, anchor }));
        }
    }

    fn check_entries(&mut self, node: &Node, entries: &[(Key, Node)], schema: &Json, place: &Place) {
        let Some(properties) = schema.get("properties").or(schema.get("additionalProperties")).map(|_| &schema["properties"])
        else {
            return;
        };
        let mut unknown = Vec::new();
        for (key, value) in entries {
            let within = match (properties.get(&key.name), schema.get("additionalProperties")) {
                (Some(schema), _) => schema,
                (None, Some(Json::Bool(false))) => {
                    unknown.push(key);
                    continue;
                }
                (None, Some(schema)) => schema,
                (None, None) => continue,
            };
            let place = Place { name: format!("`{}`", key.name), anchor: key.span };
            self.within(key.name.clone(), |this| this.check(value, within, &place));
        }
        let allowed: Vec<&str> = properties.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let free: Vec<&str> = allowed.iter().copied().filter(|name| node.get(name).is_none()).collect();
        let mut meant = Vec::new();
        for key in unknown {
            let near = crate::names::closest(&key.name, &free);
            meant.extend(near);
            let problem = Diagnostic::new(key.span, format!("unknown key `{}` in {}", key.name, place.name));
            self.report(match near {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None if let Some(there) = crate::names::closest(&key.name, &allowed) => {
                    problem.help(format!("`{there}` is here already"))
                }
                None if self.path.first().is_some_and(|at| at == "cells") && is_cell_tag(&key.name) => {
                    problem.help(format!("`{}` starts a cell of its own: put `- ` before it", key.name))
                }
                None if free.is_empty() => problem.help(format!("its keys are {}", list(&allowed))),
                None => problem.help(format!("keys that can be here: {}", list(&free))),
            });
        }
        // A misspelt key is not also a missing one.
        for name in missing(node, schema).into_iter().filter(|name| !meant.contains(name)) {
            let message = format!("`{name}` is missing in {}", place.name);
            let problem = Diagnostic::new(place.anchor, message);
            let about = properties[name]["description"].as_str().and_then(|text| text.lines().next()).unwrap_or_default();
            self.report(if about.is_empty() { problem } else { problem.help(format!("`{name}`: {about}")) });
        }
    }
}

/// The keys that have to be there and are not.
fn missing<'a>(node: &Node, schema: &'a Json) -> Vec<&'a str> {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let absent = required.filter(|name| node.get(name).is_none());
    let swept = |name: &str| node.get("sweep").is_some_and(|sweep| sweep.get(name).is_some());
    let either = schema["allOf"].as_array().into_iter().flatten().filter_map(as_required_unless_swept);
    absent.chain(either.filter(|name| node.get(name).is_none() && !swept(name))).collect()
}

fn is_cell_tag(name: &str) -> bool {
    matches!(name, "text" | "measure" | "query" | "figure" | "claim")
}

fn item_name(list: &str, index: usize) -> String {
    match list.strip_suffix('`') {
        Some(list) => format!("{list}[{index}]`"),
        None => format!("item {index}"),
    }
}
