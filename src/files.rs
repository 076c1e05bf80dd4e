//! Files that a user names: only regular ones are opened, and no more is read into memory than such a file can need. And files
//! that are written: whole, or not at all.
//!
//! A named pipe has nobody at its other end and would be waited for without end; a device such as `/dev/zero` has no end.

use crate::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

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

/// Replaces the file at `path`, or makes it, in one step: a reader sees the last content or the new one, and never half of it. A
/// link is replaced, and what it leads to stays.
///
/// What a process leaves that is killed meanwhile is among the [`partials`], which whoever writes there next may take away.
///
/// # Errors
/// [`Error::Io`]; the file is as it was then, and nothing lies beside it.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let prefix = hidden(path, PARTIAL);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A temporary file is private unless told otherwise; this is what any new file gets, less the umask.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder_of(path)).map_err(Error::io(path))?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.persist(path).map_err(|failed| Error::io(path)(failed.error))?;
    Ok(())
}

/// The folder that a path lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `.NAME.END` beside `path`.
pub(crate) fn beside(path: &Path, end: &str) -> PathBuf {
    path.with_file_name(hidden(path, end))
}

/// `.NAME.END`.
pub(crate) fn hidden(path: &Path, end: &str) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".");
    name.push(end);
    name
}

/// How the names of files and folders go on that are not what they will be yet, behind the name of that; then comes what tells
/// them apart.
pub(crate) const PARTIAL: &str = "partial-";

/// Files and folders beside `path` that are called as if they were to become what stands there.
///
/// # Errors
/// What the system says of the folder.
pub(crate) fn partials(path: &Path) -> io::Result<Vec<DirEntry>> {
    let prefix = hidden(path, PARTIAL);
    let ours = |name: &OsStr| {
        let rest = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        // As many letters and digits as temporary names have: those of what is to be called otherwise have a point among them.
        rest.is_some_and(|rest| rest.len() == 6 && rest.iter().all(u8::is_ascii_alphanumeric))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        if ours(&entry.file_name()) {
            found.push(entry);
        }
    }
    Ok(found)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        for content in ["first", "second"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(names(folder.path()), ["page.html"]);
        // A folder is in the way: it cannot be replaced by a file.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        let error = replace(&taken, b"x").unwrap_err().to_string();
        assert!(error.contains("taken: "), "{error}");
        assert_eq!(names(folder.path()), ["page.html", "taken"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_written_file_has_the_permissions_of_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, plain] = ["ours", "plain"].map(|name| folder.path().join(name));
        replace(&ours, b"x").unwrap();
        fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [path, elsewhere] = ["page.html", "elsewhere"].map(|name| folder.path().join(name));
        fs::write(&elsewhere, "somebody's").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        replace(&path, b"ours").unwrap();
        assert!(!path.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "somebody's");
    }

    #[test]
    fn what_is_to_be_something_else_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let others =
            ["page", "page.partial-aB3xyz", ".page.partial-abcdefg", ".page.partial-a.3xyz", ".page.partial-x.partial-aB3xyz"];
        for name in others.iter().chain(&[".page.partial-aB3xyz"]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<_> = partials(&folder.path().join("page")).unwrap().iter().map(DirEntry::file_name).collect();
        assert_eq!(found, [".page.partial-aB3xyz"]);
    }
}
