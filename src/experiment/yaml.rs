//! YAML text as a tree in which every key and value knows its place.

use super::diagnostic::Span;
use serde_json::{Map, Number, Value as Json};

mod reader;
mod scalar;

pub use reader::parse;

/// A value and where it is.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its place. An empty value has the place of its key.
    pub span: Span,
}

/// A YAML value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A finite number that is not written as a whole one.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// Keys and values, in the file's order.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Its place.
    pub span: Span,
}

impl PartialEq for Node {
    /// The place does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Key {
    /// The place does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Node {
    /// The entries, if this is a map.
    pub fn entries(&self) -> &[(Key, Node)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// The items, if this is a list.
    pub fn items(&self) -> &[Node] {
        if let Value::Seq(items) = &self.value { items } else { &[] }
    }

    /// The entry called `name`, if this is a map that has it.
    pub fn entry(&self, name: &str) -> Option<(&Key, &Node)> {
        self.entries().iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }

    /// The value of the entry called `name`.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|(_, node)| node)
    }

    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(text) = &self.value { Some(text) } else { None }
    }

    /// Whether this is neither a list nor a map.
    pub fn is_scalar(&self) -> bool {
        !matches!(self.value, Value::Seq(_) | Value::Map(_))
    }

    /// The value as JSON. Whole numbers that JSON libraries do not hold exactly become floating-point ones.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => Json::from(value),
                (_, Ok(value)) => Json::from(value),
                _ => Number::from_f64(*value as f64).map_or(Json::Null, Json::Number),
            },
            Value::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Value::Str(value) => Json::String(value.clone()),
            Value::Seq(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The value in the words of a message: "the string `twenty`", "a list".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing (null)".to_string(),
            Value::Bool(value) => format!("the boolean `{value}`"),
            Value::Int(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value:?}"),
            Value::Str(text) => match text.char_indices().nth(40) {
                _ if text.is_empty() => "an empty string".to_string(),
                _ if text.contains('\n') => "a text of several lines".to_string(),
                Some((cut, _)) => format!("the string `{}…`", &text[..cut]),
                None => format!("the string `{text}`"),
            },
            Value::Seq(_) => "a list".to_string(),
            Value::Map(_) => "a map".to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
