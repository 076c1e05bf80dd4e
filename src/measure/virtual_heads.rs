use super::columns::{INTEGER, NUMBER, TEXT, check_heads, heads_of, integer, pair_count, schema};
use super::{Cost, Measure, Subject, scores};
use crate::Result;
use crate::circuit::composition::composition;
use crate::circuit::head_scores::{CONVENTIONS, Score};
use crate::circuit::virtual_heads::{VirtualHead, virtual_copying, virtual_head_scores};
use crate::circuit::weights::Circuits;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::{Channel, HeadId, ModelConfig};
use polars::prelude::{DataFrame, Schema, df};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The copying score of the OV circuit of a virtual head.
const COPYING: &str = "copying";
/// The V-composition score of its two heads.
const V_COMPOSITION: &str = "v_composition";

/// What two heads in sequence are together: the virtual head that looks where the first one looked from where the second one looks.
///
/// Its pattern is the product `A^{h2} A^{h1}` of the patterns of the later and the earlier head, its OV circuit the product
/// `W_OV^{h1} W_OV^{h2}` (Elhage et al. 2021, "Virtual attention heads"). One row for each pair of heads in different layers and
/// each score.
///
/// Scores of the pattern are those of `head_scores`, with the same `ceiling`; `floor` is what two heads of uniform attention score
/// together. `copying` is Σ Re λ/Σ |λ| over the eigenvalues λ of `W_E W_OV^{h1} W_OV^{h2} W_U`: 1 where the virtual head raises the
/// tokens that it attends to (floor 0, ceiling 1; null where the product is zero). `v_composition` is
/// ‖W_OV^{h1} W_OV^{h2}‖/(‖W_OV^{h1}‖ ‖W_OV^{h2}‖), how much of what the first one writes the second one moves on: the measure
/// `composition` has the same number, `floor` is its chance level, `ceiling` what two heads of these spectra reach if they fit
/// (null where a head is all zeros). A virtual head with a fine pattern and v-composition at the floor moves nothing.
/// These two read the weights alone, LayerNorm left out.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualHeads {
    /// Which scores: `copying`, `v_composition`, and those of patterns that `list` shows. Default: these two, and the attention
    /// to the previous, the current and the first token, to duplicates (`duplicate_token`) and after them (`prefix_matching`).
    /// An input is needed only for scores of patterns.
    #[serde(default)]
    #[schemars(schema_with = "names")]
    scores: Option<Vec<String>>,
    /// Adds attention to the position so many before: `[2, 3]` stands for the scores `offset_2` and `offset_3`. Default:
    /// `[2]`, what two previous-token heads make; none if `scores` are given.
    #[serde(default)]
    #[schemars(title = "offset_N")]
    offsets: Option<Vec<usize>>,
    /// Virtual heads that begin with one of these, as in `["0.3"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    from: Option<Vec<String>>,
    /// Virtual heads that end with one of these; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    to: Option<Vec<String>>,
}

const DEFAULT: [&str; 7] =
    [COPYING, "current_token", "duplicate_token", "first_token", "prefix_matching", "previous_token", V_COMPOSITION];

fn names(_: &mut SchemaGenerator) -> schemars::Schema {
    scores::names_schema([COPYING, V_COMPOSITION].into_iter().chain(CONVENTIONS.iter().map(|convention| convention.name)))
}

impl VirtualHeads {
    fn names(&self) -> Vec<&str> {
        match &self.scores {
            Some(names) => names.iter().map(String::as_str).collect(),
            None => DEFAULT.to_vec(),
        }
    }

    /// The scores of patterns that are wanted.
    fn scores(&self) -> Vec<Score> {
        let offsets = match &self.offsets {
            Some(offsets) => offsets.as_slice(),
            None if self.scores.is_none() => &[2],
            None => &[],
        };
        scores::chosen(self.names(), offsets)
    }

    fn wants(&self, name: &str) -> bool {
        self.names().contains(&name)
    }

    fn pairs(&self, model: &ModelConfig) -> Result<Vec<VirtualHead>> {
        let list = |parameter, list: &Option<Vec<String>>| heads_of(parameter, model, list.as_deref());
        Ok(VirtualHead::among(&list("from", &self.from)?, &list("to", &self.to)?))
    }
}

impl Described for VirtualHeads {
    const NAME: &'static str = "virtual_heads";
    const EXAMPLE: &'static str =
        "- measure: virtual_heads\n  input: repeated\n  scores: [copying, v_composition]\n  offsets: [2]\n";
}

/// A score of one virtual head.
#[derive(Clone, Copy, Default)]
struct Numbers {
    value: Option<f64>,
    floor: Option<f64>,
    ceiling: Option<f64>,
}

impl Measure for VirtualHeads {
    fn columns(&self) -> Schema {
        schema([
            ("from_layer", INTEGER),
            ("from_head", INTEGER),
            ("to_layer", INTEGER),
            ("to_head", INTEGER),
            ("score", TEXT),
            ("value", NUMBER),
            ("floor", NUMBER),
            ("ceiling", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        !self.scores().is_empty()
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("from", model, self.from.as_deref())?;
        check_heads("to", model, self.to.as_deref())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let heads = model.n_layers.saturating_mul(model.n_heads);
        let pairs = pair_count(model, self.from.as_deref(), self.to.as_deref());
        let scores = self.scores();
        let of_weights = [COPYING, V_COMPOSITION].iter().filter(|name| self.wants(name)).count();
        let length = input.map_or(0, |input| input.length);
        let threads = rayon::current_num_threads();
        let product = length.saturating_mul(length).saturating_mul(size_of::<f32>()).saturating_mul(threads.saturating_add(2));
        // W_U W_E, and the factors of two heads for each thread; the factors of all heads for the composition.
        let numbers = |count: usize, factors: usize| {
            let factors = model.d_model.saturating_mul(model.d_head).saturating_mul(factors);
            count.saturating_add(factors).saturating_mul(size_of::<f64>())
        };
        let copying = numbers(model.d_model.saturating_mul(model.d_model), threads.saturating_mul(8));
        let composed = numbers(0, heads.saturating_mul(4));
        let bytes = [
            (!scores.is_empty(), super::chunk_bytes(model, input).saturating_add(product)),
            (self.wants(COPYING), copying),
            (self.wants(V_COMPOSITION), composed),
        ];
        Cost {
            rows: pairs.saturating_mul(scores.len() + of_weights),
            bytes: bytes.iter().filter(|(wanted, _)| *wanted).map(|&(_, bytes)| bytes).max().unwrap_or(0),
        }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let pairs = self.pairs(model.config())?;
        // One list of scores for each name; at the end each pair has a row for each.
        let mut scores: Vec<(String, Vec<Numbers>)> = Vec::new();
        if self.wants(COPYING) {
            let values = virtual_copying(&Circuits::new(model), &pairs)?;
            let numbers = |value| Numbers { value, floor: Some(0.0), ceiling: Some(1.0) };
            scores.push((COPYING.to_string(), values.into_iter().map(numbers).collect()));
        }
        if self.wants(V_COMPOSITION) {
            let through_v = composition(model)?.into_iter().filter(|pair| pair.channel == Channel::V);
            let by_pair: BTreeMap<(HeadId, HeadId), _> = through_v.map(|pair| ((pair.from, pair.to), pair.value)).collect();
            let numbers = |pair: &VirtualHead| match by_pair.get(&(pair.from, pair.to)) {
                Some(Some(found)) => {
                    Numbers { value: Some(found.score), floor: Some(found.chance.mean), ceiling: Some(found.highest) }
                }
                _ => Numbers::default(),
            };
            scores.push((V_COMPOSITION.to_string(), pairs.iter().map(numbers).collect()));
        }
        let of_patterns = self.scores();
        if !of_patterns.is_empty() {
            for found in virtual_head_scores(model, subject.required_input()?, &pairs, &of_patterns)? {
                let number = |place: usize| Numbers {
                    value: found.values.as_ref().map(|values| values[place]),
                    floor: found.floor,
                    ceiling: found.ceiling,
                };
                scores.push((found.score.name().to_string(), (0..pairs.len()).map(number).collect()));
            }
        }
        scores.sort_by(|a, b| a.0.cmp(&b.0));

        let places = 0..pairs.len();
        let rows: Vec<_> = places.flat_map(|place| scores.iter().map(move |(name, of)| (place, name, of[place]))).collect();
        let pairs = |of: fn(&VirtualHead) -> usize| rows.iter().map(|row| integer(of(&pairs[row.0]))).collect::<Vec<_>>();
        let numbers = |of: fn(&Numbers) -> Option<f64>| rows.iter().map(|row| of(&row.2)).collect::<Vec<_>>();
        Ok(df!(
            "from_layer" => pairs(|pair| pair.from.layer),
            "from_head" => pairs(|pair| pair.from.head),
            "to_layer" => pairs(|pair| pair.to.layer),
            "to_head" => pairs(|pair| pair.to.head),
            "score" => rows.iter().map(|row| row.1.as_str()).collect::<Vec<_>>(),
            "value" => numbers(|numbers| numbers.value),
            "floor" => numbers(|numbers| numbers.floor),
            "ceiling" => numbers(|numbers| numbers.ceiling),
        )?)
    }
}
