//! Tables that do not fit a figure: drawn, or refused in words, never a panic.

use super::*;
use std::collections::BTreeMap;

/// Tables that nobody would draw on purpose, with columns `x`, `y`, `s` (series) and `f` (facet).
fn odd_tables() -> Vec<(&'static str, DataFrame)> {
    let many = 200usize;
    let names: Vec<String> = (0..many).map(|i| format!("a rather long name of a component, number {i}")).collect();
    let row = |x: f64, y: f64| df!("x" => [x], "y" => [y], "s" => ["only"], "f" => ["only"]).unwrap();
    vec![
        ("one row", row(1.0, 2.0)),
        ("NaN", row(f64::NAN, f64::NAN)),
        ("infinite", row(f64::INFINITY, f64::NEG_INFINITY)),
        ("tiny", df!("x" => [0.0, 5e-324], "y" => [5e-324, 0.0], "s" => ["a", "a"], "f" => ["b", "b"]).unwrap()),
        ("huge", df!("x" => [-f64::MAX, f64::MAX], "y" => [f64::MAX, -f64::MAX], "s" => ["a", "a"], "f" => ["b", "b"]).unwrap()),
        ("equal", df!("x" => [1i64, 2, 3], "y" => [-7.0, -7.0, -7.0], "s" => [true, true, true], "f" => [0i64, 0, 0]).unwrap()),
        ("nulls", df!("x" => [None::<f64>], "y" => [None::<f64>], "s" => [None::<&str>], "f" => [None::<i64>]).unwrap()),
        ("null type", DataFrame::new_infer_height(["x", "y", "s", "f"].map(|n| Column::full_null(n.into(), 2, &polars::prelude::DataType::Null)).to_vec()).unwrap()),
        ("many names", df!("x" => names.clone(), "y" => (0..many).map(noise).collect::<Vec<_>>(), "s" => vec!["<&>\u{1}\u{7}"; many], "f" => vec![""; many]).unwrap()),
        ("many numbers", df!("x" => (0..many as i64).collect::<Vec<_>>(), "y" => (0..many).map(|i| 1e9 * noise(i)).collect::<Vec<_>>(), "s" => vec![1i64; many], "f" => (0..many as i64).map(|i| i % 24).collect::<Vec<_>>()).unwrap()),
        ("unsigned", df!("x" => [u64::MAX, 0], "y" => [1u32, 2], "s" => [1i64, 2], "f" => [0.1, 0.2]).unwrap()),
        ("negative log", df!("x" => [1e-9, 1e9], "y" => [1e-300, 1e300], "s" => ["a", "b"], "f" => ["b", "b"]).unwrap()),
    ]
}

/// Parameters of every kind for these tables, several for each.
fn parameters() -> Vec<(&'static str, Value)> {
    let rule = json!([{"value": 1.0, "label": "one"}]);
    let plain = json!({"x": "x", "y": "y", "rule": rule});
    let with = |more: Value| {
        let mut all = plain.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let bars = [json!({}), json!({"facet": "f"}), json!({"color": "s", "low": "y", "high": "y"})];
    let logarithmic = json!({"x_scale": "log", "y_scale": "log"});
    let lines = bars.clone().into_iter().chain([logarithmic]).map(|more| ("line", with(more)));
    let bars = bars.into_iter().map(|more| ("bar", with(more)));
    let graph = |more: Value| {
        let mut all =
            json!({"channel": "s", "from_layer": "f", "from_head": "x", "to_layer": "x", "to_head": "x", "weight": "y"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let pattern = |labels: &str| {
        json!({"layer": "f", "head": "s", "sequence": "s", "destination": "x", "source": "x", "destination_token": "s",
            "source_token": "x", "value": "y", "labels": labels})
    };
    let others = [
        ("heatmap", json!({"x": "x", "y": "s", "color": "y"})),
        ("heatmap", json!({"x": "x", "y": "s", "color": "y", "facet": "f"})),
        ("heatmap", json!({"x": "x", "y": "s", "color": "y", "annotate": true, "center": 0.0})),
        ("complex_plane", json!({"x": "x", "y": "y", "circle": 1})),
        ("complex_plane", json!({"x": "x", "y": "y", "facet": "f", "scale": "own"})),
        ("complex_plane", json!({"x": "x", "y": "y", "color": "s", "scale": "unit"})),
        ("scatter", json!({"x": "x", "y": "y", "color": "s", "low": "y", "high": "y", "diagonal": true})),
        ("scatter", json!({"x": "x", "y": "y", "facet": "f", "x_scale": "log", "rule": rule})),
        ("distribution", json!({"x": "x", "color": "s", "marks": ["only"], "label": "f"})),
        ("distribution", json!({"x": "y", "facet": "f", "rule": rule})),
        ("distribution", json!({"x": "y", "color": "f", "x_scale": "log"})),
        ("composition_graph", graph(json!({}))),
        ("composition_graph", graph(json!({"facet": "s", "at_least": -10}))),
        ("circuit_matrix", json!({"row": "s", "column": "x", "value": "y", "annotate": true})),
        ("circuit_matrix", json!({"row": "x", "column": "x", "value": "y", "facet": "f", "tokens": ["a", "b"]})),
        ("attention", pattern("tokens")),
        ("attention", pattern("positions")),
    ];
    lines.chain(bars).chain(others).collect()
}

/// Each is drawn, or refused in words.
#[test]
fn no_table_makes_a_figure_panic() {
    let mut drawn: BTreeMap<&str, usize> = FIGURES.iter().map(|kind| (kind.name, 0)).collect();
    let tables = odd_tables();
    for (kind, mut parameters) in parameters() {
        // Small, since pixels cost the time.
        parameters.as_object_mut().unwrap().extend([("width".into(), json!(240)), ("height".into(), json!(160))]);
        for (name, data) in &tables {
            match figure(kind, parameters.clone()).draw(
                data,
                "A title of a few words, and then some more of them",
                &Style::default(),
            ) {
                Ok(drawing) => {
                    check(&drawing);
                    *drawn.get_mut(kind).unwrap() += 1;
                }
                // Only what a user can mend is refused.
                Err(e) => assert!(e.to_string().contains('`'), "{kind} {name} {parameters}: {e}"),
            }
        }
    }
    // Refusing everything would be no less quiet.
    assert!(drawn.values().all(|&count| count >= 2), "{drawn:?}");
}

/// The smallest size, and the size that a figure chooses itself.
#[test]
fn no_size_makes_a_figure_panic() {
    let tables = odd_tables();
    for (kind, parameters) in parameters() {
        for (width, height) in [(Some(200), Some(120)), (None, None)] {
            let mut parameters = parameters.clone();
            let size = [("width".into(), json!(width)), ("height".into(), json!(height))];
            parameters.as_object_mut().unwrap().extend(size);
            // The one with the most to draw, and one with nearly nothing.
            for (name, data) in tables.iter().filter(|(name, _)| ["many numbers", "equal"].contains(name)) {
                match figure(kind, parameters.clone()).draw(data, "Title", &Style::default()) {
                    Ok(drawing) => {
                        check(&drawing);
                        if width.is_none() {
                            keep(&format!("odd_{kind}_{}", name.replace(' ', "_")), &drawing);
                        }
                    }
                    Err(e) => assert!(e.to_string().contains('`'), "{kind} {name} {parameters}: {e}"),
                }
            }
        }
    }
}
