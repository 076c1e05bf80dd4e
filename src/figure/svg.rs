//! A plotters backend that writes SVG with its text as outlines, so that it looks the same with and without fonts.

use super::font::{Fonts, Weight};
use super::text::{self, Turn};
use super::theme::UNITS;
use ab_glyph::{Font, OutlineCurve};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;

/// Stands for the prefix of ids until the whole content is known; XML text cannot contain it.
const PREFIX: char = '\u{1}';

/// The element that shapes are being added to.
#[derive(PartialEq)]
enum Open {
    Nothing,
    /// A path of rectangles with this fill, drawn without anti-aliasing so that no seams show between neighbours.
    Rectangles(String),
}

/// The SVG of a figure while it is drawn.
pub struct Svg {
    size: (u32, u32),
    fonts: &'static Fonts,
    body: String,
    open: Open,
    /// Outlines of the glyphs used so far, in font units with y downwards.
    glyphs: BTreeMap<(Weight, u16), String>,
}

impl Svg {
    /// An empty drawing of `size` pixels.
    pub fn new(size: (u32, u32), fonts: &'static Fonts) -> Self {
        Self { size, fonts, body: String::new(), open: Open::Nothing, glyphs: BTreeMap::new() }
    }

    /// The document, with `title` for readers who cannot see it.
    pub fn finish(&mut self, title: &str) -> String {
        self.close();
        let (width, height) = self.size;
        let (wide, high) = self.get_size();
        let title = escape(title);
        let mut defs = String::new();
        for ((weight, id), outline) in &self.glyphs {
            _ = write!(defs, r#"<path id="{PREFIX}{}{id}" d="{outline}"/>"#, initial(*weight));
        }
        let content = format!("<title>{title}</title><defs>{defs}</defs>{}", self.body);
        let hash = blake3::hash(content.as_bytes()).to_hex();
        // Letters first: an id must not start with a digit to be usable in CSS.
        let content = content.replace(PREFIX, &format!("f{}", &hash[..8]));
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {wide} {high}" role="img">{content}</svg>
"#
        )
    }

    fn close(&mut self) {
        if self.open != Open::Nothing {
            self.body.push_str("\"/>");
            self.open = Open::Nothing;
        }
    }

    fn glyph(&mut self, weight: Weight, glyph: ab_glyph::GlyphId) -> bool {
        let fonts = self.fonts;
        let outline = self.glyphs.entry((weight, glyph.0)).or_insert_with(|| outline(fonts, weight, glyph));
        !outline.is_empty()
    }

    fn fill(&mut self, points: &[BackendCoord], color: BackendColor) {
        self.close();
        _ = write!(self.body, r#"<path d="{}z" {}/>"#, polyline(points), paint("fill", color));
    }
}

impl DrawingBackend for Svg {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.size.0 * UNITS as u32, self.size.1 * UNITS as u32)
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Infallible>> {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Result<(), DrawingErrorKind<Infallible>> {
        self.draw_rect((x, y), (x + 1, y + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        (x0, y0): BackendCoord,
        (x1, y1): BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        if !fill {
            return self.draw_path([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], style);
        }
        let paint = paint("fill", style.color());
        let wanted = Open::Rectangles(paint.clone());
        if self.open != wanted {
            self.close();
            _ = write!(self.body, r#"<path shape-rendering="crispEdges" {paint} d=""#);
            self.open = wanted;
        }
        let (width, height) = (x1 - x0, y1 - y0);
        _ = write!(self.body, "M{x0} {y0}h{width}v{height}h{}z", -width);
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        self.close();
        let points: Vec<_> = path.into_iter().collect();
        _ = write!(
            self.body,
            r#"<path d="{}" fill="none" {} stroke-width="{}" stroke-linejoin="round" stroke-linecap="round"/>"#,
            polyline(&points),
            paint("stroke", style.color()),
            style.stroke_width(),
        );
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        self.close();
        let paint = if fill {
            paint("fill", style.color())
        } else {
            format!(r#"fill="none" {} stroke-width="{}""#, paint("stroke", style.color()), style.stroke_width())
        };
        _ = write!(self.body, r#"<circle cx="{x}" cy="{y}" r="{radius}" {paint}/>"#);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vertices: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        let points: Vec<_> = vertices.into_iter().collect();
        self.fill(&points, style.color());
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<Infallible>> {
        self.close();
        let fonts = self.fonts;
        let line = text::lay_out(fonts, text, style);
        let face = fonts.face(line.weight);
        let turn = match line.turn {
            Turn::None => String::new(),
            Turn::Quarters(quarters) => format!("rotate({})", 90 * u32::from(quarters)),
        };
        let units = 1.0 / face.units;
        let (dx, dy) = line.offset;
        // Offsets in hundredths, the font size in parts of an em: below what a screen can show.
        _ = write!(
            self.body,
            r#"<g {} transform="translate({x} {y}){turn}translate({:.2} {:.2})scale({:.5})">"#,
            paint("fill", style.color()),
            dx,
            dy,
            line.size * units
        );
        for (glyph, pen) in face.glyphs(text) {
            if self.glyph(line.weight, glyph) {
                _ = write!(self.body, r##"<use href="#{PREFIX}{}{}""##, initial(line.weight), glyph.0);
                if pen > 0.0 {
                    _ = write!(self.body, r#" x="{pen:.0}""#);
                }
                self.body.push_str("/>");
            }
        }
        self.body.push_str("</g>");
        Ok(())
    }
}

fn initial(weight: Weight) -> char {
    match weight {
        Weight::Regular => 'r',
        Weight::SemiBold => 's',
    }
}

/// The path data of a glyph; empty for a blank.
fn outline(fonts: &Fonts, weight: Weight, glyph: ab_glyph::GlyphId) -> String {
    let mut data = String::new();
    let mut pen = None;
    for curve in fonts.face(weight).font.outline(glyph).map(|o| o.curves).unwrap_or_default() {
        let point = |p: ab_glyph::Point| (p.x.round() as i32, -p.y.round() as i32);
        let (start, end) = match curve {
            OutlineCurve::Line(a, b) | OutlineCurve::Quad(a, _, b) | OutlineCurve::Cubic(a, _, _, b) => (point(a), point(b)),
        };
        if pen != Some(start) {
            _ = write!(data, "{}M{} {}", if pen.is_some() { "z" } else { "" }, start.0, start.1);
        }
        let mut step = |letter: char, points: &[(i32, i32)]| {
            data.push(letter);
            for (i, p) in points.iter().enumerate() {
                _ = write!(data, "{}{} {}", if i > 0 { " " } else { "" }, p.0 - start.0, p.1 - start.1);
            }
        };
        match curve {
            OutlineCurve::Line(..) => step('l', &[end]),
            OutlineCurve::Quad(_, c, _) => step('q', &[point(c), end]),
            OutlineCurve::Cubic(_, c, d, _) => step('c', &[point(c), point(d), end]),
        }
        pen = Some(end);
    }
    if pen.is_some() {
        data.push('z');
    }
    data
}

/// Path data through `points`, in steps from one to the next.
fn polyline(points: &[BackendCoord]) -> String {
    let mut data = String::new();
    let mut last = None;
    for &(x, y) in points {
        match last {
            None => _ = write!(data, "M{x} {y}"),
            Some((from_x, from_y)) => _ = write!(data, "l{} {}", x - from_x, y - from_y),
        }
        last = Some((x, y));
    }
    data
}

/// The attributes that paint with `color`.
fn paint(attribute: &str, color: BackendColor) -> String {
    let (r, g, b) = color.rgb;
    let mut text = format!(r##"{attribute}="#{r:02x}{g:02x}{b:02x}""##);
    if color.alpha < 1.0 {
        _ = write!(text, r#" {attribute}-opacity="{:.3}""#, color.alpha);
    }
    text
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
