//! Given tokens: in the experiment file, or in a file of their own.

use super::{InputContext, InputKind, InputShape, Repeats, TokenBatch};
use crate::kind::Described;
use crate::names::{shorten, some};
use crate::tensor_file::TensorFile;
use crate::{Error, Result, files};
use ndarray::Array2;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Larger JSON files are refused: they take thirty times their size while they are read.
const LARGEST_JSON: u64 = 16 << 20;
/// More tokens than these are a slip: a file of zeros takes no room on disk, but its tokens do in memory.
const MOST_TOKENS: usize = 1 << 28;

/// Given token sequences of equal length: spelt out, or from a JSON or safetensors file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// The sequences, each a list of token numbers. Either this or `file`.
    #[serde(default)]
    #[schemars(inner(inner(range(min = 0, max = 4294967295u32))))]
    pub tokens: Option<Vec<Vec<i64>>>,
    /// A JSON file (a list of lists), or a safetensors file (a tensor of whole numbers, `[sequences, length]` or `[length]`).
    /// Relative to the experiment file.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The name of the tensor in a safetensors file. Default: the only one.
    #[serde(default)]
    pub tensor: Option<String>,
    /// Declares that the sequences repeat with this many tokens, to their end. It is checked.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub period: Option<usize>,
    /// With `period`: whether a start token stands before the first period. Default: true.
    #[serde(default)]
    pub start: Option<bool>,
}

impl Described for Tokens {
    const NAME: &'static str = "tokens";
    const EXAMPLE: &'static str = "\
fixed: { kind: tokens, tokens: [[0, 5, 3, 5, 3], [0, 7, 1, 7, 1]], period: 2 }
";
}

impl Tokens {
    fn read(&self, base: &Path) -> Result<Array2<u32>> {
        match (&self.tokens, &self.file) {
            (Some(_), Some(_)) => Err(Error::parameter("file", "the tokens are given already: give either `tokens` or `file`")),
            (None, None) => Err(Error::invalid("an input of kind `tokens` needs `tokens` or `file`")),
            (Some(_), None) if self.tensor.is_some() => {
                Err(Error::parameter("tensor", "has a meaning only with `file`, a safetensors file"))
            }
            (Some(tokens), None) => inline(tokens),
            (None, Some(file)) => {
                let path = base.join(file);
                if self.tensor.is_some() || path.extension().is_some_and(|extension| extension == "safetensors") {
                    from_safetensors(&path, self.tensor.as_deref())
                } else {
                    from_json(&path)
                }
            }
        }
    }

    fn repeats(&self, length: usize) -> Result<Option<Repeats>> {
        let Some(period) = self.period else {
            return match self.start {
                Some(_) => Err(Error::parameter("start", "has a meaning only with `period`")),
                None => Ok(None),
            };
        };
        let start = usize::from(self.start.unwrap_or(true));
        let rest = length.saturating_sub(start);
        if period == 0 || rest == 0 || rest % period != 0 {
            let text = format!("{rest} tokens (after {start} at the start) are not a whole number of periods of {period}");
            return Err(Error::parameter("period", text));
        }
        Ok(Some(Repeats { start, period, count: rest / period }))
    }

    fn batch(&self, base: &Path) -> Result<TokenBatch> {
        let tokens = self.read(base)?;
        let repeats = self.repeats(tokens.ncols())?;
        TokenBatch::new(tokens, repeats).map_err(|error| match &self.file {
            Some(file) => Error::file(base.join(file), error.to_string()),
            None => error,
        })
    }
}

/// Rows of equal length as an array; an error is the number of the row that differs, and what is wrong with it.
fn rectangle(rows: &[Vec<u32>]) -> Result<Array2<u32>, (usize, String)> {
    let length = rows.first().map_or(0, Vec::len);
    if let Some((index, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != length) {
        return Err((index, format!("sequence {index} has {} tokens, but sequence 0 has {length}", row.len())));
    }
    Ok(Array2::from_shape_fn((rows.len(), length), |(sequence, position)| rows[sequence][position]))
}

fn not_a_token(what: impl std::fmt::Display) -> String {
    format!("{what} is not a token (a whole number from 0 to {})", u32::MAX)
}

fn misplaced(path: &Path, sequence: usize, position: usize, what: impl std::fmt::Display) -> Error {
    Error::file(path, format!("sequence {sequence}, position {position}: {}", not_a_token(what)))
}

fn inline(rows: &[Vec<i64>]) -> Result<Array2<u32>> {
    let token = |sequence: usize, position: usize, value: i64| {
        u32::try_from(value).map_err(|_| Error::parameter(format!("tokens[{sequence}][{position}]"), not_a_token(value)))
    };
    let row = |(sequence, row): (usize, &Vec<i64>)| {
        row.iter().enumerate().map(|(position, &value)| token(sequence, position, value)).collect::<Result<Vec<_>>>()
    };
    let tokens = rows.iter().enumerate().map(row).collect::<Result<Vec<_>>>()?;
    rectangle(&tokens).map_err(|(index, text)| Error::parameter(format!("tokens[{index}]"), text))
}

fn from_json(path: &Path) -> Result<Array2<u32>> {
    let text = files::read_text(path, LARGEST_JSON, "a JSON file of tokens")?;
    let rows: Vec<Value> =
        serde_json::from_str(&text).map_err(|error| Error::file(path, format!("not a JSON list of token lists: {error}")))?;
    let mut tokens = Vec::with_capacity(rows.len());
    for (sequence, row) in rows.iter().enumerate() {
        let not_a_list = || Error::file(path, format!("sequence {sequence} is not a list but {}", shorten(&row.to_string())));
        let row = row.as_array().ok_or_else(not_a_list)?;
        let token = |(position, value): (usize, &Value)| {
            let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
            token.ok_or_else(|| misplaced(path, sequence, position, shorten(&value.to_string())))
        };
        tokens.push(row.iter().enumerate().map(token).collect::<Result<Vec<_>>>()?);
    }
    rectangle(&tokens).map_err(|(_, text)| Error::file(path, text))
}

fn from_safetensors(path: &Path, name: Option<&str>) -> Result<Array2<u32>> {
    let file = TensorFile::open(path)?;
    let tensors = file.header().tensors();
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let name = match (name, names.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only,
        (None, _) => {
            let text = format!("say with `tensor:` which of its tensors to take: {}", some(&names));
            return Err(Error::file(path, text));
        }
    };
    let tensor =
        tensors.get(name).ok_or_else(|| Error::file(path, format!("there is no tensor `{name}`, only {}", some(&names))))?;
    let (sequences, length) = match tensor.shape[..] {
        [length] => (1, length),
        [sequences, length] => (sequences, length),
        ref other => {
            let text = format!("`{name}` has shape {other:?}, but tokens are [sequences, length] or [length]");
            return Err(Error::file(path, text));
        }
    };
    if sequences.saturating_mul(length) > MOST_TOKENS {
        let text = format!("`{name}` has {sequences} × {length} tokens, and {MOST_TOKENS} is the most: take a part of it");
        return Err(Error::file(path, text));
    }
    let tokens = integers(&file, tensor, length)?
        .ok_or_else(|| Error::file(path, format!("`{name}` holds {:?}, but tokens are whole numbers", tensor.dtype)))?;
    Array2::from_shape_vec((sequences, length), tokens).map_err(|error| Error::file(path, format!("`{name}`: {error}")))
}

/// The whole numbers of a tensor, of any type, in sequences of `length`; `None` for what holds none.
///
/// # Errors
/// Those of [`TensorFile::read`]; [`Error::File`] with the place of the first that is no token.
fn integers(file: &TensorFile, tensor: &TensorInfo, length: usize) -> Result<Option<Vec<u32>>> {
    let length = length.max(1);
    fn each<const N: usize, T: Into<i128>>(
        file: &TensorFile,
        tensor: &TensorInfo,
        length: usize,
        convert: fn([u8; N]) -> T,
    ) -> Result<Option<Vec<u32>>> {
        let token = |index, bytes| {
            let value = convert(bytes).into();
            u32::try_from(value).map_err(|_| misplaced(file.path(), index / length, index % length, value))
        };
        file.read(tensor, token).map(Some)
    }
    match tensor.dtype {
        Dtype::U8 => each(file, tensor, length, u8::from_le_bytes),
        Dtype::I8 => each(file, tensor, length, i8::from_le_bytes),
        Dtype::U16 => each(file, tensor, length, u16::from_le_bytes),
        Dtype::I16 => each(file, tensor, length, i16::from_le_bytes),
        Dtype::U32 => each(file, tensor, length, u32::from_le_bytes),
        Dtype::I32 => each(file, tensor, length, i32::from_le_bytes),
        Dtype::U64 => each(file, tensor, length, u64::from_le_bytes),
        Dtype::I64 => each(file, tensor, length, i64::from_le_bytes),
        _ => Ok(None),
    }
}

impl InputKind for Tokens {
    fn files(&self) -> Vec<PathBuf> {
        self.file.iter().cloned().collect()
    }

    fn shape(&self, base: &Path, _: Option<&InputShape>) -> Result<InputShape> {
        self.batch(base).map(|batch| InputShape::of(&batch))
    }

    fn build(&self, context: &InputContext) -> Result<TokenBatch> {
        let batch = self.batch(context.base)?;
        InputShape::of(&batch).check_vocab(context.d_vocab)?;
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use ndarray::array;
    use safetensors::tensor::TensorView;
    use serde_json::json;

    fn tokens(value: Value) -> Tokens {
        serde_json::from_value(value).unwrap()
    }

    fn shape_error(value: Value, base: &Path) -> String {
        tokens(value).shape(base, None).unwrap_err().to_string()
    }

    #[test]
    fn inline_tokens_arrive_as_they_are() {
        let kind = tokens(json!({ "tokens": [[0, 5, 3, 5, 3], [0, 7, 1, 7, 1]], "period": 2 }));
        let shape = kind.shape(Path::new("."), None).unwrap();
        assert_eq!((shape.sequences, shape.length, shape.min_vocab), (2, 5, 8));
        assert_eq!(shape.repeats, Some(Repeats { start: 1, period: 2, count: 2 }));
        let context = |d_vocab| InputContext { base: Path::new("."), stream: Stream::new(0), d_vocab, original: None };
        assert_eq!(kind.build(&context(8)).unwrap().tokens(), array![[0, 5, 3, 5, 3], [0, 7, 1, 7, 1]]);
        let error = kind.build(&context(7)).unwrap_err().to_string();
        assert!(error.contains('8') && error.contains('7'), "{error}");
    }

    #[test]
    fn declared_repeats_are_checked() {
        let base = Path::new(".");
        let with = |key: &str, value: Value, tokens: Value| shape_error(json!({ "tokens": tokens, key: value }), base);
        assert!(with("period", json!(2), json!([[0, 5, 3, 5, 4]])).contains("position 4"));
        assert!(with("period", json!(3), json!([[0, 5, 3, 5, 3]])).starts_with("period: 4 tokens"));
        assert!(with("period", json!(0), json!([[0, 5]])).starts_with("period"));
        assert!(with("start", json!(true), json!([[0, 5]])).starts_with("start"));
        let kind = tokens(json!({ "tokens": [[5, 3, 5, 3]], "period": 2, "start": false }));
        assert_eq!(kind.shape(base, None).unwrap().repeats, Some(Repeats { start: 0, period: 2, count: 2 }));
    }

    #[test]
    fn exactly_one_source() {
        let base = Path::new(".");
        assert!(shape_error(json!({}), base).contains("needs `tokens` or `file`"));
        assert!(shape_error(json!({ "tokens": [[1]], "file": "x.json" }), base).starts_with("file"));
        assert!(shape_error(json!({ "tokens": [[1]], "tensor": "x" }), base).starts_with("tensor"));
        assert!(shape_error(json!({ "tokens": [[1, 2], [1]] }), base).starts_with("tokens[1]: sequence 1 has 1 tokens"));
        assert!(shape_error(json!({ "tokens": [[1], [-1]] }), base).starts_with("tokens[1][0]: -1 is not a token"));
        assert!(shape_error(json!({ "tokens": [[1, 1u64 << 32]] }), base).starts_with("tokens[0][1]: 4294967296 is not"));
        assert!(shape_error(json!({ "tokens": [] }), base).contains("at least one sequence"));
        assert!(shape_error(json!({ "tokens": [[]] }), base).contains("at least one"));
    }

    #[test]
    fn json_files_are_read_and_their_faults_placed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            std::fs::write(folder.path().join("t.json"), text).unwrap();
            tokens(json!({ "file": "t.json" })).shape(folder.path(), None).map_err(|error| error.to_string())
        };
        assert_eq!(write("[[0, 5, 3], [1, 2, 4]]").unwrap().min_vocab, 6);
        for (text, expected) in [
            ("[[0, 5], [1, -2]]", "sequence 1, position 1: -2 is not a token"),
            ("[[0, 5.5]]", "sequence 0, position 1: 5.5 is not a token"),
            ("[[4294967296]]", "sequence 0, position 0: 4294967296"),
            ("[[0, \"a\"]]", "sequence 0, position 1: \"a\""),
            ("[[0], 7]", "sequence 1 is not a list but 7"),
            ("[[0, 1], [2]]", "sequence 1 has 1 tokens, but sequence 0 has 2"),
            ("{\"a\": 1}", "not a JSON list"),
            ("", "not a JSON list"),
        ] {
            let error = write(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("t.json"), "{text}: {error}");
        }
        assert!(matches!(tokens(json!({ "file": "none.json" })).shape(folder.path(), None), Err(Error::Io { .. })));
    }

    #[test]
    fn safetensors_of_every_integer_type_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let write = |dtype: Dtype, shape: &[usize], bytes: &[u8]| {
            let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
            std::fs::write(&path, safetensors::serialize([("tokens", view)], None).unwrap()).unwrap();
            tokens(json!({ "file": "t.safetensors", "tensor": "tokens" }))
                .batch(folder.path())
                .map_err(|error| error.to_string())
        };
        let expected = array![[0, 5, 3], [1, 2, 4]];
        let values = [0u8, 5, 3, 1, 2, 4];
        let types = [(Dtype::U8, 1), (Dtype::I8, 1), (Dtype::U16, 2), (Dtype::I16, 2), (Dtype::U32, 4), (Dtype::I32, 4)];
        for (dtype, width) in types.into_iter().chain([(Dtype::U64, 8), (Dtype::I64, 8)]) {
            let bytes = values.iter().flat_map(|&value| (value as u64).to_le_bytes()[..width].to_vec()).collect::<Vec<_>>();
            assert_eq!(write(dtype, &[2, 3], &bytes).unwrap().tokens(), expected);
            assert_eq!(write(dtype, &[6], &bytes).unwrap().tokens().dim(), (1, 6));
            assert!(write(dtype, &[1, 2, 3], &bytes).unwrap_err().contains("[1, 2, 3]"));
        }
        assert!(write(Dtype::I8, &[2, 2], &[1, 2, 3, 255]).unwrap_err().contains("sequence 1, position 1: -1"));
        assert!(write(Dtype::F32, &[1, 1], &[0; 4]).unwrap_err().contains("F32"));
        assert!(write(Dtype::U8, &[2, 0], &[]).unwrap_err().contains("at least one"));
        assert!(shape_error(json!({ "file": "t.safetensors", "tensor": "x" }), folder.path()).contains("only tokens"));
        std::fs::write(&path, b"nonsense").unwrap();
        assert!(shape_error(json!({ "file": "t.safetensors" }), folder.path()).contains("safetensors"));
    }
}
