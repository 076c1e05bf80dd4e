//! The report: one self-contained HTML page.

use crate::Result;
use polars::prelude::DataFrame;

/// Everything that a report shows.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Title of the experiment (plain text).
    pub title: &'a str,
    /// Opening prose, Markdown.
    pub about: Option<&'a str>,
    /// Cells in order.
    pub blocks: Vec<Block<'a>>,
    /// Name and value of what made this: seed, version, models with their shapes, ….
    pub provenance: Vec<(String, String)>,
    /// The experiment file, shown folded at the end.
    pub source: &'a str,
}

/// One cell of a report.
#[derive(Clone, Debug)]
pub enum Block<'a> {
    /// Prose.
    Text {
        /// Markdown.
        markdown: &'a str,
    },
    /// A measured or derived table: its first rows, and where the whole lies.
    Table {
        /// Name of the table.
        name: &'a str,
        /// What it is: the measure's name with its input, or the query.
        caption: String,
        /// The whole table.
        data: &'a DataFrame,
        /// Path of the CSV file, relative to the report.
        csv: String,
        /// Measured tables are folded away, derived ones shown.
        folded: bool,
    },
    /// A figure.
    Figure {
        /// Number of the figure, from 1.
        number: usize,
        /// Its title.
        title: &'a str,
        /// Further words under it (Markdown).
        caption: Option<&'a str>,
        /// The SVG document, embedded.
        svg: &'a str,
        /// Path of the SVG file, relative to the report.
        path: String,
    },
    /// A claim and what became of it.
    Claim {
        /// The sentence (Markdown).
        statement: &'a str,
        /// The SQL that checked it.
        check: &'a str,
        /// Whether it holds.
        holds: bool,
        /// The numbers that were compared: column name and value.
        numbers: Vec<(String, String)>,
    },
}

/// Renders the page.
///
/// # Errors
/// [`crate::Error::Table`] if a table cannot be read.
pub fn render(report: &Report) -> Result<String> {
    let _ = report;
    Ok(String::new())
}
