//! What figures with two axes have in common: numbers with intervals, series, facets, reference lines, and the place of the panels.

use super::axis::{Axis, Ticks};
use super::canvas::{Canvas, Point, Rect, Type};
use super::data::{self, Categories};
use super::font::{Fonts, Weight};
use super::layout::{self, Layout, Panel, Surround};
use super::legend::{self, Legend};
use super::scale::{Range, Scale, ScaleKind};
use super::theme;
use crate::{Error, Result};
use plotters::prelude::DrawingBackend;
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashSet;

/// More points than this are a grey cloud in a large file.
const MOST_POINTS: usize = 20_000;

/// A reference line across the axis of numbers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where it lies on the axis.
    pub value: f64,
    /// What it stands for, written beside it in the first panel.
    #[serde(default)]
    pub label: Option<String>,
}

/// The columns of a figure's numbers, as the experiment file names them.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Numbers of the y axis.
    pub y: &'a str,
    /// Series.
    pub color: Option<&'a str>,
    /// Facets.
    pub facet: Option<&'a str>,
    /// Lower ends of intervals.
    pub low: Option<&'a str>,
    /// Upper ends of intervals.
    pub high: Option<&'a str>,
}

/// Numbers of a table by row.
#[derive(Clone, Debug)]
pub struct Series {
    /// The series of each row.
    pub series: Categories,
    /// The facet of each row.
    pub facets: Categories,
    /// The value of each row.
    pub y: Vec<Option<f64>>,
    /// The interval around it.
    pub interval: Vec<Option<(f64, f64)>>,
}

impl<'a> Names<'a> {
    /// The columns with the parameters that name them.
    pub fn columns(self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let Self { y, color, facet, low, high } = self;
        let optional = [("color", color), ("facet", facet), ("low", low), ("high", high)];
        std::iter::once(("y", y)).chain(optional.into_iter().filter_map(|(parameter, column)| Some((parameter, column?))))
    }

    /// Reads the columns.
    ///
    /// # Errors
    /// [`Error::Figure`] if one is missing or holds no numbers, only one end of the intervals is named, there are too many facets or
    /// series, or no rows.
    pub fn read(&self, data: &DataFrame) -> Result<Series> {
        data::require_rows(data)?;
        let interval = match (self.low, self.high) {
            (Some(low), Some(high)) => {
                let ends = data::numbers(data, "low", low)?.into_iter().zip(data::numbers(data, "high", high)?);
                ends.map(|(low, high)| low.zip(high)).collect()
            }
            (None, None) => vec![None; data.height()],
            (Some(_), None) => {
                return Err(Error::Figure("`low` is given without `high`: name both ends of the interval".into()));
            }
            (None, Some(_)) => {
                return Err(Error::Figure("`high` is given without `low`: name both ends of the interval".into()));
            }
        };
        Ok(Series {
            series: data::series(data, self.color)?,
            facets: data::facets(data, self.facet)?,
            y: data::numbers(data, "y", self.y)?,
            interval,
        })
    }

    /// Refuses two rows with the same x, series and facet; `x` gives the text and the index of a row's x.
    ///
    /// # Errors
    /// [`Error::Figure`] that says how to aggregate.
    pub fn require_unique(&self, values: &Series, name: &str, x: &Categories) -> Result<()> {
        let Series { series, facets, .. } = values;
        data::require_unique(
            x.codes.len(),
            |row| (x.codes[row], series.codes[row], facets.codes[row]),
            |row| {
                let named = [(Some(name), x), (self.color, series), (self.facet, facets)];
                let words = named.iter().filter_map(|(n, c)| n.map(|n| format!("{n} = {}", c.labels[c.codes[row]])));
                words.collect::<Vec<_>>().join(", ")
            },
            &format!(
                "aggregate them in the query (SELECT {name}, AVG({y}) AS {y} … GROUP BY {name}) or name the column that tells them apart as `color` or `facet`",
                y = self.y
            ),
        )
    }
}

/// Refuses numbers that a log axis cannot show.
///
/// # Errors
/// [`Error::Figure`] that names the column.
pub fn require_positive(kind: ScaleKind, axis: &str, column: &str, values: impl Iterator<Item = f64>) -> Result<()> {
    let wrong = if kind == ScaleKind::Log { values.filter(|v| *v <= 0.0).count() } else { 0 };
    if wrong > 0 {
        return Err(Error::Figure(format!(
            "`{axis}_scale: log` needs numbers above 0, but `{column}` has {wrong} that are not: leave them out with WHERE or use `linear`"
        )));
    }
    Ok(())
}

impl Series {
    /// All numbers that the y axis must reach.
    pub fn extent(&self, rules: &[Rule]) -> impl Iterator<Item = f64> {
        let values = self.y.iter().flatten().copied();
        let ends = self.interval.iter().flatten().flat_map(|(low, high)| [*low, *high]);
        values.chain(ends).chain(rules.iter().map(|r| r.value).collect::<Vec<_>>())
    }

    /// The range of the y axis.
    pub fn range(&self, rules: &[Rule]) -> Range {
        Range::of(self.extent(rules))
    }
}

/// The sides of a panel.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// As wide as there is room, and at most so high: in a figure with one column of panels, and with several.
    Wide(f64, f64),
    /// Height over width, the same unit on both axes.
    Ratio(f64),
}

/// What decides where the panels of a figure with two axes go.
pub struct Frame<'a> {
    /// The message of the figure.
    pub title: &'a str,
    /// Titles of the panels; a single empty one for a figure without facets.
    pub facets: &'a [String],
    /// Label of the x axis.
    pub x_label: &'a str,
    /// Label of the y axis.
    pub y_label: &'a str,
    /// The legend.
    pub legend: &'a Legend,
    /// Height of the notes above panels of a width.
    pub note: &'a dyn Fn(f64) -> f64,
    /// The x axis: shared, or one for each panel.
    pub x: &'a [Axis],
    /// The y axis, as `x`.
    pub y: &'a [Axis],
    /// The sides of a panel.
    pub shape: Shape,
    /// Width of the figure, if it says its own.
    pub width: Option<u32>,
    /// Height of the figure, if it says its own.
    pub height: Option<u32>,
}

/// A figure with two axes in place.
#[derive(Clone, Debug)]
pub struct Framed {
    /// Everything but the data.
    pub layout: Layout,
    /// Ticks below: shared, or for each panel.
    pub below: Vec<Ticks>,
    /// Ticks to the left, as `below`.
    pub left: Vec<Ticks>,
}

impl Frame<'_> {
    /// Puts the panels in place.
    ///
    /// # Errors
    /// [`Error::Figure`] if there is no font.
    pub fn place(&self, fonts: &Fonts) -> Result<Framed> {
        let width = self.width.map_or(theme::WIDTH, f64::from);
        let below = |length: f64| self.x.iter().map(|axis| axis.below(fonts, length)).collect::<Vec<_>>();
        let left = |length: f64| self.y.iter().map(|axis| axis.left(fonts, length)).collect::<Vec<_>>();
        let extent = |ticks: &[Ticks]| ticks.iter().map(|t| t.extent).fold(0.0, f64::max).ceil();
        let mut surround = Surround {
            title: self.title,
            facets: self.facets,
            x_label: self.x_label,
            y_label: self.y_label,
            columns: layout::balanced_columns(self.facets.len(), width, 170.0),
            legend: self.legend.height,
            note: 0.0,
            y_ticks: extent(&left(300.0)),
            x_ticks: 0.0,
            side: 0.0,
            own_axes: self.x.len() > 1 || self.y.len() > 1,
        };
        let mut panel_width = surround.panel_width(width);
        surround.x_ticks = extent(&below(panel_width));
        surround.note = (self.note)(panel_width);
        let asked = self.height.map(|height| surround.panel_height(width, height.into())).transpose()?;
        match self.shape {
            Shape::Wide(one, several) => {
                let most = if surround.columns == 1 { one } else { several };
                let panel_height = asked.unwrap_or_else(|| (panel_width * 0.7).round().clamp(120.0, most));
                let left = left(panel_height);
                surround.y_ticks = extent(&left);
                panel_width = surround.panel_width(width);
                let layout = surround.place((panel_width, panel_height), width)?;
                Ok(Framed { layout, below: below(panel_width), left })
            }
            Shape::Ratio(ratio) => {
                let most = asked.unwrap_or(if surround.columns == 1 { 340.0 } else { 280.0 });
                panel_width = panel_width.min(most / ratio).floor();
                surround.note = (self.note)(panel_width);
                let panel_height = (panel_width * ratio).round();
                let left = left(panel_height);
                surround.y_ticks = extent(&left);
                let least = self.width.map_or(layout::NARROW, f64::from).max(self.legend.width);
                let layout = surround.place((panel_width, panel_height), least)?;
                Ok(Framed { layout, below: below(panel_width), left })
            }
        }
    }
}

impl Framed {
    /// The panels with their ticks below and to the left.
    pub fn panels(&self) -> impl Iterator<Item = (&Panel, &Ticks, &Ticks)> {
        let of = |all: &'_ [Ticks], index: usize| index.min(all.len() - 1);
        let ticks = move |index: usize| (&self.below[of(&self.below, index)], &self.left[of(&self.left, index)]);
        self.layout.panels.iter().enumerate().map(move |(index, panel)| {
            let (below, left) = ticks(index);
            (panel, below, left)
        })
    }
}

/// Draws what lies behind the data of a panel: grid lines, axes and tick labels.
///
/// # Errors
/// [`Error::Figure`] if the backend fails, as for all drawing here.
pub fn paint_ground<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    panel: &Panel,
    x: &Axis,
    below: &Ticks,
    left: &Ticks,
) -> Result<()> {
    left.paint_rows(canvas, panel.plot)?;
    if let Axis::Numbers(_) = x {
        below.paint_columns(canvas, panel.plot)?;
    }
    if panel.y_ticks {
        left.paint_left(canvas, panel.plot)?;
    }
    if panel.x_ticks {
        below.paint_below(canvas, panel.plot)?;
    }
    Ok(())
}

/// Draws reference lines over a panel, with their labels in the `first`.
///
/// # Errors
/// As for [`paint_ground`].
pub fn paint_rules<DB: DrawingBackend>(canvas: &Canvas<DB>, plot: Rect, rules: &[Rule], y: &Scale, first: bool) -> Result<()> {
    let mut lines: Vec<(f64, &Rule)> = rules.iter().map(|r| (height(plot, y, r.value), r)).collect();
    for (at, _) in &lines {
        canvas.dashed(&[(plot.x, *at), (plot.right(), *at)], theme::MUTED, 1.0, &[4.0, 3.0])?;
    }
    if !first {
        return Ok(());
    }
    // From the top, each label above its line unless another label or the edge of the panel is there.
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut taken = plot.y;
    for (at, rule) in lines {
        let Some(label) = rule.label.as_deref() else { continue };
        let label = canvas.fonts.fit(label, Weight::Regular, theme::TICK, plot.width - 8.0);
        let baseline =
            if at - 4.0 - theme::TICK >= taken { at - 4.0 } else { (at + 4.0 + theme::TICK * 0.8).max(taken + theme::TICK) };
        let width = canvas.fonts.width(&label, Weight::Regular, theme::TICK);
        let ground = Rect { x: plot.right() - width - 5.0, y: baseline - 10.0, width: width + 4.0, height: 12.0 };
        canvas.fill(ground, theme::translucent(theme::PAPER, 0.8))?;
        canvas.text(&label, (plot.right() - 3.0, baseline), Type::new(theme::TICK, theme::MUTED).anchored(1.0, 1.0))?;
        taken = baseline + 2.0;
    }
    Ok(())
}

/// Refuses more points, or other `things`, than can be told apart.
///
/// # Errors
/// [`Error::Figure`] that says how many there are.
pub fn limit_points(things: &str, count: usize) -> Result<()> {
    if count > MOST_POINTS {
        return Err(Error::Figure(format!(
            "the table has {count} {things}, and at most {MOST_POINTS} are drawn: choose some with WHERE in the query"
        )));
    }
    Ok(())
}

/// Draws points in their order, each with the index of its series. Those of one series at one place are drawn once.
///
/// # Errors
/// As for [`paint_ground`].
pub fn paint_points<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    series: &Categories,
    points: impl Iterator<Item = (Point, usize)>,
) -> Result<()> {
    let unit = |at: f64| (at * theme::UNITS).round() as i64;
    let mut seen = HashSet::new();
    let points: Vec<_> = points.filter(|((x, y), series)| seen.insert((unit(*x), unit(*y), *series))).collect();
    let size = if points.len() > 400 { 0.6 } else { 1.0 };
    for (at, index) in points {
        let style = legend::series_style(series, index);
        legend::paint_marker_of_size(canvas, at, style.marker, theme::translucent(style.color, 0.75), size)?;
    }
    Ok(())
}

/// Where `value` lies in `plot`, in pixels from the top of the figure.
pub fn height(plot: Rect, y: &Scale, value: f64) -> f64 {
    plot.bottom() - y.fraction(value) * plot.height
}
