use super::lock::Lock;
use crate::Result;
use crate::files::{self, beside};
use std::fs;
use std::path::Path;

/// Replaces the file at `path` by what `content` makes, in one step; left as it is if that is what it holds.
///
/// One process at a time makes and writes it, so that what is made last is what stands there in the end. What a process that is
/// killed leaves beside the file, the next one takes away.
///
/// ```
/// use attn_circuits::store::replace_file;
/// use attn_circuits::Error;
/// let folder = tempfile::tempdir()?;
/// let page = folder.path().join("index.html");
/// replace_file(&page, || Ok("<p>One.".into()))?;
/// replace_file(&page, || Ok("<p>Two.".into()))?;
/// // What cannot be made leaves what is there.
/// assert!(replace_file(&page, || Err(Error::invalid("nothing to show"))).is_err());
/// assert_eq!(std::fs::read_to_string(&page)?, "<p>Two.");
/// // Nothing else lies beside it.
/// assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `content`, and [`crate::Error::Io`]; the file is as it was then.
pub fn replace_file(path: &Path, content: impl Fn() -> Result<String>) -> Result<()> {
    let holds = |content: &str| fs::read(path).is_ok_and(|there| there == content.as_bytes());
    // Looked at first: a file that is as it should be may lie where nothing can be written, not even a lock.
    let done = holds(&content()?);
    if done && !is_anything_left(path) {
        return Ok(());
    }
    let _lock = match Lock::acquire(path, &|| ()) {
        Err(_) if done => return Ok(()),
        lock => lock?,
    };
    // Most often there is none; one that stays does no harm.
    for left in files::partials(path).into_iter().flatten() {
        if left.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(left.path());
        }
    }
    // Made again, with what others have done until the lock was ours.
    let content = content()?;
    if holds(&content) { Ok(()) } else { files::replace(path, content.as_bytes()) }
}

/// Whether something lies beside a file that a process at work there has made, or one that was killed.
fn is_anything_left(path: &Path) -> bool {
    beside(path, "lock").exists() || files::partials(path).is_ok_and(|left| !left.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn what_is_made_last_stands_there_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.html");
        // As a process that was killed leaves it.
        fs::write(folder.path().join(".index.html.partial-aB3xyz"), "half").unwrap();
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

    #[test]
    fn what_is_left_goes_also_where_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.html");
        for left in [".index.html.partial-aB3xyz", ".index.html.lock"] {
            fs::write(&path, "as it should be").unwrap();
            fs::write(folder.path().join(left), "half").unwrap();
            replace_file(&path, || Ok("as it should be".into())).unwrap();
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{left}");
        }
    }

    #[test]
    fn files_of_somebody_else_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.html");
        for name in [".index.html.partial", "notes"] {
            fs::write(folder.path().join(name), "somebody's").unwrap();
        }
        fs::create_dir(folder.path().join(".index.html.partial-folder")).unwrap();
        for content in ["first", "second"] {
            replace_file(&path, || Ok(content.into())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_to_string(folder.path().join(".index.html.partial")).unwrap(), "somebody's");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    /// A folder in the place of the lock stands for one in which nothing can be written.
    #[test]
    fn what_is_as_it_should_be_needs_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.html");
        fs::write(&path, "as it should be").unwrap();
        fs::create_dir(folder.path().join(".index.html.lock")).unwrap();
        replace_file(&path, || Ok("as it should be".into())).unwrap();
        let error = replace_file(&path, || Ok("something else".into())).unwrap_err().to_string();
        assert!(error.contains(".index.html.lock: "), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "as it should be");
    }
}
