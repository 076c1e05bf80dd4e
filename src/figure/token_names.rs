//! Names of tokens, for axes that show tokens.

use super::data::Categories;
use crate::names::shorten;
use crate::{Error, Result, files};
use indexmap::IndexMap;
use indexmap::map::Entry;
use schemars::JsonSchema;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::{Number, Value};
use std::fmt;
use std::path::{Path, PathBuf};

/// Larger files name more tokens than any vocabulary has, and take many times their size while they are read and kept.
const LARGEST: u64 = 16 << 20;
/// More names than any vocabulary has.
const MOST_NAMES: usize = 1 << 20;

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
        let Names(names) = serde_json::from_slice(&text).map_err(|error| {
            let what = if error.classify() == Category::Data { "" } else { "is no JSON: " };
            Error::file(&path, format!("{what}{error}"))
        })?;
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

/// The names in a JSON file: a list of strings, or a map of names to the tokens from 0 on, as tokenisers keep their vocabulary.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of names, token 0 first, or a map of names to tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Names, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = items.next_element_seed(Name { token: names.len() })? {
            names.push(name);
            check_count(names.len())?;
        }
        Ok(Names(names))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Names, A::Error> {
        let mut tokens: IndexMap<String, Number> = IndexMap::new();
        while let Some((name, token)) = entries.next_entry()? {
            match tokens.entry(name) {
                Entry::Occupied(entry) => return Err(de::Error::custom(format!("`{}` is here twice", shorten(entry.key())))),
                Entry::Vacant(entry) => drop(entry.insert(token)),
            }
            check_count(tokens.len())?;
        }
        in_order(tokens).map(Names).map_err(de::Error::custom)
    }
}

fn check_count<E: de::Error>(names: usize) -> Result<(), E> {
    if names > MOST_NAMES { Err(E::custom(format!("has more than {MOST_NAMES} names"))) } else { Ok(()) }
}

/// A string, with words for what is none.
struct Name {
    token: usize,
}

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_string(self)
    }
}

impl Visitor<'_> for Name {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a string as the name of token {}", self.token)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        Ok(name.to_string())
    }
}

/// The names in the order of their tokens: as many as there are, from 0 on.
fn in_order(tokens: IndexMap<String, Number>) -> Result<Vec<String>, String> {
    let mut names = vec![None; tokens.len()];
    for (name, token) in tokens {
        let place = token.as_u64().and_then(|token| names.get_mut(usize::try_from(token).ok()?));
        match place {
            Some(place @ None) => *place = Some(name),
            Some(Some(other)) => {
                return Err(format!("`{}` and `{}` are both token {token}", shorten(other), shorten(&name)));
            }
            None => {
                let (name, last) = (shorten(&name), names.len().saturating_sub(1));
                return Err(format!("`{name}` is token {token}, but {} names are the tokens 0 to {last}", names.len()));
            }
        }
    }
    // As many names as tokens, and no token twice: there is one for each.
    Ok(names.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    #[test]
    fn lists_and_maps_name_tokens() {
        let names = |text: &str| serde_json::from_str::<Names>(text).map(|names| names.0).map_err(|error| error.to_string());
        assert_eq!(names(r#"["a", "b"]"#).unwrap(), ["a", "b"]);
        assert_eq!(names(r#"{"b": 1, "a": 0, "\u00e9\n": 2}"#).unwrap(), ["a", "b", "é\n"]);
        assert_eq!(names("[]").unwrap(), [""; 0]);
        for (wrong, words) in [
            (r#"["a", 1]"#, "invalid type: integer `1`, expected a string as the name of token 1"),
            (r#"["a", ["b"]]"#, "expected a string as the name of token 1"),
            (r#"{"a": 0, "b": 0}"#, "`a` and `b` are both token 0"),
            (r#"{"a": 0, "b": 2}"#, "`b` is token 2, but 2 names are the tokens 0 to 1"),
            (r#"{"a": 0, "a": 1}"#, "`a` is here twice"),
            (r#"{"a": -1}"#, "`a` is token -1"),
            (r#"{"a": 0.5}"#, "`a` is token 0.5"),
            (r#"{"a": "b"}"#, "invalid type: string"),
            (r#""a""#, "expected a list of names, token 0 first, or a map of names to tokens"),
        ] {
            let found = names(wrong).unwrap_err();
            assert!(found.contains(words), "{wrong}: {found}");
        }
    }

    #[test]
    fn files_are_read_beside_the_experiment() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("names.json"), r#"["<s>", "a"]"#).unwrap();
        fs::write(folder.path().join("broken.json"), "[").unwrap();
        let read = |file: &str| TokenNames::read(Some(&TokenNames::File(file.into())), folder.path());
        assert_eq!(read("names.json").unwrap(), [("tokens", json!(["<s>", "a"]))]);
        assert!(read("broken.json").unwrap_err().to_string().contains("broken.json: is no JSON: EOF"));
        assert!(matches!(read("none.json"), Err(Error::Io { .. })));
        assert_eq!(TokenNames::read(Some(&TokenNames::List(vec![])), folder.path()).unwrap(), []);
    }

    #[test]
    fn files_of_more_than_anybody_means_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = |text: String| {
            fs::write(folder.path().join("names.json"), text).unwrap();
            TokenNames::read(Some(&TokenNames::File("names.json".into())), folder.path()).unwrap_err().to_string()
        };
        let large = error(format!("[\"{}\"]", "x".repeat(LARGEST as usize)));
        assert!(large.contains("names.json: a file of token names has at most 16 MiB"), "{large}");
        // Within the limit of bytes.
        for text in [format!("[\"\"{}]", ",\"\"".repeat(MOST_NAMES)), names_of_letters(MOST_NAMES + 1)] {
            let many = error(text);
            assert!(many.contains("names.json: has more than 1048576 names"), "{many}");
        }
    }

    fn names_of_letters(count: usize) -> String {
        let entry = |token: usize| format!("\"{token:x}\":0,");
        format!("{{{}\"\":0}}", (0..count).map(entry).collect::<String>())
    }
}
