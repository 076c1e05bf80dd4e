//! Every kind over realistic tables.

use super::*;

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

pub(super) fn losses() -> DataFrame {
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

pub(super) fn ablations() -> DataFrame {
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

pub(super) fn attention(length: i64, heads: i64, flat: bool) -> DataFrame {
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
    // Two sequences have tokens of their own.
    let first = attention(9, 2, false);
    let mut second = first.clone();
    let changed = |name: &str, by: i64| {
        Column::new(
            name.into(),
            first.column(name).unwrap().i64().unwrap().iter().map(|v| v.map(|v| v + by)).collect::<Vec<_>>(),
        )
    };
    for (name, by) in [("sequence", 1), ("source_token", 40), ("destination_token", 40)] {
        second.with_column(changed(name, by)).unwrap();
    }
    keep("attention_sequences", &draw("attention", json!({}), &first.vstack(&second).unwrap(), "Two heads on two sequences"));
    let worst = draw("attention", json!({}), &attention(61, 8, true), "Noise");
    assert!(worst.svg.len() < 600_000, "{}", worst.svg.len());
}

/// Eigenvalues: a copying head with a few pairs, and a random one whose values fill a disc.
fn eigenvalues() -> DataFrame {
    let (mut model, mut circuit, mut re, mut im) = (vec![], vec![], vec![], vec![]);
    for circuit_name in ["full_ov", "full_qk"] {
        for i in 0..48usize {
            let angle = std::f64::consts::TAU * noise(i);
            let radius = 0.4 * noise(i + 500).sqrt();
            let pair = if i % 2 == 0 { 1.0 } else { -1.0 };
            for (name, x, y) in [
                ("copying", 2.0 + 8.0 * noise(i / 2), 0.8 * pair * noise(i / 2 + 90)),
                ("random", radius * angle.cos(), radius * angle.sin()),
            ] {
                model.push(name);
                circuit.push(circuit_name);
                re.push(x);
                im.push(y);
            }
        }
    }
    df!("model" => model, "circuit" => circuit, "re" => re, "im" => im).unwrap()
}

#[test]
fn eigenvalues_in_the_plane() {
    let title = "The eigenvalues of the copying head are positive, those of the random head have no direction";
    for (name, parameters) in [
        ("plane_shared", json!({"facet": "model"})),
        ("plane_own", json!({"facet": "model", "scale": "own", "circle": 0.4})),
        ("plane_unit", json!({"facet": "model", "color": "circuit", "scale": "unit", "circle": 1})),
        ("plane_colors", json!({"color": "model", "height": 500})),
    ] {
        let drawing = draw("complex_plane", parameters.clone(), &eigenvalues(), title);
        keep(name, &drawing);
        let again = draw("complex_plane", parameters, &eigenvalues(), title);
        assert_eq!((drawing.svg, drawing.png), (again.svg, again.png));
    }
}

/// A circuit over `tokens` tokens: positive on the diagonal, and noise.
pub(super) fn circuit(tokens: i64) -> DataFrame {
    let (mut row, mut column, mut value) = (vec![], vec![], vec![]);
    for r in 0..tokens {
        for c in 0..tokens {
            row.push(r);
            column.push(c);
            value.push(if r == c { 4.0 } else { noise(value.len()) * 4.0 - 2.5 });
        }
    }
    df!("row_token" => row, "column_token" => column, "value" => value).unwrap()
}

#[test]
fn circuits_over_tokens() {
    let names = |count: usize| (0..count).map(|i| format!("word{i}")).collect::<Vec<_>>();
    for tokens in [6usize, 40, 64] {
        let parameters = json!({"tokens": names(tokens), "color_label": "change of the logit"});
        keep(
            &format!("circuit_{tokens}"),
            &draw("circuit_matrix", parameters, &circuit(tokens as i64), "Copying stands on the diagonal"),
        );
    }
    keep("circuit_numbers", &draw("circuit_matrix", json!({"max": 3.0}), &circuit(64), "The same without names"));
}

/// Composition of every pair of heads of `layers` layers of `heads`: noise, and a strong pair through keys.
pub(super) fn compositions(layers: i64, heads: i64) -> DataFrame {
    let mut ends: [Vec<i64>; 4] = Default::default();
    let (mut kind, mut z) = (vec![], vec![]);
    for channel in ["k", "q", "v"] {
        for from_layer in 0..layers {
            for to_layer in from_layer + 1..layers {
                for pair in 0..heads * heads {
                    let (from, to) = (pair / heads, pair % heads);
                    for (column, x) in ends.iter_mut().zip([from_layer, from, to_layer, to]) {
                        column.push(x);
                    }
                    let strong = channel == "k" && from == 1;
                    kind.push(channel);
                    z.push(if strong { 4.0 + 20.0 * noise(z.len()) } else { 4.5 * noise(z.len()) - 1.0 });
                }
            }
        }
    }
    let names = ["from_layer", "from_head", "to_layer", "to_head"];
    let mut all: Vec<Column> = names.iter().zip(ends).map(|(n, c)| Column::new((*n).into(), c)).collect();
    all.extend([Column::new("kind".into(), kind), Column::new("z".into(), z)]);
    DataFrame::new_infer_height(all).unwrap()
}

/// Those of two models.
pub(super) fn two_compositions() -> DataFrame {
    let mut two = compositions(2, 4);
    two.with_column(Column::new("model".into(), vec!["trained"; two.height()])).unwrap();
    let mut other = compositions(2, 2);
    other.with_column(Column::new("model".into(), vec!["small"; other.height()])).unwrap();
    two.vstack(&other).unwrap()
}

#[test]
fn compositions_as_a_graph() {
    let title = "The keys of layer 1 read what head 0.1 writes";
    for (layers, heads) in [(2, 4), (2, 12), (4, 6)] {
        let drawing = draw("composition_graph", json!({}), &compositions(layers, heads), title);
        keep(&format!("graph_{layers}_{heads}"), &drawing);
        let again = draw("composition_graph", json!({}), &compositions(layers, heads), title);
        assert_eq!((drawing.svg, drawing.png), (again.svg, again.png));
    }
    let two = two_compositions();
    keep("graph_facets", &draw("composition_graph", json!({"facet": "model", "at_least": 4, "max": 30}), &two, title));
    keep("graph_none", &draw("composition_graph", json!({"at_least": 400}), &compositions(2, 4), "Nothing that strong"));
}

/// Scores of two null models, and of a few heads that stand out.
pub(super) fn scores() -> DataFrame {
    let (mut model, mut head, mut z) = (vec![], vec![], vec![]);
    let normal = |i: usize| (0..12).map(|j| noise(13 * i + j)).sum::<f64>() - 6.0;
    for i in 0..300 {
        for (name, spread) in [("random", 1.0), ("scrambled", 1.6)] {
            if name == "random" || i < 120 {
                model.push(name);
                head.push(format!("0.{i}"));
                z.push(Some(normal(i) * spread));
            }
        }
    }
    for (i, value) in [Some(6.1), Some(6.3), Some(2.2), None].into_iter().enumerate() {
        model.push("trained");
        head.push(format!("1.{i}"));
        z.push(value);
    }
    df!("model" => model, "head" => head, "z" => z).unwrap()
}

#[test]
fn scores_beside_their_null_models() {
    let parameters = json!({"x": "z", "color": "model", "marks": ["trained"], "label": "head", "rule": [{"value": 0, "label": "chance"}],
        "x_label": "z (standard deviations above chance)"});
    let title = "Two trained heads lie far outside of what random heads reach";
    let drawing = draw("distribution", parameters.clone(), &scores(), title);
    keep("distribution", &drawing);
    let again = draw("distribution", parameters, &scores(), title);
    assert_eq!((drawing.svg, drawing.png), (again.svg, again.png));
    keep("distribution_facets", &draw("distribution", json!({"x": "z", "facet": "model"}), &scores(), "Each for itself"));
}

#[test]
fn what_was_measured_against_what_was_expected() {
    let expected: Vec<f64> = (0..40).map(|i| noise(i + 3)).collect();
    let measured: Vec<f64> = expected.iter().enumerate().map(|(i, e)| e + 0.05 * (noise(i + 77) - 0.5)).collect();
    let (low, high): (Vec<f64>, Vec<f64>) = measured.iter().map(|m| (m - 0.03, m + 0.03)).unzip();
    let kind: Vec<&str> = (0..40).map(|i| ["q", "k", "v"][i % 3]).collect();
    let data = df!("expected" => expected, "measured" => measured, "low" => low, "high" => high, "kind" => kind).unwrap();
    let parameters = json!({"x": "expected", "y": "measured", "color": "kind", "low": "low", "high": "high", "diagonal": true});
    keep("scatter", &draw("scatter", parameters, &data, "Theory says what was measured"));
    let parameters =
        json!({"x": "expected", "y": "measured", "facet": "kind", "x_scale": "log", "rule": [{"value": 0.5, "label": "half"}]});
    keep("scatter_facets", &draw("scatter", parameters, &data, "The same in panels"));
}

#[test]
fn a_figure_is_as_wide_as_its_legend() {
    let names: Vec<String> = (0..3).map(|i| format!("a measure with a rather long name, {i}")).collect();
    let data = df!("x" => [0.0, 0.5, 1.0], "y" => [0.0, 0.5, 1.0], "s" => names).unwrap();
    let width = |parameters: Value| {
        let svg = draw("scatter", parameters, &data, "Title").svg;
        svg.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse::<u32>().unwrap()
    };
    assert!(width(json!({"x": "x", "y": "y", "diagonal": true})) < 470);
    assert!(width(json!({"x": "x", "y": "y", "color": "s", "diagonal": true})) > 500);
}

#[test]
fn attention_with_names_and_with_positions() {
    let names: Vec<String> = (0..33).map(|i| format!("word{i}")).collect();
    keep(
        "attention_names",
        &draw("attention", json!({"tokens": names}), &attention(13, 1, false), "The words of the sequence"),
    );
    // Without the columns that it does not read.
    let positions = attention(61, 1, false).drop_many(["destination_token", "source_token"]);
    assert!(!figure("attention", json!({"labels": "positions"})).columns().iter().any(|(name, _)| name.contains("token")));
    keep("attention_positions", &draw("attention", json!({"labels": "positions"}), &positions, "Where in the sequence"));
}
