//! Figures over tables, and what is common to these tests.

mod odd_tables;
mod pictures;
mod refusals;

use super::{Drawing, FIGURES, Figure, Style};
use crate::kind::Kind;
use polars::prelude::{Column, DataFrame, df};
use serde_json::{Value, json};

fn figure(kind: &str, parameters: Value) -> Box<dyn Figure> {
    let kind = Kind::find(FIGURES, kind).unwrap();
    (kind.parse)(parameters).unwrap()
}

fn refusal(kind: &str, parameters: Value, data: &DataFrame) -> String {
    figure(kind, parameters).draw(data, "Title", &Style::default()).map(|_| ()).unwrap_err().to_string()
}

fn draw(kind: &str, parameters: Value, data: &DataFrame, title: &str) -> Drawing {
    let drawing = figure(kind, parameters).draw(data, title, &Style::default()).unwrap_or_else(|e| panic!("{kind}: {e}"));
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

#[test]
fn lines_over_words_are_numbers_along_one_axis_only() {
    assert!(!figure("line", json!({"x": "w", "y": "y"})).numbers().contains(&"x"));
    assert!(figure("line", json!({"x": "w", "y": "y", "x_scale": "log"})).numbers().contains(&"x"));
}

#[test]
fn a_title_cannot_break_out_of_the_document() {
    let drawing = draw(
        "line",
        json!({"x": "position", "y": "loss", "color": "model"}),
        &pictures::losses(),
        "a < b & c </title><script>",
    );
    assert!(drawing.svg.contains("<title>a &lt; b &amp; c &lt;/title&gt;&lt;script&gt;</title>"));
}

#[test]
fn ids_of_two_figures_differ() {
    let id = |title: &str| {
        let svg = draw("bar", json!({"x": "head", "y": "loss_change", "facet": "method"}), &pictures::ablations(), title).svg;
        svg.split("id=\"").nth(1).unwrap()[..9].to_string()
    };
    assert_ne!(id("One"), id("Two"));
    assert_eq!(id("One"), id("One"));
}

#[test]
fn examples_parse_and_unknown_parameters_do_not() {
    for kind in FIGURES {
        let cells: Vec<serde_json::Map<String, Value>> = serde_yaml::from_str(kind.example).unwrap();
        let mut parameters = cells[0].clone();
        // Keys of every figure are no parameters of its kind.
        parameters.retain(|key, _| !["figure", "of", "title"].contains(&key.as_str()));
        let figure = (kind.parse)(Value::Object(parameters)).unwrap_or_else(|e| panic!("{}: {e}", kind.name));
        assert!(!figure.columns().is_empty() && !kind.doc().is_empty());
        assert!((kind.parse)(json!({"x": "a", "y": "b", "color": "c", "colour": "d"})).is_err());
    }
}
