//! Figures within the page.

use super::markdown::escape;
use std::collections::HashSet;

/// An SVG document ready to stand in HTML: no prolog, a name for readers who do not see it, and ids that no other figure of the
/// page has, since `url(#clip)` would otherwise take the first figure's.
///
/// The document is our own and trusted: nothing else of it is changed.
pub(super) fn embed(svg: &str, number: usize, title: &str) -> String {
    let Some(start) = svg.find("<svg") else { return String::new() };
    let mut svg = with_own_ids(svg[start..].trim_end(), number);
    let tag = &svg[..svg.find('>').unwrap_or(svg.len())];
    if !tag.contains("role=") {
        let label = if tag.contains("aria-label") { String::new() } else { format!(" aria-label=\"{}\"", escape(title)) };
        svg.insert_str("<svg".len(), &format!(" role=\"img\"{label}"));
    }
    svg
}

/// The width that the document asks for, in pixels.
pub(super) fn width(svg: &str) -> Option<usize> {
    let tag = &svg[svg.find("<svg")?..];
    let tag = &tag[..tag.find('>')?];
    let value = tag.split_once(" width=\"")?.1.split('"').next()?;
    let pixels: f64 = value.trim_end_matches("px").parse().ok()?;
    (1.0..1e5).contains(&pixels).then(|| format!("{pixels:.0}").parse().ok())?
}

/// The document as it can stand by itself: with its namespace, which a page would add. Nothing if it is no document.
pub(super) fn alone(svg: &str) -> Option<String> {
    let inside = svg.find("<svg")? + "<svg".len();
    let mut alone = svg.to_string();
    if !svg[inside..].split('>').next()?.contains("xmlns=") {
        alone.insert_str(inside, " xmlns=\"http://www.w3.org/2000/svg\"");
    }
    Some(alone)
}

/// What the document says to those who cannot see it, as it can stand in an attribute; nothing if it says nothing.
pub(super) fn title(svg: &str) -> String {
    let title = svg.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    title.map_or_else(String::new, |(title, _)| title.replace('"', "&quot;").replace('<', "&lt;"))
}

/// Bytes as text, for an address that holds them itself (RFC 4648).
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// The document with `f3-` before every id and wherever one is referred to, in one pass: figures have hundreds of references.
fn with_own_ids(svg: &str, number: usize) -> String {
    let ids: HashSet<&str> = svg.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut out = String::with_capacity(svg.len() + svg.len() / 8);
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find('>').map_or(rest.len(), |at| start + at + 1);
        out.push_str(&rest[..start]);
        let mut name = "";
        // Between quotes stand the values, before each its name.
        for (index, part) in rest[start..end].split('"').enumerate() {
            if index > 0 {
                out.push('"');
            }
            if index % 2 == 0 {
                name = part;
                out.push_str(part);
                continue;
            }
            let (before, id) = match part.strip_prefix("url(#").and_then(|rest| rest.strip_suffix(')')) {
                Some(id) => ("url(#", id),
                None if name.ends_with("href=") && part.starts_with('#') => part.split_at(1),
                None if name.ends_with(" id=") || name.ends_with(" aria-labelledby=") => ("", part),
                None => (part, ""),
            };
            out.push_str(before);
            if ids.contains(id) {
                out.push_str(&format!("f{number}-"));
            }
            out.push_str(&part[before.len()..]);
        }
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SVG: &str = "<?xml version=\"1.0\"?>\n<!DOCTYPE svg>\n<svg width=\"640\" height=\"10\" viewBox=\"0 0 640 10\"><clipPath id=\"c\"/>\
                       <rect clip-path=\"url(#c)\" class=\"c\"/></svg>\n";

    #[test]
    fn ids_belong_to_their_figure() {
        assert_eq!(
            embed(SVG, 3, "A \"b\""),
            "<svg role=\"img\" aria-label=\"A &quot;b&quot;\" width=\"640\" height=\"10\" viewBox=\"0 0 640 10\"><clipPath \
             id=\"f3-c\"/><rect clip-path=\"url(#f3-c)\" class=\"c\"/></svg>"
        );
    }

    #[test]
    fn width_is_read_where_there_is_one() {
        assert_eq!(width(SVG), Some(640));
        assert_eq!(width("<svg width=\"12.6px\">"), Some(13));
        for none in ["", "<svg>", "<svg width=\"100%\">", "<svg width=\"-3\">", "<svg width=\"5"] {
            assert_eq!(width(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_svg_is_not_shown() {
        assert_eq!(embed("<script>alert(1)</script>", 1, ""), "");
    }

    #[test]
    fn bytes_are_written_as_the_standard_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_document_alone_has_its_namespace() {
        let whole = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"6\"/>";
        assert_eq!(alone("<svg width=\"6\"/>").as_deref(), Some(whole));
        assert_eq!(alone(whole).as_deref(), Some(whole));
        assert_eq!(alone("no document"), None);
    }

    #[test]
    fn a_title_cannot_leave_its_attribute() {
        assert_eq!(title("<svg><title>a &lt; b</title><g/></svg>"), "a &lt; b");
        assert_eq!(title("<svg><title>\"><script>alert(1)</script></title></svg>"), "&quot;>&lt;script>alert(1)&lt;/script>");
        for none in ["", "<svg>", "<svg><title>never ends"] {
            assert_eq!(title(none), "");
        }
    }
}
