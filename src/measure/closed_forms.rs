use super::columns::{INTEGER, NUMBER, TEXT, integer, schema};
use super::{Cost, Measure, Subject, bytes_of};
use crate::chain::MOST_TOKENS;
use crate::circuit::closed_forms::{ClosedForm, of_chain, of_initialisation, of_wiring};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use crate::model::build::Theory;
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// What theory says of a wired, a random or a bigram model: numbers to be joined with those that were measured.
///
/// They come from how the model was made (the layout and the heads of a wiring, the distribution of random weights, a chain), never from its
/// weights. An imported model has no rows, and neither has a wired one with `noise`, `compress` or `distractors`; `rotate` changes
/// nothing. `expected` is the number, `tolerance` how far a measured one may be from it: rounding, and what a sharpness that
/// is not infinite leaves open. `layer` and `head` are the head, of a pair the one that reads; `from_layer` and `from_head` the one
/// that writes; what does not apply is null.
///
/// Of the wiring: `composition_q`, `_k`, `_v` and `alignment_q`, `_k`, `_v` (measure `composition`, whose `to_` is `layer` and `head`
/// here): roots of numbers of dimensions, for every pair of wired heads. `copying`, `matching` and `virtual_copying` (measure
/// `copying`, circuits `full_ov`, `k_composition`, `virtual_ov`): where the eigenvalues can be read off, and are not all zero.
/// `offset`: how many positions a head looks back; with `from_`, the virtual head of a pair. `attention_on_target`: attention to
/// the one earlier position that a head looks for, with `keys` positions to attend to in all, the start token first:
/// e^β/(e^β + m − 1) for m keys, with a resting place e^β/(e^β + e^r + m − 2); a head that matches itself as well has two targets. With tokens
/// that are distinct within a period this is so in the second repeat. (Of a prefix of several tokens no other position may match
/// a part.) `after_copy`: how many positions after an earlier copy of the current token a head looks, 0 or 1 as a rule. `attention_at_rest`: attention to the start token where
/// nothing matches. `saturated_loss`: ln(s + (V − s) e^(−γ)), the loss where a head attends only to sources that raise s tokens by
/// γ, the right one among them. `loss_at_rest`: ln V, while all heads that write to the output rest.
///
/// Of Gaussian weights: `composition_square_q`, `_k`, `_v`: 1/d, the mean square of all composition scores of a model. `copying`,
/// `matching`: 0, give or take four of the `chance_sd` of the measure `copying`. `random_loss`: ln V, on random tokens. The other
/// tolerances are about four standard deviations as well, for one model. Weights that are all zero have no scores.
///
/// Of a bigram model, in nats, as means over an endless text of its chain: `bigram_loss`: its loss, with the table cut off to `d_model`.
/// `entropy_rate`: the least that any model can lose. `unigram_entropy`: the loss of a model that knows only how frequent tokens are.
/// How far a loss on so and so many tokens is off is not in the tolerance.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClosedForms {
    /// For which numbers of keys to give the attention. Default: all, from 1 to the context of the model.
    #[serde(default)]
    #[schemars(inner(range(min = 1)))]
    pub keys: Option<Vec<usize>>,
}

impl Described for ClosedForms {
    const NAME: &'static str = "closed_forms";
    const EXAMPLE: &'static str = "- measure: closed_forms\n  models: [wired]\n  keys: [2, 20, 61]\n";
}

impl ClosedForms {
    fn keys(&self, model: &ModelConfig) -> Vec<usize> {
        let mut keys = self.keys.clone().unwrap_or_else(|| (1..=model.n_ctx).collect());
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl Measure for ClosedForms {
    fn columns(&self) -> Schema {
        schema([
            ("quantity", TEXT),
            ("layer", INTEGER),
            ("head", INTEGER),
            ("from_layer", INTEGER),
            ("from_head", INTEGER),
            ("keys", INTEGER),
            ("expected", NUMBER),
            ("tolerance", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        let wrong = self.keys.iter().flatten().position(|&keys| keys == 0 || keys > model.n_ctx);
        wrong.map_or(Ok(()), |index| {
            let text = format!("a position has 1 to {} keys, as many as the context of the model", model.n_ctx);
            Err(Error::parameter(format!("keys[{index}]"), text))
        })
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let heads = model.n_layers.saturating_mul(model.n_heads);
        let pairs = heads.saturating_mul(heads) / 2;
        let keys = self.keys.as_ref().map_or(model.n_ctx, Vec::len);
        // The most that a wiring can have; entries of maps are few for each coordinate of the stream.
        let of_head = keys.saturating_mul(2).saturating_add(3);
        let rows = pairs.saturating_mul(9).saturating_add(heads.saturating_mul(of_head)).saturating_add(3);
        let entries = heads.saturating_mul(4).saturating_mul(model.d_model.saturating_add(model.n_ctx));
        let wiring = entries.saturating_mul(64).saturating_add(rows.saturating_mul(size_of::<ClosedForm>()));
        // A model without layers may be a chain: its table, decomposed and cut off, is held several times.
        let square = bytes_of::<f64>(&[8, model.d_vocab, model.d_vocab]);
        let chain = if model.n_layers == 0 && model.d_vocab <= MOST_TOKENS { square } else { 0 };
        Cost { rows, bytes: wiring.saturating_add(chain) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let config = subject.model.config();
        self.check(config, None)?;
        let theory = subject.origin.map_or(Ok(Theory::Nothing), |origin| origin.theory())?;
        let forms = match theory {
            Theory::Nothing => Vec::new(),
            Theory::Wiring(wiring) => of_wiring(&wiring, config, &self.keys(config))?,
            Theory::Initialisation(init) => of_initialisation(&init, config),
            Theory::Chain(cut) => of_chain(&cut.chain.draw(cut.tokens, &subject.stream)?, cut.width)?,
        };
        let number = |of: fn(&ClosedForm) -> Option<usize>| forms.iter().map(|f| of(f).map(integer)).collect::<Vec<_>>();
        Ok(df!(
            "quantity" => forms.iter().map(|form| form.quantity.name()).collect::<Vec<_>>(),
            "layer" => number(|form| form.head.map(|head| head.layer)),
            "head" => number(|form| form.head.map(|head| head.head)),
            "from_layer" => number(|form| form.from.map(|head| head.layer)),
            "from_head" => number(|form| form.from.map(|head| head.head)),
            "keys" => number(|form| form.keys),
            "expected" => forms.iter().map(|form| form.expected).collect::<Vec<_>>(),
            "tolerance" => forms.iter().map(|form| form.tolerance).collect::<Vec<_>>(),
        )?)
    }
}
