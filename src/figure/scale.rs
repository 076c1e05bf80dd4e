//! Positions on an axis, nice ticks and tidy numbers.

use schemars::JsonSchema;
use serde::Deserialize;

/// How numbers are laid out along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScaleKind {
    /// Equal differences are equal distances.
    #[default]
    Linear,
    /// Equal ratios are equal distances; all numbers must be positive.
    Log,
}

/// The ends of an axis; finite, `low <= high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Least value.
    pub low: f64,
    /// Greatest value.
    pub high: f64,
}

impl Range {
    /// The range of the finite `values`, 0 to 1 if there are none.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        values
            .filter(|v| v.is_finite())
            .fold(None, |range: Option<Self>, v| {
                Some(range.map_or(Self { low: v, high: v }, |r| Self { low: r.low.min(v), high: r.high.max(v) }))
            })
            .unwrap_or(Self { low: 0.0, high: 1.0 })
    }

    /// This range, opened on both sides if it is a single value.
    pub fn widened(self) -> Self {
        if self.high > self.low {
            return self;
        }
        let reach = if self.low == 0.0 { 1.0 } else { self.low.abs() * 0.1 };
        let (low, high) = (self.low - reach, self.low + reach);
        if low.is_finite() && high.is_finite() && high > low {
            return Self { low, high };
        }
        // Next to the largest and the smallest numbers there is room on one side only.
        Self { low: self.low.min(0.0), high: self.low.max(0.0) }
    }

    /// This range with `share` of its length added at both ends, as far as numbers reach.
    pub fn padded(self, share: f64) -> Self {
        let margin = (self.high / 2.0 - self.low / 2.0) * 2.0 * share;
        let finite = |v: f64, or: f64| if v.is_finite() { v } else { or };
        Self { low: finite(self.low - margin, self.low), high: finite(self.high + margin, self.high) }
    }

    /// Half its length.
    pub fn reach(self) -> f64 {
        self.high / 2.0 - self.low / 2.0
    }

    /// This range, opened on both sides until it reaches `reach` from its middle, as far as numbers go.
    pub fn opened(self, reach: f64) -> Self {
        if reach <= self.reach() {
            return self;
        }
        let middle = self.low / 2.0 + self.high / 2.0;
        Self { low: (middle - reach).max(f64::MIN), high: (middle + reach).min(f64::MAX) }
    }

    /// Where `value` lies: 0 at `low`, 1 at `high`.
    pub fn fraction(self, value: f64) -> f64 {
        // Halves, so that the difference of two huge numbers stays finite; exact scaling up, so that of two tiny ones does not vanish.
        let factor = if self.low.abs().max(self.high.abs()) < 1e-290 { 2f64.powi(60) } else { 0.5 };
        let span = self.high * factor - self.low * factor;
        if span > 0.0 { (value * factor - self.low * factor) / span } else { 0.5 }
    }
}

/// An axis of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    kind: ScaleKind,
    /// Ends, in logarithms to base 10 on a log axis.
    range: Range,
    /// Whether only whole numbers get ticks.
    whole: bool,
}

impl Scale {
    /// An axis from `range.low` to `range.high`, opened if they are equal. On a log axis both must be positive.
    pub fn new(kind: ScaleKind, range: Range) -> Self {
        let range = match kind {
            ScaleKind::Linear => range.widened(),
            ScaleKind::Log => {
                let log = |v: f64| v.max(f64::MIN_POSITIVE).log10();
                let (low, high) = (log(range.low), log(range.high));
                if high > low { Range { low, high } } else { Range { low: low - 0.5, high: high + 0.5 } }
            }
        };
        Self { kind, range, whole: false }
    }

    /// This axis with a margin at both ends, so that marks do not touch them.
    pub fn padded(self, share: f64) -> Self {
        Self { range: self.range.padded(share), ..self }
    }

    /// This axis with ticks at whole numbers only, for what is counted.
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Where `value` lies along the axis, 0 to 1.
    pub fn fraction(&self, value: f64) -> f64 {
        match self.kind {
            ScaleKind::Linear => self.range.fraction(value),
            ScaleKind::Log => self.range.fraction(value.max(f64::MIN_POSITIVE).log10()),
        }
    }

    /// About `count` ticks: fraction along the axis, and text.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let mut values = match self.kind {
            ScaleKind::Linear => linear_ticks(self.range, count),
            ScaleKind::Log => log_ticks(self.range, count),
        };
        if self.whole && values.iter().any(|v| v.fract() == 0.0) {
            values.retain(|v| v.fract() == 0.0);
        }
        let texts = match self.kind {
            ScaleKind::Linear => tick_texts(&values),
            ScaleKind::Log => values.iter().map(|&v| number(v)).collect(),
        };
        values.iter().map(|&v| self.fraction(v)).zip(texts).collect()
    }
}

/// About `count` multiples of 1, 2, 2.5 or 5 times a power of ten within `range`; at least three where numbers are that fine, since
/// one or two tell little of a scale.
pub fn linear_ticks(range: Range, count: usize) -> Vec<f64> {
    let count = count.clamp(2, 20);
    let fewest = multiples(range, count);
    if fewest.len() >= 3 {
        return fewest;
    }
    (count + 1..count + 6).map(|count| multiples(range, count)).find(|ticks| ticks.len() >= 3).unwrap_or(fewest)
}

fn multiples(range: Range, count: usize) -> Vec<f64> {
    let raw = range.high / count as f64 - range.low / count as f64;
    let magnitude = 10f64.powf(raw.log10().floor());
    if !(magnitude.is_finite() && magnitude > 1e-300) {
        return vec![range.low, range.high];
    }
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|s| *s >= raw * 0.999).unwrap_or(raw);
    // A little slack, so that an end that is a multiple up to rounding gets its tick.
    let (first, last) = ((range.low / step - 1e-9).ceil(), (range.high / step + 1e-9).floor());
    if !(last - first).is_finite() || last - first > 50.0 || first + 1.0 == first {
        return vec![range.low, range.high];
    }
    let ticks: Vec<f64> = (0..=(last - first).max(0.0) as usize).map(|i| tidy((first + i as f64) * step, step)).collect();
    if ticks.iter().all(|t| t.is_finite()) { ticks } else { vec![range.low, range.high] }
}

/// Rounds away the error of `multiple * step` that would print as 0.30000000000000004; never −0.
fn tidy(value: f64, step: f64) -> f64 {
    let digits = 2.0 - step.log10().floor();
    let rounded = if (0.0..=15.0).contains(&digits) {
        let power = 10f64.powf(digits);
        (value * power).round() / power
    } else {
        value
    };
    rounded + 0.0
}

/// Powers of ten within a range of logarithms, with 2 and 5 between them if there are few.
fn log_ticks(range: Range, count: usize) -> Vec<f64> {
    let (first, last) = (range.low.floor() as i32, range.high.ceil() as i32);
    let inside = |v: &f64| {
        let log = v.log10();
        v.is_finite() && *v > 0.0 && log >= range.low - 1e-9 && log <= range.high + 1e-9
    };
    let decades = range.high - range.low;
    if decades < 0.7 {
        let linear = linear_ticks(Range { low: 10f64.powf(range.low), high: 10f64.powf(range.high) }, count);
        return linear.into_iter().filter(inside).collect();
    }
    let multiples: &[f64] = if decades <= 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let stride = ((decades / count.max(2) as f64).ceil() as i32).max(1);
    (first..=last)
        .filter(|e| e.rem_euclid(stride) == 0)
        .flat_map(|e| multiples.iter().map(move |m| m * 10f64.powi(e)))
        .filter(inside)
        .collect()
}

/// The texts of ticks, all with the same number of decimals.
pub fn tick_texts(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0.0, |m: f64, t| m.max(t.abs()));
    let decimals = (0..=6).find(|&d| ticks.iter().all(|t| rounds_to_itself(*t, d, largest)));
    match decimals {
        Some(decimals) if largest < 1e6 && (largest >= 1e-3 || largest == 0.0) => {
            ticks.iter().map(|t| minus(format!("{t:.decimals$}"))).collect()
        }
        _ => ticks.iter().map(|&t| number(t)).collect(),
    }
}

fn rounds_to_itself(value: f64, decimals: usize, largest: f64) -> bool {
    let power = 10f64.powi(decimals as i32);
    ((value * power).round() / power - value).abs() <= largest * 1e-9
}

/// A number on its own: four significant digits, as few as say the same, and an exponent where zeros would hide it.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return minus(if value.is_nan() { "NaN".into() } else { format!("{value}").replace("inf", "∞") });
    }
    let whole = value.fract() == 0.0 && value.abs() < 1e6;
    let scientific = format!("{value:.3e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if whole {
        minus(format!("{value}"))
    } else if (-3..6).contains(&exponent) {
        minus(trimmed(&format!("{value:.*}", (3 - exponent).max(0) as usize)).to_string())
    } else {
        minus(format!("{}e{exponent}", trimmed(mantissa)))
    }
}

/// `text` with a true minus sign instead of hyphens, and without a sign on zero.
pub fn minus(text: String) -> String {
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|c| c == '0' || c == '.') => digits.to_string(),
        _ => text.replace('-', "−"),
    }
}

fn trimmed(decimal: &str) -> &str {
    if decimal.contains('.') { decimal.trim_end_matches('0').trim_end_matches('.') } else { decimal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(low: f64, high: f64, count: usize) -> Vec<String> {
        tick_texts(&linear_ticks(Range { low, high }, count))
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(texts(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(-0.31, 0.29, 4), ["−0.2", "0.0", "0.2"]);
        assert_eq!(texts(0.0, 61.0, 6), ["0", "20", "40", "60"]);
        assert_eq!(texts(0.0, 4e-5, 4), ["0", "1e−5", "2e−5", "3e−5", "4e−5"]);
        assert_eq!(texts(0.0, 3e7, 3), ["0", "1e7", "2e7", "3e7"]);
        assert_eq!(texts(-0.89, 0.89, 3), ["−0.5", "0.0", "0.5"]);
    }

    #[test]
    fn log_ticks_are_powers_of_ten() {
        let ticks = |low, high, n| -> Vec<String> {
            Scale::new(ScaleKind::Log, Range { low, high }).ticks(n).into_iter().map(|(_, t)| t).collect()
        };
        assert_eq!(ticks(1e-5, 1.0, 6), ["1e−5", "1e−4", "0.001", "0.01", "0.1", "1"]);
        assert_eq!(ticks(1.0, 10.0, 6), ["1", "2", "5", "10"]);
        assert!(ticks(1e-300, 1e300, 6).len() <= 8);
    }

    #[test]
    fn what_is_counted_has_no_halves() {
        let scale = Scale::new(ScaleKind::Linear, Range { low: 1.0, high: 3.0 });
        let texts = |scale: Scale| scale.ticks(6).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(scale), ["1.0", "1.5", "2.0", "2.5", "3.0"]);
        assert_eq!(texts(scale.whole()), ["1", "2", "3"]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.5), "0.5");
        assert_eq!(number(-0.00012345), "−1.234e−4");
        assert_eq!(number(123456.0), "123456");
        assert_eq!(number(1.0 / 3.0), "0.3333");
        assert_eq!(number(1e9), "1e9");
        assert_eq!(number(-0.0), "0");
        assert_eq!(minus("-0.00".into()), "0.00");
    }

    #[test]
    fn extreme_ranges_have_finite_ticks() {
        for (low, high) in
            [(-f64::MAX, f64::MAX), (0.0, 5e-324), (1.0, 1.0 + f64::EPSILON), (1e300, 1.1e300), (7.0, 7.0), (0.0, 0.0)]
        {
            let scale = Scale::new(ScaleKind::Linear, Range { low, high }).padded(0.05);
            let ticks = scale.ticks(5);
            assert!(ticks.len() <= 52 && ticks.iter().all(|(at, _)| at.is_finite()), "{low} {high} {ticks:?}");
        }
    }
}
