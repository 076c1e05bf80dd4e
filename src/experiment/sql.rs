//! Queries, tried on empty tables before the run: what they refer to, and the columns that they yield.

use super::diagnostic::{Diagnostic, Sources, Span};
use super::yaml::Node;
use crate::names::closest;
use crate::query;
use indexmap::IndexMap;
use polars::prelude::{DataFrame, Schema};

/// Longer queries are a slip, and the stack on which [`query::execute`] runs them is enough for whatever fits in this.
const LONGEST: usize = 8 * 1024;

/// A table that a cell above defines.
#[derive(Debug)]
pub struct Table {
    /// Where its name is.
    pub span: Span,
    /// Its columns; `None` if its cell has a problem.
    pub columns: Option<Schema>,
}

/// The tables of the cells above, and where those of the cells below are.
#[derive(Debug, Default)]
pub struct Tables {
    /// Tables that can be used.
    pub above: IndexMap<String, Table>,
    /// Names of all tables of the file, with their places.
    pub all: IndexMap<String, Span>,
}

impl Tables {
    /// The columns that a query yields; `None` if it uses a table whose cell has a problem.
    ///
    /// # Errors
    /// The query does not parse, or names no existing table or column.
    pub fn check(&self, node: &Node, sources: &Sources) -> Result<Option<Schema>, Diagnostic> {
        let sql = node.as_str().unwrap_or_default();
        if !["select", "with"].iter().any(|word| token(without_comments(sql)).eq_ignore_ascii_case(word)) {
            return Err(Diagnostic::new(node.span, "a query starts with SELECT or WITH"));
        }
        if sql.len() > LONGEST {
            return Err(Diagnostic::new(node.span, format!("this query is longer than {LONGEST} bytes")));
        }
        let broken = |(name, table): (&String, &Table)| table.columns.is_none() && occurrences(sql, name).next().is_some();
        if self.above.iter().any(broken) {
            return Ok(None);
        }
        let empty = self.above.iter().filter_map(|(name, table)| {
            table.columns.as_ref().map(|columns| (name.clone(), DataFrame::empty_with_schema(columns)))
        });
        match query::execute(sql, &empty.collect()) {
            Ok(frame) => {
                let nested = frame.schema().iter().find(|(_, kind)| kind.is_nested()).map(|(name, _)| name.clone());
                nested.map_or(Ok(Some((**frame.schema()).clone())), |name| {
                    let message = format!("the query yields lists in its column `{name}`");
                    Err(Diagnostic::new(node.span, message).help("a table holds one value in each place"))
                })
            }
            Err(error) => Err(self.explain(&error.to_string(), node, sources)),
        }
    }

    /// The engine's words as a problem at the word that it is about.
    fn explain(&self, error: &str, node: &Node, sources: &Sources) -> Diagnostic {
        let sql = node.as_str().unwrap_or_default();
        if let Some(name) = between(error, "relation '", "'") {
            return self.no_table(name, underline(node, sources, name, 0));
        }
        if let Some(name) = between(error, "unable to find column \"", "\"") {
            let valid = between(error, "valid columns: [", "]").unwrap_or_default();
            let valid = valid.split(", ").map(|name| name.trim_matches('"')).filter(|name| !name.is_empty());
            return no_column(name, valid.collect(), underline(node, sources, name, 0));
        }
        if let Some(name) = between(error, "no column named '", "'") {
            let used = self.above.iter().filter(|(table, _)| occurrences(sql, table).next().is_some());
            let mut valid: Vec<&str> = Vec::new();
            for column in used.filter_map(|(_, table)| table.columns.as_ref()).flat_map(|columns| columns.iter_names()) {
                if !valid.contains(&column.as_str()) {
                    valid.push(column.as_str());
                }
            }
            return no_column(name, valid, underline(node, sources, name, 0));
        }
        if let Some(name) = between(error, "unsupported function '", "'") {
            let known = polars::sql::keywords::all_functions();
            let problem =
                Diagnostic::new(underline(node, sources, name, 0), format!("there is no function `{name}` in this SQL"));
            let near = closest(name, &known);
            return near.map_or(problem.clone(), |near| problem.help(format!("did you mean `{near}`?")));
        }
        if let Some(at) = position(error, sql) {
            let message = error.split(" at Line: ").next().unwrap_or(error);
            let message = message.rsplit("sql parser error: ").next().unwrap_or(message);
            let token = token(&sql[at..]);
            let nth = sql[..at].matches(token).count();
            return Diagnostic::new(underline(node, sources, token, nth), format!("this is not SQL: {message}"));
        }
        let message = error.split("\n\n").next().unwrap_or(error).lines().next().unwrap_or_default();
        let message = message.rsplit("sql parser error: ").next().unwrap_or(message);
        let quoted = message.split(['\'', '"', '`', '“', '”']).skip(1).step_by(2);
        let word = quoted.filter(|word| word.len() > 1).find(|word| occurrences(sql, word).next().is_some());
        let span = word.map_or(node.span, |word| underline(node, sources, word, 0));
        Diagnostic::new(span, format!("the query cannot run: {message}"))
    }

    /// "There is no table": with the one that was meant, or where it is defined.
    pub fn no_table(&self, name: &str, span: Span) -> Diagnostic {
        let problem = Diagnostic::new(span, format!("there is no table `{name}`"));
        if let Some(&later) = self.all.get(name) {
            let problem = Diagnostic::new(span, format!("the table `{name}` is defined later"));
            return problem.context(later, "here").help("tables can be used only below their cell");
        }
        let all: Vec<&str> = self.all.keys().map(String::as_str).collect();
        let above: Vec<&str> = self.above.keys().map(String::as_str).collect();
        match (closest(name, &all), above.is_empty()) {
            (Some(near), _) => problem.help(format!("did you mean `{near}`?")),
            (None, true) => problem.help("no cell above this one makes a table"),
            (None, false) => problem.suggest("", "the tables above are", above),
        }
    }
}

fn no_column(name: &str, valid: Vec<&str>, span: Span) -> Diagnostic {
    Diagnostic::new(span, format!("there is no column `{name}`")).suggest(name, "the columns here are", valid)
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(&rest[..rest.find(after)?])
}

/// The byte in `sql` that "at Line: 1, Column: 8" of an error means.
fn position(error: &str, sql: &str) -> Option<usize> {
    let line: usize = between(error, " at Line: ", ",")?.parse().ok()?;
    let column = error.rsplit("Column: ").next()?;
    let column: usize = column.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let start = match line.checked_sub(1)? {
        0 => 0,
        before => sql.match_indices('\n').nth(before - 1)?.0 + 1,
    };
    let (at, _) = sql[start..].char_indices().nth(column.checked_sub(1)?)?;
    Some(start + at)
}

/// The word that a text starts with, or its first character.
fn token(text: &str) -> &str {
    let end = text.find(|c: char| !is_word(c)).unwrap_or(text.len());
    match end {
        0 => &text[..text.chars().next().map_or(0, char::len_utf8)],
        end => &text[..end],
    }
}

/// A query from its first word on: without the white space, comments and brackets before it.
fn without_comments(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        let after = if trimmed.starts_with("--") {
            trimmed.find('\n').map(|at| &trimmed[at..])
        } else if trimmed.starts_with("/*") {
            trimmed.find("*/").map(|at| &trimmed[at + 2..])
        } else {
            return trimmed;
        };
        rest = after.unwrap_or_default();
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands alone in `text`, and not inside a string of SQL.
fn occurrences<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let alone = move |at: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let quoted = text[..at].matches('\'').count() % 2 == 1;
        !quoted && !before.is_some_and(is_word) && !after.is_some_and(is_word)
    };
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| !word.is_empty() && alone(at))
}

/// The place of the `nth` occurrence of a word inside a query; the whole query if YAML's quoting hides it.
fn underline(node: &Node, sources: &Sources, word: &str, nth: usize) -> Span {
    let raw = sources.slice(node.span);
    let symbol = !word.chars().all(is_word);
    // The quotes of a quoted scalar are no quotes of SQL.
    let opened = usize::from(raw.starts_with('\''));
    let found = if symbol || nth > 0 {
        raw.match_indices(word).nth(nth).map(|(at, _)| at)
    } else {
        let anywhere = || raw.find(word).or_else(|| raw.to_ascii_lowercase().find(&word.to_ascii_lowercase()));
        occurrences(&raw[opened..], word).next().map(|at| at + opened).or_else(anywhere)
    };
    match found {
        Some(at) if !word.is_empty() => {
            Span { start: node.span.start + at, end: node.span.start + at + word.len(), ..node.span }
        }
        _ => node.span,
    }
}
