//! Names of tokens, for axes that show tokens.

use super::data::Categories;
use crate::{Error, Result, files};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Larger files name more tokens than any vocabulary has.
const LARGEST: u64 = 64 << 20;

/// Names of tokens: a list, token 0 first, or a JSON file that holds such a list or a map of names to tokens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TokenNames {
    /// The names, token 0 first.
    List(Vec<String>),
    /// A JSON file, relative to the experiment file.
    File(String),
}

impl TokenNames {
    /// What [`super::Figure::files`] answers for the parameter `tokens`.
    pub fn files(tokens: Option<&Self>) -> Vec<PathBuf> {
        match tokens {
            Some(Self::File(file)) => vec![PathBuf::from(file)],
            _ => Vec::new(),
        }
    }

    /// What [`super::Figure::read`] answers for the parameter `tokens`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`] if there is no such file or it holds no names.
    pub fn read(tokens: Option<&Self>, base: &Path) -> Result<Vec<(&'static str, Value)>> {
        let Some(Self::File(file)) = tokens else { return Ok(Vec::new()) };
        let path = base.join(file);
        let text = files::read(&path, LARGEST, "a file of token names")?;
        let value: Value = serde_json::from_slice(&text).map_err(|error| Error::file(&path, format!("is no JSON: {error}")))?;
        let names = names(value).map_err(|message| Error::file(&path, message))?;
        Ok(vec![("tokens", names.into())])
    }

    /// `tokens` (whole numbers) with their names as labels.
    ///
    /// # Errors
    /// [`Error::Figure`] about the first token without a name, or if the column `name` of `parameter` holds no tokens.
    pub fn label(&self, parameter: &str, name: &str, tokens: &mut Categories) -> Result<()> {
        let Self::List(names) = self else {
            return Err(Error::Figure("`tokens` is a file that was not read".into()));
        };
        let Some(numbers) = tokens.numbers.take().filter(|all| all.iter().all(|v| v.fract() == 0.0)) else {
            return Err(Error::Figure(format!(
                "`{parameter}: {name}` must hold tokens, numbers from 0, to be given names with `tokens`"
            )));
        };
        for (label, number) in tokens.labels.iter_mut().zip(numbers) {
            let found = if number >= 0.0 { names.get(number as usize) } else { None };
            label.clone_from(found.ok_or_else(|| {
                Error::Figure(format!("`{name}` holds the token {label}, but `tokens` has {} names, from 0 on", names.len()))
            })?);
        }
        Ok(())
    }
}

/// The names in a JSON value: a list of strings, or a map of names to the tokens from 0 on, as tokenisers keep their vocabulary.
fn names(value: Value) -> Result<Vec<String>, String> {
    match value {
        Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(token, item)| match item {
                Value::String(name) => Ok(name),
                other => Err(format!("the name of token {token} must be a string, not {other}")),
            })
            .collect(),
        Value::Object(map) => {
            let mut names = vec![None; map.len()];
            for (name, token) in map {
                let place = token.as_u64().and_then(|token| names.get_mut(usize::try_from(token).ok()?));
                match place {
                    Some(place @ None) => *place = Some(name),
                    Some(Some(other)) => return Err(format!("`{other}` and `{name}` are both token {token}")),
                    None => {
                        let last = names.len().saturating_sub(1);
                        return Err(format!("`{name}` is token {token}, but {} names are the tokens 0 to {last}", names.len()));
                    }
                }
            }
            // As many names as tokens, and no token twice: there is one for each.
            Ok(names.into_iter().flatten().collect())
        }
        _ => Err("must hold a list of names, token 0 first, or a map of names to tokens".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    #[test]
    fn lists_and_maps_name_tokens() {
        assert_eq!(names(json!(["a", "b"])).unwrap(), ["a", "b"]);
        assert_eq!(names(json!({"b": 1, "a": 0})).unwrap(), ["a", "b"]);
        for (wrong, word) in [
            (json!(["a", 1]), "token 1 must be a string"),
            (json!({"a": 0, "b": 0}), "both token 0"),
            (json!({"a": 0, "b": 2}), "the tokens 0 to 1"),
            (json!({"a": -1}), "`a` is token -1"),
            (json!("a"), "list of names"),
        ] {
            let found = names(wrong.clone()).unwrap_err();
            assert!(found.contains(word), "{wrong}: {found}");
        }
    }

    #[test]
    fn files_are_read_beside_the_experiment() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("names.json"), r#"["<s>", "a"]"#).unwrap();
        fs::write(folder.path().join("broken.json"), "[").unwrap();
        let read = |file: &str| TokenNames::read(Some(&TokenNames::File(file.into())), folder.path());
        assert_eq!(read("names.json").unwrap(), [("tokens", json!(["<s>", "a"]))]);
        assert!(read("broken.json").unwrap_err().to_string().contains("is no JSON"));
        assert!(matches!(read("none.json"), Err(Error::Io { .. })));
        assert_eq!(TokenNames::read(Some(&TokenNames::List(vec![])), folder.path()).unwrap(), []);
    }
}
