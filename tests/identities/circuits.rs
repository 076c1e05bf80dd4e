//! Circuits of weights against the matrices that they are products of.

use super::{build, relative_error, sizes, wide};
use crate::common::{config, random_weights, rebased, rotated, rotation};
use attn_circuits::circuit::copying::{copying_score, diagonal};
use attn_circuits::circuit::weights::{Circuit, Circuits, Shared};
use attn_circuits::model::{HeadId, Transformer};
use attn_circuits::stream::Stream;
use ndarray::{Array2, Array3, Axis};
use ndarray_rand::rand_distr::{Distribution, Normal};
use proptest::prelude::*;

/// What was computed beforehand, in parallel, is what is computed when it is needed.
fn prepare_changes_nothing(model: &Transformer, circuit: Circuit, expected: &[attn_circuits::linalg::Complex]) {
    let prepared = Circuits::new(model);
    prepared.prepare(&[circuit], Shared::Both);
    assert_eq!(prepared.eigenvalues(circuit).unwrap(), expected, "{circuit:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Identity 5, for every circuit of a model.
    #[test]
    fn circuits_are_the_products_of_their_matrices((config, seed) in sizes()) {
        let model = build(&config, &random_weights(&config, true, seed));
        let circuits = Circuits::new(&model);
        let (w_e, w_u) = (wide(model.w_e()), wide(model.w_u()));
        let ov = |id| wide(model.head(id).w_v).dot(&wide(model.head(id).w_o));
        let qk = |id| wide(model.head(id).w_q).dot(&wide(model.head(id).w_k.t()));
        let mut all = vec![(Circuit::Direct, w_e.dot(&w_u))];
        for to in config.heads() {
            all.push((Circuit::Ov(to), ov(to)));
            all.push((Circuit::Qk(to), qk(to)));
            all.push((Circuit::FullOv(to), w_e.dot(&ov(to)).dot(&w_u)));
            all.push((Circuit::FullQk(to), w_e.dot(&qk(to)).dot(&w_e.t())));
            for from in config.heads().filter(|from| from.layer < to.layer) {
                let k_term = w_e.dot(&qk(to)).dot(&ov(from).t()).dot(&w_e.t());
                all.push((Circuit::KComposition { from, to }, k_term));
                all.push((Circuit::QComposition { from, to }, w_e.dot(&ov(from)).dot(&qk(to)).dot(&w_e.t())));
                all.push((Circuit::VirtualOv { from, to }, w_e.dot(&ov(from)).dot(&ov(to)).dot(&w_u)));
            }
        }
        for (circuit, dense) in all {
            prop_assert!(relative_error(&dense, &circuits.low_rank(circuit).unwrap().dense()) < 1e-9, "{:?}", circuit);
            let norm = dense.iter().map(|v| v * v).sum::<f64>().sqrt();
            let (found, rounding) = circuits.norm_and_rounding(circuit).unwrap();
            prop_assert!((found / norm - 1.0).abs() < 1e-9, "{:?}: {} {}", circuit, found, norm);
            // That of the first factor alone; there is no bound from above, since factors can all but cancel.
            let least = f64::from(f32::EPSILON) / 2.0 / (config.d_model.max(config.d_head).max(config.d_vocab) as f64).sqrt();
            prop_assert!(rounding / norm >= least * (1.0 - 1e-9), "{:?}: {} {}", circuit, rounding, norm);
            let singular = attn_circuits::linalg::singular_values(dense.view()).unwrap();
            for (index, value) in circuits.singular_values(circuit).unwrap().iter().enumerate() {
                prop_assert!((value - singular[index]).abs() < 1e-9 * norm, "{:?}: {}", circuit, index);
            }
            let eigenvalues = circuits.eigenvalues(circuit).unwrap();
            let width = if circuit == Circuit::Direct { config.d_model } else { config.d_head };
            prop_assert_eq!(eigenvalues.len(), width);
            let mut power = dense.clone();
            for exponent in 1..=3 {
                let sum: f64 = eigenvalues.iter().map(|v| v.powu(exponent).re).sum();
                prop_assert!((sum - power.diag().sum()).abs() < 1e-8 * norm.powi(exponent as i32), "{:?}", circuit);
                power = power.dot(&dense);
            }
            prepare_changes_nothing(&model, circuit, &eigenvalues);
        }
    }

    /// Ranks and shares of the diagonal, from the multiplied-out matrix.
    #[test]
    fn the_diagonal_is_ranked_in_its_rows((config, seed) in sizes(), percent in 0.0f64..60.0) {
        let model = build(&config, &random_weights(&config, false, seed));
        let circuits = Circuits::new(&model);
        for id in config.heads() {
            let dense = circuits.low_rank(Circuit::FullOv(id)).unwrap().dense();
            let v = config.d_vocab;
            let places = (percent / 100.0 * v as f64).max(1.0);
            let length = |values: ndarray::ArrayView1<f64>| values.dot(&values).sqrt();
            let norm = dense.iter().map(|value| value * value).sum::<f64>().sqrt();
            let (mut rank, mut share) = (0.0, 0.0);
            // Entries so near that ties or single precision decide may each be off by one place, and their row's share as well.
            let (mut unsure_rank, mut unsure_share) = (1e-9, 1e-9);
            for (token, row) in dense.rows().into_iter().enumerate() {
                let above = row.iter().filter(|&&other| other > row[token]).count() as f64;
                rank += above / ((v - 1) * v) as f64;
                share += (places - above).clamp(0.0, 1.0) / v as f64;
                let largest = row.iter().fold(0.0f64, |max, value| max.max(value.abs()));
                let near = 1.1e-4 * (length(row) / (v as f64).sqrt()).max(norm / v as f64) + 1e-5 * largest;
                let ties = row.iter().filter(|&&other| (other - row[token]).abs() < near).count() - 1;
                unsure_rank += ties as f64 / ((v - 1) * v) as f64;
                unsure_share += f64::from(u8::from(ties > 0)) / v as f64;
            }
            let found = diagonal(&circuits, Circuit::FullOv(id), 2048, percent).unwrap().unwrap();
            prop_assert!((found.rank.unwrap() - rank).abs() < unsure_rank, "{:?} {} {}", found, rank, unsure_rank);
            prop_assert!((found.top_share - share).abs() < unsure_share, "{:?} {} {}", found, share, unsure_share);
            prop_assert_eq!(diagonal(&circuits, Circuit::Ov(id), 2048, percent).unwrap(), None);
        }
    }
}

/// Heads that write nothing, or shift every token to the next, have no eigenvalues but zeros and so no score, in any gauge.
#[test]
fn zero_and_nilpotent_circuits_have_no_copying_score() {
    let v = 12;
    let config = config(1, 3, 2 * v + 3, v, v);
    let mut weights = random_weights(&config, false, 8);
    let set = |place: &mut Array3<f32>, head: usize, to: Array2<f32>| place.index_axis_mut(Axis(0), head).assign(&to);
    let block = |rows: usize, columns: usize, offset: usize, shift: usize| {
        Array2::from_shape_fn((rows, columns), |(i, j)| f32::from(u8::from(i + shift == j + offset)))
    };
    // Tokens in the first coordinates, logits read from the next ones.
    weights.w_e = block(v, 2 * v + 3, 0, 0);
    weights.w_u = block(2 * v + 3, v, v, 0);
    for (head, (writes, shift)) in [(v, 0), (v, 1), (0, 0)].into_iter().enumerate() {
        set(&mut weights.blocks[0].w_v, head, block(2 * v + 3, v, 0, 0));
        // Head 0 copies, head 1 shifts by one, head 2 writes where nothing is read.
        set(
            &mut weights.blocks[0].w_o,
            head,
            Array2::from_shape_fn((v, 2 * v + 3), |(i, j)| f32::from(u8::from(i + shift < v && j == writes + i + shift)) * 3.0),
        );
    }
    let stream = Stream::new(2);
    let models = [
        build(&config, &weights),
        rotated(&config, &weights, &rotation(config.d_model, &stream)),
        rebased(&config, &weights, &stream),
    ];
    for model in &models {
        let circuits = Circuits::new(model);
        let score = |head| copying_score(&circuits, Circuit::FullOv(HeadId::new(0, head))).unwrap();
        assert!((score(0).unwrap() - 1.0).abs() < 1e-5);
        assert_eq!([score(1), score(2)], [None, None]);
        let diagonal = |head| diagonal(&circuits, Circuit::FullOv(HeadId::new(0, head)), 2048, 5.0).unwrap();
        let copies = diagonal(0).unwrap();
        assert!(copies.rank.unwrap() < 1e-3 && copies.top_share > 0.999, "{copies:?}");
        // One entry is above the diagonal, all others tie with it; in the last row, all do.
        let shifts = diagonal(1).unwrap();
        let expected = (11.0 * (1.0 + 5.0) + 5.5) / (11.0 * 12.0);
        assert!((shifts.rank.unwrap() - expected).abs() < 1e-2, "{shifts:?} {expected}");
        assert!((shifts.top_share - 1.0 / 144.0).abs() < 1e-2, "{shifts:?}");
        assert_eq!(diagonal(2), None);
        // Equal eigenvalues: the tokens themselves, one after the other.
        let copying = circuits.low_rank(Circuit::FullOv(HeadId::new(0, 0))).unwrap();
        for (index, pair) in copying.left_eigenvectors(v).unwrap().iter().enumerate() {
            assert_eq!(pair.multiplicity, v);
            let vector = pair.vector.as_ref().unwrap();
            assert!(vector.iter().enumerate().all(|(t, z)| (z.re - f64::from(u8::from(t == index))).abs() < 1e-4), "{vector}");
        }
    }
}

/// The rounding of a circuit is what noise of that size on all weights does to it: the same, some thousand times larger, measured.
#[test]
fn rounding_is_what_noise_on_the_weights_does() {
    const LARGER: f32 = 4096.0;
    const DRAWS: u64 = 100;
    let config = config(2, 2, 12, 4, 9);
    let weights = random_weights(&config, false, 7);
    let perturbed = |draw: u64| {
        let rng = &mut Stream::new(draw).rng("noise");
        let mut weights = weights.clone();
        let mut disturb = |values: &mut [f32]| {
            let size = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
            let noise = Normal::new(0.0, size * LARGER * f32::EPSILON / 2.0).unwrap();
            values.iter_mut().for_each(|value| *value += noise.sample(rng));
        };
        for block in &mut weights.blocks {
            for tensor in [&mut block.w_q, &mut block.w_k, &mut block.w_v, &mut block.w_o] {
                tensor.axis_iter_mut(Axis(0)).for_each(|mut head| disturb(head.as_slice_mut().unwrap()));
            }
        }
        disturb(weights.w_e.as_slice_mut().unwrap());
        disturb(weights.w_u.as_slice_mut().unwrap());
        build(&config, &weights)
    };
    let model = build(&config, &weights);
    let circuits = Circuits::new(&model);
    let noisy: Vec<_> = (0..DRAWS).map(perturbed).collect();
    let noisy: Vec<_> = noisy.iter().map(Circuits::new).collect();
    let (from, to) = (HeadId::new(0, 1), HeadId::new(1, 0));
    let all = [
        Circuit::Direct,
        Circuit::Ov(to),
        Circuit::Qk(to),
        Circuit::FullOv(to),
        Circuit::FullQk(to),
        Circuit::KComposition { from, to },
        Circuit::QComposition { from, to },
        Circuit::VirtualOv { from, to },
    ];
    for circuit in all {
        let dense = |circuits: &Circuits| circuits.low_rank(circuit).unwrap().dense();
        let clean = dense(&circuits);
        let changes = noisy.iter().map(|noisy| (dense(noisy) - &clean).iter().map(|v| v * v).sum::<f64>());
        let measured = (changes.sum::<f64>() / DRAWS as f64).sqrt();
        let (_, rounding) = circuits.norm_and_rounding(circuit).unwrap();
        let ratio = measured / (rounding * f64::from(LARGER));
        assert!((ratio - 1.0).abs() < 0.1, "{circuit:?}: {ratio}");
    }
}
