//! Every kind over realistic and over odd tables.

use super::{Drawing, FIGURES, Figure};
use crate::kind::Kind;
use polars::prelude::{Column, DataFrame, df};
use serde_json::{Value, json};

fn figure(kind: &str, parameters: Value) -> Box<dyn Figure> {
    let kind = Kind::find(FIGURES, kind).unwrap();
    (kind.parse)(parameters).unwrap()
}

fn draw(kind: &str, parameters: Value, data: &DataFrame, title: &str) -> Drawing {
    let drawing = figure(kind, parameters).draw(data, title).unwrap_or_else(|e| panic!("{kind}: {e}"));
    check(&drawing);
    drawing
}

fn check(drawing: &Drawing) {
    assert!(drawing.svg.starts_with("<svg") && drawing.svg.ends_with("</svg>\n"));
    assert!(!drawing.svg.contains("<text") && !drawing.svg.contains("NaN") && !drawing.svg.contains("inf"));
    assert!(drawing.svg.contains(r#"role="img""#));
    assert!(drawing.png.starts_with(b"\x89PNG\r\n"));
}

/// With `FIGURE_DIR` set the figures are kept there to be looked at.
fn keep(name: &str, drawing: &Drawing) {
    if let Ok(dir) = std::env::var("FIGURE_DIR") {
        std::fs::write(format!("{dir}/{name}.svg"), &drawing.svg).unwrap();
        std::fs::write(format!("{dir}/{name}.png"), &drawing.png).unwrap();
    }
}

/// Numbers between 0 and 1 without a pattern.
fn noise(i: usize) -> f64 {
    ((i as f64 * 12.9898).sin() * 43758.5453).fract().abs()
}

fn heads() -> DataFrame {
    let (mut model, mut layer, mut head, mut value, mut change) = (vec![], vec![], vec![], vec![], vec![]);
    for m in ["wired", "random", "compressed"] {
        for l in 0..2i64 {
            for h in 0..4i64 {
                model.push(m);
                layer.push(l);
                head.push(h);
                let missing = m == "compressed" && h == 2;
                let strong = m != "random" && l == 1 && h == 0;
                let v = if strong { 0.98 } else { noise(model.len()) * 0.2 };
                value.push((!missing).then_some(v));
                change.push(0.9 - noise(model.len() + 7) * 1.4);
            }
        }
    }
    df!("model" => model, "layer" => layer, "head" => head, "value" => value, "change" => change).unwrap()
}

fn losses() -> DataFrame {
    let (mut model, mut position, mut loss, mut low, mut high) = (vec![], vec![], vec![], vec![], vec![]);
    for (m, name) in ["wired", "random", "no induction head"].iter().enumerate() {
        for p in 0..60i64 {
            let base = if m == 0 && p > 20 { 0.2 + 2.0 * (-(p as f64 - 20.0) / 3.0).exp() } else { 3.4 - 0.1 * m as f64 };
            let y = base + 0.12 * (noise(p as usize + 100 * m) - 0.5);
            model.push(*name);
            position.push(p);
            loss.push(y);
            low.push(y - 0.15);
            high.push(y + 0.15);
        }
    }
    df!("model" => model, "position" => position, "loss" => loss, "low" => low, "high" => high).unwrap()
}

fn ablations() -> DataFrame {
    let (mut method, mut head, mut y, mut low, mut high) = (vec![], vec![], vec![], vec![], vec![]);
    for h in ["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"] {
        for (m, name) in ["zero", "mean", "resample"].iter().enumerate() {
            let v = if h == "1.0" { 2.4 - 0.3 * m as f64 } else { noise(y.len()) * 0.5 - 0.15 };
            method.push(*name);
            head.push(h);
            y.push(v);
            low.push(v - 0.12);
            high.push(v + 0.12);
        }
    }
    df!("method" => method, "head" => head, "loss_change" => y, "low" => low, "high" => high).unwrap()
}

fn attention(length: i64, heads: i64, flat: bool) -> DataFrame {
    let mut columns: [Vec<i64>; 7] = Default::default();
    let mut value = Vec::new();
    for h in 0..heads {
        for to in 0..length {
            for from in 0..=to {
                let token = |p: i64| if p == 0 { 0 } else { 1 + (p - 1) % 20 * 7 % 32 };
                let peak = match h {
                    0 => from == (to - 1).max(0),
                    1 => from == if to > 20 { to - 19 } else { 0 },
                    2 => from == to,
                    _ => false,
                };
                let v = if flat {
                    noise(value.len())
                } else if h < 3 {
                    if peak { 0.95 } else { 0.05 / (to + 1) as f64 }
                } else {
                    1.0 / (to + 1) as f64
                };
                for (column, x) in columns.iter_mut().zip([h / 4, h % 4, 0, to, from, token(to), token(from)]) {
                    column.push(x);
                }
                value.push(v);
            }
        }
    }
    let names = ["layer", "head", "sequence", "destination", "source", "destination_token", "source_token"];
    let mut all: Vec<Column> = names.iter().zip(columns).map(|(n, c)| Column::new((*n).into(), c)).collect();
    all.push(Column::new("value".into(), value));
    DataFrame::new_infer_height(all).unwrap()
}

#[test]
fn heads_as_a_heat_map() {
    let parameters =
        json!({"x": "head", "y": "layer", "color": "value", "facet": "model", "color_label": "prefix matching (probability)"});
    let title = "Only head 1.0 of the wired model attends right after the earlier copy of the current token";
    let drawing = draw("heatmap", parameters.clone(), &heads(), title);
    keep("heatmap", &drawing);
    let again = draw("heatmap", parameters, &heads(), title);
    assert_eq!((drawing.svg, drawing.png), (again.svg, again.png));
}

#[test]
fn a_diverging_heat_map() {
    let parameters = json!({"x": "head", "y": "layer", "color": "change", "facet": "model", "center": 0.0, "color_label": "change of the loss (nats)"});
    keep("diverging", &draw("heatmap", parameters, &heads(), "Taking heads away"));
}

#[test]
fn losses_as_lines() {
    let parameters = json!({"x": "position", "y": "loss", "color": "model", "low": "low", "high": "high", "y_label": "loss (nats)",
        "rule": [{"value": 3.497, "label": "chance (ln 33)"}]});
    keep(
        "line",
        &draw("line", parameters, &losses(), "The loss falls in the second repeat, and only where there is an induction head"),
    );
    let parameters = json!({"x": "position", "y": "loss", "facet": "model", "y_scale": "log", "y_label": "loss (nats)"});
    keep("line_facets", &draw("line", parameters, &losses(), "The same on a logarithmic axis"));
}

#[test]
fn a_sweep_as_lines() {
    let data = df!("noise" => [0.01, 0.01, 0.01, 0.03, 0.03, 0.03, 0.1, 0.1, 0.1, 1.0, 1.0, 1.0], "d" => [16i64, 32, 64, 16, 32, 64, 16, 32, 64, 16, 32, 64],
        "score" => [Some(0.9), Some(0.95), Some(0.99), Some(0.7), None, Some(0.95), Some(0.4), Some(0.55), Some(0.8), Some(0.1), Some(0.1), Some(0.12)]).unwrap();
    let parameters = json!({"x": "noise", "y": "score", "color": "d", "x_scale": "log", "color_label": "d_model"});
    keep("sweep", &draw("line", parameters, &data, "More room, more noise tolerated"));
}

#[test]
fn ablations_as_bars() {
    let parameters = json!({"x": "head", "y": "loss_change", "color": "method", "low": "low", "high": "high", "y_label": "change of the loss (nats)",
        "rule": [{"value": 2.0, "label": "what the whole circuit is worth"}]});
    keep("bar", &draw("bar", parameters, &ablations(), "Head 1.0 carries the loss, whatever it is replaced with"));
    let parameters = json!({"x": "head", "y": "loss_change", "facet": "method", "y_label": "change of the loss (nats)"});
    keep("bar_facets", &draw("bar", parameters, &ablations(), "The same in panels"));
}

#[test]
fn attention_patterns() {
    keep("attention", &draw("attention", json!({}), &attention(61, 4, false), "Four heads, four rules"));
    keep("attention_small", &draw("attention", json!({}), &attention(9, 1, false), "A short sequence"));
    let worst = draw("attention", json!({}), &attention(61, 8, true), "Noise");
    assert!(worst.svg.len() < 600_000, "{}", worst.svg.len());
}
