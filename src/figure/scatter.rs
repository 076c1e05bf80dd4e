//! `scatter`: pairs of numbers as points.

use super::axis::Axis;
use super::canvas::{self, Canvas, Point, Rect, Scene};
use super::data;
use super::font::Fonts;
use super::legend::{self, Legend, Sample};
use super::scale::{Range, Scale, ScaleKind};
use super::xy::{self, Frame, Framed, Names, Rule, Series, Shape};
use super::{Drawing, Figure, Style, theme};
use crate::kind::Described;
use crate::{Error, Result};
use plotters::prelude::DrawingBackend;
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;

/// Pairs of numbers as points, one for each row: what was measured against what theory expects, one score against another. Rows
/// with a null are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scatter {
    /// Column of numbers along the x axis.
    pub x: String,
    /// Column of numbers along the y axis.
    pub y: String,
    /// Column with a colour and marker for each of its values, at most 24.
    #[serde(default)]
    pub color: Option<String>,
    /// Column with a panel for each of its values, at most 24. All panels have the same axes.
    #[serde(default)]
    pub facet: Option<String>,
    /// Column with the lower end of an error bar along the y axis; goes with `high`.
    #[serde(default)]
    pub low: Option<String>,
    /// Column with the upper end of the error bar.
    #[serde(default)]
    pub high: Option<String>,
    /// Whether both axes are the same, with the line y = x: points on it are as expected. The scales must be the same, too.
    #[serde(default)]
    pub diagonal: bool,
    /// Horizontal reference lines: `[{ value: 0.5, label: chance }]`.
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
    /// Label of the y axis, with the unit. Default: the column's name.
    #[serde(default)]
    pub y_label: Option<String>,
    /// Title of the legend. Default: the column's name.
    #[serde(default)]
    pub color_label: Option<String>,
    /// Width of the figure in pixels. Default: 720, or less for a diagonal.
    #[serde(default)]
    #[schemars(range(min = 200, max = 2400))]
    pub width: Option<u32>,
    /// Height of the figure in pixels. Default: what suits the number of panels.
    #[serde(default)]
    #[schemars(range(min = 120, max = 2400))]
    pub height: Option<u32>,
}

impl Described for Scatter {
    const NAME: &'static str = "scatter";
    const EXAMPLE: &'static str = "\
- figure: scatter
  of: SELECT kind, chance, score FROM composition WHERE model = 'random'
  title: Random heads compose as much as chance says
  x: chance
  y: score
  color: kind
  diagonal: true
";
}

struct Placed<'a> {
    scatter: &'a Scatter,
    series: Series,
    /// The point of each row.
    points: Vec<Option<(f64, f64)>>,
    x: Scale,
    y: Scale,
    framed: Framed,
    legend: Legend,
}

impl Scatter {
    fn names(&self) -> Names<'_> {
        Names {
            y: &self.y,
            color: self.color.as_deref(),
            facet: self.facet.as_deref(),
            low: self.low.as_deref(),
            high: self.high.as_deref(),
        }
    }

    fn place(&self, data: &DataFrame, title: &str) -> Result<Placed<'_>> {
        self.check()?;
        let fonts = Fonts::embedded()?;
        let series = self.names().read(data)?;
        let numbers = data::numbers(data, "x", &self.x)?;
        let points: Vec<_> = numbers.iter().zip(&series.y).map(|(x, y)| x.zip(*y)).collect();
        xy::limit_points("points", points.iter().flatten().count())?;
        xy::require_positive(self.x_scale, "x", &self.x, numbers.iter().flatten().copied())?;
        xy::require_positive(self.y_scale, "y", &self.y, series.extent(&self.rule))?;
        let (mut across, mut up) = (Range::of(numbers.into_iter().flatten()), series.range(&self.rule));
        if self.diagonal {
            across = Range::of([across.low, across.high, up.low, up.high].into_iter());
            up = across;
        }
        let (x, y) = (Scale::new(self.x_scale, across).padded(0.04), Scale::new(self.y_scale, up).padded(0.04));

        let width = self.width.map_or(theme::WIDTH, f64::from);
        let named = self.color_label.as_deref().or(self.color.as_deref()).unwrap_or_default();
        let legend = Legend::new(fonts, named, &series.series, &|_| Sample::Marker, width);
        let framed = Frame {
            title,
            facets: &data::facet_titles(&series.facets, self.facet.as_deref()),
            x_label: self.x_label.as_deref().unwrap_or(&self.x),
            y_label: self.y_label.as_deref().unwrap_or(&self.y),
            legend: &legend,
            note: &|_| 0.0,
            x: &[Axis::Numbers(x)],
            y: &[Axis::Numbers(y)],
            shape: if self.diagonal { Shape::Ratio(1.0) } else { Shape::Wide(290.0, 220.0) },
            width: self.width,
            height: self.height,
        }
        .place(fonts)?;
        Ok(Placed { scatter: self, series, points, x, y, framed, legend })
    }
}

impl Figure for Scatter {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        std::iter::once(("x", self.x.as_str())).chain(self.names().columns()).collect()
    }

    fn numbers(&self) -> &'static [&'static str] {
        &["x", "y", "low", "high"]
    }

    fn check(&self) -> Result<()> {
        if self.diagonal && self.x_scale != self.y_scale {
            return Err(Error::parameter("diagonal", "needs the same scale on both axes: set `x_scale` and `y_scale` alike"));
        }
        Ok(())
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        canvas::render(&self.place(data, title)?, title, style)
    }
}

impl Placed<'_> {
    fn at(&self, plot: Rect, (x, y): (f64, f64)) -> Point {
        (plot.x + self.x.fraction(x) * plot.width, xy::height(plot, &self.y, y))
    }

    fn paint_points<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, facet: usize) -> Result<()> {
        let Series { series, facets, interval, .. } = &self.series;
        let here = || (0..self.points.len()).filter(|&row| facets.codes[row] == facet);
        for row in here() {
            if let (Some(point), Some((low, high))) = (self.points[row], interval[row]) {
                let ends = [low, high].map(|end| self.at(plot, (point.0, end)));
                canvas.line(&ends, theme::translucent(legend::series_style(series, series.codes[row]).color, 0.5), 1.0)?;
            }
        }
        xy::paint_points(canvas, series, here().filter_map(|row| Some((self.at(plot, self.points[row]?), series.codes[row]))))
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
            xy::paint_ground(canvas, panel, &Axis::Numbers(self.x), below, left)?;
            if self.scatter.diagonal {
                // Both axes are the same, so the line runs from corner to corner.
                canvas.dashed(&[(plot.x, plot.bottom()), (plot.right(), plot.y)], theme::MUTED, 1.0, &[4.0, 3.0])?;
            }
            canvas.line(&[(plot.x, plot.bottom()), (plot.right(), plot.bottom())], theme::AXIS, 1.0)?;
            self.paint_points(canvas, plot, facet)?;
            xy::paint_rules(canvas, plot, &self.scatter.rule, &self.y, facet == 0)?;
        }
        Ok(())
    }
}
