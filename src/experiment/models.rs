//! `models:`: from checked trees to builders with their configurations, and what reading `inputs:` shares with that.

use super::diagnostic::{Diagnostic, Span};
use super::ingredients::digest;
use super::load::Loader;
use super::overrides::descend;
use super::tables::{MODEL, REPLICATE};
use super::yaml::{Key, Node, Value};
use super::{Model, Variant};
use crate::kind::Kind;
use crate::model::ModelConfig;
use crate::model::build::{ModelKind, weight_bytes};
use crate::{Error, Result};
use indexmap::IndexMap;
use serde_json::{Map, Value as Json};
use std::path::{Path, PathBuf};

/// More combinations of swept values than this, of all models together, are a slip.
const MOST_VARIANTS: usize = 10_000;
/// More models than this, replicates included, are a slip: the manifest names every one.
const MOST_INSTANCES: usize = 100_000;

/// A named thing of the file; `None` if something is wrong with it, so that what refers to it is not reported as well.
#[derive(Debug)]
pub struct Named<T> {
    /// Where its name is.
    pub span: Span,
    /// What it is.
    pub value: Option<T>,
}

/// The entries of `models:` or `inputs:`.
pub type Entries<T> = IndexMap<String, Named<T>>;

/// A swept parameter: its key, and its values.
type Sweep<'n> = (&'n Key, &'n [Node]);

impl Loader<'_> {
    /// Reads `models:`.
    pub fn models(&mut self, root: &Node) -> Entries<Model> {
        let models = self.entries(root, "models", Self::model);
        let instances = |named: &Named<Model>| {
            named.value.as_ref().map_or(0, |model| model.variants.len().saturating_mul(model.replicates))
        };
        let all = models.values().map(instances).fold(0, usize::saturating_add);
        if let (true, Some(largest)) = (all > MOST_INSTANCES, models.values().max_by_key(|named| instances(named))) {
            let message = format!("the replicates and sweeps make {all} models, and {MOST_INSTANCES} is the most");
            self.problems.push(Diagnostic::new(largest.span, message).help("most of them are of this entry: leave some out"));
        }
        models
    }

    /// The entries of a section, each as `read` has it; left to whoever reported it where its name or the schema is at fault.
    pub fn entries<'n, T>(
        &mut self,
        root: &'n Node,
        section: &str,
        read: impl Fn(&mut Self, &str, &'n Node) -> Option<T>,
    ) -> Entries<T> {
        let mut entries = Entries::new();
        if self.outcome.failed_itself(section) {
            return entries;
        }
        for (key, node) in root.get(section).map(Node::entries).unwrap_or_default() {
            let named = check_name(key.span, &key.name, true).map_err(|problem| self.problems.push(problem)).is_ok();
            let sound = named && !self.outcome.failed(&format!("{section}/{}", key.name));
            let value = if sound { read(self, &key.name, node) } else { None };
            entries.insert(key.name.clone(), Named { span: key.span, value });
        }
        entries
    }

    fn model(&mut self, name: &str, node: &Node) -> Option<Model> {
        let kind_name = node.get("kind")?.as_str()?;
        let kind = Kind::find(self.registries.models, kind_name)?;
        let sweep: Vec<Sweep> =
            node.get("sweep").map(Node::entries).unwrap_or_default().iter().map(|(key, list)| (key, list.items())).collect();
        self.check_sweep(name, node, &sweep)?;
        let replicates = match node.get("replicates").map(|node| &node.value) {
            Some(&Value::Int(count)) => usize::try_from(count).ok()?,
            _ => 1,
        };
        let mut variants = Vec::new();
        for values in combinations(&sweep) {
            let mut parameters = parameters(node, &["kind", "replicates", "sweep"]);
            for ((key, _), value) in sweep.iter().zip(&values) {
                parameters.insert(key.name.clone(), value.to_json());
            }
            let builder = self.parse(kind, parameters.clone(), node)?;
            let config = match self.config(builder.as_ref()) {
                Ok(config) => config,
                Err(error) => {
                    let span = swept_at(&error, &sweep, &values).unwrap_or_else(|| locate(&error, node, "kind", self.base));
                    self.problems.push(Diagnostic::new(span, format!("model `{name}`: {}", words(&error))));
                    continue;
                }
            };
            let values = values.iter().map(|value| value.to_json()).collect();
            variants.push(Variant { values, parameters: parameters.into(), builder, config });
        }
        if variants.len() < combinations(&sweep).count() {
            return None;
        }
        if replicates > 1 && !variants.iter().any(|variant| variant.builder.is_random()) {
            let (key, count) = node.entry("replicates")?;
            let message = format!("model `{name}` has no random draws: its {replicates} replicates would all be the same");
            let span = if count.span.source == 0 { key.span.to(count.span) } else { count.span };
            self.problems.push(Diagnostic::new(span, message).help("leave `replicates` out"));
            return None;
        }
        let swept = sweep.iter().map(|(key, _)| key.name.clone()).collect();
        Some(Model { kind: kind_name.to_string(), swept, replicates, variants })
    }

    fn check_sweep(&mut self, name: &str, node: &Node, sweep: &[Sweep]) -> Option<()> {
        let count = sweep.iter().fold(1_usize, |count, (_, values)| count.saturating_mul(values.len()));
        self.variants = self.variants.saturating_add(count);
        if count > MOST_VARIANTS {
            let span = node.entry("sweep").map_or(node.span, |(key, _)| key.span);
            let message = format!("the sweep of model `{name}` makes {count} models, and {MOST_VARIANTS} is the most");
            self.problems.push(Diagnostic::new(span, message).help("every combination of the values is one model"));
            return None;
        }
        if self.variants > MOST_VARIANTS {
            // Reported once, for the model with which there are too many.
            if self.variants - count <= MOST_VARIANTS {
                let span = node.entry("sweep").map_or(node.span, |(key, _)| key.span);
                let message = format!(
                    "the sweeps of all models up to this one make {} models, and {MOST_VARIANTS} is the most",
                    self.variants
                );
                self.problems.push(Diagnostic::new(span, message).help("every combination of the values is one model"));
            }
            return None;
        }
        let before = self.problems.len();
        for (key, values) in sweep {
            if [MODEL, REPLICATE].contains(&key.name.as_str()) {
                let message = format!("`{}` cannot be swept: every table has a key column of that name already", key.name);
                self.problems.push(Diagnostic::new(key.span, message));
            }
            for (index, value) in values.iter().enumerate() {
                if let Some(first) = values[..index].iter().find(|first| first.value == value.value) {
                    let message = format!("the sweep of `{}` has {} twice", key.name, value.describe());
                    self.problems.push(Diagnostic::new(value.span, message).context(first.span, "first here"));
                }
            }
        }
        (self.problems.len() == before).then_some(())
    }

    /// The configuration of a model, and what the files hold that it was read from.
    fn config(&mut self, builder: &dyn ModelKind) -> Result<ModelConfig> {
        let base = self.base;
        let read = || builder.config(base).and_then(|config| config.check().map(|()| config));
        let first = read()?;
        // A model that does not fit into memory is refused; its file is not worth reading.
        if weight_bytes::<f32>(&first) >= self.limit { Ok(first) } else { self.settled(builder.files(), read) }
    }

    /// What is read from files, with what they hold taken down: looked at first, since one that is not of its kind may have no end
    /// worth waiting for; what counts is what is read from then on.
    pub fn settled<T>(&mut self, files: Vec<PathBuf>, read: impl Fn() -> Result<T>) -> Result<T> {
        let first = read()?;
        if files.is_empty() {
            return Ok(first);
        }
        self.digest(files);
        read()
    }

    /// Takes down what files hold before what counts is read from them, so that a change from then on is noticed. One that cannot
    /// be read is reported by whoever needs it.
    fn digest(&mut self, files: Vec<PathBuf>) {
        for file in files {
            if !self.digests.contains_key(&file)
                && let Ok(digest) = digest(&self.base.join(&file))
            {
                self.digests.insert(file, digest);
            }
        }
    }

    /// Parameters that fit the schema, as the kind's type.
    pub fn parse<T: ?Sized>(&mut self, kind: &Kind<T>, parameters: Map<String, Json>, node: &Node) -> Option<Box<T>> {
        match (kind.parse)(Json::Object(parameters)) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let tag = ["kind", "measure", "figure"].iter().find_map(|tag| node.get(tag));
                let span = tag.map_or(node.span, |tag| tag.span);
                self.problems.push(Diagnostic::new(span, format!("`{}`: {error}", kind.name)));
                None
            }
        }
    }
}

/// The entries of a map but those that all kinds share.
pub fn parameters(node: &Node, common: &[&str]) -> Map<String, Json> {
    let own = node.entries().iter().filter(|(key, _)| !common.contains(&key.name.as_str()));
    own.map(|(key, value)| (key.name.clone(), value.to_json())).collect()
}

/// Every combination of swept values, the first parameter slowest; a single empty one without a sweep.
fn combinations<'n>(sweep: &[Sweep<'n>]) -> impl Iterator<Item = Vec<&'n Node>> {
    let lists: Vec<&'n [Node]> = sweep.iter().map(|(_, values)| *values).collect();
    let count: usize = lists.iter().map(|values| values.len()).product();
    (0..count).map(move |mut index| {
        let mut values: Vec<&Node> = Vec::with_capacity(lists.len());
        for list in lists.iter().rev() {
            values.push(&list[index % list.len()]);
            index /= list.len();
        }
        values.reverse();
        values
    })
}

/// What an error says, without the path of a parameter: the place in the file is shown.
pub fn words(error: &Error) -> String {
    match error {
        Error::Parameter { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

/// The swept value that an error is about.
fn swept_at(error: &Error, sweep: &[Sweep], values: &[&Node]) -> Option<Span> {
    let Error::Parameter { path, .. } = error else { return None };
    let index = sweep.iter().position(|(key, _)| key.name == *path)?;
    Some(values[index].span)
}

/// Where the cause of an error is in a kind's map: the parameter that it names, the name of the file that it is about, or else
/// the value of `tag`.
pub fn locate(error: &Error, node: &Node, tag: &str, base: &Path) -> Span {
    let fault = match error {
        Error::Parameter { path, .. } => descend(node, path),
        Error::File { path, .. } | Error::Io { path, .. } => {
            let named = |value: &&Node| value.as_str().is_some_and(|text| base.join(text) == *path);
            let by_name = node.entries().iter().map(|(_, value)| value).find(named);
            by_name.or_else(|| ["config", "weights", "file"].iter().find_map(|key| node.get(key)))
        }
        _ => None,
    };
    fault.or_else(|| node.get(tag)).map_or(node.span, |fault| fault.span)
}

/// Names are used in SQL and in file names; those of models and inputs may have hyphens.
///
/// # Errors
/// The name is not fit for that.
pub fn check_name(span: Span, name: &str, hyphens: bool) -> Result<(), Diagnostic> {
    const LONGEST: usize = 100;
    if name.len() > LONGEST {
        return Err(Diagnostic::new(span, format!("this name is longer than {LONGEST} characters")));
    }
    if super::folder::is_reserved(name) {
        let problem = Diagnostic::new(span, format!("`{name}` cannot be a name: some systems take it for a device"));
        return Err(problem.help("names end in file names"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (hyphens && c == '-');
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && name.chars().all(fits) {
        return Ok(());
    }
    let also = if hyphens { "digits, `_` and `-`" } else { "digits and `_`" };
    let problem = Diagnostic::new(span, format!("`{name}` cannot be a name"));
    Err(problem.help(format!("a name has letters, {also} only, and starts with a letter or `_`")))
}
