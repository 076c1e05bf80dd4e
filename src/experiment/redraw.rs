//! Figures and reports from stored tables.

use super::present::{drawings, present};
use super::progress::{Progress, Silent};
use crate::figure::Style;
use crate::query::Tables;
use crate::store::{Manifest, PROGRAM, Run, Staging, is_results, known_files, parquet_table};
use crate::{Error, Result, files};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Draws figures and report of a results folder again from its stored tables, measuring nothing, and puts them in place. The
/// manifest then says by which program, if it is another one than made the tables.
///
/// ```
/// use attn_circuits::experiment::{Silent, redraw};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// # notebook.cell("measure: composition")?;
/// # notebook.cell("{ figure: composition_graph, of: composition, title: Who reads whom }")?;
/// let folder = notebook.run()?.folder;
/// let report = folder.join("report.html");
/// std::fs::write(&report, "").map_err(Error::io(&report))?;
/// let manifest = redraw(&folder, &Silent)?;
/// // What is drawn is what was drawn before, and the manifest has its hash.
/// assert_eq!(Run::open(&folder)?.manifest, manifest);
/// let record = manifest.artifacts.iter().find(|artifact| artifact.path == "report.html").expect("a report");
/// assert!(Run::open(&folder)?.checked("report.html", &record.blake3).is_ok());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if the folder holds no results, or a table is missing or not what the run wrote; [`Error::Invalid`] with the
/// figure's number and name if one cannot be drawn; [`Error::Io`]. The folder is left as it was then.
pub fn redraw(folder: &Path, progress: &dyn Progress) -> Result<Manifest> {
    // What is no results folder is said before anything is made beside it, and all is read anew when nobody else writes there.
    let folder = &Run::open(folder)?.folder;
    let staging = Staging::new(folder, &|| progress.waiting(folder))?;
    let stored = Run::open(folder)?;
    let mut manifest = stored.manifest.clone();
    manifest.drawn_by = (manifest.program != PROGRAM).then(|| PROGRAM.to_string());
    let source = stored.read("experiment.yaml")?;
    let tables = copied_tables(&stored, &staging)?;
    present(&mut manifest, None, &tables, &String::from_utf8_lossy(&source), (None, &staging), progress)?;
    staging.write("experiment.yaml", &source)?;
    // Results that were kept without it, in a repository say, are drawn all the same.
    if stored.folder.join("run.json").exists() {
        staging.write("run.json", &stored.read("run.json")?)?;
    }
    staging.write("manifest.json", manifest.to_json().as_bytes())?;
    staging.publish()?;
    progress.finish();
    Ok(manifest)
}

/// Checks that figures may be drawn into a folder, which need not be there yet: they would be in the way of the next run among
/// the results of one.
///
/// ```
/// use attn_circuits::experiment::check_drawn_into;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let folder = notebook.run()?.folder;
/// assert!(check_drawn_into(&folder).is_err() && check_drawn_into(&folder.join("figures")).is_err());
/// assert!(check_drawn_into(&folder.with_file_name("paper")).is_ok());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::File`] if results of a run lie there, or around it; [`Error::Io`] if the path is empty.
pub fn check_drawn_into(target: &Path) -> Result<()> {
    if is_results(target) {
        let text = "holds results of a run, and other figures would make its manifest untrue; choose another folder";
        return Err(Error::file(target, text));
    }
    // Other programs have manifests, too, and it is no harm to draw below one of those.
    match resolved(target)?.ancestors().find(|folder| known_files(folder).is_some()) {
        Some(results) => {
            let what = "which holds results of a run: figures there would be in the way of the next one";
            Err(Error::file(target, format!("lies in {}, {what}; choose another folder", results.display())))
        }
        None => Ok(()),
    }
}

/// Where a path leads when the folders in it that are not there have been made.
fn resolved(path: &Path) -> Result<PathBuf> {
    let mut resolved = PathBuf::new();
    for component in std::path::absolute(path).map_err(Error::io(path))?.components() {
        match component {
            Component::ParentDir => _ = resolved.pop(),
            other => resolved.push(other),
        }
        if let Ok(real) = fs::canonicalize(&resolved) {
            resolved = real;
        }
    }
    Ok(resolved)
}

/// Draws the figures of a results folder in another style into the folder `target`, as `NN-NAME.svg` and `.png`; the results stay as
/// they are. Each file appears whole or not at all. Answers with the number of figures.
///
/// ```
/// use attn_circuits::experiment::draw_into;
/// use attn_circuits::figure::{Style, Theme};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// # notebook.cell("measure: composition")?;
/// # notebook.cell("{ figure: composition_graph, of: composition, title: Who reads whom }")?;
/// let folder = notebook.run()?.folder;
/// let paper = folder.with_file_name("paper");
/// // For a column of 500 pixels, with 384 dots per inch.
/// let print = Style { theme: Theme::Print, width: Some(500), png_scale: 4 };
/// assert_eq!(draw_into(&folder, &paper, &print)?, 1);
/// assert!(paper.join("01-composition.svg").exists() && paper.join("01-composition.png").exists());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// Those of [`redraw`] and [`check_drawn_into`].
pub fn draw_into(folder: &Path, target: &Path, style: &Style) -> Result<usize> {
    let stored = Run::open(folder)?;
    check_drawn_into(target)?;
    let drawings = drawings((&stored.manifest, None), &stored.tables()?, style, None, &Silent)?;
    fs::create_dir_all(target).map_err(Error::io(target))?;
    for (path, drawing, _) in &drawings {
        let name = path.trim_start_matches("figures/");
        for (end, bytes) in [("svg", drawing.svg.as_bytes()), ("png", &drawing.png)] {
            files::replace(&target.join(format!("{name}.{end}")), bytes)?;
        }
    }
    Ok(drawings.len())
}

/// All tables of a results folder, whose files are copied on the way.
fn copied_tables(stored: &Run, staging: &Staging) -> Result<Tables> {
    let mut tables = Tables::new();
    for (name, record) in &stored.manifest.tables {
        let csv = format!("tables/{name}.csv");
        staging.write(&csv, &stored.checked(&csv, &record.csv)?)?;
        let parquet = format!("tables/{name}.parquet");
        let bytes = stored.checked(&parquet, &record.parquet)?;
        staging.write(&parquet, &bytes)?;
        tables.insert(name.clone(), parquet_table(bytes, &stored.folder.join(&parquet))?);
    }
    Ok(tables)
}
