//! Cells in a grid with colours: what a heat map and an attention pattern have in common.

use super::axis::{Axis, Ticks};
use super::canvas::{self, Canvas, Rect, Scene, Type};
use super::colormap::ColorScale;
use super::data::Categories;
use super::font::{Fonts, Weight};
use super::layout::{self, Layout, Surround};
use super::legend::{ColorBar, paint_missing};
use super::{Drawing, Style, scale, theme};
use crate::{Error, Result};
use plotters::prelude::DrawingBackend;

/// Largest side of a cell.
const LARGEST_CELL: f64 = 46.0;
/// Cells this large show all there is to see, and fewer rows of panels are worth more than larger ones.
const COMFORTABLE_CELL: f64 = 32.0;
/// From this side on, cells are set apart by white lines.
const APART: f64 = 14.0;
/// Size of the values written in cells.
const VALUE: f64 = 10.5;
/// Without being asked, values are written in at most this many cells.
const MOST_VALUES: usize = 300;
/// Height that the facets together should not exceed.
const TALL: f64 = 760.0;
/// More cells than this are more than there are pixels.
const MOST_CELLS: usize = 4_000_000;

/// What is known of a place in the grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// Nothing belongs here: it stays white.
    Blank,
    /// There should be a value.
    Missing,
    /// A finite value.
    Value(f64),
}

/// The grids of a figure and the words around them.
#[derive(Debug)]
pub struct Matrix<'a> {
    /// The message.
    pub title: &'a str,
    /// Label of the x axis.
    pub x_label: &'a str,
    /// Label of the y axis.
    pub y_label: &'a str,
    /// Label of the colour bar.
    pub color_label: &'a str,
    /// Title of each panel; all empty for a figure without facets.
    pub facets: Vec<String>,
    /// Columns: shared by all panels, or one entry for each.
    pub x: Vec<Categories>,
    /// Rows, as `x`.
    pub y: Vec<Categories>,
    /// Cells of each panel, row by row.
    pub panels: Vec<Vec<Cell>>,
    /// Colours.
    pub scale: ColorScale,
    /// Whether values are written in the cells; if not said, where they fit and are few.
    pub annotate: Option<bool>,
    /// Whether cells must be square.
    pub square: bool,
    /// Width of the figure.
    pub width: Option<u32>,
    /// Height of the figure.
    pub height: Option<u32>,
}

/// Cells of a panel of `columns` × `rows`, all `cell`.
///
/// # Errors
/// [`Error::Figure`] if `panels` of them are too many to draw.
pub fn blank_panels(panels: usize, columns: usize, rows: usize, cell: Cell) -> Result<Vec<Vec<Cell>>> {
    let cells = panels.saturating_mul(columns).saturating_mul(rows);
    if cells > MOST_CELLS {
        return Err(Error::Figure(format!(
            "{columns} columns × {rows} rows × {panels} panels are {cells} cells, more than there are pixels: aggregate or choose with WHERE in the query"
        )));
    }
    Ok(vec![vec![cell; columns * rows]; panels])
}

/// Sides of a cell and panels in a row.
#[derive(Clone, Copy)]
struct Fit {
    cell: (f64, f64),
    columns: usize,
}

struct Placed<'a> {
    matrix: &'a Matrix<'a>,
    layout: Layout,
    bar: ColorBar,
    /// Ticks below and left of each panel.
    ticks: Vec<(Ticks, Ticks)>,
    cell: (f64, f64),
    /// Texts of the values, if they are written.
    texts: Option<Vec<Vec<String>>>,
}

impl Matrix<'_> {
    /// Draws it in both formats.
    ///
    /// # Errors
    /// [`Error::Figure`] if it is too large or a backend fails.
    pub fn draw(&self, style: &Style) -> Result<Drawing> {
        canvas::render(&self.place(Fonts::embedded()?)?, self.title, style)
    }

    fn size(&self) -> (usize, usize) {
        (self.x[0].len().max(1), self.y[0].len().max(1))
    }

    fn own_axes(&self) -> bool {
        self.x.len() > 1 || self.y.len() > 1
    }

    fn missing(&self) -> bool {
        self.panels.iter().flatten().any(|c| *c == Cell::Missing)
    }

    fn place<'a>(&'a self, fonts: &Fonts) -> Result<Placed<'a>> {
        let (nx, ny) = self.size();
        let axes = |all: &[Categories]| -> Vec<Axis> { all.iter().cloned().map(Axis::Bands).collect() };
        let (x, y) = (axes(&self.x), axes(&self.y));
        // Wide enough for any choice of the labels.
        let y_ticks = y.iter().map(|a| a.left(fonts, f64::INFINITY).extent).fold(0.0, f64::max).ceil();
        let x_ticks = |length: f64| x.iter().map(|a| a.below(fonts, length).extent).fold(0.0, f64::max).ceil();
        let mut surround = Surround {
            title: self.title,
            facets: &self.facets,
            x_label: self.x_label,
            y_label: self.y_label,
            columns: 1,
            legend: 0.0,
            note: 0.0,
            y_ticks,
            x_ticks: x_ticks(f64::INFINITY),
            side: ColorBar::new(fonts, self.scale, self.color_label, self.missing(), 200.0).width,
            own_axes: self.own_axes(),
        };
        let texts = self.texts();
        let fit = self.fit(fonts, &surround, &texts)?;
        surround.columns = fit.columns;
        let panel = (fit.cell.0 * nx as f64, fit.cell.1 * ny as f64);
        surround.x_ticks = x_ticks(panel.0);
        let least = self.width.map_or(layout::NARROW, f64::from);
        let block = surround.place(panel, least)?.block;
        let bar = ColorBar::new(fonts, self.scale, self.color_label, self.missing(), block.height);
        surround.side = bar.width;
        let mut layout = surround.place(panel, least)?;
        layout.size.1 = layout.size.1.max(block.y + bar.height() + theme::MARGIN);
        let ticks = (0..self.panels.len())
            .map(|i| {
                let axis = |all: &'_ [Axis]| all[i.min(all.len() - 1)].clone();
                (axis(&x).below(fonts, panel.0), axis(&y).left(fonts, panel.1))
            })
            .collect();
        let written = match self.annotate {
            Some(wanted) => wanted,
            None => self.panels.iter().map(Vec::len).sum::<usize>() <= MOST_VALUES,
        };
        let written = written && fit.cell.0 >= widest(fonts, &texts) + 3.0 && fit.cell.1 >= VALUE + 3.0;
        Ok(Placed { matrix: self, layout, bar, ticks, cell: fit.cell, texts: written.then_some(texts) })
    }

    /// The texts of all values, with as many decimals as show two significant digits of the largest, at most three.
    fn texts(&self) -> Vec<Vec<String>> {
        let values = self.panels.iter().flatten().filter_map(|c| if let Cell::Value(v) = c { Some(v.abs()) } else { None });
        let largest = values.fold(0.0, f64::max);
        let whole = self.panels.iter().flatten().all(|c| if let Cell::Value(v) = c { v.fract() == 0.0 } else { true });
        let decimals = match largest {
            _ if whole => 0,
            l if l >= 100.0 => 0,
            l if l >= 10.0 => 1,
            l if l >= 0.1 => 2,
            _ => 3,
        };
        let text = |cell: &Cell| match *cell {
            Cell::Value(v) if largest >= 1e5 || (largest < 0.01 && v != 0.0) => scale::minus(format!("{v:.1e}")),
            Cell::Value(v) => scale::minus(format!("{v:.decimals$}")),
            Cell::Blank | Cell::Missing => String::new(),
        };
        self.panels.iter().map(|panel| panel.iter().map(text).collect()).collect()
    }

    /// The arrangement with the largest cells that is not too tall.
    fn fit(&self, fonts: &Fonts, surround: &Surround, texts: &[Vec<String>]) -> Result<Fit> {
        let (nx, ny) = self.size();
        let width = self.width.map_or(theme::WIDTH, f64::from);
        let count = self.panels.len().max(1);
        let snapped = |side: f64| if side >= 2.0 { side.floor() } else { side.max(0.25) };
        let mut best: Option<(Fit, f64)> = None;
        // As many columns as fill their rows evenly: six panels stand three and three, not five and one.
        let even = |columns: &usize| *columns == count.div_ceil(count.div_ceil(*columns));
        for columns in (1..=count.min(8)).filter(even) {
            let surround = Surround { columns, ..surround.clone() };
            let rows = count.div_ceil(columns) as f64;
            let across = (width - surround.beside()) / (columns * nx) as f64;
            let mut wide = snapped(across.min(LARGEST_CELL));
            if self.annotate == Some(true) {
                wide = wide.max((widest(fonts, texts) + 6.0).ceil());
            }
            let mut high = match self.height {
                Some(height) => snapped(surround.panel_height(width, height.into())? / ny as f64),
                // Rows of a wide table stay high enough for their labels, and many rows stay on the page.
                None if !self.square => wide.max((22.0f64).min(120.0 / ny as f64)).min((640.0 / ny as f64).max(2.0)),
                None => wide,
            };
            if self.square {
                let side = if self.height.is_some() { wide.min(high) } else { wide };
                (wide, high) = (side, side);
            } else {
                high = snapped(high);
            }
            let tall = rows * (high * ny as f64) + surround.above_and_below(width)?;
            let fit = Fit { cell: (wide, high), columns };
            let better = match best {
                None => true,
                // Too tall is worse than small; of equals, the one with fewer rows.
                Some((_, other)) if other > TALL && tall < other => true,
                Some((old, _)) => tall <= TALL && wide >= old.cell.0.min(COMFORTABLE_CELL),
            };
            if better {
                best = Some((fit, tall));
            }
        }
        best.map(|(fit, _)| fit).ok_or_else(|| Error::Figure("there is nothing to draw".into()))
    }
}

fn widest(fonts: &Fonts, texts: &[Vec<String>]) -> f64 {
    texts.iter().flatten().map(|t| fonts.width(t, Weight::Regular, VALUE)).fold(0.0, f64::max)
}

impl Placed<'_> {
    fn cell(&self, plot: Rect, index: usize, run: usize) -> Rect {
        let nx = self.matrix.size().0;
        let (column, row) = ((index % nx) as f64, (index / nx) as f64);
        let (width, height) = self.cell;
        let apart = if width.min(height) >= APART { 1.0 } else { 0.0 };
        Rect {
            x: plot.x + column * width + apart / 2.0,
            y: plot.y + row * height + apart / 2.0,
            width: width * run as f64 - apart,
            height: height - apart,
        }
    }

    fn paint_cells<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, cells: &[Cell]) -> Result<()> {
        let nx = self.matrix.size().0;
        let mut valued: Vec<(usize, usize)> = Vec::new();
        for (index, cell) in cells.iter().enumerate() {
            match *cell {
                Cell::Value(v) => valued.push((self.matrix.scale.step(v), index)),
                Cell::Missing => paint_missing(canvas, self.cell(plot, index, 1))?,
                Cell::Blank => {}
            }
        }
        // Cells of a colour come together, so that the SVG names it once; neighbours in a row become one rectangle.
        valued.sort_unstable();
        let joined = self.cell.0.min(self.cell.1) < APART;
        let mut rest = valued.as_slice();
        while let Some(&(step, first)) = rest.first() {
            let follows = |run: usize| rest.get(run) == Some(&(step, first + run)) && !(first + run).is_multiple_of(nx);
            let run = if joined { (1..).find(|&run| !follows(run)).unwrap_or(1) } else { 1 };
            self.matrix.scale.paint(canvas, self.cell(plot, first, run), step)?;
            rest = &rest[run..];
        }
        Ok(())
    }

    fn paint_texts<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect, cells: &[Cell], texts: &[String]) -> Result<()> {
        for (index, (cell, text)) in cells.iter().zip(texts).enumerate() {
            if let Cell::Value(v) = *cell {
                let ground = self.matrix.scale.color(self.matrix.scale.step(v));
                let rect = self.cell(plot, index, 1);
                let at = (rect.x + rect.width / 2.0, rect.y + rect.height / 2.0);
                canvas.text(text, at, Type::new(VALUE, theme::ink_on(ground)).anchored(0.5, 0.5))?;
            }
        }
        Ok(())
    }
}

impl Scene for Placed<'_> {
    fn size(&self) -> (f64, f64) {
        self.layout.size
    }

    fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<()> {
        self.layout.paint(canvas)?;
        for (i, (panel, (below, left))) in self.layout.panels.iter().zip(&self.ticks).enumerate() {
            self.paint_cells(canvas, panel.plot, &self.matrix.panels[i])?;
            if let Some(texts) = &self.texts {
                self.paint_texts(canvas, panel.plot, &self.matrix.panels[i], &texts[i])?;
            }
            if panel.x_ticks {
                below.paint_below(canvas, panel.plot)?;
            }
            if panel.y_ticks {
                left.paint_left(canvas, panel.plot)?;
            }
        }
        self.bar.paint(canvas, self.layout.block)
    }
}
