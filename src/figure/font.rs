//! The font that travels with the program, and the measuring of text in it.

use crate::{Error, Result};
use ab_glyph::{Font, FontRef, GlyphId};
use plotters::style::FontStyle;
use std::sync::LazyLock;

/// Height of a capital letter, in ems (Inter's own metric).
pub const CAP_HEIGHT: f64 = 0.727;

/// Regular for reading, semi-bold for what must be seen first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Labels and numbers.
    Regular,
    /// Titles.
    SemiBold,
}

impl Weight {
    /// The plotters style that stands for this weight.
    pub fn style(self) -> FontStyle {
        match self {
            Self::Regular => FontStyle::Normal,
            Self::SemiBold => FontStyle::Bold,
        }
    }

    /// The weight that a plotters style stands for.
    pub fn of(style: FontStyle) -> Self {
        match style {
            FontStyle::Bold => Self::SemiBold,
            FontStyle::Normal | FontStyle::Oblique | FontStyle::Italic => Self::Regular,
        }
    }
}

/// A font and its units.
#[derive(Debug)]
pub struct Face {
    /// The outlines.
    pub font: FontRef<'static>,
    /// Font units in an em.
    pub units: f64,
}

impl Face {
    fn new(bytes: &'static [u8]) -> Option<Self> {
        let font = FontRef::try_from_slice(bytes).ok()?;
        let units = f64::from(font.units_per_em()?);
        Some(Self { font, units })
    }

    /// The glyphs of `text` with their pens: distances from the start of the text, in font units. Control characters are left out.
    pub fn glyphs(&self, text: &str) -> impl Iterator<Item = (GlyphId, f64)> {
        let mut pen = 0.0;
        text.chars().filter(|c| !c.is_control()).map(move |c| {
            let glyph = self.font.glyph_id(c);
            let at = pen;
            pen += f64::from(self.font.h_advance_unscaled(glyph));
            (glyph, at)
        })
    }
}

/// Both weights.
#[derive(Debug)]
pub struct Fonts {
    regular: Face,
    semi_bold: Face,
}

static FONTS: LazyLock<Option<Fonts>> = LazyLock::new(|| {
    Some(Fonts {
        regular: Face::new(include_bytes!("../../assets/fonts/Inter-Regular.otf"))?,
        semi_bold: Face::new(include_bytes!("../../assets/fonts/Inter-SemiBold.otf"))?,
    })
});

impl Fonts {
    /// The embedded fonts.
    ///
    /// # Errors
    /// [`Error::Figure`] if the program was built with damaged font files.
    pub fn embedded() -> Result<&'static Self> {
        FONTS.as_ref().ok_or_else(|| Error::Figure("the fonts built into the program cannot be read".into()))
    }

    /// The face of a weight.
    pub fn face(&self, weight: Weight) -> &Face {
        match weight {
            Weight::Regular => &self.regular,
            Weight::SemiBold => &self.semi_bold,
        }
    }

    /// Width of `text` set at `size` units an em, in those units.
    pub fn width(&self, text: &str, weight: Weight, size: f64) -> f64 {
        let face = self.face(weight);
        let advance: f64 = text
            .chars()
            .filter(|c| !c.is_control())
            .map(|c| f64::from(face.font.h_advance_unscaled(face.font.glyph_id(c))))
            .sum();
        advance * size / face.units
    }

    /// `text`, cut with an ellipsis if it is wider than `limit`.
    pub fn fit(&self, text: &str, weight: Weight, size: f64, limit: f64) -> String {
        if self.width(text, weight, size) <= limit {
            return text.to_string();
        }
        let mut kept: Vec<char> = text.chars().collect();
        while kept.pop().is_some() {
            let short = kept.iter().collect::<String>().trim_end().to_string() + "…";
            if self.width(&short, weight, size) <= limit {
                return short;
            }
        }
        "…".to_string()
    }

    /// Breaks `text` into lines no wider than `limit`, between words, and within a word only if it alone is too wide.
    pub fn wrap(&self, text: &str, weight: Weight, size: f64, limit: f64) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = String::new();
        for word in text.split_whitespace() {
            let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
            if self.width(&longer, weight, size) <= limit {
                line = longer;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            for c in word.chars() {
                line.push(c);
                if self.width(&line, weight, size) > limit && line.chars().count() > 1 {
                    line.pop();
                    lines.push(std::mem::replace(&mut line, c.to_string()));
                }
            }
        }
        if !line.is_empty() {
            lines.push(line);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_fit_and_keep_every_letter() {
        let fonts = Fonts::embedded().unwrap();
        let text = "Only head 1.2 attends right after the earlier copy; aVeryLongWordThatFitsInNoLineWhatever follows";
        for limit in [60.0, 120.0, 300.0] {
            let lines = fonts.wrap(text, Weight::SemiBold, 15.0, limit);
            assert!(lines.iter().all(|l| fonts.width(l, Weight::SemiBold, 15.0) <= limit), "{lines:?}");
            let squeezed = |s: &str| s.split_whitespace().collect::<String>();
            assert_eq!(squeezed(&lines.concat()), squeezed(text));
        }
    }

    #[test]
    fn the_font_has_the_signs_that_figures_use() {
        let fonts = Fonts::embedded().unwrap();
        for weight in [Weight::Regular, Weight::SemiBold] {
            for c in "aZ09−±·×∞√Σ≤≥≠≈→←…–—“”αβλ₀₁²⁻äß".chars() {
                assert_ne!(fonts.face(weight).font.glyph_id(c).0, 0, "{c}");
            }
        }
    }

    #[test]
    fn long_labels_are_cut() {
        let fonts = Fonts::embedded().unwrap();
        let cut = fonts.fit("a label that is far too long", Weight::Regular, 11.0, 60.0);
        assert!(cut.ends_with('…') && fonts.width(&cut, Weight::Regular, 11.0) <= 60.0, "{cut}");
        assert_eq!(fonts.fit("short", Weight::Regular, 11.0, 60.0), "short");
    }
}
