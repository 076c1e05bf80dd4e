//! From names to coordinates: the circuit that a text describes, checked.

use super::language::{Circuit, HeadSpec, Move, Read, Size, SizeOf, Targets, TokenMap};
use crate::model::build::did_you_mean;
use crate::names::closest;
use crate::{Error, Result};
use indexmap::IndexMap;
use std::ops::Range;

/// The subspace that `W_E` writes: one dimension a token. [`Layout`] has an example.
pub const TOKEN: &str = "token";
/// The subspace that `W_pos` writes, if the layout has it: one dimension a position.
pub const POSITION: &str = "position";
/// The subspace that `W_U` reads: one dimension a token.
pub const OUTPUT: &str = "output";

/// Named subspaces of the residual stream: each a range of coordinates, one after the other.
///
/// ```
/// # use attn_circuits::model::build::Wired;
/// # use serde_json::json;
/// let wired: Wired = serde_json::from_value(json!({ "circuit": "induction", "vocab": 13, "context": 25 }))?;
/// let wiring = wired.resolve()?;
/// use attn_circuits::model::build::wired::{OUTPUT, POSITION, TOKEN};
/// let layout = &wiring.layout;
/// assert_eq!((layout.get(TOKEN), layout.get(POSITION)), (Some(0..13), Some(13..38)));
/// assert_eq!(layout.iter().map(|(name, _)| name).collect::<Vec<_>>(), [TOKEN, POSITION, "previous", OUTPUT]);
/// assert_eq!(layout.width(), 13 + 25 + 13 + 13);
/// assert_eq!(layout.get("next"), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    subspaces: IndexMap<String, Range<usize>>,
}

impl Layout {
    /// The coordinates of a subspace, if the layout has it.
    pub fn get(&self, name: &str) -> Option<Range<usize>> {
        self.subspaces.get(name).cloned()
    }

    /// Names and coordinates, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.subspaces.iter().map(|(name, range)| (name.as_str(), range.clone()))
    }

    /// The sum of all sizes: `d_model`, unless the stream is compressed.
    pub fn width(&self) -> usize {
        self.subspaces.values().map(|range| range.end).max().unwrap_or(0)
    }
}

/// Subspaces as a head reads them, joined one after the other.
///
/// ```
/// # use attn_circuits::model::build::Wired;
/// # use serde_json::json;
/// // Induction on a prefix of two tokens compares two subspaces, one by one.
/// let wired: Wired = serde_json::from_value(json!({ "circuit": "n-token-prefix", "n": 2, "vocab": 13, "context": 25 }))?;
/// let wiring = wired.resolve()?;
/// let query = &wiring.head("induction").expect("the circuit names it").query;
/// assert_eq!(query.from, ["token", "previous_1"]);
/// assert_eq!(query.ranges, [0..13, 38..51]);
/// assert_eq!(query.size(), 26);
/// // Token 4 is compared at index 4, the one before it at 13 + 4.
/// assert!(query.triples().contains(&(4, 4, 1.0)) && query.triples().contains(&(38 + 4, 13 + 4, 1.0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The names of the subspaces.
    pub from: Vec<String>,
    /// The coordinates of each.
    pub ranges: Vec<Range<usize>>,
    /// What each coordinate of a subspace counts as.
    pub translation: Translation,
}

/// What the one-hot vectors of a subspace are read as.
///
/// ```
/// # use attn_circuits::model::build::Wired;
/// # use serde_json::json;
/// let wired: Wired = serde_json::from_value(json!({ "circuit": "induction", "vocab": 13, "context": 25 }))?;
/// let wiring = wired.resolve()?;
/// use attn_circuits::model::build::wired::Translation;
/// let head = wiring.head("previous-token").expect("the circuit names it");
/// assert_eq!((&head.query.translation, &head.key.translation), (&Translation::Shift(-1), &Translation::Shift(0)));
/// // Position 0 has none before it: it is read as nothing.
/// assert_eq!((head.query.triples().len(), head.key.triples().len()), (24, 25));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Translation {
    /// `i` as `i +` this; what leaves the subspace is nothing.
    Shift(i64),
    /// Triples (from, to, weight), each pair once; what is not listed is nothing.
    Map(Vec<(usize, usize, f64)>),
}

impl Translation {
    /// Triples (from, to, weight) for a subspace of `size` dimensions.
    fn triples(&self, size: usize) -> Vec<(usize, usize, f64)> {
        match self {
            Self::Map(triples) => triples.clone(),
            Self::Shift(shift) => {
                let to = |from: usize| {
                    let to = usize::try_from((from as i64).checked_add(*shift)?).ok()?;
                    (to < size).then_some((from, to, 1.0))
                };
                (0..size).filter_map(to).collect()
            }
        }
    }
}

impl Reading {
    /// The number of dimensions that are read; those that are read as nothing count.
    pub fn size(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Triples (coordinate of the stream, index as read, weight), each pair once.
    pub fn triples(&self) -> Vec<(usize, usize, f64)> {
        let mut all = Vec::new();
        let mut start = 0;
        for range in &self.ranges {
            let triples = self.translation.triples(range.len());
            all.extend(triples.into_iter().map(|(from, to, weight)| (range.start + from, start + to, weight)));
            start += range.len();
        }
        all
    }
}

/// One head of a wired model.
///
/// Query, key and value are sparse matrices, as triples. Query and key by themselves give the attention score:
///
/// ```
/// # use attn_circuits::model::build::Wired;
/// # use serde_json::json;
/// let wired: Wired = serde_json::from_value(json!({ "circuit": "induction-with-rest", "vocab": 13, "context": 25 }))?;
/// let wiring = wired.resolve()?;
/// let head = wiring.head("induction").expect("the circuit names it");
/// // The attention score of a destination and a source, by the coordinates of the stream that are 1 there.
/// let score = |destination: &[usize], source: &[usize]| -> f64 {
///     let (query, key) = (head.query_triples(), head.key_triples());
///     let pairs = query.iter().flat_map(|query| key.iter().map(move |key| (query, key)));
///     let met = pairs.filter(|(q, k)| destination.contains(&q.0) && source.contains(&k.0) && q.1 == k.1);
///     met.map(|(query, key)| query.2 * key.2).sum()
/// };
/// let (token, previous) = (0, 38);    // Where these subspaces begin.
/// // Token 4 looks for a token behind another 4, and else rests on the start token, from which nothing is moved.
/// assert_eq!(score(&[token + 4], &[token + 7, previous + 4]), head.sharpness);
/// assert_eq!(score(&[token + 4], &[token]), 10.0);
/// assert_eq!(score(&[token + 4], &[token + 7, previous + 5]), 0.0);
/// assert!(head.value_triples().iter().all(|&(from, ..)| from != token));
/// assert_eq!(head.key_size(), 13 + 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WiredHead {
    /// The layer.
    pub layer: usize,
    /// The number of the head within its layer.
    pub head: usize,
    /// The name, where it was given one.
    pub name: Option<String>,
    /// What the destination looks for.
    pub query: Reading,
    /// What a source offers.
    pub key: Reading,
    /// What is moved.
    pub value: Reading,
    /// The name of the subspace that is written.
    pub to: String,
    /// The coordinates that are written.
    pub to_range: Range<usize>,
    /// Factor on what is written.
    pub scale: f64,
    /// Factor on `⟨query, key⟩`.
    pub sharpness: f64,
    /// What is added to the score of the start token; with it, index 0 of the value is not moved.
    pub rest: Option<Rest>,
    /// What is added to the score of the own position.
    pub current: Option<Current>,
}

/// A head's resting place.
///
/// ```
/// # use attn_circuits::model::build::Wired;
/// # use serde_json::json;
/// let wired: Wired = serde_json::from_value(json!({ "circuit": "induction-with-rest", "vocab": 13, "context": 25 }))?;
/// let wiring = wired.resolve()?;
/// let head = wiring.head("induction").expect("the circuit names it");
/// let rest = head.rest.as_ref().expect("it has a resting place");
/// assert_eq!((rest.score, rest.token.clone()), (10.0, 0..13));
/// assert_eq!(wiring.head("previous-token").and_then(|head| head.rest.as_ref()), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rest {
    /// What is added to the score of the start token.
    pub score: f64,
    /// The coordinates of the token, the start token first: their sum is 1 at every position.
    pub token: Range<usize>,
}

/// What a head adds to the score of its own position.
///
/// ```
/// # use attn_circuits::model::build::Wired;
/// # use serde_json::json;
/// let wired: Wired = serde_json::from_value(json!({
///     "vocab": 5, "context": 9,
///     "residual": { "token": "vocab", "position": "context", "output": "vocab" },
///     "heads": [{
///         "layer": 0, "query": { "from": "token" }, "key": { "from": "token" }, "value": { "from": "token", "to": "output" },
///         "current": -30,
///     }],
/// }))?;
/// // A duplicate-token head that is kept from attending to itself.
/// let wiring = wired.resolve()?;
/// let current = wiring.heads[0].current.as_ref().expect("it was given");
/// assert_eq!((current.score, current.position.clone()), (-30.0, 5..14));
/// assert_eq!(wiring.heads[0].key_size(), 5 + 9);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// What is added.
    pub score: f64,
    /// The coordinates of the position.
    pub position: Range<usize>,
}

impl WiredHead {
    /// The query: triples (coordinate of the stream, index, weight), sharpness and scores included, the `√k` that the model
    /// divides by left out. Indices are below [`WiredHead::key_size`]; [`WiredHead`] has an example.
    pub fn query_triples(&self) -> Vec<(usize, usize, f64)> {
        let mut triples = self.query.triples();
        triples.iter_mut().for_each(|(_, _, weight)| *weight *= self.sharpness);
        let (rest_at, current_at) = self.further_indices();
        if let Some(rest) = &self.rest {
            triples.extend(rest.token.clone().map(|token| (token, rest_at, rest.score)));
        }
        if let Some(current) = &self.current {
            triples.extend(current.position.clone().enumerate().map(|(i, at)| (at, current_at + i, current.score)));
        }
        triples
    }

    /// The key: triples (coordinate of the stream, index, weight). Indices are below [`WiredHead::key_size`].
    pub fn key_triples(&self) -> Vec<(usize, usize, f64)> {
        let mut triples = self.key.triples();
        let (rest_at, current_at) = self.further_indices();
        triples.extend(self.rest.iter().map(|rest| (rest.token.start, rest_at, 1.0)));
        if let Some(current) = &self.current {
            triples.extend(current.position.clone().enumerate().map(|(i, at)| (at, current_at + i, 1.0)));
        }
        triples
    }

    /// What is moved: triples (coordinate that is read, index within [`WiredHead::to_range`], weight without the scale).
    ///
    /// ```
    /// # use attn_circuits::model::build::Wired;
    /// # use serde_json::json;
    /// let wired: Wired = serde_json::from_value(json!({ "circuit": "previous-of-previous", "vocab": 13, "context": 25 }))?;
    /// let wiring = wired.resolve()?;
    /// // Either head moves tokens as they are, so that in sequence they say what stood two positions before.
    /// for head in &wiring.heads {
    ///     let triples = head.value_triples();
    ///     assert_eq!(triples.len(), 13);
    ///     assert!(triples.iter().all(|&(from, to, weight)| (from, weight) == (head.value.ranges[0].start + to, 1.0)));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value_triples(&self) -> Vec<(usize, usize, f64)> {
        let mut triples = self.value.triples();
        if self.rest.is_some() {
            triples.retain(|&(from, _, _)| self.value.ranges.iter().all(|range| from != range.start));
        }
        triples
    }

    /// Where in query and key the resting place and the own position stand: behind what is compared.
    fn further_indices(&self) -> (usize, usize) {
        let rest_at = self.query.size();
        (rest_at, rest_at + usize::from(self.rest.is_some()))
    }

    /// The number of dimensions that query and key need.
    pub fn key_size(&self) -> usize {
        let (_, current_at) = self.further_indices();
        current_at + self.current.as_ref().map_or(0, |current| current.position.len())
    }
}

/// A circuit with every name resolved.
///
/// ```
/// # use attn_circuits::model::build::Wired;
/// # use serde_json::json;
/// let wired: Wired = serde_json::from_value(json!({ "circuit": "induction", "vocab": 13, "context": 25 }))?;
/// let wiring = wired.resolve()?;
/// assert_eq!((wiring.n_layers, wiring.n_heads), (2, 1));
/// // The previous-token head compares 25 positions, more than anybody else.
/// assert_eq!(wiring.d_head, 25);
/// let induction = wiring.head("induction").expect("the circuit names it");
/// assert_eq!((induction.layer, induction.head, induction.to.as_str()), (1, 0, "output"));
/// assert_eq!((induction.sharpness, induction.scale), (20.0, 10.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Wiring {
    /// The subspaces.
    pub layout: Layout,
    /// The heads, in the order of the text.
    pub heads: Vec<WiredHead>,
    /// Number of layers.
    pub n_layers: usize,
    /// Heads of the fullest layer. The other layers are filled up with heads that are all zero, which have no composition score.
    pub n_heads: usize,
    /// What the largest of all queries, keys and values needs.
    pub d_head: usize,
}

/// Values that replace those of the text, so that they can be swept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overrides {
    pub sharpness: Option<f64>,
    pub output_scale: Option<f64>,
}

impl Wiring {
    /// The head called `name`, if one is.
    pub fn head(&self, name: &str) -> Option<&WiredHead> {
        self.heads.iter().find(|head| head.name.as_deref() == Some(name))
    }

    pub(super) fn resolve(circuit: &Circuit, vocab: usize, context: usize, overrides: Overrides) -> Result<Self> {
        let layout = lay_out(&circuit.residual, vocab, context)?;
        let mut heads: Vec<WiredHead> = Vec::with_capacity(circuit.heads.len());
        for (index, spec) in circuit.heads.iter().enumerate() {
            let resolver = Resolver { layout: &layout, index, spec };
            let place = heads.iter().filter(|head| head.layer == spec.layer).count();
            let head = resolver.head(place, overrides)?;
            if let Some(name) = &head.name
                && let Some(first) = circuit.heads[..index].iter().position(|other| other.name.as_ref() == Some(name))
            {
                return Err(resolver.error("name", format!("is called like heads[{first}]; each name may stand once")));
            }
            heads.push(head);
        }
        let d_head = heads.iter().map(|head| head.key_size().max(head.value.size())).max();
        Ok(Self {
            n_layers: heads.iter().map(|head| head.layer + 1).max().unwrap_or(0),
            n_heads: heads.iter().map(|head| head.head + 1).max().unwrap_or(0),
            d_head: d_head.unwrap_or(1),
            layout,
            heads,
        })
    }
}

/// The largest layer index: keeps `layer + 1` and the number of layers sane whatever the file says.
const MAX_LAYER: usize = 1000;
/// The largest magnitude of sharpness and scale: beyond it, `f32` weights leave no digits to the rest of the model.
pub(super) const MAX_FACTOR: f64 = 1e6;

fn lay_out(residual: &IndexMap<String, Size>, vocab: usize, context: usize) -> Result<Layout> {
    let mut subspaces = IndexMap::with_capacity(residual.len());
    let mut start = 0usize;
    for (name, size) in residual {
        let path = format!("residual.{name}");
        let size = match size {
            Size::Of(SizeOf::Vocab) => vocab,
            Size::Of(SizeOf::Context) => context,
            Size::Dimensions(size) => *size,
        };
        if size == 0 {
            return Err(Error::parameter(path, "a subspace needs at least one dimension"));
        }
        let fixed = match name.as_str() {
            TOKEN => Some(("W_E writes a one-hot token there", "vocab", vocab)),
            POSITION => Some(("W_pos writes a one-hot position there", "context", context)),
            OUTPUT => Some(("W_U reads one logit a token there", "vocab", vocab)),
            _ => None,
        };
        if let Some((why, parameter, needed)) = fixed
            && size != needed
        {
            let text = format!("`{name}` has {size} dimensions, but {why}: it needs {needed} (write `{name}: {parameter}`)");
            return Err(Error::parameter(path, text));
        }
        let end = start
            .checked_add(size)
            .ok_or_else(|| Error::parameter(&path, "the sizes of the subspaces add up to more than can be counted"))?;
        subspaces.insert(name.clone(), start..end);
        start = end;
    }
    for (name, user) in [(TOKEN, "W_E writes"), (OUTPUT, "W_U reads")] {
        if !subspaces.contains_key(name) {
            let near = closest(name, &subspaces.keys().map(String::as_str).collect::<Vec<_>>());
            let hint = near.map(|near| format!("; should `{near}` be called so?")).unwrap_or_default();
            return Err(Error::parameter("residual", format!("there is no `{name}`, the subspace that {user}{hint}")));
        }
    }
    Ok(Layout { subspaces })
}

/// Resolves one head, and words its errors.
struct Resolver<'a> {
    layout: &'a Layout,
    index: usize,
    spec: &'a HeadSpec,
}

impl Resolver<'_> {
    fn error(&self, field: &str, what: String) -> Error {
        let index = self.index;
        let head = match &self.spec.name {
            Some(name) => format!("head `{name}` (heads[{index}])"),
            None => format!("heads[{index}]"),
        };
        Error::parameter(format!("heads[{index}].{field}"), format!("{head} {what}"))
    }

    fn subspace(&self, name: &str, field: &str, verb: &str) -> Result<Range<usize>> {
        self.layout.get(name).ok_or_else(|| {
            let names = self.layout.subspaces.keys().map(String::as_str);
            let mut hint = did_you_mean(name, names.clone());
            if hint.is_empty() {
                let listed = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                hint = format!("; there are {listed}");
            }
            self.error(field, format!("{verb} `{name}`, which is not in `residual`{hint}"))
        })
    }

    fn reading(&self, from: &[String], shift: i64, map: Option<&TokenMap>, part: &str) -> Result<Reading> {
        let mut ranges = Vec::with_capacity(from.len());
        for name in from {
            let range = self.subspace(name, &format!("{part}.from"), &format!("reads its {part} from"))?;
            if shift.unsigned_abs() >= range.len() as u64 {
                let text = format!(
                    "shifts its {part} by {shift}, off the end of `{name}`, which has {} dimensions: nothing would be left",
                    range.len()
                );
                return Err(self.error(&format!("{part}.shift"), text));
            }
            ranges.push(range);
        }
        let translation = match map {
            None => Translation::Shift(shift),
            Some(_) if shift != 0 => {
                let text = format!("both shifts and maps its {part}: write the shift into the map");
                return Err(self.error(&format!("{part}.shift"), text));
            }
            Some(map) => {
                let smallest = from.iter().zip(&ranges).min_by_key(|(_, range)| range.len());
                let (name, size) = smallest.map_or(("", 0), |(name, range)| (name.as_str(), range.len()));
                Translation::Map(self.map(map, name, size, part)?)
            }
        };
        Ok(Reading { from: from.to_vec(), ranges, translation })
    }

    /// The triples of a map of the subspace `name`, sorted.
    fn map(&self, map: &TokenMap, name: &str, size: usize, part: &str) -> Result<Vec<(usize, usize, f64)>> {
        let field = format!("{part}.map");
        if map.is_empty() {
            return Err(self.error(&field, format!("has an empty map for its {part}: it would read nothing")));
        }
        let place = |index: usize, field: &str| {
            let text = || format!("maps {index}, but `{name}` has {size} dimensions, counted from 0");
            if index < size { Ok(index) } else { Err(self.error(field, text())) }
        };
        let number = |text: &str, field: &str| match text.parse::<usize>() {
            Ok(index) if index.to_string() == text => place(index, field),
            _ => Err(self.error(field, format!("maps `{text}`, which is not the number of a dimension of `{name}`"))),
        };
        let mut triples = Vec::new();
        for (from, targets) in map {
            let field = format!("{field}.{from}");
            let from = number(from, &field)?;
            let targets: Vec<(usize, f64)> = match targets {
                Targets::One(to) => vec![(place(*to, &field)?, 1.0)],
                Targets::Several(list) => list.iter().map(|&to| Ok((place(to, &field)?, 1.0))).collect::<Result<_>>()?,
                Targets::Weighted(map) => {
                    let pair = |(to, &weight): (&String, &f64)| Ok((number(to, &field)?, self.factor(weight, &field)?));
                    map.iter().map(pair).collect::<Result<_>>()?
                }
            };
            if targets.is_empty() {
                return Err(self.error(&field, format!("maps {from} to nothing: leave it out")));
            }
            triples.extend(targets.into_iter().map(|(to, weight)| (from, to, weight)));
        }
        triples.sort_by_key(|&(from, to, _)| (from, to));
        if let Some(twice) = triples.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1 == pair[1].1) {
            let (from, to, _) = twice[0];
            return Err(self.error(&field, format!("maps {from} to {to} twice: give it a weight, `{from}: {{ {to}: 2 }}`")));
        }
        Ok(triples)
    }

    fn factor(&self, value: f64, field: &str) -> Result<f64> {
        if value.abs() <= MAX_FACTOR {
            return Ok(value);
        }
        let name = if field.contains(".map.") { "weight" } else { field.rsplit('.').next().unwrap_or(field) };
        Err(self.error(field, format!("has a {name} of {value}; it must lie between -{MAX_FACTOR} and {MAX_FACTOR}")))
    }

    fn head(&self, place: usize, overrides: Overrides) -> Result<WiredHead> {
        let HeadSpec { layer, name, query, key, value, sharpness, rest, current } = self.spec;
        if *layer > MAX_LAYER {
            return Err(self.error("layer", format!("is in layer {layer}; the last possible one is {MAX_LAYER}")));
        }
        let sharpness = self.factor(*sharpness, "sharpness")?;
        let scale = self.factor(value.scale, "value.scale")?;
        let reading = |read: &Read, part: &str| self.reading(read.from.as_slice(), read.shift, read.map.as_ref(), part);
        let (query, key) = (reading(query, "query")?, reading(key, "key")?);
        let sizes = |reading: &Reading| reading.ranges.iter().map(Range::len).collect::<Vec<_>>();
        if sizes(&query) != sizes(&key) {
            let list = |reading: &Reading| {
                let parts = reading.from.iter().zip(&reading.ranges);
                parts.map(|(name, range)| format!("`{name}` of {}", range.len())).collect::<Vec<_>>().join(" and ")
            };
            let text = format!(
                "compares its query, {} dimensions, with its key, {}: they must be equal, one by one",
                list(&query),
                list(&key)
            );
            return Err(self.error("key.from", text));
        }
        let Move { from, to, shift, map, .. } = value;
        let value = self.reading(std::slice::from_ref(from), *shift, map.as_ref(), "value")?;
        let to_range = self.subspace(to, "value.to", "writes its value to")?;
        if value.size() != to_range.len() {
            let text =
                format!("moves `{from}` of {} dimensions to `{to}` of {}: they must be equal", value.size(), to_range.len());
            return Err(self.error("value.to", text));
        }
        let rest = match rest {
            Some(score) => {
                Some(Rest { score: self.factor(*score, "rest")?, token: self.layout.get(TOKEN).expect("a layout has tokens") })
            }
            None => None,
        };
        let current = match current {
            Some(score) => Some(Current {
                score: self.factor(*score, "current")?,
                position: self.layout.get(POSITION).ok_or_else(|| {
                    let text = "scores its `current` position, but there is no subspace `position` in `residual`";
                    self.error("current", text.to_string())
                })?,
            }),
            None => None,
        };
        Ok(WiredHead {
            layer: *layer,
            head: place,
            name: name.clone(),
            query,
            key,
            value,
            scale: overrides.output_scale.filter(|_| to == OUTPUT).unwrap_or(scale),
            to: to.clone(),
            to_range,
            sharpness: overrides.sharpness.unwrap_or(sharpness),
            rest,
            current,
        })
    }
}
