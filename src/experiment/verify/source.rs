//! The experiment that stored results are of.

use super::VerifyOptions;
use crate::experiment::{Experiment, LoadOptions, load, load_str};
use crate::store::Run;
use crate::{Error, Result, files};
use std::path::{Path, PathBuf};

/// The stored experiment, with the overrides of its run, as if it stood where its file stands.
pub(super) fn stored_experiment(
    stored: &Run,
    folder: &Path,
    options: &VerifyOptions,
    notes: &mut Vec<String>,
) -> Result<Experiment> {
    let manifest = &stored.manifest;
    // A name, even in a manifest from elsewhere: nothing is read from a path in it.
    let name = Path::new(&manifest.file).file_name().ok_or_else(|| {
        Error::file(
            stored.folder.join("manifest.json"),
            format!("says that `{}` was run, which is no file name", manifest.file),
        )
    })?;
    let source = stored.source()?;
    // JSON is YAML.
    let overrides: Vec<_> = manifest.overrides.iter().map(|(path, value)| (path.clone(), value.to_string())).collect();
    let looked = places(&stored.folder);
    let found = match options.file {
        Some(file) => Some(file.to_path_buf()),
        None => looked.iter().map(|place| place.join(name)).find(|path| path.is_file()),
    };
    if let Some(file) = found {
        if files::read(&file, load::LARGEST, "an experiment file")? != source.as_bytes() {
            let text = "has changed since these results were made; what is verified is the text that was run";
            notes.push(format!("{} {text}", file.display()));
        }
        return load_str(&source, &file, &overrides, &options.load);
    }
    // Without colours: what is found becomes a part of another message.
    let load = LoadOptions { colour: false, ..options.load };
    load_str(&source, &stored.folder.join(name), &overrides, &load).map_err(|error| {
        let places: Vec<_> = looked.iter().map(|place| place.display().to_string()).collect();
        let text = format!(
            "its experiment file `{}` was not found (looked in {}), and the paths in it are relative to its folder: name the file \
             itself, as in `verify experiments/{}`\n\n{error}",
            name.display(),
            places.join(", "),
            name.display(),
        );
        Error::file(folder, text)
    })
}

/// Where the experiment file of a results folder is looked for: where the user stands, then around the results, and in a folder
/// `experiments` at each of these.
fn places(folder: &Path) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = Vec::new();
    let here = std::env::current_dir().ok();
    for place in here.iter().map(PathBuf::as_path).chain(folder.ancestors().skip(1).take(2)) {
        for place in [place.to_path_buf(), place.join("experiments")] {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}
