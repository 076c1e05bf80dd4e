use super::columns::{INTEGER, NUMBER, check_heads, head_count, heads, indices, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::token_swap::{Swap, token_swap};
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::{Keep, ModelConfig};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;

/// Another token is put where a head attends: does the head still look there, and does its output follow the token?
///
/// One at a time, the token at each position is exchanged in the input, and everything is computed anew. Of an induction head the
/// framework paper says that the attended token is ignored for the pattern, and matters only for what is moved: its keys hold
/// the token *before*. Then `attention` stays, `row_change` is 0, and the output goes with the token. A head that looks for
/// a token loses sight of it.
///
/// Numbers are means over the destinations (the last repeat; all positions but 0, where the input does not repeat) and the earlier
/// positions, each weighed by the attention that the destination paid to it before. `mass` is that attention in all: where it is
/// small, the head attends to its own position, and the rest says little. `attention` and `attention_swapped`: to the position,
/// before and after. `row_change`: the share of the destination's attention that moved, ½ Σ |A' − A|. `output_change`: 0 if
/// the same is moved from there, 1 if nothing in common, 2 if the opposite (1 − 2 Σ m·m'/Σ(|m|² + |m'|²), m = A v W_O).
///
/// `old_before`, `old_after`, `new_before`, `new_after`: what the head's moving from there adds to the logits of the old and the
/// new token (directly, with the scale of the last LayerNorm as it was in the run). `follows` is 1 if it favours the new token as it
/// had favoured the old one (or suppresses it likewise), 0 if it does not, or writes nothing that the logits read, −1 if it goes
/// on favouring the old one: 2 Σ ab/Σ(a² + b² + 2ε²), b = old_before − new_before, a = new_after − old_after, ε = 0.001.
///
/// The new token is drawn among those that do not occur in the sequence, where there are any. Where nothing can be exchanged, or
/// a head attends to nothing earlier, the numbers are null. Takes a forward pass for each position of each sequence.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSwap {
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// Which sequences of the input, counted from 0; default: the first eight.
    #[serde(default)]
    #[schemars(length(min = 1))]
    sequences: Option<Vec<usize>>,
    /// Exchanges the token so many positions before the attended one instead. With 1, an induction head loses sight: that is the
    /// token which its keys hold. `old` and `new` are the exchanged token and what takes its place. The first `before` positions of
    /// a sequence, before which no token stands so far off, are then not looked at, and attention to them is not in `mass`.
    #[serde(default)]
    before: usize,
}

impl TokenSwap {
    fn sequences(&self, count: usize) -> Result<Vec<usize>> {
        match &self.sequences {
            Some(list) => indices("sequences", count, Some(list)),
            None => Ok((0..count.min(8)).collect()),
        }
    }
}

impl Described for TokenSwap {
    const NAME: &'static str = "token_swap";
    const EXAMPLE: &'static str = "- measure: token_swap\n  input: repeated\n";
}

impl Measure for TokenSwap {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("mass", NUMBER),
            ("attention", NUMBER),
            ("attention_swapped", NUMBER),
            ("row_change", NUMBER),
            ("output_change", NUMBER),
            ("old_before", NUMBER),
            ("old_after", NUMBER),
            ("new_before", NUMBER),
            ("new_after", NUMBER),
            ("follows", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, model: &ModelConfig, input: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())?;
        input.map_or(Ok(()), |input| self.sequences(input.sequences).map(drop))
    }

    fn cost(&self, model: &ModelConfig, input: Option<&InputShape>) -> Cost {
        let rows = head_count(model, self.heads.as_deref());
        let Some(input) = input else { return Cost { rows, bytes: 0 } };
        // The clean run of a sequence; its exchanged ones, of which so many chunks are run at a time; the readout.
        let exchanged = InputShape { sequences: input.length, ..*input };
        let one = InputShape { sequences: 1, ..*input };
        let clean = super::pass_bytes(model, &one, Keep { patterns: true, residual: true, ..Keep::NOTHING });
        let tokens = input.length.saturating_mul(input.length).saturating_mul(size_of::<u32>());
        let readout = model.d_model.saturating_mul(model.d_vocab).saturating_mul(size_of::<f32>());
        let parts = [clean, super::chunk_bytes(model, Some(&exchanged)), tokens, readout];
        Cost { rows, bytes: parts.into_iter().fold(0, usize::saturating_add) }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let batch = subject.required_input()?;
        let wanted = heads(model.config(), self.heads.as_deref())?;
        let found = token_swap(model, batch, &self.sequences(batch.sequences())?, self.before, &subject.stream)?;
        let rows: Vec<_> = model.config().heads().zip(found).filter(|(id, _)| wanted.contains(id)).collect();
        let number = |of: fn(&Swap) -> f64| rows.iter().map(|(_, swap)| swap.as_ref().map(of)).collect::<Vec<_>>();
        Ok(df!(
            "layer" => rows.iter().map(|(id, _)| integer(id.layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|(id, _)| integer(id.head)).collect::<Vec<_>>(),
            "mass" => number(|swap| swap.mass),
            "attention" => number(|swap| swap.attention),
            "attention_swapped" => number(|swap| swap.attention_swapped),
            "row_change" => number(|swap| swap.row_change),
            "output_change" => rows.iter().map(|(_, swap)| swap.as_ref().and_then(|swap| swap.output_change)).collect::<Vec<_>>(),
            "old_before" => number(|swap| swap.old_before),
            "old_after" => number(|swap| swap.old_after),
            "new_before" => number(|swap| swap.new_before),
            "new_after" => number(|swap| swap.new_after),
            "follows" => number(|swap| swap.follows),
        )?)
    }
}
