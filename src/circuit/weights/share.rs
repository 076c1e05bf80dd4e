//! How much of a circuit's eigenvalues is positive.

use crate::linalg::Complex;

/// `Σ Re λ / Σ |λ|`, in `[−1, 1]`: how much a circuit maps things to themselves; `None` if there is nothing but zeros.
///
/// Of a full OV circuit it is the copying score, of a K-composition term over tokens the matching score (Elhage et al. 2021,
/// "Copying matrices and eigenvalues").
///
/// ```
/// use attn_circuits::circuit::weights::positive_share;
/// use attn_circuits::linalg::Complex;
/// let share = |values: &[(f64, f64)]| positive_share(&values.iter().map(|&(re, im)| Complex::new(re, im)).collect::<Vec<_>>());
/// assert_eq!(share(&[(2.0, 0.0), (1.0, 0.0)]), Some(1.0));
/// // A rotation by a right angle maps nothing to itself.
/// assert_eq!(share(&[(0.0, 1.0), (0.0, -1.0)]), Some(0.0));
/// // (3 − 1) / (5 + 1)
/// assert_eq!(share(&[(3.0, 4.0), (-1.0, 0.0)]), Some(1.0 / 3.0));
/// assert_eq!(share(&[(0.0, 0.0)]), None);
/// ```
pub fn positive_share(eigenvalues: &[Complex]) -> Option<f64> {
    // In parts of a power of two near the largest: no sum overflows, and no digit is rounded otherwise than without it.
    let largest = eigenvalues.iter().fold(0.0, |largest: f64, value| largest.max(value.re.abs()).max(value.im.abs()));
    let unit = f64::powi(2.0, -(largest.log2() as i32).clamp(-1000, 1000));
    let size: f64 = eigenvalues.iter().map(|value| (value * unit).norm()).sum();
    (size > 0.0).then(|| eigenvalues.iter().map(|value| value.re * unit).sum::<f64>() / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_positive_share_does_not_depend_on_the_unit() {
        let share = |unit: f64| positive_share(&[(3.0, 4.0), (-1.0, 0.0)].map(|(re, im)| Complex::new(re * unit, im * unit)));
        // The least that keeps all digits, and the greatest that does not overflow.
        for unit in [1.0, f64::MIN_POSITIVE, f64::MAX / 4.0] {
            assert!((share(unit).unwrap() - 2.0 / 6.0).abs() < 1e-15, "{unit}");
        }
        assert_eq!(share(0.0), None);
        assert_eq!(positive_share(&[]), None);
        assert_eq!(positive_share(&[Complex::new(5e-324, 0.0)]), Some(1.0));
    }
}
