//! `complex_plane`: eigenvalues as points, and how positive they are.

use super::axis::Axis;
use super::canvas::{self, Canvas, Point, Rect, Scene, Type};
use super::data::{self, Categories};
use super::font::{Fonts, Weight};
use super::layout::{NOTE, Panel};
use super::legend::{self, Legend, Sample};
use super::scale::{self, Range, Scale, ScaleKind};
use super::xy::{self, Frame, Framed, Names, Series, Shape};
use super::{Drawing, Figure, Style, theme};
use crate::circuit::weights::positive_share;
use crate::kind::Described;
use crate::linalg::Complex;
use crate::{Error, Result};
use plotters::prelude::DrawingBackend;
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;

/// What the notes write a number of.
const SHARE: &str = "Σ Re λ / Σ |λ|";
/// Space between two entries of the notes.
const APART: f64 = 10.0;
/// Width of the marker before a number of the notes.
const MARKER: f64 = 12.0;
/// Sides of the polygon that stands for the circle.
const SIDES: usize = 128;

/// Which lengths are equal in the panels of a complex plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// All panels have the same axes.
    #[default]
    Shared,
    /// Every panel has axes of its own.
    Own,
    /// The points of every panel are divided by the largest absolute value in it: the axes reach from −1 to 1 in all.
    Unit,
}

/// Eigenvalues as points of the complex plane, with the same unit on both axes. Above each panel stands the positive share of its
/// points, Σ Re λ / Σ |λ|, for each colour on its own: 1 if all are positive, −1 if all are negative, about 0 for random matrices.
/// Of the eigenvalues of a head's full OV circuit it is the copying score. Points with a null are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComplexPlane {
    /// Column of numbers: the real parts.
    #[serde(default = "re")]
    pub x: String,
    /// Column of numbers: the imaginary parts.
    #[serde(default = "im")]
    pub y: String,
    /// Column with a colour and marker for each of its values, at most 24.
    #[serde(default)]
    pub color: Option<String>,
    /// Column with a panel for each of its values, at most 24.
    #[serde(default)]
    pub facet: Option<String>,
    /// Which lengths are equal in all panels. The positive share does not depend on it.
    #[serde(default)]
    pub scale: Scaling,
    /// Radius of a circle around 0, for comparison: 1 bounds the points under `scale: unit`. In the units of the axes.
    #[serde(default)]
    pub circle: Option<f64>,
    /// Label of the x axis. Default: `real part`.
    #[serde(default)]
    pub x_label: Option<String>,
    /// Label of the y axis. Default: `imaginary part`.
    #[serde(default)]
    pub y_label: Option<String>,
    /// Title of the legend. Default: the column's name.
    #[serde(default)]
    pub color_label: Option<String>,
    /// Width of the figure in pixels. Default: 720, or less if the panels need less.
    #[serde(default)]
    #[schemars(range(min = 200, max = 2400))]
    pub width: Option<u32>,
    /// Height of the figure in pixels. Default: what suits the number of panels.
    #[serde(default)]
    #[schemars(range(min = 120, max = 2400))]
    pub height: Option<u32>,
}

default_columns!(re, im);

impl Described for ComplexPlane {
    const NAME: &'static str = "complex_plane";
    const EXAMPLE: &'static str = "\
- figure: complex_plane
  of: SELECT model, re, im FROM eigenvalues WHERE circuit = 'full_ov' AND layer = 1
  title: The eigenvalues of copying heads are positive, those of random heads have no direction
  facet: model
  scale: unit
  circle: 1
";
}

/// What is written above a panel.
#[derive(Debug, Default, PartialEq)]
struct Notes {
    /// For each series with points in the panel, its index and positive share.
    shares: Vec<(usize, Option<f64>)>,
}

struct Placed<'a> {
    plane: &'a ComplexPlane,
    series: Series,
    /// The point of each row, in the units of the axes.
    points: Vec<Option<(f64, f64)>>,
    axes: Vec<(Scale, Scale)>,
    notes: Vec<Notes>,
    framed: Framed,
    legend: Legend,
}

impl Notes {
    fn text(share: Option<f64>) -> String {
        share.map_or("undefined".into(), |share| scale::minus(format!("{share:.2}")))
    }

    /// Where each entry starts, and the number of lines, in a panel of `width`. The first place is that of the words.
    fn places(&self, fonts: &Fonts, width: f64, markers: bool) -> (Vec<Point>, f64) {
        let wide = |text: &str| fonts.width(text, Weight::Regular, theme::TICK);
        let (mut x, mut line) = (wide(SHARE) + APART, 0.0);
        let mut places = vec![(0.0, 0.0)];
        for (_, share) in &self.shares {
            let entry = wide(&Self::text(*share)) + if markers { MARKER } else { 0.0 };
            if x > 0.0 && x + entry > width {
                (x, line) = (0.0, line + NOTE);
            }
            places.push((x, line));
            x += entry + APART;
        }
        (places, line + NOTE)
    }
}

impl ComplexPlane {
    fn names(&self) -> Names<'_> {
        Names { y: &self.y, color: self.color.as_deref(), facet: self.facet.as_deref(), low: None, high: None }
    }

    /// The axes that hold `points`, 0 and the circle, and the ratio of their lengths.
    fn axes(&self, points: &[(f64, f64)], square: bool) -> ((Scale, Scale), f64) {
        let circle = self.circle.unwrap_or(0.0);
        let with = |values: Vec<f64>| Range::of(values.into_iter().chain([-circle, 0.0, circle]));
        let x = with(points.iter().map(|p| p.0).collect()).padded(0.06);
        // Real matrices have their eigenvalues in pairs: the figure is symmetric, too.
        let y = with(points.iter().flat_map(|p| [p.1, -p.1]).collect()).padded(0.06);
        let (across, up) = (x.reach(), y.reach());
        let longest = across.max(up);
        if longest <= 0.0 {
            let unit = Range { low: -1.0, high: 1.0 };
            return ((Scale::new(ScaleKind::Linear, unit), Scale::new(ScaleKind::Linear, unit)), 1.0);
        }
        let least = if square { longest } else { longest * 0.5 };
        let (x, y) = (x.opened(least), y.opened(least));
        let ratio = y.reach() / x.reach();
        let ratio = if ratio.is_finite() && ratio > 0.0 { ratio } else { 1.0 };
        ((Scale::new(ScaleKind::Linear, x), Scale::new(ScaleKind::Linear, y)), ratio)
    }

    fn place(&self, data: &DataFrame, title: &str) -> Result<Placed<'_>> {
        self.check()?;
        let fonts = Fonts::embedded()?;
        let series = self.names().read(data)?;
        let x = data::numbers(data, "x", &self.x)?;
        let mut points: Vec<_> = x.into_iter().zip(&series.y).map(|(x, y)| x.zip(*y)).collect();
        xy::limit_points("points", points.iter().flatten().count())?;
        let Categories { codes, labels, .. } = &series.facets;
        let notes: Vec<_> = (0..labels.len())
            .map(|facet| {
                let shares = (0..series.series.len()).filter_map(|index| {
                    let here = (0..points.len()).filter(|&row| codes[row] == facet && series.series.codes[row] == index);
                    let here: Vec<_> = here.filter_map(|row| points[row]).map(|(re, im)| Complex::new(re, im)).collect();
                    (!here.is_empty()).then(|| (index, positive_share(&here)))
                });
                Notes { shares: shares.collect() }
            })
            .collect();
        if self.scale == Scaling::Unit {
            for facet in 0..labels.len() {
                let here = |row: &usize| codes[*row] == facet;
                let largest = (0..points.len())
                    .filter(here)
                    .filter_map(|row| points[row])
                    .fold(0.0, |m: f64, (x, y)| m.max((x / 2.0).hypot(y / 2.0)));
                if largest > 0.0 {
                    for row in (0..points.len()).filter(here) {
                        points[row] = points[row].map(|(x, y)| (x / 2.0 / largest, y / 2.0 / largest));
                    }
                }
            }
        }
        let own = self.scale == Scaling::Own && labels.len() > 1;
        let (axes, ratios): (Vec<_>, Vec<_>) = if own {
            let of = |facet| (0..points.len()).filter(|&row| codes[row] == facet).filter_map(|row| points[row]).collect();
            (0..labels.len()).map(|facet| self.axes(&Vec::from_iter::<Vec<_>>(of(facet)), true)).unzip()
        } else {
            let all: Vec<_> = points.iter().flatten().copied().collect();
            [self.axes(&all, false)].into_iter().unzip()
        };

        let named = self.color_label.as_deref().or(self.color.as_deref()).unwrap_or_default();
        let width = self.width.map_or(theme::WIDTH, f64::from);
        let legend = Legend::new(fonts, named, &series.series, &|_| Sample::Marker, width);
        let markers = self.color.is_some();
        let framed = Frame {
            title,
            facets: &data::facet_titles(&series.facets, self.facet.as_deref()),
            x_label: self.x_label.as_deref().unwrap_or("real part"),
            y_label: self.y_label.as_deref().unwrap_or("imaginary part"),
            legend: &legend,
            note: &|width| notes.iter().map(|n| n.places(fonts, width, markers).1).fold(0.0, f64::max),
            x: &axes.iter().map(|(x, _)| Axis::Numbers(*x)).collect::<Vec<_>>(),
            y: &axes.iter().map(|(_, y)| Axis::Numbers(*y)).collect::<Vec<_>>(),
            shape: Shape::Ratio(ratios[0]),
            width: self.width,
            height: self.height,
        }
        .place(fonts)?;
        Ok(Placed { plane: self, series, points, axes, notes, framed, legend })
    }
}

impl Figure for ComplexPlane {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        std::iter::once(("x", self.x.as_str())).chain(self.names().columns()).collect()
    }

    fn numbers(&self) -> &'static [&'static str] {
        &["x", "y"]
    }

    fn check(&self) -> Result<()> {
        match self.circle {
            Some(radius) if radius <= 0.0 => {
                Err(Error::parameter("circle", "the radius must be above 0; leave `circle` out for none"))
            }
            _ => Ok(()),
        }
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        canvas::render(&self.place(data, title)?, title, style)
    }
}

impl Placed<'_> {
    fn axes(&self, facet: usize) -> &(Scale, Scale) {
        &self.axes[facet.min(self.axes.len() - 1)]
    }

    fn paint_notes<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, panel: &Panel, facet: usize) -> Result<()> {
        let notes = &self.notes[facet];
        if notes.shares.is_empty() {
            return Ok(());
        }
        let markers = self.plane.color.is_some();
        let (places, _) = notes.places(canvas.fonts, panel.plot.width, markers);
        let (left, middle) = panel.note_start();
        let look = Type::new(theme::TICK, theme::MUTED).anchored(0.0, 0.5);
        canvas.text(SHARE, (left, middle), look)?;
        for ((x, y), (series, share)) in places[1..].iter().zip(&notes.shares) {
            let (mut x, y) = (left + x, middle + y);
            if markers {
                let style = legend::series_style(&self.series.series, *series);
                legend::paint_marker(canvas, (x + 4.0, y), style.marker, style.color)?;
                x += MARKER;
            }
            canvas.text(&Notes::text(*share), (x, y), Type::new(theme::TICK, theme::INK).bold().anchored(0.0, 0.5))?;
        }
        Ok(())
    }

    fn paint_plane<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, facet: usize) -> Result<()> {
        let (x, y) = self.axes(facet);
        let at = |(re, im): (f64, f64)| (plot.x + x.fraction(re) * plot.width, xy::height(plot, y, im));
        let zero = at((0.0, 0.0));
        canvas.line(&[(plot.x, zero.1), (plot.right(), zero.1)], theme::AXIS, 1.0)?;
        canvas.line(&[(zero.0, plot.y), (zero.0, plot.bottom())], theme::AXIS, 1.0)?;
        if let Some(radius) = self.plane.circle {
            let corner = |i: usize| {
                let (sin, cos) = (std::f64::consts::TAU * i as f64 / SIDES as f64).sin_cos();
                at((radius * cos, radius * sin))
            };
            canvas.dashed(&(0..=SIDES).map(corner).collect::<Vec<_>>(), theme::MUTED, 1.0, &[4.0, 3.0])?;
        }
        let codes = &self.series.facets.codes;
        let here = (0..self.points.len()).filter(|&row| codes[row] == facet);
        let rows = here.filter_map(|row| Some((at(self.points[row]?), self.series.series.codes[row])));
        xy::paint_points(canvas, &self.series.series, rows)
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
            xy::paint_ground(canvas, panel, &Axis::Numbers(self.axes(facet).0), below, left)?;
            self.paint_plane(canvas, panel.plot, facet)?;
            self.paint_notes(canvas, panel, facet)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;

    fn plane(parameters: serde_json::Value) -> ComplexPlane {
        serde_json::from_value(parameters).unwrap()
    }

    #[test]
    fn shares_are_those_of_the_points_of_each_panel_and_colour() {
        let data =
            df!("re" => [Some(3.0), Some(-1.0), Some(0.0), Some(0.0), Some(5.0), None], "im" => [4.0, 0.0, 2.0, 0.0, 0.0, 1.0],
            "kind" => ["a", "a", "b", "b", "b", "a"], "model" => ["m", "m", "m", "n", "m", "m"])
            .unwrap();
        let plane = plane(serde_json::json!({"color": "kind", "facet": "model"}));
        for scaling in [Scaling::Shared, Scaling::Own, Scaling::Unit] {
            let plane = ComplexPlane {
                scale: scaling,
                ..serde_json::from_value(serde_json::json!({"color": "kind", "facet": "model"})).unwrap()
            };
            let placed = plane.place(&data, "").unwrap();
            // a in m: (3 − 1)/(5 + 1); b in m: 5/(2 + 5); b in n: only 0.
            let shares = |panel: usize| placed.notes[panel].shares.clone();
            assert!(
                matches!(shares(0)[..], [(0, Some(a)), (1, Some(b))] if (a - 2.0 / 6.0).abs() < 1e-12 && (b - 5.0 / 7.0).abs() < 1e-12)
            );
            assert_eq!(shares(1), [(1, None)]);
        }
        assert_eq!(plane.place(&data, "").unwrap().axes.len(), 1);
    }

    #[test]
    fn a_unit_is_as_long_on_both_axes() {
        let data = df!("re" => [8.0, 1.0, -2.0], "im" => [0.5, -0.5, 0.0], "model" => ["m", "m", "n"]).unwrap();
        for parameters in [
            serde_json::json!({}),
            serde_json::json!({"facet": "model", "scale": "own"}),
            serde_json::json!({"facet": "model", "scale": "unit"}),
        ] {
            let plane = plane(parameters);
            let placed = plane.place(&data, "").unwrap();
            for (facet, panel) in placed.framed.layout.panels.iter().enumerate() {
                let (x, y) = placed.axes(facet);
                let across = (x.fraction(1.0) - x.fraction(0.0)) * panel.plot.width;
                let up = (y.fraction(1.0) - y.fraction(0.0)) * panel.plot.height;
                assert!((across / up - 1.0).abs() < 0.01, "{across} {up}");
            }
        }
    }
}
