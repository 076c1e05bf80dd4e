//! Results that a run would only make again.

use super::ingredients::{Digests, digest};
use super::run::git_revision;
use super::{Experiment, load};
use crate::files;
use crate::store::{Cache, Key, Manifest, hash};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What made the results of an experiment file, and what they are.
#[derive(Deserialize, Serialize)]
struct Made {
    /// The files that the run read.
    files: Digests,
    /// BLAKE3 of `manifest.json`, which has those of all other results.
    manifest: String,
}

/// The results folder of an experiment file below `out` and its manifest, if a run of the file would only make what is there: this
/// program made it of the same file with the same `overrides` and the same files beside it, at the same revision, and it is whole.
///
/// Nothing is read but the cache, these files, and the results.
///
/// ```
/// use attn_circuits::experiment::{RunOptions, load, run, up_to_date};
/// use attn_circuits::store::Cache;
/// # use attn_circuits::Error;
/// # let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
/// # let (path, out) = (folder.path().join("keys.yaml"), folder.path().join("results"));
/// # let text = "
/// # title: K-composition
/// # models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25 } }
/// # cells: [{ measure: composition }]
/// # ";
/// # std::fs::write(&path, text).map_err(Error::io(&path))?;
/// let cache = Cache::new(folder.path().join("cache"), 1 << 20);
/// assert!(up_to_date(&path, &[], &out, &cache).is_none());
/// let finished = run(&load(&path, &[])?, &out, &RunOptions { cache: Some(&cache), ..RunOptions::default() })?;
/// assert_eq!(up_to_date(&path, &[], &out, &cache), Some((finished.folder, finished.manifest)));
/// // With another value of a parameter, other results are wanted.
/// assert!(up_to_date(&path, &[("models.wired.noise".into(), "0.5".into())], &out, &cache).is_none());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub fn up_to_date(path: &Path, overrides: &[(String, String)], out: &Path, cache: &Cache) -> Option<(PathBuf, Manifest)> {
    let source = files::read(path, load::LARGEST, "an experiment file").ok()?;
    let base = path.parent().unwrap_or(Path::new(""));
    let parts = cache.get(&key(path, &source, overrides))?;
    let made: Made = serde_json::from_slice(parts.first()?).ok()?;
    let folder = out.join(path.file_stem()?);
    let manifest = Manifest::read(&folder).ok()?;
    let is = |file: &str, hash: &str| digest(&folder.join(file)).is_ok_and(|found| found == hash);
    let whole = is("manifest.json", &made.manifest)
        && is("experiment.yaml", &hash(&source))
        && manifest.hashed().all(|(file, hash)| is(&file, hash))
        && folder.join("run.json").is_file();
    // Last, since these files may be large.
    let same = || made.files.iter().all(|(file, before)| digest(&base.join(file)).is_ok_and(|now| now == *before));
    (whole && manifest.git_revision == git_revision(base) && same()).then_some((folder, manifest))
}

/// Remembers what a run has made, for [`up_to_date`].
pub(super) fn remember(experiment: &Experiment, manifest: &str, cache: &Cache) {
    let made = Made { files: experiment.digests.clone(), manifest: hash(manifest.as_bytes()) };
    let made = serde_json::to_vec(&made).expect("paths of an experiment file are texts");
    cache.put(&key(&experiment.path, experiment.source.as_bytes(), &experiment.set), &[&made]);
}

fn key(path: &Path, source: &[u8], overrides: &[(String, String)]) -> Key {
    let key = Key::new("run").text(path.file_name().unwrap_or_default().as_encoded_bytes()).text(source);
    overrides.iter().fold(key, |key, (path, value)| key.text(path).text(value))
}
