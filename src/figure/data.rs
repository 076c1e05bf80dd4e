//! Columns of a table as numbers and categories.

use super::scale;
use crate::{Error, Result};
use polars::prelude::{Column, DataFrame, DataType};
use std::collections::HashMap;

/// More facets than this are too small to read.
pub const MOST_FACETS: usize = 24;
/// More series than this cannot be told apart.
pub const MOST_SERIES: usize = 24;

/// A column whose values are compared but not measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Categories {
    /// The distinct values: numbers in their order, everything else in the order of first appearance.
    pub labels: Vec<String>,
    /// For each row, the index of its value.
    pub codes: Vec<usize>,
    /// The values as numbers, if all are.
    pub numbers: Option<Vec<f64>>,
}

impl Categories {
    /// A single unnamed category for all `rows`.
    pub fn single(rows: usize) -> Self {
        Self { labels: vec![String::new()], codes: vec![0; rows], numbers: None }
    }

    /// Number of distinct values.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether the labels are whole numbers, which a reader can count on between two that are printed.
    pub fn are_integers(&self) -> bool {
        self.numbers.as_ref().is_some_and(|n| n.iter().all(|v| v.fract() == 0.0))
    }
}

/// Titles of the panels of `facets`, which `name` names: the values alone where they are words, `noise = 0.1` where they are numbers.
pub fn facet_titles(facets: &Categories, name: Option<&str>) -> Vec<String> {
    let number = |label: &String| label.replace('−', "-").parse::<f64>().is_ok() || label == "true" || label == "false";
    match name {
        Some(name) if facets.labels.iter().any(number) => facets.labels.iter().map(|l| format!("{name} = {l}")).collect(),
        _ => facets.labels.clone(),
    }
}

/// The error for a figure without rows.
///
/// # Errors
/// [`Error::Figure`] if `data` has none.
pub fn require_rows(data: &DataFrame) -> Result<()> {
    if data.height() == 0 {
        return Err(Error::Figure("the table has no rows: check the WHERE of the query".into()));
    }
    Ok(())
}

fn column<'a>(data: &'a DataFrame, parameter: &str, name: &str) -> Result<&'a Column> {
    data.column(name).map_err(|_| {
        let names = data.get_column_names().iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        Error::Figure(format!("`{parameter}: {name}` names no column; the table has {names}"))
    })
}

/// The column `name` as numbers. Nulls, NaN and infinities are missing values; booleans are 0 and 1.
///
/// # Errors
/// [`Error::Figure`] if there is no such column or it holds no numbers; `parameter` is what the experiment file calls it.
pub fn numbers(data: &DataFrame, parameter: &str, name: &str) -> Result<Vec<Option<f64>>> {
    let column = column(data, parameter, name)?;
    let numeric = column.dtype().is_primitive_numeric() || matches!(column.dtype(), DataType::Boolean | DataType::Null);
    if !numeric {
        return Err(Error::Figure(format!(
            "`{parameter}: {name}` must be a column of numbers, but it holds {}: name another column or CAST it in the query",
            column.dtype()
        )));
    }
    let floats = column.cast(&DataType::Float64)?;
    Ok(floats.f64()?.iter().map(|v| v.filter(|v| v.is_finite())).collect())
}

/// Whether the column `name` holds numbers.
///
/// # Errors
/// [`Error::Figure`] if there is no such column.
pub fn is_numeric(data: &DataFrame, parameter: &str, name: &str) -> Result<bool> {
    Ok(column(data, parameter, name)?.dtype().is_primitive_numeric())
}

/// The column `name` as categories; a null is a category of its own, called `null`.
///
/// # Errors
/// [`Error::Figure`] if there is no such column or its values have no text.
pub fn categories(data: &DataFrame, parameter: &str, name: &str) -> Result<Categories> {
    let column = column(data, parameter, name)?;
    if column.dtype().is_primitive_numeric() {
        return numeric_categories(column);
    }
    let text = column.cast(&DataType::String).map_err(|_| {
        Error::Figure(format!("`{parameter}: {name}` holds {}, which has no text: CAST it in the query", column.dtype()))
    })?;
    let mut labels = Vec::new();
    let mut seen = HashMap::new();
    let codes = text
        .str()?
        .iter()
        .map(|value| {
            let label = value.unwrap_or("null");
            *seen.entry(label.to_string()).or_insert_with(|| {
                labels.push(label.to_string());
                labels.len() - 1
            })
        })
        .collect();
    Ok(Categories { labels, codes, numbers: None })
}

fn numeric_categories(column: &Column) -> Result<Categories> {
    let floats = column.cast(&DataType::Float64)?;
    // -0 and 0 are one category, and so are all NaN.
    let key = |v: Option<f64>| {
        v.map(|v| {
            if v == 0.0 {
                0.0
            } else if v.is_nan() {
                f64::NAN
            } else {
                v
            }
        })
    };
    let values: Vec<Option<f64>> = floats.f64()?.iter().map(key).collect();
    let mut distinct = values.clone();
    // Missing ones go last.
    distinct.sort_by(|a, b| a.is_none().cmp(&b.is_none()).then(a.unwrap_or(0.0).total_cmp(&b.unwrap_or(0.0))));
    distinct.dedup_by_key(|v| v.map(f64::to_bits));
    let index: HashMap<Option<u64>, usize> = distinct.iter().enumerate().map(|(i, v)| (v.map(f64::to_bits), i)).collect();
    let integers = column.dtype().is_integer();
    let label = |v: f64| if integers { scale::minus(format!("{v}")) } else { scale::number(v) };
    Ok(Categories {
        labels: distinct.iter().map(|v| v.map_or("null".into(), label)).collect(),
        codes: values.iter().map(|v| index[&v.map(f64::to_bits)]).collect(),
        numbers: distinct.iter().copied().collect(),
    })
}

/// The facets that the optional column `name` makes.
///
/// # Errors
/// As for [`categories`], and if there are more than [`MOST_FACETS`].
pub fn facets(data: &DataFrame, name: Option<&str>) -> Result<Categories> {
    let Some(name) = name else { return Ok(Categories::single(data.height())) };
    let facets = categories(data, "facet", name)?;
    limit_facets(facets.len(), &format!("`facet: {name}`"))?;
    Ok(facets)
}

/// The error for too many facets.
///
/// # Errors
/// [`Error::Figure`] if there are more than [`MOST_FACETS`].
pub fn limit_facets(count: usize, what: &str) -> Result<()> {
    if count > MOST_FACETS {
        return Err(Error::Figure(format!(
            "{what} makes {count} facets, and at most {MOST_FACETS} can be read: choose some of them with WHERE in the query"
        )));
    }
    Ok(())
}

/// The series that the optional column `name` makes.
///
/// # Errors
/// As for [`categories`], and if there are more than [`MOST_SERIES`].
pub fn series(data: &DataFrame, name: Option<&str>) -> Result<Categories> {
    let Some(name) = name else { return Ok(Categories::single(data.height())) };
    let series = categories(data, "color", name)?;
    if series.len() > MOST_SERIES {
        return Err(Error::Figure(format!(
            "`color: {name}` has {} values, and at most {MOST_SERIES} series can be told apart: choose some with WHERE in the query, or use `facet`",
            series.len()
        )));
    }
    Ok(series)
}

/// Refuses two rows at the same place. `place` gives the coordinates of a row, `describe` their words.
///
/// # Errors
/// [`Error::Figure`] that names the place and says how to aggregate.
pub fn require_unique<K: Eq + std::hash::Hash>(
    rows: usize,
    place: impl Fn(usize) -> K,
    describe: impl Fn(usize) -> String,
    advice: &str,
) -> Result<()> {
    let mut counts: HashMap<K, usize> = HashMap::new();
    for row in 0..rows {
        *counts.entry(place(row)).or_default() += 1;
    }
    match (0..rows).find(|&row| counts[&place(row)] > 1) {
        Some(row) => Err(Error::Figure(format!("{} rows share {}: {advice}", counts[&place(row)], describe(row)))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;

    #[test]
    fn numbers_are_ordered_and_words_appear_in_their_order() {
        let data =
            df!("n" => [Some(10i64), Some(-2), None, Some(10)], "f" => [0.5, 1e-7, f64::NAN, 0.5], "w" => ["b", "a", "b", "c"],
            "t" => [true, false, true, true])
            .unwrap();
        let n = categories(&data, "x", "n").unwrap();
        assert_eq!(n.labels, ["−2", "10", "null"]);
        assert_eq!(n.codes, [1, 0, 2, 1]);
        assert_eq!(categories(&data, "x", "f").unwrap().labels, ["1e−7", "0.5", "NaN"]);
        let w = categories(&data, "x", "w").unwrap();
        assert_eq!((w.labels, w.codes), (vec!["b".into(), "a".into(), "c".into()], vec![0, 1, 0, 2]));
        assert_eq!(categories(&data, "x", "t").unwrap().labels, ["true", "false"]);
        assert_eq!(numbers(&data, "y", "f").unwrap(), [Some(0.5), Some(1e-7), None, Some(0.5)]);
    }

    #[test]
    fn errors_name_the_parameter_and_the_column() {
        let data = df!("w" => ["a"]).unwrap();
        let wrong = numbers(&data, "color", "w").unwrap_err().to_string();
        assert!(wrong.contains("`color: w`") && wrong.contains("numbers"), "{wrong}");
        let missing = numbers(&data, "y", "v").unwrap_err().to_string();
        assert!(missing.contains("`y: v`") && missing.contains("`w`"), "{missing}");
    }
}
