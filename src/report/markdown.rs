//! Markdown to HTML that can do no harm: raw HTML comes out as text, links lead only where links may, images are not loaded.

use pulldown_cmark::{Alignment, CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, html};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Bytes and tags of a first sentence at most: what is longer is none that anybody meant, and is cut.
const LONGEST_SENTENCE: usize = 2000;

/// A heading of the prose, for the table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heading {
    /// 2 to 6: the title of the page is the only one of level 1.
    pub level: usize,
    pub id: String,
    /// The words, as inline HTML without links.
    pub html: String,
}

/// What the pieces of prose of one page share.
#[derive(Debug, Default)]
pub(super) struct Prose {
    ids: HashSet<String>,
    /// The number that the next id of the same words tries first: a page of equal headings must not try all from the start.
    next: HashMap<String, usize>,
    /// Levels of the headings that are open, as written: the depth of this stack is the level on the page, so that none is
    /// skipped, however the author counts.
    open: Vec<HeadingLevel>,
    pieces: usize,
    pub headings: Vec<Heading>,
}

impl Prose {
    /// An id that no other element of the page has, made from `text`.
    pub fn id(&mut self, text: &str) -> String {
        let base = slug(text);
        let next = self.next.entry(base.clone()).or_insert(1);
        loop {
            let id = if *next == 1 { base.clone() } else { format!("{base}-{next}") };
            *next += 1;
            // Another text may be called like this one with its number.
            if self.ids.insert(id.clone()) {
                return id;
            }
        }
    }

    /// Prose with headings, which get ids and are remembered.
    pub fn render(&mut self, markdown: &str) -> String {
        let mut events: Vec<Event> = Vec::new();
        let mut start = 0;
        for event in self.safe(markdown) {
            match event {
                Event::Start(Tag::Heading { level, .. }) => {
                    while self.open.last().is_some_and(|&above| above >= level) {
                        self.open.pop();
                    }
                    self.open.push(level);
                    start = events.len();
                    events.push(Event::Start(Tag::Heading { level, id: None, classes: vec![], attrs: vec![] }));
                }
                Event::End(TagEnd::Heading(_)) => {
                    let depth = (self.open.len() + 1).min(6);
                    let level = HeadingLevel::try_from(depth).unwrap_or(HeadingLevel::H6);
                    let words = &events[start + 1..];
                    let id = self.id(&text(words));
                    self.headings.push(Heading { level: depth, id: id.clone(), html: inline(words.to_vec()) });
                    let anchor =
                        format!(" <a class=\"anchor\" href=\"#{}\" aria-label=\"Link to this section\">#</a>", escape(&id));
                    events[start] = Event::Start(Tag::Heading { level, id: Some(id.into()), classes: vec![], attrs: vec![] });
                    events.push(Event::InlineHtml(anchor.into()));
                    events.push(Event::End(TagEnd::Heading(level)));
                }
                other => events.push(other),
            }
        }
        write(events)
    }

    /// A statement or a caption: like prose, but a heading in it is a paragraph, since it must not get into the contents.
    pub fn fragment(&mut self, markdown: &str) -> String {
        write(self.safe(markdown).into_iter().map(|event| match event {
            Event::Start(Tag::Heading { .. }) => Event::Start(Tag::Paragraph),
            Event::End(TagEnd::Heading(_)) => Event::End(TagEnd::Paragraph),
            other => other,
        }))
    }

    /// The events of `markdown` without anything that could act. The only HTML among them is our own.
    fn safe<'a>(&mut self, markdown: &'a str) -> Vec<Event<'a>> {
        self.pieces += 1;
        let piece = self.pieces;
        let mut notes: BTreeMap<String, usize> = BTreeMap::new();
        // Every piece counts its footnotes from 1, but their ids are those of one page.
        let mut note = |label: &str| -> CowStr<'a> {
            let next = notes.len() + 1;
            format!("note-{piece}-{}", notes.entry(label.to_owned()).or_insert(next)).into()
        };
        // For every link that is open, whether it is kept; and whether any is.
        let mut links: Vec<bool> = Vec::new();
        let mut within = false;
        let mut head: Option<usize> = None;
        let mut alignments: Vec<Alignment> = Vec::new();
        let mut events = Vec::new();
        for event in Parser::new_ext(markdown, options()) {
            match event {
                Event::Html(raw) | Event::InlineHtml(raw) => events.push(Event::Text(raw)),
                // Without this wrapper a block of raw HTML would be text between the paragraphs.
                Event::Start(Tag::HtmlBlock) => events.push(Event::Start(Tag::Paragraph)),
                Event::End(TagEnd::HtmlBlock) => events.push(Event::End(TagEnd::Paragraph)),
                // An image becomes a link: the page loads nothing.
                Event::Start(Tag::Link { link_type, dest_url, title, id } | Tag::Image { link_type, dest_url, title, id }) => {
                    let keep = !within && (link_type == LinkType::Email || is_safe(&dest_url));
                    links.push(keep);
                    if keep {
                        within = true;
                        events.push(Event::Start(Tag::Link { link_type, dest_url, title, id }));
                    }
                }
                Event::End(TagEnd::Link | TagEnd::Image) => {
                    if links.pop() == Some(true) {
                        within = false;
                        events.push(Event::End(TagEnd::Link));
                    }
                }
                Event::FootnoteReference(label) => events.push(Event::FootnoteReference(note(&label))),
                Event::Start(Tag::FootnoteDefinition(label)) => {
                    events.push(Event::Start(Tag::FootnoteDefinition(note(&label))));
                }
                // A wide table scrolls for itself, with the keyboard too.
                Event::Start(Tag::Table(columns)) => {
                    alignments.clone_from(&columns);
                    events
                        .push(ours("\n<div class=\"scroll prose-table\" role=\"group\" aria-label=\"Table\" tabindex=\"0\">"));
                    events.push(Event::Start(Tag::Table(columns)));
                }
                Event::End(TagEnd::Table) => {
                    events.push(Event::End(TagEnd::Table));
                    events.push(ours("</div>\n"));
                }
                Event::Start(Tag::TableHead) => {
                    head = Some(0);
                    events.push(Event::Start(Tag::TableHead));
                }
                Event::End(TagEnd::TableHead) => {
                    head = None;
                    events.push(Event::End(TagEnd::TableHead));
                }
                Event::Start(Tag::TableCell) if head.is_some() => {
                    let column = head.unwrap_or(0);
                    head = Some(column + 1);
                    events.push(ours(match alignments.get(column) {
                        Some(Alignment::Right) => "<th scope=\"col\" style=\"text-align: right\">",
                        Some(Alignment::Center) => "<th scope=\"col\" style=\"text-align: center\">",
                        _ => "<th scope=\"col\">",
                    }));
                }
                Event::End(TagEnd::TableCell) if head.is_some() => events.push(ours("</th>")),
                other => events.push(other),
            }
        }
        events
    }
}

/// One line of `markdown` as inline HTML without links: for a list of links, and for a heading in the contents.
pub(super) fn line(markdown: &str) -> String {
    inline(Parser::new_ext(markdown, options()).collect())
}

/// The first sentence of `markdown` as inline HTML without links: up to a full stop, a question or exclamation mark that a capital
/// letter or nothing follows. Empty if it does not start with a paragraph.
pub(super) fn first_sentence(markdown: &str) -> String {
    let paragraph = Parser::new_ext(markdown, options()).skip_while(|event| *event != Event::Start(Tag::Paragraph)).skip(1);
    let paragraph = cut(paragraph.take_while(|event| *event != Event::End(TagEnd::Paragraph)));
    // A sentence can end with one event and the next begin with another.
    let words = text(&paragraph);
    let mut kept: Vec<Event> = Vec::new();
    let mut start = 0;
    for event in paragraph {
        let end = start + text(std::slice::from_ref(&event)).len();
        if matches!(event, Event::Text(_))
            && let Some(end) = sentence_end(&words, start, end)
        {
            kept.push(Event::Text(words[start..end].to_owned().into()));
            close(&mut kept);
            break;
        }
        kept.push(event);
        start = end;
    }
    inline(kept)
}

/// The events up to [`LONGEST_SENTENCE`], all closed that were opened, with a mark where the rest is left out.
fn cut<'a>(events: impl Iterator<Item = Event<'a>>) -> Vec<Event<'a>> {
    let mut kept = Vec::new();
    let mut left = LONGEST_SENTENCE;
    for mut event in events {
        let longest = left;
        left = left.saturating_sub(match &event {
            Event::Text(words) | Event::Code(words) | Event::Html(words) | Event::InlineHtml(words) => words.len().max(1),
            _ => 1,
        });
        match &mut event {
            Event::Text(words) | Event::Code(words) | Event::Html(words) | Event::InlineHtml(words) if left == 0 => {
                let end = (0..=longest).rev().find(|&end| words.is_char_boundary(end)).unwrap_or(0);
                *words = words[..end].to_owned().into();
            }
            _ => {}
        }
        kept.push(event);
        if left == 0 {
            kept.push(Event::Text("…".into()));
            close(&mut kept);
            break;
        }
    }
    kept
}

/// Closes what is open, in order.
fn close(events: &mut Vec<Event>) {
    let mut open = Vec::new();
    for event in &*events {
        match event {
            Event::Start(tag) => open.push(tag.to_end()),
            Event::End(_) => drop(open.pop()),
            _ => {}
        }
    }
    events.extend(open.into_iter().rev().map(Event::End));
}

/// Where, between two places of `words`, the first sentence ends, if it does.
fn sentence_end(words: &str, from: usize, to: usize) -> Option<usize> {
    let marks = words[from..to].char_indices().filter(|(_, c)| ['.', '?', '!'].contains(c));
    marks.map(|(at, c)| from + at + c.len_utf8()).find(|&end| {
        // No further than to the next word: all that follows, for each mark, would take the square of the time.
        let mut next = words[end..].chars();
        next.next().is_none_or(char::is_whitespace)
            && next.find(|c| !c.is_whitespace()).is_none_or(|c| c.is_uppercase() || "“‘\"'(".contains(c))
    })
}

fn inline(events: Vec<Event>) -> String {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        match event {
            Event::Text(_) | Event::Code(_) => out.push(event),
            Event::Html(raw) | Event::InlineHtml(raw) => out.push(Event::Text(raw)),
            Event::Start(Tag::Emphasis | Tag::Strong | Tag::Strikethrough)
            | Event::End(TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough) => out.push(event),
            Event::End(TagEnd::Link | TagEnd::Image) => {}
            Event::SoftBreak | Event::HardBreak | Event::End(_) => out.push(Event::Text(" ".into())),
            _ => {}
        }
    }
    write(out).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The bare words.
fn text(events: &[Event]) -> String {
    let mut out = String::new();
    for event in events {
        match event {
            Event::Text(words) | Event::Code(words) => out.push_str(words),
            Event::SoftBreak | Event::HardBreak => out.push(' '),
            _ => {}
        }
    }
    out
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_SMART_PUNCTUATION
}

fn ours(html: &'static str) -> Event<'static> {
    Event::InlineHtml(html.into())
}

fn write<'a>(events: impl IntoIterator<Item = Event<'a>>) -> String {
    let mut out = String::new();
    html::push_html(&mut out, events.into_iter());
    out
}

/// Whether a link may lead there: the web, mail, a place on this page, a file beside it.
fn is_safe(target: &str) -> bool {
    // Browsers ignore these within a scheme: "java\nscript:" is JavaScript.
    let target: String = target.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
    match target.find([':', '/', '?', '#']) {
        Some(end) if target[end..].starts_with(':') => {
            ["http", "https", "mailto"].contains(&target[..end].to_ascii_lowercase().as_str())
        }
        _ => true,
    }
}

/// Words as an id: letters and digits, `-` between.
fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() || c == '_' {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_end_matches('-');
    if out.is_empty() { "section".into() } else { out.into() }
}

/// Escaped for an attribute's value or for text.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(markdown: &str) -> String {
        Prose::default().render(markdown)
    }

    #[test]
    fn raw_html_is_text() {
        let block = render("<script>alert(1)</script>\n\n<div onclick=\"x()\">\n\nwords");
        assert!(block.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{block}");
        assert!(!block.contains("<script") && !block.contains("<div"), "{block}");
        let inline = render("words <img src=x onerror=alert(1)> and <b>more</b>");
        assert!(inline.contains("&lt;img src=x onerror=alert(1)&gt;") && !inline.contains("<b>"), "{inline}");
        assert!(!line("a <img src=x onerror=alert(1)>").contains("<img"));
    }

    #[test]
    fn links_lead_only_where_links_may() {
        for bad in [
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](&#106;avascript:alert(1))",
            "[a](<java&#10;script:alert(1)>)",
            "[a](<&#1;javascript:alert(1)>)",
            "[a](data:text/html,x)",
            "[a](vbscript:x)",
            "[a](file:///etc/passwd)",
            "<javascript:alert(1)>",
            "[a][r]\n\n[r]: javascript:alert(1)",
            "![a](javascript:alert(1))",
        ] {
            let html = render(bad);
            assert!(!html.contains("href") && !html.contains("<img"), "{bad}: {html}");
        }
        for (good, href) in [
            ("[a](https://example.org/x?y=z:1)", "https://example.org/x?y=z:1"),
            ("[a](#figure-1)", "#figure-1"),
            ("[a](tables/a.csv)", "tables/a.csv"),
            ("[a](tables/a:b.csv)", "tables/a:b.csv"),
            ("<a@example.org>", "mailto:a@example.org"),
        ] {
            let html = render(good);
            assert!(html.contains(&format!("<a href=\"{href}\">")), "{good}: {html}");
        }
    }

    #[test]
    fn images_are_links_and_links_do_not_nest() {
        assert_eq!(
            render("![a *plot*](https://example.org/p.png)"),
            "<p><a href=\"https://example.org/p.png\">a <em>plot</em></a></p>\n"
        );
        assert_eq!(render("[see ![plot](p.png)](q.html)"), "<p><a href=\"q.html\">see plot</a></p>\n");
        assert_eq!(render("![see [b](c.html)](p.png)").matches("<a ").count(), 1);
    }

    #[test]
    fn titles_of_links_cannot_leave_their_attribute() {
        let html = render("[a](b.html 'x\" onmouseover=\"alert(1)')");
        assert!(html.contains("&quot;") && !html.contains("\" onmouseover"), "{html}");
    }

    #[test]
    fn headings_skip_no_level_and_have_unique_ids() {
        let mut prose = Prose::default();
        prose.id("figure-1");
        let html = prose.render("## Setup\n\n#### Detail of `W_E`\n\n# Setup\n\n## [Figure 1](x.html)\n\n## !!");
        let seen: Vec<(usize, &str)> = prose.headings.iter().map(|h| (h.level, h.id.as_str())).collect();
        assert_eq!(seen, [(2, "setup"), (3, "detail-of-w_e"), (2, "setup-2"), (3, "figure-1-2"), (3, "section")]);
        assert_eq!(prose.headings[1].html, "Detail of <code>W_E</code>");
        assert_eq!(prose.headings[3].html, "Figure 1");
        assert!(html.contains("<h3 id=\"detail-of-w_e\">Detail of <code>W_E</code> <a class=\"anchor\""), "{html}");
        // The level goes on across cells.
        prose.render("### Deeper");
        assert_eq!(prose.headings[5].level, 4);
    }

    #[test]
    fn a_statement_has_no_headings() {
        let mut prose = Prose::default();
        assert_eq!(prose.fragment("# One *head*"), "<p>One <em>head</em></p>\n");
        assert!(prose.headings.is_empty());
        assert_eq!(line("One **head** of [layer](x.html),\n`1`"), "One <strong>head</strong> of layer, <code>1</code>");
    }

    #[test]
    fn the_first_sentence_ends_where_the_next_begins() {
        for (markdown, sentence) in [
            ("One head. Another one.", "One head."),
            ("Is it *here?* Yes.", "Is it <em>here?</em>"),
            ("One *head is. Two* are", "One <em>head is.</em>"),
            ("See Elhage et al. 2021, section 3.\nThen more.", "See Elhage et al. 2021, section 3."),
            ("A rate of 0.5 is not\nmuch", "A rate of 0.5 is not much"),
            ("## Heading\n\nWords of `W_E`. More.\n\nNext.", "Words of <code>W_E</code>."),
            ("[a link](x.html). Then", "a link."),
            ("A <b>bold</b> word. Then", "A &lt;b&gt;bold&lt;/b&gt; word."),
            ("<script>alert(1)</script>\n\nWords. Then", "Words."),
            ("One head.  \n Two", "One head."),
            ("Is it?so. *Yes*", "Is it?so."),
            ("One. **“Two”**", "One."),
            ("The end. ", "The end."),
            ("- a list", ""),
            ("", ""),
        ] {
            assert_eq!(first_sentence(markdown), sentence, "{markdown}");
        }
    }

    #[test]
    fn a_sentence_without_an_end_is_cut() {
        let inside = "<em>".len() + "</em>".len() + "…".len();
        for (markdown, cut) in [
            ("a?".repeat(100_000), LONGEST_SENTENCE + "…".len()),
            // Not within a letter of several bytes.
            (format!("x{}", "é".repeat(100_000)), LONGEST_SENTENCE - 1 + "…".len()),
            (format!("*{}b*", "a ".repeat(100_000)), LONGEST_SENTENCE - 1 + inside),
        ] {
            let found = first_sentence(&markdown);
            assert!(found.ends_with('…') || found.ends_with("…</em>"), "{found}");
            assert_eq!(found.len(), cut, "{found}");
        }
        let short = format!("{}. More.", "a".repeat(LONGEST_SENTENCE - 100));
        assert_eq!(first_sentence(&short), format!("{}.", "a".repeat(LONGEST_SENTENCE - 100)));
    }

    #[test]
    fn ids_are_unique_whatever_they_are_made_of() {
        let mut prose = Prose::default();
        let ids: Vec<String> = ["a-2", "a", "a", "a-2", "a", "a-3", "a"].map(|text| prose.id(text)).into();
        assert_eq!(ids, ["a-2", "a", "a-3", "a-2-2", "a-4", "a-3-2", "a-5"]);
        // Of as many as a large file can hold each is found at once.
        let last = (0..100_000).map(|_| prose.id("b")).last();
        assert_eq!(last.as_deref(), Some("b-100000"));
    }

    #[test]
    fn footnotes_of_two_cells_do_not_meet() {
        let mut prose = Prose::default();
        let first = prose.render("a[^x]\n\n[^x]: one");
        let second = prose.render("a[^x]\n\n[^x]: two");
        assert!(first.contains("href=\"#note-1-1\"") && first.contains("id=\"note-1-1\""), "{first}");
        assert!(second.contains("href=\"#note-2-1\"") && second.contains("id=\"note-2-1\""), "{second}");
    }

    #[test]
    fn tables_scroll_and_their_heads_have_scope() {
        let html = render("| a | b |\n| --- | ---: |\n| 1 | 2 |");
        assert!(html.contains("<th scope=\"col\">a</th><th scope=\"col\" style=\"text-align: right\">b</th>"), "{html}");
        assert!(html.contains("<td>1</td><td style=\"text-align: right\">2</td>"), "{html}");
        assert!(html.contains("class=\"scroll prose-table\""), "{html}");
    }
}
