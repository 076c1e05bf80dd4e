//! What the presets compute, by a forward pass that is as plain as can be.

use super::*;
use ndarray::Axis;

/// Logits of one sequence, `[n, V]`, in double precision.
fn logits(model: &Transformer, tokens: &[usize]) -> Array2<f64> {
    let n = tokens.len();
    let mut x = double(model.w_e().select(Axis(0), tokens).view()) + double(model.w_pos().unwrap().slice(s![..n, ..]));
    for layer in 0..model.config().n_layers {
        let outputs = (0..model.config().n_heads).map(|head| {
            let head = model.head(HeadId::new(layer, head));
            let mut pattern = x.dot(&qk(head)).dot(&x.t()) / model.config().attn_scale;
            for (destination, mut row) in pattern.rows_mut().into_iter().enumerate() {
                let largest = row.slice(s![..=destination]).iter().fold(f64::MIN, |largest, &score| largest.max(score));
                row.indexed_iter_mut().for_each(|(source, score)| {
                    *score = if source <= destination { (*score - largest).exp() } else { 0.0 };
                });
                let total = row.sum();
                row /= total;
            }
            pattern.dot(&x).dot(&ov(head))
        });
        x += &outputs.fold(Array2::zeros(x.dim()), |sum, output| sum + output);
    }
    x.dot(&double(model.w_u()))
}

fn largest(row: ndarray::ArrayView1<f64>) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

/// Start token, then a period of twenty distinct tokens three times.
fn repeated() -> Vec<usize> {
    let period = (0..20).map(|index| 1 + (index * 7 + 3) % 32);
    [0].into_iter().chain(period.clone()).chain(period.clone()).chain(period).collect()
}

fn preset(name: &str, overrides: Value) -> Wired {
    let mut kind = induction(overrides);
    (kind.vocab, kind.context, kind.circuit) = (33, 61, Some(name.to_string()));
    kind
}

#[test]
fn both_induction_circuits_predict_every_token_of_the_later_repeats() {
    let tokens = repeated();
    for name in ["induction", "pointer-arithmetic"] {
        for overrides in [json!({}), json!({ "rotate": true }), json!({ "noise": 0.05 })] {
            let model = build(&preset(name, overrides.clone()));
            let logits = logits(&model, &tokens);
            let right = (21..60).filter(|&position| largest(logits.row(position)) == tokens[position + 1]).count();
            assert_eq!(right, 39, "{name} {overrides}");
        }
    }
}

#[test]
fn the_loss_of_the_induction_circuit_is_the_saturated_one() {
    let tokens = repeated();
    let scale = 4f64;
    let logits = logits(&build(&preset("induction", json!({ "scale": scale, "sharpness": 60.0 }))), &tokens);
    let expected = (1.0 + 32.0 * (-scale).exp()).ln();
    for position in 21..60 {
        let row = logits.row(position);
        let loss = row.iter().map(|value| value.exp()).sum::<f64>().ln() - row[tokens[position + 1]];
        assert!((loss - expected).abs() < 1e-4, "{loss} {expected}");
    }
}

#[test]
fn previous_of_previous_says_what_stood_two_positions_before() {
    let tokens = repeated();
    let logits = logits(&build(&preset("previous-of-previous", json!({}))), &tokens);
    assert!((2..61).all(|position| largest(logits.row(position)) == tokens[position - 2]));
}
