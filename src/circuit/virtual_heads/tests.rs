use super::*;
use crate::batch::Repeats;
use crate::circuit::testing::model;
use crate::linalg::eigenvalues;
use crate::model::Keep;
use ndarray::{Array2, ArrayView2};
use serde_json::json;

/// A start token, then 1..=5, twice.
fn repeated() -> TokenBatch {
    let tokens = Array2::from_shape_fn((1, 11), |(_, i)| if i == 0 { 0 } else { ((i - 1) % 5 + 1) as u32 });
    TokenBatch::new(tokens, Some(Repeats { start: 1, period: 5, count: 2 })).unwrap()
}

fn scores(names: &[&str]) -> Vec<Score> {
    names.iter().map(|name| Score::find(name).unwrap()).collect()
}

#[test]
fn two_previous_token_heads_are_one_that_looks_two_back() {
    let model = model("wired", json!({ "circuit": "previous-of-previous", "vocab": 9, "context": 11, "sharpness": 30 }));
    let pairs = VirtualHead::all(model.config());
    assert_eq!(pairs, [VirtualHead { from: HeadId::new(0, 0), to: HeadId::new(1, 0) }]);
    let found = virtual_head_scores(&model, &repeated(), &pairs, &scores(&["offset_2", "previous_token"])).unwrap();
    assert!((found[0].values.as_ref().unwrap()[0] - 1.0).abs() < 1e-5, "{found:?}");
    assert_eq!(found[0].ceiling, Some(1.0));
    // Position 0 has only itself to attend to, so position 1 attends to 0, and that is the position before.
    assert!((found[1].values.as_ref().unwrap()[0] - 0.1).abs() < 0.06, "{found:?}");
    let copying = virtual_copying(&Circuits::new(&model), &pairs).unwrap();
    assert!((copying[0].unwrap() - 1.0).abs() < 1e-6, "{copying:?}");
}

/// The pattern of a duplicate-token head, through which nothing moves: the second head does not read what the first one writes.
#[test]
fn the_virtual_head_of_the_induction_pair_moves_nothing() {
    for rotate in [false, true] {
        let model =
            model("wired", json!({ "circuit": "induction", "vocab": 9, "context": 11, "sharpness": 30, "rotate": rotate }));
        let pairs = VirtualHead::all(model.config());
        let found = virtual_head_scores(&model, &repeated(), &pairs, &scores(&["duplicate_token"])).unwrap();
        assert!((found[0].values.as_ref().unwrap()[0] - 1.0).abs() < 1e-5, "{found:?}");
        assert_eq!(virtual_copying(&Circuits::new(&model), &pairs).unwrap(), [None]);
    }
}

/// Uniform attention twice: from i over every k ≤ i, from k over every j ≤ k.
#[test]
fn the_floor_is_uniform_attention_passed_on() {
    let model = model("random", json!({ "layers": 2, "heads": 1, "d_model": 4, "vocab": 9, "context": 11, "std": 0 }));
    let pairs = VirtualHead::all(model.config());
    let found = virtual_head_scores(&model, &repeated(), &pairs, &scores(&["first_token", "offset_2"])).unwrap();
    let entry = |i: usize, j: usize| (j..=i).map(|k| 1.0 / (k + 1) as f64).sum::<f64>() / (i + 1) as f64;
    let first = (1..11).map(|i| entry(i, 0)).sum::<f64>() / 10.0;
    let two_back = (2..11).map(|i| entry(i, i - 2)).sum::<f64>() / 9.0;
    for (found, expected) in found.iter().zip([first, two_back]) {
        assert!((found.floor.unwrap() - expected).abs() < 1e-6, "{found:?}, expected {expected}");
        // A model of zeros attends uniformly.
        assert!((found.values.as_ref().unwrap()[0] - expected).abs() < 1e-6, "{found:?}, expected {expected}");
    }
}

/// Against patterns and circuits that are multiplied out.
#[test]
fn pairs_are_products_of_their_heads() {
    let model =
        model("random", json!({ "layers": 3, "heads": 2, "d_model": 6, "d_head": 4, "vocab": 9, "context": 11, "std": 1 }));
    let all: Vec<_> = model.config().heads().collect();
    let pairs = VirtualHead::all(model.config());
    assert_eq!(pairs.len(), 12);
    assert!(pairs.is_sorted() && pairs.iter().all(|pair| pair.from.layer < pair.to.layer));
    assert_eq!(VirtualHead::among(&all[1..2], &all[4..]).len(), 2);
    assert_eq!(VirtualHead::among(&all[2..4], &all[..4]), []);

    let batch = repeated();
    let patterns = model.run(&batch, Keep { patterns: true, ..Keep::NOTHING }).unwrap().patterns;
    let wide = |a: ArrayView2<f32>| a.mapv(f64::from);
    let pattern = |id: HeadId| wide(patterns[id.layer].slice(s![0, id.head, .., ..]));
    let scored = virtual_head_scores(&model, &batch, &pairs, &scores(&["offset_3"])).unwrap();
    let copying = virtual_copying(&Circuits::new(&model), &pairs).unwrap();
    for (place, pair) in pairs.iter().enumerate() {
        let product = pattern(pair.to).dot(&pattern(pair.from));
        let expected = (3..11).map(|i| product[(i, i - 3)]).sum::<f64>() / 8.0;
        let found = scored[0].values.as_ref().unwrap()[place];
        assert!((found - expected).abs() < 1e-5, "{pair:?}: {found}, expected {expected}");

        let ov = |id: HeadId| wide(model.head(id).w_v).dot(&wide(model.head(id).w_o));
        let full = wide(model.w_e()).dot(&ov(pair.from)).dot(&ov(pair.to)).dot(&wide(model.w_u()));
        let values = eigenvalues(full.view()).unwrap();
        let expected = values.iter().map(|v| v.re).sum::<f64>() / values.iter().map(|v| v.norm()).sum::<f64>();
        let found = copying[place].unwrap();
        assert!((found - expected).abs() < 1e-4, "{pair:?}: {found}, expected {expected}");
    }
}
