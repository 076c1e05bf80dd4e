//! Figures: what a `figure:` cell draws, one file each.

/// Functions that give the default names of columns, as serde asks for them: `default_columns!(re, im)` makes `re()` give `"re"`.
macro_rules! default_columns {
    ($($name:ident),+) => {
        $(fn $name() -> String {
            stringify!($name).into()
        })+
    };
}

mod attention;
mod axis;
mod bar;
mod canvas;
mod circuit_matrix;
mod colormap;
mod complex_plane;
mod composition_graph;
mod data;
mod distribution;
mod font;
mod heatmap;
mod layout;
mod legend;
mod line;
mod matrix;
mod raster;
mod scale;
mod scatter;
mod svg;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod token_names;
mod xy;

use crate::Result;
use crate::kind::Kind;
use polars::prelude::DataFrame;
use serde_json::Value;
use std::fmt::Debug;
use std::path::Path;

/// The checked parameters of a figure.
pub trait Figure: Send + Sync + Debug {
    /// The columns of the data that the figure uses, as `(parameter, column)`: `("x", "head")`. Checked against the table before
    /// the run.
    fn columns(&self) -> Vec<(&'static str, &str)>;

    /// The parameters of [`Figure::columns`] whose columns must hold numbers. Checked before the run, too.
    fn numbers(&self) -> &'static [&'static str];

    /// Checks the parameters by themselves.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] about the first that is wrong.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Reads the files that parameters name, relative to `base`: the parameters, and what stands for them from then on. It happens
    /// before the run, and the results keep what was read: they are drawn again without the files.
    ///
    /// # Errors
    /// [`crate::Error::Io`] or [`crate::Error::File`] about a file that is missing or wrong.
    fn read(&self, base: &Path) -> Result<Vec<(&'static str, Value)>> {
        let _ = base;
        Ok(Vec::new())
    }

    /// Draws `data` under `title` as an SVG document and as PNG bytes.
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if the data cannot be drawn: a column that is no number, more facets than fit.
    fn draw(&self, data: &DataFrame, title: &str) -> Result<Drawing>;
}

/// A figure in both formats.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// A complete SVG document.
    pub svg: String,
    /// A PNG file.
    pub png: Vec<u8>,
}

/// All kinds of figure.
pub static FIGURES: &[Kind<dyn Figure>] = &[
    crate::kind!(dyn Figure, heatmap::Heatmap),
    crate::kind!(dyn Figure, line::Line),
    crate::kind!(dyn Figure, bar::Bar),
    crate::kind!(dyn Figure, scatter::Scatter),
    crate::kind!(dyn Figure, distribution::Distribution),
    crate::kind!(dyn Figure, attention::Attention),
    crate::kind!(dyn Figure, circuit_matrix::CircuitMatrix),
    crate::kind!(dyn Figure, complex_plane::ComplexPlane),
    crate::kind!(dyn Figure, composition_graph::CompositionGraph),
];
