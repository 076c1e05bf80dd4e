use crate::{Error, Result};
use polars::prelude::DataFrame;
use polars_io::SerReader;
use polars_io::SerWriter;
use polars_io::csv::write::CsvWriter;
use polars_io::parquet::read::ParquetReader;
use polars_io::parquet::write::ParquetWriter;
use std::fs::File;
use std::path::Path;

/// A table as CSV: a header, empty cells for nulls, numbers such that reading them gives the same bits.
///
/// # Errors
/// [`Error::Table`].
pub fn to_csv(table: &DataFrame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).include_header(true).n_threads(1).finish(&mut table.clone())?;
    Ok(bytes)
}

/// A table as Parquet.
///
/// # Errors
/// [`Error::Table`].
pub fn to_parquet(table: &DataFrame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).set_parallel(false).finish(&mut table.clone())?;
    Ok(bytes)
}

/// Reads a Parquet file back.
///
/// # Errors
/// [`Error::Io`] if the file cannot be opened, [`Error::File`] if it is damaged.
pub fn read_parquet(path: &Path) -> Result<DataFrame> {
    let file = File::open(path).map_err(Error::io(path))?;
    ParquetReader::new(file).finish().map_err(|error| Error::file(path, format!("cannot be read as a table: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;

    #[test]
    fn a_table_comes_back_from_parquet_and_reads_as_csv() {
        let table = df!("model" => ["a", "b, \"c\""], "repeat" => [None, Some(1i64)], "value" => [0.1, 1e-300]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, to_parquet(&table).unwrap()).unwrap();
        assert!(read_parquet(&path).unwrap().equals_missing(&table));
        let csv = String::from_utf8(to_csv(&table).unwrap()).unwrap();
        assert_eq!(csv, "model,repeat,value\na,,0.1\n\"b, \"\"c\"\"\",1,1e-300\n");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, b"PAR1 not really").unwrap();
        assert!(read_parquet(&path).unwrap_err().to_string().contains("t.parquet: cannot be read as a table"));
    }
}
