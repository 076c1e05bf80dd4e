//! Random matrices.

use super::thin_qr;
use ndarray::Array2;
use ndarray_rand::RandomExt;
use ndarray_rand::rand::Rng;
use ndarray_rand::rand_distr::StandardNormal;

/// Independent standard normal numbers, `[rows, columns]`.
///
/// ```
/// use attn_circuits::linalg::gaussian;
/// use attn_circuits::stream::Stream;
/// let w = gaussian(100, 50, &mut Stream::new(0).rng("W_Q"));
/// assert_eq!(w.dim(), (100, 50));
/// // Mean square 1, give or take √(2/5000) = 0.02.
/// assert!((w.mapv(|value| value * value).sum() / 5000.0 - 1.0).abs() < 0.1);
/// ```
pub fn gaussian(rows: usize, columns: usize, rng: &mut impl Rng) -> Array2<f64> {
    Array2::random_using((rows, columns), StandardNormal, rng)
}

/// Orthonormal columns, `[rows, columns]` with `columns ≤ rows`, distributed evenly over all of them (by Haar's measure).
///
/// The QR decomposition of a Gaussian matrix, with the signs that make the diagonal of R positive: without them the
/// distribution would depend on the sign convention of the algorithm (Mezzadri 2007, "How to generate random matrices from the
/// classical compact groups").
///
/// ```
/// use attn_circuits::linalg::{gaussian, haar};
/// use attn_circuits::stream::Stream;
/// use ndarray::Array2;
/// let stream = Stream::new(0);
/// let rotation = haar(8, 8, &mut stream.rng("rotation"));
/// assert!((rotation.t().dot(&rotation) - Array2::<f64>::eye(8)).iter().all(|value| value.abs() < 1e-12));
/// // A rotation of the stream keeps lengths, and so all that a model computes.
/// let (x, square) = (gaussian(3, 8, &mut stream.rng("x")), |x: &Array2<f64>| x.mapv(|value| value * value).sum());
/// assert!((square(&x.dot(&rotation)) - square(&x)).abs() < 1e-12);
/// ```
pub fn haar(rows: usize, columns: usize, rng: &mut impl Rng) -> Array2<f64> {
    let (q, r) = thin_qr(gaussian(rows, columns, rng).view());
    q * &r.diag().mapv(f64::signum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use approx::assert_abs_diff_eq;

    #[test]
    fn haar_columns_are_orthonormal() {
        for (rows, columns) in [(1, 1), (7, 7), (40, 40), (40, 13)] {
            let q = haar(rows, columns, &mut Stream::new(1).rng("haar"));
            let off = q.t().dot(&q) - Array2::<f64>::eye(columns);
            assert!(off.iter().all(|value| value.abs() < 1e-12), "{rows} × {columns}: {off}");
        }
    }

    /// By Haar's measure every entry has mean 0 and variance 1/n, and the trace has mean 0 and variance 1. An unfixed sign
    /// shows in the first column, whose first entry Householder's algorithm gives always the same sign.
    #[test]
    fn haar_has_the_moments_of_the_uniform_distribution() {
        let (n, draws) = (5, 4000);
        let stream = Stream::new(2);
        let (mut corner, mut square, mut trace, mut trace_square) = (0.0, 0.0, 0.0, 0.0);
        for draw in 0..draws {
            let q = haar(n, n, &mut stream.rng(draw.to_string()));
            let diagonal = q.diag().sum();
            corner += q[(0, 0)] / draws as f64;
            square += q[(0, 0)].powi(2) / draws as f64;
            trace += diagonal / draws as f64;
            trace_square += diagonal * diagonal / draws as f64;
        }
        // Five standard errors each.
        assert_abs_diff_eq!(corner, 0.0, epsilon = 5.0 * (0.2f64 / draws as f64).sqrt());
        assert_abs_diff_eq!(square, 0.2, epsilon = 5.0 * 0.22 / (draws as f64).sqrt());
        assert_abs_diff_eq!(trace, 0.0, epsilon = 5.0 / (draws as f64).sqrt());
        assert_abs_diff_eq!(trace_square, 1.0, epsilon = 5.0 * 1.5 / (draws as f64).sqrt());
    }
}
