//! Colour maps: numbers to colours.

use super::canvas::{Canvas, Rect};
use super::scale::{self, Range};
use super::theme::{self, Theme, opaque};
use crate::Result;
use plotters::prelude::DrawingBackend;
use plotters::style::RGBAColor;

/// Steps of a colour map. More cannot be told apart, and equal colours merge in the SVG.
pub const STEPS: usize = 256;

/// viridis (Nathaniel Smith and Stéfan van der Walt, 2015; CC0): perceptually uniform, rising in lightness, safe for the colour-blind.
const VIRIDIS: [u32; STEPS] = [
    0x440154, 0x440256, 0x450457, 0x450559, 0x46075a, 0x46085c, 0x460a5d, 0x460b5e, 0x470d60, 0x470e61, 0x471063, 0x471164,
    0x471365, 0x481467, 0x481668, 0x481769, 0x48186a, 0x481a6c, 0x481b6d, 0x481c6e, 0x481d6f, 0x481f70, 0x482071, 0x482173,
    0x482374, 0x482475, 0x482576, 0x482677, 0x482878, 0x482979, 0x472a7a, 0x472c7a, 0x472d7b, 0x472e7c, 0x472f7d, 0x46307e,
    0x46327e, 0x46337f, 0x463480, 0x453581, 0x453781, 0x453882, 0x443983, 0x443a83, 0x443b84, 0x433d84, 0x433e85, 0x423f85,
    0x424086, 0x424186, 0x414287, 0x414487, 0x404588, 0x404688, 0x3f4788, 0x3f4889, 0x3e4989, 0x3e4a89, 0x3e4c8a, 0x3d4d8a,
    0x3d4e8a, 0x3c4f8a, 0x3c508b, 0x3b518b, 0x3b528b, 0x3a538b, 0x3a548c, 0x39558c, 0x39568c, 0x38588c, 0x38598c, 0x375a8c,
    0x375b8d, 0x365c8d, 0x365d8d, 0x355e8d, 0x355f8d, 0x34608d, 0x34618d, 0x33628d, 0x33638d, 0x32648e, 0x32658e, 0x31668e,
    0x31678e, 0x31688e, 0x30698e, 0x306a8e, 0x2f6b8e, 0x2f6c8e, 0x2e6d8e, 0x2e6e8e, 0x2e6f8e, 0x2d708e, 0x2d718e, 0x2c718e,
    0x2c728e, 0x2c738e, 0x2b748e, 0x2b758e, 0x2a768e, 0x2a778e, 0x2a788e, 0x29798e, 0x297a8e, 0x297b8e, 0x287c8e, 0x287d8e,
    0x277e8e, 0x277f8e, 0x27808e, 0x26818e, 0x26828e, 0x26828e, 0x25838e, 0x25848e, 0x25858e, 0x24868e, 0x24878e, 0x23888e,
    0x23898e, 0x238a8d, 0x228b8d, 0x228c8d, 0x228d8d, 0x218e8d, 0x218f8d, 0x21908d, 0x21918c, 0x20928c, 0x20928c, 0x20938c,
    0x1f948c, 0x1f958b, 0x1f968b, 0x1f978b, 0x1f988b, 0x1f998a, 0x1f9a8a, 0x1e9b8a, 0x1e9c89, 0x1e9d89, 0x1f9e89, 0x1f9f88,
    0x1fa088, 0x1fa188, 0x1fa187, 0x1fa287, 0x20a386, 0x20a486, 0x21a585, 0x21a685, 0x22a785, 0x22a884, 0x23a983, 0x24aa83,
    0x25ab82, 0x25ac82, 0x26ad81, 0x27ad81, 0x28ae80, 0x29af7f, 0x2ab07f, 0x2cb17e, 0x2db27d, 0x2eb37c, 0x2fb47c, 0x31b57b,
    0x32b67a, 0x34b679, 0x35b779, 0x37b878, 0x38b977, 0x3aba76, 0x3bbb75, 0x3dbc74, 0x3fbc73, 0x40bd72, 0x42be71, 0x44bf70,
    0x46c06f, 0x48c16e, 0x4ac16d, 0x4cc26c, 0x4ec36b, 0x50c46a, 0x52c569, 0x54c568, 0x56c667, 0x58c765, 0x5ac864, 0x5cc863,
    0x5ec962, 0x60ca60, 0x63cb5f, 0x65cb5e, 0x67cc5c, 0x69cd5b, 0x6ccd5a, 0x6ece58, 0x70cf57, 0x73d056, 0x75d054, 0x77d153,
    0x7ad151, 0x7cd250, 0x7fd34e, 0x81d34d, 0x84d44b, 0x86d549, 0x89d548, 0x8bd646, 0x8ed645, 0x90d743, 0x93d741, 0x95d840,
    0x98d83e, 0x9bd93c, 0x9dd93b, 0xa0da39, 0xa2da37, 0xa5db36, 0xa8db34, 0xaadc32, 0xaddc30, 0xb0dd2f, 0xb2dd2d, 0xb5de2b,
    0xb8de29, 0xbade28, 0xbddf26, 0xc0df25, 0xc2df23, 0xc5e021, 0xc8e020, 0xcae11f, 0xcde11d, 0xd0e11c, 0xd2e21b, 0xd5e21a,
    0xd8e219, 0xdae319, 0xdde318, 0xdfe318, 0xe2e418, 0xe5e419, 0xe7e419, 0xeae51a, 0xece51b, 0xefe51c, 0xf1e51d, 0xf4e61e,
    0xf6e620, 0xf8e621, 0xfbe723, 0xfde725,
];

/// RdBu from ColorBrewer (Cynthia Brewer, 2002), reversed: blue below, red above, both darkening away from the centre.
const BLUE_RED: [u32; 11] =
    [0x053061, 0x2166ac, 0x4393c3, 0x92c5de, 0xd1e5f0, 0xf7f7f7, 0xfddbc7, 0xf4a582, 0xd6604d, 0xb2182b, 0x67001f];

/// How a column of numbers becomes colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorScale {
    /// Values at the ends.
    pub range: Range,
    /// Whether the middle is a neutral value and the two sides differ in hue.
    pub diverging: bool,
}

impl ColorScale {
    /// A scale over `values`, with its ends replaced by `min` and `max` where given. With a `center` the colours diverge from it, and
    /// the ends that are not given lie equally far from it.
    pub fn new(values: impl Iterator<Item = f64>, center: Option<f64>, min: Option<f64>, max: Option<f64>) -> Self {
        let data = Range::of(values.chain(min).chain(max));
        let mut range = Range { low: min.unwrap_or(data.low), high: max.unwrap_or(data.high) };
        if let Some(center) = center {
            let reach = (center - range.low).abs().max((range.high - center).abs());
            let reach = if reach > 0.0 { reach } else { 1.0 };
            range = Range { low: min.unwrap_or(center - reach), high: max.unwrap_or(center + reach) };
        }
        Self { range: range.widened(), diverging: center.is_some() }
    }

    /// The step of `value`, 0 to `STEPS - 1`; values beyond an end get the end's.
    pub fn step(&self, value: f64) -> usize {
        (self.range.fraction(value).clamp(0.0, 1.0) * (STEPS - 1) as f64).round() as usize
    }

    /// The colour of a step.
    pub fn color(&self, step: usize) -> RGBAColor {
        let step = step.min(STEPS - 1);
        if self.diverging { blue_red(step as f64 / (STEPS - 1) as f64) } else { opaque(VIRIDIS[step]) }
    }

    /// Fills a cell with the colour of a step. On paper the two sides of a diverging scale are alike if it comes out grey, so that
    /// the lower one is hatched, where a cell has room for it.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if the backend fails.
    pub fn paint<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, cell: Rect, step: usize) -> Result<()> {
        let color = self.color(step);
        canvas.fill(cell, color)?;
        // The middle is where the colour is next to neutral.
        if self.is_hatched(canvas.theme) && step < STEPS / 2 && cell.width >= 6.0 && cell.height >= 6.0 {
            canvas.hatch(cell, theme::ink_on(color), true)?;
        }
        Ok(())
    }

    /// Hatches the part of an upright colour bar that stands for values below the middle, as [`Self::paint`] does.
    ///
    /// # Errors
    /// As for [`Self::paint`].
    pub fn paint_below<DB: DrawingBackend>(&self, canvas: &Canvas<DB>, bar: Rect) -> Result<()> {
        if !self.is_hatched(canvas.theme) {
            return Ok(());
        }
        let height = bar.height / 2.0;
        canvas.hatch(Rect { y: bar.bottom() - height, height, ..bar }, theme::INK, true)
    }

    fn is_hatched(&self, theme: Theme) -> bool {
        self.diverging && theme == Theme::Print
    }

    /// Ticks of a colour bar `length` pixels long: fraction from the low end, and text.
    pub fn ticks(&self, length: f64) -> Vec<(f64, String)> {
        let ticks = scale::linear_ticks(self.range, ((length / 30.0) as usize).clamp(3, 6));
        let texts = scale::tick_texts(&ticks);
        ticks.iter().map(|&t| self.range.fraction(t)).zip(texts).collect()
    }
}

/// A colour of viridis for the `index`th of `count` ordered series, without its palest end, which is lost on paper.
pub fn ordered(index: usize, count: usize) -> RGBAColor {
    let fraction = if count > 1 { index as f64 / (count - 1) as f64 } else { 0.0 };
    opaque(VIRIDIS[(fraction * 0.85 * (STEPS - 1) as f64) as usize])
}

fn blue_red(fraction: f64) -> RGBAColor {
    let at = fraction.clamp(0.0, 1.0) * (BLUE_RED.len() - 1) as f64;
    let below = (at as usize).min(BLUE_RED.len() - 2);
    let (from, to) = (theme::solid(opaque(BLUE_RED[below])), theme::solid(opaque(BLUE_RED[below + 1])));
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * (at - below as f64)).round() as u8;
    RGBAColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2), 1.0)
}

#[cfg(test)]
mod tests {
    use super::theme::luminance;
    use super::*;

    #[test]
    fn viridis_rises_in_lightness_between_its_published_ends() {
        let scale = ColorScale::new([0.0, 1.0].into_iter(), None, None, None);
        assert_eq!(scale.color(0), opaque(0x440154));
        assert_eq!(scale.color(scale.step(1.0)), opaque(0xfde725));
        let light: Vec<f64> = (0..STEPS).map(|s| luminance(scale.color(s))).collect();
        // Eight-bit rounding moves neighbours by less than a thousandth.
        assert!(light.windows(2).all(|w| w[1] > w[0] - 1e-3), "{light:?}");
        assert!(light.windows(9).all(|w| w[8] > w[0]));
    }

    #[test]
    fn a_diverging_scale_is_neutral_at_its_centre_and_darkens_both_ways() {
        let scale = ColorScale::new([-1.0, 4.0].into_iter(), Some(0.0), None, None);
        assert_eq!((scale.range.low, scale.range.high), (-4.0, 4.0));
        let light: Vec<f64> = (0..STEPS).map(|s| luminance(scale.color(s))).collect();
        assert!(light[..128].windows(2).all(|w| w[1] >= w[0] - 1e-3));
        assert!(light[128..].windows(2).all(|w| w[1] <= w[0] + 1e-3));
        assert_eq!(scale.color(0), opaque(0x053061));
        assert_eq!(scale.color(255), opaque(0x67001f));
    }

    #[test]
    fn odd_ranges_still_give_a_scale() {
        for values in [vec![], vec![3.0], vec![f64::MAX, -f64::MAX], vec![5e-324, 0.0], vec![1e300, 1e300]] {
            for center in [None, Some(0.0)] {
                let scale = ColorScale::new(values.iter().copied(), center, None, None);
                for &v in &values {
                    let _ = scale.color(scale.step(v));
                }
                assert!(scale.ticks(200.0).iter().all(|(at, _)| at.is_finite()), "{values:?}");
            }
        }
    }
}
