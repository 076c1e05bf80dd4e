//! Identities that hold for every model, over random shapes: paths, attributions, gauge freedom, low-rank products, composition
//! where it is known, ablation of everything.

#[path = "identities/circuits.rs"]
mod circuits;
mod common;
#[path = "identities/paths.rs"]
mod paths;

use attn_circuits::circuit::composition::composition;
use attn_circuits::circuit::copying::{chance_sd, copying_score};
use attn_circuits::circuit::loss::predictions;
use attn_circuits::circuit::sweep::Sweep;
use attn_circuits::circuit::weights::{Circuit, Circuits};
use attn_circuits::input::TokenBatch;
use attn_circuits::linalg::{Complex, LowRank};
use attn_circuits::measure::{MEASURES, Subject};
use attn_circuits::model::intervention::{Downstream, Intervention, Replacement};
use attn_circuits::model::{Channel, HeadId, Keep, ModelConfig, Transformer, Weights};
use attn_circuits::stream::Stream;
use common::{by_position, config, gaussian, random_weights, rebased, rotated, rotation};
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

/// The inverse of a small upper triangular matrix.
fn upper_inverse(a: &Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    let mut inverse = Array2::zeros((n, n));
    for column in 0..n {
        for row in (0..=column).rev() {
            let rest: f64 = (row + 1..=column).map(|i| a[(row, i)] * inverse[(i, column)]).sum();
            inverse[(row, column)] = (f64::from(u8::from(row == column)) - rest) / a[(row, row)];
        }
    }
    inverse
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
        let backwards = TokenBatch::new(batch.tokens().slice(s![.., ..;-1]).to_owned(), None).unwrap();
        for kind in MEASURES {
            // Of a model that was not wired this one must be told what to find.
            let sought = kind.name == "detection" && config.n_layers > 0;
            let truth = json!({ "truth": { "copying": ["0.0"], "previous_token": ["0.0"], "zero_ablation": ["0.0"] } });
            let measure = (kind.parse)(if sought { truth } else { json!({}) }).unwrap();
            let table = |model| {
                let subject = Subject::new(model, measure.needs_input().then_some(&batch));
                measure.compute(&subject.with("corrupted", &backwards)).unwrap()
            };
            let expected = table(&original);
            prop_assert_eq!(expected.schema().as_ref(), &measure.columns());
            prop_assert!(!sought || expected.height() == 3);
            // Rounding decides about ties, and so about ranks.
            let ranks = ["above", "auc", "auc_by_size"];
            let (expected, table) = (expected.drop_many(ranks), |model| table(model).drop_many(ranks));
            assert_same_table(kind.name, &expected, &table(&turned), 2e-3);
            assert_same_table(kind.name, &expected, &table(&rebased), 2e-3);
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
        let row = gaussian(m, &stream, "row").mapv(f64::from);
        prop_assert!(relative_error(&row.dot(&dense), &square.apply(row.view()).unwrap()) < 1e-9);
        let from_left = square.after(dense.view()).unwrap();
        prop_assert!(relative_error(&dense.dot(&dense), &from_left.dense()) < 1e-9);
        prop_assert_eq!(eigenvalues.len(), k);
        prop_assert!(eigenvalues.iter().skip(m).all(|value| value.norm() == 0.0));

        // Left eigenvectors of the large matrix, in the order of the eigenvalues, whatever the factors.
        let pairs = square.left_eigenvectors(k + 1).unwrap();
        prop_assert_eq!(pairs.len(), k);
        let m_inverse = Array2::from_shape_fn((k, k), |(i, j)| if i == j { 2.0 } else if i < j { 0.5 } else { 0.0 });
        let other = LowRank::new(square.left().dot(&m_inverse), upper_inverse(&m_inverse).dot(&square.right())).unwrap();
        for (index, (pair, same)) in pairs.iter().zip(other.left_eigenvectors(k).unwrap()).enumerate() {
            prop_assert!((pair.value - eigenvalues[index]).norm() < 1e-6 * scale, "{}: {} {}", index, pair.value, eigenvalues[index]);
            let (Some(x), Some(y)) = (&pair.vector, &same.vector) else { continue };
            let (re, im) = (x.mapv(|z| z.re).dot(&dense), x.mapv(|z| z.im).dot(&dense));
            for (v, z) in x.iter().enumerate() {
                let expected = pair.value * z;
                prop_assert!((expected.re - re[v]).abs() + (expected.im - im[v]).abs() < 1e-7 * scale, "{}", index);
                prop_assert!((z - y[v]).norm() < 1e-6, "{}: {} {}", index, z, y[v]);
            }
            prop_assert!((x.iter().map(|z| z.norm()).sum::<f64>() - 1.0).abs() < 1e-9);
            // Of entries that are as large as the largest, up to a thousandth, one is chosen to be real and positive.
            let largest = x.iter().map(|z| z.norm_sqr()).fold(0.0, f64::max);
            let mut own = x.iter().filter(|z| z.norm_sqr() >= 0.9989 * largest);
            let chosen = |z: &Complex| z.re > 0.0 && (pair.multiplicity > 1 || z.im.abs() < 1e-9 * z.re);
            prop_assert!(own.any(chosen), "{}: {}", index, x);
        }
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
        let downstream = if frozen { Downstream::Frozen } else { Downstream::Recomputed };
        let heads: Vec<_> = config.heads().collect();
        let everything = Intervention::of_heads(&heads, Replacement::Zero).with(downstream);
        let found = by_position(&Sweep::new(&model, &batch), batch.length() - 1, &[everything], |outcome| &outcome.loss);
        let mut bigram = config.clone();
        bigram.n_layers = 0;
        let direct = build(&bigram, &Weights { blocks: vec![], ..weights });
        let logits = direct.run(&batch, Keep { logits: true, ..Keep::NOTHING }).unwrap().logits.unwrap();
        let expected = predictions(logits.view(), batch.tokens()).loss.mean_axis(Axis(0)).unwrap();
        prop_assert!(relative_error(&expected, &found[0]) < 1e-4);
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

/// The stated chance level of every kind of circuit, against random models. Gaussian weights of every size give the same score.
#[test]
fn the_chance_level_of_copying_is_that_of_random_models() {
    for (k, d, vocab) in [(8, 32, 200), (8, 32, 20), (16, 40, 60)] {
        let config = config(2, 2, d, k, vocab);
        let to = HeadId::new(1, 0);
        let pairs = config.heads().filter(|from| from.layer == 0).flat_map(|from| {
            [Circuit::KComposition { from, to }, Circuit::QComposition { from, to }, Circuit::VirtualOv { from, to }]
        });
        let circuits: Vec<Circuit> = config
            .heads()
            .flat_map(|id| [Circuit::Ov(id), Circuit::Qk(id), Circuit::FullOv(id), Circuit::FullQk(id)])
            .chain(pairs)
            .collect();
        // Squares and numbers of scores, by the kind of circuit.
        let mut found = std::collections::BTreeMap::new();
        for seed in 0..50 {
            let model = build(&config, &random_weights(&config, false, seed));
            let of_model = Circuits::new(&model);
            for &circuit in &circuits {
                let score = copying_score(&of_model, circuit).unwrap().unwrap();
                let name = format!("{circuit:?}").split([' ', '(']).next().unwrap().to_string();
                let (squares, scores, _) = found.entry(name).or_insert((0.0f64, 0.0f64, chance_sd(&config, circuit)));
                *squares += score * score;
                *scores += 1.0;
            }
        }
        for (name, (squares, scores, expected)) in found {
            let sd = (squares / scores).sqrt();
            println!("k {k}, d {d}, V {vocab}, {name}: {:.3}/k, stated {:.3}/k", sd * k as f64, expected * k as f64);
            // Four standard errors of the simulation beside the 15 % that are promised.
            assert!((sd / expected - 1.0).abs() < 0.15 + 4.0 / (2.0 * scores).sqrt(), "{name}: {sd}, stated {expected}");
        }
    }
}
