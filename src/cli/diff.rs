//! `diff`: two runs side by side.

use super::Outcome;
use super::targets::resolve;
use super::terminal::say;
use super::verify::tolerance;
use crate::experiment::compare::{CellDifference, ColumnComparison, TableComparison, Tolerance};
use crate::experiment::diff::{Change, ClaimDifference, Difference, Line, Setting, TableDifference, diff};
use crate::names::counted;
use crate::report::number;
use crate::{Error, Result};
use clap::Args;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Cells with the largest differences that are shown of a column.
const LARGEST: usize = 3;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// Results of the first run: a folder, an experiment file or an experiment's name
    #[arg(value_name = "A")]
    left: PathBuf,
    /// Results of the second run
    #[arg(value_name = "B")]
    right: PathBuf,
    /// Folder in which the results of experiment files lie
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// How far two numbers may lie apart and still count as the same: by at most this, or this share of the greater one
    #[arg(long, value_name = "T", default_value = "0", value_parser = tolerance)]
    tolerance: Tolerance,
}

pub(super) fn execute(args: &DiffArgs) -> Result<Outcome> {
    let [left, right] = [&args.left, &args.right].map(|target| one(target, &args.results));
    let (left, right) = (left?, right?);
    let found = diff(&left, &right, args.tolerance)?;
    say(&show(&left, &right, &found))?;
    Ok(if found.is_empty() { Outcome::Fine } else { Outcome::Failed })
}

fn one(target: &Path, results: &Path) -> Result<PathBuf> {
    let mut found = resolve(target, results)?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one.folder),
        _ => Err(Error::file(target, "holds the results of several experiments; name one of them")),
    }
}

fn show(left: &Path, right: &Path, found: &Difference) -> String {
    let mut text = format!("A {}\nB {}\n", left.display(), right.display());
    if let Some((a, b)) = &found.programs {
        let _ = writeln!(text, "made by {a} (A), {b} (B)");
    }
    if found.is_empty() {
        text += "no difference in settings, tables and claims\n";
    }
    if !(found.settings.is_empty() && found.files.is_empty()) {
        text += "\nsettings\n";
        found.settings.iter().for_each(|setting| show_setting(&mut text, setting));
        found.files.iter().for_each(|file| text += &format!("  files: {file} differs\n"));
    }
    if !found.tables.is_empty() {
        text += "\ntables\n";
        found.tables.iter().for_each(|table| show_table(&mut text, table));
    }
    if !found.claims.is_empty() {
        text += "\nclaims\n";
        found.claims.iter().for_each(|claim| show_claim(&mut text, claim));
    }
    text
}

fn show_setting(text: &mut String, setting: &Setting) {
    let _ = match (&setting.left, &setting.right) {
        (Some(a), Some(b)) => writeln!(text, "  {}: {a} → {b}", setting.path),
        (Some(a), None) => writeln!(text, "  {}: only in A: {a}", setting.path),
        (_, b) => writeln!(text, "  {}: only in B: {}", setting.path, b.as_deref().unwrap_or_default()),
    };
    for (side, line) in [("A", &setting.left_line), ("B", &setting.right_line)] {
        if let Some(Line { place, text: line }) = line {
            let place = place.as_ref().map_or(String::new(), |(file, number)| format!("{file}:{number}: "));
            let _ = writeln!(text, "    {side} {place}{line}");
        }
    }
}

fn show_table(text: &mut String, table: &TableDifference) {
    let name = &table.name;
    let found = match &table.change {
        Change::Removed(rows) => return text.push_str(&format!("  {name}: only in A ({rows} rows)\n")),
        Change::Added(rows) => return text.push_str(&format!("  {name}: only in B ({rows} rows)\n")),
        Change::Changed(found) => found,
    };
    let TableComparison { rows, removed_columns, added_columns, removed_rows, added_rows, .. } = found;
    let count = if rows.0 == rows.1 { format!("{} rows", rows.0) } else { format!("{} → {} rows", rows.0, rows.1) };
    let _ = writeln!(text, "  {name}: {count}");
    for (side, columns) in [("A", removed_columns), ("B", added_columns)] {
        for (column, dtype) in columns {
            let _ = writeln!(text, "    column {column} ({dtype}) only in {side}");
        }
    }
    for (column, a, b) in &found.retyped_columns {
        let _ = writeln!(text, "    column {column}: {a} → {b}");
    }
    for (side, (count, first)) in [("A", removed_rows), ("B", added_rows)] {
        if let Some(row) = first.first() {
            let more = if *count > 1 { ", …" } else { "" };
            let _ = writeln!(text, "    {} only in {side}: {row}{more}", counted(*count, "row"));
        }
    }
    if found.reordered_rows || found.reordered_columns {
        let what = if found.reordered_columns { "columns" } else { "rows" };
        let _ = writeln!(text, "    {what} in another order");
    }
    for column in found.columns.iter().filter(|column| column.differing > 0) {
        show_column(text, column);
    }
}

fn show_column(text: &mut String, column: &ColumnComparison) {
    let ColumnComparison { name, cells, differing, first, largest, .. } = column;
    let s = if *differing == 1 { "s" } else { "" };
    let _ = writeln!(text, "    {name}: {differing} of {cells} differ{s}");
    let shown: Vec<&CellDifference> = largest.iter().take(LARGEST).collect();
    // The largest first; the first in the table's order, where it is none of these.
    let other = first.first().filter(|cell| !shown.iter().any(|other| other.row == cell.row));
    let mut lines: Vec<(&str, String, &str)> = Vec::new();
    for (index, cell) in shown.iter().enumerate() {
        lines.push((if index == 0 { "largest" } else { "" }, change(cell), &cell.place));
    }
    if let Some(cell) = other {
        lines.push(("first", change(cell), &cell.place));
    }
    let width = lines.iter().map(|(_, change, _)| change.chars().count()).max().unwrap_or(0);
    for (word, change, place) in lines {
        let _ = writeln!(text, "      {word:7}  {change:width$}  {place}");
    }
}

/// Both values, rounded where they still differ then, and by how much.
fn change(cell: &CellDifference) -> String {
    match cell.numbers {
        Some((a, b)) if (a - b).is_finite() => {
            let sign = if b > a { "+" } else { "" };
            // With as many digits as tell them apart, if four do not.
            let rounded = |digits: usize| {
                let [a, b] = [a, b].map(|value| format!("{value:.digits$e}").parse().unwrap_or(value));
                (a != b).then(|| (a.to_string(), b.to_string()))
            };
            let four = (number(a), number(b));
            let (from, to) = if four.0 == four.1 { (4..17).find_map(rounded).unwrap_or(four) } else { four };
            format!("{from} → {to} ({sign}{})", number(b - a))
        }
        _ => format!("{} → {}", cell.left, cell.right),
    }
}

fn show_claim(text: &mut String, claim: &ClaimDifference) {
    let word = |holds: bool| if holds { "holds" } else { "FAILS" };
    let statement = &claim.statement;
    let change = match &claim.change {
        Change::Removed(holds) => return text.push_str(&format!("  only in A ({}): {statement}\n", word(*holds))),
        Change::Added(holds) => return text.push_str(&format!("  only in B ({}): {statement}\n", word(*holds))),
        Change::Changed(change) => change,
    };
    let verdict = match change.holds {
        (a, b) if a == b => word(a).to_string(),
        (a, b) => format!("{} → {}", word(a), word(b)),
    };
    let _ = writeln!(text, "  {verdict}: {statement}");
    for (name, a, b) in &change.numbers {
        let _ = writeln!(text, "    {name}: {a} → {b}");
    }
}
