//! From names to coordinates: the circuit that a text describes, checked.

use super::language::{Circuit, HeadSpec, Move, Read, Size, SizeOf};
use crate::model::build::did_you_mean;
use crate::names::closest;
use crate::{Error, Result};
use indexmap::IndexMap;
use std::ops::Range;

/// The subspace that `W_E` writes.
pub const TOKEN: &str = "token";
/// The subspace that `W_pos` writes, if the layout has it.
pub const POSITION: &str = "position";
/// The subspace that `W_U` reads.
pub const OUTPUT: &str = "output";

/// Named subspaces of the residual stream: each a range of coordinates, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    subspaces: IndexMap<String, Range<usize>>,
}

impl Layout {
    /// The coordinates of a subspace.
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

/// Subspaces as a head reads them, joined one after the other: coordinate `i` of each counts as `i + shift`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The names of the subspaces.
    pub from: Vec<String>,
    /// The coordinates of each.
    pub ranges: Vec<Range<usize>>,
    /// What is added to the index within each; what leaves its range is zero.
    pub shift: i64,
}

impl Reading {
    /// The number of dimensions that are read.
    pub fn size(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Pairs (coordinate of the stream, index as read), without those that fall off.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let shift = self.shift;
        let starts = self.ranges.iter().scan(0, |end, range| {
            let start = *end;
            *end += range.len();
            Some(start)
        });
        self.ranges.iter().zip(starts).flat_map(move |(range, start)| {
            range.clone().enumerate().filter_map(move |(index, coordinate)| {
                let read = (index as i64).checked_add(shift)?;
                let read = usize::try_from(read).ok().filter(|&read| read < range.len())?;
                Some((coordinate, start + read))
            })
        })
    }
}

/// One head of a wired model.
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
}

/// A circuit with every name resolved.
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
    /// The head called `name`.
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
        let d_head = heads.iter().map(|head| head.query.size().max(head.value.size())).max();
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

    fn reading(&self, from: &[String], shift: i64, part: &str) -> Result<Reading> {
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
        Ok(Reading { from: from.to_vec(), ranges, shift })
    }

    fn factor(&self, value: f64, field: &str) -> Result<f64> {
        if value.abs() <= MAX_FACTOR {
            return Ok(value);
        }
        let name = field.rsplit('.').next().unwrap_or(field);
        Err(self.error(field, format!("has a {name} of {value}; it must lie between -{MAX_FACTOR} and {MAX_FACTOR}")))
    }

    fn head(&self, place: usize, overrides: Overrides) -> Result<WiredHead> {
        let HeadSpec { layer, name, query, key, value, sharpness } = self.spec;
        if *layer > MAX_LAYER {
            return Err(self.error("layer", format!("is in layer {layer}; the last possible one is {MAX_LAYER}")));
        }
        let sharpness = self.factor(*sharpness, "sharpness")?;
        let scale = self.factor(value.scale, "value.scale")?;
        let reading = |read: &Read, part: &str| self.reading(read.from.as_slice(), read.shift, part);
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
        let Move { from, to, shift, .. } = value;
        let value = self.reading(std::slice::from_ref(from), *shift, "value")?;
        let to_range = self.subspace(to, "value.to", "writes its value to")?;
        if value.size() != to_range.len() {
            let text =
                format!("moves `{from}` of {} dimensions to `{to}` of {}: they must be equal", value.size(), to_range.len());
            return Err(self.error("value.to", text));
        }
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
        })
    }
}
