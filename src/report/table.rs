//! A table's first rows, as the template wants them.

use super::markdown::escape;
use super::number::{count, number};
use crate::Result;
use minijinja::{Value, context};
use polars::prelude::{AnyValue, DataFrame};

/// More rows than these may break over two pages of paper.
const ONE_PAGE: usize = 30;

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    /// What is shown; none for a null.
    text: Option<String>,
    /// The whole value, where what is shown is rounded.
    exact: Option<String>,
    /// Digits behind the point; none for what is no plain number.
    places: Option<usize>,
}

/// Head and first `limit` rows of `data`.
///
/// # Errors
/// [`crate::Error::Table`] if a value cannot be read.
pub(super) fn first_rows(data: &DataFrame, limit: usize) -> Result<Value> {
    let shown = data.height().min(limit);
    let mut head = Vec::new();
    let mut columns = Vec::new();
    for column in data.columns() {
        let numeric = column.dtype().is_primitive_numeric();
        // Long names may go on in a new line.
        let name = Value::from_safe_string(escape(column.name()).replace('_', "_<wbr>"));
        head.push(context! { name, numeric });
        let cells = (0..shown).map(|row| Ok(cell(&column.get(row)?))).collect::<Result<Vec<_>>>()?;
        let places = cells.iter().filter_map(|cell| cell.places).max().unwrap_or(0);
        columns.push((numeric, places, cells));
    }
    let rows: Vec<Value> = (0..shown)
        .map(|row| {
            let cells = columns.iter().map(|(numeric, places, cells)| {
                let cell = &cells[row];
                context! {
                    text => cell.text.as_deref(),
                    exact => cell.exact.as_deref(),
                    numeric => *numeric,
                    padding => cell.places.map(|own| padding(own, *places)),
                }
            });
            Value::from(cells.collect::<Vec<_>>())
        })
        .collect();
    let left = data.height() - shown;
    Ok(context! { head, rows, left, more => count(left), long => shown > ONE_PAGE })
}

fn cell(value: &AnyValue) -> Cell {
    match value {
        AnyValue::Null => Cell { text: None, exact: None, places: None },
        AnyValue::Float32(x) => float(f64::from(*x), x.to_string()),
        AnyValue::Float64(x) => float(*x, x.to_string()),
        AnyValue::String(text) => Cell { text: Some((*text).to_owned()), exact: None, places: None },
        AnyValue::StringOwned(text) => Cell { text: Some(text.to_string()), exact: None, places: None },
        other => Cell { text: Some(other.to_string()), exact: None, places: other.is_integer().then_some(0) },
    }
}

fn float(value: f64, exact: String) -> Cell {
    let text = number(value);
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
    let places = plain.then(|| text.split_once('.').map_or(0, |(_, behind)| behind.len()));
    let exact = (text.parse() != Ok(value) && value.is_finite()).then_some(exact);
    Cell { text: Some(text), exact, places }
}

/// Spaces as wide as the digits that a number lacks behind the point, so that the points of a column stand below each other.
fn padding(own: usize, most: usize) -> String {
    let point = if own == 0 && most > 0 { "\u{2008}" } else { "" };
    format!("{point}{}", "\u{2007}".repeat(most - own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;

    fn texts(value: &Value) -> Vec<Vec<String>> {
        let attr = |v: &Value, name: &str| v.get_attr(name).unwrap();
        let rows = attr(value, "rows").try_iter().unwrap();
        let text = |cell: Value| {
            let text = attr(&cell, "text");
            if text.is_none() { "null".into() } else { format!("{text}{}", attr(&cell, "padding").as_str().unwrap_or("")) }
        };
        rows.map(|row| row.try_iter().unwrap().map(text).collect()).collect()
    }

    #[test]
    fn values_are_rounded_aligned_and_limited() {
        let data = df!(
            "model" => [Some("wired"), None, Some("random")],
            "layer" => [0_u32, 1, 10],
            "value" => [Some(0.98765), None, Some(1.0)],
            "small" => [0.000_012_34_f32, 0.5, f32::NAN],
            "holds" => [true, false, true],
        )
        .unwrap();
        let value = first_rows(&data, 10).unwrap();
        assert_eq!(
            texts(&value),
            [
                ["wired", "0", "0.9877", "1.234e-5", "true"],
                ["null", "1", "null", "0.5", "false"],
                ["random", "10", "1\u{2008}\u{2007}\u{2007}\u{2007}\u{2007}", "NaN", "true"],
            ]
        );
        let two = first_rows(&data, 2).unwrap();
        assert_eq!(texts(&two).len(), 2);
        assert_eq!(two.get_attr("left").unwrap(), Value::from(1));
    }

    #[test]
    fn what_is_rounded_keeps_its_whole_value() {
        assert_eq!(float(0.987_654_321, "0.987654321".into()).exact.as_deref(), Some("0.987654321"));
        assert_eq!(float(0.5, "0.5".into()).exact, None);
        assert_eq!(float(f64::NAN, "NaN".into()).exact, None);
    }

    #[test]
    fn a_table_without_rows_or_columns_is_fine() {
        assert!(texts(&first_rows(&DataFrame::empty(), 5).unwrap()).is_empty());
        let data = df!("value" => Vec::<f64>::new()).unwrap();
        let value = first_rows(&data, 5).unwrap();
        assert!(texts(&value).is_empty());
        assert_eq!(value.get_attr("head").unwrap().len(), Some(1));
    }
}
