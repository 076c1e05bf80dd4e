use crate::{Error, Result};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Files that every results folder has, beside its tables and what the manifest lists.
const FIXED: [&str; 4] = ["experiment.yaml", "manifest.json", "report.html", "run.json"];

/// Checks that results may be written to `target`: there is nothing yet, or nothing but what a run wrote.
///
/// # Errors
/// [`Error::File`] if something else stands there, or a file that no run wrote lies among the results.
pub fn check_target(target: &Path) -> Result<()> {
    let in_the_way = || {
        let text = "is in the way: it holds no results of a run, and is not overwritten; move it or choose another --out";
        Error::file(target, text)
    };
    let files = match files_below(target, "") {
        Ok(files) if files.is_empty() => return Ok(()),
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) if target.is_file() => return Err(in_the_way()),
        Err(error) => return Err(Error::io(target)(error)),
    };
    let known = known_files(target).ok_or_else(in_the_way)?;
    match files.iter().find(|file| !known.contains(*file)) {
        Some(file) => {
            let text = "lies among the results, but no run wrote it: it would be lost; move it elsewhere";
            Err(Error::file(target.join(file), text))
        }
        None => Ok(()),
    }
}

/// The files that the manifest of a results folder knows; none if it is not a manifest of ours, of whatever version.
fn known_files(folder: &Path) -> Option<HashSet<String>> {
    let manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).ok()?).ok()?;
    manifest.get("program")?.as_str().filter(|program| program.starts_with("attn-circuits"))?;
    let mut known: HashSet<String> = FIXED.iter().map(ToString::to_string).collect();
    for name in manifest.get("tables")?.as_object()?.keys() {
        known.extend(["csv", "parquet"].map(|end| format!("tables/{name}.{end}")));
    }
    for artifact in manifest.get("artifacts")?.as_array()? {
        known.insert(artifact.get("path")?.as_str()?.to_string());
    }
    Some(known)
}

/// Paths of all files below a folder, relative to it and with `/`.
fn files_below(folder: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path(), &format!("{path}/"))?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A results folder in the making: files are written beside the place where they will stand, and moved there all at once.
///
/// Dropped without [`Staging::publish`], it leaves nothing behind and the last results as they were.
///
/// ```
/// use attn_circuits::store::Staging;
/// let results = tempfile::tempdir().unwrap();
/// let staging = Staging::new(&results.path().join("induction"))?;
/// staging.write("report.html", b"<p>Nothing yet.")?;
/// assert!(!results.path().join("induction").exists());
/// staging.publish()?;
/// assert!(results.path().join("induction/report.html").exists());
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
    /// Those of [`check_target`]; [`Error::Io`] if the folder cannot be written.
    pub fn new(target: &Path) -> Result<Self> {
        check_target(target)?;
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

    /// A results folder with one table.
    fn write_results(target: &Path, table: &str) {
        let staging = Staging::new(target).unwrap();
        let manifest = format!(r#"{{ "program": "attn-circuits 0", "tables": {{ "{table}": {{}} }}, "artifacts": [] }}"#);
        staging.write("manifest.json", manifest.as_bytes()).unwrap();
        staging.write(&format!("tables/{table}.csv"), b"1").unwrap();
        staging.publish().unwrap();
    }

    #[test]
    fn new_results_replace_old_ones_whole() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        write_results(&target, "old");
        write_results(&target, "new");
        assert_eq!(names(&target.join("tables")), ["new.csv"]);
        assert_eq!(names(root.path()), ["run"]);
    }

    #[test]
    fn an_abandoned_run_leaves_the_last_results() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        write_results(&target, "first");
        let abandoned = Staging::new(&target).unwrap();
        abandoned.write("tables/second.csv", b"2").unwrap();
        drop(abandoned);
        assert_eq!(names(&target.join("tables")), ["first.csv"]);
        assert_eq!(names(root.path()), ["run"]);
    }

    #[track_caller]
    fn assert_refused(target: &Path, why: &str) {
        let before = files_below(target, "").unwrap();
        let error = Staging::new(target).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(files_below(target, "").unwrap(), before);
    }

    #[test]
    fn a_folder_of_something_else_is_not_touched() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("thesis.txt"), "years of work").unwrap();
        assert_refused(&target, "is in the way");
        // Other programs have a file of this name, too.
        fs::write(target.join("manifest.json"), r#"{ "name": "a web page" }"#).unwrap();
        assert_refused(&target, "is in the way");
    }

    #[test]
    fn notes_among_the_results_are_not_lost() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        write_results(&target, "loss");
        fs::write(target.join("tables/notes.txt"), "a thought").unwrap();
        assert_refused(&target, "tables/notes.txt: lies among the results");
    }
}
