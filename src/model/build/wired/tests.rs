mod behaviour;
mod deviations;
mod errors;

use super::*;
use crate::kind::schema_of;
use crate::model::{Head, HeadId};
use crate::stream::Stream;
use ndarray::{Array1, Array2, ArrayView2, s};
use serde_json::{Value, json};

const VOCAB: usize = 7;
const CONTEXT: usize = 5;

fn parse(yaml: &str) -> Wired {
    serde_yaml::from_str(yaml).unwrap()
}

fn induction(overrides: Value) -> Wired {
    let mut value = json!({ "circuit": "induction", "vocab": VOCAB, "context": CONTEXT });
    value.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
    serde_json::from_value(value).unwrap()
}

fn induction_text() -> String {
    Preset::find("induction").unwrap().text(None).unwrap()
}

fn build(kind: &Wired) -> Transformer {
    kind.build(&BuildContext { base: Path::new("."), stream: Stream::new(11).child("wired") }).unwrap()
}

fn double(matrix: ArrayView2<f32>) -> Array2<f64> {
    matrix.mapv(f64::from)
}

fn norm(matrix: &Array2<f64>) -> f64 {
    matrix.iter().map(|value| value * value).sum::<f64>().sqrt()
}

fn ov(head: Head) -> Array2<f64> {
    double(head.w_v).dot(&double(head.w_o))
}

fn qk(head: Head) -> Array2<f64> {
    double(head.w_q).dot(&double(head.w_k).t())
}

/// Composition of head 0 of layer 0 with head 0 of layer 1: by query, key and value.
fn composition(model: &Transformer) -> [f64; 3] {
    let (first, second) = (model.head(HeadId::new(0, 0)), model.head(HeadId::new(1, 0)));
    let left = ov(first);
    [qk(second), qk(second).t().to_owned(), ov(second)].map(|right| norm(&left.dot(&right)) / (norm(&left) * norm(&right)))
}

fn assert_near(found: &Array2<f64>, expected: &Array2<f64>, tolerance: f64) {
    assert_eq!(found.dim(), expected.dim());
    let largest = (found - expected).iter().fold(0f64, |largest, value| largest.max(value.abs()));
    assert!(largest <= tolerance, "differs by {largest}:\n{found}\n{expected}");
}

fn parameter_error(kind: &Wired) -> (String, String) {
    match kind.config(Path::new(".")).unwrap_err() {
        Error::Parameter { path, message } => (path, message),
        other => panic!("not about a parameter: {other}"),
    }
}

#[test]
fn the_preset_has_the_closed_forms() {
    let kind = induction(json!({}));
    let model = build(&kind);
    let config = kind.config(Path::new(".")).unwrap();
    assert_eq!(model.config(), &config);
    assert_eq!((config.n_layers, config.n_heads, config.d_model, config.d_head), (2, 1, 3 * VOCAB + CONTEXT, VOCAB));

    let [q, k, v] = composition(&model);
    assert!((k - 1.0 / (VOCAB as f64).sqrt()).abs() < 1e-12, "{k}");
    assert_eq!((q, v), (0.0, 0.0));

    // The induction head copies the token with weight 10, and the direct path says nothing.
    let (w_e, w_u) = (double(model.w_e()), double(model.w_u()));
    assert_near(&w_e.dot(&ov(model.head(HeadId::new(1, 0)))).dot(&w_u), &(Array2::eye(VOCAB) * 10.0), 1e-6);
    assert_near(&w_e.dot(&w_u), &Array2::zeros((VOCAB, VOCAB)), 0.0);
}

#[test]
fn the_previous_token_head_scores_only_the_position_before() {
    let model = build(&induction(json!({})));
    let w_pos = double(model.w_pos().unwrap());
    let scores = w_pos.dot(&qk(model.head(HeadId::new(0, 0)))).dot(&w_pos.t()) / model.config().attn_scale;
    let expected = Array2::from_shape_fn((CONTEXT, CONTEXT), |(query, key)| if query == key + 1 { 20.0 } else { 0.0 });
    assert_near(&scores, &expected, 1e-5);
}

#[test]
fn a_shift_can_go_forwards_and_stand_anywhere() {
    let kind = parse(
        "
vocab: 4
context: 4
residual: { token: vocab, position: context, other: 4, output: 4 }
heads:
  - layer: 1
    query: { from: position }
    key: { from: other, shift: 2 }
    value: { from: position, to: other, shift: 1, scale: -3 }
    sharpness: 5
",
    );
    let model = build(&kind);
    let layout = kind.resolve().unwrap().layout;
    let shifted = |by: usize, value: f64| Array2::from_shape_fn((4, 4), |(i, j)| if i + by == j { value } else { 0.0 });
    let head = model.head(HeadId::new(1, 0));
    let scores = qk(head) / model.config().attn_scale;
    let block = |matrix: &Array2<f64>, rows: &str, columns: &str| {
        matrix.slice(s![layout.get(rows).unwrap(), layout.get(columns).unwrap()]).to_owned()
    };
    assert_near(&block(&scores, "position", "other"), &shifted(2, 5.0).reversed_axes(), 1e-6);
    assert_near(&block(&ov(head), "position", "other"), &shifted(1, -3.0), 1e-6);
    // Layer 0 has no head, so its only one is all zero.
    assert!(model.head(HeadId::new(0, 0)).w_q.iter().chain(model.head(HeadId::new(0, 0)).w_o).all(|&value| value == 0.0));
}

#[test]
fn pasting_the_text_of_a_preset_gives_the_same_model() {
    for preset in CIRCUITS {
        for n in [None, Some(1), Some(2), Some(3)] {
            let possible = |n| preset.n.as_ref().is_some_and(|number| number.range.contains(&n));
            if n.is_some_and(|n| !possible(n)) {
                continue;
            }
            for (vocab, context) in [(10, 5), (13, 9)] {
                let sizes = format!("vocab: {vocab}\ncontext: {context}\n");
                for rest in ["", "noise: 0.3\nrotate: true\nsharpness: 4\nscale: 3\n"] {
                    let pasted = parse(&format!("{}{sizes}{rest}", preset.text(n).unwrap()));
                    let n = n.map(|n| format!("n: {n}\n")).unwrap_or_default();
                    let named = parse(&format!("circuit: {}\n{n}{sizes}{rest}", preset.name));
                    assert_eq!(build(&pasted), build(&named), "{} {n}", preset.name);
                }
            }
        }
    }
}

#[test]
fn a_map_reads_what_it_lists_and_nothing_else() {
    let kind = parse(
        "
vocab: 4
context: 4
residual: { token: vocab, output: vocab }
heads:
  - layer: 0
    query: { from: token, map: { 2: 1, 3: { '0': 0.5, '1': -2 } } }
    key: { from: token, map: { 0: 0, 2: [0, 1] } }
    value: { from: token, to: output, map: { 0: [2, 3] }, scale: 3 }
    sharpness: 5
",
    );
    let model = build(&kind);
    let scores = qk(model.head(HeadId::new(0, 0))) / model.config().attn_scale;
    let mut expected = Array2::zeros((8, 8));
    // Token 2 is looked for as 1, which token 2 is at the source; token 3 as half a 0 less twice a 1.
    for (query, key, value) in [(2, 2, 5.0), (3, 0, 2.5), (3, 2, 2.5 - 10.0)] {
        expected[(query, key)] = value;
    }
    assert_near(&scores, &expected, 1e-5);
    let mut expected = Array2::zeros((8, 8));
    (expected[(0, 6)], expected[(0, 7)]) = (3.0, 3.0);
    assert_near(&ov(model.head(HeadId::new(0, 0))), &expected, 1e-6);
}

#[test]
fn rest_and_current_add_to_the_scores_of_two_places_and_nothing_is_moved_from_the_start() {
    let text = |more: &str| {
        let text = Preset::find("duplicate-token").unwrap().text(None).unwrap();
        let text = text.split("    rest").next().unwrap().to_string();
        build(&parse(&format!("{text}{more}vocab: 4\ncontext: 3\n")))
    };
    let (plain, rest) = (text(""), text("    rest: 7\n    current: -9\n"));
    assert_eq!((plain.config().d_head, rest.config().d_head), (4, 4 + 1 + 3));
    let head = HeadId::new(0, 0);
    let scores = |model: &Transformer| qk(model.head(head)) / model.config().attn_scale;
    let mut expected = scores(&plain);
    // `token` is 0..4, `position` 4..7.
    expected.slice_mut(s![0..4, 0]).mapv_inplace(|score| score + 7.0);
    (4..7).for_each(|position| expected[(position, position)] -= 9.0);
    assert_near(&scores(&rest), &expected, 1e-5);
    let mut expected = ov(plain.head(head));
    assert!(expected[(0, 7)] == 10.0);
    expected[(0, 7)] = 0.0;
    assert_near(&ov(rest.head(head)), &expected, 1e-6);
}

#[test]
fn overrides_replace_sharpness_and_the_scale_of_what_is_output() {
    let kind = induction(json!({ "sharpness": 3.0, "scale": 0.5 }));
    let wiring = kind.resolve().unwrap();
    let found = wiring.heads.iter().map(|head| (head.sharpness, head.scale)).collect::<Vec<_>>();
    assert_eq!(found, [(3.0, 1.0), (3.0, 0.5)]);
    let model = build(&kind);
    assert!((norm(&ov(model.head(HeadId::new(1, 0)))) - 0.5 * (VOCAB as f64).sqrt()).abs() < 1e-6);
}

#[test]
fn layout_and_heads_can_be_asked_for() {
    let wiring = induction(json!({})).resolve().unwrap();
    let subspaces = wiring.layout.iter().collect::<Vec<_>>();
    assert_eq!(subspaces, [("token", 0..7), ("position", 7..12), ("previous", 12..19), ("output", 19..26)]);
    let head = wiring.head("induction").unwrap();
    assert_eq!((head.layer, head.head, head.to.as_str(), head.to_range.clone()), (1, 0, "output", 19..26));
    assert!(wiring.head("other").is_none());
}

#[test]
fn a_layout_without_heads_or_positions_is_a_model() {
    let kind = parse("{ vocab: 4, context: 3, residual: { token: vocab, output: vocab }, heads: [], distractors: 2 }");
    let model = build(&kind);
    let config = model.config();
    assert_eq!((config.n_layers, config.n_heads, config.positions), (0, 0, Positions::None));
    assert!(model.w_pos().is_none());
}

#[test]
fn the_schema_is_closed_and_knows_the_presets() {
    let schema = schema_of::<Wired>().to_value();
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(schema["required"], json!(["vocab", "context"]));
    let presets: Vec<_> = CIRCUITS.iter().map(|preset| json!(preset.name)).chain([Value::Null]).collect();
    assert_eq!(schema["properties"]["circuit"]["enum"], json!(presets));
    assert!(schema["properties"]["circuit"]["description"].as_str().unwrap().starts_with("A preset"));
    let head = &schema["properties"]["heads"]["items"];
    assert_eq!(head["required"], json!(["layer", "query", "key", "value"]));
    assert_eq!(head["properties"]["value"]["additionalProperties"], json!(false));
}
