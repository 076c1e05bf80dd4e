//! What is refused, and in which words.

use super::pictures::{attention, circuit, compositions, scores, two_compositions};
use super::*;

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

#[test]
fn circuits_over_tokens_want_a_name_for_each_and_one_value_for_each_pair() {
    let unnamed = refusal("circuit_matrix", json!({"tokens": ["a", "b", "c", "d", "e"]}), &circuit(6));
    assert!(unnamed.contains("the token 5") && unnamed.contains("5 names"), "{unnamed}");
    let twice = refusal("circuit_matrix", json!({}), &circuit(3).vstack(&circuit(2)).unwrap());
    assert!(twice.contains("row_token = 0, column_token = 0") && twice.contains("`facet`"), "{twice}");
    let file = refusal("circuit_matrix", json!({"tokens": "names.json"}), &circuit(3));
    assert!(file.contains("not read"), "{file}");
}

#[test]
fn compositions_lead_upwards_and_find_room() {
    let twice = refusal("composition_graph", json!({}), &two_compositions());
    assert!(twice.contains("kind = k from head 0.0 to head 1.0") && twice.contains("`facet`"), "{twice}");
    let crowd = refusal("composition_graph", json!({}), &compositions(2, 40));
    assert!(crowd.contains("40 heads") && crowd.contains("`width`"), "{crowd}");
    let backwards =
        refusal("composition_graph", json!({"from_layer": "to_layer", "to_layer": "from_layer"}), &compositions(2, 2));
    assert!(backwards.contains("head 1.0 read by head 0.0"), "{backwards}");
    let max = figure("composition_graph", json!({"max": 3})).check().unwrap_err();
    assert!(matches!(&max, crate::Error::Parameter { path, .. } if path == "max"));
}

#[test]
fn marks_are_values_of_the_colour_and_not_too_many() {
    let unknown = refusal("distribution", json!({"x": "z", "color": "model", "marks": ["wired"]}), &scores());
    assert!(unknown.contains("`wired`") && unknown.contains("`trained`"), "{unknown}");
    for (wrong, at) in [(json!({"x": "z", "marks": ["a"]}), "marks"), (json!({"x": "z", "label": "head"}), "label")] {
        let error = figure("distribution", wrong).check().unwrap_err();
        assert!(matches!(&error, crate::Error::Parameter { path, .. } if path == at), "{error}");
    }
    let many = 20_001;
    let data = df!("z" => (0..many).map(noise).collect::<Vec<_>>(), "model" => vec!["trained"; many]).unwrap();
    let crowd = refusal("distribution", json!({"x": "z", "color": "model", "marks": ["trained"]}), &data);
    assert!(crowd.contains("20001 marks") && crowd.contains("WHERE"), "{crowd}");
}

#[test]
fn parameters_that_do_not_go_together() {
    let circle = figure("complex_plane", json!({"circle": -1})).check().unwrap_err();
    assert!(matches!(&circle, crate::Error::Parameter { path, .. } if path == "circle"));
    let scales = figure("scatter", json!({"x": "a", "y": "b", "x_scale": "log", "diagonal": true})).check().unwrap_err();
    assert!(matches!(&scales, crate::Error::Parameter { path, .. } if path == "diagonal"));
    let few = refusal("attention", json!({"tokens": ["a"]}), &attention(5, 1, false));
    assert!(few.contains("1 names") && few.contains("source_token"), "{few}");
    let both = figure("attention", json!({"labels": "positions", "tokens": ["a"]})).check().unwrap_err();
    assert!(matches!(&both, crate::Error::Parameter { path, .. } if path == "tokens"), "{both}");
    assert!(both.to_string().contains("labels: positions"), "{both}");
}
