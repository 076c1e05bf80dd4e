//! Drawing in pixels with plotters, on any backend.

use super::font::{Fonts, Weight};
use super::raster::{self, Raster};
use super::svg::Svg;
use super::theme::{self, Theme, UNITS};
use super::{Drawing, Style};
use crate::{Error, Result};
use plotters::coord::Shift;
use plotters::prelude::{Circle, DrawingArea, DrawingAreaErrorKind, DrawingBackend, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontTransform, RGBAColor, ShapeStyle, TextStyle};
use std::cell::RefCell;
use std::rc::Rc;

/// A point: pixels from the left and from the top.
pub type Point = (f64, f64);

/// An upright rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

impl Rect {
    /// Right edge.
    pub fn right(&self) -> f64 {
        self.x + self.width
    }

    /// Bottom edge.
    pub fn bottom(&self) -> f64 {
        self.y + self.height
    }
}

/// How a line of text looks and which of its points is placed.
#[derive(Clone, Copy, Debug)]
pub struct Type {
    size: f64,
    weight: Weight,
    color: RGBAColor,
    horizontal: f64,
    vertical: f64,
    upward: bool,
}

impl Type {
    /// Regular text of `size`, placed by the left end of its baseline.
    pub fn new(size: f64, color: RGBAColor) -> Self {
        Self { size, weight: Weight::Regular, color, horizontal: 0.0, vertical: 1.0, upward: false }
    }

    /// In semi-bold.
    pub fn bold(self) -> Self {
        Self { weight: Weight::SemiBold, ..self }
    }

    /// Placed by the point at these shares of its width and of the height of its capitals: 0, 0.5 or 1.
    pub fn anchored(self, horizontal: f64, vertical: f64) -> Self {
        Self { horizontal, vertical, ..self }
    }

    /// Reading upwards, turned around the placed point.
    pub fn upward(self) -> Self {
        Self { upward: true, ..self }
    }
}

/// What a figure draws on.
pub struct Canvas<'a, DB: DrawingBackend> {
    area: &'a DrawingArea<DB, Shift>,
    /// For measuring.
    pub fonts: &'static Fonts,
    /// What is drawn for.
    pub theme: Theme,
}

impl<DB: DrawingBackend> Canvas<'_, DB> {
    /// A filled rectangle.
    ///
    /// # Errors
    /// [`Error::Figure`] if the backend fails, as for all drawing here.
    pub fn fill(&self, rect: Rect, color: RGBAColor) -> Result<()> {
        let corners = [unit((rect.x, rect.y)), unit((rect.right(), rect.bottom()))];
        if corners[0].0 >= corners[1].0 || corners[0].1 >= corners[1].1 {
            return Ok(());
        }
        self.area.draw(&Rectangle::new(corners, self.theme.color(color).filled())).map_err(failed)
    }

    /// A filled rectangle, and on paper, where a colour may come out grey, hatched in the way number `pattern`; 0 is plain.
    ///
    /// # Errors
    /// As for [`Self::fill`].
    pub fn fill_patterned(&self, rect: Rect, color: RGBAColor, pattern: usize) -> Result<()> {
        self.fill(rect, color)?;
        if self.theme != Theme::Print {
            return Ok(());
        }
        let ink = theme::ink_on(color);
        if [1, 3].contains(&(pattern % 4)) {
            self.hatch(rect, ink, false)?;
        }
        if pattern % 4 >= 2 {
            self.hatch(rect, ink, true)?;
        }
        Ok(())
    }

    /// Thin rising strokes over a rectangle, or `falling` ones.
    ///
    /// # Errors
    /// As for [`Self::fill`].
    pub fn hatch(&self, rect: Rect, color: RGBAColor, falling: bool) -> Result<()> {
        let spacing = 6.0;
        let mut along = spacing;
        while along < rect.width + rect.height {
            // From the left or bottom edge to the top or right edge.
            let from =
                if along <= rect.height { (rect.x, rect.y + along) } else { (rect.x + along - rect.height, rect.bottom()) };
            let to = if along <= rect.width { (rect.x + along, rect.y) } else { (rect.right(), rect.y + along - rect.width) };
            let turned = |(x, y): Point| if falling { (rect.x + rect.right() - x, y) } else { (x, y) };
            self.line(&[turned(from), turned(to)], color, 0.75)?;
            along += spacing;
        }
        Ok(())
    }

    /// A line through `points`.
    ///
    /// # Errors
    /// As for [`Self::fill`].
    pub fn line(&self, points: &[Point], color: RGBAColor, width: f64) -> Result<()> {
        if points.len() < 2 {
            return Ok(());
        }
        let color = self.theme.color(color);
        let stroke_width = (self.theme.stroke(width) * UNITS).round().max(1.0) as u32;
        let style = ShapeStyle { color, filled: false, stroke_width };
        self.area.draw(&PathElement::new(points.iter().map(|&p| unit(p)).collect::<Vec<_>>(), style)).map_err(failed)
    }

    /// A line through `points` in dashes: lengths of stroke and gap in turn, or solid if there are none.
    ///
    /// # Errors
    /// As for [`Self::fill`].
    pub fn dashed(&self, points: &[Point], color: RGBAColor, width: f64, dashes: &[f64]) -> Result<()> {
        if dashes.is_empty() {
            return self.line(points, color, width);
        }
        for dash in dash_strokes(points, dashes) {
            self.line(&dash, color, width)?;
        }
        Ok(())
    }

    /// A filled polygon.
    ///
    /// # Errors
    /// As for [`Self::fill`].
    pub fn polygon(&self, points: &[Point], color: RGBAColor) -> Result<()> {
        self.area
            .draw(&Polygon::new(points.iter().map(|&p| unit(p)).collect::<Vec<_>>(), self.theme.color(color)))
            .map_err(failed)
    }

    /// A disc.
    ///
    /// # Errors
    /// As for [`Self::fill`].
    pub fn disc(&self, at: Point, radius: f64, color: RGBAColor) -> Result<()> {
        self.area
            .draw(&Circle::new(unit(at), (radius * UNITS).round() as i32, self.theme.color(color).filled()))
            .map_err(failed)
    }

    /// A line of text.
    ///
    /// # Errors
    /// As for [`Self::fill`].
    pub fn text(&self, text: &str, at: Point, look: Type) -> Result<()> {
        let font = FontDesc::new(FontFamily::SansSerif, look.size * UNITS, self.theme.weight(look.weight).style());
        let font = if look.upward { font.transform(FontTransform::Rotate270) } else { font };
        let horizontal = match look.horizontal {
            h if h < 0.25 => HPos::Left,
            h if h < 0.75 => HPos::Center,
            _ => HPos::Right,
        };
        let vertical = match look.vertical {
            v if v < 0.25 => VPos::Top,
            v if v < 0.75 => VPos::Center,
            _ => VPos::Bottom,
        };
        let style =
            TextStyle { font, color: self.theme.color(look.color).to_backend_color(), pos: Pos::new(horizontal, vertical) };
        self.area.draw_text(text, &style, unit(at)).map_err(failed)
    }
}

/// A figure that is laid out: its size, and how it is drawn on any backend.
pub trait Scene {
    /// Width and height in pixels.
    fn size(&self) -> (f64, f64);

    /// Draws everything but the background.
    ///
    /// # Errors
    /// [`Error::Figure`] if the backend fails.
    fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<()>;
}

/// Draws `scene` in both formats; `title` is what the SVG says to those who cannot see it.
///
/// # Errors
/// [`Error::Figure`] if it is too large or a backend fails.
pub fn render(scene: &impl Scene, title: &str, style: &Style) -> Result<Drawing> {
    // A figure is drawn on a bitmap of sixteen times its pixels: this is about 400 MB.
    const LARGEST: f64 = 8e6;
    let fonts = Fonts::embedded()?;
    let (width, height) = scene.size();
    let fineness = raster::Fineness::of(style.png_scale)?;
    if width * height * fineness.zoom().powi(2) > LARGEST {
        return Err(Error::Figure(format!(
            "it would be {width:.0} × {height:.0} pixels, more than can be drawn: show less of the data with WHERE in the query, set `width` and `height`, or choose a smaller scale of the PNG"
        )));
    }
    let size = (width.ceil().max(1.0) as u32, height.ceil().max(1.0) as u32);

    let svg = Rc::new(RefCell::new(Svg::new(size, fonts)));
    let paper = Rect { x: 0.0, y: 0.0, width: size.0.into(), height: size.1.into() };
    let area = DrawingArea::from(&svg);
    Canvas { area: &area, fonts, theme: style.theme }.fill(paper, theme::PAPER)?;
    paint(scene, &area, (fonts, style.theme))?;
    let svg = svg.borrow_mut().finish(title);

    // White already, as the paper is.
    let mut buffer = vec![255; fineness.buffer_len(size)];
    paint(scene, &DrawingArea::from(Raster::new(&mut buffer, size, fineness, fonts)?), (fonts, style.theme))?;
    let png = raster::encode(&buffer, size, fineness)?;
    Ok(Drawing { svg, png })
}

fn paint<DB: DrawingBackend>(
    scene: &impl Scene,
    area: &DrawingArea<DB, Shift>,
    (fonts, theme): (&'static Fonts, Theme),
) -> Result<()> {
    let canvas = Canvas { area, fonts, theme };
    scene.paint(&canvas)?;
    area.present().map_err(failed)
}

fn unit((x, y): Point) -> (i32, i32) {
    ((x * UNITS).round() as i32, (y * UNITS).round() as i32)
}

fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> Error {
    Error::Figure(error.to_string())
}

/// The strokes of a dashed line through `points`.
fn dash_strokes(points: &[Point], dashes: &[f64]) -> Vec<Vec<Point>> {
    let mut strokes = Vec::new();
    let mut current: Vec<Point> = points.first().copied().into_iter().collect();
    let (mut phase, mut left) = (0, dashes[0]);
    for pair in points.windows(2) {
        let ((ax, ay), (bx, by)) = (pair[0], pair[1]);
        let length = (bx - ax).hypot(by - ay);
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let at = (ax + (bx - ax) * done / length, ay + (by - ay) * done / length);
            if phase % 2 == 0 {
                current.push(at);
                strokes.push(std::mem::take(&mut current));
            } else {
                current = vec![at];
            }
            phase = (phase + 1) % (2 * dashes.len());
            left = dashes[phase % dashes.len()];
        }
        left -= length - done;
        if phase % 2 == 0 {
            current.push((bx, by));
        }
    }
    if current.len() > 1 {
        strokes.push(current);
    }
    strokes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_cover_their_share_of_the_line() {
        let strokes = dash_strokes(&[(0.0, 0.0), (50.0, 0.0), (50.0, 49.0)], &[6.0, 4.0]);
        let length: f64 = strokes
            .iter()
            .flat_map(|s| s.windows(2).map(|w| (w[1].0 - w[0].0).hypot(w[1].1 - w[0].1)).collect::<Vec<_>>())
            .sum();
        assert_eq!(strokes.len(), 10);
        assert!((length - 60.0).abs() < 1e-9, "{length}");
    }
}
