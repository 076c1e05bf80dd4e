//! Texts of a chain.

use ndarray::{Array2, Axis};
use ndarray_rand::rand::Rng;

/// Draws what follows.
#[derive(Clone, Debug)]
pub struct Sampler {
    /// `p(≤ b | a)`, `[V, V]`.
    cumulative: Array2<f64>,
}

impl Sampler {
    /// From `p(b | a)`, `[V, V]`.
    pub(super) fn new(mut probabilities: Array2<f64>) -> Self {
        probabilities.accumulate_axis_inplace(Axis(1), |&before, here| *here += before);
        Self { cumulative: probabilities }
    }

    /// A token that follows `token`, drawn with the probabilities of the chain: one number of `rng` for each.
    ///
    /// ```
    /// # use attn_circuits::chain::ChainKind;
    /// # use attn_circuits::stream::Stream;
    /// let stream = Stream::new(0);
    /// let sampler = ChainKind::default().draw(4, &stream)?.sampler();
    /// let text = |name: &str| {
    ///     let (mut token, mut rng) = (0, stream.rng(name));
    ///     [(); 20].map(|()| {
    ///         token = sampler.next(token, &mut rng);
    ///         token
    ///     })
    /// };
    /// assert!(text("sequence 0").iter().all(|&token| token < 4));
    /// assert_eq!(text("sequence 0"), text("sequence 0"));
    /// assert_ne!(text("sequence 0"), text("sequence 1"));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the chain has no such token.
    pub fn next(&self, token: usize, rng: &mut impl Rng) -> usize {
        let row = self.cumulative.row(token);
        let row = row.as_slice().expect("rows of an owned array are contiguous");
        draw(row, rng)
    }
}

/// An index, by the sums of the probabilities up to each.
pub(crate) fn draw(cumulative: &[f64], rng: &mut impl Rng) -> usize {
    // The last sum differs from 1 by rounding: it is what a share of 1 stands for.
    let end = cumulative.last().copied().unwrap_or_default();
    let at = rng.random::<f64>() * end;
    cumulative.partition_point(|&sum| sum <= at).min(cumulative.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_within_the_tokens() {
        struct Fixed(u64);
        impl ndarray_rand::rand::RngCore for Fixed {
            fn next_u32(&mut self) -> u32 {
                self.0 as u32
            }
            fn next_u64(&mut self) -> u64 {
                self.0
            }
            fn fill_bytes(&mut self, bytes: &mut [u8]) {
                bytes.fill(self.0 as u8);
            }
        }
        // A token of no probability is never drawn, not even by the smallest and the largest number.
        let cumulative = [0.0, 0.25, 0.25, 0.999_999_9, 0.999_999_9];
        assert_eq!(draw(&cumulative, &mut Fixed(0)), 1);
        assert_eq!(draw(&cumulative, &mut Fixed(u64::MAX)), 3);
    }
}
