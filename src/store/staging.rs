use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The file by which a results folder is known to be ours.
const MARK: &str = "manifest.json";

/// A results folder in the making: files are written beside the place where they will stand, and moved there all at once.
///
/// Dropped without [`Staging::publish`], it leaves nothing behind and the last results as they were.
///
/// ```
/// use attn_circuits::store::Staging;
/// let results = tempfile::tempdir().unwrap();
/// let staging = Staging::new(&results.path().join("induction"))?;
/// staging.write("manifest.json", b"{}")?;
/// assert!(!results.path().join("induction").exists());
/// staging.publish()?;
/// assert!(results.path().join("induction/manifest.json").exists());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct Staging {
    partial: TempDir,
    target: PathBuf,
}

impl Staging {
    /// Makes ready to write what will stand at `target`.
    ///
    /// # Errors
    /// [`Error::File`] if something that is not a results folder stands there; [`Error::Io`] if the folder cannot be written.
    pub fn new(target: &Path) -> Result<Self> {
        if target.exists() {
            let empty = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
            if !empty && !target.join(MARK).is_file() {
                let text =
                    "is in the way: it holds no results of a run, and is not overwritten; move it or choose another --out";
                return Err(Error::file(target, text));
            }
        }
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let partial = tempfile::Builder::new().prefix(&format!(".{name}.partial-")).tempdir_in(parent);
        Ok(Self { partial: partial.map_err(Error::io(parent))?, target: target.to_path_buf() })
    }

    /// Writes one file, `path` relative to the results folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let path = self.partial.path().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        fs::write(&path, bytes).map_err(Error::io(&path))
    }

    /// Moves the folder into its place. What stood there before is removed only after the new one is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn publish(self) -> Result<()> {
        let target = &self.target;
        let partial = self.partial.path();
        readable_by_others(partial)?;
        if !target.exists() {
            fs::rename(partial, target).map_err(Error::io(target))?;
            return Ok(());
        }
        swap(partial, target)?;
        // What is now at the temporary place are the old results; removing them is left to the temporary folder.
        Ok(())
    }
}

/// Temporary folders are private; results are not.
fn readable_by_others(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(Error::io(folder))?;
    }
    let _ = folder;
    Ok(())
}

/// Exchanges two folders: in one step where the system can, so that a reader never sees neither.
fn swap(new: &Path, target: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    let mut aside = new.as_os_str().to_owned();
    aside.push("-old");
    let aside = PathBuf::from(aside);
    fs::rename(target, &aside).map_err(Error::io(target))?;
    if let Err(error) = fs::rename(new, target) {
        fs::rename(&aside, target).map_err(Error::io(target))?;
        return Err(Error::io(target)(error));
    }
    fs::rename(&aside, new).map_err(Error::io(new))
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
    fn new_results_replace_old_ones_whole() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        for (file, content) in [("old.csv", "1"), ("new.csv", "2")] {
            let staging = Staging::new(&target).unwrap();
            staging.write(MARK, b"{}").unwrap();
            staging.write(&format!("tables/{file}"), content.as_bytes()).unwrap();
            staging.publish().unwrap();
        }
        assert_eq!(names(&target.join("tables")), ["new.csv"]);
        assert_eq!(names(root.path()), ["run"]);
    }

    #[test]
    fn an_abandoned_run_leaves_the_last_results() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        let staging = Staging::new(&target).unwrap();
        staging.write(MARK, b"first").unwrap();
        staging.publish().unwrap();
        let abandoned = Staging::new(&target).unwrap();
        abandoned.write(MARK, b"second").unwrap();
        drop(abandoned);
        assert_eq!(fs::read(target.join(MARK)).unwrap(), b"first");
        assert_eq!(names(root.path()), ["run"]);
    }

    #[test]
    fn a_folder_of_something_else_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("thesis.txt"), "years of work").unwrap();
        let error = Staging::new(&target).unwrap_err().to_string();
        assert!(error.contains("is in the way"), "{error}");
        assert_eq!(names(&target), ["thesis.txt"]);
    }
}
