//! Files that a user names: only regular ones are opened, and no more is read into memory than such a file can need.
//!
//! A named pipe has nobody at its other end and would be waited for without end; a device such as `/dev/zero` has no end.

use crate::{Error, Result};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

/// Opens a regular file, or what a symbolic link to one leads to.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened, [`Error::File`] if it is a folder, a pipe, a device or a socket.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Looked at before it is opened, since opening a pipe already waits.
    check_kind(path, &std::fs::metadata(path).map_err(Error::io(path))?)?;
    File::open(path).map_err(Error::io(path))
}

/// The bytes of a regular file that has at most `most`; `what` says what has no more, in the message.
///
/// # Errors
/// Those of [`open`]; [`Error::File`] if it is larger.
pub(crate) fn read(path: &Path, most: u64, what: &str) -> Result<Vec<u8>> {
    let file = open(path)?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    let too_large = |size: u64| {
        Error::file(path, format!("{what} has at most {} MiB, and this file has {}", most >> 20, size.div_ceil(1 << 20)))
    };
    if size > most {
        return Err(too_large(size));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // The file may have grown since.
    file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > most { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// [`read`] as text.
///
/// # Errors
/// Those of [`read`]; [`Error::File`] with the line and column of what is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64, what: &str) -> Result<String> {
    String::from_utf8(read(path, most, what)?).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column =
            String::from_utf8_lossy(before.rsplit(|&byte| byte == b'\n').next().unwrap_or_default()).chars().count() + 1;
        Error::file(path, format!("is not UTF-8 at line {line}, column {column}: save it as UTF-8"))
    })
}

fn check_kind(path: &Path, found: &Metadata) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let kind = if found.is_dir() { "a folder" } else { special(found) };
    Err(Error::file(path, format!("is {kind}, not a file")))
}

#[cfg(unix)]
fn special(found: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = found.file_type();
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(not(unix))]
fn special(_: &Metadata) -> &'static str {
    "a device"
}
