use crate::files::beside;
use crate::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The right to write what stands at a path, for one process at a time. The system takes it back from a process that dies.
///
/// It is a lock on a file beside the path, `.NAME.lock`, that goes with it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits until nobody else has the right; `waiting` is called first if somebody has.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made or locked.
    pub fn acquire(target: &Path, waiting: &dyn Fn()) -> Result<Self> {
        let path = beside(target, "lock");
        let mut told = false;
        let mut made_anew = 0;
        loop {
            let file = match File::options().create(true).truncate(false).write(true).open(&path) {
                Ok(file) => file,
                // Who had the lock made nothing after all, and took the folder away that it had made for it.
                Err(error) if error.kind() == ErrorKind::NotFound && made_anew < 100 => {
                    made_anew += 1;
                    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(Error::io(&path))?;
                    continue;
                }
                Err(error) => return Err(Error::io(&path)(error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut told, true) {
                        waiting();
                    }
                    file.lock().map_err(Error::io(&path))?;
                }
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            }
            // Who had the lock removed the file: what we hold may be a lock on nothing, and another process on the next file.
            if is_at(&file, &path) {
                return Ok(Self { path, _file: file });
            }
        }
    }

    /// The right, if it can be had at once.
    pub fn try_acquire(target: &Path) -> Option<Self> {
        let path = beside(target, "lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path).ok()?;
        file.try_lock().ok()?;
        is_at(&file, &path).then(|| Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still locked, so that nobody can be waiting for a file that somebody else makes anew.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether an open file is the one that now has this name.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |about: fs::Metadata| (about.dev(), about.ino());
    let open = file.metadata().map(identity);
    open.is_ok_and(|open| fs::metadata(path).map(identity).is_ok_and(|named| open == named))
}

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[test]
    fn nobody_waits_who_only_tries() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("run");
        let held = Lock::acquire(&target, &|| ()).unwrap();
        assert!(Lock::try_acquire(&target).is_none());
        drop(held);
        drop(Lock::try_acquire(&target).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Lock::try_acquire(&folder.path().join("nowhere/run")).is_none());
    }

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("run");
        let (inside, entered, waited) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let waiting = || _ = waited.fetch_add(1, Ordering::SeqCst);
                        let lock = Lock::acquire(&target, &waiting).unwrap();
                        assert!(!inside.swap(true, Ordering::SeqCst), "two at once");
                        std::thread::sleep(std::time::Duration::from_micros(200));
                        entered.fetch_add(1, Ordering::SeqCst);
                        inside.store(false, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(entered.load(Ordering::SeqCst), 200);
        assert!(waited.load(Ordering::SeqCst) > 0, "they never met");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
