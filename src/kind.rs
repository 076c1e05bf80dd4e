//! Registries: what a YAML file can name (`kind: wired`, `measure: loss`, `figure: heatmap`, …).
//!
//! A kind is a parameter type with serde and schemars derives. Its doc comments are the documentation that `describe` prints and
//! that the JSON Schema carries; its schema is what checks the YAML. So adding one is one file,
//! its `mod` and one line in a registry.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a parameter type says of itself beside its derives.
pub trait Described: JsonSchema + DeserializeOwned {
    /// The name that the YAML file uses.
    const NAME: &'static str;
    /// A YAML example, as it would stand in an experiment file.
    const EXAMPLE: &'static str;
}

/// One entry of a registry of `T` (`dyn Measure`, `dyn Figure`, …).
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
pub fn schema_of<P: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<P>()
}

/// Parameters that fit the schema of `P`, as `P`.
///
/// # Errors
/// They do not fit after all.
pub fn parsed<P: DeserializeOwned>(parameters: Value) -> Result<P, serde_json::Error> {
    serde_json::from_value(parameters)
}

/// The registry entry for the parameter type `$params`, as `$object` (a trait that it implements).
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
    /// The entry called `name`.
    pub fn find<'a>(registry: &'a [Self], name: &str) -> Option<&'a Self> {
        registry.iter().find(|kind| kind.name == name)
    }

    /// The documentation: the doc comment of the parameter type.
    pub fn doc(&self) -> String {
        let schema = (self.schema)();
        schema.get("description").and_then(Value::as_str).unwrap_or_default().to_string()
    }
}
