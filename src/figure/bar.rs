//! `bar`: a number for each category, as the length of a bar.

use super::axis::Axis;
use super::canvas::{self, Canvas, Rect, Scene};
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

/// Share of a category's width that its bars take.
const FILLED: f64 = 0.78;
/// Widest bar.
const WIDEST: f64 = 56.0;

/// A number for each category, as the length of a bar from 0, with bars beside each other for the series of a category. Two rows
/// for one bar are an error: aggregate in the query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Column whose values stand along the x axis: numbers in their order, words in the order of the table.
    pub x: String,
    /// Column of numbers: the lengths.
    pub y: String,
    /// Column with a bar for each of its values in every category, at most 24.
    #[serde(default)]
    pub color: Option<String>,
    /// Column with a panel for each of its values, at most 24. All panels have the same axes.
    #[serde(default)]
    pub facet: Option<String>,
    /// Column with the lower end of an error bar; goes with `high`.
    #[serde(default)]
    pub low: Option<String>,
    /// Column with the upper end of the error bar.
    #[serde(default)]
    pub high: Option<String>,
    /// Horizontal reference lines: `[{ value: 0.5, label: chance }]`.
    #[serde(default)]
    pub rule: Vec<Rule>,
    /// Label of the x axis. Default: the column's name.
    #[serde(default)]
    pub x_label: Option<String>,
    /// Label of the y axis, with the unit. Default: the column's name.
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

impl Described for Bar {
    const NAME: &'static str = "bar";
    const EXAMPLE: &'static str = "\
- figure: bar
  of: SELECT model, repeat, AVG(loss) AS loss FROM loss WHERE repeat IS NOT NULL GROUP BY model, repeat
  title: The second repeat is easy for a model with induction heads
  x: repeat
  y: loss
  color: model
  y_label: loss (nats)
";
}

struct Placed<'a> {
    bar: &'a Bar,
    series: Series,
    categories: Categories,
    x: Axis,
    y: Scale,
    framed: Framed,
    legend: Legend,
}

impl Bar {
    fn names(&self) -> Names<'_> {
        Names {
            y: &self.y,
            color: self.color.as_deref(),
            facet: self.facet.as_deref(),
            low: self.low.as_deref(),
            high: self.high.as_deref(),
        }
    }

    /// The y axis: from 0, with room beyond the longest bar on its side only.
    fn y_axis(&self, series: &Series) -> Scale {
        let range = Range::of(series.extent(&self.rule).chain([0.0])).widened();
        let padded = range.padded(0.05);
        let low = if range.low < 0.0 { padded.low } else { 0.0 };
        let high = if range.high > 0.0 { padded.high } else { 0.0 };
        Scale::new(ScaleKind::Linear, Range { low, high })
    }

    fn place(&self, data: &DataFrame, title: &str) -> Result<Placed<'_>> {
        let fonts = Fonts::embedded()?;
        let series = self.names().read(data)?;
        let categories = data::categories(data, "x", &self.x)?;
        self.names().require_unique(&series, &self.x, &categories)?;
        let y = self.y_axis(&series);
        let (x, axis) = (Axis::Bands(categories.clone()), Axis::Numbers(y));

        let width = self.width.map_or(theme::WIDTH, f64::from);
        let named = self.color_label.as_deref().or(self.color.as_deref()).unwrap_or_default();
        let legend = Legend::new(fonts, named, &series.series, &|_| Sample::Swatch, width);
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
            shape: Shape::Wide(270.0, 210.0),
            width: self.width,
            height: self.height,
        }
        .place(fonts)?;
        Ok(Placed { bar: self, series, categories, x, y, framed, legend })
    }
}

impl Figure for Bar {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        std::iter::once(("x", self.x.as_str())).chain(self.names().columns()).collect()
    }

    fn numbers(&self) -> &'static [&'static str] {
        &["y", "low", "high"]
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        canvas::render(&self.place(data, title)?, title, style)
    }
}

impl Placed<'_> {
    /// Left edge and width of the bar of `row`.
    fn slot(&self, plot: Rect, row: usize) -> (f64, f64) {
        let count = self.series.series.len().max(1) as f64;
        let category = plot.width / self.categories.len().max(1) as f64;
        let bar = (category * FILLED / count).min(WIDEST);
        let centre = plot.x + self.x.band(self.categories.codes[row]) * plot.width;
        (centre - bar * count / 2.0 + bar * self.series.series.codes[row] as f64, bar)
    }

    fn paint_bars<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, facet: usize) -> Result<()> {
        let zero = xy::height(plot, &self.y, 0.0);
        for row in (0..self.series.y.len()).filter(|&row| self.series.facets.codes[row] == facet) {
            let (left, wide) = self.slot(plot, row);
            if let Some(value) = self.series.y[row] {
                let end = xy::height(plot, &self.y, value);
                let gap = if wide >= 5.0 { 1.0 } else { 0.0 };
                let rect = Rect { x: left + gap / 2.0, y: zero.min(end), width: wide - gap, height: (end - zero).abs() };
                let style = legend::series_style(&self.series.series, self.series.series.codes[row]);
                canvas.fill_patterned(rect, style.color, style.marker)?;
            }
            if let Some((low, high)) = self.series.interval[row] {
                let x = left + wide / 2.0;
                let [low, high] = [low, high].map(|v| xy::height(plot, &self.y, v));
                let cap = (wide / 4.0).min(4.0);
                // A white edge, so that the lower half shows on a dark bar.
                for (color, width) in [(theme::PAPER, 2.5), (theme::INK, 1.0)] {
                    canvas.line(&[(x, low), (x, high)], color, width)?;
                    canvas.line(&[(x - cap, low), (x + cap, low)], color, width)?;
                    canvas.line(&[(x - cap, high), (x + cap, high)], color, width)?;
                }
            }
        }
        canvas.line(&[(plot.x, zero), (plot.right(), zero)], theme::AXIS, 1.0)
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
            xy::paint_ground(canvas, panel, &self.x, below, left)?;
            self.paint_bars(canvas, panel.plot, facet)?;
            xy::paint_rules(canvas, panel.plot, &self.bar.rule, &self.y, facet == 0)?;
        }
        Ok(())
    }
}
