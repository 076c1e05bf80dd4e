use super::Key;
use crate::{Error, Result, files};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

/// Every entry starts with this.
const MAGIC: &[u8; 8] = b"attncir1";
/// Length of a BLAKE3 hash.
const HASH: usize = 32;
/// What a full cache is emptied to, so that not every run has to.
const EMPTIED_TO: f64 = 0.8;
/// When one in so many parts of its limit has been put into a cache, it is looked at whether it is full: looking takes reading a
/// folder of all that is there.
const LOOKED_AT_AFTER: u64 = 5;

/// What earlier runs computed, in a folder, by [`Key`].
///
/// It is never the cause of a wrong result: an entry that is damaged counts as absent. The folder can be deleted at any time, also
/// while it is used, and can be used by several runs at once.
///
/// ```
/// use attn_circuits::store::{Cache, Key};
/// let folder = tempfile::tempdir().unwrap();
/// let cache = Cache::new(folder.path().join("cache"), 1 << 20);
/// let key = Key::new("table").text("head_scores");
/// assert_eq!(cache.get(&key), None);
/// cache.put(&key, &[b"model,value\n", b"PAR1"]);
/// assert_eq!(cache.get(&key), Some(vec![b"model,value\n".to_vec(), b"PAR1".to_vec()]));
/// ```
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
    forgetful: bool,
    /// Bytes that were put since it was looked at how much is there; none if it was not yet, since an earlier run may have had
    /// another limit. Whoever writes holds it.
    unseen: Mutex<Option<u64>>,
    problem: OnceLock<String>,
}

impl Cache {
    /// The cache in `folder`, which is made when something is put there. Beyond `limit` bytes, what was not used for longest
    /// goes; for moments there is a fifth more.
    ///
    /// ```
    /// use attn_circuits::store::{Cache, Key};
    /// let folder = tempfile::tempdir()?;
    /// let cache = Cache::new(folder.path().join("cache"), 1000);
    /// assert_eq!(cache.folder(), folder.path().join("cache"));
    /// // What is larger than the whole cache may be is not kept, and drives nothing out.
    /// let (small, large) = (Key::new("table").text("small"), Key::new("table").text("large"));
    /// cache.put(&small, &[b"1"]);
    /// cache.put(&large, &[&[0; 2000]]);
    /// assert!(cache.get(&small).is_some() && cache.get(&large).is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self { folder, limit, forgetful: false, unseen: Mutex::new(None), problem: OnceLock::new() }
    }

    /// The same, but it finds nothing: everything is computed anew, and replaces what was there.
    ///
    /// ```
    /// use attn_circuits::store::{Cache, Key};
    /// let folder = tempfile::tempdir()?;
    /// let key = Key::new("table").text("loss");
    /// let forgetful = Cache::new(folder.path().into(), 1 << 20).forgetful();
    /// forgetful.put(&key, &[b"2.5"]);
    /// assert_eq!(forgetful.get(&key), None);
    /// // What it has put there is found by others.
    /// assert_eq!(Cache::new(folder.path().into(), 1 << 20).get(&key), Some(vec![b"2.5".to_vec()]));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn forgetful(mut self) -> Self {
        self.forgetful = true;
        self
    }

    /// The folder for caches that this system gives programs of this user, if it does.
    ///
    /// ```
    /// use attn_circuits::store::Cache;
    /// assert!(Cache::default_folder().is_none_or(|folder| folder.ends_with("attn-circuits")));
    /// ```
    pub fn default_folder() -> Option<PathBuf> {
        Some(dirs::cache_dir()?.join("attn-circuits"))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Why the cache could not be written, if that happened.
    ///
    /// ```
    /// use attn_circuits::store::{Cache, Key};
    /// let file = tempfile::NamedTempFile::new()?;
    /// // A file is no folder.
    /// let cache = Cache::new(file.path().into(), 1 << 20);
    /// assert_eq!(cache.problem(), None);
    /// cache.put(&Key::new("table"), &[b"2.5"]);
    /// assert!(cache.problem().is_some() && cache.get(&Key::new("table")).is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn problem(&self) -> Option<&str> {
        self.problem.get().map(String::as_str)
    }

    fn path(&self, key: &Key) -> PathBuf {
        let name = key.hash().to_hex();
        self.folder.join(&name[..2]).join(&name[2..])
    }

    /// The parts that were put under a key. One that is damaged is removed.
    pub fn get(&self, key: &Key) -> Option<Vec<Vec<u8>>> {
        if self.forgetful {
            return None;
        }
        let path = self.path(key);
        let bytes = fs::read(&path).ok()?;
        let parts = unpack(&bytes, key);
        match parts {
            // Used now: what goes first when the cache is full is what was not used for longest.
            Some(_) => drop(File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()))),
            None => drop(fs::remove_file(&path)),
        }
        parts
    }

    /// Keeps parts under a key. That it cannot is no error: they are computed again next time; [`Cache::problem`] says why.
    pub fn put(&self, key: &Key, parts: &[&[u8]]) {
        if let Err(error) = self.write(key, parts) {
            let _ = self.problem.set(error.to_string());
        }
    }

    fn write(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        let bytes = pack(parts, key);
        let size = bytes.len() as u64;
        // One larger than the limit would be the first to go, and take everything else with it.
        let kept = size <= self.limit;
        let room = if kept { size } else { 0 };
        let mut unseen = self.unseen();
        *unseen = match *unseen {
            Some(before) if before + room <= self.limit / LOOKED_AT_AFTER => Some(before + room),
            _ => {
                self.make_room(room);
                Some(0)
            }
        };
        if !kept {
            return Ok(());
        }
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.folder);
        make_private(folder).map_err(Error::io(folder))?;
        let tag = self.folder.join(TAG);
        if !tag.exists() {
            files::replace(&tag, TAG_TEXT.as_bytes())?;
        }
        files::replace(&path, &bytes)
    }

    /// Removes what was not used for longest until the cache is within its limit. It happens by itself, now and then while
    /// something is put there, and when a cache is dropped.
    fn trim(&self) {
        let mut unseen = self.unseen();
        self.make_room(0);
        *unseen = Some(0);
    }

    fn unseen(&self) -> MutexGuard<'_, Option<u64>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what was not used for longest, if that is needed for `room` more bytes.
    fn make_room(&self, room: u64) {
        let mut entries = self.entries();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        if total.saturating_add(room) <= self.limit {
            return;
        }
        let most = ((self.limit as f64 * EMPTIED_TO) as u64).saturating_sub(room);
        entries.sort_unstable();
        for (_, size, path) in entries {
            if total <= most {
                break;
            }
            // Another run may have been faster.
            let _ = fs::remove_file(path);
            total -= size;
        }
    }

    /// Time of the last use, size and path of all files in the cache: entries, and what a run that was killed left.
    fn entries(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        // Whatever else lies in the folder is not ours to count or to remove.
        let is_hex = |name: &str, length: usize| name.len() == length && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let folders = folders.filter(|folder| folder.file_name().to_str().is_some_and(|name| is_hex(name, 2)));
        let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
        let ours = |name: &str| is_hex(name, 2 * HASH - 2) || (name.starts_with('.') && name.contains(files::PARTIAL));
        let entry = |file: fs::DirEntry| {
            file.file_name().to_str().filter(|name| ours(name))?;
            let about = file.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), file.path()))
        };
        files.filter_map(entry).collect()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Also if nothing was put there: the limit may be a lower one than that of earlier runs.
        if *self.unseen() != Some(0) {
            self.trim();
        }
    }
}

/// Makes a folder, and those around it that are not there, for this user alone: what is in it comes from models that may be nobody
/// else's business.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The file that tells programs that make copies of everything to leave a cache out, and what has to be in it.
const TAG: &str = "CACHEDIR.TAG";
const TAG_TEXT: &str = "\
Signature: 8a477f597d28d172789f06886806bc55
# What runs of attn-circuits have computed. It can be deleted at any time. See https://bford.info/cachedir/
";

/// An entry as bytes: the parts behind their number and lengths, and a hash of all and of the key at the end.
fn pack(parts: &[&[u8]], key: &Key) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for length in std::iter::once(parts.len()).chain(parts.iter().map(|part| part.len())) {
        bytes.extend((length as u64).to_le_bytes());
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    let hash = blake3::keyed_hash(key.hash().as_bytes(), &bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

/// The parts of an entry; `None` if a bit of it is not as it was written, or it was written under another key.
fn unpack(bytes: &[u8], key: &Key) -> Option<Vec<Vec<u8>>> {
    let (content, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    if blake3::keyed_hash(key.hash().as_bytes(), content).as_bytes() != hash {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let mut number = || -> Option<usize> {
        let (number, behind) = rest.split_first_chunk::<8>()?;
        rest = behind;
        usize::try_from(u64::from_le_bytes(*number)).ok()
    };
    let count = number()?;
    let lengths: Vec<usize> = (0..count).map(|_| number()).collect::<Option<_>>()?;
    let mut parts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (part, behind) = rest.split_at_checked(length)?;
        rest = behind;
        parts.push(part.to_vec());
    }
    rest.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn cache(limit: u64) -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"), limit);
        (folder, cache)
    }

    fn key(name: &str) -> Key {
        Key::new("test").text(name)
    }

    #[test]
    fn every_damaged_entry_is_absent_and_removed() {
        let (_folder, cache) = cache(1 << 20);
        let parts: [&[u8]; 3] = [b"one", b"", b"three"];
        let sound = pack(&parts, &key("a"));
        let put = |bytes: &[u8]| {
            cache.put(&key("a"), &parts);
            fs::write(cache.path(&key("a")), bytes).unwrap();
        };
        put(&sound);
        assert_eq!(cache.get(&key("a")).unwrap(), parts);
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            put(&damaged);
            assert_eq!(cache.get(&key("a")), None, "byte {at}");
            assert!(!cache.path(&key("a")).exists());
            put(&sound[..at]);
            assert_eq!(cache.get(&key("a")), None, "cut at {at}");
        }
        put(&[&sound[..], b"more"].concat());
        assert_eq!(cache.get(&key("a")), None);
        // Sound in itself, but what is wanted is something else.
        cache.put(&key("b"), &parts);
        fs::create_dir_all(cache.path(&key("a")).parent().unwrap()).unwrap();
        fs::copy(cache.path(&key("b")), cache.path(&key("a"))).unwrap();
        assert_eq!(cache.get(&key("a")), None);
        // Lengths that cannot be, with a hash that fits.
        let mut absurd = MAGIC.to_vec();
        absurd.extend([1u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat());
        absurd.extend(blake3::keyed_hash(key("a").hash().as_bytes(), &absurd).as_bytes().to_vec());
        put(&absurd);
        assert_eq!(cache.get(&key("a")), None);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let (_folder, cache) = cache(10_000);
        let part = vec![7; 2000];
        for (age, name) in ["used long ago", "c", "b", "a"].iter().enumerate() {
            cache.put(&key(name), &[&part]);
            let file = File::options().append(true).open(cache.path(&key(name))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(1000 - age as u64)).unwrap();
        }
        assert!(cache.get(&key("used long ago")).is_some());
        cache.trim();
        assert!(["a", "b", "c"].iter().all(|name| cache.get(&key(name)).is_some()), "within the limit nothing goes");
        for name in ["c", "b", "a"] {
            let age = Duration::from_secs(if name == "c" { 900 } else { 100 });
            File::options().append(true).open(cache.path(&key(name))).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        cache.put(&key("new"), &[&part]);
        cache.trim();
        assert_eq!(cache.get(&key("c")), None);
        assert_eq!(["a", "b"].iter().filter(|name| cache.get(&key(name)).is_some()).count(), 1);
        assert!(cache.get(&key("new")).is_some() && cache.get(&key("used long ago")).is_some());
        let left: u64 = cache.entries().iter().map(|(_, size, _)| size).sum();
        assert!(left <= 8_000, "{left}");
    }

    #[test]
    fn files_of_somebody_else_are_neither_counted_nor_removed() {
        let (_folder, cache) = cache(1000);
        cache.put(&key("a"), &[b"x"]);
        let near = cache.path(&key("a")).with_file_name("notes");
        let others = [near, cache.folder().join("en/notes.txt"), cache.folder().join("notes.txt")];
        for path in &others {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; 5000]).unwrap();
        }
        cache.trim();
        assert!(cache.get(&key("a")).is_some(), "it is within its limit");
        let none = Cache::new(cache.folder().to_path_buf(), 0);
        none.trim();
        assert!(cache.get(&key("a")).is_none() && others.iter().all(|path| path.exists()));
    }

    #[test]
    fn one_entry_does_not_drive_out_all_others() {
        let (_folder, cache) = cache(1000);
        cache.put(&key("a"), &[b"x"]);
        cache.put(&key("large"), &[&[0; 2000]]);
        cache.trim();
        assert!(cache.get(&key("a")).is_some() && cache.get(&key("large")).is_none());
        assert_eq!(cache.problem(), None);
    }

    #[test]
    fn a_lower_limit_counts_from_the_first_entry_on_and_at_the_end() {
        let (folder, cache) = cache(1 << 20);
        let put = |cache: &Cache, names: &[&str]| names.iter().for_each(|name| cache.put(&key(name), &[&[0; 600]]));
        put(&cache, &["a", "b", "c"]);
        let lower = Cache::new(folder.path().join("cache"), 1500);
        put(&lower, &["d"]);
        assert!(size(&lower) <= 1500 && lower.get(&key("d")).is_some(), "{:?}", lower.entries());
        // Also where nothing is put.
        let lowest = Cache::new(folder.path().join("cache"), 700);
        drop(lowest);
        assert_eq!(cache.entries().len(), 1);
        // Also where nothing fits.
        let none = Cache::new(folder.path().join("cache"), 0);
        put(&none, &["e"]);
        assert_eq!(size(&none), 0);
    }

    fn size(cache: &Cache) -> u64 {
        cache.entries().iter().map(|(_, size, _)| size).sum()
    }

    #[test]
    fn a_cache_is_never_larger_than_its_limit_by_more_than_a_fifth() {
        const LIMIT: u64 = 20 << 10;
        let (_folder, cache) = cache(LIMIT);
        let mut largest = 0;
        for number in 0..300usize {
            let (key, length) = (key(&number.to_string()), [100, 700, 3000, 50, 15_000][number % 5]);
            cache.put(&key, &[&vec![0; length]]);
            largest = largest.max(size(&cache));
            assert!(cache.get(&key).is_some(), "what was put last does not go first");
        }
        assert!((LIMIT / 2..=LIMIT + LIMIT / 5).contains(&largest), "{largest}");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || (0..50).for_each(|number| cache.put(&key(&format!("{thread} {number}")), &[&[0; 900]])));
            }
        });
        assert!(size(&cache) <= LIMIT + LIMIT / 5, "{}", size(&cache));
    }

    #[test]
    fn what_killed_runs_left_is_counted_and_goes_as_well() {
        let (_folder, cache) = cache(1000);
        cache.put(&key("a"), &[b"x"]);
        let left = cache.path(&key("a")).with_file_name(format!(".x.{}x", files::PARTIAL));
        fs::write(&left, vec![0; 5000]).unwrap();
        File::options().append(true).open(&left).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        cache.trim();
        assert!(!left.exists() && cache.get(&key("a")).is_some());
    }

    #[test]
    fn a_cache_that_cannot_be_written_says_so_and_does_no_harm() {
        let (folder, _) = cache(1000);
        fs::write(folder.path().join("file"), "in the way").unwrap();
        let cache = Cache::new(folder.path().join("file"), 1000);
        cache.put(&key("a"), &[b"x"]);
        assert_eq!(cache.get(&key("a")), None);
        assert!(cache.problem().unwrap().contains("file"), "{:?}", cache.problem());
        cache.trim();
    }

    #[test]
    fn a_forgetful_cache_finds_nothing_and_keeps_everything() {
        let (folder, cache) = cache(1000);
        cache.put(&key("a"), &[b"old"]);
        let forgetful = Cache::new(folder.path().join("cache"), 1000).forgetful();
        assert_eq!(forgetful.get(&key("a")), None);
        forgetful.put(&key("a"), &[b"new"]);
        assert_eq!(cache.get(&key("a")).unwrap(), [b"new"]);
    }
}
