//! Registries: what a YAML file can name (`kind: wired`, `measure: loss`, `figure: heatmap`, …).
//!
//! A kind is a parameter type with serde and schemars derives. Its doc comments are the documentation that `describe` prints and
//! that the JSON Schema carries; its schema is what checks the YAML. So adding one is one file,
//! its `mod` and one line in a registry.

use crate::Error;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a parameter type says of itself beside its derives.
///
/// ```
/// use attn_circuits::kind;
/// use attn_circuits::kind::Described;
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// /// Dots in a row.
/// #[derive(Debug, Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Dots {
///     /// How many.
///     count: usize,
/// }
///
/// impl Described for Dots {
///     const NAME: &'static str = "dots";
///     const EXAMPLE: &'static str = "row: { kind: dots, count: 3 }\n";
/// }
///
/// let dots = kind!(dyn std::fmt::Debug, Dots);
/// assert_eq!((dots.name, dots.doc().as_str()), ("dots", "Dots in a row."));
/// assert_eq!(format!("{:?}", (dots.parse)(serde_json::json!({ "count": 3 }))?), "Dots { count: 3 }");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub trait Described: JsonSchema + DeserializeOwned {
    /// The name that the YAML file uses.
    const NAME: &'static str;
    /// A YAML example, as it would stand in an experiment file.
    const EXAMPLE: &'static str;
}

/// One entry of a registry of `T` (`dyn Measure`, `dyn Figure`, …).
///
/// ```
/// use attn_circuits::input::INPUTS;
/// use attn_circuits::kind::Kind;
/// use serde_json::json;
///
/// let kind = Kind::find(INPUTS, "repeated_tokens").ok_or("no such kind")?;
/// assert!(kind.example.contains("kind: repeated_tokens"));
/// assert_eq!((kind.schema)().get("required"), Some(&json!(["sequences", "period", "repeats"])));
/// let input = (kind.parse)(json!({ "sequences": 4, "period": 6, "repeats": 2 }))?;
/// assert_eq!(input.shape(".".as_ref(), None)?.length, 1 + 2 * 6);
///
/// // A registry of one's own can start from another.
/// let mut mine = INPUTS.to_vec();
/// mine.retain(|kind| kind.name != "corrupted");
/// assert!(Kind::find(&mine, "corrupted").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Kind<T: ?Sized> {
    /// The name that the YAML file uses.
    pub name: &'static str,
    /// A YAML example.
    pub example: &'static str,
    /// The JSON Schema of the parameters: a closed object, everything inline.
    pub schema: fn() -> Schema,
    /// Builds the kind from parameters that fit the schema.
    pub parse: fn(Value) -> Result<Box<T>, serde_json::Error>,
}

impl<T: ?Sized> Clone for Kind<T> {
    /// So that a registry of one's own can start from another: `MEASURES.to_vec()`.
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Kind<T> {}

/// The JSON Schema of `P`, without references, as the validator and `describe` read it.
///
/// ```
/// use attn_circuits::input::RepeatedTokens;
/// use attn_circuits::kind::schema_of;
/// use serde_json::json;
///
/// let schema = schema_of::<RepeatedTokens>().to_value();
/// assert_eq!(schema["additionalProperties"], json!(false));
/// assert_eq!(schema["properties"]["period"]["minimum"], json!(1));
/// assert_eq!(schema["properties"]["start"]["default"], json!(true));
/// ```
pub fn schema_of<P: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<P>()
}

/// Parameters that fit the schema of `P`, as `P`.
///
/// ```
/// use attn_circuits::input::RepeatedTokens;
/// use attn_circuits::kind::parsed;
/// use serde_json::json;
///
/// let input: RepeatedTokens = parsed(json!({ "sequences": 4, "period": 6, "repeats": 2 }))?;
/// assert!(input.start && input.distinct); // by default
/// assert!(parsed::<RepeatedTokens>(json!({ "sequences": 4, "period": 6, "repeat": 2 })).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
/// [`serde_json::Error`] if they do not fit after all: a parameter that is missing, superfluous or of another type.
pub fn parsed<P: DeserializeOwned>(parameters: Value) -> Result<P, serde_json::Error> {
    serde_json::from_value(parameters)
}

/// The registry entry for the parameter type `$params`, as `$object` (a trait that it implements).
///
/// ```
/// use attn_circuits::kind;
/// use attn_circuits::measure::{Loss, MEASURES, Measure};
///
/// let loss = kind!(dyn Measure, Loss);
/// assert_eq!(loss.name, "loss");
/// assert!(MEASURES.iter().any(|kind| kind.name == loss.name && kind.example == loss.example));
/// ```
#[macro_export]
macro_rules! kind {
    ($object:ty, $params:ty) => {
        $crate::kind::Kind::<$object> {
            name: <$params as $crate::kind::Described>::NAME,
            example: <$params as $crate::kind::Described>::EXAMPLE,
            schema: $crate::kind::schema_of::<$params>,
            parse: |value| Ok(Box::new($crate::kind::parsed::<$params>(value)?)),
        }
    };
}

impl<T: ?Sized> Kind<T> {
    /// The entry called `name`; `None` if there is none.
    ///
    /// ```
    /// use attn_circuits::kind::Kind;
    /// use attn_circuits::measure::MEASURES;
    /// assert!(Kind::find(MEASURES, "composition").is_some_and(|kind| kind.name == "composition"));
    /// assert!(Kind::find(MEASURES, "compositions").is_none());
    /// ```
    pub fn find<'a>(registry: &'a [Self], name: &str) -> Option<&'a Self> {
        registry.iter().find(|kind| kind.name == name)
    }

    /// What the entry called `name` makes of parameters that fit its schema; `what` the registry holds, for the error.
    ///
    /// ```
    /// use attn_circuits::input::{INPUTS, InputKind};
    /// use attn_circuits::kind::Kind;
    /// use serde_json::json;
    /// let input = Kind::<dyn InputKind>::make(INPUTS, "input", "tokens", json!({ "tokens": [[0, 5, 3]] }))?;
    /// assert_eq!(input.shape(".".as_ref(), None)?.length, 3);
    /// let unknown = Kind::<dyn InputKind>::make(INPUTS, "input", "words", json!({}));
    /// assert!(unknown.is_err_and(|error| error.to_string() == "there is no input `words`"));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such entry, or they do not fit after all.
    pub fn make(registry: &[Self], what: &str, name: &str, parameters: Value) -> crate::Result<Box<T>> {
        let kind = Self::find(registry, name).ok_or_else(|| Error::invalid(format!("there is no {what} `{name}`")))?;
        (kind.parse)(parameters).map_err(|error| Error::invalid(error.to_string()))
    }

    /// The documentation: the doc comment of the parameter type.
    ///
    /// ```
    /// use attn_circuits::kind::Kind;
    /// use attn_circuits::measure::MEASURES;
    /// let loss = Kind::find(MEASURES, "loss").map(Kind::doc).unwrap_or_default();
    /// assert!(loss.starts_with("How well the model predicts the next token at each position."));
    /// assert!(MEASURES.iter().all(|kind| !kind.doc().is_empty()));
    /// ```
    pub fn doc(&self) -> String {
        let schema = (self.schema)();
        schema.get("description").and_then(Value::as_str).unwrap_or_default().to_string()
    }
}
