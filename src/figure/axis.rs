//! Axes: which ticks fit, and drawing them.

use super::canvas::{Canvas, Rect, Type};
use super::data::Categories;
use super::font::{Fonts, Weight};
use super::scale::Scale;
use super::theme;
use crate::Result;
use plotters::prelude::DrawingBackend;

/// Longest tick label; longer ones are cut.
const LONGEST: f64 = 130.0;
/// Length of a tick.
const TICK_LENGTH: f64 = 4.0;
/// Space from a panel to its tick labels.
const TO_LABEL: f64 = 7.0;
/// Pixels that a line of tick labels needs.
const LINE: f64 = theme::TICK * 1.2;
/// Pixels from one label to the next, at least, where they stand in a column.
const STACKED: f64 = theme::TICK * 1.15;

/// What an axis counts.
#[derive(Clone, Debug)]
pub enum Axis {
    /// Numbers.
    Numbers(Scale),
    /// Bands of equal width, one for each category.
    Bands(Categories),
}

/// Tick labels that fit an axis.
#[derive(Clone, Debug)]
pub struct Ticks {
    /// Fraction along the axis, and text.
    at: Vec<(f64, String)>,
    /// Whether labels below an axis read upwards.
    turned: bool,
    /// Pixels that the labels take away from the axis.
    pub extent: f64,
}

impl Axis {
    /// Ticks below a panel `length` wide.
    pub fn below(&self, fonts: &Fonts, length: f64) -> Ticks {
        let line = Ticks { at: Vec::new(), turned: false, extent: TO_LABEL + LINE };
        match self {
            Self::Numbers(scale) => {
                let mut count = ((length / 60.0) as usize).clamp(2, 10);
                let mut at = scale.ticks(count);
                while count > 2 && !fit_beside(fonts, &at, length) {
                    count -= 1;
                    at = scale.ticks(count);
                }
                Ticks { at: thin_out(at, |at| fit_beside(fonts, at, length)), ..line }
            }
            Self::Bands(categories) => {
                let step = length / categories.len().max(1) as f64;
                let at = bands(fonts, categories);
                if fit_beside(fonts, &at, length) {
                    return Ticks { at, ..line };
                }
                if categories.numbers.is_some() {
                    let at = thinned(categories, &at, |at| fit_beside(fonts, at, length));
                    return Ticks { at, ..line };
                }
                let stride = (STACKED / step).ceil().max(1.0) as usize;
                let at: Vec<_> = at.into_iter().step_by(stride).collect();
                Ticks { extent: TO_LABEL + widest(fonts, &at) + 2.0, at, turned: true }
            }
        }
    }

    /// Ticks left of a panel `length` high. Bands run downwards, numbers upwards.
    pub fn left(&self, fonts: &Fonts, length: f64) -> Ticks {
        let at = match self {
            Self::Numbers(scale) => {
                let at = scale.ticks(((length / 40.0) as usize).clamp(2, 8));
                let at = thin_out(at, |at| fit_stacked(at, length));
                at.into_iter().map(|(f, t)| (1.0 - f, t)).collect()
            }
            Self::Bands(categories) => {
                let all = bands(fonts, categories);
                if fit_stacked(&all, length) { all } else { thinned(categories, &all, |at| fit_stacked(at, length)) }
            }
        };
        Ticks { extent: TO_LABEL + widest(fonts, &at), at, turned: false }
    }

    /// Where the tick-like centre of `code` or the number lies along the axis, 0 to 1.
    pub fn band(&self, code: usize) -> f64 {
        match self {
            Self::Numbers(_) => 0.5,
            Self::Bands(categories) => (code as f64 + 0.5) / categories.len().max(1) as f64,
        }
    }
}

fn bands(fonts: &Fonts, categories: &Categories) -> Vec<(f64, String)> {
    let count = categories.len().max(1) as f64;
    let text = |label: &String| fonts.fit(label, Weight::Regular, theme::TICK, LONGEST);
    categories.labels.iter().enumerate().map(|(i, label)| ((i as f64 + 0.5) / count, text(label))).collect()
}

fn widest(fonts: &Fonts, at: &[(f64, String)]) -> f64 {
    at.iter().map(|(_, t)| fonts.width(t, Weight::Regular, theme::TICK)).fold(0.0, f64::max)
}

/// Whether neighbouring labels of a horizontal axis keep apart.
fn fit_beside(fonts: &Fonts, at: &[(f64, String)], length: f64) -> bool {
    let width = |text: &str| fonts.width(text, Weight::Regular, theme::TICK);
    at.windows(2).all(|w| (w[1].0 - w[0].0).abs() * length >= (width(&w[0].1) + width(&w[1].1)) / 2.0 + 5.0)
}

/// Whether neighbouring labels of a vertical axis keep apart.
fn fit_stacked(at: &[(f64, String)], length: f64) -> bool {
    at.windows(2).all(|w| (w[1].0 - w[0].0).abs() * length >= STACKED)
}

/// The ends of `at` if not all of it fits, and only the first if they do not either.
fn thin_out(at: Vec<(f64, String)>, fits: impl Fn(&[(f64, String)]) -> bool) -> Vec<(f64, String)> {
    if fits(&at) {
        return at;
    }
    let ends: Vec<_> = at.first().into_iter().chain(at.last()).cloned().collect();
    if fits(&ends) { ends } else { ends.into_iter().take(1).collect() }
}

/// Every second, fifth, tenth … label, so many as fit. Of consecutive integers the multiples are kept.
fn thinned(categories: &Categories, all: &[(f64, String)], fits: impl Fn(&[(f64, String)]) -> bool) -> Vec<(f64, String)> {
    let numbers = categories.numbers.as_deref().unwrap_or_default();
    let consecutive = categories.are_integers() && numbers.windows(2).all(|w| w[1] - w[0] == 1.0);
    for stride in (0..).map(|i| [1, 2, 5][i % 3] * 10usize.saturating_pow(i as u32 / 3)).take_while(|s| *s <= all.len()) {
        let kept: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(i, _)| if consecutive { numbers[*i] % stride as f64 == 0.0 } else { i % stride == 0 })
            .map(|(_, tick)| tick.clone())
            .collect();
        if !kept.is_empty() && fits(&kept) {
            return kept;
        }
    }
    all.iter().take(1).cloned().collect()
}

impl Ticks {
    /// Draws tick labels below `plot`.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if the backend fails, as for all drawing here.
    pub fn paint_below<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect) -> Result<()> {
        let look = Type::new(theme::TICK, theme::MUTED);
        for (fraction, text) in &self.at {
            let x = plot.x + fraction * plot.width;
            canvas.line(&[(x, plot.bottom()), (x, plot.bottom() + TICK_LENGTH)], theme::AXIS, 0.75)?;
            // A long number at the end of the axis keeps within the figure.
            let half = if self.turned { 0.0 } else { canvas.fonts.width(text, Weight::Regular, theme::TICK) / 2.0 };
            let at = (x.min(plot.right() + theme::MARGIN - 2.0 - half), plot.bottom() + TO_LABEL);
            // Text reading upwards under its tick hangs from its right end.
            canvas.text(text, at, if self.turned { look.upward().anchored(1.0, 0.5) } else { look.anchored(0.5, 0.0) })?;
        }
        Ok(())
    }

    /// Draws tick labels left of `plot`.
    ///
    /// # Errors
    /// As for [`Self::paint_below`].
    pub fn paint_left<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect) -> Result<()> {
        for (fraction, text) in &self.at {
            let y = plot.y + fraction * plot.height;
            canvas.line(&[(plot.x - TICK_LENGTH, y), (plot.x, y)], theme::AXIS, 0.75)?;
            canvas.text(text, (plot.x - TO_LABEL, y), Type::new(theme::TICK, theme::MUTED).anchored(1.0, 0.5))?;
        }
        Ok(())
    }

    /// Draws horizontal grid lines at the ticks of a vertical axis.
    ///
    /// # Errors
    /// As for [`Self::paint_below`].
    pub fn paint_rows<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect) -> Result<()> {
        for (fraction, _) in &self.at {
            let y = plot.y + fraction * plot.height;
            canvas.line(&[(plot.x, y), (plot.right(), y)], theme::GRID, 0.75)?;
        }
        Ok(())
    }

    /// Draws vertical grid lines at the ticks of a horizontal axis.
    ///
    /// # Errors
    /// As for [`Self::paint_below`].
    pub fn paint_columns<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, plot: Rect) -> Result<()> {
        for (fraction, _) in &self.at {
            let x = plot.x + fraction * plot.width;
            canvas.line(&[(x, plot.y), (x, plot.bottom())], theme::GRID, 0.75)?;
        }
        Ok(())
    }
}
