use super::columns::{INTEGER, NUMBER, TEXT, check_heads, heads, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::head_scores::Score;
use crate::circuit::paths::{ScoreTerms, Split, score_paths, source_count};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use ndarray::ArrayView1;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What an attention score is made of: the terms that each pair of sources, read by the query and by the key, adds to it.
///
/// The score of a head before softmax is bilinear in what stands in the stream at the destination (the query) and at the source (the
/// key). The stream is a sum: the token embedding (`embed`), positions (`position`), what each head of an earlier layer wrote (`0.3`,
/// all of its output: from layer 2 on that contains what still earlier heads wrote), and biases (`bias`, where the model has any that are not zero). So
/// the score is a sum over pairs, `query_path` and `key_path` (Elhage et al. 2021). A head as `key_path` is K-composition, as
/// `query_path` Q-composition. Rotary positions turn queries and keys and are no source; with LayerNorm the scales are held at
/// their values in the run.
///
/// A `target` names sources: the position before (`previous_token`), the own (`current_token`), the first (`first_token`), earlier
/// copies of the current token (`duplicate_token`), the positions right after one (`prefix_matching`). `value` is the mean score of
/// these less the mean score of all other sources allowed to the destination (itself and those before), mean over all sequences and over
/// the destinations that have both kinds: what favours the target. What raises all sources alike changes no attention and falls
/// out. The values of a head and target sum to the same number of the whole score. `share` is the value over the sum of the absolute
/// values of all terms of that head and target, in [−1, 1]; null where those are nothing but rounding. Where the input has no such
/// destination, both are null.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScorePaths {
    /// What the score favours; default: `previous_token` and `prefix_matching`.
    #[serde(default = "default_targets")]
    #[schemars(length(min = 1))]
    targets: Vec<Target>,
    /// Which heads' scores, as in `["0.3", "1.0"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// Positions as a source of their `own` (default), or `together` with the token embedding as `direct`.
    #[serde(default)]
    positions: PositionsName,
}

fn default_targets() -> Vec<Target> {
    vec![Target::PreviousToken, Target::PrefixMatching]
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
enum Target {
    CurrentToken,
    DuplicateToken,
    FirstToken,
    PrefixMatching,
    PreviousToken,
}

impl Target {
    /// In the order of their names.
    const ALL: [Self; 5] =
        [Self::CurrentToken, Self::DuplicateToken, Self::FirstToken, Self::PrefixMatching, Self::PreviousToken];

    fn name(self) -> &'static str {
        match self {
            Self::CurrentToken => "current_token",
            Self::DuplicateToken => "duplicate_token",
            Self::FirstToken => "first_token",
            Self::PrefixMatching => "prefix_matching",
            Self::PreviousToken => "previous_token",
        }
    }

    /// Its marks are those of the head score of the same name.
    fn score(self) -> Score {
        Score::find(self.name()).expect("targets are called like head scores")
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum PositionsName {
    #[default]
    Own,
    Together,
}

impl From<PositionsName> for Split {
    fn from(name: PositionsName) -> Self {
        match name {
            PositionsName::Own => Self::Own,
            PositionsName::Together => Self::Together,
        }
    }
}

/// Terms that are smaller than this, in all, against what full overlap of queries and keys would give are rounding.
const ROUNDING: f64 = 1e-5;

/// The sum of the absolute terms, where there is more than rounding.
fn total(terms: &ScoreTerms) -> Option<f64> {
    let total = terms.value.as_ref()?.iter().map(|v| v.abs()).sum::<f64>();
    (total > ROUNDING * terms.size).then_some(total)
}

impl ScorePaths {
    fn chosen(&self) -> impl Iterator<Item = Target> {
        Target::ALL.into_iter().filter(|target| self.targets.contains(target))
    }

    /// How many terms the scores of all heads have, for one target: of a layer with s sources, s² for each head.
    fn all_terms(&self, model: &ModelConfig) -> usize {
        let (first, last) = (source_count(model, 0, self.positions.into()) as f64, (model.n_layers as f64) - 1.0);
        // Σ (first + layer · heads)² over layers 0..=last; an estimate of what cannot be counted may be rounded.
        let heads = model.n_heads as f64;
        let (ones, layers, squares) = (last + 1.0, last * (last + 1.0) / 2.0, last * (last + 1.0) * (2.0 * last + 1.0) / 6.0);
        (heads * (first * first * ones + 2.0 * first * heads * layers + heads * heads * squares)) as usize
    }
}

impl Described for ScorePaths {
    const NAME: &'static str = "score_paths";
    const EXAMPLE: &'static str =
        "- measure: score_paths\n  input: repeated\n  targets: [prefix_matching]\n  heads: [\"1.0\"]\n";
}

impl Measure for ScorePaths {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("target", TEXT),
            ("query_path", TEXT),
            ("key_path", TEXT),
            ("value", NUMBER),
            ("share", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let sources = |layer: usize| source_count(model, layer, self.positions.into());
        let square = |layer: usize| sources(layer).saturating_mul(sources(layer));
        let terms = match &self.heads {
            None => self.all_terms(model),
            Some(_) => heads(model, self.heads.as_deref())
                .map_or(0, |heads| heads.iter().fold(0usize, |sum, id| sum.saturating_add(square(id.layer)))),
        };
        let rows = terms.saturating_mul(self.chosen().count());
        // Queries and keys of one head from every source, once more in double precision for one sequence; how sources are weighed,
        // for each target; every term for each chunk.
        let most = sources(model.n_layers.saturating_sub(1)).saturating_mul(model.d_head).saturating_mul(2);
        let held = most.saturating_mul(super::positions_at_once(input)).saturating_mul(2 * size_of::<f32>());
        let chunks = input.map_or(0, |input| input.sequences.div_ceil(crate::model::chunk_sequences(input.length)));
        let weighed = super::positions_at_once(input).saturating_mul(input.map_or(0, |input| input.length));
        let weights = weighed.saturating_mul(self.chosen().count()).saturating_mul(size_of::<f64>());
        let numbers = rows.saturating_mul(chunks).saturating_mul(size_of::<f64>());
        let bytes = [held, weights, numbers, super::folded_weights(model), super::chunk_bytes(model, input)];
        Cost { rows, bytes: bytes.into_iter().fold(0, usize::saturating_add) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let batch = subject.required_input()?;
        let heads = heads(subject.model.config(), self.heads.as_deref())?;
        let targets: Vec<Target> = self.chosen().collect();
        let scores: Vec<Score> = targets.iter().map(|target| target.score()).collect();
        let marks: Vec<_> = scores.iter().map(|score| |tokens: ArrayView1<u32>| score.marks(tokens, None)).collect();
        let found = score_paths(subject.model, batch, &heads, self.positions.into(), &marks)?;
        let mut rows = Vec::new();
        let of_head = |place: usize| targets.iter().zip(&found).map(move |(target, terms)| (*target, &terms[place]));
        for (target, terms) in (0..heads.len()).flat_map(of_head) {
            let total = total(terms);
            for (query, query_path) in terms.sources.iter().enumerate() {
                for (key, key_path) in terms.sources.iter().enumerate() {
                    let value = terms.value.as_ref().map(|value| value[(query, key)]);
                    let share = value.zip(total).map(|(value, total)| value / total);
                    rows.push((terms.head, target, query_path, key_path, value, share));
                }
            }
        }
        Ok(df!(
            "layer" => rows.iter().map(|row| integer(row.0.layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|row| integer(row.0.head)).collect::<Vec<_>>(),
            "target" => rows.iter().map(|row| row.1.name()).collect::<Vec<_>>(),
            "query_path" => rows.iter().map(|row| row.2.to_string()).collect::<Vec<_>>(),
            "key_path" => rows.iter().map(|row| row.3.to_string()).collect::<Vec<_>>(),
            "value" => rows.iter().map(|row| row.4).collect::<Vec<_>>(),
            "share" => rows.iter().map(|row| row.5).collect::<Vec<_>>(),
        )?)
    }
}
