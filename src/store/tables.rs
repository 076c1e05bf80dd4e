use super::parquet;
use crate::{Error, Result};
use polars::error::PolarsError;
use polars::prelude::{Column, DataFrame, DataType, Schema};
use polars::series::IsSorted;
use polars_io::SerReader;
use polars_io::SerWriter;
use polars_io::csv::read::CsvReadOptions;
use polars_io::csv::write::CsvWriter;
use polars_io::parquet::read::{ParallelStrategy, ParquetReader};
use polars_io::parquet::write::ParquetWriter;
use std::cell::Cell;
use std::fmt::Display;
use std::io::Cursor;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;

/// A table as CSV: a header, empty cells for nulls, numbers such that reading them gives the same bits.
///
/// ```
/// use attn_circuits::store::to_csv;
/// use polars::prelude::df;
/// let table = df!("head" => ["0.0", "1.0"], "value" => [Some(0.1 + 0.2), None])?;
/// assert_eq!(to_csv(&table)?, b"head,value\n0.0,0.30000000000000004\n1.0,\n");
/// # Ok::<(), attn_circuits::Error>(())
/// ```
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
/// ```
/// use attn_circuits::store::{decode_parquet, to_parquet};
/// use polars::prelude::df;
/// let table = df!("head" => [0i64, 1], "value" => [Some(0.1 + 0.2), None])?;
/// let bytes = to_parquet(&table)?;
/// assert!(decode_parquet(bytes.clone())?.equals_missing(&table));
/// assert!(decode_parquet(bytes[1..].to_vec()).is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Table`].
pub fn to_parquet(table: &DataFrame) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes).set_parallel(false).finish(&mut table.clone())?;
    Ok(bytes)
}

/// The table that the content of a Parquet file holds; `path` is where it comes from, for the error. It may come from anybody.
///
/// ```
/// use attn_circuits::store::{parquet_table, to_parquet};
/// use polars::prelude::df;
/// let table = df!("head" => [0i64, 1], "value" => [0.25, 0.75])?;
/// let bytes = to_parquet(&table)?;
/// assert_eq!(parquet_table(bytes.clone(), "scores.parquet".as_ref())?, table);
/// let cut = parquet_table(bytes[..bytes.len() - 1].to_vec(), "scores.parquet".as_ref());
/// assert!(cut.is_err_and(|error| error.to_string().starts_with("scores.parquet: cannot be read as a table")));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if it is damaged, or not as [`to_parquet`] writes tables.
pub fn parquet_table(bytes: Vec<u8>, path: &Path) -> Result<DataFrame> {
    parquet::check(&bytes).map_err(|why| damaged(path, why))?;
    decode_parquet(bytes).map_err(|error| damaged(path, error))
}

fn damaged(path: &Path, why: impl Display) -> Error {
    Error::file(path, format!("cannot be read as a table: {why}; it is damaged, and `run` makes it anew"))
}

/// The table that the content of a CSV file holds, with the types of `schema` where all values of a column fit, and as text where
/// they do not: a cell that somebody has changed is still there to be shown.
///
/// ```
/// use attn_circuits::store::{csv_table, to_csv};
/// use polars::prelude::{DataType, df};
/// let table = df!("head" => [0i64, 1], "value" => [Some(0.25), None])?;
/// assert!(csv_table(to_csv(&table)?, table.schema(), "scores.csv".as_ref())?.equals_missing(&table));
/// // Somebody has written a word where a number stood.
/// let changed = csv_table(b"head,value\n0,0.25\n1,none\n".to_vec(), table.schema(), "scores.csv".as_ref())?;
/// assert_eq!(changed.dtypes(), [DataType::Int64, DataType::String]);
/// assert!(csv_table(b"head,value\n0,1,2\n".to_vec(), table.schema(), "scores.csv".as_ref()).is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if the rows have not as many cells as the header.
pub fn csv_table(bytes: Vec<u8>, schema: &Schema, path: &Path) -> Result<DataFrame> {
    let read = || {
        // No row is looked at to guess a type: every column is read as text first.
        let options = CsvReadOptions::default().with_has_header(true).with_infer_schema_length(Some(0)).with_n_threads(Some(1));
        let text = options.into_reader_with_file_handle(Cursor::new(bytes)).finish()?;
        let typed = text.columns().iter().map(|column| match schema.get(column.name()) {
            Some(dtype) => typed(column, dtype).unwrap_or_else(|| column.clone()),
            None => column.clone(),
        });
        Ok(DataFrame::new(text.height(), typed.collect())?)
    };
    caught(read).map_err(|error| damaged(path, error))
}

/// A column of texts as values of a type, if every text is one.
fn typed(column: &Column, dtype: &DataType) -> Option<Column> {
    if *dtype != DataType::Boolean {
        return column.strict_cast(dtype).ok();
    }
    // The engine's own cast gives up where a column of these has nulls.
    let value = |text: Option<&str>| match text {
        None => Some(None),
        Some("true") => Some(Some(true)),
        Some("false") => Some(Some(false)),
        Some(_) => None,
    };
    let values: Vec<Option<bool>> = column.str().ok()?.iter().map(value).collect::<Option<_>>()?;
    Some(Column::new(column.name().clone(), values))
}

/// The table that [`to_parquet`] wrote, as [`as_read`] has it; the former has an example.
///
/// # Errors
/// [`Error::Table`] if the bytes are damaged.
pub fn decode_parquet(bytes: Vec<u8>) -> Result<DataFrame> {
    caught(|| {
        // On this thread, so that nothing that goes wrong does so on another.
        let table = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None).finish()?;
        // The reader does not look whether its columns are of equal length.
        Ok(as_read(DataFrame::new(table.height(), table.into_columns())?))
    })
}

/// What `read` answers. The engine's readers panic on some files that are damaged: that is such a file's fault, and what they
/// say of it is no help.
fn caught<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    thread_local!(static READING: Cell<bool> = const { Cell::new(false) });
    static SILENT: Once = Once::new();
    SILENT.call_once(|| {
        let say = panic::take_hook();
        panic::set_hook(Box::new(move |found| {
            if !READING.try_with(Cell::get).unwrap_or(false) {
                say(found);
            }
        }));
    });
    READING.set(true);
    let answer = panic::catch_unwind(AssertUnwindSafe(read));
    READING.set(false);
    answer.unwrap_or_else(|_| Err(PolarsError::ComputeError("the reader gave up on it".into()).into()))
}

/// A table without what says nothing of its content and yet changes the last digits of sums over it: every column in one piece,
/// and not marked as sorted. So queries over a table that was just made answer as those over the same one from disk.
///
/// ```
/// use attn_circuits::store::as_read;
/// use polars::prelude::df;
/// let (mut table, below) = (df!("loss" => [2.5])?, df!("loss" => [0.1])?);
/// table.vstack_mut(&below)?;
/// let whole = as_read(table.clone());
/// assert_eq!((table.column("loss")?.n_chunks(), whole.column("loss")?.n_chunks()), (2, 1));
/// assert_eq!(whole, table);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
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

    /// A parameter that only some models have swept.
    #[test]
    fn truth_values_and_their_absence_come_back_from_csv() {
        let table = df!("rotate" => [None, Some(true), Some(false), None], "value" => [1.0, 2.0, 3.0, 4.0]).unwrap();
        let back = csv_table(to_csv(&table).unwrap(), table.schema(), Path::new("t.csv")).unwrap();
        assert!(back.equals_missing(&table), "{back:?}");
        let other = csv_table(b"rotate,value\nyes,1.0\n".to_vec(), table.schema(), Path::new("t.csv")).unwrap();
        assert_eq!(other, df!("rotate" => ["yes"], "value" => [1.0]).unwrap());
    }

    #[test]
    fn a_cell_that_is_no_number_is_kept_as_text() {
        let schema = df!("layer" => [0i64], "value" => [0.5]).unwrap().schema().clone();
        let table = csv_table(b"layer,value\n0,0.5\n1,many\n".to_vec(), &schema, Path::new("t.csv")).unwrap();
        let expected = df!("layer" => [0i64, 1], "value" => ["0.5", "many"]).unwrap();
        assert_eq!(table, expected);
    }

    /// Columns of every type that tables have, with and without nulls.
    fn mixed(rows: usize) -> DataFrame {
        let model = (0..rows).map(|row| ["wired", "random", "a name that takes more than twelve bytes"][row % 3]);
        let layer = (0..rows as i64).map(|row| (row % 5 != 0).then_some(row / 7));
        let value = (0..rows).map(|row| (row % 4 != 1).then_some((row as f64).sqrt()));
        let table = df!(
            "model" => model.collect::<Vec<_>>(),
            "layer" => layer.collect::<Vec<_>>(),
            "value" => value.collect::<Vec<_>>(),
            "mean" => (0..rows).map(|row| row as f64 / 3.0).collect::<Vec<_>>(),
            "count" => (0..rows).map(|row| row as u32).collect::<Vec<_>>(),
            "holds" => (0..rows).map(|row| row % 2 == 0).collect::<Vec<_>>(),
            "none" => vec![None::<&str>; rows],
        );
        table.unwrap()
    }

    #[test]
    fn what_is_written_is_no_damage() {
        // Of the last, the rows lie in two groups.
        for rows in [0, 1, 100, 530_000] {
            let table = mixed(rows);
            let back = parquet_table(to_parquet(&table).unwrap(), Path::new("t.parquet")).unwrap();
            assert!(back.equals_missing(&table), "{rows} rows");
        }
    }

    #[test]
    fn a_damaged_file_is_named() {
        let sound = to_parquet(&mixed(20)).unwrap();
        for damaged in [&b""[..], b"PAR1", b"PAR1PAR1", b"PAR1 not really", &sound[..sound.len() - 1], &sound[1..]] {
            let error = parquet_table(damaged.to_vec(), Path::new("t.parquet")).unwrap_err();
            let text = error.to_string();
            assert!(
                matches!(error, Error::File { .. }) && text.starts_with("t.parquet: cannot be read as a table: "),
                "{text}"
            );
            assert!(text.ends_with("it is damaged, and `run` makes it anew"), "{text}");
        }
    }

    /// Every bit of a small table, and some of every page of a larger one. What is not noticed is another value.
    #[test]
    fn no_flipped_bit_is_more_than_an_error() {
        for (rows, step) in [(5, 1), (2000, 61)] {
            let sound = to_parquet(&mixed(rows)).unwrap();
            let mut refused = 0;
            for bit in (0..8 * sound.len()).step_by(step) {
                let mut damaged = sound.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                match parquet_table(damaged, Path::new("t.parquet")) {
                    Ok(table) => assert!(table.columns().iter().all(|column| column.len() == table.height()), "bit {bit}"),
                    Err(Error::File { .. }) => refused += 1,
                    Err(other) => panic!("bit {bit}: {other}"),
                }
            }
            assert!(refused > 20, "only {refused} of {} bits", 8 * sound.len() / step);
        }
    }

    #[test]
    fn a_reader_that_gives_up_is_no_panic() {
        let gives_up = caught(|| -> Result<()> { panic!("as some damaged files make it") });
        assert!(gives_up.unwrap_err().to_string().contains("the reader gave up on it"));
        let csv = |bytes: &[u8]| csv_table(bytes.to_vec(), &Schema::with_capacity(0), Path::new("t.csv"));
        let cut = csv(b"a,b\n1,2,3\n").unwrap_err().to_string();
        assert!(cut.starts_with("t.csv: cannot be read as a table: ") && cut.ends_with("`run` makes it anew"), "{cut}");
        // Whatever these are taken for, it is an answer.
        for bytes in [&b""[..], b"\n", b"\"", b"\"a\",\"b\n", b"\0\0\xff\n\xff,\xff", b"a,a\n1,2\n", b",,\n,,\n"] {
            assert!(csv(bytes).is_ok() || csv(bytes).is_err_and(|error| matches!(error, Error::File { .. })), "{bytes:?}");
        }
    }
}
