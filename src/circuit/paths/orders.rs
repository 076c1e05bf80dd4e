use super::{count_of_order, sizes, source, sums};
use crate::Result;
use crate::batch::TokenBatch;
use crate::circuit::loss::{check_groups, predictions};
use crate::model::Transformer;
use crate::model::frozen::{Frozen, FrozenRun};
use ndarray::Array2;

/// All paths through the same number of heads, or those of them that pass through the same layers.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::term_importance;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let found = term_importance(&model, &tokens, &[(7..12).collect()])?;
/// let terms: Vec<_> = found.terms.iter().map(|term| (term.order, term.layers.clone(), term.paths)).collect();
/// assert_eq!(terms[..4], [(0, vec![], 1), (1, vec![], 2), (1, vec![0], 1), (1, vec![1], 1)]);
/// assert_eq!(terms[4..], [(2, vec![], 1), (2, vec![0, 1], 1)]);
/// // Single heads are all that counts: without them nothing is known of the next of 13 tokens, without pairs of heads all.
/// assert!((found.terms[1].without[0] - 13f64.ln()).abs() < 1e-4);
/// assert!((found.terms[4].without[0] - found.loss[0]).abs() < 1e-4);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Number of heads.
    pub order: usize,
    /// The layers that they are in, ascending; empty for all paths of the order.
    pub layers: Vec<usize>,
    /// How many paths that is; the largest number if it is beyond counting.
    pub paths: u128,
    /// Mean loss in nats of the term together with all lower orders, for each group.
    pub loss: Vec<f64>,
    /// What the term takes off the loss of all lower orders in nats, for each group; order 0: off ln V.
    pub reduction: Vec<f64>,
    /// Mean loss in nats of the model without the term, for each group.
    pub without: Vec<f64>,
}

/// The loss of a model, order by order: what [`term_importance`] finds.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::term_importance;
/// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 13, biases: true }";
/// let model = notebook.model("random", yaml)?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let found = term_importance(&model, &tokens, &[(0..12).collect()])?;
/// // What the orders 0, 1 and 2 take off the loss of knowing nothing, ln V, leaves the loss of the model.
/// let orders = found.terms.iter().filter(|term| term.layers.is_empty());
/// let reduction: f64 = orders.map(|term| term.reduction[0]).sum();
/// assert!((10f64.ln() - reduction - found.loss[0]).abs() < 1e-5);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TermImportance {
    /// Mean loss of the model in nats, for each group.
    pub loss: Vec<f64>,
    /// The terms by order; within one, first all its paths and then layer by layer.
    pub terms: Vec<Term>,
}

/// Term importance (Elhage et al. 2021, "Term importance analysis"): the loss when only paths through at most 0, 1, … heads are
/// summed, patterns and normalisation scales held at their values in the run.
///
/// One pass: a stream for each order is carried through the layers. It yields what the paper's repeated runs do (patterns forced, each
/// head's output kept aside and added in the next run), also with biases: `b_O` and what the unembedding adds count as order 0,
/// `b_V` has passed through one head, and heads carry biases on as they do everything else. Orders 1 and 2 are also split by the
/// layers that the heads are in.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::term_importance;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let found = term_importance(&model, &tokens, &[(7..12).collect()])?;
/// // The induction head gives one of 13 tokens a logit of 10, and that with the first order: it reads tokens, and the head
/// // before it acts through keys, that is through the pattern alone.
/// let saturated = (1.0 + 12.0 * (-10f64).exp()).ln();
/// for (term, reduction) in found.terms.iter().zip([0.0, 13f64.ln() - saturated, 0.0, 13f64.ln() - saturated, 0.0, 0.0]) {
///     assert!((term.reduction[0] - reduction).abs() < 1e-4, "order {}, layers {:?}", term.order, term.layers);
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] for batches and groups that do not fit, as [the module](super) says.
pub fn term_importance(model: &Transformer, batch: &TokenBatch, groups: &[Vec<usize>]) -> Result<TermImportance> {
    check_groups(groups, batch.length())?;
    let frozen = Frozen::new(model);
    let config = model.config();
    let keys = keys(config.n_layers);
    let parts = model.map_chunks(batch, Frozen::KEEP, |chunk, cache| {
        let run = frozen.run(chunk.tokens, cache);
        let (mut terms, orders) = streams(&run);
        let whole = orders.iter().fold(run.zeros(), |sum, stream| sum + stream);
        let loss = |logits: Array2<f32>| sums(losses(&run, logits).view(), groups);
        // Logits are linear in the stream: those of a sum are the sum of the logits.
        let mut whole = run.unembed(&whole);
        let mut lower = Array2::zeros(whole.dim());
        if let Some(b_u) = run.frozen().unembed_bias() {
            whole += &b_u;
            lower += &b_u;
        }
        let mut found = Vec::with_capacity(keys.len());
        for (order, stream) in orders.iter().enumerate() {
            let own = run.unembed(stream);
            found.push([loss(&lower + &own), loss(&whole - &own)]);
            for term in terms.get_mut(order).map(std::mem::take).unwrap_or_default() {
                let own = run.unembed(&term);
                found.push([loss(&lower + &own), loss(&whole - &own)]);
            }
            lower += &own;
        }
        (loss(whole), found)
    })?;

    let sizes = sizes(groups, batch.sequences());
    let mean = |of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        let group = |(group, size): (usize, &f64)| (0..parts.len()).map(|chunk| of(chunk, group)).sum::<f64>() / size;
        sizes.iter().enumerate().map(group).collect()
    };
    let mut terms: Vec<Term> = Vec::with_capacity(keys.len());
    let mut lower = vec![(config.d_vocab as f64).ln(); groups.len()];
    let mut up_to = lower.clone();
    for (index, (order, layers)) in keys.into_iter().enumerate() {
        let loss = mean(&|chunk, group| parts[chunk].1[index][0][group]);
        let paths = if layers.is_empty() {
            lower = std::mem::replace(&mut up_to, loss.clone());
            count_of_order(config, order)
        } else {
            (config.n_heads as u128).checked_pow(order as u32).unwrap_or(u128::MAX)
        };
        let reduction = lower.iter().zip(&loss).map(|(lower, loss)| lower - loss).collect();
        let without = mean(&|chunk, group| parts[chunk].1[index][1][group]);
        terms.push(Term { order, layers, paths, loss, reduction, without });
    }
    let loss = mean(&|chunk, group| parts[chunk].0[group]);
    Ok(TermImportance { loss, terms })
}

/// Order and layers of every term, in order.
fn keys(n_layers: usize) -> Vec<(usize, Vec<usize>)> {
    let mut all = vec![(0, vec![])];
    for order in 1..=n_layers {
        all.push((order, vec![]));
        match order {
            1 => all.extend((0..n_layers).map(|layer| (1, vec![layer]))),
            2 => all.extend((0..n_layers).flat_map(|a| (a + 1..n_layers).map(move |b| (2, vec![a, b])))),
            _ => {}
        }
    }
    all
}

/// What the paths of orders 1 and 2 write, layer by layer (entries 1 and 2 of the first list), and what those of every order do.
fn streams(run: &FrozenRun) -> (Vec<Vec<Array2<f32>>>, Vec<Array2<f32>>) {
    let n_layers = run.frozen().model().config().n_layers;
    let mut orders = vec![source(run)];
    orders.resize_with(n_layers + 1, || run.zeros());
    let mut first: Vec<Array2<f32>> = Vec::new();
    let mut second: Vec<Vec<Array2<f32>>> = Vec::new();
    for layer in 0..n_layers {
        second.push(Vec::new());
        for (from, stream) in first.iter().enumerate() {
            second[from].push(run.layer(layer, stream));
        }
        // From the longest on: an order reads what the one before it was in front of this layer.
        for order in (3..=layer + 1).rev() {
            let moved = run.layer(layer, &orders[order - 1]);
            orders[order] += &moved;
        }
        let mut moved = run.layer(layer, &orders[0]);
        if let Some(constants) = run.frozen().head_constants(layer) {
            moved += &constants;
        }
        orders[1] += &moved;
        first.push(moved);
        if let Some(b_o) = run.frozen().b_o(layer) {
            orders[0] += &b_o;
        }
        if layer > 0 {
            let pairs = second.iter().take(layer).map(|pairs| pairs.last().expect("one for each later layer"));
            pairs.for_each(|pair| orders[2] += pair);
        }
    }
    (vec![Vec::new(), first, second.into_iter().flatten().collect()], orders)
}

/// The loss of each prediction from its logits `[b·n, V]`: `[b, n − 1]`.
fn losses(run: &FrozenRun, logits: Array2<f32>) -> Array2<f64> {
    let (b, n) = run.tokens().dim();
    let shape = (b, n, logits.ncols());
    predictions(logits.into_shape_with_order(shape).expect("products are in standard layout").view(), run.tokens()).loss
}
