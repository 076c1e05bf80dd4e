use super::{Path, biased, maxima, sizes, source, sums};
use crate::Result;
use crate::batch::TokenBatch;
use crate::circuit::loss::{check_groups, predictions};
use crate::model::frozen::{Frozen, FrozenRun};
use crate::model::{HeadId, Keep, Transformer};
use ndarray::{Array2, ArrayView3};
use std::fmt;

/// A part of the logits.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::{Part, paths};
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 13 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let groups = [(0..12).collect()];
/// let found = [1, 2].map(|max_order| paths(&model, &tokens, max_order, &groups));
/// let [some, all] = found.map(|found| found.map(|found| found.parts));
/// // What is left beside the paths through at most one head is what those through two do.
/// let rest: f64 = some?.iter().filter(|(part, _)| *part == Part::Rest).map(|(_, effect)| effect.logit[0]).sum();
/// let longer = |part: &Part| matches!(part, Part::Path(path) if path.order() == 2);
/// let listed: f64 = all?.iter().filter(|(part, _)| longer(part)).map(|(_, effect)| effect.logit[0]).sum();
/// assert!((rest - listed).abs() < 1e-4);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// One path from the embedding (tokens and positions).
    Path(Path),
    /// All that does not start at the embedding: every bias, and what later heads carry on of it.
    Bias,
    /// All paths through more heads than were asked for.
    Rest,
    /// What all parts together miss of the model's logits, by rounding.
    Residual,
}

impl fmt::Display for Part {
    /// The path, or `bias`, `rest`, `residual`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(f),
            Self::Bias => f.write_str("bias"),
            Self::Rest => f.write_str("rest"),
            Self::Residual => f.write_str("residual"),
        }
    }
}

/// What a part of the logits does, one number for each group of positions.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::paths;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let found = paths(&model, &tokens, 1, &[(7..12).collect()])?;
/// // In the second repeat the induction head is all of the logits: without its path nothing is known of the next of 13 tokens.
/// let head = found.parts.iter().find(|(part, _)| part.to_string() == "1.0").map(|(_, effect)| effect);
/// let head = head.expect("the path through that head");
/// assert!((head.logit[0] - 10.0).abs() < 1e-4 && (head.largest[0] - 1.0).abs() < 1e-4);
/// assert!((head.loss_change[0] - (13f64.ln() - found.loss[0])).abs() < 1e-4);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Mean contribution to the logit of the token that follows.
    pub logit: Vec<f64>,
    /// Mean loss without the part, less the model's; nats.
    pub loss_change: Vec<f64>,
    /// Largest absolute contribution to the logit of any token, over the largest absolute logit of the model; 0 if all of the
    /// model's are 0.
    pub largest: Vec<f64>,
}

/// The logits as a sum: what [`paths()`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Expansion {
    /// Mean logit of the token that follows, for each group: the sum of those of the parts.
    pub logit: Vec<f64>,
    /// Mean loss of the model in nats, for each group.
    pub loss: Vec<f64>,
    /// The parts, in the order of [`Part`].
    pub parts: Vec<(Part, Effect)>,
}

/// Sums of a chunk, for each group: of the logit of the next token, of the loss without it, and the largest absolute logit.
struct Sums {
    logit: Vec<f64>,
    loss: Vec<f64>,
    largest: Vec<f64>,
}

/// Writes the logits as the sum of what every path through at most `max_order` heads contributes, patterns and normalisation scales
/// held at their values in the run.
///
/// The paths form a tree that is walked depth-first; what a path writes is computed from what its beginning writes, and no more
/// streams are alive than the longest path has heads. [`Part::Bias`] is there only if the model has biases other than zero,
/// [`Part::Rest`] only if there are paths beyond `max_order`. [`count_up_to`](super::count_up_to) says how many paths that is.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::paths;
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 13 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let found = paths(&model, &tokens, 1, &[(0..12).collect()])?;
/// let names: Vec<_> = found.parts.iter().map(|(part, _)| part.to_string()).collect();
/// assert_eq!(names, ["direct", "0.0", "0.1", "1.0", "1.1", "rest", "residual"]);
/// // The parts sum to the logits. What they miss is rounding.
/// let sum: f64 = found.parts.iter().map(|(_, effect)| effect.logit[0]).sum();
/// assert!((sum - found.logit[0]).abs() < 1e-4);
/// assert!(found.parts[6].1.largest[0] < 1e-5);
/// // A context of 13 does not hold 14 tokens.
/// assert!(paths(&model, &TokenBatch::new(Array2::zeros((1, 14)), None)?, 1, &[vec![0]]).is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] for batches and groups that do not fit, as [the module](super) says.
pub fn paths(model: &Transformer, batch: &TokenBatch, max_order: usize, groups: &[Vec<usize>]) -> Result<Expansion> {
    check_groups(groups, batch.length())?;
    let frozen = Frozen::new(model);
    let keep = Keep { logits: true, ..Frozen::KEEP };
    let parts = model.map_chunks(batch, keep, |chunk, cache| expand(&frozen.run(chunk.tokens, cache), max_order, groups))?;
    // Every chunk walks the same tree, so that the parts stand in the same order.
    let (whole, parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let sizes = sizes(groups, batch.sequences());
    let mean = |of: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
        sizes.iter().enumerate().map(|(group, size)| of(group).iter().sum::<f64>() / size).collect()
    };
    let max = |of: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
        (0..groups.len()).map(|group| of(group).into_iter().fold(0.0, f64::max)).collect()
    };
    let logit = mean(&|group| whole.iter().map(|sums: &Sums| sums.logit[group]).collect());
    let loss = mean(&|group| whole.iter().map(|sums| sums.loss[group]).collect());
    let scale = max(&|group| whole.iter().map(|sums| sums.largest[group]).collect());
    let effect = |index: usize| {
        let chunks = || parts.iter().map(|part: &Vec<(Part, Sums)>| &part[index].1);
        let without = mean(&|group| chunks().map(|sums| sums.loss[group]).collect());
        let largest = max(&|group| chunks().map(|sums| sums.largest[group]).collect());
        Effect {
            logit: mean(&|group| chunks().map(|sums| sums.logit[group]).collect()),
            loss_change: without.iter().zip(&loss).map(|(without, loss)| without - loss).collect(),
            largest: largest.iter().zip(&scale).map(|(part, &all)| if all > 0.0 { part / all } else { 0.0 }).collect(),
        }
    };
    let mut all: Vec<_> = (0..parts[0].len()).map(|index| (parts[0][index].0.clone(), effect(index))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Expansion { logit, loss, parts: all })
}

/// The sums of the whole model and of each part for one chunk.
fn expand(run: &FrozenRun, max_order: usize, groups: &[Vec<usize>]) -> (Sums, Vec<(Part, Sums)>) {
    let (b, n) = run.tokens().dim();
    let logits = run.cache().logits.as_ref().expect("the run keeps logits");
    let logits = logits.view().into_shape_with_order((b * n, logits.dim().2)).expect("logits are in standard layout");
    // Of a part that contributes `own`; what is left without it loses `loss`.
    let sums_of = |own: &Array2<f32>, left: &Array2<f32>| {
        let left = cube(left, b);
        let own = cube(own, b);
        let next = |(i, j)| f64::from(own[(i, j, run.tokens()[(i, j + 1)] as usize)]);
        let largest = |(i, j)| own.slice(ndarray::s![i, j, ..]).iter().fold(0.0f64, |max, &v| max.max(f64::from(v).abs()));
        Sums {
            logit: sums(Array2::from_shape_fn((b, n - 1), next).view(), groups),
            loss: sums(predictions(left, run.tokens()).loss.view(), groups),
            largest: maxima(Array2::from_shape_fn((b, n - 1), largest).view(), groups),
        }
    };
    let whole = logits.to_owned();
    let of_whole = sums_of(&whole, &whole);

    let mut all = Vec::new();
    let mut total = Array2::<f32>::zeros(logits.dim());
    let mut add = |part: Part, own: Array2<f32>| {
        total += &own;
        all.push((part, sums_of(&own, &(&whole - &own))));
    };
    let x = source(run);
    descend(run, &mut Vec::new(), &x, max_order, &mut |heads, x| add(Part::Path(Path::new(heads.to_vec())), run.unembed(x)));
    if run.frozen().has_bias() {
        let mut own = run.unembed(&biased(run));
        if let Some(b_u) = run.frozen().unembed_bias() {
            own += &b_u;
        }
        add(Part::Bias, own);
    }
    if max_order < run.frozen().model().config().n_layers {
        add(Part::Rest, run.unembed(&beyond(run, x, max_order)));
    }
    let residual = &whole - &total;
    let of_residual = sums_of(&residual, &total);
    all.push((Part::Residual, of_residual));
    (of_whole, all)
}

fn cube(logits: &Array2<f32>, b: usize) -> ArrayView3<'_, f32> {
    let shape = (b, logits.nrows() / b, logits.ncols());
    logits.view().into_shape_with_order(shape).expect("logits are in standard layout")
}

/// Visits the path `heads`, which writes `x`, and every path that continues it, at most `max_order` heads long.
fn descend(
    run: &FrozenRun,
    heads: &mut Vec<HeadId>,
    x: &Array2<f32>,
    max_order: usize,
    visit: &mut dyn FnMut(&[HeadId], &Array2<f32>),
) {
    visit(heads, x);
    if heads.len() == max_order {
        return;
    }
    let config = run.frozen().model().config();
    for layer in heads.last().map_or(0, |id| id.layer + 1)..config.n_layers {
        let values = run.values(layer, x);
        for head in 0..config.n_heads {
            let id = HeadId::new(layer, head);
            heads.push(id);
            descend(run, heads, &run.head(id, &values), max_order, visit);
            heads.pop();
        }
    }
}

/// What all paths through more than `max_order` heads write together.
fn beyond(run: &FrozenRun, source: Array2<f32>, max_order: usize) -> Array2<f32> {
    // Streams of exactly 0, 1, … heads, and of more than `max_order`.
    let mut exact = vec![source];
    exact.resize_with(max_order + 1, || run.zeros());
    let mut more = run.zeros();
    for layer in 0..run.frozen().model().config().n_layers {
        let moved = run.layer(layer, &(&more + &exact[max_order]));
        more += &moved;
        for order in (1..=max_order).rev() {
            let (shorter, longer) = exact.split_at_mut(order);
            longer[0] += &run.layer(layer, &shorter[order - 1]);
        }
    }
    more
}
