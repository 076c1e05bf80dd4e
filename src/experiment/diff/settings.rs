//! Which lines of two experiment files make two runs differ.

use crate::Result;
use crate::experiment::diagnostic::{Diagnostic, Sources, Span};
use crate::experiment::overrides;
use crate::experiment::yaml::{Node, Value, parse};
use crate::names::shorten;
use crate::store::Run;
use crate::{Error, experiment::diagnostic};
use serde_json::Value as Json;
use std::path::Path;

/// Longest value that is shown whole.
const LONGEST: usize = 60;
/// Longer lists are not aligned item by item.
const MOST_ITEMS: usize = 2000;

/// Something that is not the same in two experiments; [`diff`](super::diff()) has an example.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Where it stands, `models.wired.noise`; as in the first experiment, unless only the second has it.
    pub path: String,
    /// The value in the first experiment, in words; none if only the second has it.
    pub left: Option<String>,
    /// The value in the second experiment.
    pub right: Option<String>,
    /// The line that sets it in the first experiment.
    pub left_line: Option<Line>,
    /// The line that sets it in the second experiment.
    pub right_line: Option<Line>,
}

/// A line of an experiment file, or an override; of a [`Setting`].
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// File and number from 1; none for an override.
    pub place: Option<(String, usize)>,
    /// The line, without the white space at its ends; `--set models.wired.noise=0.3` for an override.
    pub text: String,
}

/// An experiment as it was run.
struct Side {
    root: Node,
    sources: Sources,
    path: String,
}

impl Side {
    fn new((stored, folder): (&Run, &Path)) -> Result<Self> {
        let path = folder.join("experiment.yaml").display().to_string();
        let source = stored.source()?;
        let source = source.strip_prefix('\u{feff}').unwrap_or(&source);
        let mut sources = Sources::new(path.clone(), source);
        let (mut root, _) = parse(source, 0, 0).map_err(|problems| refuse(problems, &sources))?;
        for (name, value) in &stored.manifest.overrides {
            // JSON is YAML.
            if let Err(problems) = overrides::apply(&mut root, name, &value.to_string(), &mut sources) {
                return Err(refuse(problems, &sources));
            }
        }
        Ok(Self { root, sources, path })
    }

    fn line(&self, span: Span) -> Line {
        let text = self.sources.text(span.source);
        let number = self.sources.line(span);
        let line = text.lines().nth(number - 1).unwrap_or_default().trim().to_string();
        Line { place: (span.source == 0).then(|| (self.path.clone(), number)), text: line }
    }

    /// The first line at or after a span's that says `words`; the span's own if none does.
    fn line_of(&self, span: Span, words: &str) -> Line {
        let lines = self.sources.text(span.source).lines().enumerate().skip(self.sources.line(span) - 1);
        match lines.map(|(index, line)| (index, line.trim())).find(|(_, line)| !words.is_empty() && line.contains(words)) {
            Some((index, line)) if span.source == 0 => {
                Line { place: Some((self.path.clone(), index + 1)), text: line.to_string() }
            }
            _ => self.line(span),
        }
    }
}

fn refuse(problems: Vec<Diagnostic>, sources: &Sources) -> Error {
    Error::Experiment(diagnostic::render(problems, sources, false))
}

/// What is not the same in the experiments of two runs, overrides included.
pub fn settings(left: (&Run, &Path), right: (&Run, &Path)) -> Result<Vec<Setting>> {
    let (left, right) = (Side::new(left)?, Side::new(right)?);
    let mut walk = Walk { left: &left, right: &right, found: Vec::new() };
    walk.nodes(String::new(), &left.root, &right.root);
    Ok(walk.found)
}

struct Walk<'a> {
    left: &'a Side,
    right: &'a Side,
    found: Vec<Setting>,
}

impl<'a> Walk<'a> {
    fn nodes(&mut self, path: String, left: &'a Node, right: &'a Node) {
        if left == right {
            return;
        }
        match (&left.value, &right.value) {
            (Value::Map(a), Value::Map(b)) => {
                let join = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                for (key, node) in a {
                    match right.get(&key.name) {
                        Some(other) => self.nodes(join(&key.name), node, other),
                        None => self.only_left(join(&key.name), node, key.span),
                    }
                }
                for (key, node) in b.iter().filter(|(key, _)| left.get(&key.name).is_none()) {
                    self.only_right(join(&key.name), node, key.span);
                }
            }
            (Value::Seq(a), Value::Seq(b))
                if a.len().max(b.len()) <= MOST_ITEMS && !(a.iter().chain(b).all(Node::is_scalar)) =>
            {
                self.items(&path, a, b);
            }
            (Value::Str(a), Value::Str(b)) => {
                // Of a text of several lines, the first that differs.
                let (mut mine, mut theirs) = (a.lines(), b.lines());
                let (x, y) = loop {
                    match (mine.next(), theirs.next()) {
                        (Some(x), Some(y)) if x == y => {}
                        (x, y) => break (x, y),
                    }
                };
                let whole = a.lines().count().max(b.lines().count()) <= 1;
                let words = |line: Option<&str>| line.unwrap_or_default().trim().to_string();
                let (from, to) = (if whole { a.clone() } else { words(x) }, if whole { b.clone() } else { words(y) });
                let same = from.chars().zip(to.chars()).take_while(|(x, y)| x == y).count();
                self.found.push(Setting {
                    path,
                    left: Some(excerpt(&from, same)),
                    right: Some(excerpt(&to, same)),
                    left_line: Some(self.left.line_of(left.span, &words(x))),
                    right_line: Some(self.right.line_of(right.span, &words(y))),
                });
            }
            _ => self.found.push(Setting {
                path,
                left: Some(shown(left)),
                right: Some(shown(right)),
                left_line: Some(self.left.line(left.span)),
                right_line: Some(self.right.line(right.span)),
            }),
        }
    }

    fn only_left(&mut self, path: String, node: &Node, at: Span) {
        let line = Some(self.left.line(at));
        self.found.push(Setting { path, left: Some(shown(node)), right: None, left_line: line, right_line: None });
    }

    fn only_right(&mut self, path: String, node: &Node, at: Span) {
        let line = Some(self.right.line(at));
        self.found.push(Setting { path, left: None, right: Some(shown(node)), left_line: None, right_line: line });
    }

    /// Lists of cells: what is equal is left out, what has the same name is compared, the rest is only in one of them.
    fn items(&mut self, path: &str, a: &'a [Node], b: &'a [Node]) {
        let mut pairs = common(a, b);
        pairs.push((a.len(), b.len()));
        let (mut i, mut j) = (0, 0);
        for (x, y) in pairs {
            let mut taken = vec![false; y - j];
            for (at, node) in a.iter().enumerate().take(x).skip(i) {
                let other = (j..y).find(|&other| !taken[other - j] && identity(&b[other]) == identity(node));
                match other {
                    Some(other) => {
                        taken[other - j] = true;
                        self.nodes(format!("{path}[{at}]"), node, &b[other]);
                    }
                    None => self.only_left(format!("{path}[{at}]"), node, node.span),
                }
            }
            for at in (j..y).filter(|at| !taken[at - j]) {
                self.only_right(format!("{path}[{at}]"), &b[at], b[at].span);
            }
            (i, j) = (x + 1, y + 1);
        }
    }
}

/// What makes an item the same although its parameters may have changed: its kind, and its name if it has one.
fn identity(node: &Node) -> (Option<&str>, Option<&str>) {
    let first = node.entries().first().map(|(key, _)| key.name.as_str());
    let name = ["name", "title", "measure", "kind"].iter().find_map(|key| node.get(key)?.as_str());
    (first, name)
}

/// The longest sequence of items that are equal in both lists, as pairs of indices.
fn common(a: &[Node], b: &[Node]) -> Vec<(usize, usize)> {
    let mut lengths = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            lengths[i][j] = if a[i] == b[j] { lengths[i + 1][j + 1] + 1 } else { lengths[i + 1][j].max(lengths[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[i + 1][j] >= lengths[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

/// A text, or of a long one what stands around its character `at`.
fn excerpt(text: &str, at: usize) -> String {
    let words: Vec<char> = text.chars().collect();
    let start = if words.len() <= LONGEST || at < LONGEST / 2 { 0 } else { at - LONGEST / 4 };
    let end = words.len().min(start + LONGEST);
    let mark = |cut: bool| if cut { "…" } else { "" };
    format!("{}{}{}", mark(start > 0), words[start..end].iter().collect::<String>(), mark(end < words.len()))
}

/// A value in one line.
fn shown(node: &Node) -> String {
    let text = match node.to_json() {
        Json::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    shorten(&text)
}
