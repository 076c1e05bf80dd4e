//! What can go wrong, in words that say what to do.

use std::path::{Path, PathBuf};

/// A result with this crate's [`enum@Error`].
///
/// ```
/// use attn_circuits::{Error, Result};
///
/// fn d_head(d_model: usize, n_heads: usize) -> Result<usize> {
///     match d_model.checked_rem(n_heads) {
///         Some(0) => Ok(d_model / n_heads),
///         _ => Err(Error::invalid(format!("{n_heads} heads do not divide a stream of width {d_model}"))),
///     }
/// }
/// assert_eq!(d_head(64, 4)?, 16);
/// assert!(d_head(64, 5).is_err_and(|error| error.to_string() == "5 heads do not divide a stream of width 64"));
/// # Ok::<(), Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error of the library.
///
/// ```
/// use attn_circuits::Error;
///
/// let shape = Error::Shape { name: "blocks.0.attn.W_Q".into(), found: vec![2, 8, 4], expected: vec![2, 16, 4] };
/// assert_eq!(shape.to_string(), "blocks.0.attn.W_Q has shape [2, 8, 4], but the configuration asks for [2, 16, 4]");
///
/// // What polars says becomes a variant by `?`.
/// fn column_of_loss(table: &polars::prelude::DataFrame) -> attn_circuits::Result<f64> {
///     Ok(table.column("loss")?.f64()?.iter().flatten().sum())
/// }
/// let table = polars::prelude::df!("accuracy" => [1.0])?;
/// assert!(matches!(column_of_loss(&table), Err(Error::Table(_))));
/// # Ok::<(), Error>(())
/// ```
///
/// A mistake in an experiment file is shown where it stands:
///
/// ```
/// use attn_circuits::Error;
/// use attn_circuits::experiment::{LoadOptions, load_str};
///
/// let text = "title: T\nmodels:\n  tiny: { kind: random, layers: 1, heads: 1, d_model: 4, vocab: 5, contxt: 6 }\ncells: []\n";
/// let Err(Error::Experiment(text)) = load_str(text, "mine.yaml".as_ref(), &[], &LoadOptions::default()) else {
///     panic!("there is no parameter `contxt`")
/// };
/// assert!(text.contains("mine.yaml:3:") && text.contains("did you mean `context`?"));
/// ```
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
    ///
    /// ```
    /// use attn_circuits::Error;
    /// let error = Error::invalid("period must be at least 1");
    /// assert!(matches!(&error, Error::Invalid(text) if text == "period must be at least 1"));
    /// ```
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// An [`Error::Parameter`] about the parameter at `path`.
    ///
    /// ```
    /// use attn_circuits::Error;
    /// let error = Error::parameter("heads[1]", "there is no head 3.1");
    /// assert_eq!(error.to_string(), "heads[1]: there is no head 3.1");
    /// ```
    pub fn parameter(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Parameter { path: path.into(), message: message.into() }
    }

    /// An [`Error::File`] about `path`.
    ///
    /// ```
    /// use attn_circuits::Error;
    /// let error = Error::file("data/tokens.json", "sequence 0 is not a list");
    /// assert_eq!(error.to_string(), "data/tokens.json: sequence 0 is not a list");
    /// ```
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// For `map_err`: wraps what the system said with the path it said it of.
    ///
    /// ```
    /// use attn_circuits::Error;
    /// let read = std::fs::read_to_string("no/such/file.yaml").map_err(Error::io("no/such/file.yaml"));
    /// assert!(read.is_err_and(|error| error.to_string().starts_with("no/such/file.yaml: ")));
    /// ```
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }
}
