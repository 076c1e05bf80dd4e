//! `--set PATH=VALUE`: changes of the tree before it is checked.

use super::diagnostic::{Diagnostic, Sources, Span};
use super::yaml::{Key, Node, Value, parse};

/// How messages show an override.
const OPTION: &str = "--set ";

/// One step of a path, and where it is written.
struct Step<'a> {
    name: &'a str,
    span: Span,
}

/// Sets the value at `path` to what `value` means in YAML; answers with it.
///
/// The last step of a path may be a key that the file leaves out. All before it must be there.
///
/// # Errors
/// The value is not YAML, or the path leads nowhere: it says where it stopped and what is there.
pub fn apply(root: &mut Node, path: &str, value: &str, sources: &mut Sources) -> Result<Node, Vec<Diagnostic>> {
    let source = sources.add_override(format!("{OPTION}{path}={value}"));
    let start = OPTION.len();
    let (mut value, problems) = parse(value, source, start + path.len() + 1)?;
    if !problems.is_empty() {
        return Err(problems);
    }
    let whole = Span { source, start, end: start + path.len() };
    if value.span.start >= value.span.end {
        value.span = whole;
    }
    let steps = steps(path, source, start);
    if steps.iter().any(|step| step.name.is_empty()) {
        let problem = Diagnostic::new(whole, format!("`{path}` is not a path into the file"));
        return Err(vec![problem.help("write it like `models.wired.noise=0.3` or `cells[2].title=…`")]);
    }
    let mut node = root;
    for (depth, step) in steps.iter().enumerate() {
        let last = depth + 1 == steps.len();
        let parent =
            if depth == 0 { "the file".to_string() } else { format!("`{}`", &path[..steps[depth - 1].span.end - start]) };
        node = child(node, step, last, &parent).map_err(|problem| vec![problem])?;
    }
    *node = value.clone();
    Ok(value)
}

/// The steps of a path that is written from byte `start` of a source.
fn steps(path: &str, source: usize, mut start: usize) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let mut at = start;
        for (index, name) in part.split('[').enumerate() {
            let name = if index == 0 { name } else { name.strip_suffix(']').unwrap_or("") };
            steps.push(Step { name, span: Span { source, start: at, end: at + name.len() } });
            at += name.len() + if index == 0 { 1 } else { 2 };
        }
        start += part.len() + 1;
    }
    steps
}

fn child<'n>(node: &'n mut Node, step: &Step, last: bool, parent: &str) -> Result<&'n mut Node, Diagnostic> {
    let described = node.describe();
    match &mut node.value {
        Value::Map(entries) => {
            let found = entries.iter().position(|(key, _)| key.name == step.name);
            if found.is_none() && !last {
                let names: Vec<&str> = entries.iter().map(|(key, _)| key.name.as_str()).collect();
                return Err(Diagnostic::new(step.span, format!("there is no `{}` in {parent}", step.name)).suggest(
                    step.name,
                    "what is there",
                    names,
                ));
            }
            let index = found.unwrap_or_else(|| {
                let key = Key { name: step.name.to_string(), span: step.span };
                entries.push((key, Node { value: Value::Null, span: step.span }));
                entries.len() - 1
            });
            Ok(&mut entries[index].1)
        }
        Value::Seq(items) => {
            let count = items.len();
            let item = step.name.parse().ok().and_then(|index: usize| items.get_mut(index));
            item.ok_or_else(|| {
                let message = format!("there is no item `{}` in {parent}, a list of {count}", step.name);
                Diagnostic::new(step.span, message).help("items are numbered from 0")
            })
        }
        _ => Err(Diagnostic::new(step.span, format!("there is no `{}` in {parent}: it is {described}", step.name))),
    }
}

/// The node at a path such as `heads[1].query.from`, as deep as the tree goes.
pub fn descend<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    let mut found = None;
    let mut node = node;
    for step in steps(path, 0, 0) {
        let next = match &node.value {
            Value::Map(_) => node.get(step.name),
            Value::Seq(items) => step.name.parse().ok().and_then(|index: usize| items.get(index)),
            _ => None,
        };
        let Some(next) = next else { break };
        node = next;
        found = Some(node);
    }
    found
}
