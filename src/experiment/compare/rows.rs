//! Which rows of two tables belong together.

use crate::Result;
use polars::prelude::{AnyValue, DataFrame};
use std::collections::{BTreeSet, HashMap};

/// Stands between the values of a key; no value of a table contains it.
const BETWEEN: char = '\u{1f}';

/// The columns that tell rows apart, and how the rows of two tables are paired by them.
#[derive(Clone, Debug, Default)]
pub struct Pairing {
    /// Names of the key columns; none if rows are paired by their position.
    pub keys: Vec<String>,
    /// Rows that belong together: index on the left, index on the right, in the order of the left.
    pub pairs: Vec<(usize, usize)>,
    /// Rows that are only on the left.
    pub removed: Vec<usize>,
    /// Rows that are only on the right.
    pub added: Vec<usize>,
    /// Whether rows that are on both sides stand in another order.
    pub reordered: bool,
}

/// Pairs the rows of two tables by the first columns that tell all rows of each apart, as long as these hold no floating-point
/// numbers (those of `swept` may); if there are none in front, by those further back; if there are none at all, by position.
pub fn pair(left: &DataFrame, right: &DataFrame, swept: &BTreeSet<String>) -> Result<Pairing> {
    let is_key = |name: &str| {
        let exact = |table: &DataFrame| table.column(name).is_ok_and(|column| !column.dtype().is_float());
        swept.contains(name) || (exact(left) && exact(right))
    };
    let names: Vec<String> = left.get_column_names().iter().map(ToString::to_string).collect();
    let shared: Vec<String> = names.into_iter().filter(|name| right.column(name).is_ok()).collect();
    let front: Vec<String> = shared.iter().take_while(|name| is_key(name)).cloned().collect();
    let all: Vec<String> = shared.into_iter().filter(|name| is_key(name)).collect();
    let enough = match by_keys(left, right, &front)? {
        None if all.len() > front.len() => by_keys(left, right, &all)?,
        found => found,
    };
    if let Some(pairing) = enough {
        return Ok(pairing);
    }
    let (mine, theirs) = (left.height(), right.height());
    let both = mine.min(theirs);
    Ok(Pairing {
        keys: Vec::new(),
        pairs: (0..both).map(|row| (row, row)).collect(),
        removed: (both..mine).collect(),
        added: (both..theirs).collect(),
        reordered: false,
    })
}

/// The pairing by as many of `columns` as tell the rows of each table apart, if all do.
fn by_keys(left: &DataFrame, right: &DataFrame, columns: &[String]) -> Result<Option<Pairing>> {
    let (mut mine, mut theirs) = (vec![String::new(); left.height()], vec![String::new(); right.height()]);
    for (index, column) in columns.iter().enumerate() {
        append(&mut mine, left, column)?;
        append(&mut theirs, right, column)?;
        let (Some(here), Some(there)) = (places(&mine), places(&theirs)) else { continue };
        let mut found = Pairing { keys: columns[..=index].to_vec(), ..Pairing::default() };
        for (row, key) in mine.iter().enumerate() {
            match there.get(key.as_str()) {
                Some(&other) => found.pairs.push((row, other)),
                None => found.removed.push(row),
            }
        }
        found.added = (0..theirs.len()).filter(|&row| !here.contains_key(theirs[row].as_str())).collect();
        found.reordered = !found.pairs.is_sorted_by_key(|(_, other)| *other);
        return Ok(Some(found));
    }
    Ok(None)
}

fn append(keys: &mut [String], table: &DataFrame, name: &str) -> Result<()> {
    let column = table.column(name)?;
    for (row, key) in keys.iter_mut().enumerate() {
        key.push_str(&shown(&column.get(row)?));
        key.push(BETWEEN);
    }
    Ok(())
}

/// The row of each key, if no two have the same.
fn places(keys: &[String]) -> Option<HashMap<&str, usize>> {
    let mut places = HashMap::with_capacity(keys.len());
    keys.iter().enumerate().all(|(row, key)| places.insert(key.as_str(), row).is_none()).then_some(places)
}

/// A value as it is written in messages: numbers with all their digits.
pub fn shown(value: &AnyValue) -> String {
    match value {
        AnyValue::Null => "null".to_string(),
        AnyValue::String(text) => (*text).to_string(),
        AnyValue::StringOwned(text) => text.to_string(),
        other if other.is_float() => other.extract::<f64>().map_or_else(|| other.to_string(), digits),
        other => other.to_string(),
    }
}

/// A number with the digits that tell it from all others.
fn digits(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) { format!("{value:e}") } else { value.to_string() }
}

/// Where a row stands, in words: `model = wired, layer = 1, head = 0`. Keys that are the same in all rows of both tables say nothing
/// and are left out.
#[derive(Debug)]
pub struct RowNames {
    telling: Vec<String>,
}

impl RowNames {
    /// For the rows of two tables with these key columns.
    pub fn new(left: &DataFrame, right: &DataFrame, keys: &[String]) -> Result<Self> {
        let mut telling = Vec::new();
        for key in keys {
            let mut values = BTreeSet::new();
            for table in [left, right] {
                let column = table.column(key)?;
                for row in 0..table.height() {
                    values.insert(shown(&column.get(row)?));
                    if values.len() > 1 {
                        break;
                    }
                }
            }
            if values.len() > 1 {
                telling.push(key.clone());
            }
        }
        Ok(Self { telling: if telling.is_empty() { keys.to_vec() } else { telling } })
    }

    /// The name of a row of `table`; its number, from 1, where there are no keys.
    pub fn of(&self, table: &DataFrame, row: usize) -> Result<String> {
        if self.telling.is_empty() {
            return Ok(format!("row {}", row + 1));
        }
        let value = |key: &String| Ok(format!("{key} = {}", shown(&table.column(key)?.get(row)?)));
        Ok(self.telling.iter().map(value).collect::<Result<Vec<_>>>()?.join(", "))
    }
}
