//! `index.html`: one page over all results in a folder.

use super::named;
use crate::report::{Claim, Entry, is_index, render_index};
use crate::store::{Run, replace_file, results_in};
use crate::{Result, files};
use std::path::{Path, PathBuf};

/// Name of the page.
const NAME: &str = "index.html";

/// A larger page is none of ours.
const LARGEST: u64 = 1 << 30;

/// What became of the page, by [`update_index`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indexed {
    /// It shows what is there now.
    Written(PathBuf),
    /// A page that this program has not written stands in its place, and was left alone.
    Foreign(PathBuf),
}

/// The page over the results in `folder`: title, first sentence, claims and first figure of each experiment, with a link to its
/// report. Results whose manifest cannot be read are left out. The same results give the same bytes.
///
/// ```
/// use attn_circuits::experiment::index;
/// # use attn_circuits::prelude::*;
/// let mut notebook = Notebook::new("Who reads whom?")?;
/// notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let results = notebook.run()?.folder;
/// // The folder around the results of one experiment, or of several.
/// let page = index(results.parent().expect("a folder"))?;
/// assert!(page.contains("Who reads whom?") && page.contains("notebook/report.html"));
/// assert!(index(&results.join("tables")).is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::File`] if there are no results in the folder.
pub fn index(folder: &Path) -> Result<String> {
    // A run may replace any of them meanwhile; then its own page will show the new one.
    let stored: Vec<Run> = results_in(folder)?.iter().filter_map(|results| Run::open(results).ok()).collect();
    let entries: Vec<_> = stored.iter().map(entry).collect();
    render_index(&entries)
}

fn entry(stored: &Run) -> Entry<'_> {
    let manifest = &stored.manifest;
    let claims =
        manifest.claims().map(|claim| Claim { statement: claim.statement, holds: claim.holds, numbers: named(claim.numbers) });
    let title = manifest.figures().next().map(|figure| figure.title);
    let figure = manifest.artifacts.iter().find(|artifact| artifact.path.ends_with(".svg"));
    Entry {
        folder: stored.folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        title: &manifest.title,
        about: manifest.about.as_deref(),
        claims: claims.collect(),
        thumbnail: title.zip(figure.and_then(|figure| stored.checked(&figure.path, &figure.blake3).ok())),
    }
}

/// Writes [`index`] to `folder/index.html`, in one step. Of two runs that end at the same time the second waits and finds the results of
/// both.
///
/// ```
/// use attn_circuits::experiment::{Indexed, refresh_index, update_index};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// # let results = notebook.run()?.folder;
/// # let folder = results.parent().expect("a folder");
/// let page = folder.join("index.html");
/// // Where there is no page, none is made.
/// refresh_index(folder)?;
/// assert!(!page.exists());
/// assert_eq!(update_index(folder)?, Indexed::Written(page.clone()));
/// // A page of somebody's own stays.
/// std::fs::write(&page, "<p>Mine.").map_err(Error::io(&page))?;
/// assert_eq!(update_index(folder)?, Indexed::Foreign(page));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// Those of [`index`], and [`crate::Error::Io`].
pub fn update_index(folder: &Path) -> Result<Indexed> {
    let path = folder.join(NAME);
    // Whatever cannot be read as a page of ours is not ours to replace.
    let ours = |page: Vec<u8>| is_index(&String::from_utf8_lossy(&page));
    if path.symlink_metadata().is_ok() && !files::read(&path, LARGEST, "an index page").is_ok_and(ours) {
        return Ok(Indexed::Foreign(path));
    }
    replace_file(&path, || index(folder))?;
    Ok(Indexed::Written(path))
}

/// [`update_index`], if `folder` has such a page already.
///
/// # Errors
/// Those of [`update_index`].
pub fn refresh_index(folder: &Path) -> Result<()> {
    if folder.join(NAME).exists() {
        update_index(folder)?;
    }
    Ok(())
}
