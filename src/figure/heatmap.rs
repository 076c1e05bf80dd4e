//! `heatmap`: a number for each pair of two categories, as colour.

use super::colormap::ColorScale;
use super::data;
use super::matrix::{self, Cell, Matrix};
use super::{Drawing, Figure, Style};
use crate::kind::Described;
use crate::{Error, Result};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;

/// A number for each pair of two categories, as colour: heads by layers, components by components. Cells without a row, or with
/// null, are hatched. Two rows for one cell are an error: aggregate in the query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Heatmap {
    /// Column whose values stand along the x axis: numbers in their order, words in the order of the table.
    pub x: String,
    /// Column whose values stand along the y axis, from the top.
    pub y: String,
    /// Column of numbers that are shown as colour.
    pub color: String,
    /// Column with a panel for each of its values, at most 24. The colours mean the same in all panels.
    #[serde(default)]
    pub facet: Option<String>,
    /// Value at the neutral middle of a diverging colour map: blue is below it, red above.
    #[serde(default)]
    pub center: Option<f64>,
    /// Whether the colours diverge from `center`, or from 0 if that is not given. Default: only if `center` is given.
    #[serde(default)]
    pub diverging: Option<bool>,
    /// Value of the first colour; smaller ones get it too. Default: the least value.
    #[serde(default)]
    pub min: Option<f64>,
    /// Value of the last colour; greater ones get it too. Default: the greatest value.
    #[serde(default)]
    pub max: Option<f64>,
    /// Whether the values are written in the cells. Default: where they fit and are few.
    #[serde(default)]
    pub annotate: Option<bool>,
    /// Label of the x axis. Default: the column's name.
    #[serde(default)]
    pub x_label: Option<String>,
    /// Label of the y axis. Default: the column's name.
    #[serde(default)]
    pub y_label: Option<String>,
    /// Label of the colour bar, with the unit. Default: the column's name.
    #[serde(default)]
    pub color_label: Option<String>,
    /// Width of the figure in pixels. Default: 720, or less if the cells need less.
    #[serde(default)]
    #[schemars(range(min = 200, max = 2400))]
    pub width: Option<u32>,
    /// Height of the figure in pixels. Default: what makes the cells square, within reason.
    #[serde(default)]
    #[schemars(range(min = 120, max = 2400))]
    pub height: Option<u32>,
}

impl Described for Heatmap {
    const NAME: &'static str = "heatmap";
    const EXAMPLE: &'static str = "\
- figure: heatmap
  of: SELECT model, layer, head, value FROM head_scores WHERE score = 'prefix_matching' AND replicate = 1
  title: Heads of layer 1 look behind earlier copies of the current token
  x: head
  y: layer
  color: value
  facet: model
  color_label: attention to the token after the earlier copy (probability)
";
}

impl Figure for Heatmap {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        let mut columns = vec![("x", self.x.as_str()), ("y", &self.y), ("color", &self.color)];
        columns.extend(self.facet.as_deref().map(|facet| ("facet", facet)));
        columns
    }

    fn numbers(&self) -> &'static [&'static str] {
        &["color"]
    }

    fn check(&self) -> Result<()> {
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min >= max
        {
            return Err(Error::parameter("min", format!("`min: {min}` must be less than `max: {max}`")));
        }
        Ok(())
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        data::require_rows(data)?;
        self.check()?;
        let x = data::categories(data, "x", &self.x)?;
        let y = data::categories(data, "y", &self.y)?;
        let facets = data::facets(data, self.facet.as_deref())?;
        let values = data::numbers(data, "color", &self.color)?;
        data::require_unique(
            data.height(),
            |row| (x.codes[row], y.codes[row], facets.codes[row]),
            |row| {
                let facet = self.facet.as_ref().map(|f| format!(", {f} = {}", facets.labels[facets.codes[row]]));
                format!(
                    "the cell {} = {}, {} = {}{}",
                    self.x,
                    x.labels[x.codes[row]],
                    self.y,
                    y.labels[y.codes[row]],
                    facet.unwrap_or_default()
                )
            },
            &format!(
                "aggregate them in the query (SELECT {x}, {y}, AVG({c}) AS {c} … GROUP BY {x}, {y}) or name the column that tells them apart as `facet`",
                x = self.x,
                y = self.y,
                c = self.color
            ),
        )?;

        let mut panels = matrix::blank_panels(facets.len(), x.len(), y.len(), Cell::Missing)?;
        for (row, value) in values.iter().enumerate() {
            if let Some(value) = value {
                panels[facets.codes[row]][y.codes[row] * x.len() + x.codes[row]] = Cell::Value(*value);
            }
        }
        let center = if self.diverging.unwrap_or(true) { self.center } else { None };
        let center = center.or(if self.diverging == Some(true) { Some(0.0) } else { None });
        Matrix {
            title,
            x_label: self.x_label.as_deref().unwrap_or(&self.x),
            y_label: self.y_label.as_deref().unwrap_or(&self.y),
            color_label: self.color_label.as_deref().unwrap_or(&self.color),
            facets: data::facet_titles(&facets, self.facet.as_deref()),
            x: vec![x],
            y: vec![y],
            panels,
            scale: ColorScale::new(values.into_iter().flatten(), center, self.min, self.max),
            annotate: self.annotate,
            square: false,
            width: self.width,
            height: self.height,
        }
        .draw(style)
    }
}
