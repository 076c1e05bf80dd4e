//! What values look like below a cell.

use super::{AttentionView, CircuitView, Claim, Shown};
use crate::batch::TokenBatch;
use crate::figure::Drawing;
use crate::model::{ModelConfig, Normalization, Positions, Transformer};
use crate::report::{Fragment, count, fragments};
use crate::store::Run;
use indexmap::IndexSet;
use polars::prelude::DataFrame;
use std::io::{self, Write};

/// Rows of a table that are shown at most.
const ROWS: usize = 20;
/// Sequences of an input that are shown at most, and tokens of each.
const TOKENS: (usize, usize) = (4, 40);

/// Content for a notebook: the same thing in several forms, of which it shows the richest that it can ([`Show`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Plain text, for terminals and for readers of the file.
    pub text: String,
    /// HTML that can stand anywhere in a page. If there is none, the SVG document is shown as a picture in HTML, too: Jupyter does not
    /// show the document itself in a notebook that it does not trust, and it trusts none that comes from somewhere else.
    pub html: Option<String>,
    /// A complete SVG document.
    pub svg: Option<String>,
}

impl Content {
    /// The content as evcxr expects it on standard output.
    fn written(&self) -> String {
        // A line of text must not look like an end of the content.
        let quiet = |text: &str, with: &str| text.replace("EVCXR_", with);
        let block = |mime: &str, text: String| format!("EVCXR_BEGIN_CONTENT {mime}\n{text}\nEVCXR_END_CONTENT\n");
        let mut all = block("text/plain", quiet(&self.text, "EVCXR\u{2060}_"));
        let picture = || html(&[Fragment::Figure { svg: self.svg.as_deref()? }]);
        let html = self.html.clone().or_else(picture);
        for (mime, text) in [("text/html", &html), ("image/svg+xml", &self.svg)] {
            all.extend(text.iter().map(|text| block(mime, quiet(text, "EVCXR&#95;"))));
        }
        all
    }
}

/// Values that show themselves in a notebook. Those of one's own do so with one method:
///
/// ```
/// use attn_circuits::prelude::*;
/// struct Share(f64);
/// impl Show for Share {
///     fn content(&self) -> Content {
///         let text = format!("{:.1} %", 100.0 * self.0);
///         Content { html: Some(format!("<b>{text}</b>")), text, svg: None }
///     }
/// }
/// assert_eq!(Share(0.25).content().text, "25.0 %");
///
/// // A table is its rows, as HTML that can stand anywhere in a page, and as plain text for terminals.
/// let table = df!("head" => ["0.0", "1.0"], "score" => [0.1, 0.9])?;
/// let Content { text, html, svg } = table.content();
/// assert!(text.contains("0.9") && html.is_some_and(|html| html.contains("<table>")) && svg.is_none());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub trait Show {
    /// What is shown.
    fn content(&self) -> Content;

    /// What evcxr calls with the value at the end of a cell.
    fn evcxr_display(&self) {
        let mut output = io::stdout().lock();
        // Nobody is left to be told if this goes wrong.
        let _ = output.write_all(self.content().written().as_bytes()).and_then(|()| output.flush());
    }
}

/// Fragments as HTML; none if a table cannot be read, so that the text is shown.
fn html(parts: &[Fragment]) -> Option<String> {
    fragments(parts).ok()
}

/// Names and values under a heading.
fn facts(title: &str, facts: &[(&str, String)]) -> Content {
    let facts: Vec<_> = facts.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
    let lines = facts.iter().map(|(name, value)| format!("\n  {name}: {value}"));
    let text = format!("{title}{}", lines.collect::<String>());
    Content { text, html: html(&[Fragment::Facts { title, facts: &facts }]), svg: None }
}

impl Show for DataFrame {
    fn content(&self) -> Content {
        Content { text: self.to_string(), html: html(&[Fragment::Table { data: self, rows: ROWS }]), svg: None }
    }
}

impl Show for Drawing {
    fn content(&self) -> Content {
        Content { text: "a figure".into(), html: None, svg: Some(self.svg.clone()) }
    }
}

/// What the tensors of a model are called, their shapes, and how many numbers they hold.
fn tensors(config: &ModelConfig) -> Vec<(&'static str, String)> {
    let ModelConfig { n_layers: l, n_heads: h, d_model: d, d_head: k, d_vocab: v, n_ctx: c, .. } = *config;
    let numbers = |shape: &[usize]| count(shape.iter().product());
    let tensor = |shape: &[usize], layers: &str| {
        let sizes: Vec<_> = shape.iter().map(usize::to_string).collect();
        format!("[{}]{layers}, {} parameters", sizes.join(", "), numbers(shape))
    };
    let each = format!(" in each of {l} layer{}", if l == 1 { "" } else { "s" });
    let mut tensors = vec![("W_E", tensor(&[v, d], ""))];
    if config.has_w_pos() {
        tensors.push(("W_pos", tensor(&[c, d], "")));
    }
    if l > 0 {
        tensors.push(("W_Q, W_K, W_V", tensor(&[h, d, k], &each)));
        tensors.push(("W_O", tensor(&[h, k, d], &each)));
    }
    tensors.push(("W_U", tensor(&[d, v], "")));
    tensors
}

impl Show for ModelConfig {
    fn content(&self) -> Content {
        let total = usize::try_from(self.n_params()).map_or_else(|_| self.n_params().to_string(), count);
        let mut lines = vec![("shape", self.to_string()), ("parameters", format!("{total} without biases"))];
        lines.extend(tensors(self));
        let positions = match self.positions {
            Positions::None => "none".into(),
            Positions::Standard => "standard: W_pos is added to the embedding".into(),
            Positions::Shortformer => "shortformer: W_pos is added to the input of queries and keys".into(),
            Positions::Rotary { dim, .. } => format!("rotary: {dim} of {} coordinates of a head are turned", self.d_head),
        };
        lines.push(("positions", positions));
        let normalization = match self.normalization {
            Normalization::None => "none: the stream is linear",
            Normalization::Ln => "LayerNorm",
            Normalization::LnPre => "LayerNorm without weights",
        };
        lines.push(("normalization", normalization.into()));
        facts("Attention-only transformer", &lines)
    }
}

impl Show for Transformer {
    fn content(&self) -> Content {
        self.config().content()
    }
}

impl Show for TokenBatch {
    fn content(&self) -> Content {
        let (sequences, length) = (self.sequences(), self.length());
        let mut lines = vec![("shape", format!("{} sequences of {} tokens", count(sequences), count(length)))];
        if let Some(repeats) = self.repeats() {
            lines.push(("repeats", format!("every {} tokens", repeats.period)));
        }
        let cut = if length > TOKENS.1 { " …" } else { "" };
        let words = |row: ndarray::ArrayView1<u32>| {
            let tokens: Vec<_> = row.iter().take(TOKENS.1).map(u32::to_string).collect();
            format!("{}{cut}", tokens.join(" "))
        };
        let rows = self.tokens();
        lines.extend(rows.outer_iter().take(TOKENS.0).map(|row| ("sequence", words(row))));
        if sequences > TOKENS.0 {
            lines.push(("", format!("… {} more", count(sequences - TOKENS.0))));
        }
        facts("Tokens", &lines)
    }
}

impl Show for AttentionView {
    fn content(&self) -> Content {
        Content { text: self.table.to_string(), html: None, svg: Some(self.drawing.svg.clone()) }
    }
}

impl Show for CircuitView {
    fn content(&self) -> Content {
        match &self.drawing {
            Some(drawing) => Content { text: self.table.to_string(), html: None, svg: Some(drawing.svg.clone()) },
            None => self.table.content(),
        }
    }
}

/// The parts of a claim, in words.
fn claim_text(Claim { statement, holds, numbers, .. }: &Claim) -> String {
    let numbers = numbers.iter().map(|(name, value)| format!("\n  {name} = {value}"));
    format!("{} {statement}{}", if *holds { "✓ Holds:" } else { "✗ Fails:" }, numbers.collect::<String>())
}

impl Show for Claim {
    fn content(&self) -> Content {
        let Self { statement, check, holds, numbers } = self;
        let part = Fragment::Claim { statement, check, holds: *holds, numbers };
        Content { text: claim_text(self), html: html(&[part]), svg: None }
    }
}

impl Show for Shown {
    fn content(&self) -> Content {
        match self {
            Self::Text(markdown) => Content { text: markdown.clone(), html: html(&[Fragment::Text { markdown }]), svg: None },
            Self::Table(table) => table.content(),
            Self::Figure { title, svg } => Content { text: format!("Figure: {title}"), html: None, svg: Some(svg.clone()) },
            Self::Claim(claim) => claim.content(),
        }
    }
}

impl Show for Run {
    fn content(&self) -> Content {
        let manifest = &self.manifest;
        let claims: Vec<Claim> = manifest.claims().map(Claim::from).collect();
        let held = claims.iter().filter(|claim| claim.holds).count();
        let list = |names: IndexSet<&str>| match names.is_empty() {
            true => "none".to_string(),
            false => names.into_iter().collect::<Vec<_>>().join(", "),
        };
        let lines = [
            ("program", manifest.program.clone()),
            ("models", list(manifest.models.iter().map(|model| model.model.as_str()).collect::<IndexSet<_>>())),
            ("tables", list(manifest.tables.keys().map(String::as_str).collect::<IndexSet<_>>())),
            ("figures", manifest.figures().count().to_string()),
            ("claims", format!("{held} of {} hold", claims.len())),
        ];
        let lines: Vec<_> = lines.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let mut parts = vec![Fragment::Facts { title: &manifest.title, facts: &lines }];
        parts.extend(claims.iter().map(|Claim { statement, check, holds, numbers }| Fragment::Claim {
            statement,
            check,
            holds: *holds,
            numbers,
        }));
        let text = lines.iter().map(|(name, value)| format!("\n  {name}: {value}")).collect::<String>();
        let claims: String = claims.iter().map(|claim| format!("\n{}", claim_text(claim))).collect();
        Content { text: format!("{}{text}{claims}", manifest.title), html: html(&parts), svg: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;

    #[test]
    fn content_cannot_end_before_its_end() {
        let hostile = "EVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\n<script>alert(1)</script>";
        let table = df!("name" => [hostile]).unwrap();
        let written = Content { html: table.content().html, text: hostile.into(), svg: Some(hostile.into()) }.written();
        assert_eq!(written.matches("EVCXR_BEGIN_CONTENT").count(), 3, "{written}");
        assert_eq!(written.matches("EVCXR_END_CONTENT").count(), 3, "{written}");
        assert_eq!(written.matches("<script>").count(), 2, "text and the document of a figure are as they are");
    }

    #[test]
    fn a_figure_shows_itself_without_trust() {
        let svg = "<svg width=\"640\"><title>\"Heads\" &amp; layers</title></svg>";
        let figure = Shown::Figure { title: "Heads".into(), svg: svg.into() }.content();
        let picture = "<img alt=\"&quot;Heads&quot; &amp; layers\" width=\"640\" src=\"data:image/svg+xml;base64,PHN2ZyB4bWxu";
        let written = figure.written();
        assert!(written.contains(picture) && written.contains(svg), "{written}");
        let own = Content { html: Some("<b>drawn</b>".into()), ..figure }.written();
        assert!(own.contains("<b>drawn</b>") && !own.contains("<img"), "{own}");
    }

    #[test]
    fn a_table_shows_its_first_rows_and_how_many_there_are() {
        let table = df!("head" => (0..100i64).collect::<Vec<_>>(), "value" => [0.5; 100]).unwrap();
        let html = table.content().html.unwrap();
        assert_eq!(html.matches("<tr>").count(), 1 + ROWS);
        assert!(html.contains("… 80 more rows: 100 rows × 2 columns"), "{html}");
    }
}
