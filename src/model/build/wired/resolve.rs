//! From names to coordinates: the circuit that a text describes, checked.

use super::language::{Circuit, HeadSpec, Move, Read, Size, SizeOf, Targets, TokenMap};
use super::wiring::{Current, Layout, OUTPUT, POSITION, Reading, Rest, TOKEN, Translation, WiredHead, Wiring};
use crate::model::build::did_you_mean;
use crate::names::closest;
use crate::{Error, Result};
use indexmap::IndexMap;
use std::ops::Range;

/// Values that replace those of the text, so that they can be swept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Overrides {
    pub sharpness: Option<f64>,
    pub output_scale: Option<f64>,
}

impl Wiring {
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
