use super::Tolerance;
use super::rows::{RowNames, pair, shown};
use crate::Result;
use polars::prelude::{AnyValue, Column, DataFrame};
use std::collections::BTreeSet;

/// Cells and rows that are kept of each kind, as examples.
const KEPT: usize = 5;

/// What is different between two tables, left and right: what [`compare`] finds.
///
/// ```
/// use attn_circuits::experiment::compare::{Tolerance, compare};
/// use polars::prelude::df;
/// let before = df!("head" => [0i64, 1, 2], "value" => [0.25, 0.5, 0.125])?;
/// let after = df!("head" => [2i64, 1, 0], "value" => [0.125, 0.75, 0.2501])?;
/// let found = compare(&before, &after, &Default::default(), Tolerance::new(1e-3)?)?;
/// // Rows are paired by their keys. One number differs, another one within the tolerance only.
/// assert!(found.keys == ["head"] && found.reordered_rows && found.differs());
/// assert_eq!((found.differing(), found.within().0, found.columns[0].cells), (1, 1, 3));
/// let (column, cell) = found.first(1)[0];
/// assert_eq!((column, cell.place.as_str(), cell.numbers), ("value", "head = 1", Some((0.5, 0.75))));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableComparison {
    /// Number of rows of each.
    pub rows: (usize, usize),
    /// Columns that tell rows apart; empty if rows were paired by their position.
    pub keys: Vec<String>,
    /// Columns that are only on the left: name and type.
    pub removed_columns: Vec<(String, String)>,
    /// Columns that are only on the right.
    pub added_columns: Vec<(String, String)>,
    /// Columns of another type: name, type on the left, type on the right.
    pub retyped_columns: Vec<(String, String, String)>,
    /// Whether the columns that both have stand in another order.
    pub reordered_columns: bool,
    /// Number of rows that are only on the left, and the first of them in words.
    pub removed_rows: (usize, Vec<String>),
    /// Number of rows that are only on the right, and the first of them.
    pub added_rows: (usize, Vec<String>),
    /// Whether rows that both have stand in another order.
    pub reordered_rows: bool,
    /// Columns of both in which cells differ.
    pub columns: Vec<ColumnComparison>,
}

/// What is different in one column, over the rows that both tables have; of a [`TableComparison`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnComparison {
    /// Its name.
    pub name: String,
    /// Number of cells compared.
    pub cells: usize,
    /// Number of cells that differ, beyond the tolerance where they are numbers.
    pub differing: usize,
    /// Number of cells whose numbers are not equal, but the same within the tolerance.
    pub within: usize,
    /// The largest difference of those.
    pub largest_within: f64,
    /// The first cells that differ.
    pub first: Vec<CellDifference>,
    /// The cells with the largest differences, largest first; none for what is no number.
    pub largest: Vec<CellDifference>,
}

/// Two cells that differ; the example of [`TableComparison`] looks at one.
#[derive(Clone, Debug, PartialEq)]
pub struct CellDifference {
    /// Index of the row in the left table.
    pub row: usize,
    /// The row in words: `model = wired, layer = 1, head = 0`.
    pub place: String,
    /// What the left table has, with all digits.
    pub left: String,
    /// What the right table has.
    pub right: String,
    /// Both as numbers, where they are.
    pub numbers: Option<(f64, f64)>,
}

impl TableComparison {
    /// Whether the tables are not the same, within the tolerance. The order of rows does not count: where it comes from values that
    /// are the same within the tolerance, it may be another.
    pub fn differs(&self) -> bool {
        !(self.removed_columns.is_empty()
            && self.added_columns.is_empty()
            && self.retyped_columns.is_empty()
            && !self.reordered_columns
            && self.removed_rows.0 == 0
            && self.added_rows.0 == 0
            && self.differing() == 0)
    }

    /// Number of cells that differ, beyond the tolerance.
    pub fn differing(&self) -> usize {
        self.columns.iter().map(|column| column.differing).sum()
    }

    /// Number of cells that are the same only within the tolerance, and the largest difference of them.
    pub fn within(&self) -> (usize, f64) {
        self.columns.iter().fold((0, 0.0), |(n, largest): (usize, f64), c| (n + c.within, largest.max(c.largest_within)))
    }

    /// The first cells that differ, row by row: column and cell.
    pub fn first(&self, most: usize) -> Vec<(&str, &CellDifference)> {
        let cells = self.columns.iter().enumerate().flat_map(|(at, column)| column.first.iter().map(move |cell| (at, cell)));
        let mut cells: Vec<_> = cells.collect();
        cells.sort_by_key(|(at, cell)| (cell.row, *at));
        cells.into_iter().take(most).map(|(at, cell)| (self.columns[at].name.as_str(), cell)).collect()
    }
}

/// Compares two tables: columns and their types, rows (paired by their key columns, so that one more does not make all others
/// differ), and every cell of the rows that both have. Numbers are compared within `tolerance`; text, booleans, whole numbers, nulls
/// and what is not finite exactly. `swept` names the columns of swept parameters, which are keys even where they hold
/// floating-point numbers.
///
/// ```
/// use attn_circuits::experiment::compare::{Tolerance, compare};
/// use polars::prelude::df;
/// let before = df!("head" => [0i64, 1], "value" => [0.25, 0.5])?;
/// let after = df!("head" => [0i64, 1, 2], "value" => [0.25, 0.75, 0.1])?;
/// let found = compare(&before, &after, &Default::default(), Tolerance::EXACT)?;
/// assert_eq!(found.added_rows, (1, vec!["head = 2".to_string()]));
/// assert_eq!(found.columns[0].first[0].place, "head = 1");
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Table`] if a table cannot be read.
pub fn compare(left: &DataFrame, right: &DataFrame, swept: &BTreeSet<String>, tolerance: Tolerance) -> Result<TableComparison> {
    let pairing = pair(left, right, swept)?;
    let names = RowNames::new(left, right, &pairing.keys)?;
    let some = |table: &DataFrame, rows: &[usize]| -> Result<(usize, Vec<String>)> {
        Ok((rows.len(), rows.iter().take(KEPT).map(|&row| names.of(table, row)).collect::<Result<_>>()?))
    };
    let only = |table: &DataFrame, other: &DataFrame| -> Vec<(String, String)> {
        let columns = table.columns().iter().filter(|column| other.column(column.name()).is_err());
        columns.map(|column| (column.name().to_string(), column.dtype().to_string())).collect()
    };
    let shared = |table: &DataFrame, other: &DataFrame| -> Vec<String> {
        let names = table.columns().iter().map(|column| column.name().to_string());
        names.filter(|name| other.column(name).is_ok()).collect()
    };
    let mut found = TableComparison {
        rows: (left.height(), right.height()),
        removed_columns: only(left, right),
        added_columns: only(right, left),
        reordered_columns: shared(left, right) != shared(right, left),
        removed_rows: some(left, &pairing.removed)?,
        added_rows: some(right, &pairing.added)?,
        reordered_rows: pairing.reordered,
        ..TableComparison::default()
    };
    for column in left.columns() {
        let Ok(other) = right.column(column.name()) else { continue };
        if column.dtype() != other.dtype() {
            found.retyped_columns.push((column.name().to_string(), column.dtype().to_string(), other.dtype().to_string()));
        }
        let place = |row: usize| names.of(left, row);
        let compared = compare_column(column, other, &pairing.pairs, tolerance, &place)?;
        if compared.differing + compared.within > 0 {
            found.columns.push(compared);
        }
    }
    found.keys = pairing.keys;
    Ok(found)
}

fn compare_column(
    left: &Column,
    right: &Column,
    pairs: &[(usize, usize)],
    tolerance: Tolerance,
    place: &dyn Fn(usize) -> Result<String>,
) -> Result<ColumnComparison> {
    let mut found = ColumnComparison { name: left.name().to_string(), cells: pairs.len(), ..ColumnComparison::default() };
    // Size of the difference, and which pair; the largest are wanted.
    let mut sizes: Vec<(f64, usize)> = Vec::new();
    let mut first = Vec::new();
    for (index, &(mine, theirs)) in pairs.iter().enumerate() {
        let (a, b) = (left.get(mine)?, right.get(theirs)?);
        match Cells::of(&a, &b) {
            Cells::Same => {}
            Cells::Floats(x, y) if tolerance.admits(x, y) => {
                found.within += 1;
                found.largest_within = found.largest_within.max((x - y).abs());
            }
            other => {
                found.differing += 1;
                if first.len() < KEPT {
                    first.push(index);
                }
                if let Cells::Floats(x, y) | Cells::Whole(x, y) = other {
                    let size = (x - y).abs();
                    sizes.push((if size.is_nan() { f64::INFINITY } else { size }, index));
                }
            }
        }
    }
    // Of equally large ones, the first.
    sizes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let cell = |index: usize| -> Result<CellDifference> {
        let (row, other) = pairs[index];
        let (a, b) = (left.get(row)?, right.get(other)?);
        let numbers = match Cells::of(&a, &b) {
            Cells::Floats(x, y) | Cells::Whole(x, y) => Some((x, y)),
            _ => None,
        };
        Ok(CellDifference { row, place: place(row)?, left: shown(&a), right: shown(&b), numbers })
    };
    found.first = first.into_iter().map(cell).collect::<Result<_>>()?;
    found.largest = sizes.iter().take(KEPT).map(|(_, index)| cell(*index)).collect::<Result<_>>()?;
    Ok(found)
}

/// Two cells.
enum Cells {
    /// Equal to the bit, or both not a number.
    Same,
    /// Floating-point numbers that are not equal, or a whole and a floating-point one.
    Floats(f64, f64),
    /// Whole numbers that are not equal.
    Whole(f64, f64),
    /// Anything else that is not equal.
    Other,
}

impl Cells {
    fn of(left: &AnyValue, right: &AnyValue) -> Self {
        let whole = |value: &AnyValue| value.is_integer();
        // A column of a changed file may have become text as a whole; its other cells are still what they were.
        let number = |value: &AnyValue| match value {
            AnyValue::String(text) if whole(left) || left.is_float() || whole(right) || right.is_float() => text.parse().ok(),
            _ if whole(value) || value.is_float() => value.extract::<f64>(),
            _ => None,
        };
        match (number(left), number(right)) {
            (Some(a), Some(b)) if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) => {
                // Beyond 2⁵³ two whole numbers may look the same as floating-point ones.
                if whole(left) && whole(right) && left != right { Self::Whole(a, b) } else { Self::Same }
            }
            (Some(a), Some(b)) if whole(left) && whole(right) => Self::Whole(a, b),
            (Some(a), Some(b)) => Self::Floats(a, b),
            _ if left.is_null() != right.is_null() => Self::Other,
            _ if shown(left) == shown(right) => Self::Same,
            _ => Self::Other,
        }
    }
}
