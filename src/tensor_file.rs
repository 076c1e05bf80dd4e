//! Files of tensors, read through a memory map.

use crate::{Error, Result, files};
use memmap2::Mmap;
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// A safetensors file: opening it reads no tensor.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    map: Mmap,
}

impl TensorFile {
    /// Maps the file into memory.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened or mapped, [`Error::File`] if it is no regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let file = files::open(&path)?;
        // SAFETY: the map is only read. Should another process truncate the file meanwhile, this one is stopped by a signal,
        // as is every reader of a mapped file; what we write ourselves is renamed into place, never rewritten.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
        Ok(Self { path, map })
    }

    /// The header, checked, and with it views of the tensors.
    ///
    /// # Errors
    /// [`Error::File`] if this is no safetensors file, or is cut short.
    pub fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.map)
            .map_err(|error| Error::file(&self.path, format!("not a whole safetensors file: {error}")))
    }
}
