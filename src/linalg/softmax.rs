//! Logits and what they say, without overflow.

use ndarray::{Array1, ArrayView1};

/// `ln Σ exp` of a row of logits, in nats: what a cross-entropy loss takes off the right token's logit. Minus infinity of none.
///
/// ```
/// use attn_circuits::linalg::log_sum_exp;
/// use ndarray::{Array1, array};
/// assert!((log_sum_exp(Array1::zeros(50).view()) - 50f64.ln()).abs() < 1e-12);
/// assert_eq!(log_sum_exp(array![1e4, 0.0].view()), 1e4); // without overflow
/// ```
pub fn log_sum_exp(logits: ArrayView1<f64>) -> f64 {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + logits.iter().map(|logit| (logit - max).exp()).sum::<f64>().ln()
}

/// `x − ln Σ exp(x)`, the logarithms of the softmax: finite where the softmax itself is too small to be told from 0.
///
/// ```
/// use attn_circuits::linalg::log_softmax;
/// use ndarray::array;
/// let logits = array![2.0, 0.0, -1.0];
/// let losses = -log_softmax(logits.view()); // in nats, of each token if it is the right one
/// // Differences of logits stay, and a number added to all of them changes nothing.
/// assert!((losses[1] - losses[0] - 2.0).abs() < 1e-12);
/// assert!((&losses + &log_softmax((logits + 7.0).view())).iter().all(|difference| difference.abs() < 1e-12));
/// assert_eq!(log_softmax(array![1e4, 0.0].view()), array![0.0, -1e4]);
/// ```
pub fn log_softmax(logits: ArrayView1<f64>) -> Array1<f64> {
    let normalizer = log_sum_exp(logits);
    logits.mapv(|logit| logit - normalizer)
}

/// The softmax of a row of logits: probabilities, which sum to 1.
///
/// ```
/// use attn_circuits::linalg::softmax;
/// use ndarray::array;
/// let p = softmax(array![4f64.ln(), 0.0, 0.0].view());
/// assert!((p - array![4.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0]).iter().all(|difference| difference.abs() < 1e-12));
/// ```
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
