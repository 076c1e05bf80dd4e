//! Tables that do not fit a figure: refused in words, never a panic.

use super::*;

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

#[test]
fn no_table_makes_a_figure_panic() {
    for (name, data) in odd_tables() {
        for size in [json!({}), json!({"width": 200, "height": 120})] {
            for kind in ["heatmap", "line", "bar"] {
                for extra in [json!({}), json!({"facet": "f"}), json!({"series": "s", "interval": true}), json!({"log": true})]
                {
                    let mut parameters = match kind {
                        "heatmap" => {
                            json!({"x": "x", "y": "s", "color": "y", "annotate": extra["log"], "center": extra["series"].is_string().then_some(0.0)})
                        }
                        _ => json!({"x": "x", "y": "y", "color": extra["series"], "rule": [{"value": 1.0, "label": "one"}]}),
                    };
                    let object = parameters.as_object_mut().unwrap();
                    object.extend(size.as_object().unwrap().clone());
                    object.insert("facet".into(), extra["facet"].clone());
                    if kind != "heatmap" && extra["interval"] == true {
                        object.extend([("low".into(), json!("y")), ("high".into(), json!("y"))]);
                    }
                    if kind == "line" && extra["log"] == true {
                        object.extend([("x_scale".into(), json!("log")), ("y_scale".into(), json!("log"))]);
                    }
                    let drawn =
                        figure(kind, parameters.clone()).draw(&data, "A title of a few words, and then some more of them");
                    match drawn {
                        Ok(drawing) => {
                            check(&drawing);
                            if extra == json!({"facet": "f"}) && size == json!({}) {
                                keep(&format!("odd_{kind}_{}", name.replace(' ', "_")), &drawing);
                            }
                        }
                        // Only what a user can mend is refused.
                        Err(e) => assert!(e.to_string().contains('`'), "{kind} {name} {parameters}: {e}"),
                    }
                }
            }
        }
    }
}

#[test]
fn no_table_makes_a_figure_of_points_or_tokens_panic() {
    let all = [
        ("complex_plane", json!({"x": "x", "y": "y", "circle": 1})),
        ("complex_plane", json!({"x": "x", "y": "y", "facet": "f", "scale": "own"})),
        ("complex_plane", json!({"x": "x", "y": "y", "color": "s", "scale": "unit"})),
        ("scatter", json!({"x": "x", "y": "y", "color": "s", "low": "y", "high": "y", "diagonal": true})),
        ("scatter", json!({"x": "x", "y": "y", "facet": "f", "x_scale": "log", "rule": [{"value": 1, "label": "one"}]})),
        ("distribution", json!({"x": "x", "color": "s", "marks": ["only"], "label": "f"})),
        ("distribution", json!({"x": "y", "facet": "f", "rule": [{"value": 1, "label": "one"}]})),
        ("distribution", json!({"x": "y", "color": "f", "x_scale": "log"})),
        (
            "composition_graph",
            json!({"channel": "s", "from_layer": "f", "from_head": "x", "to_layer": "x", "to_head": "x", "weight": "y"}),
        ),
        ("circuit_matrix", json!({"row": "s", "column": "x", "value": "y", "annotate": true})),
        ("circuit_matrix", json!({"row": "x", "column": "x", "value": "y", "facet": "f", "tokens": ["a", "b"]})),
    ];
    for (kind, mut parameters) in all {
        // Small, since pixels cost the time.
        parameters.as_object_mut().unwrap().extend([("width".into(), json!(240)), ("height".into(), json!(160))]);
        for (name, data) in odd_tables() {
            match figure(kind, parameters.clone()).draw(&data, "A title of a few words, and then some more of them") {
                Ok(drawing) => check(&drawing),
                // Only what a user can mend is refused.
                Err(e) => assert!(e.to_string().contains('`'), "{kind} {name} {parameters}: {e}"),
            }
        }
    }
}

#[test]
fn refusals_say_which_column_and_what_to_do() {
    let data = df!("x" => [1i64, 1, 2], "y" => [0.5, 0.6, -0.7], "w" => ["a", "a", "b"]).unwrap();
    let twice = refusal("heatmap", json!({"x": "x", "y": "w", "color": "y"}), &data);
    assert!(twice.contains("x = 1, w = a") && twice.contains("AVG(y)") && twice.contains("`facet`"), "{twice}");
    let twice = refusal("line", json!({"x": "x", "y": "y"}), &data);
    assert!(twice.contains("x = 1") && twice.contains("GROUP BY x"), "{twice}");
    let words = refusal("bar", json!({"x": "x", "y": "w"}), &data);
    assert!(words.contains("`y: w`"), "{words}");
    let empty = refusal("line", json!({"x": "x", "y": "y"}), &data.head(Some(0)));
    assert!(empty.contains("no rows"), "{empty}");
    let log = refusal("line", json!({"x": "y", "y": "y", "x_scale": "log"}), &data);
    assert!(log.contains("`x_scale: log`") && log.contains("`y` has 1"), "{log}");
    let half = refusal("bar", json!({"x": "y", "y": "y", "low": "y"}), &data);
    assert!(half.contains("`low`") && half.contains("`high`"), "{half}");
    let many = df!("x" => vec![1i64; 25], "f" => (0..25i64).collect::<Vec<_>>()).unwrap();
    let facets = refusal("heatmap", json!({"x": "x", "y": "x", "color": "x", "facet": "f"}), &many);
    assert!(facets.contains("25 facets") && facets.contains("`facet: f`"), "{facets}");
    let models = refusal("attention", json!({}), &attention(5, 2, false).vstack(&attention(5, 1, false)).unwrap());
    assert!(models.contains("head 0.0") && models.contains("`facet`"), "{models}");
}
