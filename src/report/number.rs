//! How numbers are written for people.

/// A number with about four significant digits, as tables show it.
///
/// Whole numbers are written whole, without separators; very small and very large ones in scientific notation. A number that is
/// not whole never looks whole: `0.99998` gives `1.000`, so that a reader can tell it from an exact `1`.
///
/// ```
/// use attn_circuits::report::number;
/// assert_eq!(number(0.98765), "0.9877");
/// assert_eq!(number(0.000123), "1.23e-4");
/// assert_eq!(number(20.0), "20");
/// ```
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "-∞" }.into();
    }
    // Up to 2⁵³ every whole number is exact, so that its digits mean something.
    if value.fract() == 0.0 && value.abs() < 9.007_199_254_740_992e15 {
        // Adding zero turns -0 into 0.
        return format!("{:.0}", value + 0.0);
    }
    // Rounded first: the exponent has to be that of the number shown (0.99999 is shown as 1.000, not as 1.0000).
    let scientific = format!("{value:.3e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-3..6).contains(&exponent) {
        let places = usize::try_from(3 - exponent).unwrap_or(0);
        trim(&format!("{value:.places$}")).to_owned()
    } else {
        format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Without trailing zeros, unless they are all that stands behind the point.
fn trim(text: &str) -> &str {
    if !text.contains('.') {
        return text;
    }
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { text } else { short }
}

/// A count with separators: `1234567` gives `1,234,567`.
///
/// ```
/// use attn_circuits::report::count;
/// assert_eq!((count(999), count(1_234_567)), ("999".into(), "1,234,567".into()));
/// ```
#[must_use]
pub fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_significant_digits() {
        for (value, shown) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (20.0, "20"),
            (1_234_567.0, "1234567"),
            (0.5, "0.5"),
            (0.98765, "0.9877"),
            (-0.98765, "-0.9877"),
            (12.3456, "12.35"),
            (1234.56, "1235"),
            (123_456.7, "123457"),
            (1_234_567.8, "1.235e6"),
            (0.012_345, "0.01235"),
            (0.001_234_5, "0.001234"),
            (0.000_123, "1.23e-4"),
            (1e-9, "1e-9"),
            (1e300, "1e300"),
            (f64::INFINITY, "∞"),
            (f64::NEG_INFINITY, "-∞"),
        ] {
            assert_eq!(number(value), shown, "{value:?}");
        }
        assert_eq!(number(f64::NAN), "NaN");
    }

    #[test]
    fn what_is_not_whole_never_looks_whole() {
        assert_eq!(number(0.99998), "1.000");
        assert_eq!(number(2.000_003), "2.000");
        assert_eq!(number(-9.99999), "-10.00");
        assert_eq!(number(0.000_999_99), "0.001");
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (value, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")] {
            assert_eq!(count(value), shown);
        }
    }
}
