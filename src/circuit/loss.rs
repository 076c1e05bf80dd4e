//! Loss and accuracy of next-token prediction, by position and by repeat.

use crate::batch::{Repeats, TokenBatch};
use crate::linalg::{largest, sum_exp};
use crate::model::{Keep, Transformer};
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, s};

/// What a row of logits says of the token that follows; [`predict`] makes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// `−ln p(next token)` in nats.
    pub loss: f64,
    /// Whether the largest logit is the next token's; the first of equals counts as largest.
    pub correct: bool,
    /// The next token's logit.
    pub logit: f64,
}

/// Compares a row of logits `[V]` with the token that follows.
///
/// ```
/// use attn_circuits::circuit::loss::predict;
/// use ndarray::array;
/// // One logit of γ among V: ln(1 + (V − 1) e^{−γ}) nats.
/// let found = predict(array![0.0, 3.0, 0.0, 0.0].view(), 1);
/// assert!((found.loss - (1.0 + 3.0 * (-3f64).exp()).ln()).abs() < 1e-6 && found.correct && found.logit == 3.0);
/// // Equal logits lose ln V, and the first of them counts as the largest.
/// let equal = [0, 1].map(|target| predict(array![2.0, 2.0].view(), target));
/// assert!((equal[1].loss - 2f64.ln()).abs() < 1e-6 && equal[0].correct && !equal[1].correct);
/// ```
///
/// # Panics
/// If there is no logit for the token.
pub fn predict(logits: ArrayView1<f32>, target: usize) -> Prediction {
    let logits = logits.as_standard_layout();
    let logits = logits.as_slice().expect("a standard layout is contiguous");
    let (max, of_target) = (largest(logits), logits[target]);
    let total = sum_exp(logits, max);
    Prediction {
        loss: total.ln() + f64::from(max) - f64::from(of_target),
        correct: of_target == max && !logits[..target].contains(&max),
        logit: f64::from(of_target),
    }
}

/// Predictions of a batch; position `t` predicts token `t + 1`, so there is one position less than tokens. [`predictions`] makes
/// them.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// [`Prediction::loss`], `[b, n − 1]`.
    pub loss: Array2<f64>,
    /// 1 for [`Prediction::correct`], else 0; `[b, n − 1]`.
    pub correct: Array2<f64>,
    /// [`Prediction::logit`], `[b, n − 1]`.
    pub logit: Array2<f64>,
}

impl Predictions {
    /// Room for predictions at so many positions.
    pub(crate) fn zeros(sequences: usize, positions: usize) -> Self {
        let zeros = || Array2::zeros((sequences, positions));
        Self { loss: zeros(), correct: zeros(), logit: zeros() }
    }

    pub(crate) fn set(&mut self, sequence: usize, position: usize, prediction: Prediction) {
        self.loss[(sequence, position)] = prediction.loss;
        self.correct[(sequence, position)] = f64::from(u8::from(prediction.correct));
        self.logit[(sequence, position)] = prediction.logit;
    }
}

/// Compares logits `[b, n, V]` with the tokens `[b, n]` that follow.
///
/// ```
/// use attn_circuits::circuit::loss::{predict, predictions};
/// use ndarray::{array, s};
/// // One sequence of three tokens: two positions predict one.
/// let logits = array![[[0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]];
/// let found = predictions(logits.view(), array![[0, 1, 1]].view());
/// assert_eq!(found.loss.dim(), (1, 2));
/// assert_eq!(found.loss[(0, 1)], predict(logits.slice(s![0, 1, ..]), 1).loss);
/// assert_eq!((found.correct, found.logit), (array![[1.0, 0.0]], array![[2.0, 0.0]]));
/// ```
///
/// # Panics
/// If a position that predicts has no logits, or a token is not below `V`.
pub fn predictions(logits: ArrayView3<f32>, tokens: ArrayView2<u32>) -> Predictions {
    let (b, n) = tokens.dim();
    let mut all = Predictions::zeros(b, n.saturating_sub(1));
    for sequence in 0..b {
        for position in 0..n.saturating_sub(1) {
            let target = tokens[(sequence, position + 1)] as usize;
            all.set(sequence, position, predict(logits.slice(s![sequence, position, ..]), target));
        }
    }
    all
}

/// Mean loss (nats) and accuracy (a share, in [0, 1]) at each position that predicts, `[n − 1]` each.
///
/// ```
/// use attn_circuits::circuit::loss::ByPosition;
/// use attn_circuits::input::Repeats;
/// use ndarray::array;
/// // A start token, then two tokens twice. Four of these five positions predict one: the last does not.
/// let found = ByPosition { loss: array![9.0, 1.0, 3.0, 5.0], accuracy: array![0.0, 0.0, 1.0, 1.0] };
/// let means = found.by_repeat(Some(Repeats { start: 1, period: 2, count: 2 }));
/// assert_eq!(means, [(None, 4.5, 0.5), (Some(1), 2.0, 0.5), (Some(2), 5.0, 1.0)]);
/// assert_eq!(found.by_repeat(None), [(None, 4.5, 0.5)]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ByPosition {
    /// Mean over sequences of the loss.
    pub loss: Array1<f64>,
    /// Share of sequences in which the prediction is right.
    pub accuracy: Array1<f64>,
}

impl ByPosition {
    /// Sums over the sequences of one chunk.
    fn sum(predictions: &Predictions) -> Self {
        Self { loss: predictions.loss.sum_axis(Axis(0)), accuracy: predictions.correct.sum_axis(Axis(0)) }
    }

    /// Means over all positions (`None`) and over each repeat: `(repeat, loss, accuracy)`. A repeat without a position that
    /// predicts is left out, and so is everything if there is no prediction at all.
    pub fn by_repeat(&self, repeats: Option<Repeats>) -> Vec<(Option<usize>, f64, f64)> {
        let groups = repeat_groups(self.loss.len(), repeats);
        let mean = |of: &Array1<f64>, at: &[usize]| at.iter().map(|&p| of[p]).sum::<f64>() / at.len() as f64;
        groups.into_iter().map(|(repeat, at)| (repeat, mean(&self.loss, &at), mean(&self.accuracy, &at))).collect()
    }
}

/// The positions, below `positions`, that tables take means over: all of them (`None`), then those in each repeat (from 1). A
/// group without any is left out.
///
/// ```
/// use attn_circuits::circuit::loss::repeat_groups;
/// use attn_circuits::input::Repeats;
/// // The start token at position 0 is in no repeat.
/// let groups = repeat_groups(4, Some(Repeats { start: 1, period: 2, count: 2 }));
/// assert_eq!(groups, [(None, vec![0, 1, 2, 3]), (Some(1), vec![1, 2]), (Some(2), vec![3])]);
/// assert!(repeat_groups(0, None).is_empty());
/// ```
pub fn repeat_groups(positions: usize, repeats: Option<Repeats>) -> Vec<(Option<usize>, Vec<usize>)> {
    let mut groups: Vec<(Option<usize>, Vec<usize>)> = vec![(None, (0..positions).collect())];
    if let Some(repeats) = repeats {
        for repeat in 1..=repeats.count {
            groups.push((Some(repeat), (0..positions).filter(|&p| repeats.of(p) == Some(repeat)).collect()));
        }
    }
    groups.retain(|(_, positions)| !positions.is_empty());
    groups
}

/// Checks groups of positions over which predictions are to be averaged.
///
/// # Errors
/// [`Error::Invalid`] if one is empty, or has a position of which nothing is predicted: `n − 1` or beyond.
pub(super) fn check_groups(groups: &[Vec<usize>], length: usize) -> Result<()> {
    if groups.iter().any(|group| group.is_empty() || group.iter().any(|&position| position + 1 >= length)) {
        let text = format!("each group needs positions, and of {length} tokens only the first {} predict", length - 1);
        return Err(Error::invalid(text));
    }
    Ok(())
}

/// Loss and accuracy of a model on a batch, at each position that predicts.
///
/// ```
/// use attn_circuits::circuit::loss::loss;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25, scale: 3 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let found = loss(&model, &tokens)?;
/// assert_eq!(found.loss.len(), tokens.length() - 1);
/// // In the second repeat every token is right, and loses ln(1 + (V − 1) e^{−γ}) at γ = 3.
/// let (repeat, mean_loss, accuracy) = found.by_repeat(tokens.repeats())[2];
/// assert_eq!((repeat, accuracy), (Some(2), 1.0));
/// assert!((mean_loss - (1.0 + 12.0 * (-3f64).exp()).ln()).abs() < 1e-5);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the model cannot read the batch.
pub fn loss(model: &Transformer, batch: &TokenBatch) -> Result<ByPosition> {
    let parts = model.map_chunks(batch, Keep { logits: true, ..Keep::NOTHING }, |chunk, cache| {
        let logits = cache.logits.expect("logits were asked for");
        ByPosition::sum(&predictions(logits.view(), chunk.tokens))
    })?;
    let add = |a: ByPosition, b: ByPosition| ByPosition { loss: a.loss + b.loss, accuracy: a.accuracy + b.accuracy };
    let ByPosition { loss, accuracy } = parts.into_iter().reduce(add).expect("a batch has at least one chunk");
    let share = 1.0 / batch.sequences() as f64;
    Ok(ByPosition { loss: loss * share, accuracy: accuracy * share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn equal_logits_lose_ln_v_and_the_first_token_wins_ties() {
        let logits = ndarray::Array3::zeros((1, 3, 5));
        let found = predictions(logits.view(), array![[3, 0, 4]].view());
        for loss in &found.loss {
            assert!((loss - 5f64.ln()).abs() < 1e-15);
        }
        assert_eq!(found.correct, array![[1.0, 0.0]]);
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        let logits = array![[[1e30f32, 0.0], [-1e30, 0.0]]];
        let found = predictions(logits.view(), array![[0, 0]].view());
        assert_eq!(found.loss, array![[0.0]]);
    }

    #[test]
    fn a_repeat_is_that_of_the_position_which_predicts() {
        let repeats = Repeats { start: 1, period: 2, count: 2 };
        let by_position = ByPosition { loss: array![9.0, 1.0, 3.0, 5.0], accuracy: array![0.0, 0.0, 1.0, 1.0] };
        assert_eq!(by_position.by_repeat(Some(repeats)), vec![(None, 4.5, 0.5), (Some(1), 2.0, 0.5), (Some(2), 5.0, 1.0)]);
    }

    #[test]
    fn one_token_predicts_nothing() {
        let logits = ndarray::Array3::zeros((2, 1, 5));
        let found = predictions(logits.view(), array![[1], [2]].view());
        assert_eq!(ByPosition::sum(&found).by_repeat(None), vec![]);
    }
}
