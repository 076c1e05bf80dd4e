//! The columns of tables, known before anything is computed.

use super::Model;
use polars::prelude::{DataType, Schema};
use serde_json::Value;

/// The column that names the model.
pub const MODEL: &str = "model";
/// The column that numbers the replicates of a model.
pub const REPLICATE: &str = "replicate";

/// The key columns that a table over these models starts with: `model`, every swept parameter, `replicate`.
///
/// A model that is not swept by a parameter has null in its column.
pub fn key_columns<'a>(models: impl IntoIterator<Item = &'a Model>) -> Schema {
    let models: Vec<&Model> = models.into_iter().collect();
    let mut columns = Schema::with_capacity(8);
    columns.with_column(MODEL.into(), DataType::String);
    for name in models.iter().flat_map(|model| &model.swept) {
        if !columns.contains(name) {
            let values = models.iter().flat_map(|model| swept_values(model, name));
            columns.with_column(name.as_str().into(), type_of(values));
        }
    }
    columns.with_column(REPLICATE.into(), DataType::Int64);
    columns
}

/// The values of a swept parameter, one for each variant; none if the model is not swept by it.
fn swept_values<'a>(model: &'a Model, name: &str) -> impl Iterator<Item = &'a Value> {
    let index = model.swept.iter().position(|swept| swept == name);
    index.into_iter().flat_map(|index| model.variants.iter().filter_map(move |variant| variant.values.get(index)))
}

/// The type that holds all values: whole numbers, numbers, booleans, or else text. Null fits each.
fn type_of<'a>(values: impl Iterator<Item = &'a Value>) -> DataType {
    let values: Vec<&Value> = values.filter(|value| !value.is_null()).collect();
    if !values.is_empty() && values.iter().all(|value| value.is_i64()) {
        DataType::Int64
    } else if values.iter().all(|value| value.is_number()) {
        DataType::Float64
    } else if values.iter().all(|value| value.is_boolean()) {
        DataType::Boolean
    } else {
        DataType::String
    }
}

/// The columns of a measure's table: the keys, then the measure's own.
///
/// # Errors
/// The name of a column that would be there twice.
pub fn table_columns(keys: &Schema, own: &Schema) -> Result<Schema, String> {
    let mut columns = keys.clone();
    for (name, data_type) in own.iter() {
        if columns.with_column(name.clone(), data_type.clone()).is_some() {
            return Err(name.to_string());
        }
    }
    Ok(columns)
}
