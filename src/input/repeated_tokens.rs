//! Random tokens, repeated: what induction heads are made for.

use super::{InputContext, InputKind, InputShape, Repeats, TokenBatch};
use crate::kind::Described;
use crate::{Error, Result};
use ndarray::Array2;
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::index;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// Random sequences that repeat: a start token, then a period of random tokens several times.
///
/// Every sequence has a random stream of its own: more sequences leave the first ones as they are.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepeatedTokens {
    /// Number of sequences.
    #[schemars(range(min = 1))]
    pub sequences: usize,
    /// Tokens in a period.
    #[schemars(range(min = 1))]
    pub period: usize,
    /// How often the period stands there in all; 1 is a random sequence without repeats.
    #[schemars(range(min = 1))]
    pub repeats: usize,
    /// Begin with token 0, which then occurs nowhere else. Default: true.
    #[serde(default = "yes")]
    pub start: bool,
    /// Draw the tokens of a period without replacement, so that each has one earlier copy in each earlier period. Default:
    /// true.
    #[serde(default = "yes")]
    pub distinct: bool,
}

fn yes() -> bool {
    true
}

impl Described for RepeatedTokens {
    const NAME: &'static str = "repeated_tokens";
    const EXAMPLE: &'static str = "\
repeated: { kind: repeated_tokens, sequences: 64, period: 20, repeats: 3 }
";
}

impl RepeatedTokens {
    fn input_shape(&self) -> Result<InputShape> {
        let RepeatedTokens { sequences, period, repeats, .. } = *self;
        for (name, value) in [("sequences", sequences), ("period", period), ("repeats", repeats)] {
            if value == 0 {
                return Err(Error::parameter(name, format!("{name} must be at least 1")));
            }
        }
        let start = usize::from(self.start);
        // Tokens are held as `u32` in one allocation: with as many bytes as can be addressed, no later sum overflows.
        let length = period.checked_mul(repeats).and_then(|tokens| tokens.checked_add(start));
        let total = length.and_then(|length| length.checked_mul(sequences)).filter(|&total| total <= isize::MAX as usize / 4);
        let (Some(length), Some(_)) = (length, total) else {
            let text = format!("{sequences} sequences of {repeats} times {period} tokens are more than can be addressed");
            return Err(Error::invalid(text));
        };
        let min_vocab = start + if self.distinct { period } else { 1 };
        let repeats = Some(Repeats { start, period, count: repeats });
        Ok(InputShape { sequences, length, repeats, min_vocab, max_vocab: None })
    }

    /// The tokens of one period.
    fn draw(&self, d_vocab: usize, mut rng: impl Rng) -> Vec<u32> {
        let start = usize::from(self.start);
        let choices = d_vocab.min(u32::MAX as usize) - start;
        let token = |index: usize| (start + index) as u32;
        if self.distinct {
            index::sample(&mut rng, choices, self.period).into_iter().map(token).collect()
        } else {
            (0..self.period).map(|_| token(rng.random_range(0..choices as u32) as usize)).collect()
        }
    }
}

impl InputKind for RepeatedTokens {
    fn shape(&self, _: &Path, _: Option<&InputShape>) -> Result<InputShape> {
        self.input_shape()
    }

    fn build(&self, context: &InputContext) -> Result<TokenBatch> {
        let shape = self.input_shape()?;
        shape.check_vocab(context.d_vocab)?;
        let start = usize::from(self.start);
        let mut tokens = Array2::zeros((shape.sequences, shape.length));
        for (sequence, mut row) in tokens.rows_mut().into_iter().enumerate() {
            let period = self.draw(context.d_vocab, context.stream.rng(format!("sequence {sequence}")));
            for (place, &token) in row.iter_mut().skip(start).zip(period.iter().cycle()) {
                *place = token;
            }
        }
        TokenBatch::new(tokens, shape.repeats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use ndarray::s;
    use std::collections::BTreeSet;

    fn kind(sequences: usize, period: usize, repeats: usize) -> RepeatedTokens {
        RepeatedTokens { sequences, period, repeats, start: true, distinct: true }
    }

    fn build(kind: &RepeatedTokens, d_vocab: usize) -> Result<TokenBatch> {
        kind.build(&InputContext { base: Path::new("."), stream: Stream::new(3).child("repeated"), d_vocab, original: None })
    }

    #[test]
    fn periods_are_distinct_and_leave_out_the_start_token() {
        let kind = kind(50, 20, 3);
        let batch = build(&kind, 25).unwrap();
        let shape = kind.shape(Path::new("."), None).unwrap();
        assert_eq!((batch.sequences(), batch.length(), batch.repeats()), (shape.sequences, shape.length, shape.repeats));
        assert_eq!(batch.length(), 61);
        let mut seen = BTreeSet::new();
        for row in batch.tokens().rows() {
            assert_eq!(row[0], 0);
            let period = row.slice(s![1..21]).iter().copied().collect::<BTreeSet<_>>();
            assert_eq!(period.len(), 20, "{row}");
            seen.extend(period);
        }
        assert_eq!(seen, (1..25).collect());
    }

    #[test]
    fn without_start_token_every_token_is_drawn() {
        for distinct in [true, false] {
            let kind = RepeatedTokens { start: false, distinct, ..kind(200, 4, 2) };
            let batch = build(&kind, 6).unwrap();
            assert_eq!(batch.length(), 8);
            assert_eq!(batch.tokens().iter().copied().collect::<BTreeSet<_>>(), (0..6).collect());
        }
    }

    #[test]
    fn with_replacement_tokens_recur_and_the_start_token_does_not() {
        let batch = build(&RepeatedTokens { distinct: false, ..kind(30, 20, 1) }, 8).unwrap();
        assert_eq!(batch.tokens().slice(s![.., 1..]).iter().copied().collect::<BTreeSet<_>>(), (1..8).collect());
    }

    #[test]
    fn more_sequences_leave_the_first_ones_alone() {
        let (few, many) = (build(&kind(3, 10, 2), 40).unwrap(), build(&kind(9, 10, 2), 40).unwrap());
        assert_eq!(few.tokens(), many.tokens().slice(s![..3, ..]));
        assert_ne!(many.tokens().row(0), many.tokens().row(1));
        let longer = build(&kind(3, 10, 3), 40).unwrap();
        assert_eq!(few.tokens(), longer.tokens().slice(s![.., ..21]));
    }

    #[test]
    fn the_smallest_vocabulary_is_exact() {
        for (start, distinct, expected) in [(true, true, 8), (false, true, 7), (true, false, 2), (false, false, 1)] {
            let kind = RepeatedTokens { start, distinct, ..kind(2, 7, 2) };
            assert_eq!(kind.shape(Path::new("."), None).unwrap().min_vocab, expected);
            assert!(build(&kind, expected).is_ok());
            let error = build(&kind, expected - 1).unwrap_err().to_string();
            assert!(
                error.contains(&format!("at least {expected}")) && error.contains(&format!("of {}", expected - 1)),
                "{error}"
            );
        }
    }

    #[test]
    fn no_number_overflows() {
        let huge = usize::MAX;
        for kind in [kind(huge, 2, 2), kind(2, huge, 2), kind(2, 2, huge), kind(1, huge, 1), kind(huge, 1, 1), kind(0, 1, 1)] {
            assert!(kind.shape(Path::new("."), None).is_err(), "{kind:?}");
        }
    }
}
