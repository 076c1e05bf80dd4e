//! `attention`: where heads look, as a lower triangle.

use super::colormap::ColorScale;
use super::data::{self, Categories};
use super::matrix::{self, Cell, Matrix};
use super::token_names::TokenNames;
use super::{Drawing, Figure, Style, scale};
use crate::kind::Described;
use crate::{Error, Result};
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What stands along the axes of an attention pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Labels {
    /// The token at each position.
    #[default]
    Tokens,
    /// The positions.
    Positions,
}

/// Where heads look: the attention from each position (rows) to itself and those before it (columns), as a lower triangle with the
/// tokens on both axes, a panel for each head. It reads the table of the `attention` measure, whose columns are the defaults.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Column with the layer.
    #[serde(default = "layer")]
    pub layer: String,
    /// Column with the head.
    #[serde(default = "head")]
    pub head: String,
    /// Column with the sequence; each makes a panel.
    #[serde(default = "sequence")]
    pub sequence: String,
    /// Column with the position that attends.
    #[serde(default = "destination")]
    pub destination: String,
    /// Column with the position that is attended to.
    #[serde(default = "source")]
    pub source: String,
    /// Column with the token at the destination; not read with `labels: positions`.
    #[serde(default = "destination_token")]
    pub destination_token: String,
    /// Column with the token at the source; not read with `labels: positions`.
    #[serde(default = "source_token")]
    pub source_token: String,
    /// Column with the attention.
    #[serde(default = "value")]
    pub value: String,
    /// Column with more panels: `model`, if the table has several. At most 24 panels in all.
    #[serde(default)]
    pub facet: Option<String>,
    /// What stands along the axes.
    #[serde(default)]
    pub labels: Labels,
    /// Names of the tokens, token 0 first: a list, or a JSON file relative to the experiment file, which holds such a list or a
    /// map of names to tokens. Default: the numbers of the tokens.
    #[serde(default)]
    pub tokens: Option<TokenNames>,
    /// Attention of the first colour. Default: 0, or the least value if there are negative ones.
    #[serde(default)]
    pub min: Option<f64>,
    /// Attention of the last colour. Default: the greatest value.
    #[serde(default)]
    pub max: Option<f64>,
    /// Label of the x axis. Default: `source token`, or `source position`.
    #[serde(default)]
    pub x_label: Option<String>,
    /// Label of the y axis. Default: `destination token`, or `destination position`.
    #[serde(default)]
    pub y_label: Option<String>,
    /// Label of the colour bar. Default: `attention (probability)`.
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

default_columns!(layer, head, sequence, destination, source, destination_token, source_token, value);

impl Described for Attention {
    const NAME: &'static str = "attention";
    const EXAMPLE: &'static str = "\
- figure: attention
  of: SELECT * FROM attention WHERE sequence = 0 AND layer = 1
  title: The heads of layer 1 match what came before
  facet: model
";
}

/// The panel of each row, and the titles of the panels.
struct Panels {
    codes: Vec<usize>,
    titles: Vec<String>,
}

impl Attention {
    fn panels(&self, data: &DataFrame) -> Result<Panels> {
        let facets = match &self.facet {
            Some(facet) => data::categories(data, "facet", facet)?,
            None => Categories::single(data.height()),
        };
        let layers = data::categories(data, "layer", &self.layer)?;
        let heads = data::categories(data, "head", &self.head)?;
        let sequences = data::categories(data, "sequence", &self.sequence)?;
        let key = |row: usize| (facets.codes[row], layers.codes[row], heads.codes[row], sequences.codes[row]);
        let mut index: BTreeMap<_, usize> = (0..data.height()).map(|row| (key(row), 0)).collect();
        data::limit_facets(index.len(), "one panel for each facet, head and sequence")?;
        let facet_titles = data::facet_titles(&facets, self.facet.as_deref());
        let mut titles = Vec::new();
        for ((facet, layer, head, sequence), panel) in &mut index {
            *panel = titles.len();
            let mut title = format!("head {}.{}", layers.labels[*layer], heads.labels[*head]);
            if self.facet.is_some() {
                title = format!("{} · {title}", facet_titles[*facet]);
            }
            if sequences.len() > 1 {
                title += &format!(" · sequence {}", sequences.labels[*sequence]);
            }
            titles.push(title);
        }
        Ok(Panels { codes: (0..data.height()).map(|row| index[&key(row)]).collect(), titles })
    }

    /// The index of each row's position among all positions of the data, of destinations and of sources; and the positions.
    fn positions(&self, data: &DataFrame) -> Result<(Vec<usize>, Vec<usize>, Vec<f64>)> {
        let read = |parameter, name: &str| -> Result<Vec<f64>> {
            data::numbers(data, parameter, name)?
                .into_iter()
                .map(|p| {
                    p.ok_or_else(|| {
                        Error::Figure(format!("`{parameter}: {name}` has rows without a position: leave them out with WHERE"))
                    })
                })
                .collect()
        };
        let (to, from) = (read("destination", &self.destination)?, read("source", &self.source)?);
        let mut all: Vec<f64> = to.iter().chain(&from).copied().collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        let index = |p: &f64| all.partition_point(|q| q < p);
        Ok((to.iter().map(index).collect(), from.iter().map(index).collect(), all))
    }

    /// What stands along an axis: the positions, or the tokens in the column `name` of `parameter` at the places `at`.
    fn labels(
        &self,
        data: &DataFrame,
        column: (&str, &str),
        at: &[usize],
        positions: &[f64],
        panels: &Panels,
    ) -> Result<Vec<Categories>> {
        if self.labels == Labels::Positions {
            let labels = positions.iter().map(|&position| scale::number(position)).collect();
            return Ok(vec![Categories { labels, codes: Vec::new(), numbers: Some(positions.to_vec()) }]);
        }
        let (parameter, name) = column;
        let mut found = data::categories(data, parameter, name)?;
        if let Some(names) = &self.tokens {
            names.label(parameter, name, &mut found)?;
        }
        Ok(tokens(panels, at, positions.len(), &found))
    }
}

/// The tokens at the positions of each panel, once if all panels have the same.
fn tokens(panels: &Panels, positions: &[usize], count: usize, tokens: &Categories) -> Vec<Categories> {
    let mut labels = vec![vec![String::new(); count]; panels.titles.len()];
    for (row, &position) in positions.iter().enumerate() {
        labels[panels.codes[row]][position].clone_from(&tokens.labels[tokens.codes[row]]);
    }
    if labels.windows(2).all(|pair| pair[0] == pair[1]) {
        labels.truncate(1);
    }
    // Tokens that are numbers are thinned out like numbers; as words they would be turned.
    let numbers = tokens.numbers.as_ref().map(|_| vec![f64::NAN; count]);
    labels.into_iter().map(|labels| Categories { labels, codes: Vec::new(), numbers: numbers.clone() }).collect()
}

impl Figure for Attention {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        let mut columns = vec![
            ("layer", self.layer.as_str()),
            ("head", &self.head),
            ("sequence", &self.sequence),
            ("destination", &self.destination),
            ("source", &self.source),
            ("value", &self.value),
        ];
        if self.labels == Labels::Tokens {
            columns.extend([("destination_token", self.destination_token.as_str()), ("source_token", &self.source_token)]);
        }
        columns.extend(self.facet.as_deref().map(|facet| ("facet", facet)));
        columns
    }

    fn numbers(&self) -> &'static [&'static str] {
        &["layer", "head", "sequence", "destination", "source", "value"]
    }

    fn check(&self) -> Result<()> {
        if self.labels == Labels::Positions && self.tokens.is_some() {
            let text = "has no place beside `labels: positions`, where no tokens stand along the axes: leave one of them out";
            return Err(Error::parameter("tokens", text));
        }
        Ok(())
    }

    fn files(&self) -> Vec<PathBuf> {
        TokenNames::files(self.tokens.as_ref())
    }

    fn read(&self, base: &Path) -> Result<Vec<(&'static str, Value)>> {
        TokenNames::read(self.tokens.as_ref(), base)
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        self.check()?;
        data::require_rows(data)?;
        let panels = self.panels(data)?;
        let (to, from, positions) = self.positions(data)?;
        let count = positions.len();
        let values = data::numbers(data, "value", &self.value)?;
        data::require_unique(
            data.height(),
            |row| (panels.codes[row], to[row], from[row]),
            |row| format!("the same destination and source of {}", panels.titles[panels.codes[row]]),
            "if the table has several models, choose one with WHERE in the query or name the column that tells them apart as `facet`",
        )?;

        let mut cells = matrix::blank_panels(panels.titles.len(), count, count, Cell::Blank)?;
        for panel in &mut cells {
            for destination in 0..count {
                panel[destination * count..=destination * (count + 1)].fill(Cell::Missing);
            }
        }
        for (row, value) in values.iter().enumerate() {
            if let Some(value) = value
                && from[row] <= to[row]
            {
                cells[panels.codes[row]][to[row] * count + from[row]] = Cell::Value(*value);
            }
        }
        let x = self.labels(data, ("source_token", &self.source_token), &from, &positions, &panels)?;
        let y = self.labels(data, ("destination_token", &self.destination_token), &to, &positions, &panels)?;
        let what = if self.labels == Labels::Positions { "position" } else { "token" };
        let zero = self.min.is_none().then_some(0.0);
        Matrix {
            title,
            x_label: self.x_label.as_deref().unwrap_or(&format!("source {what}")),
            y_label: self.y_label.as_deref().unwrap_or(&format!("destination {what}")),
            color_label: self.color_label.as_deref().unwrap_or("attention (probability)"),
            scale: ColorScale::new(values.into_iter().flatten().chain(zero), None, self.min, self.max),
            facets: panels.titles,
            x,
            y,
            panels: cells,
            annotate: None,
            square: true,
            width: self.width,
            height: self.height,
        }
        .draw(style)
    }
}
