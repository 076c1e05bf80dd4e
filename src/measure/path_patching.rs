use super::columns::{
    INTEGER, NUMBER, TEXT, check_heads, chosen, groups, head_count, heads_of, integer, pair_count, repeats, schema,
};
use super::{Cost, Measure, OtherInput, Subject};
use crate::circuit::bootstrap::Bootstrap;
use crate::circuit::sweep::{Effect, Sweep};
use crate::circuit::virtual_heads::VirtualHead;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::intervention::{Intervention, Reader, Replacement, Site};
use crate::model::{Channel, HeadId, ModelConfig};
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What the loss becomes when what one head sends to one reader is cut.
///
/// Only what head `from` writes into the queries (`q`), keys (`k`) or values (`v`) of head `to` is replaced, or into the `logits` (`to`
/// is null then: its direct effect). The stream keeps it for everybody else, and everything after `to` is computed anew. By what, says
/// `method`: `zero`, or with `corrupted`, what the head writes when the model reads that input instead (Wang et al. 2022, "path
/// patching"; Goldowsky-Dill et al. 2023). One row for each method,
/// each repeat, and each edge: two heads in different layers with a channel, or a head with the logits.
///
/// `loss` and `loss_change` (against the whole model) are in nats, means over sequences and over all positions that predict (`repeat`
/// null) or those in one repeat; `logit_change`, of the right token's logit, is the same mean. `loss_change_low` and `loss_change_high` are the
/// bounds of a bootstrap interval (95 %, 1000 draws of sequences; null with one sequence). The right tokens are those of `input`,
/// whatever the corrupted input holds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathPatching {
    /// An input whose sequences are the counterparts of those of `input`: what senders write there is put in. Without it, only the
    /// method `zero` is there.
    #[serde(default)]
    corrupted: Option<String>,
    /// Which replacements; default: `zero`, and `corrupted` where there is such an input.
    #[serde(default)]
    #[schemars(length(min = 1))]
    methods: Option<Vec<Method>>,
    /// Into what; default: all four.
    #[serde(default)]
    #[schemars(length(min = 1))]
    channels: Option<Vec<Through>>,
    /// Which senders, as in `["0.3"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    from: Option<Vec<String>>,
    /// Which readers; default: all. The logits are no head: this does not leave them out.
    #[serde(default)]
    #[schemars(length(min = 1))]
    to: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Method {
    Corrupted,
    Zero,
}

impl Method {
    const ALL: [Self; 2] = [Self::Corrupted, Self::Zero];

    fn name(self) -> &'static str {
        match self {
            Self::Corrupted => "corrupted",
            Self::Zero => "zero",
        }
    }

    fn replacement(self) -> Replacement {
        match self {
            Self::Corrupted => Replacement::Other,
            Self::Zero => Replacement::Zero,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Through {
    K,
    Logits,
    Q,
    V,
}

impl Through {
    const ALL: [Self; 4] = [Self::K, Self::Logits, Self::Q, Self::V];

    fn channel(self) -> Option<Channel> {
        match self {
            Self::K => Some(Channel::K),
            Self::Logits => None,
            Self::Q => Some(Channel::Q),
            Self::V => Some(Channel::V),
        }
    }
}

/// One edge that is cut.
struct Cut {
    method: Method,
    from: HeadId,
    to: Reader,
}

impl Cut {
    fn intervention(&self) -> Intervention {
        Intervention::new(Site::Sent { from: self.from, to: self.to }, self.method.replacement())
    }

    fn channel(&self) -> &'static str {
        match self.to {
            Reader::Head(_, channel) | Reader::Later(channel) => channel.name(),
            Reader::Logits => "logits",
        }
    }

    /// The head that reads; none for the logits.
    fn reader(&self) -> Option<HeadId> {
        match self.to {
            Reader::Head(id, _) => Some(id),
            Reader::Later(_) | Reader::Logits => None,
        }
    }
}

impl PathPatching {
    fn methods(&self) -> Vec<Method> {
        let default = |method: &Method| *method == Method::Zero || self.corrupted.is_some();
        let named = |method: &Method| self.methods.as_ref().map_or_else(|| default(method), |list| list.contains(method));
        Method::ALL.into_iter().filter(named).collect()
    }

    fn channels(&self) -> Vec<Through> {
        chosen(self.channels.as_deref(), &Through::ALL)
    }

    fn cuts(&self, model: &ModelConfig) -> Result<Vec<Cut>> {
        let senders = heads_of("from", model, self.from.as_deref())?;
        let readers = heads_of("to", model, self.to.as_deref())?;
        let pairs = VirtualHead::among(&senders, &readers);
        let mut cuts = Vec::new();
        for method in self.methods() {
            for through in self.channels() {
                match through.channel() {
                    None => cuts.extend(senders.iter().map(|&from| Cut { method, from, to: Reader::Logits })),
                    Some(channel) => {
                        let cut = |&VirtualHead { from, to }: &VirtualHead| Cut { method, from, to: Reader::Head(to, channel) };
                        cuts.extend(pairs.iter().map(cut));
                    }
                }
            }
        }
        Ok(cuts)
    }
}

impl Described for PathPatching {
    const NAME: &'static str = "path_patching";
    const EXAMPLE: &'static str = "- measure: path_patching\n  input: repeated\n  channels: [q, k, v]\n";
}

impl Measure for PathPatching {
    fn columns(&self) -> Schema {
        schema([
            ("method", TEXT),
            ("channel", TEXT),
            ("from_layer", INTEGER),
            ("from_head", INTEGER),
            ("to_layer", INTEGER),
            ("to_head", INTEGER),
            ("repeat", INTEGER),
            ("loss", NUMBER),
            ("loss_change", NUMBER),
            ("loss_change_low", NUMBER),
            ("loss_change_high", NUMBER),
            ("logit_change", NUMBER),
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
        if let (Some(methods), None) = (&self.methods, &self.corrupted)
            && let Some(index) = methods.iter().position(|&method| method == Method::Corrupted)
        {
            let text = "the method `corrupted` needs an input to take values from: name it with `corrupted:`";
            return Err(Error::parameter(format!("methods[{index}]"), text));
        }
        check_heads("from", model, self.from.as_deref())?;
        check_heads("to", model, self.to.as_deref())?;
        if self.channels().contains(&Through::Logits) || (self.from.is_none() && self.to.is_none()) {
            return Ok(());
        }
        let layers = |parameter, list: &Option<Vec<String>>| -> Result<Option<Vec<usize>>> {
            let Some(list) = list else { return Ok(None) };
            Ok(Some(heads_of(parameter, model, Some(list))?.into_iter().map(|id| id.layer).collect()))
        };
        let first = layers("from", &self.from)?.map_or(Some(0), |layers| layers.into_iter().min());
        let last = layers("to", &self.to)?.map_or(model.n_layers.checked_sub(1), |layers| layers.into_iter().max());
        if last <= first {
            let (parameter, text) = if self.to.is_some() {
                ("to", "none of these heads is in a later layer than one that sends")
            } else {
                ("from", "none of these heads is in an earlier layer than one that reads")
            };
            return Err(Error::parameter(parameter, text));
        }
        Ok(())
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let senders = head_count(model, self.from.as_deref());
        let pairs = pair_count(model, self.from.as_deref(), self.to.as_deref());
        let of = |through: &Through| if *through == Through::Logits { senders } else { pairs };
        let cuts = self.channels().iter().map(of).fold(0, usize::saturating_add).saturating_mul(self.methods().len());
        let groups = groups(input.and_then(|input| input.repeats));
        let draws = input.map_or(0, |input| super::bytes_of::<f64>(&[Bootstrap::DRAWS, input.sequences]));
        let bytes = super::sweep_bytes(model, input, 1, cuts, groups).saturating_add(draws);
        Cost { rows: cuts.saturating_mul(groups), bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let (model, batch) = (subject.model, subject.required_input()?);
        let cuts = self.cuts(model.config())?;
        let (labels, groups) = repeats(batch);
        let mut sweep = Sweep::new(model, batch);
        if self.corrupted.is_some() {
            sweep = sweep.other(subject.counterpart("corrupted")?);
        }
        let interventions: Vec<_> = cuts.iter().map(Cut::intervention).collect();
        let found = sweep.run(&interventions, &groups)?;
        let bootstrap = Bootstrap::new(batch.sequences(), Bootstrap::DRAWS, Bootstrap::LEVEL, &subject.stream);
        let mut rows: Vec<(&Cut, Option<i64>, Effect)> = Vec::new();
        for (place, cut) in cuts.iter().enumerate() {
            let row = |(group, &repeat)| (cut, repeat, found.effect(place, group, &bootstrap));
            rows.extend(labels.iter().enumerate().map(row));
        }
        let head = |of: fn(&Cut) -> Option<usize>| rows.iter().map(|row| of(row.0).map(integer)).collect::<Vec<_>>();
        Ok(df!(
            "method" => rows.iter().map(|row| row.0.method.name()).collect::<Vec<_>>(),
            "channel" => rows.iter().map(|row| row.0.channel()).collect::<Vec<_>>(),
            "from_layer" => head(|cut| Some(cut.from.layer)),
            "from_head" => head(|cut| Some(cut.from.head)),
            "to_layer" => head(|cut| Some(cut.reader()?.layer)),
            "to_head" => head(|cut| Some(cut.reader()?.head)),
            "repeat" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
            "loss" => rows.iter().map(|row| row.2.loss.value).collect::<Vec<_>>(),
            "loss_change" => rows.iter().map(|row| row.2.loss.change).collect::<Vec<_>>(),
            "loss_change_low" => rows.iter().map(|row| Some(row.2.interval?.0)).collect::<Vec<_>>(),
            "loss_change_high" => rows.iter().map(|row| Some(row.2.interval?.1)).collect::<Vec<_>>(),
            "logit_change" => rows.iter().map(|row| row.2.logit.change).collect::<Vec<_>>(),
        )?)
    }
}
