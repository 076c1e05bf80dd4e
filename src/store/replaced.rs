use super::lock::{Lock, beside};
use crate::{Error, Result};
use std::fs;
use std::path::Path;

/// Replaces the file at `path` by what `content` makes, in one step; left as it is if that is what it holds.
///
/// One process at a time makes and writes it, so that what is made last is what stands there in the end. What a process that is
/// killed leaves beside the file, the next one takes away.
///
/// # Errors
/// Those of `content`, and [`Error::Io`]; the file is as it was then.
pub fn replace_file(path: &Path, content: impl FnOnce() -> Result<String>) -> Result<()> {
    let _lock = Lock::acquire(path, &|| ())?;
    let partial = beside(path, "partial");
    let content = content()?;
    if fs::read(path).is_ok_and(|there| there == content.as_bytes()) {
        // Most often there is none.
        let _ = fs::remove_file(&partial);
        return Ok(());
    }
    let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&partial);
        Error::io(path)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_last_stands_there_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.html");
        // As a process that was killed leaves it.
        fs::write(folder.path().join(".index.html.partial"), "half").unwrap();
        fs::write(folder.path().join(".index.html.lock"), "").unwrap();
        let written = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (path, written) = (&path, &written);
                scope.spawn(move || {
                    let make = || {
                        let text = format!("made by {thread}");
                        written.lock().unwrap().push(text.clone());
                        Ok(text)
                    };
                    replace_file(path, make).unwrap();
                });
            }
        });
        assert_eq!(Some(&fs::read_to_string(&path).unwrap()), written.lock().unwrap().last());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // Nothing is changed where nothing can be made.
        assert!(replace_file(&path, || Err(Error::invalid("no"))).is_err());
        assert_eq!(Some(&fs::read_to_string(&path).unwrap()), written.lock().unwrap().last());
    }
}
