//! A strict reader of the markup that the program writes: enough to know every element, attribute and piece of text, and to refuse
//! whatever is not plainly one of these.

/// What a page is made of, in order.
#[derive(Debug, PartialEq)]
pub enum Piece {
    /// `<name attributes>`.
    Open(String, Vec<(String, String)>),
    /// `</name>`.
    Close(String),
    /// Text, decoded.
    Text(String),
}

/// Reads a document; a panic says what is not strict.
pub fn read(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(start) = rest.find('<') else {
            pieces.push(Piece::Text(decode(rest)));
            break;
        };
        if start > 0 {
            pieces.push(Piece::Text(decode(&rest[..start])));
        }
        rest = &rest[start..];
        if let Some(after) = rest.strip_prefix("<!DOCTYPE html>") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("</") {
            let end = after.find('>').expect("a closing tag ends");
            pieces.push(Piece::Close(name(&after[..end])));
            rest = &after[end + 1..];
        } else {
            let (piece, after) = open(&rest[1..]);
            rest = after;
            let raw = matches!(&piece, Piece::Open(name, _) if name == "style");
            pieces.push(piece);
            if raw {
                let end = rest.find("</style>").expect("a style ends");
                pieces.push(Piece::Text(rest[..end].to_string()));
                rest = &rest[end..];
            }
        }
    }
    pieces
}

fn name(text: &str) -> String {
    assert!(!text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "no name: {text:?}");
    text.to_string()
}

fn open(text: &str) -> (Piece, &str) {
    let end = text.find(|c: char| c.is_whitespace() || c == '>' || c == '/').expect("a tag ends");
    let tag = name(&text[..end]);
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut rest = &text[end..];
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix("/>") {
            return (Piece::Open(tag, attributes), after);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (Piece::Open(tag, attributes), after);
        }
        let end = rest.find(|c: char| c.is_whitespace() || c == '=' || c == '>').expect("an attribute ends");
        let key = name(&rest[..end].replace(':', "-"));
        rest = &rest[end..];
        let value = match rest.strip_prefix("=\"") {
            Some(quoted) => {
                let end = quoted.find('"').expect("a quoted value ends");
                rest = &quoted[end + 1..];
                assert!(!quoted[..end].contains('<'), "a tag within a value: {quoted:.80}");
                decode(&quoted[..end])
            }
            None => {
                assert!(!rest.starts_with('='), "a value without quotes: {rest:.80}");
                String::new()
            }
        };
        assert!(attributes.iter().all(|(other, _)| *other != key), "`{key}` is here twice");
        attributes.push((key, value));
    }
}

fn decode(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let end = part.find(';').unwrap_or_else(|| panic!("a bare & before {part:.40}"));
        out.push_str(match &part[..end] {
            "lt" => "<",
            "gt" => ">",
            "amp" => "&",
            "quot" => "\"",
            "#39" | "#x27" => "'",
            "#x2f" => "/",
            other => panic!("an unknown entity &{other};"),
        });
        out.push_str(&part[end + 1..]);
    }
    out
}
