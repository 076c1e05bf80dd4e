//! Head scores: what an attention pattern is like, in every convention under its own name.
//!
//! A score is a number of one pattern and one token sequence. Its floor and ceiling for an input are the same number of uniform
//! attention and of an ideal head, so that a value can be read whatever the convention.

use crate::Result;
use crate::batch::TokenBatch;
use crate::model::{Keep, Transformer};
use ndarray::{Array2, ArrayView1, ArrayView2, s};

/// What a head attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Previous,
    Current,
    First,
    Duplicate,
    Induction,
}

/// How attention to the target becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Convention {
    /// Attention mass on the target, mean over the destinations that have one. For induction: the destinations in repeats 2..,
    /// where the input repeats.
    Mass,
    /// TransformerLens' `mul`: `Σ A∘M / Σ A` over all entries.
    Mul,
    /// TransformerLens' `abs`: `1 − n · mean |A − M|`, rounded to 3 decimals.
    Abs,
}

/// One way to score a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Its name in tables.
    pub name: &'static str,
    target: Target,
    convention: Convention,
    /// TransformerLens' `exclude_bos` and `exclude_current_token`: column 0 and the diagonal count as 0.
    exclude: bool,
}

const fn score(name: &'static str, target: Target, convention: Convention, exclude: bool) -> Score {
    Score { name, target, convention, exclude }
}

/// Every score, in the order of their names.
pub const SCORES: [Score; 17] = [
    score("current_token", Target::Current, Convention::Mass, false),
    score("duplicate_token", Target::Duplicate, Convention::Mass, false),
    score("first_token", Target::First, Convention::Mass, false),
    score("prefix_matching", Target::Induction, Convention::Mass, false),
    score("previous_token", Target::Previous, Convention::Mass, false),
    score("tl_duplicate_token_abs", Target::Duplicate, Convention::Abs, false),
    score("tl_duplicate_token_abs_excl", Target::Duplicate, Convention::Abs, true),
    score("tl_duplicate_token_mul", Target::Duplicate, Convention::Mul, false),
    score("tl_duplicate_token_mul_excl", Target::Duplicate, Convention::Mul, true),
    score("tl_induction_abs", Target::Induction, Convention::Abs, false),
    score("tl_induction_abs_excl", Target::Induction, Convention::Abs, true),
    score("tl_induction_mul", Target::Induction, Convention::Mul, false),
    score("tl_induction_mul_excl", Target::Induction, Convention::Mul, true),
    score("tl_previous_token_abs", Target::Previous, Convention::Abs, false),
    score("tl_previous_token_abs_excl", Target::Previous, Convention::Abs, true),
    score("tl_previous_token_mul", Target::Previous, Convention::Mul, false),
    score("tl_previous_token_mul_excl", Target::Previous, Convention::Mul, true),
];

/// Sources that each destination of one sequence should attend to.
struct Marks {
    /// Pairs (destination, source), destinations ascending.
    pairs: Vec<(usize, usize)>,
    /// For [`Convention::Mass`]: whether a destination counts.
    counts: Vec<bool>,
}

impl Marks {
    fn new(target: Target, tokens: ArrayView1<u32>, second_repeat: Option<usize>) -> Self {
        let n = tokens.len();
        let mut pairs = Vec::new();
        for i in 0..n {
            match target {
                Target::Previous => pairs.extend(i.checked_sub(1).map(|j| (i, j))),
                Target::Current => pairs.push((i, i)),
                Target::First => pairs.extend((i > 0).then_some((i, 0))),
                Target::Duplicate => pairs.extend((0..i).filter(|&j| tokens[j] == tokens[i]).map(|j| (i, j))),
                Target::Induction => pairs.extend((1..=i).filter(|&j| tokens[j - 1] == tokens[i]).map(|j| (i, j))),
            }
        }
        let mut counts = vec![false; n];
        pairs.iter().for_each(|&(i, _)| counts[i] = true);
        if let (Target::Induction, Some(second)) = (target, second_repeat) {
            counts.iter_mut().enumerate().for_each(|(i, counts)| *counts = i >= second);
        }
        Self { pairs, counts }
    }

    fn destinations(&self) -> usize {
        self.counts.iter().filter(|&&counts| counts).count()
    }

    /// The pattern of an ideal head: equal attention to all marked sources, to the first position where there is none.
    fn ideal(&self) -> Array2<f32> {
        let n = self.counts.len();
        let mut pattern = Array2::zeros((n, n));
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

fn uniform(n: usize) -> Array2<f32> {
    Array2::from_shape_fn((n, n), |(i, j)| if j <= i { 1.0 / (i + 1) as f32 } else { 0.0 })
}

/// Sums of one pattern over one kind of marks, from which every convention is made.
struct Sums {
    /// Over destinations that count.
    mass: f64,
    /// Over all marks.
    marked: f64,
    /// Over the marks that are neither in column 0 nor on the diagonal, and their number.
    marked_inside: f64,
    inside: usize,
}

impl Sums {
    fn new(pattern: ArrayView2<f32>, marks: &Marks) -> Self {
        let mut sums = Self { mass: 0.0, marked: 0.0, marked_inside: 0.0, inside: 0 };
        for &(i, j) in &marks.pairs {
            let value = f64::from(pattern[(i, j)]);
            sums.marked += value;
            if marks.counts[i] {
                sums.mass += value;
            }
            if j > 0 && j < i {
                sums.marked_inside += value;
                sums.inside += 1;
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

impl Convention {
    /// TransformerLens' two conventions for one sequence.
    fn detect(self, exclude: bool, n: usize, (all, inside): (f64, f64), sums: &Sums, marks: &Marks) -> f64 {
        let (total, marked, count) =
            if exclude { (inside, sums.marked_inside, sums.inside) } else { (all, sums.marked, marks.pairs.len()) };
        match self {
            // Without attention outside the excluded entries there is nothing to find.
            Self::Mul if total == 0.0 => 0.0,
            Self::Mul => marked / total,
            // Entries lie in [0, 1], so |A − M| is 1 − A on a mark and A elsewhere.
            _ => 1.0 - ((total - marked + count as f64 - marked) / n as f64 * 1e3).round_ties_even() / 1e3,
        }
    }
}

/// A score of every head, with what uniform attention and an ideal head would score on the same input.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadScore {
    /// Which score.
    pub score: Score,
    /// `[L, H]`, or `None` if no destination of the input has a target.
    pub value: Option<Array2<f64>>,
    /// Uniform attention over the allowed positions.
    pub floor: Option<f64>,
    /// The ideal head.
    pub ceiling: Option<f64>,
}

const TARGETS: [Target; 5] = [Target::Previous, Target::Current, Target::First, Target::Duplicate, Target::Induction];

/// Numerators of all scores for one sequence and one pattern, in the order of [`SCORES`].
fn numerators(pattern: ArrayView2<f32>, marks: &[Marks; 5]) -> [f64; SCORES.len()] {
    let totals = totals(pattern);
    let sums = marks.each_ref().map(|marks| Sums::new(pattern, marks));
    SCORES.map(|score| {
        let target = score.target as usize;
        match score.convention {
            Convention::Mass => sums[target].mass,
            other => other.detect(score.exclude, pattern.nrows(), totals, &sums[target], &marks[target]),
        }
    })
}

/// Scores every head of a model on a batch, in every convention.
///
/// # Errors
/// If the model cannot read the batch.
pub fn head_scores(model: &Transformer, batch: &TokenBatch) -> Result<Vec<HeadScore>> {
    let (n_layers, n_heads) = (model.config().n_layers, model.config().n_heads);
    let second_repeat = batch.repeats().map(|repeats| repeats.start + repeats.period);
    let keep = Keep { patterns: true, ..Keep::NOTHING };
    let uniform = uniform(batch.length());

    // Rows: every head, then uniform attention, then the ideal head of each score.
    let (uniform_row, ideal_row) = (n_layers * n_heads, n_layers * n_heads + 1);
    let parts = model.map_chunks(batch, keep, |chunk, cache| {
        let mut sums = Array2::<f64>::zeros((ideal_row + 1, SCORES.len()));
        let mut weights = [0.0; SCORES.len()];
        for (sequence, tokens) in chunk.tokens.rows().into_iter().enumerate() {
            let marks = TARGETS.map(|target| Marks::new(target, tokens, second_repeat));
            let mut add = |row: usize, pattern: ArrayView2<f32>| {
                let values = numerators(pattern, &marks);
                sums.row_mut(row).iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            };
            for (layer, patterns) in cache.patterns.iter().enumerate() {
                for head in 0..n_heads {
                    add(layer * n_heads + head, patterns.slice(s![sequence, head, .., ..]));
                }
            }
            add(uniform_row, uniform.view());
            let ideal = marks.each_ref().map(|of_target| numerators(of_target.ideal().view(), &marks));
            for (index, score) in SCORES.iter().enumerate() {
                let target = score.target as usize;
                sums[(ideal_row, index)] += ideal[target][index];
                weights[index] += match score.convention {
                    Convention::Mass => marks[target].destinations() as f64,
                    Convention::Mul | Convention::Abs => 1.0,
                };
            }
        }
        (sums, weights)
    })?;
    let (sums, weights) = parts
        .into_iter()
        .reduce(|(sums, mut weights), (part, more)| {
            weights.iter_mut().zip(more).for_each(|(weight, more)| *weight += more);
            (sums + part, weights)
        })
        .expect("a batch has at least one chunk");
    let score = |(index, &score): (usize, &Score)| {
        let mean = |row: usize| sums[(row, index)] / weights[index];
        let found = weights[index] > 0.0;
        HeadScore {
            score,
            value: found.then(|| Array2::from_shape_fn((n_layers, n_heads), |(l, h)| mean(l * n_heads + h))),
            floor: found.then(|| mean(uniform_row)),
            ceiling: found.then(|| mean(ideal_row)),
        }
    };
    Ok(SCORES.iter().enumerate().map(score).collect())
}
