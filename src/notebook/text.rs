//! A notebook as the text of an experiment file.

use crate::{Error, Result};
use serde_json::Value;

/// What a notebook holds, as the sections of an experiment file.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    title: String,
    pub seed: Option<u64>,
    models: Vec<Entry>,
    inputs: Vec<Entry>,
    cells: Vec<CellText>,
}

impl Draft {
    pub fn new(title: &str) -> Self {
        Self { title: title.into(), seed: None, models: Vec::new(), inputs: Vec::new(), cells: Vec::new() }
    }

    pub fn has_models(&self) -> bool {
        !self.models.is_empty()
    }

    pub fn has_cells(&self) -> bool {
        !self.cells.is_empty()
    }

    pub fn with_model(&self, name: &str, yaml: &str) -> Self {
        Self { models: with_entry(&self.models, name, yaml), ..self.clone() }
    }

    pub fn with_input(&self, name: &str, yaml: &str) -> Self {
        Self { inputs: with_entry(&self.inputs, name, yaml), ..self.clone() }
    }

    /// The place of the cell that `cell` replaces.
    fn place(&self, cell: &CellText) -> Option<usize> {
        self.cells.iter().position(|other| cell.identity.is_some() && other.identity == cell.identity)
    }

    /// Whether there is a cell that `cell` replaces.
    pub fn has(&self, cell: &CellText) -> bool {
        self.place(cell).is_some()
    }

    /// With the cell at the place of the one that it replaces, or behind all; and at which.
    pub fn with_cell(&self, cell: CellText) -> (Self, usize) {
        let mut draft = self.clone();
        let place = self.place(&cell).unwrap_or(self.cells.len());
        draft.cells.splice(place..(place + 1).min(self.cells.len()), [cell]);
        (draft, place)
    }

    /// With the cell behind all, without the one that it replaces; and its place.
    pub fn with_cell_last(&self, cell: CellText) -> (Self, usize) {
        let mut draft = self.clone();
        draft.cells.retain(|other| cell.identity.is_none() || other.identity != cell.identity);
        draft.cells.push(cell);
        let place = draft.cells.len() - 1;
        (draft, place)
    }

    /// Without the cell of that name.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none.
    pub fn without(&self, what: &str) -> Result<Self> {
        let found = self.cells.iter().position(|cell| cell.identity.as_ref().is_some_and(|(_, name)| name == what));
        let mut draft = self.clone();
        draft.cells.remove(found.ok_or_else(|| Error::invalid(format!("there is no cell `{what}`")))?);
        Ok(draft)
    }

    /// The experiment file.
    pub fn yaml(&self) -> String {
        let mut text = format!("title: {}\n", scalar(&self.title));
        if let Some(seed) = self.seed {
            text += &format!("seed: {seed}\n");
        }
        for (key, entries) in [("models", &self.models), ("inputs", &self.inputs)] {
            if !entries.is_empty() {
                text += &format!("{key}:\n");
            }
            for Entry { name, yaml } in entries {
                let name = scalar(name);
                // A flow of braces may stand behind its name; whatever else is an indented block.
                text += &match yaml.trim() {
                    line if line.starts_with('{') && !line.contains('\n') => format!("  {name}: {line}\n"),
                    _ => format!("  {name}:\n{}", indented(yaml, "    ")),
                };
            }
        }
        // There are no experiments without cells.
        text += if self.cells.is_empty() { "cells:\n  - text: Nothing is asked yet.\n" } else { "cells:\n" };
        self.cells.iter().for_each(|cell| text += &indented(&cell.yaml, "  "));
        text
    }
}

/// An entry of `models:` or `inputs:`.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    yaml: String,
}

/// A cell as text: an item of a list.
#[derive(Clone, Debug)]
pub(super) struct CellText {
    yaml: String,
    /// What another cell replaces this one by having, too; none where it cannot be told.
    identity: Option<(&'static str, String)>,
}

impl CellText {
    /// # Errors
    /// [`Error::Invalid`] if it is several cells.
    pub fn new(yaml: &str) -> Result<Self> {
        let given = without_margin(yaml);
        let is_item = |line: &&str| line.starts_with("- ") || *line == "-";
        // The first line that says something tells whether it is an item of a list already.
        let first = given.iter().find(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let yaml = if first.is_some_and(is_item) { given.join("\n") } else { format!("- {}", given.join("\n  ")) };
        if serde_yaml::from_str::<Vec<Value>>(&yaml).is_ok_and(|items| items.len() > 1) {
            return Err(Error::invalid("these are several cells: give one at a time"));
        }
        let identity = identity(&yaml);
        Ok(Self { yaml, identity })
    }
}

/// The lines of a text without empty ones at either end, and without the margin that all have.
fn without_margin(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.trim_end().lines().skip_while(|line| line.trim().is_empty()).collect();
    let margins =
        lines.iter().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start_matches(' ').len());
    let margin = margins.min().unwrap_or(0);
    lines.iter().map(|line| line.get(margin..).unwrap_or_default()).collect()
}

/// What tells a cell from others: the name of its table, the title of its figure, the words of its claim or text.
fn identity(yaml: &str) -> Option<(&'static str, String)> {
    let list: Vec<Value> = serde_yaml::from_str(yaml).ok()?;
    let text = |key: &str| list.first()?.get(key)?.as_str().map(str::to_owned);
    let table = || text("query").and(text("name")).or_else(|| text("measure").map(|kind| text("name").unwrap_or(kind)));
    let kinds =
        [("table", table()), ("figure", text("figure").and(text("title"))), ("claim", text("claim")), ("text", text("text"))];
    kinds.into_iter().find_map(|(kind, name)| Some((kind, name?)))
}

/// A text as YAML: as it is if it cannot be taken for anything else.
fn scalar(text: &str) -> String {
    let mut words = text.chars();
    let plain = words.next().is_some_and(char::is_alphabetic)
        && words.all(|c| c.is_alphanumeric() || " _-?!,.()".contains(c))
        && !text.ends_with(' ')
        && serde_yaml::from_str::<Value>(text).is_ok_and(|value| value.as_str() == Some(text));
    if plain { text.to_string() } else { Value::from(text).to_string() }
}

/// Every line of a text behind `margin`, but for empty ones.
fn indented(text: &str, margin: &str) -> String {
    let line = |line: &str| if line.trim().is_empty() { "\n".to_string() } else { format!("{margin}{line}\n") };
    without_margin(text).into_iter().map(line).collect()
}

/// The entries with one more, or another in the place of the one of that name.
fn with_entry(entries: &[Entry], name: &str, yaml: &str) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    let entry = Entry { name: name.into(), yaml: yaml.into() };
    match entries.iter_mut().find(|entry| entry.name == name) {
        Some(place) => *place = entry,
        None => entries.push(entry),
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_known_by_what_it_makes() {
        let identity = |yaml: &str| CellText::new(yaml).unwrap().identity;
        assert_eq!(identity("query: SELECT 1 AS one\nname: best"), Some(("table", "best".into())));
        assert_eq!(identity("measure: composition"), Some(("table", "composition".into())));
        assert_eq!(identity("- claim: It holds.\n  check: SELECT TRUE"), Some(("claim", "It holds.".into())));
        assert_eq!(identity("no cell"), None);
    }
}
