use crate::Result;
use crate::batch::TokenBatch;
use crate::model::frozen::{Frozen, FrozenRun};
use crate::model::{HeadId, Keep, ModelConfig, Positions, Transformer};
use ndarray::{Array2, Array3, ArrayView1, Axis, s};
use std::fmt;

/// Whether positions are a source of their own.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::{Split, score_paths, source_count};
/// use ndarray::ArrayView1;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let own = |tokens: ArrayView1<u32>| (1..tokens.len()).map(|i| (i, i)).collect::<Vec<_>>();
/// for (split, names) in [(Split::Own, vec!["embed", "position", "0.0"]), (Split::Together, vec!["direct", "0.0"])] {
///     let found = score_paths(&model, &tokens, &[HeadId::new(1, 0)], split, &[own])?;
///     let sources: Vec<_> = found[0][0].sources.iter().map(|source| source.to_string()).collect();
///     assert_eq!(sources, names);
///     // The count allows for biases, of which this model has none.
///     assert_eq!(source_count(model.config(), 1, split), names.len() + 1);
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// `embed` and `position` are two sources.
    Own,
    /// Both together are `direct`.
    Together,
}

/// What a query or a key is made of. [`Split`] shows the sources of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Tokens and positions together.
    Direct,
    /// The token embedding.
    Embed,
    /// Positions, written to the stream or added to queries and keys alone.
    Position,
    /// All that a head of an earlier layer writes, `b_V` included.
    Head(HeadId),
    /// What does not depend on the input: `b_Q` and `b_K`, each earlier `b_O`, and the bias of the LayerNorm.
    Bias,
}

impl fmt::Display for Source {
    /// `direct`, `embed`, `position`, `0.3`, `bias`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Embed => f.write_str("embed"),
            Self::Position => f.write_str("position"),
            Self::Head(id) => id.fmt(f),
            Self::Bias => f.write_str("bias"),
        }
    }
}

/// The sources that the heads of a layer read, in order.
fn sources(config: &ModelConfig, layer: usize, split: Split, has_bias: bool) -> Vec<Source> {
    let mut all = match split {
        Split::Together => vec![Source::Direct],
        Split::Own if matches!(config.positions, Positions::Standard | Positions::Shortformer) => {
            vec![Source::Embed, Source::Position]
        }
        Split::Own => vec![Source::Embed],
    };
    all.extend(config.heads().filter(|id| id.layer < layer).map(Source::Head));
    all.extend(has_bias.then_some(Source::Bias));
    all
}

/// How many sources the heads of a layer read at most: what is embedded, the heads of earlier layers, and biases.
///
/// ```
/// # use attn_circuits::model::{ModelConfig, Normalization, Positions};
/// use attn_circuits::circuit::paths::{Split, source_count};
/// # let config = ModelConfig {
/// #     n_layers: 3, n_heads: 4, d_model: 16, d_head: 4, d_vocab: 10, n_ctx: 12,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::Standard, attn_scale: 2.0,
/// # };
/// // In layer 2: tokens, positions, two layers of four heads, and biases.
/// assert_eq!(source_count(&config, 2, Split::Own), 1 + 1 + 2 * 4 + 1);
/// assert_eq!(source_count(&config, 2, Split::Together), 1 + 2 * 4 + 1);
/// ```
pub fn source_count(config: &ModelConfig, layer: usize, split: Split) -> usize {
    // Without a list of all heads: a plan may ask for models that are too large to be listed.
    let positions = usize::from(split == Split::Own && config.has_w_pos());
    layer.saturating_mul(config.n_heads).saturating_add(2 + positions)
}

/// The terms of one head's attention score.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::{Split, score_paths};
/// use ndarray::ArrayView1;
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 13 }")?;
/// let tokens = TokenBatch::new(array![[3, 1, 4]], None)?;
/// let (marked, none) = (vec![(2, 0)], vec![]);
/// let marks = [marked, none].map(|pairs: Vec<(usize, usize)>| move |_: ArrayView1<u32>| pairs.clone());
/// let found = score_paths(&model, &tokens, &[HeadId::new(1, 1)], Split::Own, &marks)?;
/// // The terms add up to what the marked source, 0, scores above the others, 1 and 2.
/// let scores = model.run(&tokens, Keep { scores: true, ..Keep::NOTHING })?.scores[1].mapv(f64::from);
/// let above = scores[[0, 1, 2, 0]] - 0.5 * (scores[[0, 1, 2, 1]] + scores[[0, 1, 2, 2]]);
/// assert!(found[0][0].value.as_ref().is_some_and(|value| (value.sum() - above).abs() < 1e-5));
/// // Without a mark there is nothing to compare.
/// assert_eq!(found[1][0].value, None);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreTerms {
    /// The head.
    pub head: HeadId,
    /// What its queries and keys are made of.
    pub sources: Vec<Source>,
    /// What each pair of sources, `[query, key]`, adds to the score of the marked sources above the others; `None` if no
    /// destination has both.
    pub value: Option<Array2<f64>>,
    /// The size that the terms would have if every query met its key in full: the sum over all pairs of the products of the
    /// root mean square lengths, over the scale of the scores. Terms far below it are rounding.
    pub size: f64,
}

/// Splits the attention scores (before softmax) of `heads` into the terms that queries and keys from each pair of sources add: for
/// each of `marks` a list in the order of `heads`.
///
/// Each of `marks` names, for a sequence of tokens, pairs (destination, source). A destination counts if some of its allowed sources
/// (itself and those before) are marked and some are not; its number is the mean score of those that are less the mean score of
/// those that are not, so that what raises all sources alike, and does nothing to attention, falls out. A term's value is the
/// mean over the destinations that count, of all sequences. The terms sum to the same mean of the scores themselves: exactly,
/// since a score is bilinear in query and key (Elhage et al. 2021, "Path expansion of attention scores"); with LayerNorm the
/// scale is held at its value in the run. Rotary positions turn each source's queries and keys and are no source of their own.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::paths::{Source, Split, score_paths};
/// use ndarray::ArrayView1;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// // What an induction head should see from the second repeat: the position behind the earlier copy of the current token.
/// let behind = |_: ArrayView1<u32>| (7..13).map(|i| (i, i - 6 + 1)).collect::<Vec<_>>();
/// let terms = &score_paths(&model, &tokens, &[HeadId::new(1, 0)], Split::Own, &[behind])?[0][0];
/// // K-composition: the query is the token, the key what the previous-token head wrote; they meet with the sharpness of 20.
/// let wired = (Source::Embed, Source::Head(HeadId::new(0, 0)));
/// for ((query, key), value) in terms.value.iter().flat_map(|value| value.indexed_iter()) {
///     let expected = if (terms.sources[query], terms.sources[key]) == wired { 20.0 } else { 0.0 };
///     assert!((value - expected).abs() < 1e-3);
/// }
/// // So they meet in full.
/// assert!((terms.size - 20.0).abs() < 1e-3);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the model cannot read the batch, as [`Transformer::check_batch`] finds, or has no such head.
///
/// # Panics
/// If a mark lies beyond the sequence.
pub fn score_paths(
    model: &Transformer,
    batch: &TokenBatch,
    heads: &[HeadId],
    split: Split,
    marks: &[impl Fn(ArrayView1<u32>) -> Vec<(usize, usize)> + Sync],
) -> Result<Vec<Vec<ScoreTerms>>> {
    for &id in heads {
        model.config().check_head(id)?;
    }
    let frozen = Frozen::new(model);
    let has_bias = frozen.has_bias();
    let keep = Keep { z: true, ..Frozen::KEEP };
    let parts = model.map_chunks(batch, keep, |chunk, cache| {
        let run = frozen.run(chunk.tokens, cache);
        let contrasts: Vec<Vec<_>> = marks
            .iter()
            .map(|marks| chunk.tokens.rows().into_iter().map(|row| Contrast::new(row.len(), &marks(row))).collect())
            .collect();
        let counts: Vec<_> =
            contrasts.iter().map(|of| of.iter().map(|contrast| contrast.destinations).sum::<usize>()).collect();
        let terms = |&id: &HeadId| {
            let sources = sources(model.config(), id.layer, split, has_bias);
            terms(&run, id, &sources, &contrasts)
        };
        (counts, heads.iter().map(terms).collect::<Vec<_>>())
    })?;

    let positions = batch.tokens().len() as f64;
    let of_head = |which: usize, (index, &head): (usize, &HeadId)| {
        let sources = sources(model.config(), head.layer, split, has_bias);
        let zeros = Array2::<f64>::zeros((sources.len(), sources.len()));
        let sum = parts.iter().fold(zeros, |sum, (_, heads)| sum + &heads[index].sums[which]);
        let count = parts.iter().map(|(counts, _)| counts[which]).sum::<usize>();
        let squares = |side: usize| -> f64 {
            let of = |source: usize| parts.iter().map(|(_, heads)| heads[index].squares[(side, source)]).sum::<f64>();
            (0..sources.len()).map(|source| (of(source) / positions).sqrt()).sum()
        };
        let scale = model.config().attn_scale;
        ScoreTerms {
            head,
            value: (count > 0).then(|| sum / (count as f64 * scale)),
            size: squares(0) * squares(1) / scale,
            sources,
        }
    };
    Ok((0..marks.len()).map(|which| heads.iter().enumerate().map(|head| of_head(which, head)).collect()).collect())
}

/// How the sources of each destination are weighed: marked ones positive, the other allowed ones negative, each in equal parts.
struct Contrast {
    /// `[n, n]`; rows of destinations that do not count are zero.
    weights: Array2<f64>,
    /// How many destinations count.
    destinations: usize,
}

impl Contrast {
    fn new(n: usize, marks: &[(usize, usize)]) -> Self {
        let mut marked = Array2::from_elem((n, n), false);
        marks.iter().for_each(|&pair| marked[pair] = true);
        let mut weights = Array2::zeros((n, n));
        let mut destinations = 0;
        for (destination, (marked, mut weights)) in marked.rows().into_iter().zip(weights.rows_mut()).enumerate() {
            let allowed = destination + 1;
            let found = marked.iter().take(allowed).filter(|&&marked| marked).count();
            if found == 0 || found == allowed {
                continue;
            }
            destinations += 1;
            for (weight, &marked) in weights.iter_mut().zip(marked).take(allowed) {
                *weight = if marked { 1.0 / found as f64 } else { -1.0 / (allowed - found) as f64 };
            }
        }
        Self { weights, destinations }
    }
}

/// What one chunk adds to a head's terms.
struct Terms {
    /// `[query source, key source]` for each kind of marks, not yet divided by the scale.
    sums: Vec<Array2<f64>>,
    /// Squared lengths of queries (row 0) and keys (row 1), by source.
    squares: Array2<f64>,
}

/// `contrasts`: for each kind of marks, one for each sequence.
fn terms(run: &FrozenRun, id: HeadId, sources: &[Source], contrasts: &[Vec<Contrast>]) -> Terms {
    let d_head = run.frozen().model().config().d_head;
    let n = run.tokens().ncols();
    let parts = queries_and_keys(run, id, sources);
    let count = sources.len();
    let mut sums = vec![Array2::zeros((count, count)); contrasts.len()];
    let mut squares = Array2::zeros((2, count));
    for sequence in 0..run.tokens().nrows() {
        let rows = sequence * n..(sequence + 1) * n;
        // Positions, sources, coordinates.
        let side = |which: usize| {
            let columns = which * d_head..(which + 1) * d_head;
            Array3::from_shape_fn((n, count, d_head), |(position, source, column)| {
                f64::from(parts[source][(rows.start + position, columns.start + column)])
            })
        };
        let (queries, keys) = (side(0), side(1));
        for (which, side) in [&queries, &keys].into_iter().enumerate() {
            for (source, of_source) in side.axis_iter(Axis(1)).enumerate() {
                squares[(which, source)] += of_source.iter().map(|v| v * v).sum::<f64>();
            }
        }
        let flat = |side: Array3<f64>| side.into_shape_with_order((n, count * d_head)).expect("a fresh array");
        let keys = flat(keys);
        for (sum, contrasts) in sums.iter_mut().zip(contrasts) {
            // For each destination and source, the key that its marked sources have above the others.
            let contrasted = contrasts[sequence].weights.dot(&keys);
            let contrasted = contrasted.into_shape_with_order((n, count, d_head)).expect("products are in standard layout");
            for destination in 0..n {
                let query = queries.slice(s![destination, .., ..]);
                *sum += &query.dot(&contrasted.slice(s![destination, .., ..]).t());
            }
        }
    }
    Terms { sums, squares }
}

/// What each source makes of a head's queries and keys, side by side: `[b·n, 2k]` for each.
fn queries_and_keys(run: &FrozenRun, id: HeadId, sources: &[Source]) -> Vec<Array2<f32>> {
    let frozen = run.frozen();
    let config = frozen.model().config();
    let (b, n) = run.tokens().dim();
    let w_qk = frozen.w_qk(id);
    let read = |mut x: Array2<f32>| {
        run.scale(id.layer, &mut x);
        x.dot(&w_qk)
    };
    let zeros = || Array2::<f32>::zeros((b * n, 2 * config.d_head));
    let position = || {
        if let Some(placed) = run.placed() {
            return read(placed);
        }
        let mut all = zeros();
        if let Some(of_position) = frozen.position_qk(id, n) {
            all.axis_chunks_iter_mut(Axis(0), n).for_each(|mut sequence| sequence.assign(&of_position));
        }
        all
    };
    let one = |&source: &Source| {
        let mut qk = match source {
            Source::Embed => read(run.embedded()),
            Source::Position => position(),
            Source::Direct => read(run.embedded()) + &position(),
            Source::Head(from) => {
                let columns = from.head * config.d_head..(from.head + 1) * config.d_head;
                let between = frozen.w_o(from.layer).slice(s![columns, ..]).dot(&w_qk);
                let z = run.cache().z[from.layer].slice(s![.., .., from.head, ..]);
                let z = z.as_standard_layout().into_owned();
                let mut z = z.into_shape_with_order((b * n, config.d_head)).expect("in standard layout");
                run.scale(id.layer, &mut z);
                z.dot(&between)
            }
            Source::Bias => {
                let mut x = run.zeros();
                (0..id.layer).filter_map(|layer| frozen.b_o(layer)).for_each(|b_o| x += &b_o);
                let mut qk = read(x);
                if let Some(b_qk) = frozen.b_qk(id) {
                    qk += &b_qk;
                }
                qk
            }
        };
        frozen.turn(n, &mut qk);
        qk
    };
    sources.iter().map(one).collect()
}
