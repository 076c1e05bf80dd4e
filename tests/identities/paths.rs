//! The path expansion against models multiplied out in double precision, over random shapes, biases, LayerNorms and position
//! schemes.

use super::{relative_error, wide};
use crate::common::{by_position, config, gaussian, random_weights};
use attn_circuits::circuit::loss::loss;
use attn_circuits::circuit::paths::{Component, Part, Source, Split, logit_attribution, paths, score_paths, term_importance};
use attn_circuits::circuit::sweep::Sweep;
use attn_circuits::input::TokenBatch;
use attn_circuits::model::intervention::{Downstream, Intervention, Replacement};
use attn_circuits::model::{Cache, HeadId, Keep, LayerNorm, ModelConfig, Normalization, Positions, Transformer, Weights};
use attn_circuits::stream::Stream;
use ndarray::{Array1, Array2, ArrayView1, Axis, concatenate, s};
use proptest::prelude::*;

/// Any model: with and without LayerNorm, biases and positions of every scheme.
fn models() -> impl Strategy<Value = (ModelConfig, bool, u64)> {
    let sizes = (0usize..4, 1usize..4, 2usize..5, 4usize..14, 3usize..10);
    (sizes, 0usize..3, 0usize..5, any::<bool>(), any::<u64>()).prop_map(|(sizes, normalization, positions, biases, seed)| {
        let (layers, heads, d_head, d_model, d_vocab) = sizes;
        let mut config = config(layers, heads, d_model, d_head, d_vocab);
        config.normalization = [Normalization::None, Normalization::Ln, Normalization::LnPre][normalization];
        let rotary = |adjacent_pairs| Positions::Rotary { dim: 2, base: 100.0, adjacent_pairs };
        config.positions =
            [Positions::None, Positions::Standard, Positions::Shortformer, rotary(false), rotary(true)][positions];
        (config, biases, seed)
    })
}

fn weights_of(config: &ModelConfig, biases: bool, seed: u64) -> Weights {
    let mut weights = random_weights(config, biases, seed);
    if config.normalization == Normalization::Ln {
        let stream = Stream::new(seed).child("LayerNorm");
        let norm = |name: &str| LayerNorm {
            w: gaussian(config.d_model, &stream, &format!("{name} w")) * 0.3 + 1.0,
            b: gaussian(config.d_model, &stream, &format!("{name} b")) * 0.3,
        };
        weights.ln_final = Some(norm("final"));
        let blocks = weights.blocks.iter_mut().enumerate();
        blocks.for_each(|(layer, block)| block.ln = Some(norm(&layer.to_string())));
    }
    weights
}

/// One run in double precision, whose patterns and scales are held; on all sequences, `[b·n, d]`.
struct Forced<'a> {
    config: &'a ModelConfig,
    weights: &'a Weights,
    tokens: Array2<u32>,
    cache: Cache,
}

/// Whether a map's constant part is wanted beside its linear one.
#[derive(Clone, Copy, PartialEq)]
enum With {
    Biases,
    Nothing,
}

impl<'a> Forced<'a> {
    fn new(model: &Transformer, config: &'a ModelConfig, weights: &'a Weights, batch: &TokenBatch) -> Self {
        let cache = model.run(batch, Keep::ALL).unwrap();
        Self { config, weights, tokens: batch.tokens().to_owned(), cache }
    }

    fn n(&self) -> usize {
        self.tokens.ncols()
    }

    /// The normalisation in front of a layer, its scales those of the run.
    fn normed(&self, layer: usize, x: &Array2<f64>, with: With) -> Array2<f64> {
        if self.config.normalization == Normalization::None {
            return x.clone();
        }
        let stream = wide(self.cache.residual[layer].view());
        let mut all = x.clone();
        for (mut row, of_run) in all.rows_mut().into_iter().zip(stream.rows()) {
            let variance = (&of_run - of_run.mean().unwrap()).mapv(|v| v * v).mean().unwrap();
            let mean = row.mean().unwrap();
            row.mapv_inplace(|v| (v - mean) / (variance + self.config.eps).sqrt());
        }
        let ln = if layer == self.config.n_layers { &self.weights.ln_final } else { &self.weights.blocks[layer].ln };
        if let Some(ln) = ln {
            all *= &wide(ln.w.view());
            if with == With::Biases {
                all += &wide(ln.b.view());
            }
        }
        all
    }

    /// What a head writes.
    fn head(&self, id: HeadId, x: &Array2<f64>, with: With) -> Array2<f64> {
        let block = &self.weights.blocks[id.layer];
        let matrix = |w: &ndarray::Array3<f32>| wide(w.index_axis(Axis(0), id.head));
        let mut values = self.normed(id.layer, x, with).dot(&matrix(&block.w_v));
        if let (With::Biases, Some(b_v)) = (with, &block.b_v) {
            values += &wide(b_v.row(id.head));
        }
        let n = self.n();
        let moved = values
            .axis_chunks_iter(Axis(0), n)
            .enumerate()
            .map(|(sequence, values)| wide(self.cache.patterns[id.layer].slice(s![sequence, id.head, .., ..])).dot(&values));
        let moved: Vec<_> = moved.collect();
        let views: Vec<_> = moved.iter().map(|m| m.view()).collect();
        concatenate(Axis(0), &views).unwrap().dot(&matrix(&block.w_o))
    }

    fn logits(&self, x: &Array2<f64>, with: With) -> Array2<f64> {
        let mut logits = self.normed(self.config.n_layers, x, with).dot(&wide(self.weights.w_u.view()));
        if let (With::Biases, Some(b_u)) = (with, &self.weights.b_u) {
            logits += &wide(b_u.view());
        }
        logits
    }

    fn b_o(&self, layer: usize) -> Array1<f64> {
        self.weights.blocks[layer].b_o.as_ref().map_or_else(|| Array1::zeros(self.config.d_model), |b| wide(b.view()))
    }

    fn embedded(&self) -> Array2<f64> {
        let row = |token: u32| wide(self.weights.w_e.row(token as usize));
        let rows: Vec<_> = self.tokens.iter().map(|&token| row(token)).collect();
        let views: Vec<ArrayView1<f64>> = rows.iter().map(|row| row.view()).collect();
        ndarray::stack(Axis(0), &views).unwrap()
    }

    fn placed(&self) -> Array2<f64> {
        let mut x = Array2::zeros((self.tokens.len(), self.config.d_model));
        if self.config.positions == Positions::Standard {
            let w_pos = wide(self.weights.w_pos.as_ref().unwrap().view());
            x.rows_mut().into_iter().enumerate().for_each(|(row, mut x)| x.assign(&w_pos.row(row % self.n())));
        }
        x
    }

    /// What remains when there is no input: the constant part of the whole model.
    fn biases(&self) -> Array2<f64> {
        let mut x = Array2::zeros((self.tokens.len(), self.config.d_model));
        for layer in 0..self.config.n_layers {
            let heads = (0..self.config.n_heads).map(|head| self.head(HeadId::new(layer, head), &x, With::Biases));
            let written = heads.fold(Array2::zeros(x.dim()), |sum: Array2<f64>, written| sum + written);
            x = x + written + self.b_o(layer);
        }
        self.logits(&x, With::Biases)
    }

    fn all_logits(&self) -> Array2<f64> {
        let logits = wide(self.cache.logits.as_ref().unwrap().view());
        logits.into_shape_with_order((self.tokens.len(), self.config.d_vocab)).unwrap()
    }

    /// Mean over sequences of the next token's logit, by position.
    fn next(&self, logits: &Array2<f64>) -> Vec<f64> {
        let (b, n) = self.tokens.dim();
        let of = |i: usize, j: usize| logits[(i * n + j, self.tokens[(i, j + 1)] as usize)];
        (0..n - 1).map(|j| (0..b).map(|i| of(i, j)).sum::<f64>() / b as f64).collect()
    }

    /// Mean loss over sequences, by position.
    fn losses(&self, logits: &Array2<f64>) -> Vec<f64> {
        let (b, n) = self.tokens.dim();
        let of = |i: usize, j: usize| {
            let row = logits.row(i * n + j);
            row.mapv(f64::exp).sum().ln() - row[self.tokens[(i, j + 1)] as usize]
        };
        (0..n - 1).map(|j| (0..b).map(|i| of(i, j)).sum::<f64>() / b as f64).collect()
    }
}

fn tokens(config: &ModelConfig, seed: u64) -> TokenBatch {
    super::tokens(config, seed)
}

/// Every position by itself.
fn positions(batch: &TokenBatch) -> Vec<Vec<usize>> {
    (0..batch.length() - 1).map(|position| vec![position]).collect()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) -> bool {
    let scale = expected.iter().fold(1.0f64, |max, v| max.max(v.abs()));
    found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() <= tolerance * scale)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Identity 1, for every option that a model may carry.
    #[test]
    fn every_path_is_what_its_multiplied_out_chain_gives((config, biases, seed) in models(), max_order in 0usize..4) {
        let weights = weights_of(&config, biases, seed);
        let model = Transformer::new(config.clone(), weights.clone()).unwrap();
        let batch = tokens(&config, seed);
        let groups = positions(&batch);
        let found = paths(&model, &batch, max_order, &groups).unwrap();
        let forced = Forced::new(&model, &config, &weights, &batch);
        let logits = forced.all_logits();
        let clean = forced.losses(&logits);
        prop_assert!(close(&found.logit, &forced.next(&logits), 1e-5));
        prop_assert!(close(&found.loss, &clean, 1e-5));

        let mut rest = Array2::<f64>::zeros(logits.dim());
        let mut seen = 0;
        let mut all = vec![(vec![], forced.embedded() + forced.placed())];
        while let Some((heads, x)) = all.pop() {
            for id in config.heads().filter(|id| heads.last().is_none_or(|last: &HeadId| last.layer < id.layer)) {
                all.push(([heads.clone(), vec![id]].concat(), forced.head(id, &x, With::Nothing)));
            }
            let own = forced.logits(&x, With::Nothing);
            if heads.len() > max_order {
                rest += &own;
                continue;
            }
            let path = found.parts.iter().find(|(part, _)| matches!(part, Part::Path(path) if path.heads() == heads));
            let (_, effect) = path.expect("every path has a row");
            prop_assert!(close(&effect.logit, &forced.next(&own), 1e-4), "{:?}", heads);
            let without = forced.losses(&(&logits - &own));
            let change: Vec<_> = without.iter().zip(&clean).map(|(without, clean)| without - clean).collect();
            prop_assert!(close(&effect.loss_change, &change, 1e-4), "{:?}", heads);
            seen += 1;
        }
        let part = |wanted: Part| found.parts.iter().find(|(part, _)| *part == wanted).map(|(_, effect)| effect);
        let has_bias = (biases) || config.normalization == Normalization::Ln;
        prop_assert_eq!(part(Part::Bias).is_some(), has_bias);
        prop_assert_eq!(part(Part::Rest).is_some(), max_order < config.n_layers);
        prop_assert_eq!(found.parts.len(), seen + 1 + usize::from(has_bias) + usize::from(max_order < config.n_layers));
        if let Some(bias) = part(Part::Bias) {
            prop_assert!(close(&bias.logit, &forced.next(&forced.biases()), 1e-4));
        }
        if let Some(of_rest) = part(Part::Rest) {
            prop_assert!(close(&of_rest.logit, &forced.next(&rest), 1e-4));
        }
        let residual = part(Part::Residual).unwrap();
        prop_assert!(residual.largest.iter().all(|&largest| largest < 1e-4), "{:?}", residual.largest);
        for group in 0..groups.len() {
            let sum: f64 = found.parts.iter().map(|(_, effect)| effect.logit[group]).sum();
            prop_assert!((sum - found.logit[group]).abs() < 1e-5 * (1.0 + sum.abs()));
        }
    }

    /// Identity 2, for every option that a model may carry.
    #[test]
    fn attributions_are_those_of_the_results_and_sum_to_the_logits((config, biases, seed) in models()) {
        let weights = weights_of(&config, biases, seed);
        let model = Transformer::new(config.clone(), weights.clone()).unwrap();
        let batch = tokens(&config, seed);
        let found = logit_attribution(&model, &batch, &positions(&batch)).unwrap();
        let forced = Forced::new(&model, &config, &weights, &batch);
        let (b, n) = forced.tokens.dim();
        for attribution in &found {
            let stream = match attribution.component {
                Component::Embed => forced.embedded(),
                Component::Position => forced.placed(),
                Component::Head(id) => {
                    let result = wide(forced.cache.results[id.layer].slice(s![.., .., id.head, ..]));
                    result.as_standard_layout().into_owned().into_shape_with_order((b * n, config.d_model)).unwrap()
                }
                Component::Bias => {
                    let sum = (0..config.n_layers).map(|layer| forced.b_o(layer));
                    let sum = sum.fold(Array1::<f64>::zeros(config.d_model), |sum, b_o| sum + b_o);
                    Array2::zeros((b * n, config.d_model)) + sum
                }
            };
            let with = if attribution.component == Component::Bias { With::Biases } else { With::Nothing };
            let logits = forced.logits(&stream, with);
            prop_assert!(close(&attribution.logit, &forced.next(&logits), 1e-4), "{}", attribution.component);
            let centred = &logits - &logits.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
            prop_assert!(close(&attribution.above_mean, &forced.next(&centred), 1e-4), "{}", attribution.component);
        }
        let expected = forced.next(&forced.all_logits());
        let sum: Vec<f64> = (0..n - 1).map(|group| found.iter().map(|part| part.logit[group]).sum()).collect();
        prop_assert!(close(&sum, &expected, 1e-4), "{:?} {:?}", sum, expected);
    }

    /// Identities 3 and 12: the paper's repeated runs, in which every head adds what it output in the run before.
    #[test]
    fn orders_in_one_pass_are_those_of_repeated_runs((config, biases, seed) in models()) {
        let weights = weights_of(&config, biases, seed);
        let model = Transformer::new(config.clone(), weights.clone()).unwrap();
        let batch = tokens(&config, seed);
        let found = term_importance(&model, &batch, &positions(&batch)).unwrap();
        let forced = Forced::new(&model, &config, &weights, &batch);
        // What heads add in a run, layer by layer, and what they output in it.
        let run = |added: &[Array2<f64>]| {
            let mut x = forced.embedded() + forced.placed();
            let mut kept = Vec::new();
            for (layer, added) in added.iter().enumerate() {
                let heads = (0..config.n_heads).map(|head| forced.head(HeadId::new(layer, head), &x, With::Biases));
                kept.push(heads.fold(Array2::zeros(x.dim()), |sum: Array2<f64>, written| sum + written));
                x = x + added + forced.b_o(layer);
            }
            (kept, x)
        };
        let mut added = vec![Array2::zeros((forced.tokens.len(), config.d_model)); config.n_layers];
        let mut lower: Option<Vec<Array2<f64>>> = None;
        let whole: Vec<_> = found.terms.iter().filter(|term| term.layers.is_empty()).collect();
        prop_assert_eq!(whole.len(), config.n_layers + 1);
        for (order, term) in whole.iter().enumerate() {
            let (kept, x) = run(&added);
            prop_assert_eq!(term.order, order);
            prop_assert!(close(&term.loss, &forced.losses(&forced.logits(&x, With::Biases)), 1e-4), "order {}", order);
            // The same with only one layer's new outputs.
            for of_layer in found.terms.iter().filter(|term| term.order == order && order == 1 && term.layers.len() == 1) {
                let mut only = lower.clone().unwrap();
                only[of_layer.layers[0]] = added[of_layer.layers[0]].clone();
                // Outputs of order 1 do not depend on what was added before them, so that no later layer changes.
                let mut x = forced.embedded() + forced.placed();
                for (layer, only) in only.iter().enumerate() {
                    x = x + only + forced.b_o(layer);
                }
                prop_assert!(close(&of_layer.loss, &forced.losses(&forced.logits(&x, With::Biases)), 1e-4));
            }
            lower = Some(added.clone());
            added = kept;
        }
        // Identity 3: the last order is the model; so are the sums of reductions and what is missing without a term.
        let clean = loss(&model, &batch).unwrap();
        prop_assert!(close(&whole.last().unwrap().loss, clean.loss.as_slice().unwrap(), 1e-4));
        prop_assert!(close(&found.loss, clean.loss.as_slice().unwrap(), 1e-4));
        for (group, loss) in clean.loss.iter().enumerate() {
            let sum: f64 = whole.iter().map(|term| term.reduction[group]).sum();
            prop_assert!((sum - ((config.d_vocab as f64).ln() - loss)).abs() < 1e-4 * (1.0 + loss.abs()));
        }
    }

    /// Identity 7, and its like for one layer: with patterns frozen, ablating heads leaves the paths that avoid them.
    #[test]
    fn frozen_ablation_leaves_the_paths_that_are_left((mut config, biases, seed) in models()) {
        config.normalization = Normalization::None;
        let weights = weights_of(&config, biases, seed);
        let model = Transformer::new(config.clone(), weights.clone()).unwrap();
        let batch = tokens(&config, seed);
        let found = term_importance(&model, &batch, &positions(&batch)).unwrap();
        let zero = |heads: Vec<HeadId>| Intervention::of_heads(&heads, Replacement::Zero).with(Downstream::Frozen);
        let layers = 0..config.n_layers;
        let mut all = vec![zero(config.heads().collect())];
        all.extend(layers.clone().map(|layer| zero(config.heads().filter(|id| id.layer != layer).collect())));
        let ablated = by_position(&Sweep::new(&model, &batch), batch.length() - 1, &all, |outcome| &outcome.loss);
        prop_assert!(close(&found.terms[0].loss, ablated[0].as_slice().unwrap(), 1e-4));
        for layer in layers {
            let of_layer = found.terms.iter().find(|term| term.layers == [layer]).unwrap();
            prop_assert!(close(&of_layer.loss, ablated[1 + layer].as_slice().unwrap(), 1e-4), "layer {}", layer);
        }
    }

    /// The terms of an attention score are what their two sources give, and sum to it.
    #[test]
    fn score_terms_are_those_of_their_sources((config, biases, seed) in models(), together in any::<bool>()) {
        let weights = weights_of(&config, biases, seed);
        let model = Transformer::new(config.clone(), weights.clone()).unwrap();
        let batch = tokens(&config, seed);
        let heads: Vec<_> = config.heads().collect();
        let split = if together { Split::Together } else { Split::Own };
        let marks = |tokens: ArrayView1<u32>| -> Vec<(usize, usize)> {
            let n = tokens.len();
            (0..n).flat_map(|i| (0..=i).filter(move |j| (i + 2 * j) % 3 == 0).map(move |j| (i, j))).collect()
        };
        // Two kinds of marks at a time: neither may have a part in the other.
        type Marks = fn(ArrayView1<u32>) -> Vec<(usize, usize)>;
        let others = |_: ArrayView1<u32>| -> Vec<(usize, usize)> { vec![(1, 0)] };
        let both: [Marks; 2] = [others, marks];
        let found = score_paths(&model, &batch, &heads, split, &both).unwrap().remove(1);
        let forced = Forced::new(&model, &config, &weights, &batch);
        let n = forced.n();
        // The mean over destinations of marked less other sources, of scores [b·n, n] (sequence by sequence).
        let contrast = |score: &dyn Fn(usize, usize, usize) -> f64| {
            let (mut sum, mut count) = (0.0, 0.0);
            for sequence in 0..batch.sequences() {
                for i in 0..n {
                    let (on, off): (Vec<usize>, Vec<usize>) = (0..=i).partition(|j| (i + 2 * j) % 3 == 0);
                    if on.is_empty() || off.is_empty() {
                        continue;
                    }
                    let mean = |at: &[usize]| at.iter().map(|&j| score(sequence, i, j)).sum::<f64>() / at.len() as f64;
                    sum += mean(&on) - mean(&off);
                    count += 1.0;
                }
            }
            sum / count
        };
        for terms in &found {
            let id = terms.head;
            let block = &weights.blocks[id.layer];
            let value = terms.value.as_ref().unwrap();
            let scores = forced.cache.scores[id.layer].slice(s![.., id.head, .., ..]);
            let whole = contrast(&|sequence, i, j| f64::from(scores[(sequence, i, j)]));
            prop_assert!((value.sum() - whole).abs() < 1e-4 * (1.0 + terms.size), "{}: {} {}", id, value.sum(), whole);

            // Queries (0) and keys (1) of a source.
            let side = |source: Source, which: usize| -> Array2<f64> {
                let w = [&block.w_q, &block.w_k][which].index_axis(Axis(0), id.head).mapv(f64::from);
                let b = [&block.b_q, &block.b_k][which].as_ref().map(|b| wide(b.row(id.head)));
                let read = |x: &Array2<f64>| forced.normed(id.layer, x, With::Nothing).dot(&w);
                let placed = || {
                    let mut x = read(&forced.placed());
                    if config.positions == Positions::Shortformer {
                        let w_pos = wide(weights.w_pos.as_ref().unwrap().view()).dot(&w);
                        x.rows_mut().into_iter().enumerate().for_each(|(row, mut x)| x += &w_pos.row(row % n));
                    }
                    x
                };
                let mut x = match source {
                    Source::Embed => read(&forced.embedded()),
                    Source::Position => placed(),
                    Source::Direct => read(&forced.embedded()) + placed(),
                    Source::Head(from) => {
                        let result = wide(forced.cache.results[from.layer].slice(s![.., .., from.head, ..]));
                        let result = result.as_standard_layout().into_owned();
                        read(&result.into_shape_with_order((forced.tokens.len(), config.d_model)).unwrap())
                    }
                    Source::Bias => {
                        let mut x = Array2::zeros((forced.tokens.len(), config.d_model));
                        (0..id.layer).for_each(|layer| x += &forced.b_o(layer));
                        let mut x = forced.normed(id.layer, &x, With::Biases).dot(&w);
                        if let Some(b) = b {
                            x += &b;
                        }
                        x
                    }
                };
                if let Positions::Rotary { dim, base, adjacent_pairs } = config.positions {
                    assert_eq!(dim, 2);
                    let second = if adjacent_pairs { 1 } else { dim / 2 };
                    for (row, mut x) in x.rows_mut().into_iter().enumerate() {
                        let (sin, cos) = ((row % n) as f64 * base.powf(0.0)).sin_cos();
                        let (a, b) = (x[0], x[second]);
                        x[0] = a * cos - b * sin;
                        x[second] = b * cos + a * sin;
                    }
                }
                x
            };
            for (query, &query_source) in terms.sources.iter().enumerate() {
                for (key, &key_source) in terms.sources.iter().enumerate() {
                    let (q, k) = (side(query_source, 0), side(key_source, 1));
                    let score = |sequence: usize, i: usize, j: usize| {
                        q.row(sequence * n + i).dot(&k.row(sequence * n + j)) / config.attn_scale
                    };
                    let expected = contrast(&score);
                    let found = value[(query, key)];
                    prop_assert!((found - expected).abs() < 1e-4 * (1.0 + terms.size), "{} {} {}", id, query_source, key_source);
                }
            }
        }
    }
}

/// What stands in the numbers that the tables give, for a model whose paths can be counted on one's fingers.
#[test]
fn a_model_without_layers_is_its_direct_path() {
    let config = config(0, 1, 6, 2, 5);
    let weights = weights_of(&config, false, 4);
    let model = Transformer::new(config.clone(), weights).unwrap();
    let batch = tokens(&config, 4);
    let groups = vec![(0..batch.length() - 1).collect()];
    let found = paths(&model, &batch, 5, &groups).unwrap();
    assert_eq!(found.parts.iter().map(|(part, _)| part.to_string()).collect::<Vec<_>>(), ["direct", "residual"]);
    let direct = &found.parts[0].1;
    assert!(relative_error(&Array1::from(found.logit), &Array1::from(direct.logit.clone())) < 1e-6);
    // Without it nothing is left: a uniform guess.
    assert!((direct.loss_change[0] + found.loss[0] - 5f64.ln()).abs() < 1e-6);
    assert!((direct.largest[0] - 1.0).abs() < 1e-6);
}
