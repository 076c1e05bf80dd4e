//! Intervals over sequences: how far a mean would be off if other sequences had been drawn.

use crate::stream::Stream;
use ndarray::{Array2, ArrayView1};
use ndarray_rand::rand::Rng;

/// Draws from the sequences of a batch, with replacement and as many as there are: the same for every mean that is asked for, so that
/// means are compared on the same draws (Efron 1979; percentile intervals). What other sequences have to do with the value of one
/// (by a mean that was put in, or a permutation) is not drawn anew: intervals are over sequences alone, with these as they are.
///
/// ```
/// use attn_circuits::circuit::bootstrap::Bootstrap;
/// use attn_circuits::stream::Stream;
/// use ndarray::array;
/// let bootstrap = Bootstrap::new(4, 1000, 0.95, &Stream::new(1));
/// let (low, high) = bootstrap.interval(array![1.0, 2.0, 3.0, 4.0].view()).expect("several sequences");
/// assert!(1.0 <= low && low < 2.5 && 2.5 < high && high <= 4.0);
/// ```
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// How often each sequence was drawn, `[draws, B]`.
    counts: Array2<f64>,
    level: f64,
}

impl Bootstrap {
    /// Number of draws where nothing else is asked for; see [`Bootstrap::new`].
    pub const DRAWS: usize = 1000;
    /// Probability of an interval where nothing else is asked for; see [`Bootstrap::new`].
    pub const LEVEL: f64 = 0.95;

    /// `draws` draws from `sequences` sequences, for intervals of a probability `level` between 0 and 1. The same stream gives
    /// the same draws. It holds `draws · sequences` numbers.
    ///
    /// ```
    /// use attn_circuits::circuit::bootstrap::Bootstrap;
    /// use attn_circuits::stream::Stream;
    /// use ndarray::Array1;
    /// // Zeros and ones, with a mean and a standard deviation of ½: an interval of 95 % is 2 · 1.96 · ½/√B wide.
    /// let losses = Array1::from_shape_fn(400, |sequence| (sequence % 2) as f64);
    /// let bootstrap = Bootstrap::new(400, Bootstrap::DRAWS, Bootstrap::LEVEL, &Stream::new(1));
    /// let (low, high) = bootstrap.interval(losses.view()).expect("several sequences");
    /// assert!(((high - low) / (1.96 / 20.0) - 1.0).abs() < 0.15);
    /// ```
    pub fn new(sequences: usize, draws: usize, level: f64, stream: &Stream) -> Self {
        let mut rng = stream.rng("bootstrap");
        let mut counts = Array2::zeros((draws, sequences));
        for mut draw in counts.rows_mut() {
            for _ in 0..sequences {
                draw[rng.random_range(0..sequences)] += 1.0;
            }
        }
        Self { counts, level }
    }

    /// The interval that the mean of a value, one for each sequence (`[B]`), falls into with that probability: lower and upper
    /// end, in the unit of the value. `None` with fewer than two sequences, or without draws: nothing is known of the spread
    /// then.
    ///
    /// ```
    /// use attn_circuits::circuit::bootstrap::Bootstrap;
    /// use attn_circuits::stream::Stream;
    /// use ndarray::array;
    /// let bootstrap = Bootstrap::new(3, 100, 0.95, &Stream::new(1));
    /// // Sequences that are alike leave no spread. A shift of all values shifts the interval, on the same draws.
    /// assert_eq!(bootstrap.interval(array![2.0, 2.0, 2.0].view()), Some((2.0, 2.0)));
    /// let ends = bootstrap.interval(array![1.0, 2.0, 6.0].view()).zip(bootstrap.interval(array![5.0, 6.0, 10.0].view()));
    /// assert!(ends.is_some_and(|(a, b)| (b.0 - a.0 - 4.0).abs() < 1e-12 && (b.1 - a.1 - 4.0).abs() < 1e-12));
    /// assert_eq!(Bootstrap::new(1, 100, 0.95, &Stream::new(1)).interval(array![2.0].view()), None);
    /// ```
    ///
    /// # Panics
    /// If there are not as many values as sequences.
    pub fn interval(&self, values: ArrayView1<f64>) -> Option<(f64, f64)> {
        let (draws, sequences) = self.counts.dim();
        if draws == 0 || sequences < 2 {
            return None;
        }
        let mut means = (self.counts.dot(&values) / sequences as f64).to_vec();
        means.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        Some((quantile(&means, tail), quantile(&means, 1.0 - tail)))
    }
}

/// A quantile of sorted numbers, linear between them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, rest) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + rest * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, array};
    use ndarray_rand::RandomExt;
    use ndarray_rand::rand_distr::Normal;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let sorted = [1.0, 2.0, 4.0];
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(&sorted, share)), [1.0, 1.5, 2.0, 3.0, 4.0]);
    }

    /// Of a mean of `n` numbers of variance 1 the interval is about `±1.96/√n` wide.
    #[test]
    fn the_interval_is_as_wide_as_theory_says() {
        let n = 400;
        let stream = Stream::new(5);
        let values = Array1::random_using(n, Normal::new(3.0, 1.0).unwrap(), &mut stream.rng("values"));
        let (low, high) = Bootstrap::new(n, 2000, 0.95, &stream).interval(values.view()).unwrap();
        let half = 1.96 / (n as f64).sqrt();
        let mean = values.mean().unwrap();
        assert!((high - mean - half).abs() < 0.15 * half && (mean - low - half).abs() < 0.15 * half, "{low} {mean} {high}");
    }

    #[test]
    fn one_sequence_has_no_spread_and_equal_ones_have_none() {
        let stream = Stream::new(5);
        assert_eq!(Bootstrap::new(1, 100, 0.95, &stream).interval(array![3.0].view()), None);
        assert_eq!(Bootstrap::new(3, 0, 0.95, &stream).interval(array![3.0, 3.0, 3.0].view()), None);
        assert_eq!(Bootstrap::new(3, 100, 0.95, &stream).interval(array![3.0, 3.0, 3.0].view()), Some((3.0, 3.0)));
    }
}
