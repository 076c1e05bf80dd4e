//! Keys to colours: a row of series above the panels, a colour bar beside them.

use super::canvas::{Canvas, Point, Rect, Type};
use super::colormap::{self, ColorScale, STEPS};
use super::data::Categories;
use super::font::{Fonts, Weight};
use super::theme;
use crate::Result;
use plotters::prelude::DrawingBackend;
use plotters::style::RGBAColor;

/// Height of a row of a legend.
const ROW: f64 = 18.0;
/// Length of the piece of line before a series' name.
const SAMPLE: f64 = 24.0;
/// Width of a colour bar.
const BAR: f64 = 13.0;
/// Space between the panels and the colour bar.
const TO_BAR: f64 = 18.0;
/// What the key to cells without a value says.
const NO_VALUE: &str = "no value";

/// How a series is told from the others.
#[derive(Clone, Copy, Debug)]
pub struct SeriesStyle {
    /// Its colour.
    pub color: RGBAColor,
    /// Its dashes, where it is a line.
    pub dashes: &'static [f64],
    /// The number of its marker.
    pub marker: usize,
}

/// The style of series `index` of `series`: colours in order of lightness if the series are numbers, distinct ones otherwise.
pub fn series_style(series: &Categories, index: usize) -> SeriesStyle {
    let ordered = series.numbers.is_some() && series.len() > 2;
    let color =
        if ordered { colormap::ordered(index, series.len()) } else { theme::CATEGORIES[index % theme::CATEGORIES.len()] };
    SeriesStyle { color, dashes: theme::DASHES[index % theme::DASHES.len()], marker: index }
}

/// Draws the marker number `marker` at `at`.
///
/// # Errors
/// [`crate::Error::Figure`] if the backend fails.
pub fn paint_marker<DB: DrawingBackend>(canvas: &Canvas<DB>, at: Point, marker: usize, color: RGBAColor) -> Result<()> {
    paint_marker_of_size(canvas, at, marker, color, 1.0)
}

/// As [`paint_marker`], `size` times as large.
///
/// # Errors
/// As for [`paint_marker`].
pub fn paint_marker_of_size<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    at: Point,
    marker: usize,
    color: RGBAColor,
    size: f64,
) -> Result<()> {
    let (x, y) = at;
    let corners: &[Point] = match marker % 4 {
        0 => return canvas.disc(at, 3.25 * size, color),
        1 => &[(-3.0, -3.0), (3.0, -3.0), (3.0, 3.0), (-3.0, 3.0)],
        2 => &[(0.0, -4.0), (4.0, 3.0), (-4.0, 3.0)],
        _ => &[(0.0, -4.25), (4.25, 0.0), (0.0, 4.25), (-4.25, 0.0)],
    };
    canvas.polygon(&corners.iter().map(|c| (x + c.0 * size, y + c.1 * size)).collect::<Vec<_>>(), color)
}

/// What stands before a name in a legend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// A line with its dashes, and its marker if they are drawn.
    Line {
        /// Whether points have markers.
        markers: bool,
    },
    /// A filled square.
    Swatch,
    /// A marker.
    Marker,
    /// An upright line with its marker at the foot.
    Mark,
    /// A line of this width and strength, for what no series tells apart.
    Stroke {
        /// Its width in pixels.
        width: f64,
        /// How far it stands out from the paper, 0 to 1.
        strength: f64,
    },
}

impl Sample {
    /// Width of what is drawn, with the space behind it.
    fn width(self) -> f64 {
        match self {
            Self::Line { .. } | Self::Stroke { .. } => SAMPLE + 6.0,
            Self::Swatch => 17.0,
            Self::Marker | Self::Mark => 14.0,
        }
    }

    fn paint<DB: DrawingBackend>(self, canvas: &Canvas<DB>, (x, y): Point, style: SeriesStyle) -> Result<()> {
        match self {
            Self::Line { markers } => {
                canvas.dashed(&[(x, y), (x + SAMPLE, y)], style.color, 2.0, style.dashes)?;
                if markers {
                    paint_marker(canvas, (x + SAMPLE / 2.0, y), style.marker, style.color)?;
                }
                Ok(())
            }
            Self::Swatch => canvas.fill_patterned(Rect { x, y: y - 6.0, width: 12.0, height: 12.0 }, style.color, style.marker),
            Self::Marker => paint_marker(canvas, (x + 5.0, y), style.marker, style.color),
            Self::Mark => {
                canvas.line(&[(x + 5.0, y - 7.0), (x + 5.0, y + 4.0)], style.color, 1.25)?;
                paint_marker(canvas, (x + 5.0, y + 4.0), style.marker, style.color)
            }
            Self::Stroke { width, strength } => {
                canvas.line(&[(x, y), (x + SAMPLE, y)], theme::faded(theme::MUTED, strength), width)
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    at: Point,
    label: String,
    style: SeriesStyle,
    sample: Sample,
}

/// The key to the series of a figure, in rows as wide as the figure.
#[derive(Clone, Debug)]
pub struct Legend {
    title: String,
    entries: Vec<Entry>,
    /// Height with the space below; 0 for a legend without entries.
    pub height: f64,
    /// Width of the narrowest figure that holds it.
    pub width: f64,
}

impl Legend {
    /// The key to `series`, which `title` names, with the `sample` of each; empty if there is only one unnamed series.
    pub fn new(fonts: &Fonts, title: &str, series: &Categories, sample: &dyn Fn(usize) -> Sample, width: f64) -> Self {
        if series.labels.iter().all(String::is_empty) {
            return Self { title: String::new(), entries: Vec::new(), height: 0.0, width: 0.0 };
        }
        let room = width - 2.0 * theme::MARGIN;
        let title = fonts.fit(title, Weight::Regular, theme::LABEL, room / 2.0);
        let start = fonts.width(&title, Weight::Regular, theme::LABEL) + 14.0;
        let (mut x, mut y, mut right) = (start, 0.0, 0.0f64);
        let mut entries = Vec::new();
        for (index, label) in series.labels.iter().enumerate() {
            let sample = sample(index);
            let label = fonts.fit(label, Weight::Regular, theme::TICK, (room - start - sample.width()).max(40.0));
            let wide = sample.width() + fonts.width(&label, Weight::Regular, theme::TICK) + 16.0;
            if x + wide - 16.0 > room && x > start {
                (x, y) = (start, y + ROW);
            }
            entries.push(Entry { at: (x, y), label, style: series_style(series, index), sample });
            x += wide;
            right = right.max(x - 16.0);
        }
        Self { title, entries, height: y + ROW + 8.0, width: right + 2.0 * theme::MARGIN }
    }

    /// Draws it with its top left corner at `at`.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if the backend fails.
    pub fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, at: Point) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let middle = at.1 + ROW / 2.0;
        canvas.text(&self.title, (at.0, middle), Type::new(theme::LABEL, theme::INK).anchored(0.0, 0.5))?;
        for entry in &self.entries {
            let (x, y) = (at.0 + entry.at.0, middle + entry.at.1);
            entry.sample.paint(canvas, (x, y), entry.style)?;
            let look = Type::new(theme::TICK, theme::MUTED).anchored(0.0, 0.5);
            canvas.text(&entry.label, (x + entry.sample.width(), y), look)?;
        }
        Ok(())
    }
}

/// The key to a colour scale.
#[derive(Clone, Debug)]
pub struct ColorBar {
    scale: ColorScale,
    /// Lines of the label, as long as the bar.
    label: Vec<String>,
    /// Whether some cells have no value.
    missing: bool,
    ticks: Vec<(f64, String)>,
    length: f64,
    /// From the left edge of the bar to the baseline of the label's first line.
    label_at: f64,
    /// Width with the space left of it.
    pub width: f64,
}

impl ColorBar {
    /// The key to `scale`, `length` high.
    pub fn new(fonts: &Fonts, scale: ColorScale, label: &str, missing: bool, length: f64) -> Self {
        let length = length.clamp(110.0, 240.0);
        let ticks = scale.ticks(length);
        let width = |text: &str| fonts.width(text, Weight::Regular, theme::TICK);
        let label_at = BAR + 7.0 + ticks.iter().map(|(_, t)| width(t)).fold(0.0, f64::max) + 8.0 + theme::LABEL * 0.8;
        let below = if missing { BAR + 7.0 + width(NO_VALUE) } else { 0.0 };
        let label = fonts.wrap(label, Weight::Regular, theme::LABEL, length);
        let lines = label.len().saturating_sub(1) as f64 * theme::LABEL * theme::LINE_HEIGHT;
        let width = TO_BAR + (label_at + lines + theme::LABEL * 0.25).max(below);
        Self { scale, label, missing, ticks, length, label_at, width: width.ceil() }
    }

    /// Draws it right of `block`.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if the backend fails.
    pub fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, block: Rect) -> Result<()> {
        let bar = Rect { x: block.right() + TO_BAR, y: block.y, width: BAR, height: self.length };
        let slice = bar.height / STEPS as f64;
        for step in 0..STEPS {
            // Each slice reaches under the one above it, so that no rounding leaves a gap.
            let y = bar.bottom() - (step + 1) as f64 * slice;
            let rect = Rect { y, height: bar.bottom() - y, ..bar };
            let rect = if step == 0 { rect } else { Rect { height: slice + 0.5, ..rect } };
            canvas.fill(rect, self.scale.color(step))?;
        }
        self.scale.paint_below(canvas, bar)?;
        let look = Type::new(theme::TICK, theme::MUTED);
        for (fraction, text) in &self.ticks {
            let y = bar.bottom() - fraction * bar.height;
            canvas.line(&[(bar.right(), y), (bar.right() + 3.5, y)], theme::AXIS, 0.75)?;
            canvas.text(text, (bar.right() + 7.0, y), look.anchored(0.0, 0.5))?;
        }
        if self.missing {
            let swatch = Rect { y: bar.bottom() + 12.0, height: BAR, ..bar };
            paint_missing(canvas, swatch)?;
            canvas.text(NO_VALUE, (bar.right() + 7.0, swatch.y + BAR / 2.0), look.anchored(0.0, 0.5))?;
        }
        let look = Type::new(theme::LABEL, theme::INK).upward().anchored(0.5, 1.0);
        for (i, line) in self.label.iter().enumerate() {
            let x = bar.x + self.label_at + i as f64 * theme::LABEL * theme::LINE_HEIGHT;
            canvas.text(line, (x, bar.y + bar.height / 2.0), look)?;
        }
        Ok(())
    }

    /// Height with what is below it.
    pub fn height(&self) -> f64 {
        self.length + if self.missing { 12.0 + BAR } else { 0.0 }
    }
}

/// Draws a cell without a value: grey, and hatched where there is room, so that it is taken for no colour of a scale.
///
/// # Errors
/// [`crate::Error::Figure`] if the backend fails.
pub fn paint_missing<DB: DrawingBackend>(canvas: &Canvas<DB>, cell: Rect) -> Result<()> {
    canvas.fill(cell, theme::MISSING)?;
    if cell.width < 8.0 || cell.height < 8.0 {
        return Ok(());
    }
    canvas.hatch(cell, theme::HATCH, false)
}
