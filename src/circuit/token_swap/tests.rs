use super::*;
use crate::circuit::testing::model;
use crate::input::{Repeats, TokenBatch};
use crate::model::{Cache, Keep};
use ndarray::{ArrayView2, array};
use serde_json::json;

/// A start token, then 1..=5, so many times.
fn repeated(count: usize) -> TokenBatch {
    let token = |(_, i): (usize, usize)| if i == 0 { 0 } else { ((i - 1) % 5 + 1) as u32 };
    let tokens = Array2::from_shape_fn((1, 1 + 5 * count), token);
    TokenBatch::new(tokens, Some(Repeats { start: 1, period: 5, count })).unwrap()
}

fn swaps(model: &Transformer, batch: &TokenBatch) -> Vec<Option<Swap>> {
    token_swap(model, batch, &[0], 0, &Stream::new(3)).unwrap()
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-4, "found {found}, expected {expected}");
}

/// Its keys hold the token before: with another token at the source, the pattern stays, and what is moved is the other token.
#[test]
fn an_induction_head_looks_on_and_says_the_new_token() {
    let model = model("wired", json!({ "circuit": "induction", "vocab": 9, "context": 16, "sharpness": 30, "rotate": true }));
    for copies in [1, 2] {
        let found = swaps(&model, &repeated(copies + 1))[1].unwrap();
        let share = 1.0 / copies as f64;
        assert_near(found.mass, 1.0);
        assert_near(found.attention, share);
        assert_near(found.attention_swapped, share);
        assert_near(found.row_change, 0.0);
        assert_near(found.output_change.unwrap(), 1.0);
        // The scale of the preset is 10.
        for (found, expected) in [
            (found.old_before, 10.0 * share),
            (found.old_after, 0.0),
            (found.new_before, 0.0),
            (found.new_after, 10.0 * share),
            (found.follows, 1.0),
        ] {
            assert_near(found, expected);
        }
    }
}

/// What its keys hold is the token before: with another one there, it is not found, whatever stands at the source.
#[test]
fn an_induction_head_loses_sight_with_the_token_before() {
    let model = model("wired", json!({ "circuit": "induction", "vocab": 9, "context": 16, "sharpness": 30, "rotate": true }));
    let found = token_swap(&model, &repeated(2), &[0], 1, &Stream::new(3)).unwrap()[1].unwrap();
    for (found, expected) in [
        (found.mass, 1.0),
        (found.attention, 1.0),
        (found.attention_swapped, 0.1),
        (found.row_change, 0.9),
        (found.old_before, 0.0),
        (found.follows, 0.0),
    ] {
        // Without a match it attends everywhere alike, to 7 to 11 positions.
        assert!((found - expected).abs() < 0.05, "found {found}, expected {expected}");
    }
    assert_eq!(token_swap(&model, &repeated(2), &[0], 10, &Stream::new(3)).unwrap(), [None, None]);
}

/// It looks for its own token: another one in that place is not found, and the attention goes elsewhere. It writes positions, which
/// the logits do not read.
#[test]
fn a_duplicate_token_head_loses_sight() {
    let model =
        model("wired", json!({ "circuit": "pointer-arithmetic", "vocab": 9, "context": 16, "sharpness": 30, "rotate": true }));
    let found = swaps(&model, &repeated(2))[0].unwrap();
    // Half of it on the copy, half on the token itself, which is not earlier.
    for (found, expected) in [
        (found.mass, 0.5),
        (found.attention, 0.5),
        (found.attention_swapped, 0.0),
        (found.row_change, 0.5),
        (found.output_change.unwrap(), 1.0),
        (found.old_before, 0.0),
        (found.follows, 0.0),
    ] {
        assert_near(found, expected);
    }
}

/// Every number by the definition, from the whole cache of the runs and no shortcut, of a model with biases.
#[test]
fn the_definition_by_hand() {
    let parameters = json!({
        "layers": 2, "heads": 2, "d_model": 8, "d_head": 3, "vocab": 9, "context": 8, "biases": true, "std": 0.6
    });
    let model = model("random", parameters);
    let tokens = array![[3u32, 1, 4, 1, 5]];
    let batch = TokenBatch::new(tokens.clone(), None).unwrap();
    let found = swaps(&model, &batch);
    let stream = Stream::new(3).child("sequence 0");
    let clean = model.run(&batch, Keep::ALL).unwrap();
    let weights = model.to_weights();
    let w_u = weights.w_u.mapv(f64::from);
    let mut expected = [[0.0f64; 6]; 4];
    for position in 0..4 {
        let new = exchange(tokens.row(0), position, 9, &stream).unwrap() as usize;
        assert!(!tokens.iter().any(|&token| token as usize == new));
        let mut other = tokens.clone();
        let old = other[(0, position)] as usize;
        other[(0, position)] = new as u32;
        let swapped = model.run(&TokenBatch::new(other, None).unwrap(), Keep::ALL).unwrap();
        for (place, id) in model.config().heads().enumerate() {
            let block = &weights.blocks[id.layer];
            let logits = |cache: &Cache, token: usize| {
                let x: ArrayView1<f32> = cache.residual[id.layer].slice(s![0, position, ..]);
                let v = x.dot(&block.w_v.index_axis(Axis(0), id.head)) + block.b_v.as_ref().unwrap().row(id.head);
                v.dot(&block.w_o.index_axis(Axis(0), id.head)).mapv(f64::from).dot(&w_u.column(token))
            };
            for destination in position + 1..5 {
                let row = |cache: &Cache| cache.patterns[id.layer].slice(s![0, id.head, destination, ..]).mapv(f64::from);
                let (a, b) = (row(&clean), row(&swapped));
                let weight = a[position];
                let sums = &mut expected[place];
                sums[0] += weight;
                sums[1] += weight * b[position];
                sums[2] += weight * (&a - &b).mapv(f64::abs).sum() / 2.0;
                sums[3] += weight * a[position] * logits(&clean, old);
                sums[4] += weight * b[position] * logits(&swapped, new);
                sums[5] += weight * b[position] * logits(&swapped, old);
            }
        }
    }
    for (found, sums) in found.iter().zip(expected) {
        let found = found.unwrap();
        assert_near(found.mass, sums[0] / 4.0);
        let numbers = [found.attention_swapped, found.row_change, found.old_before, found.new_after, found.old_after];
        numbers.iter().zip(&sums[1..]).for_each(|(&found, sum)| assert_near(found, sum / sums[0]));
        assert!(sums[2] > 1e-3 && sums[3].abs() > 1e-3, "{sums:?}");
    }
}

/// Contributions from all sources add up to what the head writes into the logits, LayerNorm or not.
#[test]
fn readout_and_values_make_the_logits() {
    for layer_norm in ["none", "ln", "ln_pre"] {
        let parameters = json!({
            "layers": 1, "heads": 2, "d_model": 8, "d_head": 3, "vocab": 7, "context": 8, "biases": true, "layer_norm": layer_norm
        });
        let model = model("random", parameters);
        let cache = model.run(&TokenBatch::new(array![[3, 1, 4, 1, 5]], None).unwrap(), Keep::ALL).unwrap();
        let frozen = Frozen::new(&model);
        let read = frozen.w_u();
        let tokens = array![[3, 1, 4, 1, 5]];
        let run = frozen.run(tokens.view(), cache.clone());
        let last = cache.residual[1].index_axis(Axis(0), 0);
        let logits = cache.logits.as_ref().unwrap().index_axis(Axis(0), 0);
        for position in 0..5 {
            // Differences between positions leave out what is constant: the biases of the last normalisation and of the logits.
            let of = |position: usize| last.row(position).dot(&read).mapv(|v| f64::from(v * run.scale_at(1, position)));
            let (found, expected) = (of(position) - of(0), &logits.row(position) - &logits.row(0));
            found.iter().zip(&expected).for_each(|(&found, &expected)| assert_near(found, f64::from(expected)));
        }
        for id in model.config().heads() {
            let moved = Array2::from_shape_fn((5, 8), |(position, coordinate)| run.moved(id, position)[coordinate]);
            let pattern: ArrayView2<f32> = cache.patterns[0].slice(s![0, id.head, .., ..]);
            let result = cache.results[0].slice(s![0, .., id.head, ..]);
            pattern.dot(&moved).iter().zip(result).for_each(|(&found, &expected)| assert_near(found.into(), expected.into()));
        }
    }
}

#[test]
fn nothing_to_exchange() {
    let model = model("random", json!({ "layers": 1, "heads": 2, "d_model": 8, "vocab": 2, "context": 8 }));
    let one = TokenBatch::new(array![[1]], None).unwrap();
    assert_eq!(swaps(&model, &one), [None, None]);
    // Both tokens occur: the other one it is.
    let both = TokenBatch::new(array![[0, 1, 1]], None).unwrap();
    assert!(swaps(&model, &both).iter().all(Option::is_some));
    let bare = self::model("random", json!({ "layers": 1, "heads": 2, "d_model": 8, "vocab": 1, "context": 8 }));
    assert_eq!(swaps(&bare, &TokenBatch::new(array![[0, 0, 0]], None).unwrap()), [None, None]);
}
