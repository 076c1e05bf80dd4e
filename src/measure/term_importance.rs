use super::columns::{INTEGER, NUMBER, TEXT, groups, integer, repeats, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::paths::{Term, term_importance};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::ModelConfig;
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// How much each order of paths matters: the loss when only paths through at most 0, 1, … heads are summed. It is the "term
/// importance analysis" of Elhage et al. (2021).
///
/// Attention patterns are held as they are in the run (with LayerNorm, so are the scales), so paths can be added one order at a time.
/// `order` 0 is the direct path, 1 single heads, 2 virtual heads, …; the last row's loss is the model's. `loss` (nats) is that of
/// the paths of the row and all lower orders; `reduction` what the row takes off the loss of the lower orders (order 0: off ln V, the
/// loss of a uniform guess). The reductions of the rows with `layers` null sum to ln V less the model's loss. `loss_change` looks
/// from the other end: what the model's loss becomes without these paths alone, less the model's.
///
/// Rows with `layers` (`0`, `1`, `0>1`) are the paths of orders 1 and 2 through heads in these layers, each set by itself on top of
/// the lower orders: their reductions need not sum to that of the order. `paths` is how many paths a row sums. `b_O` and what the
/// unembedding adds count as order 0; `b_V` has passed through one head. In SQL the column is written
/// `"order"`, in quotes, since ORDER is a word of the language.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TermImportance {}

impl Described for TermImportance {
    const NAME: &'static str = "term_importance";
    const EXAMPLE: &'static str = "- measure: term_importance\n  input: repeated\n";
}

/// `0>1`; null for all layers.
fn label(term: &Term) -> Option<String> {
    let layers: Vec<_> = term.layers.iter().map(ToString::to_string).collect();
    (!layers.is_empty()).then(|| layers.join(">"))
}

impl Measure for TermImportance {
    fn columns(&self) -> Schema {
        schema([
            ("order", INTEGER),
            ("layers", TEXT),
            ("repeat", INTEGER),
            ("loss", NUMBER),
            ("reduction", NUMBER),
            ("loss_change", NUMBER),
            ("paths", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let layers = model.n_layers;
        let pairs = layers.saturating_mul(layers.saturating_sub(1)) / 2;
        let terms = pairs.saturating_add(layers.saturating_mul(2)).saturating_add(1);
        let rows = terms.saturating_mul(groups(input.and_then(|input| input.repeats)));
        // A stream for each term and a few more, and five sets of logits: of all, of lower orders, of one term, and of a sum.
        let floats = terms.saturating_add(6).saturating_mul(model.d_model).saturating_add(model.d_vocab.saturating_mul(5));
        let held = super::positions_at_once(input).saturating_mul(floats).saturating_mul(size_of::<f32>());
        let bytes = held.saturating_add(super::folded_weights(model)).saturating_add(super::chunk_bytes(model, input));
        Cost { rows, bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let batch = subject.required_input()?;
        let (repeats, groups) = repeats(batch);
        let found = term_importance(subject.model, batch, &groups)?;
        let rows = || found.terms.iter().flat_map(|term| (0..repeats.len()).map(move |group| (term, group)));
        Ok(df!(
            "order" => rows().map(|(term, _)| integer(term.order)).collect::<Vec<_>>(),
            "layers" => rows().map(|(term, _)| label(term)).collect::<Vec<_>>(),
            "repeat" => rows().map(|(_, group)| repeats[group]).collect::<Vec<_>>(),
            "loss" => rows().map(|(term, group)| term.loss[group]).collect::<Vec<_>>(),
            "reduction" => rows().map(|(term, group)| term.reduction[group]).collect::<Vec<_>>(),
            "loss_change" => rows().map(|(term, group)| term.without[group] - found.loss[group]).collect::<Vec<_>>(),
            "paths" => rows().map(|(term, _)| term.paths as f64).collect::<Vec<_>>(),
        )?)
    }
}
