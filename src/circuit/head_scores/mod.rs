//! Head scores: what an attention pattern is like, in every convention under its own name.
//!
//! A score is a number of one pattern and one token sequence. Its floor and ceiling for an input are the same number of uniform
//! attention and of an ideal head, so that a value can be read whatever the convention.

mod conventions;

pub use conventions::{CONVENTIONS, Convention, Formula, OFFSET, Score};

use crate::Result;
use crate::batch::{Repeats, TokenBatch};
use crate::model::{Cache, Keep, Transformer};
use conventions::{Average, Target};
use ndarray::{Array2, ArrayView1, ArrayView2, s};

/// The marks of one target in one sequence.
struct Marks {
    /// Pairs (destination, source), destinations ascending.
    pairs: Vec<(usize, usize)>,
    /// Length of the sequence.
    n: usize,
    /// First destination in repeat 2; 0 where the input does not repeat.
    second_repeat: usize,
}

impl Marks {
    fn new(target: Target, tokens: ArrayView1<u32>, repeats: Option<Repeats>) -> Self {
        let second_repeat = repeats.map_or(0, |repeats| repeats.start + repeats.period);
        Self { pairs: target.marks(tokens, repeats), n: tokens.len(), second_repeat }
    }

    /// How many destinations from `first` on have a mark.
    fn destinations(&self, first: usize) -> usize {
        let mut destinations: Vec<_> = self.pairs.iter().map(|&(i, _)| i).filter(|&i| i >= first).collect();
        destinations.dedup();
        destinations.len()
    }

    /// How much one sequence counts in the mean of a score.
    fn weight(&self, average: Average) -> f64 {
        match average {
            Average::Mass => self.destinations(0) as f64,
            Average::MassInRepeats => self.destinations(self.second_repeat) as f64,
            Average::Entry => self.pairs.len() as f64,
            Average::Mul | Average::Abs => 1.0,
        }
    }

    /// The pattern of an ideal head: equal attention to all marked sources, to the first position where there is none.
    fn ideal(&self) -> Array2<f32> {
        let mut pattern = Array2::zeros((self.n, self.n));
        self.pairs.iter().for_each(|&pair| pattern[pair] = 1.0);
        for mut row in pattern.rows_mut() {
            let marked: f32 = row.sum();
            if marked == 0.0 {
                row[0] = 1.0;
            } else {
                row /= marked;
            }
        }
        pattern
    }
}

/// Uniform attention over the allowed positions, `[n, n]`.
///
/// ```
/// use attn_circuits::circuit::head_scores::uniform;
/// use ndarray::array;
/// assert_eq!(uniform(2), array![[1.0, 0.0], [0.5, 0.5]]);
/// ```
pub fn uniform(n: usize) -> Array2<f32> {
    Array2::from_shape_fn((n, n), |(i, j)| if j <= i { 1.0 / (i + 1) as f32 } else { 0.0 })
}

/// Sums of one pattern over one kind of marks, from which every convention is made.
struct Sums {
    /// Over all marks.
    marked: f64,
    /// Over those in repeats 2.., where the input repeats.
    in_repeats: f64,
    /// Over the marks that are neither in column 0 nor on the diagonal, and their number.
    inside: f64,
    inside_count: usize,
}

impl Sums {
    fn new(pattern: ArrayView2<f32>, marks: &Marks) -> Self {
        let mut sums = Self { marked: 0.0, in_repeats: 0.0, inside: 0.0, inside_count: 0 };
        for &(i, j) in &marks.pairs {
            let value = f64::from(pattern[(i, j)]);
            sums.marked += value;
            if i >= marks.second_repeat {
                sums.in_repeats += value;
            }
            if j > 0 && j < i {
                sums.inside += value;
                sums.inside_count += 1;
            }
        }
        sums
    }
}

/// Total attention of a pattern, and what of it lies neither in column 0 nor on the diagonal. The latter is summed by itself: as a
/// difference it would be noise for a head that attends to little else than itself.
fn totals(pattern: ArrayView2<f32>) -> (f64, f64) {
    let sum = |values: ArrayView1<f32>| values.iter().map(|&v| f64::from(v)).sum::<f64>();
    let rows = pattern.rows().into_iter().enumerate();
    rows.fold((0.0, 0.0), |(all, inside), (i, row)| {
        let of_row = if i > 1 { sum(row.slice(s![1..i])) } else { 0.0 };
        let edge = f64::from(row[0]) + if i > 0 { f64::from(row[i]) } else { 0.0 };
        (all + of_row + edge, inside + of_row)
    })
}

/// What one sequence adds to the mean of a score, before the division by the weights.
fn numerator(score: &Score, n: usize, (all, inside): (f64, f64), sums: &Sums, marks: &Marks) -> f64 {
    let (total, marked, count) =
        if score.excludes() { (inside, sums.inside, sums.inside_count) } else { (all, sums.marked, marks.pairs.len()) };
    match score.average() {
        Average::Mass | Average::Entry => sums.marked,
        Average::MassInRepeats => sums.in_repeats,
        // Without attention outside the excluded entries there is nothing to find.
        Average::Mul if total == 0.0 => 0.0,
        Average::Mul => marked / total,
        // Entries lie in [0, 1], so |A − M| is 1 − A on a mark and A elsewhere.
        Average::Abs => 1.0 - ((total - marked + count as f64 - marked) / n as f64 * 1e3).round_ties_even() / 1e3,
    }
}

/// The scores that are wanted of a batch, and the targets that they share.
struct Scoring<'a> {
    scores: &'a [Score],
    /// Each target once, those of ideal heads included.
    targets: Vec<Target>,
    repeats: Option<Repeats>,
}

impl<'a> Scoring<'a> {
    fn new(scores: &'a [Score], repeats: Option<Repeats>) -> Self {
        let mut targets = Vec::new();
        for target in scores.iter().flat_map(|score| [score.target, score.target.ideal()]) {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        Self { scores, targets, repeats }
    }

    fn place(&self, target: Target) -> usize {
        self.targets.iter().position(|&known| known == target).expect("the targets of all scores are listed")
    }

    /// The marks of one sequence, one entry for each target.
    fn marks(&self, tokens: ArrayView1<u32>) -> Vec<Marks> {
        self.targets.iter().map(|&target| Marks::new(target, tokens, self.repeats)).collect()
    }

    fn weights(&self, marks: &[Marks]) -> Vec<f64> {
        self.scores.iter().map(|score| marks[self.place(score.target)].weight(score.average())).collect()
    }

    fn numerators(&self, pattern: ArrayView2<f32>, marks: &[Marks]) -> Vec<f64> {
        let totals = totals(pattern);
        let sums: Vec<_> = marks.iter().map(|marks| Sums::new(pattern, marks)).collect();
        let of = |score: &Score| {
            let place = self.place(score.target);
            numerator(score, pattern.nrows(), totals, &sums[place], &marks[place])
        };
        self.scores.iter().map(of).collect()
    }

    /// Numerators of each score's own ideal head.
    fn ideal(&self, marks: &[Marks]) -> Vec<f64> {
        let mut found = vec![0.0; self.scores.len()];
        for (ideal, of_target) in self.targets.iter().zip(marks) {
            let wants = |score: &Score| score.target.ideal() == *ideal;
            if !self.scores.iter().any(wants) {
                continue;
            }
            let values = self.numerators(of_target.ideal().view(), marks);
            for ((found, score), value) in found.iter_mut().zip(self.scores).zip(values) {
                if wants(score) {
                    *found = value;
                }
            }
        }
        found
    }
}

/// Sums over sequences: of each row of numerators, and of the weights.
struct Tally {
    sums: Array2<f64>,
    weights: Vec<f64>,
}

impl Tally {
    fn new(rows: usize, scores: usize) -> Self {
        Self { sums: Array2::zeros((rows, scores)), weights: vec![0.0; scores] }
    }

    fn add(&mut self, row: usize, numerators: Vec<f64>) {
        self.sums.row_mut(row).iter_mut().zip(numerators).for_each(|(sum, value)| *sum += value);
    }

    fn weigh(&mut self, weights: Vec<f64>) {
        self.weights.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
    }

    fn merge(mut self, other: Self) -> Self {
        self.sums += &other.sums;
        self.weigh(other.weights);
        self
    }

    /// The mean of one score in each row; `None` if nothing in the input counts.
    fn means(&self, score: usize) -> Option<Vec<f64>> {
        let weight = self.weights[score];
        (weight > 0.0).then(|| self.sums.column(score).iter().map(|sum| sum / weight).collect())
    }
}

/// A score of several patterns, with what uniform attention and an ideal head would score on the same input. [`head_scores`] and
/// [`ideal_scores`] make it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadScore {
    /// Which score.
    pub score: Score,
    /// One value for each pattern (in the order of [`crate::model::ModelConfig::heads`], where every head is scored), or `None` if
    /// the input has nothing that the score looks for.
    pub values: Option<Vec<f64>>,
    /// Uniform attention over the allowed positions.
    pub floor: Option<f64>,
    /// The ideal head: equal attention to all marks of a destination, to position 0 where there is none.
    pub ceiling: Option<f64>,
}

/// Scores `count` patterns of every sequence, which `patterns` makes of a cache: it is called with the cache, the number of the
/// sequence in it, and what takes a pattern at its place. `floor` is the pattern whose scores are the floor.
pub(super) fn score_patterns(
    model: &Transformer,
    batch: &TokenBatch,
    scores: &[Score],
    count: usize,
    floor: ArrayView2<f32>,
    patterns: impl Fn(&Cache, usize, &mut dyn FnMut(usize, ArrayView2<f32>)) + Sync,
) -> Result<Vec<HeadScore>> {
    let scoring = Scoring::new(scores, batch.repeats());
    let keep = Keep { patterns: true, ..Keep::NOTHING };
    let (floor_row, ceiling_row) = (count, count + 1);
    let parts = model.map_chunks(batch, keep, |chunk, cache| {
        let mut tally = Tally::new(count + 2, scores.len());
        for (sequence, tokens) in chunk.tokens.rows().into_iter().enumerate() {
            let marks = scoring.marks(tokens);
            patterns(&cache, sequence, &mut |row, pattern| tally.add(row, scoring.numerators(pattern, &marks)));
            tally.add(floor_row, scoring.numerators(floor, &marks));
            tally.add(ceiling_row, scoring.ideal(&marks));
            tally.weigh(scoring.weights(&marks));
        }
        tally
    })?;
    let tally = parts.into_iter().reduce(Tally::merge).expect("a batch has at least one chunk");
    let score = |(index, score): (usize, &Score)| {
        let mut values = tally.means(index);
        let (ceiling, floor) = values.as_mut().map_or((None, None), |values| (values.pop(), values.pop()));
        HeadScore { score: score.clone(), values, floor, ceiling }
    };
    Ok(scores.iter().enumerate().map(score).collect())
}

/// Scores every head of a model on a batch, in each of the conventions asked: one entry for each, in the order asked.
///
/// ```
/// use attn_circuits::circuit::head_scores::{Score, head_scores};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let scores = ["previous_token", "prefix_matching", "tl_induction_mul"].map(|name| Score::find(name).expect("a score"));
/// // The circuit's heads, 0.0 and 1.0, are ideal: each reaches the ceiling of its own scores.
/// for (found, head) in head_scores(&model, &tokens, &scores)?.iter().zip([0, 1, 1]) {
///     let (values, ceiling) = found.values.as_ref().zip(found.ceiling).expect("the tokens repeat");
///     assert!(values.len() == 2 && found.floor < Some(values[head]));
///     assert!((values[head] - ceiling).abs() < 1e-3, "{}", found.score.name());
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the model cannot read the batch.
pub fn head_scores(model: &Transformer, batch: &TokenBatch, scores: &[Score]) -> Result<Vec<HeadScore>> {
    let (n_layers, n_heads) = (model.config().n_layers, model.config().n_heads);
    let floor = uniform(batch.length());
    score_patterns(model, batch, scores, n_layers * n_heads, floor.view(), |cache, sequence, take| {
        for (layer, patterns) in cache.patterns.iter().enumerate() {
            for head in 0..n_heads {
                take(layer * n_heads + head, patterns.slice(s![sequence, head, .., ..]));
            }
        }
    })
}

/// What one ideal head, that of `of`, scores on a batch in each of the conventions asked (the ceilings), and what uniform
/// attention does (the floors). There is no model, and so there are no values.
///
/// ```
/// use attn_circuits::circuit::head_scores::{Score, ideal_scores};
/// use attn_circuits::input::{Repeats, TokenBatch};
/// use ndarray::array;
/// // A start token, then 1 2 twice: 2 of the 4 entries of the stripe have a copy to follow, and one more is the rest at position 0.
/// let batch = TokenBatch::new(array![[0, 1, 2, 1, 2]], Some(Repeats { start: 1, period: 2, count: 2 }))?;
/// let scores = ["induction_stripe", "prefix_matching"].map(|name| Score::find(name).unwrap());
/// let found = ideal_scores(&scores[1], &batch, &scores);
/// assert_eq!((found[0].ceiling, found[1].ceiling), (Some(0.75), Some(1.0)));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub fn ideal_scores(of: &Score, batch: &TokenBatch, scores: &[Score]) -> Vec<HeadScore> {
    let scoring = Scoring::new(scores, batch.repeats());
    let uniform = uniform(batch.length());
    let mut tally = Tally::new(2, scores.len());
    for tokens in batch.tokens().rows() {
        let marks = scoring.marks(tokens);
        let ideal = Marks::new(of.target.ideal(), tokens, batch.repeats()).ideal();
        tally.add(0, scoring.numerators(uniform.view(), &marks));
        tally.add(1, scoring.numerators(ideal.view(), &marks));
        tally.weigh(scoring.weights(&marks));
    }
    let score = |(index, score): (usize, &Score)| {
        let values = tally.means(index);
        let at = |row: usize| values.as_ref().map(|values| values[row]);
        HeadScore { score: score.clone(), values: None, floor: at(0), ceiling: at(1) }
    };
    scores.iter().enumerate().map(score).collect()
}

#[cfg(test)]
mod tests;
