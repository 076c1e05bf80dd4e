//! Sums over a row of logits: of all that a loss needs, these touch every number, so they are written such that the compiler
//! makes vector instructions of them, for the widest that the processor has. The order of the sums is always the same, and so is
//! what comes out.

use pulp::{Arch, NullaryFnOnce};

/// Numbers that are treated together: in memory, as loops over few make the compiler hold each in a register of its own, and all
/// vectors are lost.
const BLOCK: usize = 64;

/// What is compiled for each kind of processor must be inlined into the code that was chosen for it. A closure is not always; the
/// `call` of a type is.
struct Largest<'a>(&'a [f32]);
struct SumExp<'a>(&'a [f32], f32);
struct Softmax<'a>(&'a mut [f32]);

impl NullaryFnOnce for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        largest_inline(self.0)
    }
}

impl NullaryFnOnce for SumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        sum_exp_inline(self.0, self.1)
    }
}

impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        softmax_inline(self.0);
    }
}

/// The largest number; minus infinity of none.
///
/// ```
/// use attn_circuits::linalg::largest;
/// assert_eq!(largest(&[1.0, 3.0, -2.0]), 3.0);
/// assert_eq!(largest(&[]), f32::NEG_INFINITY);
/// ```
pub fn largest(row: &[f32]) -> f32 {
    Arch::new().dispatch(Largest(row))
}

/// `Σ exp(x − max)` for a `max` that no number of the row exceeds, exact to 4e-7 of itself; terms smaller than 1e-37 may be
/// anything that small. `max + ln` of it is `ln Σ exp(x)`, in nats.
///
/// ```
/// use attn_circuits::linalg::{largest, sum_exp};
/// // The loss −ln p of a right token that stands γ above 49 equal others: ln(1 + 49 e^(−γ)).
/// let mut logits = [0.0f32; 50];
/// logits[7] = 4.0;
/// let max = largest(&logits);
/// let loss = f64::from(max) + sum_exp(&logits, max).ln() - f64::from(logits[7]);
/// assert!((loss - (1.0 + 49.0 * (-4f64).exp()).ln()).abs() < 1e-6);
/// ```
pub fn sum_exp(row: &[f32], max: f32) -> f64 {
    Arch::new().dispatch(SumExp(row, max))
}

/// The softmax of a row, in place, each probability exact to 6e-7 of itself; one smaller than 1e-37 may be anything that small.
///
/// ```
/// use attn_circuits::linalg::softmax_row;
/// // Attention to the one match among ten positions: e^β/(e^β + 9).
/// let mut scores = [0.0f32; 10];
/// scores[3] = 5.0;
/// softmax_row(&mut scores);
/// let expected = 5f32.exp() / (5f32.exp() + 9.0);
/// assert!((scores[3] - expected).abs() < 1e-6 && (scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
/// ```
pub fn softmax_row(row: &mut [f32]) {
    Arch::new().dispatch(Softmax(row));
}

#[inline(always)]
fn largest_inline(row: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; BLOCK];
    for part in row.chunks(BLOCK) {
        for (most, &x) in most.iter_mut().zip(part) {
            *most = if x > *most { x } else { *most };
        }
    }
    halved(most, |a, b| if b > a { b } else { a }).into_iter().fold(f32::NEG_INFINITY, |max, x| if x > max { x } else { max })
}

#[inline(always)]
fn sum_exp_inline(row: &[f32], max: f32) -> f64 {
    let mut total = 0.0;
    for part in row.chunks(BLOCK) {
        let mut terms = [0.0f32; BLOCK];
        for (term, x) in terms.iter_mut().zip(part) {
            *term = exp(x - max);
        }
        total += sum(terms);
    }
    total
}

#[inline(always)]
fn softmax_inline(row: &mut [f32]) {
    let max = largest_inline(row);
    let mut total = 0.0;
    for part in row.chunks_mut(BLOCK) {
        let mut terms = [0.0f32; BLOCK];
        for (term, x) in terms.iter_mut().zip(part) {
            *x = exp(*x - max);
            *term = *x;
        }
        total += sum(terms);
    }
    let factor = (1.0 / total) as f32;
    row.iter_mut().for_each(|x| *x *= factor);
}

/// Three roundings to single precision, then in double.
#[inline(always)]
fn sum(terms: [f32; BLOCK]) -> f64 {
    let [a, b, c, d, e, f, g, h] = halved(terms, |a, b| a + b).map(f64::from);
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Puts one half upon the other until eight are left.
#[inline(always)]
fn halved(mut of: [f32; BLOCK], join: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    for half in [32, 16, 8] {
        let (low, high) = of.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(low, high)| *low = join(*low, *high));
    }
    std::array::from_fn(|lane| of[lane])
}

/// `eˣ` for `x ≤ 0`, without branches: `2ⁿ eʳ` with `|r| ≤ ln 2 / 2` and the minimax polynomial of the Cephes library for `eʳ`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// `ln 2` in two parts, of which the first has few bits, so that its products with whole numbers are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // What is not a number stays so.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 0.5;
    let e = p * (r * r) + r + 1.0;
    f32::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_exact_to_single_precision() {
        let mut worst = 0.0f64;
        for step in 0..=870_000 {
            let x = -1e-4 * step as f32;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / exact - 1.0).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan() && sum_exp(&[0.0, f32::NAN, -1.0], 0.0).is_nan());
    }

    #[test]
    fn a_softmax_is_one_in_all() {
        softmax_row(&mut []);
        for n in [1usize, 2, 15, 16, 17, 61] {
            let scores: Vec<f32> = (0..n).map(|i| ((i * 7) % 11) as f32 * 1.5 - 4.0).collect();
            let total: f64 = scores.iter().map(|&x| f64::from(x).exp()).sum();
            let mut row = scores.clone();
            softmax_row(&mut row);
            for (found, score) in row.iter().zip(&scores) {
                let expected = f64::from(*score).exp() / total;
                assert!((f64::from(*found) - expected).abs() < 6e-7 * expected, "{n}: {found} {expected}");
            }
        }
    }

    #[test]
    fn sums_and_maxima_are_of_all_terms() {
        for length in [0, 1, 15, 16, 17, 100, 5000] {
            let row: Vec<f32> = (0..length).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect();
            let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(&row), max);
            let exact: f64 = row.iter().map(|&x| (f64::from(x) - f64::from(max)).exp()).sum();
            assert!((sum_exp(&row, max) - exact).abs() <= 1e-6 * exact, "{length}");
        }
    }
}
