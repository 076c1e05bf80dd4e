//! The tables of a run, written as they are made, and kept for the queries and figures that read them.

use crate::Result;
use crate::query::{Tables, may_read};
use crate::store::{Cache, Key, Staging, TableRecord, as_read, decode_parquet, hash, to_csv, to_parquet};
use indexmap::IndexMap;
use polars::prelude::DataFrame;

/// A table with its two files.
#[derive(Debug)]
pub(super) struct Encoded {
    csv: Vec<u8>,
    parquet: Vec<u8>,
    record: TableRecord,
    frame: DataFrame,
}

impl Encoded {
    /// # Errors
    /// [`crate::Error::Table`].
    pub fn new(frame: DataFrame) -> Result<Self> {
        let frame = as_read(frame);
        let (csv, parquet) = rayon::join(|| to_csv(&frame), || to_parquet(&frame));
        let (csv, parquet) = (csv?, parquet?);
        let columns = frame.schema().iter().map(|(name, dtype)| (name.to_string(), dtype.to_string())).collect();
        let record = TableRecord { rows: frame.height(), columns, csv: hash(&csv), parquet: hash(&parquet) };
        Ok(Self { csv, parquet, record, frame })
    }

    /// What is in the cache under a key.
    pub fn cached(cache: &Cache, key: &Key) -> Option<Self> {
        let [csv, parquet, record] = <[Vec<u8>; 3]>::try_from(cache.get(key)?).ok()?;
        let frame = decode_parquet(parquet.clone()).ok()?;
        Some(Self { csv, parquet, record: serde_json::from_slice(&record).ok()?, frame })
    }

    /// Puts it into the cache.
    pub fn keep(&self, cache: &Cache, key: &Key) {
        let record = serde_json::to_vec(&self.record).expect("a record has string keys only");
        cache.put(key, &[&self.csv, &self.parquet, &record]);
    }

    /// Writes both files of a table that will be called `name`.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn write(self, name: &str, staging: &Staging) -> Result<Written> {
        staging.write(&format!("tables/{name}.csv"), &self.csv)?;
        staging.write(&format!("tables/{name}.parquet"), &self.parquet)?;
        Ok(Written { record: self.record, frame: self.frame })
    }
}

/// A table that is on disk.
pub(super) struct Written {
    record: TableRecord,
    frame: DataFrame,
}

/// The tables of a run so far, by name, in the order of their cells.
#[derive(Default)]
pub(super) struct RunTables(IndexMap<String, Written>);

impl RunTables {
    /// Makes a table known to the cells below.
    pub fn insert(&mut self, name: &str, table: Written) {
        self.0.insert(name.to_string(), table);
    }

    pub fn records(&self) -> IndexMap<String, TableRecord> {
        self.0.iter().map(|(name, table)| (name.clone(), table.record.clone())).collect()
    }

    /// All tables.
    pub fn all(&self) -> Tables {
        self.0.iter().map(|(name, table)| (name.clone(), table.frame.clone())).collect()
    }

    /// The tables that a query can read.
    pub fn read_by(&self, sql: &str) -> Tables {
        let named = self.0.iter().filter(|(name, _)| may_read(sql, name));
        named.map(|(name, table)| (name.clone(), table.frame.clone())).collect()
    }

    /// What the answer to a query depends on besides its words, as part of `key`.
    pub fn key(&self, key: Key, sql: &str) -> Key {
        key_of_tables(key, sql, self.0.iter().map(|(name, table)| (name, &table.record)))
    }
}

/// `key`, and it depends on the tables that a query can read.
pub(super) fn key_of_tables<'r>(key: Key, sql: &str, tables: impl Iterator<Item = (&'r String, &'r TableRecord)>) -> Key {
    let read = tables.filter(|(name, _)| may_read(sql, name));
    read.fold(key.text(sql), |key, (name, record)| key.text(name).text(&record.parquet))
}
