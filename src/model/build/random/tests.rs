use super::*;
use crate::stream::Stream;
use serde_json::{Value, json};

fn random(overrides: Value) -> Random {
    let mut value = json!({ "layers": 2, "heads": 4, "d_model": 64, "vocab": 50, "context": 40 });
    value.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

fn build(kind: &Random) -> Transformer {
    kind.build(&BuildContext { base: Path::new("."), stream: Stream::new(7) }).unwrap()
}

fn deviation<'a>(values: impl IntoIterator<Item = &'a f32>) -> f64 {
    let values = values.into_iter().map(|&value| value as f64).collect::<Vec<_>>();
    (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
}

fn assert_deviations(kind: &Random, expected: [f64; 5]) {
    let weights = build(kind).to_weights();
    let block = &weights.blocks[1];
    let found = [
        deviation(&weights.w_e),
        deviation(weights.w_pos.as_ref().unwrap()),
        deviation(&block.w_q),
        deviation(&block.w_o),
        deviation(&weights.w_u),
    ];
    for (found, expected) in found.into_iter().zip(expected) {
        // The smallest tensor has 2560 entries: five standard errors are 7 %.
        assert!((found / expected - 1.0).abs() < 0.07, "{found} instead of {expected}: {kind:?}");
    }
}

#[test]
fn weights_have_the_stated_deviations() {
    assert_deviations(&random(json!({})), [0.1; 5]);
    assert_deviations(&random(json!({ "std": 0.02 })), [0.02; 5]);
    for distribution in ["normal", "uniform"] {
        let xavier = random(json!({ "init": "xavier", "gain": 3.0, "distribution": distribution }));
        let of = |fans: f64| 3.0 * (2.0 / fans).sqrt();
        assert_deviations(&xavier, [of(114.0), of(104.0), of(128.0), of(16.0 + 256.0), of(114.0)]);
        let kaiming = random(json!({ "init": "kaiming", "distribution": distribution }));
        let of = |fan: f64| (2.0 / fan).sqrt();
        assert_deviations(&kaiming, [of(50.0), of(40.0), of(64.0), of(16.0), of(64.0)]);
    }
}

#[test]
fn the_uniform_distribution_is_bounded_and_the_normal_one_is_not() {
    let largest = |distribution: &str| {
        let kind = random(json!({ "init": "kaiming", "distribution": distribution }));
        build(&kind).w_u().iter().fold(0f32, |largest, value| largest.max(value.abs()))
    };
    let bound = (3.0 * 2.0 / 64.0f32).sqrt();
    assert!(largest("uniform") <= bound && largest("normal") > bound);
}

#[test]
fn a_bigger_model_shares_the_first_layers_and_heads() {
    let small = build(&random(json!({ "d_head": 16 }))).to_weights();
    let deep = build(&random(json!({ "d_head": 16, "layers": 3, "biases": true, "layer_norm": "ln" }))).to_weights();
    assert_eq!(small.blocks[1].w_v, deep.blocks[1].w_v);
    assert_eq!(small.w_u, deep.w_u);
    let wide = build(&random(json!({ "d_head": 16, "heads": 6 }))).to_weights();
    assert_eq!(small.blocks[1].w_o, wide.blocks[1].w_o.slice(ndarray::s![..4, .., ..]));
    assert_ne!(small.blocks[0].w_q, small.blocks[1].w_q);
    assert_ne!(small.blocks[0].w_q, small.blocks[0].w_k);
}

#[test]
fn options_reach_the_configuration() {
    let kind = random(json!({
        "positions": "rotary", "rotary_dim": 6, "rotary_base": 500.0, "layer_norm": "ln_pre", "biases": true
    }));
    let model = build(&kind);
    assert_eq!(model.config(), &kind.config(Path::new(".")).unwrap());
    assert_eq!(model.config().positions, Positions::Rotary { dim: 6, base: 500.0, adjacent_pairs: false });
    assert_eq!(model.config().normalization, Normalization::LnPre);
    assert!(model.w_pos().is_none() && model.b_u().is_some());
    assert!(build(&random(json!({}))).b_u().is_none());
}

#[test]
fn impossible_options_are_refused_by_name() {
    for (overrides, path) in [
        (json!({ "heads": 5 }), "d_model"),
        (json!({ "heads": 0 }), "heads"),
        (json!({ "gain": 2.0 }), "gain"),
        (json!({ "init": "xavier", "std": 2.0 }), "std"),
        (json!({ "distribution": "uniform" }), "distribution"),
        (json!({ "rotary_dim": 4 }), "rotary_dim"),
        (json!({ "positions": "rotary", "rotary_dim": 5 }), "rotary_dim"),
        (json!({ "positions": "rotary", "rotary_dim": 18 }), "rotary_dim"),
        (json!({ "positions": "rotary", "rotary_dim": 0 }), "rotary_dim"),
        (json!({ "positions": "rotary", "d_head": 5 }), "positions"),
    ] {
        match random(overrides.clone()).config(Path::new(".")).unwrap_err() {
            Error::Parameter { path: found, .. } => assert_eq!(found, path, "{overrides}"),
            other => panic!("{overrides}: {other}"),
        }
    }
}

#[test]
fn no_number_overflows() {
    for field in ["layers", "heads", "d_model", "d_head", "vocab", "context"] {
        assert!(random(json!({ "d_head": 16, field: usize::MAX })).config(Path::new(".")).is_err(), "{field}");
    }
}
