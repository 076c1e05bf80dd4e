//! Bigram chains (first-order Markov chains over tokens): a language of which everything is known.
//!
//! The next token depends on the present one alone. So a model without layers can be the chain exactly, and no model of any size
//! loses less than the chain's entropy rate. An input of kind `markov` draws from a chain, a model of kind `bigram` is one.
//!
//! ```
//! use attn_circuits::chain::ChainKind;
//! use attn_circuits::stream::Stream;
//!
//! // `name: main` and full rank, as without these parameters in a file.
//! let chain = ChainKind { sharpness: 2.0, ..ChainKind::default() }.draw(12, &Stream::new(0))?;
//! // What a perfect model loses, one that knows frequencies alone, and one that guesses.
//! let (perfect, frequencies, guess) = (chain.entropy_rate(), chain.unigram_entropy(), 12f64.ln());
//! assert!(perfect < frequencies && frequencies < guess);
//! // The perfect model is a table `[V, V]`: a transformer without layers whose `W_E W_U` is ln p.
//! assert!((chain.mean_loss(chain.log_probabilities()) - perfect).abs() < 1e-12);
//! # Ok::<(), attn_circuits::Error>(())
//! ```

mod sampler;

pub use sampler::Sampler;
pub(crate) use sampler::draw;

use crate::linalg::{gaussian, log_softmax, svd};
use crate::stream::Stream;
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::OnceLock;

/// The table of a larger chain would be slow to decompose, and large: 4096² numbers are 128 MiB.
pub(crate) const MOST_TOKENS: usize = 4096;
/// Beyond this, probabilities would round to 0, and a chain of positive numbers would fall apart.
const SHARPEST: f64 = 20.0;

fn one() -> f64 {
    1.0
}

fn main_name() -> String {
    "main".to_string()
}

/// A bigram chain: which token follows which, and how often.
///
/// Chains of the same name, sharpness and rank are the same in the whole experiment, for as many tokens as the model has: give an
/// input and a model the same `chain:`. ln p(b | a) is `sharpness` · `G[a, b]`, up to what makes each row sum to 1. `G` is drawn
/// from the name: independent standard normal numbers, or with `rank: r` the product of two such matrices over √r.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainKind {
    /// Which chain. Default: `main`.
    #[serde(default = "main_name")]
    pub name: String,
    /// How far the chain is from tokens that are all equally likely (0). Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 20.0))]
    pub sharpness: f64,
    /// The rank of `G`: so many numbers for each token are enough to know what follows it. Default: the number of tokens.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub rank: Option<usize>,
}

impl Default for ChainKind {
    fn default() -> Self {
        Self { name: main_name(), sharpness: one(), rank: None }
    }
}

impl ChainKind {
    /// Checks the parameters, for a number of tokens `V` if that is known already. Paths of errors start with `chain`.
    ///
    /// ```
    /// use attn_circuits::Error;
    /// use attn_circuits::chain::ChainKind;
    ///
    /// let chain = ChainKind { rank: Some(5), ..ChainKind::default() };
    /// assert!(chain.check(None).is_ok() && chain.check(Some(5)).is_ok());
    /// assert!(matches!(chain.check(Some(4)), Err(Error::Parameter { path, .. }) if path == "chain.rank"));
    /// assert!(matches!(chain.check(Some(0)), Err(Error::Invalid(_))));
    /// let sharp = ChainKind { sharpness: 21.0, ..ChainKind::default() };
    /// assert!(matches!(sharp.check(None), Err(Error::Parameter { path, .. }) if path == "chain.sharpness"));
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] if the sharpness is not between 0 and 20, or the rank 0 or more than `V`; [`Error::Invalid`] if `V`
    /// is 0 or more than 4096.
    pub fn check(&self, tokens: Option<usize>) -> Result<()> {
        if !(0.0..=SHARPEST).contains(&self.sharpness) {
            let text = format!("the sharpness of a chain lies between 0 and {SHARPEST}, and is {}", self.sharpness);
            return Err(Error::parameter("chain.sharpness", text));
        }
        if self.rank == Some(0) {
            return Err(Error::parameter("chain.rank", "the rank of a chain must be at least 1"));
        }
        match tokens {
            Some(tokens) if tokens == 0 || tokens > MOST_TOKENS => {
                Err(Error::invalid(format!("a chain has from 1 to {MOST_TOKENS} tokens, not {tokens}")))
            }
            Some(tokens) if self.rank.is_some_and(|rank| rank > tokens) => {
                let text =
                    format!("a chain of {tokens} tokens has at most rank {tokens}: leave `rank` out, or make it smaller");
                Err(Error::parameter("chain.rank", text))
            }
            _ => Ok(()),
        }
    }

    /// Draws the chain over the tokens `0..V`, `tokens` of them. Any stream of the experiment will do: the chain hangs on the
    /// root, its own name and `V`.
    ///
    /// ```
    /// use attn_circuits::chain::ChainKind;
    /// use attn_circuits::stream::Stream;
    ///
    /// let (kind, root) = (ChainKind::default(), Stream::new(2021));
    /// // The input and the model of one experiment have the same chain.
    /// assert_eq!(kind.draw(9, &root.child("inputs"))?, kind.draw(9, &root.child("models"))?);
    /// // Another name is another chain; sharpness 0 makes all tokens equally likely.
    /// let other = ChainKind { name: "other".into(), ..ChainKind::default() };
    /// assert_ne!(kind.draw(9, &root)?, other.draw(9, &root)?);
    /// let flat = ChainKind { sharpness: 0.0, ..ChainKind::default() }.draw(9, &root)?;
    /// assert!(flat.log_probabilities().iter().all(|p| (p + 9f64.ln()).abs() < 1e-12));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`ChainKind::check`].
    pub fn draw(&self, tokens: usize, stream: &Stream) -> Result<Chain> {
        self.check(Some(tokens))?;
        let stream = stream.root().child("chains").child(&self.name);
        let normal = |name: &str, rows, columns| gaussian(rows, columns, &mut stream.rng(format!("{name} of {tokens} tokens")));
        let table = match self.rank {
            None => normal("all pairs", tokens, tokens),
            Some(rank) => normal("present", tokens, rank).dot(&normal("next", rank, tokens)) / (rank as f64).sqrt(),
        };
        Ok(Chain::new(table * self.sharpness))
    }
}

/// A bigram chain over the tokens `0..V`: every token can follow every other.
///
/// ```
/// use attn_circuits::chain::ChainKind;
/// use attn_circuits::stream::Stream;
/// let chain = ChainKind::default().draw(7, &Stream::new(0))?;
/// assert_eq!((chain.tokens(), chain.log_probabilities().dim()), (7, (7, 7)));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chain {
    /// `ln p(b | a)`, `[V, V]`: rows the present token.
    log_p: Array2<f64>,
    /// See [`Chain::stationary`]; it takes of the order of V³ steps, and follows from `log_p`.
    stationary: OnceLock<Array1<f64>>,
}

impl PartialEq for Chain {
    fn eq(&self, other: &Self) -> bool {
        self.log_p == other.log_p
    }
}

/// The logarithm of the softmax of each row.
fn log_softmax_rows(mut table: Array2<f64>) -> Array2<f64> {
    for mut row in table.rows_mut() {
        let logs = log_softmax(row.view());
        row.assign(&logs);
    }
    table
}

impl Chain {
    /// The chain in which `b` follows `a` with a probability proportional to `exp(table[a, b])`.
    fn new(table: Array2<f64>) -> Self {
        Self { log_p: log_softmax_rows(table), stationary: OnceLock::new() }
    }

    /// `V`.
    pub fn tokens(&self) -> usize {
        self.log_p.nrows()
    }

    /// `ln p(b | a)`, `[V, V]`, row `a` the present token, column `b` the next.
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// let chain = ChainKind::default().draw(7, &Stream::new(0))?;
    /// for row in chain.log_probabilities().rows() {
    ///     assert!((row.mapv(f64::exp).sum() - 1.0).abs() < 1e-12);
    /// }
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn log_probabilities(&self) -> ArrayView2<'_, f64> {
        self.log_p.view()
    }

    /// The share of each token in an endless text, `[V]`: the distribution π with `π P = π`.
    ///
    /// By the elimination of Grassmann, Taksar and Heyman (1985), which subtracts nothing: every share is right to a few digits
    /// less than all, however small it is, and however slowly the chain mixes. Takes of the order of V³ steps, once.
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// let chain = ChainKind { sharpness: 3.0, ..ChainKind::default() }.draw(7, &Stream::new(0))?;
    /// let share = chain.stationary();
    /// let next = share.dot(&chain.log_probabilities().mapv(f64::exp));
    /// assert!((share.sum() - 1.0).abs() < 1e-12);
    /// assert!(share.iter().zip(&next).all(|(here, there)| (here - there).abs() < 1e-12));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn stationary(&self) -> &Array1<f64> {
        self.stationary.get_or_init(|| self.find_stationary())
    }

    fn find_stationary(&self) -> Array1<f64> {
        let mut p = self.log_p.mapv(f64::exp);
        let tokens = self.tokens();
        // What flows through the last token is led past it; then it is left out.
        for last in (1..tokens).rev() {
            let out: f64 = p.slice(s![last, ..last]).sum();
            let column = p.slice(s![..last, last]).mapv(|value| value / out);
            p.slice_mut(s![..last, last]).assign(&column);
            let row = p.slice(s![last, ..last]).to_owned();
            for (from, &weight) in column.iter().enumerate() {
                p.slice_mut(s![from, ..last]).scaled_add(weight, &row);
            }
        }
        let mut share = Array1::<f64>::ones(tokens);
        for token in 1..tokens {
            share[token] = share.slice(s![..token]).dot(&p.slice(s![..token, token]));
        }
        let total = share.sum();
        share / total
    }

    /// Mean entropy of the next token in an endless text, `−Σ π_a p(b | a) ln p(b | a)`, in nats: the loss of a perfect model
    /// (Shannon 1948; ln V where all tokens are equally likely).
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// let flat = ChainKind { sharpness: 0.0, ..ChainKind::default() }.draw(7, &Stream::new(0))?;
    /// assert!((flat.entropy_rate() - 7f64.ln()).abs() < 1e-12);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn entropy_rate(&self) -> f64 {
        self.mean_loss_of(self.log_p.view())
    }

    /// Entropy of the tokens of an endless text, `−Σ π ln π`, in nats: the loss of a model that knows how frequent each token is,
    /// and does not look at the present one.
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// use ndarray::Array2;
    /// let chain = ChainKind { sharpness: 2.0, ..ChainKind::default() }.draw(7, &Stream::new(0))?;
    /// // What is gained by looking at the present token: the mutual information of two neighbours, in nats.
    /// assert!(chain.unigram_entropy() - chain.entropy_rate() > 0.0);
    /// // Such a model has the logits ln π whatever the present token is.
    /// let logits = Array2::from_shape_fn((7, 7), |(_, next)| chain.stationary()[next].ln());
    /// assert!((chain.mean_loss(logits.view()) - chain.unigram_entropy()).abs() < 1e-12);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn unigram_entropy(&self) -> f64 {
        -self.stationary().iter().map(|share| share * share.ln()).sum::<f64>()
    }

    /// Mean loss, in nats, in an endless text of the bigram model with these logits, `[V, V]`:
    /// `−Σ π_a p(b | a) ln softmax(logits_a)_b`. It exceeds the entropy rate by the mean Kullback–Leibler divergence of the rows.
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// use ndarray::Array2;
    /// let chain = ChainKind::default().draw(7, &Stream::new(0))?;
    /// // Equal logits lose ln V, whatever the chain; a number added to all logits of a row changes nothing.
    /// assert!((chain.mean_loss(Array2::zeros((7, 7)).view()) - 7f64.ln()).abs() < 1e-12);
    /// let shifted = &chain.log_probabilities() + 100.0;
    /// assert!((chain.mean_loss(shifted.view()) - chain.entropy_rate()).abs() < 1e-9);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the logits are not `[V, V]`.
    pub fn mean_loss(&self, logits: ArrayView2<f64>) -> f64 {
        self.mean_loss_of(log_softmax_rows(logits.to_owned()).view())
    }

    /// [`Chain::mean_loss`] from `ln softmax`.
    fn mean_loss_of(&self, log_q: ArrayView2<f64>) -> f64 {
        let rows = (&self.log_p.mapv(f64::exp) * &log_q).sum_axis(Axis(1));
        -self.stationary().dot(&rows)
    }

    /// Two factors of the chain's table, `[V, width]` and `[width, V]`: of all products of that inner size the one nearest in
    /// mean square to ln p(b | a) with each row's mean taken off (Eckart and Young 1936). They are the largest terms of its
    /// singular value decomposition, the root of a singular value on either side; what is wider than V is zero.
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// // A chain of rank 2: two numbers for each token are enough.
    /// let chain = ChainKind { rank: Some(2), ..ChainKind::default() }.draw(9, &Stream::new(0))?;
    /// let (w_e, w_u) = chain.factors(2)?;
    /// assert_eq!((w_e.dim(), w_u.dim()), ((9, 2), (2, 9)));
    /// assert!((chain.mean_loss(w_e.dot(&w_u).view()) - chain.entropy_rate()).abs() < 1e-9);
    ///
    /// let (w_e, w_u) = chain.factors(1)?;
    /// assert!(chain.mean_loss(w_e.dot(&w_u).view()) > chain.entropy_rate());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the decomposition does not converge.
    pub fn factors(&self, width: usize) -> Result<(Array2<f64>, Array2<f64>)> {
        let means = self.log_p.mean_axis(Axis(1)).expect("a chain has tokens").insert_axis(Axis(1));
        let terms = svd((&self.log_p - &means).view())?;
        let mut present = Array2::zeros((self.tokens(), width));
        let mut next = Array2::zeros((width, self.tokens()));
        for (index, value) in terms.s.iter().enumerate().take(width) {
            present.column_mut(index).assign(&(&terms.u.column(index) * value.sqrt()));
            next.row_mut(index).assign(&(&terms.v.column(index) * value.sqrt()));
        }
        Ok((present, next))
    }

    /// How sequences are drawn.
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// let stream = Stream::new(0);
    /// let chain = ChainKind { sharpness: 2.0, ..ChainKind::default() }.draw(4, &stream)?;
    /// let (sampler, mut rng) = (chain.sampler(), stream.rng("text"));
    /// let (mut token, mut counts) = (0, [0; 4]);
    /// for _ in 0..20_000 {
    ///     token = sampler.next(token, &mut rng);
    ///     counts[token] += 1;
    /// }
    /// // In a long text each token has its share.
    /// assert!(counts.iter().zip(chain.stationary()).all(|(&count, share)| (f64::from(count) / 20_000.0 - share).abs() < 0.03));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn sampler(&self) -> Sampler {
        Sampler::new(self.log_p.mapv(f64::exp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use ndarray::array;

    fn chain(sharpness: f64, rank: Option<usize>, tokens: usize) -> Chain {
        ChainKind { sharpness, rank, ..ChainKind::default() }.draw(tokens, &Stream::new(5)).unwrap()
    }

    #[test]
    fn rows_are_distributions_whose_logarithms_spread_as_asked() {
        let chain = chain(2.0, None, 60);
        for row in chain.log_probabilities().rows() {
            assert_abs_diff_eq!(row.mapv(f64::exp).sum(), 1.0, epsilon = 1e-12);
        }
        let spread = chain.log_probabilities().map_axis(Axis(1), |row| row.std(1.0)).mean().unwrap();
        assert_abs_diff_eq!(spread, 2.0, epsilon = 0.1);
        let spread = self::chain(2.0, Some(20), 60).log_probabilities().map_axis(Axis(1), |row| row.std(1.0)).mean().unwrap();
        assert_abs_diff_eq!(spread, 2.0, epsilon = 0.3);
    }

    #[test]
    fn a_chain_of_two_tokens_is_solved_by_hand() {
        // p(1 | 0) = 0.2, p(0 | 1) = 0.4: the shares are as 0.4 to 0.2.
        let chain = Chain::new(array![[0.8f64.ln(), 0.2f64.ln()], [0.4f64.ln(), 0.6f64.ln()]]);
        let share = chain.stationary();
        assert_abs_diff_eq!(share[0], 2.0 / 3.0, epsilon = 1e-15);
        let entropy = |p: f64| -p * p.ln() - (1.0 - p) * (1.0 - p).ln();
        assert_abs_diff_eq!(chain.entropy_rate(), 2.0 / 3.0 * entropy(0.2) + entropy(0.4) / 3.0, epsilon = 1e-15);
        assert_abs_diff_eq!(chain.unigram_entropy(), entropy(1.0 / 3.0), epsilon = 1e-15);
        // A model that takes both for equally likely loses ln 2 whatever the chain is.
        assert_abs_diff_eq!(chain.mean_loss(array![[3.0, 3.0], [-1.0, -1.0]].view()), 2f64.ln(), epsilon = 1e-15);
    }

    #[test]
    fn the_stationary_distribution_stays() {
        for (sharpness, rank, tokens) in
            [(0.0, None, 5), (1.0, None, 1), (3.0, Some(2), 40), (20.0, None, 30), (20.0, Some(1), 50)]
        {
            let chain = chain(sharpness, rank, tokens);
            let share = chain.stationary();
            let next = share.dot(&chain.log_probabilities().mapv(f64::exp));
            for (here, there) in share.iter().zip(&next) {
                assert!(*here > 0.0 && (here / there - 1.0).abs() < 1e-10, "{sharpness} {rank:?}: {here} became {there}");
            }
            assert!(chain.entropy_rate() <= chain.unigram_entropy() + 1e-12);
        }
    }

    /// The loss of the chain itself on its own text is the entropy rate, and shares of tokens are the stationary ones.
    #[test]
    fn simulation_agrees_with_entropy_and_shares() {
        let chain = chain(1.5, Some(6), 20);
        let (sampler, mut rng) = (chain.sampler(), Stream::new(3).rng("text"));
        let (draws, mut token) = (200_000, 0);
        let (mut loss, mut square, mut seen) = (0.0, 0.0, Array1::<f64>::zeros(20));
        for _ in 0..draws {
            let next = sampler.next(token, &mut rng);
            let this = -chain.log_probabilities()[(token, next)];
            (loss, square) = (loss + this / draws as f64, square + this * this / draws as f64);
            seen[next] += 1.0 / draws as f64;
            token = next;
        }
        let error = ((square - loss * loss) / draws as f64).sqrt();
        assert_abs_diff_eq!(loss, chain.entropy_rate(), epsilon = 5.0 * error);
        assert!(error < 0.003 && chain.entropy_rate() < 20f64.ln() - 0.3);
        for (seen, share) in seen.iter().zip(chain.stationary()) {
            assert_abs_diff_eq!(seen, share, epsilon = 8.0 * (share / draws as f64).sqrt());
        }
    }

    #[test]
    fn names_tell_chains_apart_and_places_do_not() {
        let kind = |name: &str| ChainKind { name: name.into(), ..ChainKind::default() };
        let root = Stream::new(1);
        let here = kind("a").draw(9, &root.child("models").child("x")).unwrap();
        assert_eq!(here, kind("a").draw(9, &root.child("inputs")).unwrap());
        assert_ne!(here, kind("b").draw(9, &root).unwrap());
        assert_ne!(here, kind("a").draw(9, &Stream::new(2)).unwrap());
        // Twice as sharp is twice as far from equal, row by row.
        let sharp = ChainKind { sharpness: 2.0, ..kind("a") }.draw(9, &root).unwrap();
        let centred = |chain: &Chain| {
            let table = chain.log_probabilities();
            &table - &table.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1))
        };
        assert!((centred(&here) * 2.0 - centred(&sharp)).iter().all(|off| off.abs() < 1e-12));
    }

    #[test]
    fn errors_name_the_parameter() {
        let text = |kind: ChainKind, tokens| kind.check(Some(tokens)).unwrap_err().to_string();
        assert!(text(ChainKind { sharpness: f64::NAN, ..ChainKind::default() }, 5).starts_with("chain.sharpness"));
        assert!(text(ChainKind { sharpness: 21.0, ..ChainKind::default() }, 5).starts_with("chain.sharpness"));
        assert!(text(ChainKind { rank: Some(0), ..ChainKind::default() }, 5).starts_with("chain.rank"));
        assert!(text(ChainKind { rank: Some(6), ..ChainKind::default() }, 5).starts_with("chain.rank"));
        assert!(text(ChainKind::default(), 5000).contains("not 5000"));
        assert!(text(ChainKind::default(), 0).contains("not 0"));
        assert!(ChainKind { rank: Some(6), ..ChainKind::default() }.check(None).is_ok());
    }
}
