//! From the parser's events to a tree.

use super::scalar;
use super::{Key, Node, Value};
use crate::experiment::diagnostic::{Diagnostic, Span};
use crate::names::shorten;
use serde_yaml::granit_parser::{self, Event, Options, Parser, ScalarStyle, StructureStyle, Tag};
use std::collections::HashMap;

/// Deepest nesting of lists and maps; experiment files need five or so, and the tree is walked recursively.
const DEPTH: usize = 64;
/// Most values in a file, those that aliases repeat included.
const NODES: usize = 1_000_000;
/// Most bytes of text in a file, those that aliases repeat included.
const TEXT: usize = 1 << 26;

/// More duplicate keys than these are not counted.
const MOST_PROBLEMS: usize = 1000;

/// Reads one YAML document, and finds its duplicate keys. `offset` is where `text` starts in its source.
///
/// # Errors
/// The syntax error at which reading stopped, after the duplicate keys before it.
pub fn parse(text: &str, source: usize, offset: usize) -> Result<(Node, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = DEPTH;
    options.block_nesting_limit = DEPTH;
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        source,
        offset,
        anchors: HashMap::new(),
        nodes: NODES,
        bytes: TEXT,
        problems: Vec::new(),
    };
    let result = reader.document();
    let mut problems = reader.problems;
    match result {
        Ok(node) => Ok((node, problems)),
        Err(problem) => {
            problems.push(*problem);
            Err(problems)
        }
    }
}

/// A syntax error; boxed, since it travels through every level of the tree.
type Stop = Box<Diagnostic>;

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    text: &'a str,
    source: usize,
    offset: usize,
    /// Finished nodes that have an anchor.
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
    problems: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn span(&self, span: granit_parser::Span) -> Span {
        let byte = |mark: granit_parser::Marker| mark.byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        Span { source: self.source, start: byte(span.start) + self.offset, end: byte(span.end) + self.offset }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span, Option<Span>), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.span(span), span.tag_span().map(|tag| self.span(tag)))),
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, self.span(granit_parser::Span::default()), None)),
        }
    }

    fn syntax(&self, error: &granit_parser::ScanError) -> Stop {
        let info = error.info();
        let mut start = error.marker().byte_offset().unwrap_or(self.text.len()).min(self.text.len());
        // The parser stops where the value begins that the tab cuts off.
        let tab = self.text[start..].find("\n\t").filter(|_| info.contains("tab"));
        start += tab.map_or(0, |at| at + 1);
        let end = self.text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
        let span = Span { source: self.source, start: start + self.offset, end: end + self.offset };
        let problem = Diagnostic::new(span, format!("this is not YAML: {info}"));
        let line = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let help = if self.text[line..].trim_start_matches(' ').starts_with('\t') {
            Some("indent with spaces: YAML allows no tabs there")
        } else if info.contains("nesting") || info.contains("limit") {
            Some("lists and maps can be nested 64 deep at most")
        } else {
            None
        };
        Box::new(if let Some(help) = help { problem.help(help) } else { problem })
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, span, tag) = self.next()?;
            match event {
                Event::StreamEnd => {
                    let nothing = Span { source: self.source, start: self.offset, end: self.offset };
                    return Ok(root.unwrap_or(Node { value: Value::Null, span: nothing }));
                }
                Event::StreamStart | Event::DocumentEnd | Event::Comment(..) | Event::Anchor(..) => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Box::new(
                        Diagnostic::new(span, "a second YAML document starts here")
                            .help("one file is one experiment: move what follows to a file of its own, or delete the `---`"),
                    ));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, span, tag)?),
            }
        }
    }

    /// Keeps a problem after which reading goes on; not millions of them.
    fn report(&mut self, problem: Diagnostic) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn spend(&mut self, span: Span, nodes: usize, bytes: usize) -> Result<(), Stop> {
        match (self.nodes.checked_sub(nodes), self.bytes.checked_sub(bytes)) {
            (Some(nodes), Some(bytes)) => {
                (self.nodes, self.bytes) = (nodes, bytes);
                Ok(())
            }
            _ => Err(Box::new(
                Diagnostic::new(span, format!("the file holds too much: more than {NODES} values, or {TEXT} bytes of text"))
                    .help("aliases (`*name`) count each time; large lists of tokens belong in a safetensors or JSON file"),
            )),
        }
    }

    /// The node that starts with `event`, to its end.
    fn node(&mut self, event: Event<'a>, span: Span, tag_span: Option<Span>) -> Result<Node, Stop> {
        self.spend(span, 1, 0)?;
        let (node, anchor, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(span, 0, text.len())?;
                let is_string = tag.as_deref().is_some_and(|tag| tag.original() == "!" || tag.is_yaml_core_schema_tag("str"));
                let value = if style == ScalarStyle::Plain && !is_string {
                    scalar::resolve(&text).map_err(|message| Diagnostic::new(span, message))?
                } else {
                    Value::Str(text.into_owned())
                };
                (Node { value, span }, anchor, tag)
            }
            Event::SequenceStart(style, anchor, tag) => (self.sequence(style, span)?, anchor, tag),
            Event::MappingStart(style, anchor, tag) => (self.mapping(style, span)?, anchor, tag),
            Event::Alias(id) => return self.alias(id, span),
            Event::UnresolvedAlias(name) => {
                return Err(Box::new(
                    Diagnostic::new(span, format!("the alias `*{name}` refers to no anchor `&{name}` above it"))
                        .help("a text that starts with `*` needs quotes"),
                ));
            }
            _ => return Err(Box::new(Diagnostic::new(span, "a value is missing here"))),
        };
        if let Some(tag) = tag {
            check_tag(&tag, &node, tag_span.unwrap_or(span))?;
        }
        if anchor > 0 {
            let (nodes, bytes) = size(&node);
            self.spend(span, nodes, bytes)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Stop> {
        let Some(node) = self.anchors.get(&id) else {
            return Err(Box::new(Diagnostic::new(span, "this alias stands inside the value that it refers to")));
        };
        let (nodes, bytes) = size(node);
        let node = node.clone();
        self.spend(span, nodes, bytes)?;
        Ok(node)
    }

    fn sequence(&mut self, style: StructureStyle, mut span: Span) -> Result<Node, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, at, tag) = self.next()?;
            match event {
                Event::SequenceEnd => {
                    span = end(span, at, style, items.last().map(|node: &Node| node.span));
                    return Ok(Node { value: Value::Seq(items), span });
                }
                Event::Comment(..) | Event::Anchor(..) => {}
                event => items.push(self.node(event, at, tag)?),
            }
        }
    }

    fn mapping(&mut self, style: StructureStyle, mut span: Span) -> Result<Node, Stop> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        // Where each key is, so that finding duplicates does not take quadratic time.
        let mut places: HashMap<String, Span> = HashMap::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, at, _) = self.next()?;
            let (key, plain) = match event {
                Event::MappingEnd => break span = end(span, at, style, entries.last().map(|(_, node)| node.span)),
                Event::Comment(..) | Event::Anchor(..) => continue,
                Event::Scalar(text, style, ..) => {
                    self.spend(at, 1, text.len())?;
                    (Key { name: text.into_owned(), span: at }, style == ScalarStyle::Plain)
                }
                _ => {
                    return Err(Box::new(
                        Diagnostic::new(at, "a key must be a name, not an alias, a list or a map")
                            .help("a text that starts with `[`, `{`, `*` or `?` needs quotes"),
                    ));
                }
            };
            let (event, at, tag) = self.next()?;
            let mut node = self.node(event, at, tag)?;
            if node.value == Value::Null && node.span.start >= node.span.end {
                node.span = key.span;
            }
            if plain && key.name == "<<" {
                if let Some((first, _)) = merged.first() {
                    let problem = Diagnostic::new(key.span, "the merge key `<<` is here twice");
                    self.report(problem.context(first.span, "first here").help("write `<<: [*first, *second]`"));
                } else {
                    merged.push((key, node));
                }
            } else if let Some(&first) = places.get(&key.name) {
                let problem = Diagnostic::new(key.span, format!("the key `{}` is here twice", shorten(&key.name)));
                self.report(problem.context(first, "first here"));
            } else {
                places.insert(key.name.clone(), key.span);
                entries.push((key, node));
            }
        }
        for (key, node) in merged {
            self.merge(&mut entries, &mut places, &key, node)?;
        }
        Ok(Node { value: Value::Map(entries), span })
    }

    /// `<<: *base` or `<<: [*a, *b]`: entries for the keys that are not there.
    fn merge(
        &mut self,
        entries: &mut Vec<(Key, Node)>,
        places: &mut HashMap<String, Span>,
        key: &Key,
        node: Node,
    ) -> Result<(), Stop> {
        let parts = if let Value::Seq(parts) = node.value { parts } else { vec![node] };
        for part in parts {
            let Value::Map(part) = part.value else {
                return Err(Box::new(
                    Diagnostic::new(key.span, "the merge key `<<` takes a map or a list of maps").help("write `<<: *anchor`"),
                ));
            };
            for (key, node) in part {
                if !places.contains_key(&key.name) {
                    places.insert(key.name.clone(), key.span);
                    entries.push((key, node));
                }
            }
        }
        Ok(())
    }
}

/// The span of a list or map: to its closing bracket, or to the end of its last value.
fn end(start: Span, close: Span, style: StructureStyle, last: Option<Span>) -> Span {
    match style {
        StructureStyle::Flow => start.to(close),
        StructureStyle::Block => last.map_or(start, |last| start.to(last)),
    }
}

/// Number of nodes, and of bytes of text, that a copy takes.
fn size(node: &Node) -> (usize, usize) {
    let add = |(nodes, bytes): (usize, usize), (more, text): (usize, usize)| (nodes + more, bytes + text);
    match &node.value {
        Value::Str(text) => (1, text.len()),
        Value::Seq(items) => items.iter().map(size).fold((1, 0), add),
        Value::Map(entries) => entries.iter().map(|(key, node)| add(size(node), (1, key.name.len()))).fold((1, 0), add),
        _ => (1, 0),
    }
}

/// Tags are of no use in an experiment file; those of the core schema are let through where they change nothing.
fn check_tag(tag: &Tag, node: &Node, span: Span) -> Result<(), Stop> {
    let name = match node.value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float",
        Value::Str(_) => "str",
        Value::Seq(_) => "seq",
        Value::Map(_) => "map",
    };
    let fits = tag.is_yaml_core_schema_tag(name) || tag.original() == "!";
    if fits || (name == "int" && tag.is_yaml_core_schema_tag("float")) {
        return Ok(());
    }
    Err(Box::new(
        Diagnostic::new(span, format!("the tag `{}` does not fit {}", tag.original(), node.describe()))
            .help("leave the tag out; a text that starts with `!` needs quotes"),
    ))
}
