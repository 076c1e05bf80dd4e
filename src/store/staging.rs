use super::known::check_target;
use super::lock::Lock;
use crate::files::{self, PARTIAL, beside, folder_of, hidden};
use crate::{Error, Result};
use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A results folder in the making: files are written beside the place where they will stand, and moved there all at once.
///
/// While it lasts no other process can make results for the same place. Dropped without [`Staging::publish`], it leaves nothing
/// behind and the last results as they were. A process that is killed leaves the last results or the new ones, too; what else lies
/// there then, the next one takes away.
///
/// ```
/// use attn_circuits::store::Staging;
/// let results = tempfile::tempdir().unwrap();
/// let staging = Staging::new(&results.path().join("induction"), &|| eprintln!("waiting for another run"))?;
/// staging.write("report.html", b"<p>Nothing yet.")?;
/// assert!(!results.path().join("induction").exists());
/// staging.publish()?;
/// assert!(results.path().join("induction/report.html").exists());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct Staging {
    // In the order in which they go: files first, and folders that were made for them last.
    partial: TempDir,
    _lock: Lock,
    parents: Parents,
    target: PathBuf,
}

impl Staging {
    /// Makes ready to write what will stand at `target`. If another process is at it, `waiting` is called, and then its end waited
    /// for.
    ///
    /// ```
    /// use attn_circuits::store::Staging;
    /// # let results = tempfile::tempdir()?;
    /// // Somebody's own folder is not written to.
    /// let mine = results.path().join("mine");
    /// std::fs::create_dir(&mine)?;
    /// std::fs::write(mine.join("notes.txt"), "Do not lose this.")?;
    /// assert!(Staging::new(&mine, &|| ()).is_err_and(|error| error.to_string().contains("is in the way")));
    /// // One that is empty is.
    /// std::fs::remove_file(mine.join("notes.txt"))?;
    /// assert!(Staging::new(&mine, &|| ()).is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] if something else than results of a run stands there, or lies among them; [`Error::Io`] if the folder cannot be
    /// written.
    pub fn new(target: &Path, waiting: &dyn Fn()) -> Result<Self> {
        let target = &*linked(target);
        let parent = folder_of(target);
        let parents = Parents::make(parent)?;
        let lock = Lock::acquire(target, waiting)?;
        recover(target)?;
        check_target(target)?;
        let prefix = hidden(target, PARTIAL);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        #[cfg(unix)]
        builder.permissions(permissions_while_written(target));
        let partial = builder.tempdir_in(parent).map_err(Error::io(parent))?;
        Ok(Self { partial, _lock: lock, parents, target: target.to_path_buf() })
    }

    /// Writes one file, `path` relative to the results folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.partial.path().join(path);
        // Named as it would be called in the end: the place where it is written is gone when this is read.
        let failed = |error: io::Error| {
            let text = format!("{error}; nothing was changed, and the last results are as they were");
            Error::io(self.target.join(path))(io::Error::new(error.kind(), text))
        };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&file, bytes).map_err(failed)
    }

    /// Moves the folder into its place. What stood there before is removed only after the new one is there.
    ///
    /// ```
    /// use attn_circuits::store::Staging;
    /// # let results = tempfile::tempdir().map_err(attn_circuits::Error::io(std::env::temp_dir()))?;
    /// let target = results.path().join("induction");
    /// // What is not published leaves nothing behind.
    /// let staging = Staging::new(&target, &|| ())?;
    /// staging.write("tables/loss.csv", b"loss\n2.5\n")?;
    /// drop(staging);
    /// assert!(!target.exists());
    /// let staging = Staging::new(&target, &|| ())?;
    /// staging.write("tables/loss.csv", b"loss\n0.1\n")?;
    /// staging.publish()?;
    /// assert!(target.join("tables/loss.csv").exists());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] if something else has come to lie among the last results; [`Error::Io`].
    pub fn publish(mut self) -> Result<()> {
        let target = &self.target;
        let partial = self.partial.path();
        // A run can take long: what somebody has put among the last results meanwhile must not go with them.
        check_target(target)?;
        if target.exists() {
            // Who may read and write there is for the user to say, and stays as it was.
            #[cfg(unix)]
            fs::set_permissions(partial, fs::metadata(target).map_err(Error::io(target))?.permissions())
                .map_err(Error::io(target))?;
            // What is then at the temporary place are the old results; removing them is left to the temporary folder.
            swap(partial, target)?;
            removable(partial);
        } else {
            fs::rename(partial, target).map_err(Error::io(target))?;
        }
        self.parents.0.clear();
        Ok(())
    }
}

/// Takes away what processes that were killed have left beside results that stay as they are. As far as it can: where nothing can
/// be written it stays, and while another process is at it that is left to this one.
///
/// ```
/// use attn_circuits::store::clean_up;
/// # let results = tempfile::tempdir()?;
/// // The lock of a process that is gone.
/// let lock = results.path().join(".induction.lock");
/// std::fs::write(&lock, "")?;
/// clean_up(&results.path().join("induction"));
/// assert!(!lock.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn clean_up(target: &Path) {
    let target = &*linked(target);
    let left = [beside(target, "lock"), beside(target, OLD)].iter().any(|path| path.exists());
    let left = left || files::partials(target).is_ok_and(|partials| !partials.is_empty());
    if left && let Some(_lock) = Lock::try_acquire(target) {
        let _ = recover(target);
    }
}

/// A link to a folder elsewhere stays a link: what is written and exchanged is the folder.
fn linked(target: &Path) -> Cow<'_, Path> {
    let folder = target.is_symlink().then(|| fs::canonicalize(target).ok()).flatten();
    folder.map_or(Cow::Borrowed(target), Cow::Owned)
}

/// How the name of the last results ends for the moment in which the new ones take their place, where that takes two steps.
const OLD: &str = "replaced-results";

/// Folders that did not exist before.
#[derive(Debug)]
struct Parents(Vec<PathBuf>);

impl Parents {
    fn make(folder: &Path) -> Result<Self> {
        let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let parents = Self(missing.map(Path::to_path_buf).collect());
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        Ok(parents)
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for folder in &self.0 {
            // Fails where somebody has put something into it by now, as it should.
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Takes away what processes that were killed have left beside `target`, and finishes what they were at. Only who has the lock can.
fn recover(target: &Path) -> Result<()> {
    let old = beside(target, OLD);
    // Somebody else's folder of that name is left alone.
    if old.is_dir() && check_target(&old).is_ok() {
        // Killed between two steps: the last results had been moved away, and the new ones may be in place.
        match target.exists() {
            true => fs::remove_dir_all(&old).map_err(Error::io(&old))?,
            false => fs::rename(&old, target).map_err(Error::io(target))?,
        }
    }
    for entry in files::partials(target).map_err(Error::io(folder_of(target)))? {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            removable(&entry.path());
            fs::remove_dir_all(entry.path()).map_err(Error::io(entry.path()))?;
        }
    }
    Ok(())
}

/// Lets a folder of ours be removed, if its owner had made it read-only: the last results, of which the new ones have taken the place.
fn removable(folder: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if let Ok(about) = fs::metadata(folder) {
            let mode = about.permissions().mode() | 0o700;
            // That it cannot be is said where it is removed.
            let _ = fs::set_permissions(folder, fs::Permissions::from_mode(mode));
        }
    }
    let _ = folder;
}

/// What a folder that is to take the place of `target` is made with, less the umask: what any new folder gets, or no more than the
/// last results allow, and enough to write into it.
#[cfg(unix)]
fn permissions_while_written(target: &Path) -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(target).map_or(0o777, |last| last.permissions().mode() & 0o777 | 0o700);
    fs::Permissions::from_mode(mode)
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
    swap_in_steps(new, target)
}

/// The same in steps; [`recover`] finishes them where a process is killed between two.
fn swap_in_steps(new: &Path, target: &Path) -> Result<()> {
    let old = beside(target, OLD);
    fs::rename(target, &old).map_err(Error::io(target))?;
    if let Err(error) = fs::rename(new, target) {
        fs::rename(&old, target).map_err(Error::io(target))?;
        return Err(Error::io(target)(error));
    }
    fs::rename(&old, new).map_err(Error::io(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::files_below;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    /// A results folder with one table.
    fn write_results(target: &Path, table: &str) {
        let staging = Staging::new(target, &|| {}).unwrap();
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
        let abandoned = Staging::new(&target, &|| {}).unwrap();
        abandoned.write("tables/second.csv", b"2").unwrap();
        drop(abandoned);
        assert_eq!(names(&target.join("tables")), ["first.csv"]);
        assert_eq!(names(root.path()), ["run"]);
    }

    #[track_caller]
    fn assert_refused(target: &Path, why: &str) {
        let before = files_below(target).unwrap();
        let error = Staging::new(target, &|| {}).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(files_below(target).unwrap(), before);
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

    #[test]
    fn notes_that_come_while_a_run_lasts_are_not_lost() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        write_results(&target, "loss");
        let staging = Staging::new(&target, &|| {}).unwrap();
        fs::write(target.join("notes.txt"), "a thought").unwrap();
        let error = staging.publish().unwrap_err().to_string();
        assert!(error.contains("notes.txt: lies among the results"), "{error}");
        assert_eq!(names(&target), ["manifest.json", "notes.txt", "tables"]);
        assert_eq!(names(root.path()), ["run"]);
    }

    #[test]
    fn what_killed_runs_have_left_is_taken_away_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        write_results(&target, "last");
        for name in [".run.partial-aB3xyz", ".run.partial-other.partial-aB3xyz", ".run.partial-abcdefg", "run.partial-aB3xyz"] {
            fs::create_dir_all(root.path().join(name).join("tables")).unwrap();
        }
        fs::write(root.path().join(".run.partial-afile1"), "somebody's").unwrap();
        fs::write(root.path().join(".run.lock"), "").unwrap();
        write_results(&target, "new");
        let left =
            [".run.partial-abcdefg", ".run.partial-afile1", ".run.partial-other.partial-aB3xyz", "run", "run.partial-aB3xyz"];
        assert_eq!(names(root.path()), left);
    }

    #[test]
    fn what_killed_runs_have_left_beside_results_that_stay_goes_as_well() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        write_results(&target, "last");
        let before = files_below(&target).unwrap();
        let leave = || {
            fs::create_dir_all(root.path().join(".run.partial-aB3xyz/tables")).unwrap();
            fs::write(root.path().join(".run.lock"), "").unwrap();
        };
        leave();
        clean_up(&target);
        assert_eq!((names(root.path()), files_below(&target).unwrap()), (vec!["run".to_string()], before));
        // What a process is at is not taken from under it.
        let staging = Staging::new(&target, &|| {}).unwrap();
        staging.write("tables/new.csv", b"1").unwrap();
        clean_up(&target);
        assert!(staging.partial.path().join("tables/new.csv").exists());
    }

    /// Every moment at which a process can be killed while it exchanges the folders in steps.
    #[test]
    fn an_exchange_in_steps_can_be_interrupted() {
        for steps in 0..=3 {
            let root = tempfile::tempdir().unwrap();
            let target = root.path().join("run");
            write_results(&target, "last");
            let new = root.path().join(".run.partial-aB3xyz");
            fs::create_dir(&new).unwrap();
            fs::write(new.join("new"), "").unwrap();
            let (old, last) = (beside(&target, OLD), vec!["manifest.json", "tables"]);
            let renames = [(&target, &old), (&new, &target), (&old, &new)];
            renames[..steps].iter().for_each(|(from, to)| fs::rename(from, to).unwrap());
            recover(&target).unwrap();
            assert_eq!(names(&target), if steps < 2 { last } else { vec!["new"] }, "after {steps} steps");
            assert_eq!(names(root.path()), ["run"], "after {steps} steps");
        }
        let root = tempfile::tempdir().unwrap();
        for name in ["one", "other"] {
            fs::create_dir(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join(name), "").unwrap();
        }
        swap_in_steps(&root.path().join("one"), &root.path().join("other")).unwrap();
        assert_eq!(names(&root.path().join("other")), ["one"]);
        assert_eq!(names(&root.path().join("one")), ["other"]);
        assert_eq!(names(root.path()), ["one", "other"]);
    }

    #[test]
    fn a_folder_that_only_has_the_name_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("run");
        let old = beside(&target, OLD);
        fs::create_dir(&old).unwrap();
        fs::write(old.join("years.txt"), "of work").unwrap();
        for _ in 0..2 {
            write_results(&target, "loss");
        }
        assert_eq!(names(&old), ["years.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_the_results_stays_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (elsewhere, link) = (root.path().join("disk/run"), root.path().join("run"));
        write_results(&elsewhere, "old");
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        write_results(&link, "new");
        assert!(link.is_symlink());
        assert_eq!(names(&elsewhere.join("tables")), ["new.csv"]);
        assert_eq!(names(&root.path().join("disk")), ["run"]);
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_the_last_results_or_of_any_new_folder() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let [target, plain] = ["run", "plain"].map(|name| root.path().join(name));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        write_results(&target, "loss");
        fs::create_dir(&plain).unwrap();
        assert_eq!(mode(&target), mode(&plain));
        for last in [0o700, 0o750, 0o777, 0o2775, 0o555] {
            fs::set_permissions(&target, fs::Permissions::from_mode(last)).unwrap();
            let staging = Staging::new(&target, &|| {}).unwrap();
            // Nobody can read in advance what will be hidden from them.
            assert_eq!(mode(staging.partial.path()) & !(last | 0o700) & 0o777, 0, "{last:o}");
            drop(staging);
            write_results(&target, "other");
            assert_eq!(mode(&target), last, "{last:o}");
            assert_eq!(names(root.path()), ["plain", "run"], "{last:o}");
        }
    }

    #[test]
    fn a_folder_made_in_vain_goes_again() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("deep/er/run");
        drop(Staging::new(&target, &|| {}).unwrap());
        assert!(names(root.path()).is_empty());
        write_results(&target, "loss");
        drop(Staging::new(&target, &|| {}).unwrap());
        assert_eq!(names(&root.path().join("deep/er")), ["run"]);
    }
}
