use super::columns::{
    INTEGER, NUMBER, TEXT, check_heads, chosen, groups, head_count, heads, heads_of, integer, repeats, schema,
};
use super::{Cost, Measure, OtherInput, Subject};
use crate::circuit::bootstrap::Bootstrap;
use crate::circuit::sweep::{Effect, Sweep};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::intervention::{Downstream, Edit, Intervention, Reader, Replacement, Site};
use crate::model::{Channel, HeadId, ModelConfig};
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;

/// What the loss becomes when a head is taken out.
///
/// What the head writes (`z W_O`) is replaced. By what, says `method`: `zero`; `mean`, its mean over sequences and positions of the
/// input; `mean_per_position`, at each position its mean over sequences; `resample`, what it writes in another sequence (one
/// permutation of the sequences for all heads; null where there is only one). For whom, says `channel`: for everybody (`all`), or
/// only for the queries (`q`), keys (`k`) or values (`v`) of later heads, while the stream keeps it. What happens downstream, says
/// `patterns`: those of later heads are computed anew (`recomputed`), or stay as they were (`frozen`; LayerNorms are not), so that queries and keys do
/// not matter. What shows with recomputed patterns only acts through queries and keys, and the channels say through which.
///
/// `loss` (nats), `accuracy` and `logit` (that of the right token) are means over sequences and over all positions that predict
/// (`repeat` null) or those in one repeat; the changes are against the whole model. `loss_change_low` and `loss_change_high`
/// are the bounds of a bootstrap interval (`level`, percentiles of the means of sequences drawn with replacement, the same draws for
/// every row; null with one sequence). It is over sequences alone: the means that are put in and the permutation of `resample`
/// are not drawn anew. `others` are the heads that are taken out together with this one, as in `0.1+1.2`, null without.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// Which replacements; default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    methods: Option<Vec<Replacement>>,
    /// What happens to later patterns; default: both.
    #[serde(default)]
    #[schemars(length(min = 1))]
    patterns: Option<Vec<Downstream>>,
    /// For whom the head is taken out; default: each of the four.
    #[serde(default)]
    #[schemars(length(min = 1))]
    channels: Option<Vec<Through>>,
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: each in turn. Of none (`[]`), only sets or layers are taken out.
    #[serde(default)]
    heads: Option<Vec<String>>,
    /// Takes out each two of `heads` together, too. Default: false.
    #[serde(default)]
    pairs: bool,
    /// Takes out each layer as a whole, too. Default: false.
    #[serde(default)]
    layers: bool,
    /// Sets of heads that are taken out together, too, as in `[["0.3", "1.0"], ["1.0", "1.1", "1.2"]]`.
    #[serde(default)]
    sets: Vec<Vec<String>>,
    /// The input that means and resampled values are taken from, sequences as long as those of `input`; default: `input` itself.
    #[serde(default)]
    reference: Option<String>,
    /// Draws of the bootstrap; without any (0) there are no intervals. Default: 1000.
    #[serde(default = "draws")]
    #[schemars(range(max = 1_000_000))]
    bootstrap: usize,
    /// Probability of the intervals. Default: 0.95.
    #[serde(default = "level")]
    #[schemars(range(min = 0.0, max = 1.0))]
    level: f64,
}

fn draws() -> usize {
    Bootstrap::DRAWS
}

fn level() -> f64 {
    Bootstrap::LEVEL
}

/// What heads are replaced by: all but the values of another batch.
const METHODS: [Replacement; 4] = [Replacement::Mean, Replacement::MeanPerPosition, Replacement::Resample, Replacement::Zero];

/// Which readers miss what the head writes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Through {
    All,
    K,
    Q,
    V,
}

impl Through {
    const ALL: [Self; 4] = [Self::All, Self::K, Self::Q, Self::V];

    fn name(self) -> &'static str {
        self.channel().map_or("all", Channel::name)
    }

    fn channel(self) -> Option<Channel> {
        match self {
            Self::All => None,
            Self::K => Some(Channel::K),
            Self::Q => Some(Channel::Q),
            Self::V => Some(Channel::V),
        }
    }
}

/// One way to take heads out.
struct Way {
    heads: Vec<HeadId>,
    method: Replacement,
    patterns: Downstream,
    through: Through,
}

impl Way {
    fn intervention(&self) -> Intervention {
        let by = self.method;
        let site = |id: HeadId| match self.through.channel() {
            None => Site::Z(id),
            Some(channel) => Site::Sent { from: id, to: Reader::Later(channel) },
        };
        let edits = self.heads.iter().map(|&id| Edit { site: site(id), by });
        Intervention { edits: edits.collect(), downstream: self.patterns }
    }
}

impl Ablation {
    fn methods(&self) -> Vec<Replacement> {
        chosen(self.methods.as_deref(), &METHODS)
    }

    fn downstream(&self) -> Vec<Downstream> {
        chosen(self.patterns.as_deref(), &Downstream::ALL)
    }

    fn through(&self) -> Vec<Through> {
        chosen(self.channels.as_deref(), &Through::ALL)
    }

    /// The sets of heads that are taken out, each once, single heads before sets that begin with them.
    fn sets(&self, model: &ModelConfig) -> Result<BTreeSet<Vec<HeadId>>> {
        let heads = heads(model, self.heads.as_deref())?;
        let mut sets: BTreeSet<_> = heads.iter().map(|&id| vec![id]).collect();
        if self.pairs {
            for (index, &first) in heads.iter().enumerate() {
                sets.extend(heads[index + 1..].iter().map(|&second| vec![first, second]));
            }
        }
        if self.layers {
            sets.extend((0..model.n_layers).map(|layer| (0..model.n_heads).map(|head| HeadId { layer, head }).collect()));
        }
        for (index, set) in self.sets.iter().enumerate() {
            sets.insert(heads_of(&format!("sets[{index}]"), model, Some(set))?);
        }
        Ok(sets)
    }

    fn ways(&self, model: &ModelConfig) -> Result<Vec<Way>> {
        let mut ways = Vec::new();
        for heads in self.sets(model)? {
            for &method in &self.methods() {
                for &patterns in &self.downstream() {
                    ways.extend(self.through().into_iter().map(|through| Way {
                        heads: heads.clone(),
                        method,
                        patterns,
                        through,
                    }));
                }
            }
        }
        Ok(ways)
    }
}

impl Described for Ablation {
    const NAME: &'static str = "ablation";
    const EXAMPLE: &'static str = "- measure: ablation\n  input: repeated\n  methods: [zero, mean]\n  channels: [all]\n";
}

impl Measure for Ablation {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("others", TEXT),
            ("method", TEXT),
            ("patterns", TEXT),
            ("channel", TEXT),
            ("repeat", INTEGER),
            ("loss", NUMBER),
            ("loss_change", NUMBER),
            ("loss_change_low", NUMBER),
            ("loss_change_high", NUMBER),
            ("accuracy", NUMBER),
            ("accuracy_change", NUMBER),
            ("logit", NUMBER),
            ("logit_change", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn other_inputs(&self) -> Vec<OtherInput<'_>> {
        let input = |name| OtherInput { parameter: "reference", name, same_sequences: false };
        self.reference.as_deref().map(input).into_iter().collect()
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())?;
        if self.heads.as_ref().is_some_and(Vec::is_empty) && (self.pairs || (self.sets.is_empty() && !self.layers)) {
            let text = if self.pairs { "pairs are of these heads, and there are none" } else { "nothing is to be taken out" };
            return Err(Error::parameter("heads", text));
        }
        for (index, set) in self.sets.iter().enumerate() {
            if set.is_empty() {
                return Err(Error::parameter(format!("sets[{index}]"), "a set needs at least one head"));
            }
            check_heads(&format!("sets[{index}]"), model, Some(set))?;
        }
        Ok(())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let single = head_count(model, self.heads.as_deref());
        let pairs = if self.pairs { single.saturating_mul(single.saturating_sub(1)) / 2 } else { 0 };
        let layers = if self.layers { model.n_layers } else { 0 };
        let sets = [single, pairs, layers, self.sets.len()].into_iter().fold(0, usize::saturating_add);
        let ways = self.methods().len() * self.downstream().len() * self.through().len();
        let interventions = sets.saturating_mul(ways);
        let groups = groups(input.and_then(|input| input.repeats));
        let draws = input.map_or(0, |input| super::bytes_of::<f64>(&[self.bootstrap, input.sequences]));
        let bytes = super::sweep_bytes(model, input, 2, interventions, groups).saturating_add(draws);
        Cost { rows: interventions.saturating_mul(groups), bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let (model, batch) = (subject.model, subject.required_input()?);
        let ways = self.ways(model.config())?;
        let (labels, groups) = repeats(batch);
        let mut sweep = Sweep::new(model, batch).stream(subject.stream.clone());
        if self.reference.is_some() {
            sweep = sweep.reference(subject.other("reference")?);
        }
        let possible = |way: &&Way| way.method != Replacement::Resample || sweep.can_resample();
        let interventions: Vec<_> = ways.iter().filter(possible).map(Way::intervention).collect();
        let found = sweep.run(&interventions, &groups)?;
        let bootstrap = Bootstrap::new(batch.sequences(), self.bootstrap, self.level, &subject.stream);

        let mut done = 0..interventions.len();
        let mut rows: Vec<(&Way, Option<i64>, Option<Effect>)> = Vec::new();
        for way in &ways {
            // Null where there was nothing to resample from.
            let place = if possible(&way) { done.next() } else { None };
            let effect = |group| place.map(|place| found.effect(place, group, &bootstrap));
            rows.extend(labels.iter().enumerate().map(|(group, &repeat)| (way, repeat, effect(group))));
        }
        let first = |of: fn(&HeadId) -> usize| rows.iter().map(|row| integer(of(&row.0.heads[0]))).collect::<Vec<_>>();
        let name = |of: fn(&Way) -> &'static str| rows.iter().map(|row| of(row.0)).collect::<Vec<_>>();
        let others = |way: &Way| {
            let others: Vec<_> = way.heads[1..].iter().map(HeadId::to_string).collect();
            (!others.is_empty()).then(|| others.join("+"))
        };
        let number = |of: fn(&Effect) -> f64| rows.iter().map(|row| row.2.as_ref().map(of)).collect::<Vec<_>>();
        let bound = |of: fn((f64, f64)) -> f64| rows.iter().map(|row| Some(of(row.2?.interval?))).collect::<Vec<_>>();
        Ok(df!(
            "layer" => first(|id| id.layer),
            "head" => first(|id| id.head),
            "others" => rows.iter().map(|row| others(row.0)).collect::<Vec<_>>(),
            "method" => name(|way| way.method.name()),
            "patterns" => name(|way| way.patterns.name()),
            "channel" => name(|way| way.through.name()),
            "repeat" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            "loss" => number(|effect| effect.loss.value),
            "loss_change" => number(|effect| effect.loss.change),
            "loss_change_low" => bound(|interval| interval.0),
            "loss_change_high" => bound(|interval| interval.1),
            "accuracy" => number(|effect| effect.accuracy.value),
            "accuracy_change" => number(|effect| effect.accuracy.change),
            "logit" => number(|effect| effect.logit.value),
            "logit_change" => number(|effect| effect.logit.change),
        )?)
    }
}
