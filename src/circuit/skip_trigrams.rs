//! Skip-trigrams of the heads of a one-layer model: a source token somewhere before, a destination token here, a token that comes out.
//!
//! Source: Elhage et al. 2021, "Splitting attention head terms into circuits". A head that attends from a
//! destination token to a source token with weight `A` adds `A` times the source's row of the full OV circuit to the logits.

use super::table::{map_rows, noise, tie};
use super::weights::{Circuit, Circuits};
use crate::Result;
use crate::linalg::{LowRank, log_sum_exp};
use crate::model::HeadId;
use ndarray::ArrayView1;
use rayon::prelude::*;

/// A skip-trigram of a head: what [`skip_trigrams`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkipTrigram {
    /// The token that stands somewhere before.
    pub source: usize,
    /// The token that attends to it.
    pub destination: usize,
    /// The token whose logit changes.
    pub out: usize,
    /// Attention of the destination to the source, if every token of the vocabulary stood once before it.
    pub attention: f64,
    /// The source's full OV entry for `out`, minus the mean over all outs: a difference of logits.
    pub effect: f64,
}

/// The tokens among which skip-trigrams are looked for, ascending; all without a list.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::skip_trigrams::{Among, skip_trigrams};
/// // `keep … in → mind` and `keep … at → bay` in one head: 2 `in`, 3 `at`, 4 `mind`, 5 `bay`.
/// let model = notebook.model("bug", "{ kind: wired, circuit: skip-trigram-bug, vocab: 6, context: 8 }")?;
/// let circuits = Circuits::new(&model);
/// let found = |among| skip_trigrams(&circuits, HeadId::new(0, 0), among, 4);
/// let ends: Vec<_> = found(Among::default())?.iter().map(|t| (t.destination, t.out)).collect();
/// // The crossed pairs are raised too.
/// assert_eq!(ends, [(2, 4), (2, 5), (3, 4), (3, 5)]);
/// let of_in = Among { destinations: Some(&[2]), outs: Some(&[4, 5]), sources: Some(&[1]) };
/// assert_eq!(found(of_in)?.len(), 2);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Among<'a> {
    /// Tokens that stand before.
    pub sources: Option<&'a [usize]>,
    /// Tokens that attend.
    pub destinations: Option<&'a [usize]>,
    /// Tokens that come out.
    pub outs: Option<&'a [usize]>,
}

fn token(list: Option<&[usize]>, index: usize) -> usize {
    list.map_or(index, |list| list[index])
}

/// The two circuits of one head over tokens, as factors.
#[derive(Debug)]
pub(super) struct HeadTables {
    /// Attention scores by source, then destination, `[sources, destinations]`.
    scores: LowRank,
    /// `ln Σ exp` of each destination's scores over all sources.
    normalizers: Vec<f64>,
    /// Full OV circuit, rows centred over all outs, `[sources, outs]`.
    effects: LowRank,
    /// Entries of `effects` below this are rounding.
    pub(super) noise: f64,
}

impl HeadTables {
    pub(super) fn new(circuits: &Circuits, id: HeadId, among: Among) -> Result<Self> {
        let (qk, ov) = (Circuit::FullQk(id), Circuit::FullOv(id));
        let scale = circuits.model().config().attn_scale;
        let scores = circuits.low_rank(qk)?.select(among.destinations, None).scaled(1.0 / scale);
        Ok(Self {
            normalizers: map_rows(&scores, |_, row| log_sum_exp(row)),
            scores: scores.t().select(among.sources, None),
            effects: circuits.low_rank(ov)?.centered_rows().select(among.sources, among.outs),
            noise: noise(circuits, ov),
        })
    }

    /// Attention to source number `source` from each destination.
    fn attention(&self, scores: ArrayView1<f64>) -> Vec<f64> {
        scores.iter().zip(&self.normalizers).map(|(score, normalizer)| (score - normalizer).exp()).collect()
    }

    /// Attention to a source from each destination, and what that does to each out.
    pub(super) fn of_source(&self, source: usize) -> (Vec<f64>, Vec<f64>) {
        let scores = self.scores.rows(source..source + 1);
        (self.attention(scores.row(0)), self.effects.rows(source..source + 1).row(0).to_vec())
    }
}

/// The `count` values that come first in descending order, sorted so.
fn first_descending(values: &[f64], count: usize) -> Vec<f64> {
    let mut sorted = values.to_vec();
    if count < sorted.len() {
        sorted.select_nth_unstable_by(count, |a, b| b.total_cmp(a));
        sorted.truncate(count);
    }
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted
}

/// The `top` largest products of one of `attention`, none of which is negative, and one of `effects`, descending.
fn largest_products(attention: &[f64], effects: &[f64], top: usize) -> Vec<f64> {
    let descending = first_descending(attention, top);
    // An effect that lowers a logit does so least where attention is least.
    let negated: Vec<f64> = attention.iter().map(|value| -value).collect();
    let ascending: Vec<f64> = first_descending(&negated, top).into_iter().map(|value| -value).collect();
    let effects = first_descending(effects, top);
    let (raising, lowering) = effects.split_at(effects.partition_point(|&effect| effect > 0.0));
    let mut products = Vec::new();
    for (effects, attention) in [(raising, &descending), (lowering, &ascending)] {
        // The product of the i-th and the j-th has i·j − 1 that are at least as large.
        for (i, effect) in effects.iter().enumerate() {
            products.extend(attention.iter().take(top / (i + 1)).map(|attention| attention * effect));
        }
    }
    first_descending(&products, top)
}

/// The largest product that each source has, and what chooses the `top` of all sources.
struct Threshold {
    /// By source.
    largest: Vec<f64>,
    /// The least product that is among the `top`; minus infinity if there are no more than `top`.
    least: f64,
    /// Products closer than this are equal.
    tie: f64,
}

fn threshold(tables: &HeadTables, top: usize) -> Threshold {
    let (sources, destinations) = tables.scores.dim();
    let outs = tables.effects.dim().1;
    let block = super::table::BLOCK;
    let starts: Vec<usize> = (0..sources).step_by(block).collect();
    // Of each block: each source's largest product, the largest of all, and the largest attention.
    let blocks: Vec<(Vec<f64>, Vec<f64>, f64)> = starts
        .par_iter()
        .map(|&start| {
            let rows = start..(start + block).min(sources);
            let (scores, effects) = (tables.scores.rows(rows.clone()), tables.effects.rows(rows));
            let (mut of_sources, mut all, mut most) = (Vec::new(), Vec::new(), 0.0f64);
            for (scores, effects) in scores.rows().into_iter().zip(effects.rows()) {
                let attention = tables.attention(scores);
                let products = largest_products(&attention, &effects.to_vec(), top);
                of_sources.push(products.first().copied().unwrap_or(f64::NEG_INFINITY));
                most = attention.iter().copied().fold(most, f64::max);
                all.extend(products);
            }
            (of_sources, first_descending(&all, top), most)
        })
        .collect();
    let most = blocks.iter().map(|block| block.2).fold(0.0, f64::max);
    let all = first_descending(&blocks.iter().flat_map(|block| block.1.iter().copied()).collect::<Vec<_>>(), top);
    let everything = sources.saturating_mul(destinations).saturating_mul(outs) <= top;
    let magnitude = all.iter().fold(0.0f64, |max, value| max.max(value.abs()));
    Threshold {
        largest: blocks.into_iter().flat_map(|block| block.0).collect(),
        least: if everything { f64::NEG_INFINITY } else { all.last().copied().unwrap_or(f64::NEG_INFINITY) },
        tie: tie(magnitude, tables.noise * most),
    }
}

/// The `top` skip-trigrams of a head by attention times effect, sorted by source, destination and out; of equal ones the first.
///
/// Attention is the softmax of the full QK circuit (in units of scores) over all tokens of the vocabulary as sources. Found from
/// blocks of rows: nothing of the size of the vocabulary squared is kept.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::skip_trigrams::{Among, skip_trigrams};
/// let model = notebook.model("keep", "{ kind: wired, circuit: skip-trigram, vocab: 5, context: 8 }")?;
/// let found = skip_trigrams(&Circuits::new(&model), HeadId::new(0, 0), Among::default(), 1)?;
/// // `keep … in → mind`: 1 `keep`, 2 `in`, 3 `mind`.
/// assert_eq!((found[0].source, found[0].destination, found[0].out), (1, 2, 3));
/// // From `in`, `keep` scores 20, the start token 10, the three others 0.
/// assert!((found[0].attention - 1.0 / (1.0 + (-10f64).exp() + 3.0 * (-20f64).exp())).abs() < 1e-5);
/// // One of five tokens is raised by 10.
/// assert!((found[0].effect - 10.0 * (1.0 - 1.0 / 5.0)).abs() < 1e-4);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// None that a model's own heads can cause.
///
/// # Panics
/// If the model has no such head or token.
pub fn skip_trigrams(circuits: &Circuits, id: HeadId, among: Among, top: usize) -> Result<Vec<SkipTrigram>> {
    let tables = HeadTables::new(circuits, id, among)?;
    let Threshold { largest, least, tie } = threshold(&tables, top);
    let (mut above, mut equal) = (Vec::new(), Vec::new());
    for (source, &best) in largest.iter().enumerate() {
        let wanted = |product: f64, full: bool| product > least + tie || (!full && product >= least - tie);
        if !wanted(best, equal.len() == top) {
            continue;
        }
        let (attention, effects) = tables.of_source(source);
        let most = effects.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for (destination, &attention) in attention.iter().enumerate() {
            if !wanted(attention * most, equal.len() == top) {
                continue;
            }
            for (out, &effect) in effects.iter().enumerate() {
                let product = attention * effect;
                if !wanted(product, equal.len() == top) {
                    continue;
                }
                let found = SkipTrigram {
                    source: token(among.sources, source),
                    destination: token(among.destinations, destination),
                    out: token(among.outs, out),
                    attention,
                    effect,
                };
                if product > least + tie { above.push(found) } else { equal.push(found) }
            }
        }
    }
    equal.truncate(top.saturating_sub(above.len()));
    above.extend(equal);
    above.sort_by_key(|found| (found.source, found.destination, found.out));
    Ok(above)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::batch::TokenBatch;
    use crate::circuit::skip_trigram_rank::centered;
    use crate::circuit::testing::model;
    use crate::linalg::softmax;
    use crate::model::{Keep, Transformer};
    use ndarray::{Array2, s};
    use serde_json::json;

    pub(in crate::circuit) fn one_layer(heads: usize, vocab: usize) -> Transformer {
        let shape = json!({ "layers": 1, "heads": heads, "d_model": 8, "d_head": 3, "vocab": vocab, "context": vocab });
        let random = model("random", shape);
        // Large enough that attention is far from uniform, and without positions.
        let mut weights = random.to_weights();
        weights.w_pos = None;
        weights.w_e *= 4.0;
        let config = crate::model::ModelConfig { positions: crate::model::Positions::None, ..random.config().clone() };
        Transformer::new(config, weights).unwrap()
    }

    pub(in crate::circuit) fn by_brute_force(model: &Transformer, id: HeadId) -> Vec<SkipTrigram> {
        let circuits = Circuits::new(model);
        let scores = circuits.low_rank(Circuit::FullQk(id)).unwrap().dense() / model.config().attn_scale;
        let effects = centered(&circuits.low_rank(Circuit::FullOv(id)).unwrap().dense());
        let vocab = model.config().d_vocab;
        let mut all = Vec::new();
        for source in 0..vocab {
            for destination in 0..vocab {
                for out in 0..vocab {
                    let attention = softmax(scores.row(destination))[source];
                    all.push(SkipTrigram { source, destination, out, attention, effect: effects[(source, out)] });
                }
            }
        }
        all
    }

    #[test]
    fn the_largest_are_those_of_the_whole_table() {
        let vocab = 7;
        let model = one_layer(1, vocab);
        let id = HeadId::new(0, 0);
        let mut all = by_brute_force(&model, id);
        all.sort_by(|a, b| (b.attention * b.effect).total_cmp(&(a.attention * a.effect)));
        let circuits = Circuits::new(&model);
        let product = |t: &SkipTrigram| t.attention * t.effect;
        let mut sharp = 0;
        for top in (1..=all.len()).step_by(9).chain([all.len(), all.len() + 3]) {
            let found = skip_trigrams(&circuits, id, Among::default(), top).unwrap();
            assert!(found.is_sorted_by_key(|t| (t.source, t.destination, t.out)));
            assert_eq!(found.len(), top.min(all.len()));
            let mut products: Vec<f64> = found.iter().map(product).collect();
            products.sort_by(|a, b| b.total_cmp(a));
            // Which of those that count as equal are taken is tested elsewhere.
            let rounding = 1e-4 * product(&all[0]);
            for (found, expected) in products.iter().zip(&all) {
                assert!((found - product(expected)).abs() < rounding, "{top}: {found} {expected:?}");
            }
            if all.get(top).is_some_and(|next| product(&all[top - 1]) - product(next) > rounding) {
                sharp += 1;
                let mut expected = all[..top].to_vec();
                expected.sort_by_key(|t| (t.source, t.destination, t.out));
                for (found, expected) in found.iter().zip(&expected) {
                    let key = |t: &SkipTrigram| (t.source, t.destination, t.out);
                    assert_eq!(key(found), key(expected), "{top}");
                    assert!((product(found) - product(expected)).abs() < 1e-12);
                }
            }
        }
        assert!(sharp > 20, "{sharp}");
        // Some of the least lower a logit, so that both signs were in the game.
        assert!(all[0].effect > 0.0 && all.last().unwrap().effect < 0.0);
    }

    #[test]
    fn restrictions_filter_and_change_no_number() {
        let model = one_layer(1, 6);
        let id = HeadId::new(0, 0);
        let (sources, destinations, outs) = ([1, 4], [0, 2, 5], [3]);
        let among = Among { sources: Some(&sources), destinations: Some(&destinations), outs: Some(&outs) };
        let found = skip_trigrams(&Circuits::new(&model), id, among, 100).unwrap();
        let expected: Vec<_> = by_brute_force(&model, id)
            .into_iter()
            .filter(|t| sources.contains(&t.source) && destinations.contains(&t.destination) && outs.contains(&t.out))
            .collect();
        assert_eq!(found.len(), 6);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((found.source, found.destination, found.out), (expected.source, expected.destination, expected.out));
            assert!((found.attention - expected.attention).abs() < 1e-12 && (found.effect - expected.effect).abs() < 1e-12);
        }
    }

    /// Where every token stands once, the direct path and all skip-trigrams of the last token are its logits.
    #[test]
    fn skip_trigrams_add_up_to_the_logits() {
        let vocab = 6;
        let model = one_layer(3, vocab);
        let circuits = Circuits::new(&model);
        let direct = centered(&circuits.low_rank(Circuit::Direct).unwrap().dense());
        for destination in 0..vocab {
            let others = (0..vocab).filter(|&token| token != destination);
            let tokens: Vec<u32> = others.chain([destination]).map(|token| token as u32).collect();
            let batch = TokenBatch::new(Array2::from_shape_vec((1, vocab), tokens).unwrap(), None).unwrap();
            let logits = model.run(&batch, Keep { logits: true, ..Keep::NOTHING }).unwrap().logits.unwrap();
            let last = centered(&logits.slice(s![0, vocab - 1.., ..]).mapv(f64::from));
            let mut sum = direct.row(destination).to_owned();
            for id in model.config().heads() {
                let here = [destination];
                let among = Among { destinations: Some(&here), ..Among::default() };
                for found in skip_trigrams(&circuits, id, among, vocab * vocab).unwrap() {
                    sum[found.out] += found.attention * found.effect;
                }
            }
            let error = (&sum - &last.row(0)).iter().fold(0.0f64, |max, value| max.max(value.abs()));
            assert!(error < 1e-4 * last.iter().fold(0.0f64, |max, value| max.max(value.abs())), "{destination}: {error}");
        }
    }
}
