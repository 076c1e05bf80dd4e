//! Sizes and colours that all figures share. Lengths are CSS pixels of the SVG at its own size.

use super::font::Weight;
use plotters::style::{RGBAColor, RGBColor};

/// What a figure is drawn for.
///
/// ```
/// use attn_circuits::figure::Theme;
/// use plotters::style::RGBAColor;
/// let (ink, blue) = (RGBAColor(0x22, 0x22, 0x22, 1.0), RGBAColor(0x00, 0x72, 0xb2, 1.0));
/// assert_eq!((Theme::Screen.color(ink), Theme::Screen.stroke(2.0)), (ink, 2.0));
/// // Grey text would be printed as a raster of dots; the colours of data stay.
/// assert_eq!((Theme::Print.color(ink), Theme::Print.color(blue)), (RGBAColor(0, 0, 0, 1.0), blue));
/// // Lines are thinner.
/// assert!(Theme::Print.stroke(2.0) < 2.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// The report.
    Screen,
    /// Paper: black text, thinner lines, titles in regular weight. What colour alone tells on the screen is told by hatching as
    /// well: the series of bars, and the side of a diverging colour scale.
    Print,
}

impl Theme {
    /// A colour of this module in the theme; any other as it is.
    pub fn color(self, color: RGBAColor) -> RGBAColor {
        // Grey text is printed as a raster of dots.
        match self {
            Self::Print if color == INK || color == MUTED => opaque(0x000000),
            Self::Print if color == AXIS => opaque(0x333333),
            _ => color,
        }
    }

    /// The width of a line.
    pub fn stroke(self, width: f64) -> f64 {
        if self == Self::Print { width * 0.7 } else { width }
    }

    /// The weight of a text.
    pub(crate) fn weight(self, weight: Weight) -> Weight {
        if self == Self::Print { Weight::Regular } else { weight }
    }
}

/// Backend units in a pixel: plotters' coordinates are integers, so figures are drawn four times as large to place things to a
/// quarter of a pixel.
pub const UNITS: f64 = 4.0;

/// Pixels of the PNG in a pixel of the figure, unless something else is asked for.
pub const PNG_SCALE: u32 = 2;

/// Width of a figure that does not say its own.
pub const WIDTH: f64 = 720.0;
/// Blank border around everything.
pub const MARGIN: f64 = 14.0;
/// Space between facets.
pub const GAP: f64 = 18.0;

/// Text sizes, in pixels an em.
pub const TITLE: f64 = 15.0;
/// Size of facet titles.
pub const FACET: f64 = 12.0;
/// Size of axis labels and legend titles.
pub const LABEL: f64 = 12.0;
/// Size of tick labels and legend entries.
pub const TICK: f64 = 11.0;
/// Distance of two lines of text, in ems.
pub const LINE_HEIGHT: f64 = 1.3;

/// Titles and labels.
pub const INK: RGBAColor = opaque(0x222222);
/// Tick labels and other secondary text.
pub const MUTED: RGBAColor = opaque(0x4d4d4d);
/// Axes.
pub const AXIS: RGBAColor = opaque(0x808080);
/// Grid lines.
pub const GRID: RGBAColor = opaque(0xe6e6e6);
/// The paper.
pub const PAPER: RGBAColor = opaque(0xffffff);
/// Ground of a cell without a value.
pub const MISSING: RGBAColor = opaque(0xececec);
/// Hatching of a cell without a value.
pub const HATCH: RGBAColor = opaque(0xbdbdbd);

/// The colours of Okabe and Ito (2008) that stand out on white, ordered so that neighbours differ in lightness as well.
pub const CATEGORIES: [RGBAColor; 7] = [
    opaque(0x0072b2),
    opaque(0xe69f00),
    opaque(0x009e73),
    opaque(0xcc79a7),
    opaque(0xd55e00),
    opaque(0x56b4e9),
    opaque(0x000000),
];

/// Lengths of dash and gap that tell lines apart without colour; the first is solid.
pub const DASHES: [&[f64]; 4] = [&[], &[6.0, 3.0], &[2.0, 2.5], &[9.0, 3.0, 2.0, 3.0]];

/// An opaque colour from its hexadecimal notation.
pub const fn opaque(rgb: u32) -> RGBAColor {
    let [_, r, g, b] = rgb.to_be_bytes();
    RGBAColor(r, g, b, 1.0)
}

/// `color` at an opacity.
pub fn translucent(color: RGBAColor, alpha: f64) -> RGBAColor {
    RGBAColor(color.0, color.1, color.2, alpha)
}

/// `color` mixed with the paper: what an opacity looks like, but without darker places where strokes overlap.
pub fn faded(color: RGBAColor, strength: f64) -> RGBAColor {
    let mix =
        |c: u8, paper: u8| (f64::from(paper) + (f64::from(c) - f64::from(paper)) * strength.clamp(0.0, 1.0)).round() as u8;
    RGBAColor(mix(color.0, PAPER.0), mix(color.1, PAPER.1), mix(color.2, PAPER.2), 1.0)
}

/// Relative luminance (WCAG 2): 0 for black, 1 for white.
pub fn luminance(color: RGBAColor) -> f64 {
    let linear = |byte: u8| {
        let c = f64::from(byte) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * linear(color.0) + 0.7152 * linear(color.1) + 0.0722 * linear(color.2)
}

/// Black or white, whichever is easier to read on `ground`.
pub fn ink_on(ground: RGBAColor) -> RGBAColor {
    // The luminance at which the contrast ratios (L + 0.05)/0.05 and 1.05/(L + 0.05) are equal.
    if luminance(ground) > 0.179 { INK } else { PAPER }
}

/// The colour without its opacity.
pub fn solid(color: RGBAColor) -> RGBColor {
    RGBColor(color.0, color.1, color.2)
}
