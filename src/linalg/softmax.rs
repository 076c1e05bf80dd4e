//! Logits and what they say, without overflow.

use ndarray::{Array1, ArrayView1};

/// `ln Σ exp`.
pub fn log_sum_exp(logits: ArrayView1<f64>) -> f64 {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln()
}

/// `x − ln Σ exp(x)`: finite where the softmax itself is too small to be told from 0.
pub fn log_softmax(logits: ArrayView1<f64>) -> Array1<f64> {
    let normalizer = log_sum_exp(logits);
    logits.mapv(|logit| logit - normalizer)
}

/// The softmax of a row of logits.
pub fn softmax(logits: ArrayView1<f64>) -> Array1<f64> {
    log_softmax(logits).mapv_into(f64::exp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn nothing_overflows_or_vanishes() {
        assert_eq!(softmax(array![1e300, 0.0].view()), array![1.0, 0.0]);
        assert_eq!(log_softmax(array![1e4, 0.0].view()), array![0.0, -1e4]);
        assert!((log_sum_exp(array![1.0, 1.0].view()) - (1.0 + 2f64.ln())).abs() < 1e-15);
    }
}
