use super::columns::{INTEGER, NUMBER, TEXT, check_heads, groups, head_count, heads, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::ablation::{Ablation as Intervention, Method, Patterns, ablate};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What the loss becomes when one head is taken out.
///
/// The head's `z` is replaced by zero (`zero`), by its mean over sequences and positions of the input (`mean`), or, at each
/// position, by its mean over sequences (`mean_per_position`). The patterns of later layers are computed anew (`recomputed`) or
/// kept as they were (`frozen`): what only shows when they are recomputed acts through queries and keys. `loss` (nats) and
/// `accuracy` are means over sequences and over all positions that predict (`repeat` null) or those in one repeat; the changes are
/// against the whole model.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// Which replacements; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    methods: Option<Vec<MethodName>>,
    /// What happens to later patterns; default: both.
    #[serde(default)]
    #[schemars(length(min = 1))]
    patterns: Option<Vec<PatternsName>>,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: each in turn.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum MethodName {
    Zero,
    Mean,
    MeanPerPosition,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum PatternsName {
    Recomputed,
    Frozen,
}

impl From<MethodName> for Method {
    fn from(name: MethodName) -> Self {
        match name {
            MethodName::Zero => Self::Zero,
            MethodName::Mean => Self::Mean,
            MethodName::MeanPerPosition => Self::MeanPerPosition,
        }
    }
}

impl From<PatternsName> for Patterns {
    fn from(name: PatternsName) -> Self {
        match name {
            PatternsName::Recomputed => Self::Recomputed,
            PatternsName::Frozen => Self::Frozen,
        }
    }
}

/// What the list names, in the order of `all`; all of it without a list.
fn chosen<N: Copy + Into<T>, T: Copy + PartialEq>(list: &Option<Vec<N>>, all: &[T]) -> Vec<T> {
    let named = |item: &T| list.as_ref().is_none_or(|list| list.iter().any(|&name| name.into() == *item));
    all.iter().copied().filter(named).collect()
}

impl Ablation {
    fn interventions(&self, model: &ModelConfig) -> Result<Vec<Intervention>> {
        let mut all = Vec::new();
        for id in heads(model, self.heads.as_deref())? {
            for method in chosen(&self.methods, &Method::ALL) {
                for patterns in chosen(&self.patterns, &Patterns::ALL) {
                    all.push(Intervention { heads: vec![id], method, patterns });
                }
            }
        }
        Ok(all)
    }
}

impl Described for Ablation {
    const NAME: &'static str = "ablation";
    const EXAMPLE: &'static str = "- measure: ablation\n  input: repeated\n  methods: [zero, mean]\n";
}

impl Measure for Ablation {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("method", TEXT),
            ("patterns", TEXT),
            ("channel", TEXT),
            ("repeat", INTEGER),
            ("loss", NUMBER),
            ("loss_change", NUMBER),
            ("accuracy", NUMBER),
            ("accuracy_change", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let per_head = chosen(&self.methods, &Method::ALL).len() * chosen(&self.patterns, &Patterns::ALL).len();
        let heads = head_count(model, self.heads.as_deref());
        let rows = heads.saturating_mul(per_head).saturating_mul(groups(input.and_then(|input| input.repeats)));
        // The clean run of a chunk, and one run under intervention.
        Cost { rows, bytes: super::chunk_bytes(model, input).saturating_mul(2) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let batch = subject.required_input()?;
        let interventions = self.interventions(model.config())?;
        let found = ablate(model, batch, &interventions)?;
        let clean = found.clean.by_repeat(batch.repeats());
        let mut rows = Vec::new();
        for (intervention, ablated) in interventions.iter().zip(&found.ablated) {
            let ablated = ablated.by_repeat(batch.repeats());
            rows.extend(ablated.into_iter().zip(&clean).map(|(ablated, clean)| (intervention, ablated, *clean)));
        }
        let head = |of: fn(&Intervention) -> usize| rows.iter().map(|row| integer(of(row.0))).collect::<Vec<_>>();
        Ok(df!(
            "layer" => head(|intervention| intervention.heads[0].layer),
            "head" => head(|intervention| intervention.heads[0].head),
            "method" => rows.iter().map(|row| row.0.method.name()).collect::<Vec<_>>(),
            "patterns" => rows.iter().map(|row| row.0.patterns.name()).collect::<Vec<_>>(),
            "channel" => vec!["all"; rows.len()],
            "repeat" => rows.iter().map(|(_, ablated, _)| ablated.0.map(integer)).collect::<Vec<_>>(),
            "loss" => rows.iter().map(|(_, ablated, _)| ablated.1).collect::<Vec<_>>(),
            "loss_change" => rows.iter().map(|(_, ablated, clean)| ablated.1 - clean.1).collect::<Vec<_>>(),
            "accuracy" => rows.iter().map(|(_, ablated, _)| ablated.2).collect::<Vec<_>>(),
            "accuracy_change" => rows.iter().map(|(_, ablated, clean)| ablated.2 - clean.2).collect::<Vec<_>>(),
        )?)
    }
}
