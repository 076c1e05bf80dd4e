use super::{sizes, sums};
use crate::Result;
use crate::batch::TokenBatch;
use crate::circuit::loss::check_groups;
use crate::model::frozen::{Frozen, FrozenRun};
use crate::model::{HeadId, Keep, Positions, Transformer};
use ndarray::{Array1, Array2, ArrayView2, s};
use std::fmt;

/// Something that writes to the stream, or to the logits themselves. All of them together make the logits.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::{logit_attribution, paths};
/// let model = notebook.model("one", "{ kind: random, layers: 1, heads: 2, d_model: 8, vocab: 9, context: 13, biases: true }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let groups = [(0..12).collect()];
/// let found = logit_attribution(&model, &tokens, &groups)?;
/// let names: Vec<_> = found.iter().map(|part| part.component.to_string()).collect();
/// assert_eq!(names, ["embed", "position", "0.0", "0.1", "bias"]);
/// // They sum to the logit of the token that follows.
/// let sum: f64 = found.iter().map(|part| part.logit[0]).sum();
/// assert!((sum - paths(&model, &tokens, 0, &groups)?.logit[0]).abs() < 1e-4);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The token embedding.
    Embed,
    /// The positions, where they are written to the stream.
    Position,
    /// A head, `b_V` included.
    Head(HeadId),
    /// Everything that does not depend on the input: each `b_O`, and what the unembedding adds (`b_U` and, through `W_U`, the
    /// bias of the last LayerNorm).
    Bias,
}

impl fmt::Display for Component {
    /// `embed`, `position`, `0.3`, `bias`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Embed => f.write_str("embed"),
            Self::Position => f.write_str("position"),
            Self::Head(id) => id.fmt(f),
            Self::Bias => f.write_str("bias"),
        }
    }
}

/// What a component contributes to logits, one number for each group of positions. [`logit_attribution`] finds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// Which component.
    pub component: Component,
    /// Mean contribution to the logit of the token that follows, over the positions of the group and all sequences.
    pub logit: Vec<f64>,
    /// The same, less the mean contribution to all logits.
    pub above_mean: Vec<f64>,
}

/// Two directions of the stream for each position, `[b·n, d]`: the one that the logit of the next token reads, and the one that
/// the mean of all logits reads. The last position, which has no next token, reads that of its own.
fn directions(run: &FrozenRun, mean: &Array1<f32>) -> [Array2<f32>; 2] {
    let (w_u, tokens) = (run.frozen().w_u(), run.tokens());
    let n = tokens.ncols();
    let [mut next, mut all] = [run.zeros(), run.zeros()];
    for (row, mut place) in next.rows_mut().into_iter().enumerate() {
        let token = tokens[(row / n, (row % n + 1).min(n - 1))];
        place.assign(&w_u.column(token as usize));
    }
    all += mean;
    for direction in [&mut next, &mut all] {
        run.scale(run.frozen().model().config().n_layers, direction);
    }
    [next, all]
}

/// Products of rows, `[b, n − 1]`.
fn products(a: ArrayView2<f32>, b: ArrayView2<f32>, n: usize) -> Array2<f64> {
    let of = |sequence: usize, position: usize| {
        let row = sequence * n + position;
        a.row(row).iter().zip(b.row(row)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    Array2::from_shape_fn((a.nrows() / n, n - 1), |(sequence, position)| of(sequence, position))
}

/// The mean of each row of `w`.
fn row_means(w: ArrayView2<f32>) -> Array1<f32> {
    w.rows().into_iter().map(|row| (row.iter().map(|&v| f64::from(v)).sum::<f64>() / row.len() as f64) as f32).collect()
}

/// Direct logit attribution, as TransformerLens has it: what each component contributes to the logit of the token that follows,
/// by itself and through no other head.
///
/// With LayerNorm: behind the last one, its scale held at its value in the run; centred, and multiplied by its weight. The parts sum
/// to the logit. In the order of [`Component`]; [`Component::Position`] only with standard positions, [`Component::Bias`] only if
/// the model has any that are not zero.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::{Component, logit_attribution};
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// // In the second repeat the induction head gives the right token its logit of 10, and nobody else writes what W_U reads.
/// for part in logit_attribution(&model, &tokens, &[(7..12).collect()])? {
///     let logit = if part.component == Component::Head(HeadId::new(1, 0)) { 10.0 } else { 0.0 };
///     assert!((part.logit[0] - logit).abs() < 1e-4);
///     // One of 13 tokens is raised: the mean over all of them rises by a thirteenth.
///     assert!((part.above_mean[0] - logit * 12.0 / 13.0).abs() < 1e-4);
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] for batches and groups that do not fit, as [the module](super) says.
pub fn logit_attribution(model: &Transformer, batch: &TokenBatch, groups: &[Vec<usize>]) -> Result<Vec<Attribution>> {
    check_groups(groups, batch.length())?;
    let frozen = Frozen::new(model);
    let config = model.config();
    let mut components = vec![Component::Embed];
    components.extend((config.positions == Positions::Standard).then_some(Component::Position));
    components.extend(config.heads().map(Component::Head));
    components.extend(frozen.has_bias().then_some(Component::Bias));
    let mean = row_means(frozen.w_u());

    let keep = Keep { z: true, ..Frozen::KEEP };
    let parts = model.map_chunks(batch, keep, |chunk, cache| {
        let run = frozen.run(chunk.tokens, cache);
        let of_chunk = components_of(&run, &mean);
        of_chunk.iter().map(|[next, mean]| [sums(next.view(), groups), sums(mean.view(), groups)]).collect::<Vec<_>>()
    })?;

    let sizes = sizes(groups, batch.sequences());
    let attribution = |(index, &component): (usize, &Component)| {
        let mean = |which: usize| -> Vec<f64> {
            let of = |(group, size): (usize, &f64)| parts.iter().map(|part| part[index][which][group]).sum::<f64>() / size;
            sizes.iter().enumerate().map(of).collect()
        };
        let (logit, all) = (mean(0), mean(1));
        let above_mean = logit.iter().zip(&all).map(|(logit, all)| logit - all).collect();
        Attribution { component, logit, above_mean }
    };
    Ok(components.iter().enumerate().map(attribution).collect())
}

/// Each component's contribution to the next token's logit and to the mean of all logits, `[b, n − 1]` each.
fn components_of(run: &FrozenRun, mean: &Array1<f32>) -> Vec<[Array2<f64>; 2]> {
    let frozen = run.frozen();
    let config = frozen.model().config();
    let (b, n) = run.tokens().dim();
    let directions = directions(run, mean);
    let both = |x: ArrayView2<f32>| directions.each_ref().map(|direction| products(x, direction.view(), n));

    let mut all = vec![both(run.embedded().view())];
    all.extend(run.placed().map(|placed| both(placed.view())));
    for layer in 0..config.n_layers {
        // A head writes z W_O: read by a direction, that is z times what W_O makes of the direction.
        let back = directions.each_ref().map(|direction| direction.dot(&frozen.w_o(layer).t()));
        let z = run.cache().z[layer].view();
        let z = z.into_shape_with_order((b * n, config.n_heads * config.d_head)).expect("z is in standard layout");
        for head in 0..config.n_heads {
            let columns = head * config.d_head..(head + 1) * config.d_head;
            let z = z.slice(s![.., columns.clone()]);
            all.push(back.each_ref().map(|back| products(z, back.slice(s![.., columns.clone()]), n)));
        }
    }
    if frozen.has_bias() {
        let mut x = run.zeros();
        (0..config.n_layers).filter_map(|layer| frozen.b_o(layer)).for_each(|b_o| x += &b_o);
        let [mut next, mut mean] = both(x.view());
        if let Some(b_u) = frozen.unembed_bias() {
            let tokens = run.tokens();
            next.indexed_iter_mut().for_each(|((i, j), v)| *v += f64::from(b_u[tokens[(i, j + 1)] as usize]));
            mean += b_u.iter().map(|&v| f64::from(v)).sum::<f64>() / b_u.len() as f64;
        }
        all.push([next, mean]);
    }
    all
}
