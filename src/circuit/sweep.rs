//! A batch run once as it is and once under each of many interventions: loss, accuracy and logit of the right token.

use super::bootstrap::Bootstrap;
use super::loss::{Predictions, check_groups, predict, predictions};
use crate::batch::TokenBatch;
use crate::model::intervention::{Intervention, Means, Needs, Pass, Sources};
use crate::model::{Cache, Chunk, Transformer};
use crate::stream::Stream;
use crate::{Error, Result};
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use ndarray_rand::rand::Rng;
use rayon::prelude::*;
use std::ops::Range;

/// What a batch is run under, and against what it is held.
///
/// ```
/// use attn_circuits::circuit::sweep::Sweep;
/// use attn_circuits::input::TokenBatch;
/// use attn_circuits::kind::Kind;
/// use attn_circuits::model::build::{BuildContext, MODELS, ModelKind};
/// use attn_circuits::model::intervention::{Downstream, Intervention, Replacement};
/// use attn_circuits::model::HeadId;
/// use attn_circuits::stream::Stream;
/// use ndarray::array;
/// use serde_json::json;
/// # use std::path::Path;
/// let wired = Kind::<dyn ModelKind>::find(MODELS, "wired").expect("a kind of model");
/// let kind = (wired.parse)(json!({ "circuit": "induction", "vocab": 8, "context": 7 }))?;
/// let model = kind.build(&BuildContext { base: Path::new("."), stream: Stream::new(1) })?;
/// let batch = TokenBatch::new(array![[0, 5, 2, 7, 5, 2, 7]], None)?;
/// // The previous-token head is taken out; once with later patterns computed anew, once with patterns as they were.
/// let ablation = Intervention::of_heads(&[HeadId::new(0, 0)], Replacement::Zero);
/// let both = [ablation.clone(), ablation.with(Downstream::Frozen)];
/// // Positions 4 and 5 predict what stood there before.
/// let found = Sweep::new(&model, &batch).run(&both, &[vec![4, 5]])?;
/// let accuracy: Vec<f64> = found.intervened.iter().map(|outcome| outcome.accuracy[(0, 0)]).collect();
/// assert_eq!((found.clean.accuracy[(0, 0)], accuracy), (1.0, vec![0.0, 1.0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sweep<'a> {
    model: &'a Transformer,
    batch: &'a TokenBatch,
    targets: &'a TokenBatch,
    reference: &'a TokenBatch,
    other: Option<&'a TokenBatch>,
    stream: Stream,
}

/// Means over groups of positions, one for each sequence: `[B, groups]` each.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::sweep::Sweep;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let clean = Sweep::new(&model, &tokens).run(&[], &[(0..6).collect(), (7..12).collect()])?.clean;
/// // A row for each sequence, a column for each group: the first repeat, and what the second one predicts.
/// assert_eq!((clean.loss.dim(), clean.accuracy.dim(), clean.logit.dim()), ((4, 2), (4, 2), (4, 2)));
/// // Tokens of a period are distinct: to say what was there before is worse than nothing, until it comes again.
/// assert!(clean.mean_loss(0) > 13f64.ln() && clean.mean_loss(1) < 0.01);
/// assert!((clean.mean_loss(1) - clean.loss.column(1).sum() / 4.0).abs() < 1e-12);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Loss in nats.
    pub loss: Array2<f64>,
    /// Share of positions at which the largest logit is that of the right token.
    pub accuracy: Array2<f64>,
    /// The right token's logit.
    pub logit: Array2<f64>,
}

/// What comes out of a sweep, by [`Sweep::run`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcomes {
    /// Of the run as it is.
    pub clean: Outcome,
    /// Under each intervention, in the order asked.
    pub intervened: Vec<Outcome>,
}

/// A mean over sequences under an intervention; a number of an [`Effect`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// What it is more than in the run as it is.
    pub change: f64,
}

/// What an intervention does at one group of positions, by [`Outcomes::effect`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// Loss in nats.
    pub loss: Mean,
    /// Interval of the change of the loss in nats; `None` where the bootstrap has none.
    pub interval: Option<(f64, f64)>,
    /// Share of right predictions.
    pub accuracy: Mean,
    /// The right token's logit.
    pub logit: Mean,
}

impl Outcomes {
    /// What an intervention does at a group of positions, both by their places in the lists that were asked for.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::bootstrap::Bootstrap;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// use attn_circuits::stream::Stream;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
    /// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// let ablation = Intervention::of_heads(&[HeadId::new(1, 0)], Replacement::Zero);
    /// let found = Sweep::new(&model, &tokens).run(&[ablation], &[(7..12).collect()])?;
    /// let effect = found.effect(0, 0, &Bootstrap::new(4, Bootstrap::DRAWS, Bootstrap::LEVEL, &Stream::new(1)));
    /// // The induction head gives the right one of 13 tokens a logit of 10. Without it all are alike: the first counts as said.
    /// let change = 13f64.ln() - (1.0 + 12.0 * (-10f64).exp()).ln();
    /// assert!((effect.loss.value - 13f64.ln()).abs() < 1e-4 && (effect.loss.change - change).abs() < 1e-4);
    /// assert_eq!((effect.accuracy.value, effect.accuracy.change), (0.0, -1.0));
    /// assert!(effect.logit.value.abs() < 1e-4 && (effect.logit.change + 10.0).abs() < 1e-4);
    /// // It is the same in all sequences.
    /// assert!(effect.interval.is_some_and(|(low, high)| high - low < 1e-6 && (low - change).abs() < 1e-4));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Panics
    /// If there is no such intervention or group, or the bootstrap is for another number of sequences.
    pub fn effect(&self, intervention: usize, group: usize, bootstrap: &Bootstrap) -> Effect {
        let (clean, changed) = (&self.clean, &self.intervened[intervention]);
        let mean = |of: fn(&Outcome) -> &Array2<f64>| {
            let mean = |outcome| over_sequences(of(outcome), group);
            Mean { value: mean(changed), change: mean(changed) - mean(clean) }
        };
        let difference = &changed.loss.column(group) - &clean.loss.column(group);
        Effect {
            loss: mean(|outcome| &outcome.loss),
            interval: bootstrap.interval(difference.view()),
            accuracy: mean(|outcome| &outcome.accuracy),
            logit: mean(|outcome| &outcome.logit),
        }
    }
}

/// The mean over sequences at a group of positions.
fn over_sequences(values: &Array2<f64>, group: usize) -> f64 {
    values.column(group).sum() / values.nrows() as f64
}

impl Outcome {
    /// The mean over sequences of the loss at a group of positions, by its place in the list that was asked for.
    ///
    /// # Panics
    /// If there is no such group.
    pub fn mean_loss(&self, group: usize) -> f64 {
        over_sequences(&self.loss, group)
    }

    /// Means of predictions over groups of positions.
    fn new(predictions: &Predictions, groups: &[Vec<usize>]) -> Self {
        let mean = |values: &Array2<f64>| {
            Array2::from_shape_fn((values.nrows(), groups.len()), |(sequence, group)| {
                let positions = &groups[group];
                positions.iter().map(|&position| values[(sequence, position)]).sum::<f64>() / positions.len() as f64
            })
        };
        Self { loss: mean(&predictions.loss), accuracy: mean(&predictions.correct), logit: mean(&predictions.logit) }
    }

    /// Puts chunks one under the other.
    fn join(parts: Vec<Self>) -> Self {
        let join = |of: fn(&Self) -> &Array2<f64>| {
            let views: Vec<_> = parts.iter().map(|part| of(part).view()).collect();
            concatenate(Axis(0), &views).expect("chunks differ only in the number of sequences")
        };
        Self { loss: join(|part| &part.loss), accuracy: join(|part| &part.accuracy), logit: join(|part| &part.logit) }
    }
}

impl<'a> Sweep<'a> {
    /// Runs of `batch`, which is also what is to be predicted and the reference of means.
    pub fn new(model: &'a Transformer, batch: &'a TokenBatch) -> Self {
        Self { model, batch, targets: batch, reference: batch, other: None, stream: Stream::new(0) }
    }

    /// Predictions are held against these tokens `[B, n]` instead: a corrupted batch against the clean one.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 8, context: 7 }")?;
    /// let clean = TokenBatch::new(array![[0, 5, 2, 7, 5, 2, 7]], None)?;
    /// let corrupted = TokenBatch::new(array![[0, 5, 7, 2, 5, 7, 2]], None)?;
    /// let accuracy = |sweep: Sweep| Ok::<_, Error>(sweep.run(&[], &[vec![4, 5]])?.clean.accuracy[(0, 0)]);
    /// // Each batch says how it goes on itself, and not how the other does.
    /// assert_eq!(accuracy(Sweep::new(&model, &corrupted))?, 1.0);
    /// assert_eq!(accuracy(Sweep::new(&model, &corrupted).targets(&clean))?, 0.0);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    #[must_use]
    pub fn targets(self, targets: &'a TokenBatch) -> Self {
        Self { targets, ..self }
    }

    /// Means and resampled values are those of these sequences instead: any number of them, of the same length.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 13 }")?;
    /// let batch = TokenBatch::new(array![[3, 1, 4, 1, 5]], None)?;
    /// let one = TokenBatch::new(array![[2, 7, 1, 8, 2]], None)?;
    /// let put = |by| [Intervention::of_heads(&[HeadId::new(0, 1)], by)];
    /// // The mean over one sequence, position by position, is that sequence.
    /// let mean = Sweep::new(&model, &batch).reference(&one).run(&put(Replacement::MeanPerPosition), &[vec![0, 1, 2, 3]])?;
    /// let other = Sweep::new(&model, &batch).other(&one).run(&put(Replacement::Other), &[vec![0, 1, 2, 3]])?;
    /// assert!((mean.intervened[0].mean_loss(0) - other.intervened[0].mean_loss(0)).abs() < 1e-5);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    #[must_use]
    pub fn reference(self, reference: &'a TokenBatch) -> Self {
        Self { reference, ..self }
    }

    /// The other batch, whose values [`crate::model::intervention::Replacement::Other`] puts in, sequence by sequence.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 8, context: 7 }")?;
    /// let clean = TokenBatch::new(array![[0, 5, 2, 7, 5, 2, 7]], None)?;
    /// let corrupted = TokenBatch::new(array![[0, 5, 7, 2, 5, 7, 2]], None)?;
    /// // Activation patching: the induction head's output is put back as it is in the clean run, and the right answers with it.
    /// let patch = Intervention::of_heads(&[HeadId::new(1, 0)], Replacement::Other);
    /// let found = Sweep::new(&model, &corrupted).targets(&clean).other(&clean).run(&[patch.clone()], &[vec![4, 5]])?;
    /// assert_eq!((found.clean.accuracy[(0, 0)], found.intervened[0].accuracy[(0, 0)]), (0.0, 1.0));
    /// // Without an other batch there is nothing to put in.
    /// assert!(Sweep::new(&model, &corrupted).run(&[patch], &[vec![4, 5]]).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    #[must_use]
    pub fn other(self, other: &'a TokenBatch) -> Self {
        Self { other: Some(other), ..self }
    }

    /// Where the permutation of [`crate::model::intervention::Replacement::Resample`] is drawn from.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// use attn_circuits::stream::Stream;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 8, context: 7 }")?;
    /// let batch = TokenBatch::new(array![[0, 5, 2, 5, 2], [0, 3, 1, 3, 1]], None)?;
    /// let swapped = TokenBatch::new(array![[0, 3, 1, 3, 1], [0, 5, 2, 5, 2]], None)?;
    /// let put = |by| [Intervention::of_heads(&[HeadId::new(1, 0)], by)];
    /// // No sequence takes the values of itself: of two, each takes those of the other, whatever is drawn.
    /// let drawn = Sweep::new(&model, &batch).stream(Stream::new(7)).run(&put(Replacement::Resample), &[vec![3]])?;
    /// let other = Sweep::new(&model, &batch).other(&swapped).run(&put(Replacement::Other), &[vec![3]])?;
    /// assert!((drawn.intervened[0].mean_loss(0) - other.intervened[0].mean_loss(0)).abs() < 1e-5);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    #[must_use]
    pub fn stream(self, stream: Stream) -> Self {
        Self { stream, ..self }
    }

    /// Whether there is another sequence to take values from: a second one of the batch, or a reference that is another batch.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 8, context: 7 }")?;
    /// let clean = TokenBatch::new(array![[0, 5, 2, 7, 5, 2, 7]], None)?;
    /// let corrupted = TokenBatch::new(array![[0, 5, 7, 2, 5, 7, 2]], None)?;
    /// assert!(!Sweep::new(&model, &clean).can_resample());
    /// assert!(Sweep::new(&model, &clean).reference(&corrupted).can_resample());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn can_resample(&self) -> bool {
        self.reference.sequences() > usize::from(self.resamples_itself())
    }

    fn resamples_itself(&self) -> bool {
        std::ptr::eq(self.reference, self.batch)
    }

    fn check(&self, interventions: &[Intervention]) -> Result<Needs> {
        interventions.iter().try_for_each(|intervention| intervention.check(self.model.config()))?;
        let needs = Needs::of(interventions);
        let shape = |batch: &TokenBatch| (batch.sequences(), batch.length());
        let differs = |what: &str, batch: &TokenBatch| {
            let ((b, n), (others, length)) = (shape(self.batch), shape(batch));
            Error::invalid(format!(
                "the {what} batch has {others} sequences of {length} tokens, not {b} of {n} as the one that is run"
            ))
        };
        if shape(self.targets) != shape(self.batch) {
            return Err(differs("target", self.targets));
        }
        if self.reference.length() != self.batch.length() {
            return Err(differs("reference", self.reference));
        }
        match self.other {
            Some(other) if shape(other) != shape(self.batch) => return Err(differs("other", other)),
            None if !needs.other.is_empty() => {
                return Err(Error::invalid("values of another run are to be put in, but there is no other batch"));
            }
            _ => {}
        }
        if !needs.resampled.is_empty() && !self.can_resample() {
            return Err(Error::invalid("there is only one sequence: no other one to resample from"));
        }
        let mut batches = [self.batch, self.targets, self.reference].into_iter().chain(self.other);
        batches.try_for_each(|batch| self.model.check_batch(batch))?;
        Ok(needs)
    }

    /// For each sequence, the one of the reference that takes its place: never itself.
    fn permutation(&self) -> Vec<usize> {
        let mut rng = self.stream.rng("resample");
        let count = self.reference.sequences();
        let mut permutation: Vec<usize> = (0..count).collect();
        // Sattolo's algorithm: one cycle through all of them, so that nothing stays in place.
        for last in (1..count).rev() {
            permutation.swap(last, rng.random_range(0..last));
        }
        (0..self.batch.sequences()).map(|sequence| permutation[sequence % count]).collect()
    }

    /// Runs the batch once as it is, and once under each intervention. Groups are of positions below `n − 1`: the last token predicts
    /// nothing.
    ///
    /// Sequences are taken in chunks of a fixed size, as many at once as there are threads; runs under interventions are spread over
    /// all threads. Memory is that of the clean (and other) caches of these chunks, and of one run for each thread.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
    /// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // Each head by itself, then both. Without the second one only the bigram term is left in the logits, and it is zero here.
    /// let heads = [HeadId::new(0, 0), HeadId::new(1, 0)];
    /// let sets = [&heads[..1], &heads[1..], &heads[..]].map(|set| Intervention::of_heads(set, Replacement::Zero));
    /// let found = Sweep::new(&model, &tokens).run(&sets, &[(7..12).collect()])?;
    /// assert!(found.intervened[1..].iter().all(|outcome| (outcome.mean_loss(0) - 13f64.ln()).abs() < 1e-5));
    /// // The last of 13 tokens predicts nothing.
    /// assert!(Sweep::new(&model, &tokens).run(&sets, &[vec![12]]).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`]: what [`Intervention::check`] finds; batches that do not fit each other or the model; no other batch to
    /// take values from, or no other sequence to resample from; a group that is empty or has a position that predicts nothing.
    pub fn run(&self, interventions: &[Intervention], groups: &[Vec<usize>]) -> Result<Outcomes> {
        let needs = self.check(interventions)?;
        check_groups(groups, self.batch.length())?;
        let means = Means::new(self.model, self.reference, needs.means)?;
        let resampled = (!needs.resampled.is_empty()).then(|| {
            let tokens = self.reference.tokens();
            tokens.select(Axis(0), &self.permutation())
        });
        let last_readout = Pass::last_readout(self.model).filter(|_| !interventions.is_empty());
        let chunks = self.model.chunks(self.batch)?;

        let mut clean = Vec::new();
        let mut intervened: Vec<Vec<Outcome>> = vec![Vec::new(); interventions.len()];
        for wave in chunks.chunks(rayon::current_num_threads().max(1)) {
            let prepare = |chunk: &Chunk| {
                let rows = chunk.first..chunk.first + chunk.tokens.nrows();
                let forward = |tokens: ArrayView2<u32>, keep| self.model.forward(tokens.slice(s![rows.clone(), ..]), keep);
                let other = self.other.filter(|_| !needs.other.is_empty());
                let sources = Sources {
                    means: &means,
                    resampled: resampled.as_ref().map(|tokens| forward(tokens.view(), needs.resampled.keep())),
                    other: other.map(|other| forward(other.tokens(), needs.other.keep())),
                };
                let cache = self.model.forward(chunk.tokens, Pass::KEEP);
                let targets = self.targets.tokens().slice_move(s![rows.clone(), ..]);
                Prepared { targets, cache, sources, last_readout: last_readout.as_ref() }
            };
            let prepared: Vec<_> = wave.par_iter().map(prepare).collect();
            clean.extend(prepared.iter().map(|prepared| Outcome::new(&prepared.clean(), groups)));
            let clean = &clean[clean.len() - prepared.len()..];
            let tasks: Vec<_> =
                (0..interventions.len()).flat_map(|index| (0..prepared.len()).map(move |chunk| (index, chunk))).collect();
            let outcomes: Vec<_> = tasks
                .par_iter()
                .map(|&(index, chunk)| {
                    prepared[chunk].under(self.model, &interventions[index], groups).unwrap_or_else(|| clean[chunk].clone())
                })
                .collect();
            tasks.iter().zip(outcomes).for_each(|(&(index, _), outcome)| intervened[index].push(outcome));
        }
        Ok(Outcomes { clean: Outcome::join(clean), intervened: intervened.into_iter().map(Outcome::join).collect() })
    }
}

/// A chunk of the batch, run as it is.
struct Prepared<'a> {
    /// `[b, n]`
    targets: ArrayView2<'a, u32>,
    cache: Cache,
    sources: Sources<'a>,
    last_readout: Option<&'a Array2<f32>>,
}

impl Prepared<'_> {
    fn clean(&self) -> Predictions {
        predictions(self.cache.logits.as_ref().expect("logits are kept").view(), self.targets)
    }

    /// What comes out under an intervention; `None` if nothing changes.
    fn under(&self, model: &Transformer, intervention: &Intervention, groups: &[Vec<usize>]) -> Option<Outcome> {
        let pass = Pass { model, clean: &self.cache, sources: &self.sources, last_readout: self.last_readout };
        let change = pass.change(intervention);
        if change.is_none() {
            return None;
        }
        let (b, n) = self.targets.dim();
        let mut found = Predictions::zeros(b, n - 1);
        pass.logits(&change, |rows: Range<usize>, logits| {
            for (row, logits) in rows.zip(logits.rows()) {
                let (sequence, position) = (row / n, row % n);
                if position + 1 < n {
                    found.set(sequence, position, predict(logits, self.targets[(sequence, position + 1)] as usize));
                }
            }
        });
        Some(Outcome::new(&found, groups))
    }
}
