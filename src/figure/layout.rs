//! Where the parts of a figure go: title, legend, a grid of facets with shared axes, and a colour bar beside it.

use super::canvas::{Canvas, Point, Rect, Type};
use super::font::{Fonts, Weight};
use super::theme;
use crate::Result;
use plotters::prelude::DrawingBackend;

/// Height of a facet's title with the space below it.
const FACET_TITLE: f64 = 20.0;
/// Space that a turned axis label takes.
const AXIS_LABEL: f64 = 20.0;
/// Space between the title and what is below it.
const TITLE_GAP: f64 = 12.0;
/// Narrowest figure of those that need not be wide, so that its title has room.
pub const NARROW: f64 = 460.0;

/// What surrounds the panels of a figure, in pixels.
#[derive(Clone, Debug)]
pub struct Surround<'a> {
    /// The message of the figure.
    pub title: &'a str,
    /// Titles of the panels; a single empty one for a figure without facets.
    pub facets: &'a [String],
    /// Label of the x axis.
    pub x_label: &'a str,
    /// Label of the y axis.
    pub y_label: &'a str,
    /// Panels in a row.
    pub columns: usize,
    /// Height of the legend between title and panels.
    pub legend: f64,
    /// Height of what is written between the title of a panel and its plot.
    pub note: f64,
    /// Width of tick labels left of a panel.
    pub y_ticks: f64,
    /// Height of tick labels below a panel.
    pub x_ticks: f64,
    /// Width of what stands to the right of the panels.
    pub side: f64,
    /// Whether every panel has tick labels of its own.
    pub own_axes: bool,
}

/// Height of a line of what is written between the title of a panel and its plot.
pub const NOTE: f64 = 15.0;

/// One panel of a figure.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Where data are drawn.
    pub plot: Rect,
    /// Whether tick labels stand below it.
    pub x_ticks: bool,
    /// Whether tick labels stand to its left.
    pub y_ticks: bool,
    /// Its title.
    title: String,
    /// Height of what is written between the title and the plot.
    pub note: f64,
}

impl Panel {
    /// Where the first line of the note starts: at the left, in the middle of its height.
    pub fn note_start(&self) -> Point {
        (self.plot.x, self.plot.y - self.note + NOTE / 2.0 - 4.0)
    }
}

/// A figure with everything in place but its data.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Size of the figure.
    pub size: (f64, f64),
    /// Panels, row by row.
    pub panels: Vec<Panel>,
    /// The area that all panels cover.
    pub block: Rect,
    /// Top left corner of the legend.
    pub legend: (f64, f64),
    title: Vec<String>,
    x_label: String,
    y_label: String,
    x_label_at: f64,
}

impl Surround<'_> {
    fn rows(&self) -> usize {
        self.facets.len().div_ceil(self.columns.max(1)).max(1)
    }

    fn facet_title(&self) -> f64 {
        if self.facets.iter().all(String::is_empty) { 0.0 } else { FACET_TITLE }
    }

    fn above_panel(&self) -> f64 {
        self.facet_title() + self.note
    }

    fn title_lines(&self, width: f64) -> Result<Vec<String>> {
        Ok(Fonts::embedded()?.wrap(self.title, Weight::SemiBold, theme::TITLE, width - 2.0 * theme::MARGIN))
    }

    fn column_gap(&self) -> f64 {
        theme::GAP + if self.own_axes { self.y_ticks } else { 0.0 }
    }

    fn row_gap(&self) -> f64 {
        theme::GAP + if self.own_axes { self.x_ticks } else { 0.0 }
    }

    /// Width of all that is not a panel.
    pub fn beside(&self) -> f64 {
        let axis = if self.y_label.is_empty() { 0.0 } else { AXIS_LABEL };
        2.0 * theme::MARGIN + axis + self.y_ticks + self.side + self.column_gap() * (self.columns - 1) as f64
    }

    /// Height of all that is not a panel, in a figure of `width`.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if there is no font.
    pub fn above_and_below(&self, width: f64) -> Result<f64> {
        let rows = self.rows() as f64;
        let axis = if self.x_label.is_empty() { 0.0 } else { AXIS_LABEL };
        let title = self.title_lines(width)?.len() as f64 * theme::TITLE * theme::LINE_HEIGHT;
        let title = if title > 0.0 { title + TITLE_GAP } else { 0.0 };
        Ok(2.0 * theme::MARGIN
            + title
            + self.legend
            + rows * self.above_panel()
            + self.row_gap() * (rows - 1.0)
            + self.x_ticks
            + axis)
    }

    /// Width of each panel that makes the figure `width` wide.
    pub fn panel_width(&self, width: f64) -> f64 {
        ((width - self.beside()) / self.columns as f64).floor().max(40.0)
    }

    /// Height of each panel that makes a figure of `width` `height` high.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if there is no font.
    pub fn panel_height(&self, width: f64, height: f64) -> Result<f64> {
        Ok(((height - self.above_and_below(width)?) / self.rows() as f64).floor().max(40.0))
    }

    /// Puts panels of `panel` (width and height) in place, in a figure at least `width` wide.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if there is no font.
    pub fn place(&self, panel: (f64, f64), width: f64) -> Result<Layout> {
        let width = (self.beside() + panel.0 * self.columns as f64).max(width).ceil();
        let title = self.title_lines(width)?;
        let text = title.len() as f64 * theme::TITLE * theme::LINE_HEIGHT;
        let legend = theme::MARGIN + text + if title.is_empty() { 0.0 } else { TITLE_GAP };
        let left = theme::MARGIN + self.y_ticks + if self.y_label.is_empty() { 0.0 } else { AXIS_LABEL };
        let left = left.round();
        let top = (legend + self.legend + self.above_panel()).round();
        let (across, down) = ((panel.0 + self.column_gap()).round(), (panel.1 + self.row_gap() + self.above_panel()).round());
        let count = self.facets.len();
        let panels = self
            .facets
            .iter()
            .enumerate()
            .map(|(index, title)| {
                let (column, row) = (index % self.columns, index / self.columns);
                Panel {
                    plot: Rect {
                        x: left + across * column as f64,
                        y: top + down * row as f64,
                        width: panel.0,
                        height: panel.1,
                    },
                    // In the last row, or above an empty place of it.
                    x_ticks: self.own_axes || index + self.columns >= count,
                    y_ticks: self.own_axes || column == 0,
                    title: title.clone(),
                    note: self.note,
                }
            })
            .collect();
        let block = Rect {
            x: left,
            y: top,
            width: across * (self.columns.min(count.max(1)) - 1) as f64 + panel.0,
            height: down * (self.rows() - 1) as f64 + panel.1,
        };
        let height = (self.above_and_below(width)? + panel.1 * self.rows() as f64).ceil() + 1.0;
        Ok(Layout {
            size: (width, height),
            panels,
            block,
            legend: (theme::MARGIN, legend),
            title,
            x_label: self.x_label.to_string(),
            y_label: self.y_label.to_string(),
            x_label_at: block.bottom() + self.x_ticks + 6.0,
        })
    }
}

impl Layout {
    /// Draws the title, the titles of the panels and the axis labels.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if the backend fails.
    pub fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<()> {
        for (i, line) in self.title.iter().enumerate() {
            let y = theme::MARGIN + i as f64 * theme::TITLE * theme::LINE_HEIGHT + 2.0;
            let look = Type::new(theme::TITLE, theme::INK).bold().anchored(0.0, 0.0);
            canvas.text(line, (theme::MARGIN, y), look)?;
        }
        for panel in &self.panels {
            let title = canvas.fonts.fit(&panel.title, Weight::SemiBold, theme::FACET, panel.plot.width + theme::GAP - 4.0);
            let look = Type::new(theme::FACET, theme::INK).bold();
            canvas.text(&title, (panel.plot.x, panel.plot.y - panel.note - 7.0), look)?;
        }
        let fit = |text: &str, room: f64| canvas.fonts.fit(text, Weight::Regular, theme::LABEL, room);
        let look = Type::new(theme::LABEL, theme::INK);
        let middle = self.block.x + self.block.width / 2.0;
        let x_label = fit(&self.x_label, self.size.0 - 2.0 * theme::MARGIN);
        // A label wider than its axis keeps within the figure.
        let half = canvas.fonts.width(&x_label, Weight::Regular, theme::LABEL) / 2.0;
        let middle = middle.max(theme::MARGIN + half).min(self.size.0 - theme::MARGIN - half);
        canvas.text(&x_label, (middle, self.x_label_at), look.anchored(0.5, 0.0))?;
        let y_label = fit(&self.y_label, self.size.1 - self.block.y);
        let half = canvas.fonts.width(&y_label, Weight::Regular, theme::LABEL) / 2.0;
        let middle = (self.block.y + self.block.height / 2.0).min(self.size.1 - 4.0 - half).max(4.0 + half);
        canvas.text(&y_label, (theme::MARGIN, middle), look.upward().anchored(0.5, 0.0))
    }
}

/// Panels in a row for `count` facets that may be as narrow as `least`, in a figure of `width`.
pub fn balanced_columns(count: usize, width: f64, least: f64) -> usize {
    let wanted = match count {
        0..=3 => count.max(1),
        4 => 2,
        5..=9 => 3,
        _ => 4,
    };
    wanted.min((width / least) as usize).max(1)
}
