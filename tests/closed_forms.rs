//! What theory says of the wired circuits, to the digit: predictions, ablation, composition, eigenvalues, loss, attention.

mod common;

use attn_circuits::circuit::ablation::{Ablation, Method, Patterns, ablate};
use attn_circuits::circuit::composition::{Channel, CompositionValue, composition};
use attn_circuits::circuit::loss::loss;
use attn_circuits::input::TokenBatch;
use attn_circuits::linalg::LowRank;
use attn_circuits::model::{HeadId, Keep, Transformer};
use common::{input, model};
use ndarray::{Array2, s};
use serde_json::json;

/// Symbols of the wired models, the start token included, and positions: those of the framework paper's own sequence.
const V: usize = 33;
const C: usize = 61;

fn wired(circuit: &str) -> Transformer {
    model("wired", json!({ "circuit": circuit, "vocab": V, "context": C, "rotate": true }))
}

/// A start token, 20 tokens, three times.
fn repeated() -> TokenBatch {
    input("repeated_tokens", json!({ "sequences": 32, "period": 20, "repeats": 3 }), V)
}

fn composed(model: &Transformer, channel: Channel, from: HeadId, to: HeadId) -> CompositionValue {
    let all = composition(model).unwrap();
    all.iter().find(|pair| (pair.channel, pair.from, pair.to) == (channel, from, to)).unwrap().value.unwrap()
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
}

/// Scores of a pair through K, Q and V: (expected, or zero), and alignment 1 where there is composition.
#[track_caller]
fn assert_composition(model: &Transformer, from: HeadId, to: HeadId, expected: [(Channel, f64); 3]) {
    for (channel, score) in expected {
        let found = composed(model, channel, from, to);
        assert_near(found.score, score, 1e-6);
        assert_near(found.alignment, if score > 0.0 { 1.0 } else { 0.0 }, 1e-5);
    }
}

fn full(left: ndarray::ArrayView2<f32>, right: ndarray::ArrayView2<f32>) -> Array2<f64> {
    left.mapv(f64::from).dot(&right.mapv(f64::from))
}

/// `Σ Re λ / Σ |λ|` of a low-rank map between tokens.
fn eigenvalue_share(circuit: &LowRank) -> f64 {
    let eigenvalues = circuit.eigenvalues().unwrap();
    eigenvalues.iter().map(|v| v.re).sum::<f64>() / eigenvalues.iter().map(|v| v.norm()).sum::<f64>()
}

const FIRST: HeadId = HeadId { layer: 0, head: 0 };
const SECOND: HeadId = HeadId { layer: 1, head: 0 };

#[test]
fn both_induction_circuits_are_right_at_39_of_39_positions() {
    for circuit in ["induction", "pointer-arithmetic"] {
        let found = loss(&wired(circuit), &repeated()).unwrap();
        let from_21 = found.accuracy.slice(s![21..]);
        assert_eq!(from_21.len(), 39);
        assert!(from_21.iter().all(|&accuracy| accuracy == 1.0), "{circuit}: {from_21}");
    }
}

#[test]
fn a_longer_prefix_is_right_from_the_second_repeated_token_on() {
    let found = loss(&wired("n-token-prefix"), &repeated()).unwrap();
    assert!(found.accuracy.slice(s![22..]).iter().all(|&accuracy| accuracy == 1.0), "{}", found.accuracy);
}

#[test]
fn the_saturated_loss_is_that_of_one_logit_above_the_others() {
    for gamma in [2.0f64, 5.0, 10.0] {
        let model = model("wired", json!({ "circuit": "induction", "vocab": V, "context": C, "scale": gamma }));
        let found = loss(&model, &repeated()).unwrap();
        let expected = (1.0 + (V - 1) as f64 * (-gamma).exp()).ln();
        found.loss.slice(s![21..]).iter().for_each(|&loss| assert_near(loss, expected, 1e-5));
    }
}

#[test]
fn the_previous_token_head_acts_through_keys_alone() {
    let model = wired("induction");
    // Not the mean at each position: over 32 sequences it still holds a 32nd of what the head said of this one.
    for method in [Method::Zero, Method::Mean] {
        let out = |patterns| Ablation { heads: vec![FIRST], method, patterns };
        let found = ablate(&model, &repeated(), &[out(Patterns::Recomputed), out(Patterns::Frozen)]).unwrap();
        let repeats = |of: &ndarray::Array1<f64>| of.slice(s![21..]).mean().unwrap();
        // At chance: one of the 20 tokens of the period, at best.
        assert!(repeats(&found.ablated[0].accuracy) <= 1.0 / 20.0 + 0.02, "{method:?}");
        assert!(repeats(&found.ablated[0].loss) > 20f64.ln(), "{method:?}");
        assert_eq!(repeats(&found.ablated[1].accuracy), 1.0, "{method:?}");
        assert_near(repeats(&found.ablated[1].loss), repeats(&found.clean.loss), 1e-6);
    }
}

#[test]
fn composition_of_the_wired_pairs_is_known() {
    let root = |n: usize| 1.0 / (n as f64).sqrt();
    let (k, q, v) = (Channel::K, Channel::Q, Channel::V);
    assert_composition(&wired("induction"), FIRST, SECOND, [(k, root(V)), (q, 0.0), (v, 0.0)]);
    assert_composition(&wired("previous-of-previous"), FIRST, SECOND, [(v, root(V)), (k, 0.0), (q, 0.0)]);
    // Not aligned as far as can be: the query is shifted by one, and so does not read the last position that is written.
    let found = composed(&wired("pointer-arithmetic"), q, FIRST, SECOND);
    assert_near(found.score, root(C), 1e-6);
    for channel in [k, v] {
        assert_near(composed(&wired("pointer-arithmetic"), channel, FIRST, SECOND).score, 0.0, 1e-6);
    }
    let prefix = wired("n-token-prefix");
    for from in [FIRST, HeadId::new(0, 1)] {
        assert_near(composed(&prefix, k, from, SECOND).score, root(2 * V), 1e-6);
    }
}

#[test]
fn copying_and_matching_scores_of_the_induction_pair_are_one() {
    let model = wired("induction");
    let (previous, induction) = (model.head(FIRST), model.head(SECOND));
    let full_ov = LowRank::new(full(model.w_e(), induction.w_v), full(induction.w_o, model.w_u())).unwrap();
    assert_near(eigenvalue_share(&full_ov), 1.0, 1e-5);
    // W_E W_QK (W_OV of the previous-token head)ᵀ W_Eᵀ: attend where the token before equals the token here.
    let read = LowRank::new(full(model.w_e(), induction.w_q), induction.w_k.t().mapv(f64::from)).unwrap();
    let written = LowRank::new(full(model.w_e(), previous.w_v), previous.w_o.mapv(f64::from)).unwrap();
    let matching = read.then(&written.t()).unwrap();
    assert_near(eigenvalue_share(&matching), 1.0, 1e-5);
}

#[test]
fn two_shifts_by_one_are_a_shift_by_two() {
    let model = wired("previous-of-previous");
    let cache = model.run(&repeated(), Keep { patterns: true, ..Keep::NOTHING }).unwrap();
    let pattern = |layer: usize| -> Array2<f64> { cache.patterns[layer].slice(s![0, 0, .., ..]).mapv(f64::from) };
    let product = pattern(1).dot(&pattern(0));
    for position in 2..C {
        assert_near(product[(position, position - 2)], 1.0, 1e-5);
    }
}

#[test]
fn attention_at_a_sharpness_is_that_of_softmax() {
    for sharpness in [0.0f64, 1.0, 3.0, 7.5] {
        let model = model("wired", json!({ "circuit": "induction", "vocab": V, "context": C, "sharpness": sharpness }));
        let cache = model.run(&repeated(), Keep { patterns: true, ..Keep::NOTHING }).unwrap();
        for destination in 1..C {
            // The target and the destination's other choices: m = destination + 1 keys.
            let expected = sharpness.exp() / (sharpness.exp() + destination as f64);
            assert_near(f64::from(cache.patterns[0][[0, 0, destination, destination - 1]]), expected, 1e-6);
        }
    }
}
