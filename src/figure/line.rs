//! `line`: a number along an axis, one line for each series.

use super::axis::Axis;
use super::canvas::{self, Canvas, Point, Rect, Scene};
use super::data::{self, Categories};
use super::font::Fonts;
use super::legend::{self, Legend, Sample};
use super::scale::{Range, Scale, ScaleKind};
use super::xy::{self, Frame, Framed, Names, Rule, Series, Shape};
use super::{Drawing, Figure, Style, theme};
use crate::Result;
use crate::kind::Described;
use plotters::prelude::DrawingBackend;
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;

/// Points have markers where each line has at most this many.
const MOST_MARKERS: usize = 24;

/// A number along an axis, one line for each series: loss by position, scores by noise. Lines break where a value is missing. Two
/// rows at the same place of a line are an error: aggregate in the query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Column along the x axis: numbers, or words at equal distances in the order of the table.
    pub x: String,
    /// Column of numbers along the y axis.
    pub y: String,
    /// Column with a line for each of its values, at most 24.
    #[serde(default)]
    pub color: Option<String>,
    /// Column with a panel for each of its values, at most 24. All panels have the same axes.
    #[serde(default)]
    pub facet: Option<String>,
    /// Column with the lower end of a band around each line; goes with `high`.
    #[serde(default)]
    pub low: Option<String>,
    /// Column with the upper end of the band.
    #[serde(default)]
    pub high: Option<String>,
    /// Horizontal reference lines: `[{ value: 3.5, label: chance }]`.
    #[serde(default)]
    pub rule: Vec<Rule>,
    /// How numbers lie along the x axis.
    #[serde(default)]
    pub x_scale: ScaleKind,
    /// How numbers lie along the y axis.
    #[serde(default)]
    pub y_scale: ScaleKind,
    /// Label of the x axis, with the unit. Default: the column's name.
    #[serde(default)]
    pub x_label: Option<String>,
    /// Label of the y axis, with the unit (`loss (nats)`). Default: the column's name.
    #[serde(default)]
    pub y_label: Option<String>,
    /// Title of the legend. Default: the column's name.
    #[serde(default)]
    pub color_label: Option<String>,
    /// Width of the figure in pixels. Default: 720.
    #[serde(default)]
    #[schemars(range(min = 200, max = 2400))]
    pub width: Option<u32>,
    /// Height of the figure in pixels. Default: what suits the number of panels.
    #[serde(default)]
    #[schemars(range(min = 120, max = 2400))]
    pub height: Option<u32>,
}

impl Described for Line {
    const NAME: &'static str = "line";
    const EXAMPLE: &'static str = "\
- figure: line
  of: SELECT model, position, AVG(loss) AS loss FROM loss GROUP BY model, position
  title: The loss falls where the sequence repeats
  x: position
  y: loss
  color: model
  y_label: loss (nats)
  rule: [{ value: 3.497, label: chance (ln 33) }]
";
}

struct Placed<'a> {
    line: &'a Line,
    series: Series,
    x: Axis,
    /// Where each row lies along the x axis, 0 to 1.
    across: Vec<Option<f64>>,
    y: Scale,
    framed: Framed,
    legend: Legend,
    markers: bool,
}

impl Line {
    fn names(&self) -> Names<'_> {
        Names {
            y: &self.y,
            color: self.color.as_deref(),
            facet: self.facet.as_deref(),
            low: self.low.as_deref(),
            high: self.high.as_deref(),
        }
    }

    /// The x axis, and where each row lies along it.
    fn x_axis(&self, data: &DataFrame, categories: &Categories) -> Result<(Axis, Vec<Option<f64>>)> {
        if !data::is_numeric(data, "x", &self.x)? {
            let axis = Axis::Bands(categories.clone());
            let across = categories.codes.iter().map(|&c| Some(axis.band(c))).collect();
            return Ok((axis, across));
        }
        let x = data::numbers(data, "x", &self.x)?;
        xy::require_positive(self.x_scale, "x", &self.x, x.iter().flatten().copied())?;
        let scale = Scale::new(self.x_scale, Range::of(x.iter().flatten().copied())).padded(0.02);
        let scale = if categories.are_integers() { scale.whole() } else { scale };
        let across = x.iter().map(|v| v.map(|v| scale.fraction(v))).collect();
        Ok((Axis::Numbers(scale), across))
    }

    fn place(&self, data: &DataFrame, title: &str) -> Result<Placed<'_>> {
        let fonts = Fonts::embedded()?;
        let series = self.names().read(data)?;
        let categories = data::categories(data, "x", &self.x)?;
        self.names().require_unique(&series, &self.x, &categories)?;
        xy::require_positive(self.y_scale, "y", &self.y, series.extent(&self.rule))?;
        let (x, across) = self.x_axis(data, &categories)?;
        let y = Scale::new(self.y_scale, series.range(&self.rule)).padded(0.04);

        let width = self.width.map_or(theme::WIDTH, f64::from);
        let markers = categories.len() <= MOST_MARKERS;
        let named = self.color_label.as_deref().or(self.color.as_deref()).unwrap_or_default();
        let legend = Legend::new(fonts, named, &series.series, &|_| Sample::Line { markers }, width);
        let axis = Axis::Numbers(y);
        let titles = data::facet_titles(&series.facets, self.facet.as_deref());
        let framed = Frame {
            title,
            facets: &titles,
            x_label: self.x_label.as_deref().unwrap_or(&self.x),
            y_label: self.y_label.as_deref().unwrap_or(&self.y),
            legend: &legend,
            note: &|_| 0.0,
            x: std::slice::from_ref(&x),
            y: &[axis],
            shape: Shape::Wide(290.0, 220.0),
            width: self.width,
            height: self.height,
        }
        .place(fonts)?;
        Ok(Placed { line: self, series, x, across, y, framed, legend, markers })
    }
}

impl Figure for Line {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        std::iter::once(("x", self.x.as_str())).chain(self.names().columns()).collect()
    }

    fn numbers(&self) -> &'static [&'static str] {
        // Words stand at equal distances; they have no logarithm.
        if self.x_scale == ScaleKind::Log { &["x", "y", "low", "high"] } else { &["y", "low", "high"] }
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        canvas::render(&self.place(data, title)?, title, style)
    }
}

impl Placed<'_> {
    /// Rows of a line in the order of x, cut where a value is missing.
    fn runs(&self, facet: usize, series: usize, present: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
        let here = |row: &usize| self.series.facets.codes[*row] == facet && self.series.series.codes[*row] == series;
        let mut rows: Vec<(f64, usize)> =
            (0..self.across.len()).filter(here).filter_map(|row| Some((self.across[row]?, row))).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        rows.split(|(_, row)| !present(*row))
            .filter(|run| !run.is_empty())
            .map(|run| run.iter().map(|r| r.1).collect())
            .collect()
    }

    fn point(&self, plot: Rect, row: usize, value: f64) -> Point {
        (plot.x + self.across[row].unwrap_or(0.5) * plot.width, xy::height(plot, &self.y, value))
    }

    fn paint_bands<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, facet: usize) -> Result<()> {
        for index in 0..self.series.series.len() {
            let color = theme::translucent(legend::series_style(&self.series.series, index).color, 0.18);
            for run in self.runs(facet, index, |row| self.series.interval[row].is_some()) {
                let ends = run.iter().filter_map(|&row| self.series.interval[row].map(|i| (row, i)));
                let (low, high): (Vec<_>, Vec<_>) =
                    ends.map(|(row, (low, high))| (self.point(plot, row, low), self.point(plot, row, high))).unzip();
                if low.len() == 1 {
                    canvas.line(&[low[0], high[0]], color, 4.0)?;
                } else {
                    canvas.polygon(&low.into_iter().chain(high.into_iter().rev()).collect::<Vec<_>>(), color)?;
                }
            }
        }
        Ok(())
    }

    fn paint_lines<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, facet: usize) -> Result<()> {
        for index in 0..self.series.series.len() {
            let style = legend::series_style(&self.series.series, index);
            for run in self.runs(facet, index, |row| self.series.y[row].is_some()) {
                let points: Vec<Point> =
                    run.iter().filter_map(|&row| self.series.y[row].map(|v| self.point(plot, row, v))).collect();
                canvas.dashed(&points, style.color, 1.75, style.dashes)?;
                // A point between two missing ones would otherwise not be seen.
                if self.markers || points.len() == 1 {
                    for &point in &points {
                        legend::paint_marker(canvas, point, style.marker, style.color)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Scene for Placed<'_> {
    fn size(&self) -> (f64, f64) {
        self.framed.layout.size
    }

    fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<()> {
        self.framed.layout.paint(canvas)?;
        self.legend.paint(canvas, self.framed.layout.legend)?;
        for (facet, (panel, below, left)) in self.framed.panels().enumerate() {
            let plot = panel.plot;
            xy::paint_ground(canvas, panel, &self.x, below, left)?;
            canvas.line(&[(plot.x, plot.bottom()), (plot.right(), plot.bottom())], theme::AXIS, 1.0)?;
            self.paint_bands(canvas, plot, facet)?;
            self.paint_lines(canvas, plot, facet)?;
            xy::paint_rules(canvas, plot, &self.line.rule, &self.y, facet == 0)?;
        }
        Ok(())
    }
}
