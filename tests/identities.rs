//! Identities that hold for every model, over random shapes: paths, attributions, gauge freedom, low-rank products, composition
//! where it is known, ablation of everything.

mod common;

use attn_circuits::circuit::ablation::{Ablation, Method, Patterns, ablate};
use attn_circuits::circuit::composition::{Channel, composition};
use attn_circuits::circuit::loss::predictions;
use attn_circuits::input::TokenBatch;
use attn_circuits::linalg::LowRank;
use attn_circuits::measure::{MEASURES, Subject};
use attn_circuits::model::{HeadId, Keep, ModelConfig, Transformer, Weights};
use attn_circuits::stream::Stream;
use common::{config, gaussian, random_weights, rebased, rotated, rotation};
use ndarray::{Array2, Array3, Axis, s};
use ndarray_rand::rand::Rng;
use polars::prelude::DataFrame;
use proptest::prelude::*;
use serde_json::json;

fn tokens(config: &ModelConfig, seed: u64) -> TokenBatch {
    let mut rng = Stream::new(seed).rng("tokens");
    let n = config.n_ctx.min(9);
    let tokens = Array2::from_shape_fn((3, n), |_| rng.random_range(0..config.d_vocab as u32));
    TokenBatch::new(tokens, None).unwrap()
}

fn wide<D: ndarray::Dimension>(a: ndarray::ArrayView<f32, D>) -> ndarray::Array<f64, D> {
    a.mapv(f64::from)
}

/// The largest difference, relative to the largest entry of the first.
fn relative_error<D: ndarray::Dimension>(a: &ndarray::Array<f64, D>, b: &ndarray::Array<f64, D>) -> f64 {
    let scale = a.iter().fold(1e-30f64, |max, v| max.max(v.abs()));
    a.iter().zip(b).fold(0.0f64, |max, (a, b)| max.max((a - b).abs())) / scale
}

/// Sum over all paths of one sequence's logits, patterns held at those of the run: every subset of heads in increasing layers.
fn logits_by_paths(model: &Transformer, patterns: &[Array2<f64>], embedded: &Array2<f64>) -> Array2<f64> {
    let n_heads = model.config().n_heads;
    let mut paths = vec![embedded.clone()];
    for layer in 0..model.config().n_layers {
        let mut longer = Vec::new();
        for path in &paths {
            for head in 0..n_heads {
                let weights = model.head(HeadId::new(layer, head));
                let values = path.dot(&wide(weights.w_v)).dot(&wide(weights.w_o));
                longer.push(patterns[layer * n_heads + head].dot(&values));
            }
        }
        paths.extend(longer);
    }
    assert_eq!(paths.len(), (1 + n_heads).pow(model.config().n_layers as u32));
    let w_u = wide(model.w_u());
    paths.iter().map(|path| path.dot(&w_u)).fold(Array2::zeros((embedded.nrows(), w_u.ncols())), |sum, path| sum + path)
}

fn sizes() -> impl Strategy<Value = (ModelConfig, u64)> {
    (0usize..4, 1usize..4, 1usize..5, 4usize..16, 3usize..12, any::<u64>())
        .prop_map(|(layers, heads, d_head, d_model, d_vocab, seed)| (config(layers, heads, d_model, d_head, d_vocab), seed))
}

fn build(config: &ModelConfig, weights: &Weights) -> Transformer {
    Transformer::new(config.clone(), weights.clone()).unwrap()
}

/// Numbers of two tables agree column by column; nulls are where nulls were.
fn assert_same_table(name: &str, a: &DataFrame, b: &DataFrame, tolerance: f64) {
    assert_eq!(a.schema(), b.schema(), "{name}");
    assert_eq!(a.height(), b.height(), "{name}");
    for (left, right) in a.columns().iter().zip(b.columns()) {
        let Ok(left_numbers) = left.f64() else {
            assert_eq!(left, right, "{name}.{}", left.name());
            continue;
        };
        for (row, (left_value, right_value)) in left_numbers.iter().zip(right.f64().unwrap().iter()).enumerate() {
            match (left_value, right_value) {
                (Some(l), Some(r)) => {
                    let close = (l - r).abs() <= tolerance * (1.0 + l.abs());
                    assert!(close, "{name}.{} row {row}: {l} became {r}", left.name());
                }
                (l, r) => assert_eq!(l, r, "{name}.{} row {row}", left.name()),
            }
        }
    }
}

/// Singular values of a head's OV and QK circuits, and the first power sums of the eigenvalues of OV (these, unlike the
/// eigenvalues, do not change order under rounding).
fn spectrum(model: &Transformer, id: HeadId) -> Vec<f64> {
    let head = model.head(id);
    let ov = LowRank::from_f32(head.w_v, head.w_o).unwrap();
    let qk = LowRank::from_f32(head.w_q, head.w_k.t()).unwrap();
    let mut numbers = [ov.singular_values().unwrap(), qk.singular_values().unwrap()].concat();
    let eigenvalues = ov.eigenvalues().unwrap();
    numbers.extend((1..=3).map(|power| eigenvalues.iter().map(|v| v.powu(power).re).sum::<f64>()));
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Identity 1.
    #[test]
    fn logits_are_the_sum_over_all_paths((config, seed) in sizes()) {
        let model = build(&config, &random_weights(&config, false, seed));
        let cache = model.run(&tokens(&config, seed), Keep::ALL).unwrap();
        let logits = cache.logits.as_ref().unwrap();
        for sequence in 0..logits.dim().0 {
            let patterns: Vec<_> = config
                .heads()
                .map(|id| wide(cache.patterns[id.layer].slice(s![sequence, id.head, .., ..])))
                .collect();
            let embedded = wide(cache.residual[0].index_axis(Axis(0), sequence));
            let by_paths = logits_by_paths(&model, &patterns, &embedded);
            prop_assert!(relative_error(&wide(logits.index_axis(Axis(0), sequence)), &by_paths) < 1e-4);
        }
    }

    /// Identity 2.
    #[test]
    fn direct_contributions_sum_to_the_logits((config, seed) in sizes()) {
        let weights = random_weights(&config, true, seed);
        let model = build(&config, &weights);
        let cache = model.run(&tokens(&config, seed), Keep::ALL).unwrap();
        let mut stream: Array3<f64> = wide(cache.residual[0].view());
        for (results, block) in cache.results.iter().zip(&weights.blocks) {
            stream += &wide(results.view()).sum_axis(Axis(2));
            stream += &wide(block.b_o.as_ref().unwrap().view());
        }
        let (b, n, d) = stream.dim();
        let flat = stream.into_shape_with_order((b * n, d)).unwrap();
        let direct = flat.dot(&wide(model.w_u())) + wide(model.b_u().unwrap());
        let logits = wide(cache.logits.unwrap().view()).into_shape_with_order((b * n, config.d_vocab)).unwrap();
        prop_assert!(relative_error(&logits, &direct) < 1e-4);
    }

    /// Identities 4 and 11: no measure notices a rotation of the stream or another basis within the heads.
    #[test]
    fn no_measure_notices_a_change_of_gauge((config, seed) in sizes()) {
        let weights = random_weights(&config, true, seed);
        let stream = Stream::new(seed).child("gauge");
        let original = build(&config, &weights);
        let turned = rotated(&config, &weights, &rotation(config.d_model, &stream));
        let rebased = rebased(&config, &weights, &stream);
        let batch = tokens(&config, seed);
        for kind in MEASURES {
            let measure = (kind.parse)(json!({})).unwrap();
            let input = measure.needs_input().then_some(&batch);
            let table = measure.compute(&Subject::new(&original, input)).unwrap();
            prop_assert_eq!(table.schema().as_ref(), &measure.columns());
            assert_same_table(kind.name, &table, &measure.compute(&Subject::new(&turned, input)).unwrap(), 2e-3);
            assert_same_table(kind.name, &table, &measure.compute(&Subject::new(&rebased, input)).unwrap(), 2e-3);
        }
        for id in config.heads() {
            let expected = spectrum(&original, id);
            for other in [spectrum(&turned, id), spectrum(&rebased, id)] {
                for (index, (found, expected)) in other.iter().zip(&expected).enumerate() {
                    prop_assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{}: {} {}", index, found, expected);
                }
            }
        }
    }

    /// Identity 5.
    #[test]
    fn low_rank_answers_are_those_of_the_product(m in 1usize..9, k in 1usize..6, p in 1usize..9, seed in any::<u64>()) {
        let stream = Stream::new(seed);
        let (a, b) = (gaussian((m, k), &stream, "a"), gaussian((k, p), &stream, "b"));
        let product = LowRank::from_f32(a.view(), b.view()).unwrap();
        let dense = product.dense();
        let norm = dense.iter().map(|v| v * v).sum::<f64>().sqrt();
        prop_assert!((product.norm() - norm).abs() < 1e-9 * norm.max(1.0));
        let singular = attn_circuits::linalg::singular_values(dense.view()).unwrap();
        for (index, value) in product.singular_values().unwrap().iter().enumerate() {
            prop_assert!((value - singular.get(index).copied().unwrap_or(0.0)).abs() < 1e-9 * norm.max(1.0));
        }
        prop_assert_eq!(product.t().dense(), dense.t().to_owned());
        let square = LowRank::from_f32(a.view(), gaussian((k, m), &stream, "c").view()).unwrap();
        let dense = square.dense();
        prop_assert!((square.trace().unwrap() - dense.diag().sum()).abs() < 1e-9);
        // Power sums of the eigenvalues are traces of powers, whatever their order.
        let eigenvalues = square.eigenvalues().unwrap();
        let mut power = dense.clone();
        let scale = square.norm().max(1.0);
        for exponent in 1..=3 {
            let sum: f64 = eigenvalues.iter().map(|v| v.powu(exponent).re).sum();
            prop_assert!((sum - power.diag().sum()).abs() < 1e-8 * scale.powi(exponent as i32), "power {}", exponent);
            power = power.dot(&dense);
        }
        let chain = square.then(&product).unwrap();
        prop_assert!(relative_error(&chain.dense(), &dense.dot(&product.dense())) < 1e-9);
    }

    /// Identity 6: what two heads write and read overlaps wholly, or not at all.
    #[test]
    fn composition_is_known_where_the_subspaces_are((k, seed) in (1usize..5, any::<u64>())) {
        let d = 4 * k;
        let config = config(2, 1, d, k, 3);
        let stream = Stream::new(seed);
        let frame = rotation(d, &stream).mapv(|v| v as f32);
        // Orthonormal blocks of the stream: what head 0.0 reads and writes, and two more.
        let block = |index: usize| frame.slice(s![index * k..(index + 1) * k, ..]).to_owned();
        let mut weights = random_weights(&config, false, seed);
        let set = |place: &mut Array3<f32>, to: &Array2<f32>| place.index_axis_mut(Axis(0), 0).assign(to);
        set(&mut weights.blocks[0].w_v, &block(0).reversed_axes());
        set(&mut weights.blocks[0].w_o, &block(1));
        set(&mut weights.blocks[1].w_k, &block(1).reversed_axes());
        set(&mut weights.blocks[1].w_q, &block(2).reversed_axes());
        set(&mut weights.blocks[1].w_v, &block(2).reversed_axes());
        set(&mut weights.blocks[1].w_o, &block(3));
        let found = composition(&build(&config, &weights)).unwrap();
        prop_assert_eq!(found.len(), 3);
        for pair in found {
            let value = pair.value.unwrap();
            let expected = if pair.channel == Channel::K { (1.0 / (k as f64).sqrt(), 1.0) } else { (0.0, 0.0) };
            prop_assert!((value.score - expected.0).abs() < 1e-5, "{:?}: {}", pair.channel, value.score);
            prop_assert!((value.alignment - expected.1).abs() < 1e-5, "{:?}: {}", pair.channel, value.alignment);
        }
    }

    /// Identity 7.
    #[test]
    fn without_heads_only_the_bigram_term_is_left((config, seed) in sizes(), frozen in any::<bool>()) {
        let weights = random_weights(&config, false, seed);
        let model = build(&config, &weights);
        let batch = tokens(&config, seed);
        let patterns = if frozen { Patterns::Frozen } else { Patterns::Recomputed };
        let everything = Ablation { heads: config.heads().collect(), method: Method::Zero, patterns };
        let found = ablate(&model, &batch, &[everything]).unwrap();
        let mut bigram = config.clone();
        bigram.n_layers = 0;
        let direct = build(&bigram, &Weights { blocks: vec![], ..weights });
        let logits = direct.run(&batch, Keep { logits: true, ..Keep::NOTHING }).unwrap().logits.unwrap();
        let expected = predictions(logits.view(), batch.tokens()).loss.mean_axis(Axis(0)).unwrap();
        prop_assert!(relative_error(&expected, &found.ablated[0].loss) < 1e-4);
    }
}

/// A score says how two heads lie to each other, not how large they are.
#[test]
fn composition_does_not_depend_on_the_scale_of_a_head() {
    let config = config(2, 2, 10, 3, 4);
    let weights = random_weights(&config, false, 3);
    let expected = composition(&build(&config, &weights)).unwrap();
    for scale in [1e-18f32, 1e-9, 1e9] {
        let mut scaled = weights.clone();
        scaled.blocks[0].w_v *= scale;
        scaled.blocks[1].w_k *= scale;
        for (found, expected) in composition(&build(&config, &scaled)).unwrap().iter().zip(&expected) {
            let (found, expected) = (found.value.unwrap(), expected.value.unwrap());
            let numbers = |v: attn_circuits::circuit::composition::CompositionValue| [v.score, v.z.unwrap(), v.alignment];
            for (found, expected) in numbers(found).into_iter().zip(numbers(expected)) {
                assert!((found - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{scale:e}: {found} {expected}");
            }
        }
    }
}

/// `E[c²] = 1/d` exactly, and the stated mean and spread of `c`, checked by turning one factor at random.
#[test]
fn the_chance_level_of_composition_is_that_of_random_rotations() {
    let config = config(2, 1, 12, 3, 4);
    let weights = random_weights(&config, false, 5);
    let stream = Stream::new(9);
    let draws = 4000;
    let mut scores = Vec::new();
    let mut chance = None;
    for draw in 0..draws {
        let r = rotation(config.d_model, &stream.child(draw.to_string())).mapv(|v| v as f32);
        let mut turned = weights.clone();
        let write = weights.blocks[0].w_o.index_axis(Axis(0), 0).dot(&r);
        turned.blocks[0].w_o.index_axis_mut(Axis(0), 0).assign(&write);
        let found = composition(&build(&config, &turned)).unwrap();
        let value = found.iter().find(|pair| pair.channel == Channel::K).unwrap().value.unwrap();
        scores.push(value.score);
        chance = Some(value.chance);
    }
    let chance = chance.unwrap();
    let mean = scores.iter().sum::<f64>() / f64::from(draws);
    let square = scores.iter().map(|c| c * c).sum::<f64>() / f64::from(draws);
    let sd = (square - mean * mean).sqrt();
    // Bounds: four standard errors of the simulation, and a tenth of the spread for the two formulas that are approximate.
    let standard_error = sd / f64::from(draws).sqrt();
    let d = config.d_model as f64;
    assert!((square - 1.0 / d).abs() < 4.0 * 2.0 * mean * standard_error, "E[c²] = {square}, 1/d = {}", 1.0 / d);
    assert!((mean - chance.mean).abs() < 4.0 * standard_error + 0.1 * sd, "mean {mean}, expected {}", chance.mean);
    assert!((sd / chance.sd - 1.0).abs() < 0.1, "sd {sd}, expected {}", chance.sd);
}
