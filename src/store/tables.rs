use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema};
use polars::series::IsSorted;
use polars_io::SerReader;
use polars_io::SerWriter;
use polars_io::csv::read::CsvReadOptions;
use polars_io::csv::write::CsvWriter;
use polars_io::parquet::read::ParquetReader;
use polars_io::parquet::write::ParquetWriter;
use std::io::Cursor;
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

/// The table that the content of a Parquet file holds; `path` is where it comes from, for the error.
///
/// # Errors
/// [`Error::File`] if it is damaged.
pub fn parquet_table(bytes: Vec<u8>, path: &Path) -> Result<DataFrame> {
    decode_parquet(bytes).map_err(|error| Error::file(path, format!("cannot be read as a table: {error}")))
}

/// The table that the content of a CSV file holds, with the types of `schema` where all values of a column fit, and as text where
/// they do not: a cell that somebody has changed is still there to be shown.
///
/// # Errors
/// [`Error::File`] if the rows have not as many cells as the header.
pub fn csv_table(bytes: Vec<u8>, schema: &Schema, path: &Path) -> Result<DataFrame> {
    // No row is looked at to guess a type: every column is read as text first.
    let options = CsvReadOptions::default().with_has_header(true).with_infer_schema_length(Some(0)).with_n_threads(Some(1));
    let reader = options.into_reader_with_file_handle(Cursor::new(bytes));
    let text = reader.finish().map_err(|error| Error::file(path, format!("cannot be read as a table: {error}")))?;
    let typed = text.columns().iter().map(|column| match schema.get(column.name()) {
        Some(dtype) => column.strict_cast(dtype).unwrap_or_else(|_| column.clone()),
        None => column.clone(),
    });
    Ok(DataFrame::new(text.height(), typed.collect())?)
}

/// The table that [`to_parquet`] wrote, as [`as_read`] has it.
///
/// # Errors
/// [`Error::Table`] if the bytes are damaged.
pub fn decode_parquet(bytes: Vec<u8>) -> Result<DataFrame> {
    Ok(as_read(ParquetReader::new(Cursor::new(bytes)).finish()?))
}

/// A table without what says nothing of its content and yet changes the last digits of sums over it: every column in one piece,
/// and not marked as sorted. So queries over a table that was just made answer as those over the same one from disk.
pub fn as_read(mut table: DataFrame) -> DataFrame {
    table.rechunk_mut_par();
    let rows = table.height();
    let mut columns = table.into_columns();
    columns.iter_mut().for_each(|column| column.set_sorted_flag(IsSorted::Not));
    DataFrame::new(rows, columns).expect("the columns of a table make a table")
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
        assert!(parquet_table(std::fs::read(&path).unwrap(), &path).unwrap().equals_missing(&table));
        let csv = String::from_utf8(to_csv(&table).unwrap()).unwrap();
        assert_eq!(csv, "model,repeat,value\na,,0.1\n\"b, \"\"c\"\"\",1,1e-300\n");
        assert!(csv_table(csv.into_bytes(), table.schema(), &path).unwrap().equals_missing(&table));
    }

    #[test]
    fn every_float_comes_back_from_csv() {
        let values = [0.1, 1.0 / 3.0, -0.0, 1e-308, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 20.0];
        let table = df!("value" => values, "holds" => [true; 9], "name" => [Some(""); 9]).unwrap();
        let back = csv_table(to_csv(&table).unwrap(), table.schema(), Path::new("t.csv")).unwrap();
        assert!(back.equals_missing(&table), "{back:?}");
    }

    #[test]
    fn a_cell_that_is_no_number_is_kept_as_text() {
        let schema = df!("layer" => [0i64], "value" => [0.5]).unwrap().schema().clone();
        let table = csv_table(b"layer,value\n0,0.5\n1,many\n".to_vec(), &schema, Path::new("t.csv")).unwrap();
        let expected = df!("layer" => [0i64, 1], "value" => ["0.5", "many"]).unwrap();
        assert_eq!(table, expected);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        std::fs::write(&path, b"PAR1 not really").unwrap();
        assert!(
            parquet_table(std::fs::read(&path).unwrap(), &path)
                .unwrap_err()
                .to_string()
                .contains("t.parquet: cannot be read as a table")
        );
    }
}
