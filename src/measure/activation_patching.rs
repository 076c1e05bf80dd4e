use super::columns::{INTEGER, NUMBER, TEXT, check_heads, chosen, groups, head_count, heads, integer, repeats, schema};
use super::{Cost, Measure, OtherInput, Subject};
use crate::circuit::sweep::Sweep;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::intervention::{Intervention, Replacement, Site};
use crate::model::{Channel, HeadId, ModelConfig};
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// How much of what the model gets right hangs on one activation: it is moved between a clean and a corrupted run.
///
/// `restore`: the model reads the corrupted input, but one activation of one head is that of the clean run. `corrupt`: it reads the
/// clean input, but the activation is that of the corrupted run. Everything after is computed anew. `what` is the head's `z` (and so its
/// output), its attention `pattern`, or its `q`, `k` or `v`, at all positions (as Vig et al. 2020 do with
/// neurons and heads; causal tracing, Meng et al. 2022, corrupts by noise and restores single positions).
///
/// `loss` (nats) is against the tokens of the clean input in both directions, a mean over sequences and over all positions that predict
/// (`repeat` null) or those in one repeat. `recovered` is (corrupted − loss)/(corrupted − clean), from the losses of the two runs as
/// they are: 1 where the loss is that of the clean run, 0 where it is that of the corrupted one; it may lie beyond both. Null where these
/// two differ by less than single precision tells (1e-5, relative to the larger one or 1 nat). Of what the two inputs differ in, an
/// activation that restores much is enough by itself, and one whose corruption costs much is needed; heads that do the same can hide both.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivationPatching {
    /// The corrupted input: its sequences are the counterparts of those of `input`. It is needed.
    #[serde(default)]
    corrupted: Option<String>,
    /// Which way; default: both.
    #[serde(default)]
    #[schemars(length(min = 1))]
    directions: Option<Vec<Direction>>,
    /// Which activations; default: all five.
    #[serde(default)]
    #[schemars(length(min = 1))]
    what: Option<Vec<What>>,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: each in turn.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
}

/// Differences of losses that are smaller, relative to the losses, are rounding of logits in single precision.
const PRECISION: f64 = 1e-5;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Direction {
    Corrupt,
    Restore,
}

impl Direction {
    const ALL: [Self; 2] = [Self::Corrupt, Self::Restore];

    fn name(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Restore => "restore",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum What {
    K,
    Pattern,
    Q,
    V,
    Z,
}

impl What {
    const ALL: [Self; 5] = [Self::K, Self::Pattern, Self::Q, Self::V, Self::Z];

    fn name(self) -> &'static str {
        match self {
            Self::K => "k",
            Self::Pattern => "pattern",
            Self::Q => "q",
            Self::V => "v",
            Self::Z => "z",
        }
    }

    fn site(self, id: HeadId) -> Site {
        match self {
            Self::K => Site::Input(id, Channel::K),
            Self::Pattern => Site::Pattern(id),
            Self::Q => Site::Input(id, Channel::Q),
            Self::V => Site::Input(id, Channel::V),
            Self::Z => Site::Z(id),
        }
    }
}

impl ActivationPatching {
    fn directions(&self) -> Vec<Direction> {
        chosen(self.directions.as_deref(), &Direction::ALL)
    }

    fn what(&self) -> Vec<What> {
        chosen(self.what.as_deref(), &What::ALL)
    }
}

impl Described for ActivationPatching {
    const NAME: &'static str = "activation_patching";
    const EXAMPLE: &'static str = "- measure: activation_patching\n  input: repeated\n  corrupted: other_tokens\n  what: [z]\n";
}

impl Measure for ActivationPatching {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("what", TEXT),
            ("direction", TEXT),
            ("repeat", INTEGER),
            ("loss", NUMBER),
            ("recovered", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn other_inputs(&self) -> Vec<OtherInput<'_>> {
        let input = |name| OtherInput { parameter: "corrupted", name, same_sequences: true };
        self.corrupted.as_deref().map(input).into_iter().collect()
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        if self.corrupted.is_none() {
            return Err(Error::invalid(
                "`activation_patching` needs a second input to move activations from and to: name it with `corrupted:`",
            ));
        }
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let heads = head_count(model, self.heads.as_deref());
        let patches = heads.saturating_mul(self.what().len());
        let groups = groups(input.and_then(|input| input.repeats));
        let rows = patches.saturating_mul(self.directions().len()).saturating_mul(groups);
        // Of one direction after the other only what comes out is kept.
        Cost { rows, bytes: super::sweep_bytes(model, input, 1, patches.saturating_mul(2), groups) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let (model, clean) = (subject.model, subject.required_input()?);
        let sites: Vec<_> = heads(model.config(), self.heads.as_deref())?
            .into_iter()
            .flat_map(|id| self.what().into_iter().map(move |what| (id, what)))
            .collect();
        let (labels, groups) = repeats(clean);
        let corrupted = subject.counterpart("corrupted")?;
        let mut rows = Vec::new();
        let patches: Vec<_> = sites.iter().map(|&(id, what)| Intervention::new(what.site(id), Replacement::Other)).collect();
        let sweep =
            |batch, other, patches: &[Intervention]| Sweep::new(model, batch).targets(clean).other(other).run(patches, &groups);
        // Each direction's run as it is is the other one's other run.
        let wanted = |direction| if self.directions().contains(&direction) { patches.as_slice() } else { &[] };
        let (corrupt, restore) =
            (sweep(clean, corrupted, wanted(Direction::Corrupt))?, sweep(corrupted, clean, wanted(Direction::Restore))?);
        for (place, &(id, what)) in sites.iter().enumerate() {
            for direction in self.directions() {
                let patched = if direction == Direction::Corrupt { &corrupt } else { &restore };
                for (group, &repeat) in labels.iter().enumerate() {
                    let (clean, corrupted) = (corrupt.clean.mean_loss(group), restore.clean.mean_loss(group));
                    let loss = patched.intervened[place].mean_loss(group);
                    let span = corrupted - clean;
                    let known = span.abs() > PRECISION * clean.abs().max(corrupted.abs()).max(1.0);
                    let recovered = known.then(|| (corrupted - loss) / span);
                    rows.push((id, what, direction, repeat, loss, recovered));
                }
            }
        }
        Ok(df!(
            "layer" => rows.iter().map(|row| integer(row.0.layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|row| integer(row.0.head)).collect::<Vec<_>>(),
            "what" => rows.iter().map(|row| row.1.name()).collect::<Vec<_>>(),
            "direction" => rows.iter().map(|row| row.2.name()).collect::<Vec<_>>(),
            "repeat" => rows.iter().map(|row| row.3).collect::<Vec<_>>(),
            "loss" => rows.iter().map(|row| row.4).collect::<Vec<_>>(),
            "recovered" => rows.iter().map(|row| row.5).collect::<Vec<_>>(),
        )?)
    }
}
