//! The report, one self-contained HTML page, and the index over several.
//!
//! Nothing on it needs a script or the network, and whatever an experiment names or a table holds is text: a policy in the page's
//! head forbids the rest once more.

mod fragment;
mod index;
mod markdown;
mod number;
mod svg;
mod table;

use crate::{Error, Result};
use markdown::Prose;
use minijinja::{Environment, Value, context, syntax::SyntaxConfig};
use polars::prelude::DataFrame;

pub use fragment::{Fragment, fragments};
pub use index::{Claim, Entry, is_index, render_index};
pub use number::{count, number};

/// Rows of a table that are shown at most.
const ROWS: usize = 60;
/// Rows of a folded table that are shown at most.
const FOLDED_ROWS: usize = 20;
/// A table of contents pays from this many headings on.
const CONTENTS_FROM: usize = 3;

/// Everything that a report shows; [`render`] makes the page.
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

/// One cell of a report; the example of [`render`] has all kinds.
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
        /// What it is, in plain words: the measure's name with its input, say. May be empty.
        caption: String,
        /// The SQL that a derived table comes from, shown folded.
        query: Option<&'a str>,
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

/// Renders the page. The same report gives the same bytes.
///
/// ```
/// use attn_circuits::report::{Block, Report, render};
/// use polars::prelude::df;
/// let scores = df!("head" => ["0.0", "1.0"], "value" => [0.02, 0.98])?;
/// let (csv, path) = ("tables/scores.csv".to_string(), "figures/01-scores.svg".to_string());
/// let numbers = vec![("value".to_string(), "0.98".to_string())];
/// let blocks = vec![
///     Block::Text { markdown: "Layer 0 < layer 1." },
///     Block::Table { name: "scores", caption: String::new(), query: None, data: &scores, csv, folded: false },
///     Block::Figure { number: 1, title: "Scores", caption: None, svg: r#"<svg width="20" height="10"></svg>"#, path },
///     Block::Claim { statement: "Head *1.0* matches.", check: "SELECT …", holds: true, numbers },
/// ];
/// let report = Report { title: "Heads", about: None, blocks, provenance: Vec::new(), source: "title: Heads" };
/// let page = render(&report)?;
/// assert!(page.contains("Layer 0 &lt; layer 1.") && page.contains("Head <em>1.0</em> matches."));
/// // Names of tables, figures and claims lead to them.
/// assert!(page.contains(r#"id="table-scores""#) && page.contains(r#"id="figure-1""#) && page.contains(r#"id="claim-1""#));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Table`] if a table cannot be read; [`Error::Invalid`] if the template fails, which is a defect.
pub fn render(report: &Report) -> Result<String> {
    let mut prose = Prose::default();
    // Taken first, so that a heading of the same words gets another id and links to these keep working.
    for id in ["claims", "contents", "provenance", "experiment-file"] {
        prose.id(id);
    }
    let ids: Vec<String> = report
        .blocks
        .iter()
        .scan(0, |claims, block| {
            Some(match block {
                Block::Text { .. } => String::new(),
                Block::Table { name, .. } => prose.id(&format!("table-{name}")),
                Block::Figure { number, .. } => prose.id(&format!("figure-{number}")),
                Block::Claim { .. } => {
                    *claims += 1;
                    prose.id(&format!("claim-{claims}"))
                }
            })
        })
        .collect();

    let about = report.about.map(|text| html(prose.render(text)));
    let mut claims: Vec<Value> = Vec::new();
    let mut held = 0;
    let mut blocks: Vec<Value> = Vec::new();
    for (block, id) in report.blocks.iter().zip(&ids) {
        blocks.push(match block {
            Block::Text { markdown } => context! { kind => "text", body => html(prose.render(markdown)) },
            Block::Table { name, caption, query, data, csv, folded } => context! {
                kind => "table", id, name => *name, caption, folded,
                query => query.map(str::trim),
                csv, href => href(csv),
                height => count(data.height()),
                one => data.height() == 1,
                ..table::first_rows(data, if *folded { FOLDED_ROWS } else { ROWS })?
            },
            Block::Figure { number, title, caption, svg, path } => context! {
                kind => "figure", id, number, title => *title,
                caption => caption.map(|text| html(prose.fragment(text))),
                svg => html(svg::embed(svg, *number, title)),
                width => svg::width(svg),
                href => href(path),
            },
            Block::Claim { statement, check, holds, numbers } => {
                let number = claims.len() + 1;
                held += usize::from(*holds);
                claims.push(context! { id, holds, line => html(markdown::line(statement)) });
                context! {
                    kind => "claim", id, number, holds,
                    statement => html(prose.fragment(statement)),
                    numbers => pairs(numbers),
                    check => check.trim(),
                }
            }
        });
    }
    let headings: Vec<Value> = if prose.headings.len() < CONTENTS_FROM {
        Vec::new()
    } else {
        let entry = |heading: &markdown::Heading| {
            context! { level => heading.level, id => &heading.id, line => html(heading.html.clone()) }
        };
        prose.headings.iter().filter(|heading| heading.level <= 3).map(entry).collect()
    };
    let page = context! {
        style => html(include_str!("style.css").to_owned()),
        version => env!("CARGO_PKG_VERSION"),
        title => report.title,
        total => claims.len(), held, claims,
        about, headings, blocks,
        provenance => pairs(&report.provenance),
        source => report.source.trim_end(),
    };
    let environment = environment("page.html", include_str!("page.html"))?;
    environment.get_template("page.html").and_then(|template| template.render(page)).map_err(broken)
}

/// The template engine with one template. Its name must end in `.html`: that is what turns escaping on.
fn environment<'a>(name: &'a str, template: &'a str) -> Result<Environment<'a>> {
    let mut templates = Environment::new();
    templates.set_syntax(SyntaxConfig::builder().trim_blocks(true).build().map_err(broken)?);
    templates.add_template(name, template).map_err(broken)?;
    Ok(templates)
}

/// HTML that is known to be safe.
fn html(text: String) -> Value {
    Value::from_safe_string(text)
}

fn pairs(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(name, value)| context! { name, value }).collect::<Vec<_>>().into()
}

/// A relative path as a link: whatever a name holds, it cannot become a scheme, a query or another host.
fn href(path: &str) -> Value {
    let mut out = String::with_capacity(path.len());
    for byte in path.trim_start_matches('/').bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    html(out)
}

fn broken(error: minijinja::Error) -> Error {
    Error::Invalid(format!("the page cannot be written: {error:#}"))
}

#[cfg(test)]
mod tests;
