//! `distribution`: how a number is spread, as a curve of shares, and where single values lie in it.

use super::axis::Axis;
use super::canvas::{self, Canvas, Point, Rect, Scene, Type};
use super::data::{self, Categories};
use super::font::{Fonts, Weight};
use super::legend::{self, Legend, Sample};
use super::scale::{Range, Scale, ScaleKind};
use super::xy::{self, Frame, Framed, Rule, Shape};
use super::{Drawing, Figure, Style, theme};
use crate::kind::Described;
use crate::{Error, Result};
use plotters::prelude::DrawingBackend;
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Up to so many marks in a panel are lines through it; more are ticks at its foot.
const MOST_LINES: usize = 12;
/// Height of a tick at the foot.
const TICK: f64 = 12.0;
/// Height of a row of labels at marks.
const ROW: f64 = 14.0;
/// From the top of a panel to the first row: below the end of the curves.
const TO_ROWS: f64 = 26.0;

/// How a number is spread: for each value, the share of rows that are not greater (the empirical distribution function), a curve of
/// exact steps for each series. Series that `marks` names are no curves: each of their rows is a mark, so that single values stand
/// beside what a null model yields. The legend says how many rows a series has; rows with null are left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Column of numbers along the x axis.
    pub x: String,
    /// Column with a curve for each of its values, at most 24.
    #[serde(default)]
    pub color: Option<String>,
    /// Column with a panel for each of its values, at most 24. All panels have the same axes.
    #[serde(default)]
    pub facet: Option<String>,
    /// Values of `color` whose rows are marked one by one.
    #[serde(default)]
    pub marks: Vec<String>,
    /// Column whose text stands at each mark: the name of a head, say.
    #[serde(default)]
    pub label: Option<String>,
    /// Vertical reference lines: `[{ value: 0, label: chance }]`.
    #[serde(default)]
    pub rule: Vec<Rule>,
    /// How numbers lie along the x axis.
    #[serde(default)]
    pub x_scale: ScaleKind,
    /// Label of the x axis, with the unit. Default: the column's name.
    #[serde(default)]
    pub x_label: Option<String>,
    /// Label of the y axis. Default: `share of values ≤ x`.
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

impl Described for Distribution {
    const NAME: &'static str = "distribution";
    const EXAMPLE: &'static str = "\
- figure: distribution
  of: SELECT model, CONCAT(from_head, ' to ', to_head) AS pair, z FROM composition WHERE kind = 'k'
  title: The trained pairs lie far outside of what random heads reach
  x: z
  color: model
  marks: [trained]
  label: pair
  rule: [{ value: 0, label: chance }]
  x_label: z (standard deviations above chance)
";
}

struct Placed<'a> {
    figure: &'a Distribution,
    series: Categories,
    facets: Categories,
    /// For each series, whether its rows are marks.
    marked: Vec<bool>,
    values: Vec<Option<f64>>,
    labels: Option<Categories>,
    x: Scale,
    y: Scale,
    framed: Framed,
    legend: Legend,
}

/// The steps of the empirical distribution of `values`: each distinct value with the share of values that are not greater.
fn steps(mut values: Vec<f64>) -> Vec<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let share = (index + 1) as f64 / count;
        match steps.last_mut() {
            Some(last) if last.0 == value => last.1 = share,
            _ => steps.push((value, share)),
        }
    }
    steps
}

/// What the legend says of the size of samples, one for each panel that has one.
fn sample_size(counts: &[usize], panels: usize) -> String {
    let (least, most) = (counts.iter().min().copied().unwrap_or(0), counts.iter().max().copied().unwrap_or(0));
    match (panels, least == most) {
        (1, _) => format!("n = {most}"),
        (_, true) => format!("n = {most} in a panel"),
        (_, false) => format!("n = {least} to {most} in a panel"),
    }
}

impl Distribution {
    /// For each series, whether `marks` names it.
    fn marked(&self, series: &Categories) -> Result<Vec<bool>> {
        for mark in &self.marks {
            if !series.labels.contains(mark) {
                let names = series.labels.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
                let color = self.color.as_deref().unwrap_or_default();
                return Err(Error::Figure(format!("`marks` names `{mark}`, but `color: {color}` has {names}")));
            }
        }
        Ok(series.labels.iter().map(|label| self.marks.contains(label)).collect())
    }

    fn place(&self, data: &DataFrame, title: &str) -> Result<Placed<'_>> {
        self.check()?;
        let fonts = Fonts::embedded()?;
        data::require_rows(data)?;
        let values = data::numbers(data, "x", &self.x)?;
        let series = data::series(data, self.color.as_deref())?;
        let facets = data::facets(data, self.facet.as_deref())?;
        let labels = self.label.as_ref().map(|label| data::categories(data, "label", label)).transpose()?;
        let marked = self.marked(&series)?;
        let marks = (0..values.len()).filter(|&row| values[row].is_some() && marked[series.codes[row]]).count();
        xy::limit_points("marks", marks)?;
        let rules = self.rule.iter().map(|rule| rule.value);
        let all: Vec<f64> = values.iter().flatten().copied().chain(rules).collect();
        xy::require_positive(self.x_scale, "x", &self.x, all.iter().copied())?;
        let x = Scale::new(self.x_scale, Range::of(all.into_iter())).padded(0.04);
        let y = Scale::new(ScaleKind::Linear, Range { low: 0.0, high: 1.0 }).padded(0.03);

        let mut counts = vec![vec![0; facets.len()]; series.len()];
        for row in (0..values.len()).filter(|&row| values[row].is_some()) {
            counts[series.codes[row]][facets.codes[row]] += 1;
        }
        let sizes = counts.iter().map(|counts| {
            let here: Vec<usize> = counts.iter().copied().filter(|&count| count > 0).collect();
            sample_size(&here, facets.len())
        });
        let named = series.labels.iter().zip(sizes).map(|(label, size)| match label.as_str() {
            "" => size,
            label => format!("{label} ({size})"),
        });
        let keys = Categories { labels: named.collect(), ..series.clone() };
        let sample = |index: usize| if marked[index] { Sample::Mark } else { Sample::Line { markers: false } };
        let width = self.width.map_or(theme::WIDTH, f64::from);
        let title_of_key = self.color_label.as_deref().or(self.color.as_deref()).unwrap_or_default();
        let legend = Legend::new(fonts, title_of_key, &keys, &sample, width);
        let framed = Frame {
            title,
            facets: &data::facet_titles(&facets, self.facet.as_deref()),
            x_label: self.x_label.as_deref().unwrap_or(&self.x),
            y_label: self.y_label.as_deref().unwrap_or("share of values ≤ x"),
            legend: &legend,
            note: &|_| 0.0,
            x: &[Axis::Numbers(x)],
            y: &[Axis::Numbers(y)],
            shape: Shape::Wide(290.0, 220.0),
            width: self.width,
            height: self.height,
        }
        .place(fonts)?;
        Ok(Placed { figure: self, series, facets, marked, values, labels, x, y, framed, legend })
    }
}

impl Figure for Distribution {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        let optional = [("color", &self.color), ("facet", &self.facet), ("label", &self.label)];
        let named = optional.into_iter().filter_map(|(parameter, column)| Some((parameter, column.as_deref()?)));
        std::iter::once(("x", self.x.as_str())).chain(named).collect()
    }

    fn numbers(&self) -> &'static [&'static str] {
        &["x"]
    }

    fn check(&self) -> Result<()> {
        if !self.marks.is_empty() && self.color.is_none() {
            return Err(Error::parameter("marks", "names values of the column `color`, which is not given"));
        }
        if self.label.is_some() && self.marks.is_empty() {
            return Err(Error::parameter("label", "stands at marks, and `marks` names none"));
        }
        Ok(())
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        canvas::render(&self.place(data, title)?, title, style)
    }
}

impl Placed<'_> {
    /// Rows with a value of a series in a panel.
    fn rows(&self, facet: usize, series: usize) -> impl Iterator<Item = (usize, f64)> {
        (0..self.values.len())
            .filter(move |&row| self.facets.codes[row] == facet && self.series.codes[row] == series)
            .filter_map(|row| Some((row, self.values[row]?)))
    }

    fn across(&self, plot: Rect, value: f64) -> f64 {
        plot.x + self.x.fraction(value) * plot.width
    }

    fn paint_curve<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, facet: usize, series: usize) -> Result<()> {
        let steps = steps(self.rows(facet, series).map(|(_, value)| value).collect());
        if steps.is_empty() {
            return Ok(());
        }
        let unit = |at: f64| (at * theme::UNITS).round();
        let mut points: Vec<Point> = vec![(plot.x, xy::height(plot, &self.y, 0.0))];
        for (value, share) in steps {
            let (x, y) = (self.across(plot, value), xy::height(plot, &self.y, share));
            let last = points[points.len() - 1];
            // Steps that fall on one place of the drawing are one.
            if points.len() > 1 && unit(last.0) == unit(x) {
                points.pop();
            } else {
                points.push((x, last.1));
            }
            points.push((x, y));
        }
        points.push((plot.right(), xy::height(plot, &self.y, 1.0)));
        let style = legend::series_style(&self.series, series);
        canvas.dashed(&points, style.color, 1.75, style.dashes)
    }

    fn paint_marks<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, facet: usize) -> Result<()> {
        let marked = (0..self.series.len()).filter(|&series| self.marked[series]);
        let mut marks: Vec<(f64, usize, usize)> = marked
            .flat_map(|series| self.rows(facet, series).map(move |(row, value)| (value, series, row)))
            .map(|(value, series, row)| (self.across(plot, value), series, row))
            .collect();
        marks.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
        let foot = xy::height(plot, &self.y, 0.0);
        let top = if marks.len() <= MOST_LINES { plot.y } else { foot - TICK };
        for (x, series, _) in &marks {
            let style = legend::series_style(&self.series, *series);
            canvas.line(&[(*x, top), (*x, foot)], style.color, 1.25)?;
            legend::paint_marker(canvas, (*x, foot), style.marker, style.color)?;
        }
        let Some(labels) = &self.labels else { return Ok(()) };
        // Each label in the first row where it touches no other one.
        let rows = ((plot.height - TO_ROWS - TICK) / ROW).max(1.0) as usize;
        let mut taken = vec![f64::NEG_INFINITY; rows];
        let mut written = BTreeSet::new();
        // In ascending order, as the marks are.
        let lines: Vec<f64> = marks.iter().map(|mark| mark.0).collect();
        for (x, series, row) in marks {
            let text = &labels.labels[labels.codes[row]];
            // Rows of one value and name are one label.
            if !written.insert(((x * theme::UNITS).round() as i64, series, text)) {
                continue;
            }
            let text = canvas.fonts.fit(text, Weight::Regular, theme::TICK, plot.width / 2.0);
            let width = canvas.fonts.width(&text, Weight::Regular, theme::TICK);
            // To the right of its line, unless another line or the edge is there and the left is free.
            let up_to = |end: f64| lines.partition_point(|line| *line <= end);
            let below = |end: f64| lines.partition_point(|line| *line < end);
            let free = |from: f64, to: f64| from >= plot.x && to <= plot.right() && below(to) <= up_to(from);
            let (right, left) = (x + 4.0, x - 4.0 - width);
            let left =
                if !free(right, right + width) && free(left, left + width) { left } else { right.min(plot.right() - width) };
            let row = taken.iter().position(|&right| right + 4.0 <= left).unwrap_or(rows - 1);
            taken[row] = left + width;
            let middle = if top == plot.y { plot.y + TO_ROWS + ROW * row as f64 } else { foot - TICK - 8.0 - ROW * row as f64 };
            let ground = Rect { x: left - 1.0, y: middle - 6.0, width: width + 2.0, height: 12.0 };
            canvas.fill(ground, theme::translucent(theme::PAPER, 0.8))?;
            canvas.text(&text, (left, middle), Type::new(theme::TICK, theme::INK).anchored(0.0, 0.5))?;
        }
        Ok(())
    }

    fn paint_rules<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, first: bool) -> Result<()> {
        for rule in &self.figure.rule {
            let x = self.across(plot, rule.value);
            canvas.dashed(&[(x, plot.y), (x, plot.bottom())], theme::MUTED, 1.0, &[4.0, 3.0])?;
            let Some(label) = rule.label.as_deref().filter(|_| first) else { continue };
            let label = canvas.fonts.fit(label, Weight::Regular, theme::TICK, plot.height - 8.0);
            let length = canvas.fonts.width(&label, Weight::Regular, theme::TICK);
            // Left of its line, unless the edge of the panel is there.
            let baseline = if x - 14.0 >= plot.x { x - 4.0 } else { x + 4.0 + theme::TICK * 0.75 };
            let top = plot.y + 3.0;
            let ground = Rect { x: baseline - 9.0, y: top - 2.0, width: 11.0, height: length + 4.0 };
            canvas.fill(ground, theme::translucent(theme::PAPER, 0.8))?;
            let look = Type::new(theme::TICK, theme::MUTED).upward().anchored(1.0, 1.0);
            canvas.text(&label, (baseline, top), look)?;
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
            xy::paint_ground(canvas, panel, &Axis::Numbers(self.x), below, left)?;
            canvas.line(&[(plot.x, plot.bottom()), (plot.right(), plot.bottom())], theme::AXIS, 1.0)?;
            for series in (0..self.series.len()).filter(|&series| !self.marked[series]) {
                self.paint_curve(canvas, plot, facet, series)?;
            }
            self.paint_rules(canvas, plot, facet == 0)?;
            self.paint_marks(canvas, plot, facet)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_at_the_values_and_count_equal_ones_together() {
        assert_eq!(steps(vec![3.0, -1.0, 3.0, 7.0]), [(-1.0, 0.25), (3.0, 0.75), (7.0, 1.0)]);
        assert_eq!(steps(vec![]), []);
    }

    #[test]
    fn the_legend_says_how_many_values_there_are() {
        assert_eq!(sample_size(&[12], 1), "n = 12");
        assert_eq!(sample_size(&[12, 12], 3), "n = 12 in a panel");
        assert_eq!(sample_size(&[12, 5], 2), "n = 5 to 12 in a panel");
        assert_eq!(sample_size(&[], 1), "n = 0");
    }
}
