use super::columns::{INTEGER, NUMBER, TEXT, groups, integer, repeats, schema};
use super::{Cost, Measure, Subject};
use crate::circuit::paths::{Part, count_up_to, paths};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// A table with more paths than this is not what anybody reads.
const MOST_PATHS: u128 = 20_000;

/// The logits written as a sum over paths, one row a path: from the embedding through heads of increasing layers to the logits.
///
/// The model is run once. Its attention patterns are held as they are in that run (with LayerNorm, so are the scales), which leaves a
/// linear map, and its logits are exactly the sum over the paths (Elhage et al. 2021). `path` is `direct` (tokens and positions,
/// through no head), `0.1`, `0.1>1.2` (a virtual head), …; `order` is its number of heads. Further rows, whose `order` is null:
/// `bias` (where the model has biases other than zero: all that they contribute, and what later heads carry on of it), `rest` (with `max_order`: all
/// longer paths), `residual` (what rounding leaves of the model's logits less the sum of all other rows).
///
/// `logit` is the mean contribution to the logit of the token that follows; the rows sum to the model's mean logit. `loss_change` is
/// the loss (nats) without the path, less the model's: what leaving out this path alone costs. `largest` is the largest absolute
/// contribution to the logit of any token, relative to the model's largest absolute logit: on the row `residual` it bounds the error
/// of the sum. In SQL the column is written `"order"`, in quotes, since ORDER is a word of the language.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// Longest paths that have a row of their own, in heads; default: as many as there are layers. There are
    /// (1 + heads)^layers paths in all; more than 20 000 paths are refused.
    #[serde(default)]
    max_order: Option<usize>,
}

impl Described for Paths {
    const NAME: &'static str = "paths";
    const EXAMPLE: &'static str = "- measure: paths\n  input: repeated\n  max_order: 2\n";
}

impl Paths {
    fn longest(&self, model: &ModelConfig) -> usize {
        self.max_order.unwrap_or(model.n_layers).min(model.n_layers)
    }
}

impl Measure for Paths {
    fn columns(&self) -> Schema {
        schema([
            ("path", TEXT),
            ("order", INTEGER),
            ("repeat", INTEGER),
            ("logit", NUMBER),
            ("loss_change", NUMBER),
            ("largest", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        let longest = self.longest(model);
        let count = count_up_to(model, longest);
        if count <= MOST_PATHS {
            return Ok(());
        }
        let allowed = (0..longest).take_while(|&order| count_up_to(model, order) <= MOST_PATHS).last().unwrap_or(0);
        let few = count_up_to(model, allowed);
        let text = format!(
            "there are {count} paths through at most {longest} heads, and at most {MOST_PATHS} are listed: \
             `max_order: {allowed}` lists {few}, and sums the others up in the row `rest`"
        );
        Err(self.max_order.map_or_else(|| Error::invalid(&text), |_| Error::parameter("max_order", &text)))
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let longest = self.longest(model);
        let parts = usize::try_from(count_up_to(model, longest)).unwrap_or(usize::MAX).saturating_add(3);
        let rows = parts.saturating_mul(groups(input.and_then(|input| input.repeats)));
        // Logits of the model, of a part, without it and of all parts so far; the stream and the values of every path begun; three
        // numbers of every row for each chunk.
        let positions = super::positions_at_once(input);
        let path =
            model.d_model.saturating_add(model.n_heads.saturating_mul(model.d_head)).saturating_mul(longest.saturating_add(2));
        let logits = model.d_vocab.saturating_mul(4);
        let held = positions.saturating_mul(path.saturating_add(logits)).saturating_mul(size_of::<f32>());
        let chunks = input.map_or(0, |input| input.sequences.div_ceil(crate::model::chunk_sequences(input.length)));
        let numbers = rows.saturating_mul(chunks).saturating_mul(3 * size_of::<f64>());
        let bytes = [held, numbers, super::folded_weights(model), super::chunk_bytes(model, input)];
        Cost { rows, bytes: bytes.into_iter().fold(0, usize::saturating_add) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let batch = subject.required_input()?;
        let config = subject.model.config();
        self.check(config, None)?;
        let (repeats, groups) = repeats(batch);
        let found = paths(subject.model, batch, self.longest(config), &groups)?;
        let order = |part: &Part| match part {
            Part::Path(path) => Some(integer(path.order())),
            Part::Bias | Part::Rest | Part::Residual => None,
        };
        let rows = || found.parts.iter().flat_map(|(part, effect)| (0..repeats.len()).map(move |group| (part, effect, group)));
        Ok(df!(
            "path" => rows().map(|(part, ..)| part.to_string()).collect::<Vec<_>>(),
            "order" => rows().map(|(part, ..)| order(part)).collect::<Vec<_>>(),
            "repeat" => rows().map(|(.., group)| repeats[group]).collect::<Vec<_>>(),
            "logit" => rows().map(|(_, effect, group)| effect.logit[group]).collect::<Vec<_>>(),
            "loss_change" => rows().map(|(_, effect, group)| effect.loss_change[group]).collect::<Vec<_>>(),
            "largest" => rows().map(|(_, effect, group)| effect.largest[group]).collect::<Vec<_>>(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Normalization, Positions};

    #[test]
    fn too_many_paths_are_refused_with_what_to_do() {
        let config = ModelConfig {
            n_layers: 12,
            n_heads: 12,
            d_model: 768,
            d_head: 64,
            d_vocab: 50257,
            n_ctx: 1024,
            normalization: Normalization::LnPre,
            eps: 1e-5,
            positions: Positions::Standard,
            attn_scale: 8.0,
        };
        let check = |max_order| Paths { max_order }.check(&config, None);
        // 1 + 12·12 + C(12, 2)·12² paths.
        let expected = "there are 23298085122481 paths through at most 12 heads, and at most 20000 are listed: `max_order: 2` lists 9649, \
                        and sums the others up in the row `rest`";
        assert_eq!(check(None).unwrap_err().to_string(), expected);
        assert!(matches!(check(Some(3)).unwrap_err(), Error::Parameter { path, .. } if path == "max_order"));
        assert!(check(Some(2)).is_ok());
    }
}
