//! Text of a bigram chain.

use super::{InputContext, InputKind, InputShape, TokenBatch};
use crate::chain::{ChainKind, MOST_TOKENS, draw};
use crate::kind::Described;
use crate::{Error, Result};
use ndarray::Array2;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// Sequences from a bigram chain (a first-order Markov chain): what follows depends on the present token alone.
///
/// The chain has the tokens of the model that reads, at most 4096. A model of kind `bigram` with the same `chain` knows everything
/// that can be known of it. Every sequence has a random stream of its own: more sequences leave the first ones as they are, and
/// longer ones begin as shorter ones do. The text does not depend on anything but the chain and the input's name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Markov {
    /// Number of sequences.
    #[schemars(range(min = 1))]
    pub sequences: usize,
    /// Tokens of each.
    #[schemars(range(min = 1))]
    pub length: usize,
    /// Which chain: a map of `name` (default: `main`), `sharpness` (0 to 20, default: 1) and `rank` (default: the number of tokens).
    /// ln p(b | a) is `sharpness` · `G[a, b]` up to what makes each row sum to 1, with `G` drawn from the name: standard normal
    /// numbers, independent or of that rank.
    #[serde(default)]
    pub chain: ChainKind,
    /// Begin with token 0, which can come again. If not, the first token is drawn from the stationary distribution, and the
    /// expected loss of a perfect model is the chain's entropy rate at every position. Default: true.
    #[serde(default = "yes")]
    pub start: bool,
}

fn yes() -> bool {
    true
}

impl Described for Markov {
    const NAME: &'static str = "markov";
    const EXAMPLE: &'static str = "\
text: { kind: markov, sequences: 64, length: 40, chain: { sharpness: 2 } }
";
}

impl Markov {
    fn input_shape(&self) -> Result<InputShape> {
        let Markov { sequences, length, .. } = *self;
        for (name, value) in [("sequences", sequences), ("length", length)] {
            if value == 0 {
                return Err(Error::parameter(name, format!("{name} must be at least 1")));
            }
        }
        // Tokens are held as `u32` in one allocation.
        if sequences.checked_mul(length).is_none_or(|total| total > isize::MAX as usize / 4) {
            return Err(Error::invalid(format!("{sequences} sequences of {length} tokens are more than can be addressed")));
        }
        self.chain.check(None)?;
        // Tokens are drawn for the model's vocabulary; only a rank asks for so many.
        let (min_vocab, max_vocab) = (self.chain.rank.unwrap_or(1), Some(MOST_TOKENS));
        Ok(InputShape { sequences, length, repeats: None, min_vocab, max_vocab })
    }
}

impl InputKind for Markov {
    fn shape(&self, _: &Path, _: Option<&InputShape>) -> Result<InputShape> {
        self.input_shape()
    }

    fn build(&self, context: &InputContext) -> Result<TokenBatch> {
        let shape = self.input_shape()?;
        shape.check_vocab(context.d_vocab)?;
        let chain = self.chain.draw(context.d_vocab, &context.stream)?;
        let sampler = chain.sampler();
        let first = (!self.start).then(|| {
            let sum = |sum: &mut f64, share: &f64| {
                *sum += share;
                Some(*sum)
            };
            chain.stationary().iter().scan(0.0, sum).collect::<Vec<_>>()
        });
        let mut tokens = Array2::zeros((shape.sequences, shape.length));
        for (sequence, mut row) in tokens.rows_mut().into_iter().enumerate() {
            let mut rng = context.stream.rng(format!("sequence {sequence}"));
            let mut token = first.as_deref().map_or(0, |shares| draw(shares, &mut rng));
            for (position, place) in row.iter_mut().enumerate() {
                if position > 0 {
                    token = sampler.next(token, &mut rng);
                }
                *place = token as u32;
            }
        }
        TokenBatch::new(tokens, None)
    }

    /// The chain, what is drawn from, and the copy in which the stationary distribution is found.
    fn building_bytes(&self, d_vocab: usize) -> usize {
        d_vocab.saturating_mul(d_vocab).saturating_mul(3 * size_of::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use approx::assert_abs_diff_eq;
    use ndarray::s;

    fn kind(sequences: usize, length: usize) -> Markov {
        let chain = ChainKind { sharpness: 2.0, ..ChainKind::default() };
        Markov { sequences, length, chain, start: true }
    }

    fn build(kind: &Markov, d_vocab: usize) -> Result<TokenBatch> {
        kind.build(&InputContext { base: Path::new("."), stream: Stream::new(3).child("text"), d_vocab, original: None })
    }

    #[test]
    fn pairs_are_as_frequent_as_the_chain_says() {
        let kind = kind(400, 100);
        let batch = build(&kind, 6).unwrap();
        let mut count = Array2::<f64>::zeros((6, 6));
        for row in batch.tokens().rows() {
            assert_eq!(row[0], 0);
            for pair in row.windows(2) {
                count[(pair[0] as usize, pair[1] as usize)] += 1.0;
            }
        }
        // As a model of another name would draw it.
        let chain = kind.chain.draw(6, &Stream::new(3).child("models")).unwrap();
        for (row, log_p) in count.rows().into_iter().zip(chain.log_probabilities().rows()) {
            for (&count, log_p) in row.iter().zip(log_p) {
                let p = log_p.exp();
                assert_abs_diff_eq!(count / row.sum(), p, epsilon = 5.0 * (p / row.sum()).sqrt());
            }
        }
    }

    #[test]
    fn a_stationary_start_has_the_stationary_shares() {
        let kind = Markov { start: false, ..kind(20_000, 2) };
        let batch = build(&kind, 5).unwrap();
        let share = kind.chain.draw(5, &Stream::new(3)).unwrap().stationary().clone();
        for position in 0..2 {
            for (token, &share) in share.iter().enumerate() {
                let found = batch.tokens().column(position).iter().filter(|&&t| t as usize == token).count() as f64 / 20_000.0;
                assert_abs_diff_eq!(found, share, epsilon = 5.0 * (share / 20_000.0).sqrt());
            }
        }
    }

    #[test]
    fn more_and_longer_sequences_begin_as_fewer_and_shorter_do() {
        let few = build(&kind(3, 10), 12).unwrap();
        assert_eq!(few.tokens(), build(&kind(7, 15), 12).unwrap().tokens().slice(s![..3, ..10]));
        assert_ne!(few.tokens().row(0), few.tokens().row(1));
    }

    /// The text is drawn apart from the chain: inputs of two names have other text of the same chain.
    #[test]
    fn text_is_independent_of_the_chain() {
        let kind = kind(2, 30);
        let context =
            |name: &str| InputContext { base: Path::new("."), stream: Stream::new(3).child(name), d_vocab: 12, original: None };
        let (a, b) = (kind.build(&context("a")).unwrap(), kind.build(&context("b")).unwrap());
        assert_ne!(a.tokens(), b.tokens());
        assert_eq!(a.tokens(), kind.build(&context("a")).unwrap().tokens());
    }

    #[test]
    fn errors_say_what_to_change() {
        let shape = |kind: Markov| kind.shape(Path::new("."), None).map_err(|error| error.to_string());
        assert!(shape(kind(0, 4)).unwrap_err().starts_with("sequences"));
        assert!(shape(kind(4, 0)).unwrap_err().starts_with("length"));
        assert!(shape(kind(usize::MAX, 4)).unwrap_err().contains("more than can be addressed"));
        let ranked = Markov { chain: ChainKind { rank: Some(9), ..ChainKind::default() }, ..kind(2, 4) };
        assert_eq!(shape(ranked.clone()).unwrap().min_vocab, 9);
        assert_eq!(shape(ranked.clone()).unwrap().max_vocab, Some(4096));
        assert!(build(&ranked, 8).unwrap_err().to_string().contains("at least 9"));
        let blunt = Markov { chain: ChainKind { sharpness: -1.0, ..ChainKind::default() }, ..kind(2, 4) };
        assert!(shape(blunt).unwrap_err().starts_with("chain.sharpness"));
        assert!(build(&kind(1, 1), 1).is_ok());
        assert!(build(&kind(1, 1), 4097).unwrap_err().to_string().contains("at most 4096"));
    }
}
