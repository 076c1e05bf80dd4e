//! How a batch is corrupted.

use super::{InputShape, Repeats, TokenBatch};
use crate::stream::Stream;
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut1, s};
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::SliceRandom;

/// How a batch is corrupted.
///
/// The result has the shape of the original and is the same for the same stream. It keeps the [`Repeats`] of the original only
/// where there is a single one: in all other cases they no longer hold.
///
/// A start token is not drawn where anything else is left, and stays where it is unless `position` names its place. It is what
/// stands before the first period ([`Repeats::start`]) where the original is known to repeat, else the first token if it is the
/// same in all sequences (as that of a single one is).
///
/// ```
/// use attn_circuits::input::{Recipe, Repeats, TokenBatch};
/// use attn_circuits::stream::Stream;
/// use ndarray::array;
///
/// let repeats = Repeats { start: 1, period: 2, count: 2 };
/// let clean = TokenBatch::new(array![[0, 5, 3, 5, 3], [0, 7, 1, 7, 1]], Some(repeats))?;
/// let (d_vocab, stream) = (9, Stream::new(2021).child("corrupted"));
///
/// let swapped = Recipe::SwappedRepeats.apply(&clean, d_vocab, &stream)?;
/// assert_eq!(swapped.tokens(), array![[0, 7, 1, 5, 3], [0, 5, 3, 7, 1]]);
///
/// let changed = Recipe::ChangedPosition { position: Some(2) }.apply(&clean, d_vocab, &stream)?;
/// assert!(![0, 5, 3].contains(&changed.tokens()[(0, 2)]));
///
/// let others = Recipe::OtherTokens.apply(&clean, d_vocab, &stream)?;
/// assert_eq!((others.tokens().dim(), others.tokens()[(1, 0)]), ((2, 5), 0));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Every token but the start token is drawn anew, independently and uniformly from the vocabulary without the start token.
    OtherTokens,
    /// Every repeat but the last holds the period of another sequence: each takes it from the next in a random circle of all
    /// sequences.
    SwappedRepeats,
    /// One token of each sequence is replaced by one that occurs nowhere in the sequence; where all occur, by another one.
    ChangedPosition {
        /// Where, from 0; if not given, a random position of each sequence: in the first repeat, or anywhere behind the start
        /// token where the batch is not known to repeat.
        position: Option<usize>,
    },
}

impl Recipe {
    /// The shape of what the recipe makes of an input of this shape.
    ///
    /// ```
    /// use attn_circuits::Error;
    /// use attn_circuits::input::{InputShape, Recipe, Repeats};
    ///
    /// let repeats = Some(Repeats { start: 1, period: 2, count: 2 });
    /// let original = InputShape { sequences: 2, length: 5, repeats, min_vocab: 8, max_vocab: None };
    /// // The repeats no longer hold.
    /// assert_eq!(Recipe::OtherTokens.shape(&original)?, InputShape { repeats: None, ..original });
    /// let single = InputShape { sequences: 1, ..original };
    /// assert!(matches!(Recipe::SwappedRepeats.shape(&single), Err(Error::Parameter { path, .. }) if path == "recipe"));
    /// let beyond = Recipe::ChangedPosition { position: Some(5) };
    /// assert!(matches!(beyond.shape(&original), Err(Error::Parameter { path, .. }) if path == "position"));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] if it cannot be done: `swapped_repeats` without two repeats and two sequences, a position beyond the
    /// input, or nothing to change behind the first token.
    pub fn shape(self, original: &InputShape) -> Result<InputShape> {
        let fault = |message: &str| Err(Error::parameter("recipe", message));
        let InputShape { sequences, length, repeats, .. } = *original;
        match (self, repeats) {
            (Self::SwappedRepeats, None) => {
                let kinds = "`repeated_tokens`, or `tokens` with a `period`";
                return fault(&format!("`swapped_repeats` needs an input that is known to repeat: {kinds}"));
            }
            (Self::SwappedRepeats, Some(Repeats { count: 0 | 1, .. })) => {
                return fault("`swapped_repeats` needs an input that repeats, and the period is there once only");
            }
            (Self::SwappedRepeats, _) if sequences < 2 => {
                return fault("`swapped_repeats` needs at least two sequences: each takes the repeats of another");
            }
            (Self::ChangedPosition { position: Some(position) }, _) if position >= length => {
                let text = format!("there is no position {position}: the input is {length} tokens long, and counts from 0");
                return Err(Error::parameter("position", text));
            }
            (Self::OtherTokens | Self::ChangedPosition { position: None }, None) if length < 2 => {
                return fault("there is one token in a sequence, and nothing behind it that could be changed");
            }
            _ => {}
        }
        let least = match self {
            // Where no repeats are known, the first token may be a start token, which is not drawn.
            Self::OtherTokens => repeats.map_or(1, |repeats| repeats.start).saturating_add(1),
            Self::SwappedRepeats => 1,
            Self::ChangedPosition { .. } => 2,
        };
        let repeats = repeats.filter(|repeats| repeats.count == 1);
        Ok(InputShape { repeats, min_vocab: original.min_vocab.max(least), ..*original })
    }

    /// The corrupted batch, `[B, n]` as the original, with tokens below `d_vocab`. Its draws are those called `corrupted` below
    /// the stream.
    ///
    /// ```
    /// use attn_circuits::input::{Recipe, Repeats, TokenBatch};
    /// use attn_circuits::stream::Stream;
    /// use ndarray::array;
    ///
    /// let repeats = Repeats { start: 1, period: 2, count: 2 };
    /// let clean = TokenBatch::new(array![[0, 5, 3, 5, 3], [0, 7, 1, 7, 1]], Some(repeats))?;
    /// let (anywhere, stream) = (Recipe::ChangedPosition { position: None }, Stream::new(2021));
    /// let changed = anywhere.apply(&clean, 9, &stream)?;
    /// assert_eq!(changed, anywhere.apply(&clean, 9, &stream)?);
    /// for (before, after) in clean.tokens().rows().into_iter().zip(changed.tokens().rows()) {
    ///     let differing: Vec<_> = (0..5).filter(|&position| before[position] != after[position]).collect();
    ///     assert!(differing == [1] || differing == [2]); // in the first repeat
    /// }
    /// assert!(anywhere.apply(&clean, 7, &stream).is_err()); // token 7 needs a vocabulary of 8
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Recipe::shape`]; [`Error::Invalid`] if the vocabulary does not hold the original, or nothing beside it.
    pub fn apply(self, original: &TokenBatch, d_vocab: usize, stream: &Stream) -> Result<TokenBatch> {
        let shape = self.shape(&InputShape::of(original))?;
        shape.check_vocab(d_vocab)?;
        // The input itself may have been drawn from this stream.
        let stream = stream.child("corrupted");
        let mut tokens = original.tokens().to_owned();
        if let (Self::SwappedRepeats, Some(repeats)) = (self, original.repeats()) {
            swap_repeats(&mut tokens, original, repeats, &stream);
            return TokenBatch::new(tokens, shape.repeats);
        }
        let start = start(original);
        let end = original.repeats().map_or(original.length(), |repeats| start + repeats.period);
        for (sequence, row) in tokens.rows_mut().into_iter().enumerate() {
            let mut rng = stream.rng(format!("sequence {sequence}"));
            match self {
                Self::ChangedPosition { position } => {
                    let position = position.unwrap_or_else(|| rng.random_range(start..end));
                    change(row, start, position, d_vocab, &mut rng);
                }
                _ => redraw(row, start, d_vocab, &mut rng),
            }
        }
        TokenBatch::new(tokens, shape.repeats)
    }
}

/// Leading positions that hold a start token.
fn start(batch: &TokenBatch) -> usize {
    let alike = || batch.tokens().column(0).iter().all(|&token| token == batch.tokens()[(0, 0)]);
    batch.repeats().map_or_else(|| usize::from(alike()), |repeats| repeats.start)
}

/// Draws all tokens anew but the first `start`, which are not drawn.
fn redraw(mut row: ArrayViewMut1<u32>, start: usize, d_vocab: usize, rng: &mut impl Rng) {
    let kept = distinct(row.slice(s![..start]));
    row.iter_mut().skip(start).for_each(|token| *token = draw_without(&kept, d_vocab, rng));
}

/// Puts a token into a position that occurs nowhere in the sequence, or if all occur, another that does not stand in the first
/// `start` positions; if these are all there are, one of them.
fn change(mut row: ArrayViewMut1<u32>, start: usize, position: usize, d_vocab: usize, rng: &mut impl Rng) {
    let present = [row[position]];
    let kept: Array1<u32> = row.iter().take(start).copied().chain(present).collect();
    let candidates = [distinct(row.view()), distinct(kept.view())].into_iter().find(|without| without.len() < d_vocab);
    row[position] = draw_without(&candidates.unwrap_or(present.to_vec()), d_vocab, rng);
}

/// The tokens that occur, ascending, each once.
fn distinct(row: ArrayView1<u32>) -> Vec<u32> {
    let mut tokens = row.to_vec();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

/// A token that is none of `without`, all others alike. `without` is ascending, and leaves some of the vocabulary.
fn draw_without(without: &[u32], d_vocab: usize, rng: &mut impl Rng) -> u32 {
    let vocab = (d_vocab as u64).min(1 << 32);
    let nth = rng.random_range(0..vocab - without.len() as u64);
    // Each of those left out that stands before it moves it on by one.
    without.iter().fold(nth, |token, &left_out| token + u64::from(u64::from(left_out) <= token)) as u32
}

/// Copies all repeats but the last from the next sequence in a random circle.
fn swap_repeats(tokens: &mut Array2<u32>, original: &TokenBatch, repeats: Repeats, stream: &Stream) {
    let Repeats { start, period, count } = repeats;
    let mut circle: Vec<usize> = (0..original.sequences()).collect();
    circle.shuffle(&mut stream.rng("circle"));
    let swapped = s![start..start + period * (count - 1)];
    for (&to, &from) in circle.iter().zip(circle.iter().cycle().skip(1)) {
        tokens.row_mut(to).slice_mut(swapped).assign(&original.tokens().row(from).slice(swapped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{InputContext, InputKind, RepeatedTokens, Tokens};
    use ndarray::{Axis, array};
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn repeated(sequences: usize, period: usize, repeats: usize, start: bool, d_vocab: usize) -> TokenBatch {
        let kind = RepeatedTokens { sequences, period, repeats, start, distinct: false };
        let stream = Stream::new(3).child("repeated");
        kind.build(&InputContext { base: Path::new("."), stream, d_vocab, original: None }).unwrap()
    }

    fn apply(recipe: Recipe, original: &TokenBatch, d_vocab: usize) -> TokenBatch {
        recipe.apply(original, d_vocab, &Stream::new(4)).unwrap()
    }

    fn error(recipe: Recipe, original: &TokenBatch, d_vocab: usize) -> String {
        recipe.apply(original, d_vocab, &Stream::new(4)).unwrap_err().to_string()
    }

    const ANYWHERE: Recipe = Recipe::ChangedPosition { position: None };

    /// Positions at which two batches differ, by sequence.
    fn differences(a: &TokenBatch, b: &TokenBatch) -> Vec<Vec<usize>> {
        let rows = a.tokens().into_owned().into_iter().zip(b.tokens().into_owned()).collect::<Vec<_>>();
        rows.chunks(a.length()).map(|row| (0..row.len()).filter(|&i| row[i].0 != row[i].1).collect()).collect()
    }

    #[test]
    fn other_tokens_are_uniform_and_leave_out_the_start_token() {
        let original = repeated(500, 4, 2, true, 5);
        let corrupted = apply(Recipe::OtherTokens, &original, 5);
        assert_eq!((corrupted.tokens().dim(), corrupted.repeats()), (original.tokens().dim(), None));
        assert!(corrupted.tokens().column(0).iter().all(|&token| token == 0));
        let drawn: Vec<u32> = corrupted.tokens().slice(s![.., 1..]).iter().copied().collect();
        let count = |token| drawn.iter().filter(|&&found| found == token).count() as f64;
        assert_eq!(count(0), 0.0);
        let expected = drawn.len() as f64 / 4.0;
        for token in 1..5 {
            assert!((count(token) - expected).abs() < 4.0 * expected.sqrt(), "{token}: {}", count(token));
        }
        // Independent of what was there: equal at one position in four.
        let equal = 4000 - differences(&original, &corrupted).concat().len();
        assert!((equal as f64 - 1000.0).abs() < 120.0, "{equal}");
    }

    /// The very stream that drew the original must not draw it again.
    #[test]
    fn the_stream_of_the_original_makes_other_tokens() {
        let original = repeated(4, 20, 1, false, 1 << 24);
        let corrupted = Recipe::OtherTokens.apply(&original, 1 << 24, &Stream::new(3).child("repeated")).unwrap();
        let known: BTreeSet<u32> = original.tokens().iter().copied().collect();
        assert!(corrupted.tokens().iter().all(|token| !known.contains(token)));
    }

    #[test]
    fn the_first_token_is_a_start_token_where_it_is_or_may_be() {
        let known = repeated(40, 3, 2, false, 6);
        assert!(apply(Recipe::OtherTokens, &known, 6).tokens().iter().any(|&token| token == 0));
        assert_eq!(start(&known), 0);
        let alike = TokenBatch::new(array![[7, 1, 2], [7, 3, 7], [7, 5, 5]], None).unwrap();
        let corrupted = apply(Recipe::OtherTokens, &alike, 9);
        assert_eq!(corrupted.tokens().column(0), array![7, 7, 7]);
        assert!(!corrupted.tokens().slice(s![.., 1..]).iter().any(|&token| token == 7));
        let various = TokenBatch::new(Array2::from_shape_fn((40, 2), |(i, j)| ((i + j) % 3) as u32), None).unwrap();
        let changed = apply(Recipe::OtherTokens, &various, 90);
        assert!(differences(&various, &changed).iter().filter(|at| at.contains(&0)).count() > 30);
    }

    #[test]
    fn the_last_repeat_stays_and_the_others_are_another_sequences() {
        let original = repeated(7, 5, 3, true, 1000);
        let corrupted = apply(Recipe::SwappedRepeats, &original, 1000);
        assert_eq!(corrupted.repeats(), None);
        let part = |batch: &TokenBatch, from: usize, to: usize| {
            let rows = batch.tokens().slice(s![.., from..to]).into_owned();
            rows.axis_iter(Axis(0)).map(|row| row.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(part(&original, 11, 16), part(&corrupted, 11, 16));
        assert!(corrupted.tokens().column(0).iter().all(|&token| token == 0));
        assert_eq!(part(&corrupted, 1, 6), part(&corrupted, 6, 11));
        let (before, after) = (part(&original, 1, 11), part(&corrupted, 1, 11));
        let from = |row: &Vec<u32>| before.iter().position(|other| other == row).unwrap();
        // One circle through all sequences.
        let circle: Vec<usize> =
            std::iter::successors(Some(0), |&at| Some(from(&after[at])).filter(|&next| next != 0)).collect();
        assert_eq!(circle.iter().collect::<BTreeSet<_>>().len(), 7, "{circle:?}");
        assert_ne!(circle, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn one_position_is_changed_to_a_token_that_is_nowhere_else() {
        let original = repeated(60, 5, 2, true, 20);
        let changed = apply(ANYWHERE, &original, 20);
        assert_eq!(changed.repeats(), None);
        let mut places = BTreeSet::new();
        for (sequence, at) in differences(&original, &changed).into_iter().enumerate() {
            let [position] = at[..] else { panic!("{at:?}") };
            let new = changed.tokens()[(sequence, position)];
            assert!(!original.tokens().row(sequence).iter().any(|&token| token == new));
            places.insert(position);
        }
        assert_eq!(places, (1..6).collect());
        let there = apply(Recipe::ChangedPosition { position: Some(8) }, &original, 20);
        assert_eq!(differences(&original, &there), vec![vec![8]; 60]);
        // Without repeats, anywhere behind the start.
        let plain = TokenBatch::new(original.tokens().into_owned(), None).unwrap();
        let places: BTreeSet<usize> = differences(&plain, &apply(ANYWHERE, &plain, 20)).concat().into_iter().collect();
        assert_eq!(places, (1..11).collect());
        // Where all tokens occur, another one.
        let full = TokenBatch::new(Array2::from_shape_fn((40, 3), |(_, position)| position as u32), None).unwrap();
        let changed = apply(ANYWHERE, &full, 3);
        assert!(differences(&full, &changed).iter().all(|at| at.len() == 1));
        // The start token is drawn only where nothing else is left.
        assert!(changed.tokens().slice(s![.., 1..]).iter().all(|&token| token > 0));
        let binary = TokenBatch::new(array![[0, 1, 1], [0, 1, 1]], None).unwrap();
        assert!(differences(&binary, &apply(ANYWHERE, &binary, 2)).iter().all(|at| at.len() == 1));
    }

    #[test]
    fn more_sequences_leave_the_first_ones_alone() {
        let (few, many) = (repeated(3, 6, 2, true, 30), repeated(8, 6, 2, true, 30));
        for recipe in [Recipe::OtherTokens, ANYWHERE] {
            let (few, many) = (apply(recipe, &few, 30), apply(recipe, &many, 30));
            assert_eq!(few.tokens(), many.tokens().slice(s![..3, ..]));
            assert_ne!(few.tokens().row(0), few.tokens().row(1));
        }
    }

    #[test]
    fn a_single_period_stays_one() {
        let original = repeated(3, 6, 1, true, 30);
        for recipe in [Recipe::OtherTokens, ANYWHERE] {
            assert_eq!(apply(recipe, &original, 30).repeats(), original.repeats());
        }
    }

    #[test]
    fn corrupted_of_corrupted_is_corrupted() {
        let original = repeated(3, 6, 2, true, 30);
        let once = apply(Recipe::OtherTokens, &original, 30);
        let twice = apply(ANYWHERE, &once, 30);
        assert!(differences(&once, &twice).iter().all(|at| at.len() == 1 && at[0] > 0));
        assert!(
            error(Recipe::SwappedRepeats, &once, 30)
                .starts_with("recipe: `swapped_repeats` needs an input that is known to repeat")
        );
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let single = TokenBatch::new(array![[5], [3]], None).unwrap();
        let (once, alone) = (repeated(2, 4, 1, true, 9), repeated(1, 4, 2, true, 9));
        assert!(error(Recipe::OtherTokens, &single, 9).contains("nothing behind it"));
        assert!(error(ANYWHERE, &single, 9).contains("nothing behind it"));
        assert_eq!(differences(&single, &apply(Recipe::ChangedPosition { position: Some(0) }, &single, 9)), [[0], [0]]);
        assert!(error(Recipe::SwappedRepeats, &once, 9).contains("once only"));
        assert!(error(Recipe::SwappedRepeats, &alone, 9).contains("two sequences"));
        let beyond = error(Recipe::ChangedPosition { position: Some(9) }, &alone, 9);
        assert!(beyond.starts_with("position: there is no position 9: the input is 9 tokens long"), "{beyond}");
        let largest = *once.tokens().iter().max().unwrap() as usize;
        assert!(error(Recipe::OtherTokens, &once, largest).contains(&format!("at least {}", largest + 1)));
    }

    #[test]
    fn the_smallest_vocabulary_leaves_something_to_draw() {
        let repeats = |start| Some(Repeats { start, period: 1, count: 3 - start });
        for (recipe, known, expected) in [
            (Recipe::OtherTokens, None, 2),
            (Recipe::OtherTokens, repeats(0), 1),
            (Recipe::OtherTokens, repeats(1), 2),
            (Recipe::SwappedRepeats, repeats(0), 1),
            (ANYWHERE, None, 2),
            (ANYWHERE, repeats(0), 2),
            (Recipe::ChangedPosition { position: Some(0) }, repeats(1), 2),
        ] {
            let zeros = TokenBatch::new(Array2::zeros((2, 3)), known).unwrap();
            let shape = InputShape::of(&zeros);
            assert_eq!(recipe.shape(&shape).unwrap().min_vocab, expected, "{recipe:?} {known:?}");
            assert_eq!(recipe.shape(&InputShape { min_vocab: 7, max_vocab: Some(9), ..shape }).unwrap().min_vocab, 7);
            apply(recipe, &zeros, expected);
        }
    }

    proptest! {
        /// The shape is that of the tokens, and the smallest vocabulary is enough.
        #[test]
        fn shapes_and_vocabularies_are_right(
            rows in prop::collection::vec(prop::collection::vec(0_i64..4, 2..6), 1..5),
            period in prop::option::of(1_usize..4),
            position in prop::option::of(0_usize..7),
            which in 0..3_usize,
            seed in any::<u64>(),
        ) {
            let length = rows[0].len();
            let place = |i: usize| period.map_or(i, |period| if i == 0 { 0 } else { 1 + (i - 1) % period });
            let rows: Vec<Vec<i64>> =
                rows.iter().map(|row| (0..length).map(|i| row[place(i) % row.len()]).collect()).collect();
            let kind: Tokens = serde_json::from_value(json!({ "tokens": rows, "period": period })).unwrap();
            let Ok(original) = kind.shape(Path::new("."), None) else { return Ok(()) };
            let tokens = Array2::from_shape_fn((rows.len(), length), |(i, j)| rows[i][j] as u32);
            let batch = TokenBatch::new(tokens, original.repeats).unwrap();
            let recipe = [Recipe::OtherTokens, Recipe::SwappedRepeats, Recipe::ChangedPosition { position }][which];
            let Ok(shape) = recipe.shape(&original) else {
                prop_assert!(recipe.apply(&batch, 99, &Stream::new(seed)).is_err());
                return Ok(());
            };
            prop_assert!(recipe.apply(&batch, shape.min_vocab - 1, &Stream::new(seed)).is_err());
            for d_vocab in [shape.min_vocab, shape.min_vocab + 3] {
                let corrupted = recipe.apply(&batch, d_vocab, &Stream::new(seed)).unwrap();
                prop_assert_eq!(corrupted.tokens().dim(), (shape.sequences, shape.length));
                prop_assert_eq!(corrupted.repeats(), shape.repeats);
                prop_assert!(corrupted.tokens().iter().all(|&token| (token as usize) < d_vocab));
                if let Recipe::ChangedPosition { .. } = recipe {
                    prop_assert!(differences(&batch, &corrupted).iter().all(|at| at.len() == 1));
                }
            }
        }
    }
}
