//! Token swap: another token is put where a head attends. Does the head still look there, and does its output follow?
//!
//! A head's pattern is its QK circuit's, what it moves is its OV circuit's. Of an induction head it is said that the attended token
//! is ignored when the pattern is computed, and matters only for what is moved (Elhage et al. 2021): its keys hold the token
//! *before* the attended one. Here this is tried: the token is exchanged in the input, and everything is computed anew.

use crate::Result;
use crate::batch::TokenBatch;
use crate::model::frozen::{Frozen, FrozenRun};
use crate::model::{HeadId, Transformer};
use crate::stream::Stream;
use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use ndarray_rand::rand::Rng;
use std::ops::Range;

/// What became of a head when the tokens that it attends to were exchanged, in the mean over destinations and earlier positions, each
/// weighed by the attention that the destination paid to it before.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::token_swap::token_swap;
/// use attn_circuits::stream::Stream;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let swap = token_swap(&model, &tokens, &[0], 0, &Stream::new(3))?[1].expect("the induction head attends");
/// let near = |found: f64, expected: f64| (found - expected).abs() < 1e-3;
/// // All attention is on the earlier position of the token that comes next, and stays there whatever else is put there.
/// assert!(near(swap.mass, 1.0) && near(swap.attention, 1.0) && near(swap.attention_swapped, 1.0) && near(swap.row_change, 0.0));
/// // What is moved is another token, which now gets the logit of 10.
/// assert!(swap.output_change.is_some_and(|change| near(change, 1.0)) && near(swap.follows, 1.0));
/// assert!(near(swap.old_before, 10.0) && near(swap.old_after, 0.0));
/// assert!(near(swap.new_before, 0.0) && near(swap.new_after, 10.0));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swap {
    /// Attention to all earlier positions that are looked at, mean over the destinations: what the other numbers speak of.
    pub mass: f64,
    /// Attention to the position.
    pub attention: f64,
    /// The same with another token in the input.
    pub attention_swapped: f64,
    /// How much of the destination's attention moved: `½ Σ_j |A'[i, j] − A[i, j]|`, in `[0, 1]`.
    pub row_change: f64,
    /// `1 − 2 Σ m·m' / Σ (|m|² + |m'|²)` of what was moved before and after, `m = A[i, j] v_j W_O`: 0 if it is the same, 1 if the two
    /// have nothing in common or nothing is moved any more, 2 if it is the opposite; `None` if nothing is moved at all.
    pub output_change: Option<f64>,
    /// What moving from there adds to the logit of the old token, before the exchange.
    pub old_before: f64,
    /// … and after it.
    pub old_after: f64,
    /// What moving from there adds to the logit of the new token, before the exchange.
    pub new_before: f64,
    /// … and after it.
    pub new_after: f64,
    /// Whether the output follows the token: `2 Σ ab / Σ (a² + b² + 2ε²)` with `b` the preference for the old token before
    /// (`old_before − new_before`), `a` that for the new one after (`new_after − old_after`), `ε` a thousandth. 1: as it had favoured
    /// the old token, it favours the new one (or suppresses it, if it suppressed the old one); 0: it does neither; −1: it goes on
    /// favouring the old one.
    pub follows: f64,
}

/// A preference of logits far below this counts as none.
const EPSILON: f64 = 1e-3;

/// Weighted sums, from which a [`Swap`] is made.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    weight: f64,
    attention: [f64; 2],
    row_change: f64,
    /// Of `|m|² + |m'|²`, and of `m·m'`.
    moved: [f64; 2],
    /// Old token before and after, new token before and after.
    logits: [f64; 4],
    /// Of `a² + b²`, and of `ab`.
    preference: [f64; 2],
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.row_change += other.row_change;
        let pairs = [(&mut self.attention, &other.attention), (&mut self.moved, &other.moved)];
        pairs.into_iter().for_each(|(to, from)| to.iter_mut().zip(from).for_each(|(to, from)| *to += from));
        self.logits.iter_mut().zip(&other.logits).for_each(|(to, from)| *to += from);
        self.preference.iter_mut().zip(&other.preference).for_each(|(to, from)| *to += from);
    }

    fn mean(&self, destinations: usize) -> Option<Swap> {
        if self.weight <= 0.0 || destinations == 0 {
            return None;
        }
        let [old_before, old_after, new_before, new_after] = self.logits.map(|sum| sum / self.weight);
        let regular = 2.0 * EPSILON * EPSILON * self.weight;
        Some(Swap {
            mass: self.weight / destinations as f64,
            attention: self.attention[0] / self.weight,
            attention_swapped: self.attention[1] / self.weight,
            row_change: self.row_change / self.weight,
            output_change: (self.moved[0] > 0.0).then(|| 1.0 - 2.0 * self.moved[1] / self.moved[0]),
            old_before,
            old_after,
            new_before,
            new_after,
            follows: 2.0 * self.preference[1] / (self.preference[0] + regular),
        })
    }
}

/// The destinations that are looked at: the last repeat of an input that repeats, all but position 0 otherwise.
fn destinations(batch: &TokenBatch) -> Range<usize> {
    let last = batch.repeats().map_or(1, |repeats| repeats.start + (repeats.count - 1) * repeats.period);
    last.max(1)..batch.length()
}

/// The token that takes the place of one of `tokens`: one that does not occur there, where the vocabulary has such tokens, and any
/// other one where it has not. `None` if there is no other.
fn exchange(tokens: ArrayView1<u32>, position: usize, d_vocab: usize, stream: &Stream) -> Option<u32> {
    let mut occurs = vec![false; d_vocab];
    tokens.iter().for_each(|&token| occurs[token as usize] = true);
    let absent: Vec<_> = (0..d_vocab as u32).filter(|&token| !occurs[token as usize]).collect();
    let other = || (0..d_vocab as u32).filter(|&token| token != tokens[position]).collect();
    let choices = if absent.is_empty() { other() } else { absent };
    let mut rng = stream.rng(format!("position {position}"));
    (!choices.is_empty()).then(|| choices[rng.random_range(0..choices.len())])
}

/// Exchanges, one at a time, every token of some sequences of a batch, and sees what each head makes of it that attends to the position
/// `before` positions later: with 0 the attended token itself, with 1 the one before. One entry for each head, in the order of
/// [`crate::model::ModelConfig::heads`]; `None` where there is nothing to exchange (sequences or a vocabulary of one token), or nothing
/// earlier is attended to.
///
/// Destinations are the positions of the last repeat (all but position 0, where the batch does not repeat); for each of them, every
/// earlier position is looked at, but the first `before` of a sequence: no token stands so far before them. Attention to these is not
/// in [`Swap::mass`]. Logits are what the head itself writes, with the scale of the final LayerNorm frozen at its value in
/// the run.
///
/// Cost: a forward pass for each position of each sequence.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::token_swap::token_swap;
/// use attn_circuits::stream::Stream;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let induction = |before| Ok::<_, Error>(token_swap(&model, &tokens, &[0, 1], before, &Stream::new(3))?[1]);
/// // Its keys hold the token before: another one in place of that, and the head attends to all of 8 to 13 positions alike.
/// let lost = induction(1)?.expect("it attends to an earlier position");
/// assert!((lost.attention - 1.0).abs() < 1e-3);
/// assert!(lost.attention_swapped < 1.0 / 8.0 + 1e-3 && lost.row_change > 7.0 / 8.0 - 1e-3);
/// // Of 13 positions none is 13 before another.
/// assert_eq!(induction(13)?, None);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the model cannot read the batch, as [`Transformer::check_batch`] finds.
///
/// # Panics
/// If the batch has no such sequence.
pub fn token_swap(
    model: &Transformer,
    batch: &TokenBatch,
    sequences: &[usize],
    before: usize,
    stream: &Stream,
) -> Result<Vec<Option<Swap>>> {
    model.check_batch(batch)?;
    let heads: Vec<_> = model.config().heads().collect();
    let destinations = destinations(batch);
    let frozen = Frozen::new(model);
    let read = frozen.w_u();
    let mut sums = vec![Sums::default(); heads.len()];
    for &sequence in sequences {
        let tokens = batch.tokens().index_axis_move(Axis(0), sequence);
        let stream = stream.child(format!("sequence {sequence}"));
        // The last position is a destination only.
        let exchanged = 0..(tokens.len() - 1).saturating_sub(before);
        let new: Option<Vec<u32>> =
            exchanged.map(|position| exchange(tokens, position, model.config().d_vocab, &stream)).collect();
        let Some(new) = new.filter(|new| !new.is_empty()) else { continue };
        let cache = model.run(&TokenBatch::new(tokens.to_owned().insert_axis(Axis(0)), None)?, Frozen::KEEP)?;
        let clean = frozen.run(tokens.insert_axis(Axis(0)), cache);
        let exchanged =
            Array2::from_shape_fn(
                (new.len(), tokens.len()),
                |(row, position)| {
                    if row == position { new[row] } else { tokens[position] }
                },
            );
        let parts = model.map_chunks(&TokenBatch::new(exchanged, None)?, Frozen::KEEP, |chunk, swapped| {
            let swapped = frozen.run(chunk.tokens, swapped);
            let mut sums = vec![Sums::default(); heads.len()];
            for row in 0..chunk.tokens.nrows() {
                let exchanged = chunk.first + row;
                let tokens = [tokens[exchanged], new[exchanged]].map(|token| token as usize);
                let exchange = Exchange {
                    position: exchanged + before,
                    before: Run { run: &clean, sequence: 0 },
                    after: Run { run: &swapped, sequence: row },
                    directions: read.select(Axis(1), &tokens),
                };
                heads.iter().zip(&mut sums).for_each(|(&id, sums)| exchange.observe(id, destinations.clone(), sums));
            }
            sums
        })?;
        for part in parts {
            sums.iter_mut().zip(&part).for_each(|(sums, part)| sums.add(part));
        }
    }
    Ok(sums.iter().map(|sums| sums.mean(destinations.len() * sequences.len())).collect())
}

/// One sequence of a run.
#[derive(Clone, Copy)]
struct Run<'a, 'r, 'm> {
    run: &'a FrozenRun<'r, 'm>,
    sequence: usize,
}

impl<'a> Run<'a, '_, '_> {
    /// Where a position stands among those of all sequences.
    fn row(&self, position: usize) -> usize {
        self.sequence * self.run.tokens().ncols() + position
    }

    /// What a head moves from a position, a unit of attention at a time.
    fn moved(&self, id: HeadId, position: usize) -> Array1<f32> {
        self.run.moved(id, self.row(position))
    }

    /// The factor of the normalisation before the logits.
    fn final_scale(&self, position: usize) -> f64 {
        f64::from(self.run.scale_at(self.run.frozen().model().config().n_layers, self.row(position)))
    }

    /// How a head attends from a position, `[n]`.
    fn attention(&self, id: HeadId, position: usize) -> ArrayView1<'a, f32> {
        self.run.cache().patterns[id.layer].slice(s![self.sequence, id.head, position, ..])
    }
}

/// A sequence before and after one of its tokens was exchanged.
struct Exchange<'a, 'r, 's, 'm> {
    /// Where heads may attend to: the position of the token, or so many positions later.
    position: usize,
    before: Run<'a, 'r, 'm>,
    after: Run<'a, 's, 'm>,
    /// What the logits of the old and of the new token read, `[d, 2]`.
    directions: Array2<f32>,
}

impl Exchange<'_, '_, '_, '_> {
    /// Adds what becomes of one head at each destination behind the position.
    fn observe(&self, id: HeadId, destinations: Range<usize>, sums: &mut Sums) {
        let Self { before, after, .. } = self;
        let moved = [before.moved(id, self.position), after.moved(id, self.position)];
        let logits = moved.each_ref().map(|moved| moved.dot(&self.directions).mapv(f64::from));
        let dot = |a: &Array1<f32>, b: &Array1<f32>| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let [square_before, square_after] = moved.each_ref().map(|moved| dot(moved, moved));
        let product = dot(&moved[0], &moved[1]);
        for destination in destinations.start.max(self.position + 1)..destinations.end {
            let (row_before, row_after) = (before.attention(id, destination), after.attention(id, destination));
            let change = row_before.iter().zip(&row_after).map(|(a, b)| (f64::from(*b) - f64::from(*a)).abs()).sum::<f64>();
            let scale = [before.final_scale(destination), after.final_scale(destination)];
            let (before, after) = (f64::from(row_before[self.position]), f64::from(row_after[self.position]));
            let [old_before, new_before] = [0, 1].map(|token| before * scale[0] * logits[0][token]);
            let [old_after, new_after] = [0, 1].map(|token| after * scale[1] * logits[1][token]);
            let (b, a) = (old_before - new_before, new_after - old_after);
            let weight = before;
            sums.add(&Sums {
                weight,
                attention: [before, after].map(|v| weight * v),
                row_change: weight * 0.5 * change,
                moved: [before * before * square_before + after * after * square_after, before * after * product]
                    .map(|v| weight * v),
                logits: [old_before, old_after, new_before, new_after].map(|v| weight * v),
                preference: [a * a + b * b, a * b].map(|v| weight * v),
            });
        }
    }
}

#[cfg(test)]
mod tests;
