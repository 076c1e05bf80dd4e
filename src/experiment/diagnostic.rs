//! Problems of an experiment file, each with its place, rendered as compilers do.

use crate::names::closest;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, normalize_untrusted_str};
use std::collections::HashSet;
use std::ops::Range;

/// More problems than this are counted, not shown: nobody reads on, and a generated file can have millions.
const SHOWN: usize = 50;

/// Lines up to this length are shown whole; the renderer cuts longer ones around what is underlined.
const WHOLE_LINE: usize = 100;

/// A range of bytes in one of the [`Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// 0 for the file, `i + 1` for the `i`-th override.
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// One after the last byte.
    pub end: usize,
}

impl Span {
    /// From the start of this span to the end of another in the same source.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        if other.source == self.source { Self { end: self.end.max(other.end), ..self } } else { self }
    }
}

/// The texts that spans point into.
#[derive(Debug)]
pub struct Sources {
    /// The file's path, as the user gave it.
    path: String,
    /// The file's text, then `--set PATH=VALUE` of each override.
    texts: Vec<String>,
}

impl Sources {
    /// The file `path` with its text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        // The renderer replaces what would steer a terminal everywhere but here.
        let path: String = path.into();
        Self { path: normalize_untrusted_str(&path), texts: vec![text.into()] }
    }

    /// Adds the text of an override; answers with its source number.
    pub fn add_override(&mut self, text: String) -> usize {
        self.texts.push(text);
        self.texts.len() - 1
    }

    /// The text of a source.
    pub fn text(&self, source: usize) -> &str {
        &self.texts[source]
    }

    /// What a span covers.
    pub fn slice(&self, span: Span) -> &str {
        self.texts[span.source].get(span.start..span.end).unwrap_or_default()
    }

    /// The line of a span's start, from 1.
    pub fn line(&self, span: Span) -> usize {
        let text = self.texts[span.source].as_bytes();
        1 + text[..span.start.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The part of a span that is worth underlining: its first line, without the white space at its ends, and always a whole
    /// number of characters.
    fn underlined(&self, span: Span) -> Range<usize> {
        let text = self.text(span.source);
        let start = boundary(text, span.start);
        let end = boundary(text, span.end.max(start));
        let covered = &text[start..end];
        let start = start + (covered.len() - covered.trim_start().len());
        let line = text[start.min(end)..end].lines().next().unwrap_or_default().trim_end();
        if line.is_empty() { boundary(text, span.start)..end.min(start) } else { start..start + line.len() }
    }
}

/// The last place between two characters that is not after `at`.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default()
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// What is wrong, in a sentence that stands alone.
    pub message: String,
    /// Where.
    pub span: Span,
    /// Other places that matter, each with a few words.
    pub context: Vec<(Span, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem at a place.
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), span, context: Vec::new(), help: None }
    }

    /// Adds another place.
    #[must_use]
    pub fn context(mut self, span: Span, label: impl Into<String>) -> Self {
        self.context.push((span, label.into()));
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds "did you mean …?" if one of `known` looks like `found`, else the list of what there is under the heading `what`.
    #[must_use]
    pub fn suggest<'a>(self, found: &str, what: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        match closest(found, &known) {
            Some(name) => self.help(format!("did you mean `{name}`?")),
            None if known.is_empty() => self,
            None => self.help(format!("{what}: {}", list(&known))),
        }
    }

    fn render(&self, sources: &Sources, renderer: &Renderer) -> String {
        let primary = Place::new(sources, self.span);
        let mut snippet = primary.snippet(sources).annotation(AnnotationKind::Primary.span(primary.inside()));
        let mut others = Vec::new();
        for (span, label) in &self.context {
            let place = Place::new(sources, *span);
            if span.source == 0 && self.span.source == 0 {
                others.push((place, label));
            }
        }
        // One snippet shows all places, so it has to reach from the first line to the last.
        if !others.is_empty() {
            let first = others.iter().map(|(place, _)| place.block.start).min().unwrap_or_default().min(primary.block.start);
            let last = others.iter().map(|(place, _)| place.block.end).max().unwrap_or_default().max(primary.block.end);
            let whole = |place: &Place| Place { block: first..last, underlined: place.underlined.clone(), source: 0 };
            let base = whole(&primary);
            snippet = base.snippet(sources).annotation(AnnotationKind::Primary.span(base.inside())).annotations(
                others.iter().map(|(place, label)| AnnotationKind::Context.span(whole(place).inside()).label(label.as_str())),
            );
        }
        let mut group = Level::ERROR.primary_title(self.message.as_str()).element(snippet);
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        renderer.render(&[group] as &[Group])
    }
}

/// The lines around a span, cut out so that rendering never reads the rest of a large file.
struct Place {
    source: usize,
    block: Range<usize>,
    underlined: Range<usize>,
}

impl Place {
    fn new(sources: &Sources, span: Span) -> Self {
        let text = sources.text(span.source);
        let underlined = sources.underlined(span);
        let start = text[..underlined.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[underlined.end..].find('\n').map_or(text.len(), |at| underlined.end + at);
        let end = if text[underlined.end..end].ends_with('\r') { end - 1 } else { end };
        Self { source: span.source, block: start..end, underlined }
    }

    fn inside(&self) -> Range<usize> {
        self.underlined.start - self.block.start..self.underlined.end - self.block.start
    }

    fn snippet<'a>(&self, sources: &'a Sources) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let block = &sources.text(self.source)[self.block.clone()];
        let start = Span { source: self.source, start: self.block.start, end: self.block.start };
        let line = sources.line(start);
        match self.source {
            0 => Snippet::source(block).path(sources.path.as_str()).line_start(line),
            // The option is a line that can be seen to be one; what is in later lines of a value, or far right, cannot.
            _ if line == 1 && block.len() <= WHOLE_LINE => Snippet::source(block).line_numbering(false),
            override_ => {
                let option = sources.text(override_).split('=').next().unwrap_or_default();
                Snippet::source(block).path(normalize_untrusted_str(option)).line_start(line)
            }
        }
    }
}

/// All problems as text, in the order of the file, each once; `colour` for a terminal.
pub fn render(mut diagnostics: Vec<Diagnostic>, sources: &Sources, colour: bool) -> String {
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    let mut seen = HashSet::new();
    diagnostics.retain(|diagnostic| seen.insert((diagnostic.span, diagnostic.message.clone())));
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut texts: Vec<String> =
        diagnostics.iter().take(SHOWN).map(|diagnostic| diagnostic.render(sources, &renderer)).collect();
    if diagnostics.len() > SHOWN {
        texts.push(format!("error: {} more problems are not shown", diagnostics.len() - SHOWN));
    }
    texts.join("\n\n")
}

/// `` `a`, `b` and `c` ``, shortened where it is long.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    const MOST: usize = 40;
    let quoted: Vec<String> = names.iter().take(MOST).map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.as_slice() {
        [] => "nothing".to_string(),
        [only] => only.clone(),
        many if names.len() > MOST => format!("{} and {} more", many.join(", "), names.len() - MOST),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_line_of_an_override_is_that_of_its_option() {
        let mut sources = Sources::new("x.yaml", "");
        let text = "--set models.m=a\n  b";
        let source = sources.add_override(text.to_string());
        let at = |word: &str| {
            let start = text.find(word).unwrap();
            Diagnostic::new(Span { source, start, end: start + word.len() }, word)
        };
        let long = sources.add_override(format!("--set title={}x", " ".repeat(200)));
        let far = Diagnostic::new(Span { source: long, start: 212, end: 213 }, "far right");
        let text = render(vec![at("models"), at("b"), far], &sources, false);
        for part in ["| --set models.m=a\n", "--> --set models.m:2:3\n", "--> --set title:1:213\n"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    /// The name of a file, or of an override that somebody else's manifest has.
    #[test]
    fn a_place_does_not_steer_the_terminal() {
        let mut sources = Sources::new("a\u{1b}[8m\u{202e}.yaml", "b");
        let file = Diagnostic::new(Span { source: 0, start: 0, end: 1 }, "in the file");
        let text = format!("--set a\u{1b}[8m={}x", " ".repeat(200));
        let source = sources.add_override(text.clone());
        let far = Diagnostic::new(Span { source, start: text.len() - 1, end: text.len() }, "far right");
        let text = render(vec![file, far], &sources, false);
        assert!(text.contains("--> a␛[8m�.yaml:1:1") && text.contains("--> --set a␛[8m:1:"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    }

    #[test]
    fn problems_are_sorted_single_and_have_a_place() {
        let text = "title: é\nmodels:\r\n\tvoçab: 1\n";
        let sources = Sources::new("dir/x.yaml", text);
        let at = |word: &str| {
            let start = text.find(word).unwrap();
            Span { source: 0, start, end: start + word.len() }
        };
        let late = Diagnostic::new(at("1"), "late").context(at("title"), "first");
        let early = Diagnostic::new(at("é"), "early").help("do that");
        let text = render(vec![late.clone(), early, late], &sources, false);
        insta::assert_snapshot!(text, @r"
        error: early
         --> dir/x.yaml:1:8
          |
        1 | title: é
          |        ^
          |
          = help: do that

        error: late
         --> dir/x.yaml:3:9
          |
        1 | title: é
          | ----- first
        2 | models:
        3 |     voçab: 1
          |            ^
        ");
    }
}
