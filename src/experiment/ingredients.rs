//! What everything in a run depends on, as keys of the cache.

use super::{Experiment, Instance, MeasureCell};
use crate::store::Key;
use crate::{Error, Result, files};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// Files that an experiment reads, by the names that it gives them, with their BLAKE3.
pub(super) type Digests = BTreeMap<PathBuf, String>;

impl Experiment {
    /// Checks that files hold what they held when the experiment was loaded.
    ///
    /// # Errors
    /// [`Error::File`] names the file that has changed.
    pub(super) fn check_unchanged<'f>(&self, files: impl IntoIterator<Item = &'f PathBuf>) -> Result<()> {
        for file in files {
            let path = self.base().join(file);
            if Some(&digest(&path)?) != self.digests.get(file) {
                return Err(Error::file(path, "has changed while the run was reading it; run again"));
            }
        }
        Ok(())
    }

    fn files_key(&self, key: Key, files: &[PathBuf]) -> Key {
        files.iter().fold(key, |key, file| key.text(self.digests.get(file).map_or("", String::as_str)))
    }

    /// What a model depends on.
    pub(super) fn model_key(&self, instance: &Instance) -> Key {
        let Instance { name, model, variant, replicate, .. } = instance;
        let key = parameters_key(Key::new("model").text(&model.kind), &variant.parameters, &variant.builder);
        let key = key.text(instance.stream(self.seed).to_string());
        // The key columns of its rows.
        let key = key.json(&json!([name, replicate, model.swept, variant.values]));
        self.files_key(key, &variant.builder.files())
    }

    /// What the table of a cell depends on besides the models.
    pub(super) fn cell_key(&self, cell: &MeasureCell) -> Key {
        let key = parameters_key(Key::new("measure").text(&cell.kind), &cell.parameters, &cell.measure);
        let key = key.text(self.cell_stream(cell).to_string());
        let columns: Vec<_> = cell.schema.iter().map(|(name, dtype)| json!([name.as_str(), dtype.to_string()])).collect();
        let key = key.json(&json!(columns));
        let key = cell.input.iter().fold(key, |key, name| key.text("input").key(&self.input_key(name)));
        cell.other_inputs.iter().fold(key, |key, (parameter, name)| key.text(parameter).key(&self.input_key(name)))
    }

    /// What an input depends on: itself, and what it is made of.
    fn input_key(&self, name: &str) -> Key {
        let made_of: Vec<_> = self.made_of(name).collect();
        made_of.iter().rev().fold(Key::new("input"), |key, (name, input)| {
            let key = parameters_key(key.text(&input.kind), &input.parameters, &input.builder);
            self.files_key(key.text(self.input_stream(name).to_string()), &input.builder.files())
        })
    }
}

/// `key`, and it depends on parameters: their values as the file has them, and what they were read as. The first holds whatever the
/// second may leave out when it is printed; the second tells maps apart whose order means something.
pub(super) fn parameters_key(key: Key, values: &Value, parsed: &dyn Debug) -> Key {
    key.json(values).text(format!("{parsed:?}"))
}

/// BLAKE3 of a file's content.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn digest(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    // Not through a map of the file: a file that becomes shorter meanwhile would kill the process.
    hasher.update_reader(files::open(path)?).map_err(Error::io(path))?;
    Ok(hasher.finalize().to_hex().to_string())
}
