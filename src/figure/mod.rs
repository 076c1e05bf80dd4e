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

pub(crate) use data::MOST_FACETS;
pub use theme::Theme;

use crate::Result;
use crate::kind::Kind;
use polars::prelude::DataFrame;
use serde_json::Value;
use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};

/// The checked parameters of a figure.
///
/// ```
/// use attn_circuits::figure::{FIGURES, Figure};
/// use attn_circuits::kind::Kind;
/// use serde_json::json;
/// # let folder = tempfile::tempdir()?;
/// let matrix = Kind::<dyn Figure>::find(FIGURES, "circuit_matrix").ok_or("no such kind")?;
/// let figure = (matrix.parse)(json!({ "tokens": "tokens.json" }))?;
/// // Columns that are not given are those of the measure. All of them must hold numbers: tokens are numbers, too.
/// assert_eq!(figure.columns(), [("row", "row_token"), ("column", "column_token"), ("value", "value")]);
/// assert_eq!(figure.numbers(), ["row", "column", "value"]);
/// // A file is read before the run, and what it holds takes its place.
/// std::fs::write(folder.path().join("tokens.json"), r#"["<s>", "a", "b"]"#)?;
/// assert_eq!(figure.files(), ["tokens.json".as_ref() as &std::path::Path]);
/// assert_eq!(figure.read(folder.path())?, [("tokens", json!(["<s>", "a", "b"]))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Figure: Send + Sync + Debug {
    /// The columns of the data that the figure uses, as `(parameter, column)`: `("x", "head")`. Checked against the table before
    /// the run.
    fn columns(&self) -> Vec<(&'static str, &str)>;

    /// The parameters of [`Figure::columns`] whose columns must hold numbers. Checked before the run, too.
    fn numbers(&self) -> &'static [&'static str];

    /// Checks the parameters by themselves.
    ///
    /// ```
    /// use attn_circuits::figure::{FIGURES, Figure};
    /// use attn_circuits::kind::Kind;
    /// use serde_json::json;
    /// let heatmap = Kind::<dyn Figure>::find(FIGURES, "heatmap").ok_or("no such kind")?;
    /// let figure = (heatmap.parse)(json!({ "x": "head", "y": "layer", "color": "value", "min": 1, "max": 0 }))?;
    /// assert!(figure.check().is_err_and(|error| error.to_string() == "min: `min: 1` must be less than `max: 0`"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] about the first that is wrong.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The files that parameters name, as they name them.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
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
    /// ```
    /// use attn_circuits::figure::{FIGURES, Figure, Style};
    /// use attn_circuits::kind::Kind;
    /// use polars::prelude::df;
    /// let line = Kind::<dyn Figure>::find(FIGURES, "line").ok_or("no such kind")?;
    /// let figure = (line.parse)(serde_json::json!({ "x": "position", "y": "loss" }))?;
    /// let losses = df!("position" => [0, 1, 2], "loss" => [2.5, 2.4, 0.1])?;
    /// let drawing = figure.draw(&losses, "The second time is easy", &Style::default())?;
    /// // The same data gives the same bytes. A column of words cannot be drawn as a height.
    /// assert_eq!(figure.draw(&losses, "The second time is easy", &Style::default())?.svg, drawing.svg);
    /// let words = df!("position" => [0, 1], "loss" => ["high", "low"])?;
    /// assert!(figure.draw(&words, "Words", &Style::default()).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Figure`] if the data cannot be drawn: no rows, a column that is missing or no number, two rows in one
    /// place, more facets than fit, a scale of the PNG that there is not; what [`Figure::check`] finds.
    fn draw(&self, data: &DataFrame, title: &str, style: &Style) -> Result<Drawing>;
}

/// What figures are drawn for, as [`Figure::draw`] and [`Style::sized`] take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colours, lines and text.
    pub theme: Theme,
    /// Width of every figure in pixels, instead of its own; a height of its own is changed in proportion.
    pub width: Option<u32>,
    /// Pixels of the PNG in a pixel of the figure: 1, 2, 3, 4, 6 or 8.
    pub png_scale: u32,
}

impl Default for Style {
    /// As in the report, with twice as many pixels in the PNG.
    fn default() -> Self {
        Self { theme: Theme::Screen, width: None, png_scale: theme::PNG_SCALE }
    }
}

impl Style {
    /// A figure's parameters, as the experiment file has them, with the width that is asked for.
    ///
    /// ```
    /// use attn_circuits::figure::Style;
    /// use serde_json::json;
    /// let wide = json!({ "x": "head", "width": 800, "height": 400 });
    /// assert_eq!(Style::default().sized(wide.clone()), wide);
    /// // The height that a figure asks for is changed in proportion.
    /// let narrow = Style { width: Some(500), ..Style::default() };
    /// assert_eq!(narrow.sized(wide), json!({ "x": "head", "width": 500, "height": 250 }));
    /// assert_eq!(narrow.sized(json!({ "x": "head" })), json!({ "x": "head", "width": 500 }));
    /// ```
    #[must_use]
    pub fn sized(&self, mut parameters: Value) -> Value {
        if let (Some(width), Some(parameters)) = (self.width, parameters.as_object_mut()) {
            let number = |name: &str| parameters.get(name).and_then(Value::as_f64);
            if let Some(height) = number("height") {
                let own = number("width").unwrap_or(theme::WIDTH);
                parameters.insert("height".into(), ((height * f64::from(width) / own).round() as u32).into());
            }
            parameters.insert("width".into(), width.into());
        }
        parameters
    }
}

/// A figure in both formats, by [`Figure::draw`].
#[derive(Clone)]
pub struct Drawing {
    /// A complete SVG document.
    pub svg: String,
    /// A PNG file.
    pub png: Vec<u8>,
}

impl fmt::Debug for Drawing {
    /// Their sizes: nobody reads the bytes of a picture.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Drawing {{ svg: {} bytes, png: {} bytes }}", self.svg.len(), self.png.len())
    }
}

/// Bytes held while a figure with these parameters is drawn: for each pixel, the bitmap on which it is drawn larger, and the one to
/// which that is averaged. Where no width or height is given, a usual one counts.
///
/// ```
/// use attn_circuits::figure::drawing_bytes;
/// use serde_json::json;
/// // Three bytes for each pixel of a bitmap four times as large in both directions, and of the one twice as large.
/// assert_eq!(drawing_bytes(&json!({ "width": 200, "height": 100 })), 200 * 100 * (4 * 4 + 2 * 2) * 3);
/// assert_eq!(drawing_bytes(&json!({})), drawing_bytes(&json!({ "width": 720, "height": 450 })));
/// ```
pub fn drawing_bytes(parameters: &Value) -> usize {
    let pixels = |name: &str, usual: usize| parameters.get(name).and_then(Value::as_u64).map_or(usual, |given| given as usize);
    let larger = theme::UNITS as usize * theme::UNITS as usize;
    let averaged = (theme::PNG_SCALE * theme::PNG_SCALE) as usize;
    [pixels("width", theme::WIDTH as usize), pixels("height", 450), larger + averaged, 3]
        .into_iter()
        .fold(1, usize::saturating_mul)
}

/// All kinds of figure.
///
/// ```
/// use attn_circuits::figure::FIGURES;
/// let names: Vec<&str> = FIGURES.iter().map(|kind| kind.name).collect();
/// assert!(names.contains(&"heatmap") && names.contains(&"composition_graph"));
/// // All take a size, and their documentation is that of the parameters.
/// for kind in FIGURES {
///     assert!((kind.schema)().to_value()["properties"]["width"].is_object() && !kind.doc().is_empty());
/// }
/// ```
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
