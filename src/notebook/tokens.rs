//! Tokens between notebooks and experiment files.

use crate::batch::TokenBatch;
use crate::{Error, Result, files};
use ndarray::Array2;
use polars::prelude::{DataFrame, DataType};
use std::path::Path;

/// The token sequences that a table lists in its columns `sequence`, `position` and `token`: whole numbers, the first two from 0. Rows
/// may come in any order.
///
/// ```
/// use attn_circuits::prelude::*;
/// let table = df!("sequence" => [1, 0, 0, 1], "position" => [0, 0, 1, 1], "token" => [5, 5, 3, 4])?;
/// assert_eq!(token_batch(&table)?.tokens(), ndarray::array![[5, 3], [5, 4]]);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Table`] if a column is missing or a number is negative; [`Error::Invalid`] if one holds something else than whole numbers, a
/// position is missing or there twice, or the sequences are not of equal length.
pub fn token_batch(table: &DataFrame) -> Result<TokenBatch> {
    let column = |name: &str| -> Result<Vec<u32>> {
        let values = table.column(name)?;
        if !values.dtype().is_integer() {
            return Err(Error::invalid(format!("`{name}` holds no whole numbers, but {}", values.dtype())));
        }
        let values = values.strict_cast(&DataType::UInt32)?;
        values.u32()?.iter().map(|value| value.ok_or_else(|| Error::invalid(format!("a `{name}` is null")))).collect()
    };
    let (sequence, position, token) = (column("sequence")?, column("position")?, column("token")?);
    let mut cells: Vec<_> = (0..table.height()).map(|row| (sequence[row], position[row], token[row])).collect();
    cells.sort_unstable();
    let length = cells.iter().take_while(|cell| cell.0 == 0).count();
    for (index, &(sequence, position, _)) in cells.iter().enumerate() {
        let expected = (index / length.max(1), index % length.max(1));
        if (sequence as usize, position as usize) != expected {
            let text = format!(
                "sequences of {length} tokens, as long as sequence 0, need a row for sequence {}, position {}, and the next is for \
                 sequence {sequence}, position {position}",
                expected.0, expected.1
            );
            return Err(Error::invalid(text));
        }
    }
    if length == 0 || cells.len() % length != 0 {
        let text = format!("{} tokens do not make sequences of {length}, as long as sequence 0", cells.len());
        return Err(Error::invalid(text));
    }
    let tokens = Array2::from_shape_vec((cells.len() / length, length), cells.into_iter().map(|cell| cell.2).collect());
    TokenBatch::new(tokens.map_err(|error| Error::invalid(error.to_string()))?, None)
}

/// Writes tokens as a file that `{ kind: tokens, file: … }` of an experiment reads: a JSON list of sequences. Whether they repeat is
/// said there, by `period`.
///
/// ```
/// use attn_circuits::prelude::*;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("mine.json");
/// save_tokens(&TokenBatch::new(ndarray::array![[5, 3], [5, 4]], None)?, &path)?;
/// assert_eq!(std::fs::read_to_string(path).unwrap(), "[[5,3],[5,4]]\n");
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] if the file cannot be written.
pub fn save_tokens(batch: &TokenBatch, path: impl AsRef<Path>) -> Result<()> {
    let rows: Vec<Vec<u32>> = batch.tokens().outer_iter().map(|row| row.to_vec()).collect();
    files::replace(path.as_ref(), format!("{}\n", serde_json::json!(rows)).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use polars::prelude::df;

    #[test]
    fn what_is_no_batch_is_refused() {
        let message = |sequence: [i64; 4], position: [i64; 4]| {
            let table = df!("sequence" => sequence, "position" => position, "token" => [5i64, 3, 5, 4]).unwrap();
            token_batch(&table).unwrap_err().to_string()
        };
        assert!(message([0, 0, 1, 1], [0, 1, 0, 2]).contains("need a row for sequence 1, position 1"));
        assert!(message([0, 0, 0, 1], [0, 1, 2, 0]).contains("4 tokens do not make sequences of 3"));
        assert!(message([0, 0, 0, 0], [0, 1, 1, 2]).contains("position 2, and the next is for sequence 0, position 1"));
        assert!(message([1, 1, 2, 2], [0, 1, 0, 1]).contains("sequence 0"));
        let halves = df!("sequence" => [0i64], "position" => [0i64], "token" => [1.5]).unwrap();
        assert_eq!(token_batch(&halves).unwrap_err().to_string(), "`token` holds no whole numbers, but f64");
        assert!(message([0, 0, -1, 1], [0, 1, 0, 1]).contains("conversion"), "{}", message([0, 0, -1, 1], [0, 1, 0, 1]));
    }
}
