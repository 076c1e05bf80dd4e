//! `circuit_matrix`: a circuit over tokens as a matrix of colours.

use super::colormap::ColorScale;
use super::data;
use super::matrix::{self, Cell, Matrix};
use super::token_names::TokenNames;
use super::{Drawing, Figure, Style};
use crate::kind::Described;
use crate::{Error, Result};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A circuit over tokens as a matrix, red where it is positive and blue where it is negative: what attending to one token does to
/// another (full OV circuit), or how much one token wants to attend to another (full QK circuit). It reads a table with a row token,
/// a column token and a value in each row, as the measure `circuit_table` makes it. Cells without a row, or with null, are hatched.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitMatrix {
    /// Column with the tokens that stand along the y axis, from the top.
    #[serde(default = "row_token")]
    pub row: String,
    /// Column with the tokens that stand along the x axis.
    #[serde(default = "column_token")]
    pub column: String,
    /// Column of numbers that are shown as colour.
    #[serde(default = "value")]
    pub value: String,
    /// Column with a panel for each of its values, at most 24. The colours mean the same in all panels.
    #[serde(default)]
    pub facet: Option<String>,
    /// Names of the tokens, token 0 first: a list, or a JSON file relative to the experiment file, which holds such a list or a
    /// map of names to tokens. Default: the numbers of the tokens.
    #[serde(default)]
    pub tokens: Option<TokenNames>,
    /// Absolute value of the last colours; greater ones get them too. Default: the greatest absolute value.
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
    /// Height of the figure in pixels. Default: what the cells need.
    #[serde(default)]
    #[schemars(range(min = 120, max = 2400))]
    pub height: Option<u32>,
}

default_columns!(row_token, column_token, value);

impl Described for CircuitMatrix {
    const NAME: &'static str = "circuit_matrix";
    const EXAMPLE: &'static str = "\
- figure: circuit_matrix
  of: SELECT row_token, column_token, value FROM circuit_table WHERE circuit = 'full_ov' AND layer = 1 AND head = 0
  title: A copying head makes each token that it attends to more likely
  tokens: [start, a, b, c, d, e]
  x_label: token whose logit changes
  y_label: token attended to
  color_label: change of the logit
";
}

impl Figure for CircuitMatrix {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        let mut columns = vec![("row", self.row.as_str()), ("column", &self.column), ("value", &self.value)];
        columns.extend(self.facet.as_deref().map(|facet| ("facet", facet)));
        columns
    }

    fn numbers(&self) -> &'static [&'static str] {
        // Names are found by the numbers of tokens; without names, the columns may hold words.
        if self.tokens.is_some() { &["row", "column", "value"] } else { &["value"] }
    }

    fn check(&self) -> Result<()> {
        match self.max {
            Some(max) if max <= 0.0 => {
                Err(Error::parameter("max", "must be above 0: it is the absolute value of both last colours"))
            }
            _ => Ok(()),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        TokenNames::files(self.tokens.as_ref())
    }

    fn read(&self, base: &Path) -> Result<Vec<(&'static str, Value)>> {
        TokenNames::read(self.tokens.as_ref(), base)
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        data::require_rows(data)?;
        self.check()?;
        let mut x = data::categories(data, "column", &self.column)?;
        let mut y = data::categories(data, "row", &self.row)?;
        let facets = data::facets(data, self.facet.as_deref())?;
        let values = data::numbers(data, "value", &self.value)?;
        if let Some(tokens) = &self.tokens {
            tokens.label("column", &self.column, &mut x)?;
            tokens.label("row", &self.row, &mut y)?;
        }
        data::require_unique(
            data.height(),
            |row| (x.codes[row], y.codes[row], facets.codes[row]),
            |row| {
                let facet = self.facet.as_ref().map(|f| format!(", {f} = {}", facets.labels[facets.codes[row]]));
                let (row_token, column_token) = (&y.labels[y.codes[row]], &x.labels[x.codes[row]]);
                format!("the cell {} = {row_token}, {} = {column_token}{}", self.row, self.column, facet.unwrap_or_default())
            },
            "choose one circuit of one head with WHERE in the query, or name the column that tells them apart as `facet`",
        )?;
        let mut panels = matrix::blank_panels(facets.len(), x.len(), y.len(), Cell::Missing)?;
        for (row, value) in values.iter().enumerate() {
            if let Some(value) = value {
                panels[facets.codes[row]][y.codes[row] * x.len() + x.codes[row]] = Cell::Value(*value);
            }
        }
        Matrix {
            title,
            x_label: self.x_label.as_deref().unwrap_or(&self.column),
            y_label: self.y_label.as_deref().unwrap_or(&self.row),
            color_label: self.color_label.as_deref().unwrap_or(&self.value),
            facets: data::facet_titles(&facets, self.facet.as_deref()),
            x: vec![x],
            y: vec![y],
            panels,
            scale: ColorScale::new(values.into_iter().flatten(), Some(0.0), self.max.map(|max| -max), self.max),
            annotate: self.annotate,
            square: true,
            width: self.width,
            height: self.height,
        }
        .draw(style)
    }
}
