//! A circuit in coordinates: which subspaces of the stream each head reads and writes.

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
    pub(super) subspaces: IndexMap<String, Range<usize>>,
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

impl Wiring {
    /// The head called `name`, if one is.
    pub fn head(&self, name: &str) -> Option<&WiredHead> {
        self.heads.iter().find(|head| head.name.as_deref() == Some(name))
    }
}
