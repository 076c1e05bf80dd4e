//! What can go wrong, in words that say what to do.

use std::path::{Path, PathBuf};

/// A result with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of the library.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that the caller gave is out of its domain; the text says which and what is allowed.
    #[error("{0}")]
    Invalid(String),
    /// A parameter in an experiment file is wrong; `path` finds it there, below the object that it belongs to.
    #[error("{path}: {message}")]
    Parameter {
        /// Where the parameter stands: `heads[1].key.from`.
        path: String,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// An array does not have the shape that the rest of the model implies.
    #[error("{name} has shape {found:?}, but the configuration asks for {expected:?}")]
    Shape {
        /// Name of the tensor, as TransformerLens spells it.
        name: String,
        /// The shape found.
        found: Vec<usize>,
        /// The shape that was expected.
        expected: Vec<usize>,
    },
    /// Reading or writing a file failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file was read, but what it holds is wrong.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// An experiment file has problems; the text shows each with its place, ready to print.
    #[error("{0}")]
    Experiment(String),
    /// A table operation failed.
    #[error("table: {0}")]
    Table(#[from] polars::error::PolarsError),
    /// Drawing a figure failed.
    #[error("figure: {0}")]
    Figure(String),
}

impl Error {
    /// An [`Error::Invalid`] from anything that prints.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// An [`Error::Parameter`] about the parameter at `path`.
    pub fn parameter(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Parameter { path: path.into(), message: message.into() }
    }

    /// An [`Error::File`] about `path`.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// For `map_err`: wraps what the system said with the path it said it of.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }
}
