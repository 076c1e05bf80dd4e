//! Unions: which alternative was meant.

use super::expected::{either, fits, has_type, texts};
use super::{Place, Validator};
use crate::experiment::diagnostic::{Diagnostic, list};
use crate::experiment::yaml::{Node, Value as Yaml};
use crate::names::closest;
use serde_json::Value as Json;

impl Validator {
    /// Checks a value against the alternative that was meant.
    pub(super) fn check_union(&mut self, node: &Node, branches: &[Json], schema: &Json, place: &Place) {
        if node.value == Yaml::Null && branches.iter().any(|branch| branch["type"] == "null") {
            return;
        }
        let branches: Vec<&Json> = branches.iter().filter(|branch| branch["type"] != "null").collect();
        let objects: Vec<&Json> = branches.iter().copied().filter(|branch| is_object(branch)).collect();
        if let Yaml::Map(entries) = &node.value
            && !objects.is_empty()
        {
            if let Some(tag) = constant_tag(&objects) {
                return self.check_tagged(node, &tag, &objects, place);
            }
            if objects.len() > 1
                && let Some(tags) = key_tags(&objects)
            {
                let meant = entries.iter().find_map(|(key, _)| tags.iter().position(|tag| *tag == key.name));
                return match meant {
                    Some(index) => self.check(node, objects[index], place),
                    None => self.report(no_tag(node, &tags, place)),
                };
            }
        }
        if let [only] = branches.as_slice() {
            return self.check(node, only, place);
        }
        if let Some(branch) = branches.iter().find(|branch| !is_object(branch) && fits_inside(node, branch)) {
            return self.check(node, branch, place);
        }
        let candidates: Vec<&Json> = branches.iter().copied().filter(|branch| admits(node, branch)).collect();
        match candidates.as_slice() {
            [only] if texts(only).is_empty() => self.check(node, only, place),
            [] => self.report(misfit(node, schema, &branches, place)),
            _ if node.is_scalar() => self.report(misfit(node, schema, &branches, place)),
            several => self.check_closest(node, several, place),
        }
    }

    /// `kind: wired` decides which of the objects it is.
    fn check_tagged(&mut self, node: &Node, tag: &str, objects: &[&Json], place: &Place) {
        let names: Vec<&str> = objects.iter().filter_map(|object| object["properties"][tag]["const"].as_str()).collect();
        let Some((key, value)) = node.entry(tag) else {
            let misspelt = node.entries().iter().find(|(key, _)| closest(&key.name, &[tag]).is_some());
            let problem = match misspelt {
                Some((key, _)) => Diagnostic::new(key.span, format!("unknown key `{}` in {}", key.name, place.name))
                    .help(format!("did you mean `{tag}`?")),
                None => Diagnostic::new(place.anchor, format!("`{tag}` is missing in {}", place.name))
                    .help(format!("`{tag}` can be {}", list(&names))),
            };
            return self.report(problem);
        };
        let found = value.as_str().unwrap_or_default();
        if let Some(index) = names.iter().position(|&name| name == found) {
            return self.check(node, objects[index], place);
        }
        let problem = match value.as_str() {
            Some(name) => Diagnostic::new(value.span, format!("there is no {} `{name}`", self.noun(tag))),
            None => Diagnostic::new(value.span, format!("`{}` must be a name, not {}", key.name, value.describe())),
        };
        self.report(problem.suggest(found, &format!("`{tag}` can be"), names));
    }

    /// What the value of a tag names.
    fn noun<'t>(&self, tag: &'t str) -> &'t str {
        match (tag, self.path.first().map(String::as_str)) {
            ("kind", Some("models")) => "kind of model",
            ("kind", Some("inputs")) => "kind of input",
            _ => tag,
        }
    }

    /// Of several alternatives that could be meant: the one with the fewest problems.
    fn check_closest(&mut self, node: &Node, candidates: &[&Json], place: &Place) {
        let attempts = candidates.iter().map(|schema| {
            let mut attempt = Validator { outcome: super::Outcome::default(), path: self.path.clone() };
            attempt.check(node, schema, place);
            attempt.outcome
        });
        if let Some(best) = attempts.min_by_key(|outcome| outcome.diagnostics.len()) {
            self.outcome.diagnostics.extend(best.diagnostics);
            best.failed.into_iter().for_each(|path| self.outcome.note(path));
        }
    }
}

fn misfit(node: &Node, schema: &Json, branches: &[&Json], place: &Place) -> Diagnostic {
    let all: Vec<Json> =
        schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array).cloned().unwrap_or_default();
    let known: Vec<&str> = branches.iter().flat_map(|branch| texts(branch)).collect();
    let problem = Diagnostic::new(node.span, format!("{} must be {}, not {}", place.name, either(&all), node.describe()));
    match node.as_str().and_then(|text| closest(text, &known)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem,
    }
}

fn no_tag(node: &Node, tags: &[&str], place: &Place) -> Diagnostic {
    for (key, _) in node.entries() {
        if let Some(near) = closest(&key.name, tags) {
            let message = format!("unknown key `{}` in {}", key.name, place.name);
            return Diagnostic::new(key.span, message).help(format!("did you mean `{near}`?"));
        }
    }
    Diagnostic::new(place.anchor, format!("{} does not say what it is", place.name))
        .help(format!("it needs one of {}", list(tags)))
}

fn is_object(schema: &Json) -> bool {
    schema["type"] == "object" || nested(schema).is_some_and(|branches| branches.iter().all(is_object))
}

fn nested(schema: &Json) -> Option<&Vec<Json>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Json::as_array)
}

/// Whether a value could be meant for this alternative, by its type.
fn admits(node: &Node, schema: &Json) -> bool {
    match nested(schema) {
        Some(branches) => branches.iter().any(|branch| admits(node, branch)),
        None if !texts(schema).is_empty() => node.as_str().is_some(),
        None => has_type(node, schema),
    }
}

fn fits_inside(node: &Node, schema: &Json) -> bool {
    match nested(schema) {
        Some(branches) => branches.iter().any(|branch| fits_inside(node, branch)),
        None => node.is_scalar() && fits(node, schema),
    }
}

/// The key whose constant tells the objects apart.
fn constant_tag(objects: &[&Json]) -> Option<String> {
    let properties = objects.first()?["properties"].as_object()?;
    let is_tag = |name: &str| objects.iter().all(|object| object["properties"][name]["const"].is_string());
    properties.keys().find(|name| is_tag(name)).cloned()
}

/// For each object the required key that only it has, if each has one.
fn key_tags<'a>(objects: &[&'a Json]) -> Option<Vec<&'a str>> {
    let own = |index: usize| {
        required(objects[index])
            .into_iter()
            .find(|name| objects.iter().enumerate().all(|(other, object)| other == index || !has_property(object, name)))
    };
    (0..objects.len()).map(own).collect()
}

/// The keys that an object requires; for a union, those that all its alternatives do.
fn required(schema: &Json) -> Vec<&str> {
    match nested(schema) {
        Some(branches) => {
            let mut branches = branches.iter();
            let first = branches.next().map(required).unwrap_or_default();
            branches.fold(first, |common, branch| {
                let here = required(branch);
                common.into_iter().filter(|name| here.contains(name)).collect()
            })
        }
        None => schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect(),
    }
}

fn has_property(schema: &Json, name: &str) -> bool {
    match nested(schema) {
        Some(branches) => branches.iter().any(|branch| has_property(branch, name)),
        None => schema["properties"].get(name).is_some(),
    }
}
