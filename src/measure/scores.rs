//! The parameters `scores` and `offsets`: which head scores a measure takes.

use crate::circuit::head_scores::{CONVENTIONS, Score};
use schemars::{Schema, SchemaGenerator, json_schema};

/// The schema of a list of names, or null.
pub(super) fn names_schema(names: impl Iterator<Item = &'static str>) -> Schema {
    let names: Vec<_> = names.collect();
    json_schema!({ "type": ["array", "null"], "minItems": 1, "items": { "type": "string", "enum": names } })
}

/// The schema of a list of scores without a parameter, or null.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    names_schema(CONVENTIONS.iter().map(|convention| convention.name))
}

/// The scores named, and those of the offsets, sorted by name; names that are no head scores are left out.
pub(super) fn chosen<'a>(names: impl IntoIterator<Item = &'a str>, offsets: &[usize]) -> Vec<Score> {
    let named = names.into_iter().filter_map(Score::find);
    let mut scores: Vec<_> = named.chain(offsets.iter().map(|&offset| Score::offset(offset))).collect();
    scores.sort_by(|a, b| a.name().cmp(b.name()));
    scores.dedup();
    scores
}
