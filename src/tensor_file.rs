//! Files of tensors: the header is read first, and each tensor when it is asked for.
//!
//! No file is mapped into memory: one that another process makes shorter meanwhile would end this one by a signal.

use crate::{Error, Result, files};
use safetensors::tensor::{Metadata, TensorInfo};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Longest header: each tensor takes some hundred bytes of it, and thirty times as many while it is read.
const LONGEST_HEADER: u64 = 4 << 20;
/// Bytes that are read at once: a whole number of numbers of any type.
const PIECE: usize = 1 << 20;
/// Bytes in front of the header, which say how long it is.
const PREFIX: u64 = size_of::<u64>() as u64;

/// A safetensors file.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    /// How the file was when the header was read.
    state: State,
    header: Metadata,
    /// Where the first tensor begins.
    data: u64,
}

/// What of a file is another when somebody writes to it.
type State = (u64, Option<SystemTime>);

impl TensorFile {
    /// Opens the file and checks its header: the tensors lie one behind the other, each as long as its shape says, to the end
    /// of the file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::File`] if it is no regular file, no safetensors file, or is cut short.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let refuse = |why: String| Error::file(&path, format!("not a whole safetensors file: {why}"));
        let file = files::open(&path)?;
        let state = state(&file).map_err(Error::io(&path))?;
        let length = state.0;
        let read = |bytes: &mut [u8], at: u64| {
            read_at(&file, bytes, at).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => refuse(format!("it ends after {length} bytes, within its header")),
                _ => Error::io(&path)(error),
            })
        };
        let mut prefix = [0; PREFIX as usize];
        read(&mut prefix, 0)?;
        let size = u64::from_le_bytes(prefix);
        if size > LONGEST_HEADER {
            return Err(refuse(format!("its header would have {size} bytes, and {LONGEST_HEADER} is the most")));
        }
        let mut text = vec![0; size as usize];
        read(&mut text, PREFIX)?;
        let header: Metadata =
            serde_json::from_slice(&text).map_err(|error| refuse(format!("its header is wrong: {error}")))?;
        let data = PREFIX + size;
        let end = data.checked_add(header.data_len() as u64);
        if end != Some(length) {
            let end = end.map_or("beyond all bounds".to_string(), |end| format!("at byte {end}"));
            return Err(refuse(format!("its tensors end {end}, and the file at byte {length}")));
        }
        Ok(Self { path, file, state, header, data })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names, types and shapes of the tensors.
    pub fn header(&self) -> &Metadata {
        &self.header
    }

    /// Reads a tensor of the header: what `convert` makes of its numbers, of `N` bytes each, and their indices.
    ///
    /// # Errors
    /// Those of `convert`; [`Error::Io`]; [`Error::File`] if the file is not what it was when it was opened.
    pub fn read<const N: usize, T>(
        &self,
        tensor: &TensorInfo,
        mut convert: impl FnMut(usize, [u8; N]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let changed = || Error::file(&self.path, "has changed while it was read; run again");
        let (mut at, end) = tensor.data_offsets;
        let mut piece = vec![0; PIECE.min(end - at)];
        let mut values = Vec::with_capacity((end - at) / N);
        while at < end {
            let length = PIECE.min(end - at);
            let bytes = &mut piece[..length];
            read_at(&self.file, bytes, self.data + at as u64).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => changed(),
                _ => Error::io(&self.path)(error),
            })?;
            for &number in bytes.as_chunks::<N>().0 {
                values.push(convert(values.len(), number)?);
            }
            at += length;
        }
        // Old numbers beside new ones are no tensor that anybody wrote.
        if state(&self.file).map_err(Error::io(&self.path))? != self.state {
            return Err(changed());
        }
        Ok(values)
    }
}

fn state(file: &File) -> io::Result<State> {
    let found = file.metadata()?;
    Ok((found.len(), found.modified().ok()))
}

/// Fills `bytes` from a place in the file on.
#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

/// Fills `bytes` from a place in the file on. Elsewhere that moves a place that all readers share: a file is read by one thread.
#[cfg(not(unix))]
fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    use std::fs;
    use std::time::Duration;

    /// The bytes of a file with a small tensor `a` and another, `b`, which takes more than a piece.
    fn bytes() -> Vec<u8> {
        let (a, b) = ([1u8, 2, 3], (0..PIECE as u32 / 4 + 5).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        let a = TensorView::new(Dtype::U8, vec![3], &a).unwrap();
        let b = TensorView::new(Dtype::U32, vec![b.len() / 4], &b).unwrap();
        safetensors::serialize([("a", a), ("b", b)], None).unwrap()
    }

    fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn numbers<const N: usize>(file: &TensorFile, name: &str) -> Result<Vec<[u8; N]>> {
        let mut next = 0..;
        file.read(file.header().info(name).unwrap(), |index, number| {
            assert_eq!(Some(index), next.next());
            Ok(number)
        })
    }

    #[test]
    fn every_number_is_read_in_its_place() {
        let (_folder, path) = written(&bytes());
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(numbers(&file, "a").unwrap(), [[1], [2], [3]]);
        let b: Vec<u32> = numbers(&file, "b").unwrap().into_iter().map(u32::from_le_bytes).collect();
        assert!(b.iter().copied().eq(0..PIECE as u32 / 4 + 5), "{} numbers", b.len());
        let mut seen = 0;
        let error = file.read(file.header().info("b").unwrap(), |index, _: [u8; 4]| {
            seen = index;
            if index < 7 { Ok(()) } else { Err(Error::invalid("enough")) }
        });
        assert_eq!((error.unwrap_err().to_string().as_str(), seen), ("enough", 7));
    }

    /// With a map of the file, the first of these would end the process.
    #[test]
    fn a_file_that_changes_after_it_was_opened_is_refused() {
        type Change = fn(&File);
        let bytes = bytes();
        let changes: [(&str, Change); 3] = [
            ("shorter", |file| file.set_len(200).unwrap()),
            ("longer", |file| file.set_len(file.metadata().unwrap().len() + 1).unwrap()),
            ("written to", |file| file.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap()),
        ];
        for (what, change) in changes {
            let (_folder, path) = written(&bytes);
            let file = TensorFile::open(&path).unwrap();
            assert!(numbers::<4>(&file, "b").is_ok(), "{what}");
            change(&File::options().write(true).open(&path).unwrap());
            let error = numbers::<4>(&file, "b").unwrap_err().to_string();
            assert!(error.contains("t.safetensors: has changed while it was read"), "{what}: {error}");
        }
        // Another file that takes its place is another file.
        let (_folder, path) = written(&bytes);
        let file = TensorFile::open(&path).unwrap();
        fs::write(path.with_extension("new"), "something else").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        assert_eq!(numbers(&file, "a").unwrap(), [[1], [2], [3]]);
    }

    #[test]
    fn headers_that_do_not_fit_their_file_are_refused() {
        let file =
            |header: &str, data: usize| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat();
        let one = |shape: &str, offsets: &str| format!(r#"{{"a":{{"dtype":"U8","shape":{shape},"data_offsets":{offsets}}}}}"#);
        let two = |first: &str, second: &str| {
            let tensor =
                |name: &str, offsets: &str| format!(r#""{name}":{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#);
            format!("{{{},{}}}", tensor("a", first), tensor("b", second))
        };
        let sound = file(&one("[4]", "[0,4]"), 4);
        for (bytes, why) in [
            (vec![], "it ends after 0 bytes, within its header"),
            (vec![8, 0, 0], "it ends after 3 bytes, within its header"),
            (sound[..20].to_vec(), "it ends after 20 bytes, within its header"),
            (u64::MAX.to_le_bytes().to_vec(), "is the most"),
            ((LONGEST_HEADER + 1).to_le_bytes().to_vec(), "is the most"),
            (LONGEST_HEADER.to_le_bytes().to_vec(), "it ends after 8 bytes, within its header"),
            (file("{", 0), "its header is wrong"),
            (file("\u{7f}", 0), "its header is wrong"),
            (file("[]", 0), "its header is wrong"),
            (sound[..sound.len() - 1].to_vec(), "and the file at byte"),
            ([&sound[..], &[0]].concat(), "and the file at byte"),
            (file(&one("[4]", "[0,3]"), 3), "invalid shape, data type, or offset"),
            (file(&one("[4]", "[4,0]"), 4), "invalid offset for tensor `a`"),
            (file(&one("[4]", "[1,5]"), 5), "invalid offset for tensor `a`"),
            (file(&one("[4294967296,4294967296]", "[0,4]"), 4), "overflow"),
            (file(&one("[18446744073709551615]", "[0,18446744073709551615]"), 4), "overflow"),
            (file(&two("[0,4]", "[2,6]"), 6), "invalid offset for tensor `b`"),
            (file(&two("[0,4]", "[5,9]"), 9), "invalid offset for tensor `b`"),
        ] {
            let (_folder, path) = written(&bytes);
            let error = TensorFile::open(&path).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::File { .. }) && text.contains("not a whole safetensors file"), "{text}");
            assert!(text.contains(why), "{why}: {text}");
        }
        let (_folder, path) = written(&sound);
        assert_eq!(numbers(&TensorFile::open(&path).unwrap(), "a").unwrap(), [[0]; 4]);
        // Tensors of nothing are whole, too.
        let (_folder, path) = written(&file(&one("[0]", "[0,0]"), 0));
        assert_eq!(numbers::<1>(&TensorFile::open(&path).unwrap(), "a").unwrap(), [[0; 1]; 0]);
    }
}
