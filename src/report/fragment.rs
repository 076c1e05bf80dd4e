//! Parts of a report by themselves, as a notebook shows them below a cell.
//!
//! A fragment brings its style, which touches nothing around it, and takes its colours from the page that it stands on.

use super::markdown::Prose;
use super::{broken, environment, html, svg, table};
use crate::Result;
use crate::report::count;
use minijinja::{Value, context};
use polars::prelude::DataFrame;

/// Something that a notebook shows.
///
/// ```
/// use attn_circuits::report::{Fragment, fragments};
/// let numbers = [("loss".to_string(), "0.1".to_string())];
/// let check = "SELECT MAX(loss) < 1 FROM loss";
/// let claim = Fragment::Claim { statement: "It *knows*.", check, holds: true, numbers: &numbers };
/// let facts = [("layers".to_string(), "2".to_string())];
/// let facts = Fragment::Facts { title: "Model <wired>", facts: &facts };
/// let html = fragments(&[claim, facts, Fragment::Text { markdown: "Two `heads`." }])?;
/// // What comes from outside is text or Markdown, and never markup.
/// assert!(html.contains("<em>knows</em>") && html.contains("<code>heads</code>"));
/// assert!(html.contains("Model &lt;wired&gt;") && html.contains("loss"));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub enum Fragment<'a> {
    /// The first rows of a table.
    Table {
        /// The whole table.
        data: &'a DataFrame,
        /// Rows that are shown at most.
        rows: usize,
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
        numbers: &'a [(String, String)],
    },
    /// A few lines of words, each with a name, under a heading: what a model or an input is.
    Facts {
        /// The heading (plain text).
        title: &'a str,
        /// Name and value, in plain text.
        facts: &'a [(String, String)],
    },
    /// A figure, as a picture whose address holds the document: pages that remove SVG from their markup show it, too.
    Figure {
        /// A complete SVG document.
        svg: &'a str,
    },
    /// Prose.
    Text {
        /// Markdown.
        markdown: &'a str,
    },
}

impl Fragment<'_> {
    fn context(&self) -> Result<Value> {
        let pairs = |pairs: &[(String, String)]| super::pairs(pairs);
        Ok(match *self {
            Self::Table { data, rows } => context! {
                kind => "table",
                height => count(data.height()), width => data.width(), one => data.height() == 1,
                ..table::first_rows(data, rows)?
            },
            Self::Claim { statement, check, holds, numbers } => context! {
                kind => "claim", holds, statement => html(Prose::default().fragment(statement)),
                numbers => pairs(numbers), check => check.trim(),
            },
            Self::Facts { title, facts } => context! { kind => "facts", title, facts => pairs(facts) },
            Self::Figure { svg } => context! {
                kind => "figure", title => html(svg::title(svg)), width => svg::width(svg),
                data => svg::alone(svg).map(|svg| html(svg::base64(svg.as_bytes()))),
            },
            Self::Text { markdown } => context! { kind => "text", body => html(Prose::default().fragment(markdown)) },
        })
    }
}

/// Several fragments, one below the other, as HTML that can stand anywhere in a page.
///
/// ```
/// use attn_circuits::report::{Fragment, fragments};
/// let scores = polars::df!("head" => [0, 1], "value" => [0.98, 0.02])?;
/// let html = fragments(&[Fragment::Table { data: &scores, rows: 1 }])?;
/// assert!(html.contains("<table>") && html.contains("0.98") && html.contains("1 more row"));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Table`] if a table cannot be read.
pub fn fragments(parts: &[Fragment]) -> Result<String> {
    let parts = parts.iter().map(Fragment::context).collect::<Result<Vec<_>>>()?;
    let page = context! { style => html(include_str!("fragment.css").to_owned()), parts };
    let environment = environment("fragment.html", include_str!("fragment.html"))?;
    environment.get_template("fragment.html").and_then(|template| template.render(page)).map_err(broken)
}
