//! `composition_graph`: which head reads what which other head writes.

use super::canvas::{self, Canvas, Point, Rect, Scene, Type};
use super::data::{self, Categories};
use super::font::{Fonts, Weight};
use super::layout::{self, Layout, NOTE, Surround};
use super::legend::{self, Legend, Sample};
use super::{Drawing, Figure, Style, scale, theme};
use crate::kind::Described;
use crate::model::HeadId;
use crate::{Error, Result};
use plotters::prelude::DrawingBackend;
use polars::prelude::DataFrame;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What is drawn of the default weight: what lies three standard deviations above chance.
const LEAST_Z: f64 = 3.0;
/// Narrowest place of a head.
const PLACE: f64 = 28.0;
/// Size of the box of a head.
const BOX: (f64, f64) = (36.0, 20.0);
/// Widths of the faintest and the strongest line.
const WIDTHS: (f64, f64) = (0.75, 5.0);
/// Strength of the faintest line.
const FAINT: f64 = 0.35;
/// Pieces of a curve.
const PIECES: usize = 24;
/// More kinds than this find no place at a head.
const MOST_KINDS: usize = 6;
/// The channels of the measure `composition`, in the order in which they enter a head.
const CHANNELS: [&str; 3] = ["q", "k", "v"];

/// Which head reads what which other head writes: heads in a row for each layer, the first layer at the bottom, and a line from the
/// head that writes up to the head that reads, in the colour of the channel (query, key or value), the wider and stronger the greater
/// its weight. Only lines from a threshold on are drawn. It reads the table of the `composition` measure, whose columns are the
/// defaults. Heads that no row names are not drawn: leave the faint pairs in the data.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompositionGraph {
    /// Column with the channel through which the later head reads; at most 6.
    #[serde(default = "kind")]
    pub channel: String,
    /// Column with the layer of the head that writes.
    #[serde(default = "from_layer")]
    pub from_layer: String,
    /// Column with the head that writes.
    #[serde(default = "from_head")]
    pub from_head: String,
    /// Column with the layer of the head that reads.
    #[serde(default = "to_layer")]
    pub to_layer: String,
    /// Column with the head that reads.
    #[serde(default = "to_head")]
    pub to_head: String,
    /// Column of numbers: how wide and strong a line is.
    #[serde(default = "z")]
    pub weight: String,
    /// Least weight of a line. Default: 3 for `z`, three standard deviations above chance; 0 for other columns.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// Weight of the widest line; greater ones are as wide. Default: the greatest weight.
    #[serde(default)]
    pub max: Option<f64>,
    /// Column with a panel for each of its values, at most 24. Widths mean the same in all panels.
    #[serde(default)]
    pub facet: Option<String>,
    /// Title of the legend of channels. Default: `read through`.
    #[serde(default)]
    pub color_label: Option<String>,
    /// Title of the legend of widths. Default: the column's name.
    #[serde(default)]
    pub weight_label: Option<String>,
    /// Width of the figure in pixels. Default: 720.
    #[serde(default)]
    #[schemars(range(min = 200, max = 2400))]
    pub width: Option<u32>,
    /// Height of the figure in pixels. Default: what suits the number of layers and panels.
    #[serde(default)]
    #[schemars(range(min = 120, max = 2400))]
    pub height: Option<u32>,
}

default_columns!(kind, from_layer, from_head, to_layer, to_head, z);

impl Described for CompositionGraph {
    const NAME: &'static str = "composition_graph";
    const EXAMPLE: &'static str = "\
- figure: composition_graph
  of: SELECT * FROM composition WHERE model = 'trained'
  title: The keys of layer 1 read what layer 0 writes
  at_least: 3
";
}

/// A line.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Edge {
    from: HeadId,
    to: HeadId,
    channel: usize,
    weight: f64,
}

/// What a panel shows.
#[derive(Debug, Default)]
struct Graph {
    heads: BTreeSet<HeadId>,
    /// Lines from the threshold on, the faintest first.
    edges: Vec<Edge>,
    /// Rows with a weight.
    pairs: usize,
}

struct Placed {
    graphs: Vec<Graph>,
    channels: Categories,
    /// Least and greatest weight of the lines.
    range: (f64, f64),
    /// What is written above each panel.
    notes: Vec<String>,
    /// Layers of all panels, the first at the bottom.
    layers: Vec<usize>,
    layout: Layout,
    legends: [Legend; 2],
}

impl CompositionGraph {
    fn least(&self) -> f64 {
        self.at_least.unwrap_or(if self.weight == z() { LEAST_Z } else { 0.0 })
    }

    /// Layers or heads in a column.
    fn whole(&self, data: &DataFrame, parameter: &str, name: &str) -> Result<Vec<usize>> {
        let numbers = data::numbers(data, parameter, name)?;
        let whole = |number: Option<f64>| {
            number.filter(|n| n.fract() == 0.0 && (0.0..1e9).contains(n)).map(|n| n as usize).ok_or_else(|| {
                Error::Figure(format!(
                    "`{parameter}: {name}` must hold whole numbers from 0 in every row: leave others out with WHERE"
                ))
            })
        };
        numbers.into_iter().map(whole).collect()
    }

    /// The channels; those of the measure always all three, so that a colour means the same in every figure.
    fn channels(&self, data: &DataFrame) -> Result<Categories> {
        let found = data::categories(data, "channel", &self.channel)?;
        if found.labels.iter().all(|label| CHANNELS.contains(&label.as_str())) {
            let place = |label: &String| CHANNELS.iter().position(|channel| channel == label).unwrap_or(0);
            let codes = found.codes.iter().map(|&code| place(&found.labels[code])).collect();
            return Ok(Categories { labels: CHANNELS.map(String::from).to_vec(), codes, numbers: None });
        }
        if found.len() > MOST_KINDS {
            return Err(Error::Figure(format!(
                "`channel: {}` has {} values, and at most {MOST_KINDS} find a place at a head: choose some with WHERE in the query",
                self.channel,
                found.len()
            )));
        }
        Ok(found)
    }

    fn graphs(&self, data: &DataFrame, facets: &Categories, channels: &Categories) -> Result<Vec<Graph>> {
        let from_layer = self.whole(data, "from_layer", &self.from_layer)?;
        let from_head = self.whole(data, "from_head", &self.from_head)?;
        let to_layer = self.whole(data, "to_layer", &self.to_layer)?;
        let to_head = self.whole(data, "to_head", &self.to_head)?;
        let weights = data::numbers(data, "weight", &self.weight)?;
        let ends = |row: usize| (HeadId::new(from_layer[row], from_head[row]), HeadId::new(to_layer[row], to_head[row]));
        if let Some(row) = (0..weights.len()).find(|&row| from_layer[row] >= to_layer[row]) {
            let (from, to) = ends(row);
            return Err(Error::Figure(format!(
                "a row has head {from} read by head {to}, but only a later layer reads what a head writes: `from_layer` must be less than `to_layer`"
            )));
        }
        data::require_unique(
            weights.len(),
            |row| (facets.codes[row], channels.codes[row], ends(row)),
            |row| {
                let (from, to) = ends(row);
                let channel = &channels.labels[channels.codes[row]];
                format!("{} = {channel} from head {from} to head {to}", self.channel)
            },
            &format!(
                "choose one model with WHERE in the query, aggregate {} over its replicates, or name the column that tells them apart as `facet`",
                self.weight
            ),
        )?;
        let mut graphs: Vec<Graph> = (0..facets.len()).map(|_| Graph::default()).collect();
        for (row, weight) in weights.iter().enumerate() {
            let graph = &mut graphs[facets.codes[row]];
            let (from, to) = ends(row);
            graph.heads.extend([from, to]);
            if let Some(weight) = *weight {
                graph.pairs += 1;
                if weight >= self.least() {
                    graph.edges.push(Edge { from, to, channel: channels.codes[row], weight });
                }
            }
        }
        for graph in &mut graphs {
            graph
                .edges
                .sort_by(|a, b| a.weight.total_cmp(&b.weight).then((a.from, a.to, a.channel).cmp(&(b.from, b.to, b.channel))));
        }
        Ok(graphs)
    }

    fn place(&self, data: &DataFrame, title: &str) -> Result<Placed> {
        let fonts = Fonts::embedded()?;
        data::require_rows(data)?;
        let facets = data::facets(data, self.facet.as_deref())?;
        let channels = self.channels(data)?;
        let graphs = self.graphs(data, &facets, &channels)?;
        let layers: BTreeSet<usize> = graphs.iter().flat_map(|graph| &graph.heads).map(|head| head.layer).collect();
        let mut crowds: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (panel, graph) in graphs.iter().enumerate() {
            for head in &graph.heads {
                *crowds.entry((panel, head.layer)).or_default() += 1;
            }
        }
        let most = crowds.values().max().copied().unwrap_or(1);
        let strongest = graphs.iter().flat_map(|graph| &graph.edges).map(|edge| edge.weight).fold(self.least(), f64::max);
        let range = (self.least(), self.max.unwrap_or(strongest));

        let width = self.width.map_or(theme::WIDTH, f64::from);
        let weight = self.weight_label.as_deref().unwrap_or(&self.weight);
        let through = self.color_label.as_deref().unwrap_or("read through");
        let legends = [
            Legend::new(fonts, through, &channels, &|_| Sample::Swatch, width),
            width_legend(fonts, weight, range, graphs.iter().any(|graph| !graph.edges.is_empty()), width),
        ];
        let least = scale::number(self.least());
        let notes =
            graphs.iter().map(|graph| format!("{} of {} with {weight} ≥ {least}", graph.edges.len(), graph.pairs)).collect();
        let titles = data::facet_titles(&facets, self.facet.as_deref());
        let widest = layers.iter().map(|l| fonts.width(&layer(*l), Weight::Regular, theme::TICK)).fold(0.0, f64::max);
        let surround = Surround {
            title,
            facets: &titles,
            x_label: "",
            y_label: "",
            columns: layout::balanced_columns(facets.len(), width - widest, (most as f64 * PLACE).max(170.0)),
            legend: legends.iter().map(|legend| legend.height).sum(),
            note: NOTE,
            y_ticks: (widest + 8.0).ceil(),
            x_ticks: 0.0,
            side: 0.0,
            own_axes: false,
        };
        let panel_width = surround.panel_width(width);
        if panel_width < most as f64 * PLACE * 0.8 {
            return Err(Error::Figure(format!(
                "{most} heads in a layer do not fit into a figure of {width:.0} pixels: set a greater `width`, or choose heads with WHERE in the query"
            )));
        }
        let rows = layers.len().max(2) as f64;
        let panel_height = match self.height {
            Some(height) => surround.panel_height(width, height.into())?,
            None => BOX.1 * rows + (rows - 1.0) * if rows > 3.0 { 60.0 } else { 110.0 } + 12.0,
        };
        let layout = surround.place((panel_width, panel_height), width)?;
        Ok(Placed { graphs, channels, range, notes, layers: layers.into_iter().collect(), layout, legends })
    }
}

/// The key to the widths of lines from `range.0` to `range.1`.
fn width_legend(fonts: &Fonts, title: &str, range: (f64, f64), drawn: bool, width: f64) -> Legend {
    let (low, high) = range;
    let weights = if high > low { vec![low, low / 2.0 + high / 2.0, high] } else { vec![high] };
    let labels = if drawn { weights.iter().map(|&weight| short(weight, high)).collect() } else { Vec::new() };
    let keys = Categories { labels, codes: Vec::new(), numbers: None };
    let sample = |index: usize| {
        let (width, strength) = look(weights[index], range);
        Sample::Stroke { width, strength }
    };
    Legend::new(fonts, title, &keys, &sample, width)
}

/// `weight` with as many digits as tell weights up to `largest` apart.
fn short(weight: f64, largest: f64) -> String {
    match largest.abs() {
        l if (10.0..1e6).contains(&l) => scale::minus(format!("{weight:.0}")),
        l if (1.0..10.0).contains(&l) => scale::minus(format!("{weight:.1}")),
        _ => scale::number(weight),
    }
}

/// Width and strength of a line.
fn look(weight: f64, (low, high): (f64, f64)) -> (f64, f64) {
    let share = if high > low { scale::Range { low, high }.fraction(weight).clamp(0.0, 1.0) } else { 1.0 };
    (WIDTHS.0 + (WIDTHS.1 - WIDTHS.0) * share, FAINT + (1.0 - FAINT) * share)
}

fn layer(layer: usize) -> String {
    format!("layer {layer}")
}

impl Figure for CompositionGraph {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        let mut columns = vec![
            ("channel", self.channel.as_str()),
            ("from_layer", &self.from_layer),
            ("from_head", &self.from_head),
            ("to_layer", &self.to_layer),
            ("to_head", &self.to_head),
            ("weight", &self.weight),
        ];
        columns.extend(self.facet.as_deref().map(|facet| ("facet", facet)));
        columns
    }

    fn numbers(&self) -> &'static [&'static str] {
        &["from_layer", "from_head", "to_layer", "to_head", "weight"]
    }

    fn check(&self) -> Result<()> {
        match self.max {
            Some(max) if max <= self.least() => Err(Error::parameter(
                "max",
                format!("`max: {max}` must be greater than the least weight of a line, {}", self.least()),
            )),
            _ => Ok(()),
        }
    }

    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing> {
        self.check()?;
        canvas::render(&self.place(data, title)?, title, style)
    }
}

impl Placed {
    /// From one row of heads to the next.
    fn row_step(&self, plot: Rect) -> f64 {
        (plot.height - BOX.1 - 8.0) / (self.layers.len().max(2) - 1) as f64
    }

    /// The middle of a row, counted from the bottom.
    fn row_y(&self, plot: Rect, row: usize) -> f64 {
        plot.bottom() - 4.0 - BOX.1 / 2.0 - self.row_step(plot) * row as f64
    }

    /// The middle of each head's box, and the size of the boxes.
    fn nodes(&self, plot: Rect, graph: &Graph) -> (BTreeMap<HeadId, Point>, (f64, f64)) {
        let mut nodes = BTreeMap::new();
        let mut spacing = f64::INFINITY;
        for (row, layer) in self.layers.iter().enumerate() {
            let heads: Vec<&HeadId> = graph.heads.iter().filter(|head| head.layer == *layer).collect();
            let place = plot.width / heads.len().max(1) as f64;
            spacing = spacing.min(place);
            for (column, head) in heads.into_iter().enumerate() {
                nodes.insert(*head, (plot.x + place * (column as f64 + 0.5), self.row_y(plot, row)));
            }
        }
        (nodes, (BOX.0.min(spacing - 4.0).max(8.0), BOX.1.min(self.row_step(plot) * 0.6).max(6.0)))
    }

    /// The way of a line: upwards out of a head, and upwards into the place of its channel at the other.
    fn curve(&self, plot: Rect, from: Point, to: Point, size: (f64, f64), edge: &Edge) -> Vec<Point> {
        let port = (edge.channel as f64 + 1.0) / (self.channels.len() + 1) as f64 - 0.5;
        let (start, end) = ((from.0, from.1 - size.1 / 2.0), (to.0 + port * size.0, to.1 + size.1 / 2.0));
        let rise = (start.1 - end.1) * 0.45;
        // A line past a layer bends outwards, around the heads between.
        let passed = self.layers.iter().filter(|layer| **layer > edge.from.layer && **layer < edge.to.layer).count();
        let outwards = if from.0 + to.0 >= 2.0 * plot.x + plot.width { 1.0 } else { -1.0 };
        let bend = outwards * size.0 * 1.3 * passed.min(2) as f64;
        let (a, b) = ((start.0 + bend, start.1 - rise), (end.0 + bend, end.1 + rise));
        let point = |t: f64| {
            let u = 1.0 - t;
            let mix =
                |p: f64, q: f64, r: f64, s: f64| u * u * u * p + 3.0 * u * u * t * q + 3.0 * u * t * t * r + t * t * t * s;
            let x = mix(start.0, a.0, b.0, end.0).clamp(plot.x, plot.right());
            (x, mix(start.1, a.1, b.1, end.1))
        };
        (0..=PIECES).map(|i| point(i as f64 / PIECES as f64)).collect()
    }

    fn paint_graph<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, graph: &Graph) -> Result<()> {
        let (nodes, size) = self.nodes(plot, graph);
        for edge in &graph.edges {
            let (width, strength) = look(edge.weight, self.range);
            let style = legend::series_style(&self.channels, edge.channel);
            let way = self.curve(plot, nodes[&edge.from], nodes[&edge.to], size, edge);
            canvas.line(&way, theme::faded(style.color, strength), width)?;
        }
        for (head, (x, y)) in &nodes {
            let outline = Rect { x: x - size.0 / 2.0, y: y - size.1 / 2.0, width: size.0, height: size.1 };
            canvas.fill(outline, theme::AXIS)?;
            let inside = Rect { x: outline.x + 1.0, y: outline.y + 1.0, width: size.0 - 2.0, height: size.1 - 2.0 };
            canvas.fill(inside, theme::PAPER)?;
            // Where the whole name has no room, the layer is read from the row.
            let text = [head.to_string(), head.head.to_string()]
                .into_iter()
                .find(|text| canvas.fonts.width(text, Weight::Regular, theme::TICK) <= size.0 - 3.0);
            if let Some(text) = text {
                canvas.text(&text, (*x, *y), Type::new(theme::TICK, theme::INK).anchored(0.5, 0.5))?;
            }
        }
        Ok(())
    }

    fn paint_layers<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect) -> Result<()> {
        for (row, index) in self.layers.iter().enumerate() {
            let look = Type::new(theme::TICK, theme::MUTED).anchored(1.0, 0.5);
            canvas.text(&layer(*index), (plot.x - 7.0, self.row_y(plot, row)), look)?;
        }
        Ok(())
    }
}

impl Scene for Placed {
    fn size(&self) -> (f64, f64) {
        self.layout.size
    }

    fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<()> {
        self.layout.paint(canvas)?;
        let (x, y) = self.layout.legend;
        self.legends[0].paint(canvas, (x, y))?;
        self.legends[1].paint(canvas, (x, y + self.legends[0].height - 6.0))?;
        for ((panel, graph), note) in self.layout.panels.iter().zip(&self.graphs).zip(&self.notes) {
            let plot = panel.plot;
            let note = canvas.fonts.fit(note, Weight::Regular, theme::TICK, plot.width);
            canvas.text(&note, panel.note_start(), Type::new(theme::TICK, theme::MUTED).anchored(0.0, 0.5))?;
            if panel.y_ticks {
                self.paint_layers(canvas, plot)?;
            }
            self.paint_graph(canvas, plot, graph)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;
    use serde_json::json;

    fn graph(parameters: serde_json::Value) -> CompositionGraph {
        serde_json::from_value(parameters).unwrap()
    }

    #[test]
    fn lines_are_those_from_the_threshold_on_the_strongest_last() {
        let data = df!("kind" => ["k", "k", "v", "k"], "from_layer" => [0i64, 0, 0, 0], "from_head" => [0i64, 1, 1, 2], "to_layer" => [1i64, 1, 2, 1],
            "to_head" => [0i64, 0, 3, 0], "z" => [Some(9.0), Some(2.9), Some(3.0), None])
        .unwrap();
        let placed = graph(json!({})).place(&data, "").unwrap();
        let edge = |from: (usize, usize), to: (usize, usize), channel, weight| Edge {
            from: HeadId::new(from.0, from.1),
            to: HeadId::new(to.0, to.1),
            channel,
            weight,
        };
        assert_eq!(placed.graphs[0].edges, [edge((0, 1), (2, 3), 2, 3.0), edge((0, 0), (1, 0), 1, 9.0)]);
        assert_eq!(placed.graphs[0].heads.len(), 5);
        assert_eq!(placed.notes, ["2 of 3 with z ≥ 3"]);
        assert_eq!(placed.range, (3.0, 9.0));
        assert_eq!(graph(json!({"at_least": 0})).place(&data, "").unwrap().graphs[0].edges.len(), 3);
    }

    #[test]
    fn weights_are_widths() {
        assert_eq!(look(3.0, (3.0, 9.0)), (WIDTHS.0, FAINT));
        assert_eq!(look(9.0, (3.0, 9.0)), (WIDTHS.1, 1.0));
        assert_eq!(look(99.0, (3.0, 9.0)), (WIDTHS.1, 1.0));
        assert_eq!(look(3.0, (3.0, 3.0)), (WIDTHS.1, 1.0));
    }
}
