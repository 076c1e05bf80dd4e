//! Where the glyphs of a plotters text go; both backends draw from this.

use super::font::{CAP_HEIGHT, Fonts, Weight};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{BackendTextStyle, FontTransform};

/// How a line of text is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Left to right.
    None,
    /// Turned clockwise by quarters of a circle, 1 to 3.
    Quarters(u8),
}

impl Turn {
    /// The point `(x, y)` after turning around the origin, y downwards.
    pub fn apply(self, (x, y): (i32, i32)) -> (i32, i32) {
        match self {
            Self::Quarters(1) => (-y, x),
            Self::Quarters(2) => (-x, -y),
            Self::Quarters(3) => (y, -x),
            Self::None | Self::Quarters(_) => (x, y),
        }
    }
}

/// A line of text, ready to draw.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The face.
    pub weight: Weight,
    /// Backend units an em.
    pub size: f64,
    /// From the anchor to the start of the baseline, before turning, in backend units.
    pub offset: (f64, f64),
    /// The turn around the anchor.
    pub turn: Turn,
}

/// Places `text` relative to its anchor. The top of a line is that of its capitals and its bottom the baseline, so that centred
/// numbers look centred.
pub fn lay_out<S: BackendTextStyle>(fonts: &Fonts, text: &str, style: &S) -> Line {
    let (weight, size) = (Weight::of(style.style()), style.size());
    let anchor = style.anchor();
    let x = match anchor.h_pos {
        HPos::Left => 0.0,
        HPos::Center => -fonts.width(text, weight, size) / 2.0,
        HPos::Right => -fonts.width(text, weight, size),
    };
    let y = match anchor.v_pos {
        VPos::Top => size * CAP_HEIGHT,
        VPos::Center => size * CAP_HEIGHT / 2.0,
        VPos::Bottom => 0.0,
    };
    let turn = match style.transform() {
        FontTransform::None => Turn::None,
        FontTransform::Rotate90 => Turn::Quarters(1),
        FontTransform::Rotate180 => Turn::Quarters(2),
        FontTransform::Rotate270 => Turn::Quarters(3),
    };
    Line { weight, size, offset: (x, y), turn }
}
