//! Measures at the edges of what there is to measure.

use crate::desk::{Desk, Table};
use attn_circuits::circuit::head_scores::CONVENTIONS;

/// Measures everything of one model on given tokens; the tables by name.
fn measured(model: &str, tokens: &str) -> impl Fn(&str) -> Table {
    let text = format!(
        "title: Edges
models:
  edge: {{ {model} }}
inputs:
  given: {{ kind: tokens, tokens: {tokens} }}
cells:
  - measure: ablation
  - measure: attention
  - measure: composition
  - measure: head_scores
  - measure: logits
  - measure: loss
  - query: SELECT kind, COUNT(*) AS pairs, AVG(score) AS score FROM composition GROUP BY kind
    name: derived
"
    );
    let desk = Desk::with("edge.yaml", &text);
    desk.run_well("edge.yaml");
    // NaN and infinity would be read by no query as what they are.
    for (name, bytes) in &desk.tree("results/edge").0 {
        if name.ends_with(".csv") {
            let text = String::from_utf8(bytes.clone()).expect("CSV is UTF-8");
            let cells = text.split([',', '\n']).map(str::to_lowercase);
            for cell in cells {
                assert!(!["nan", "inf", "-inf"].contains(&cell.as_str()), "{model} on {tokens}: {name} holds {cell}");
            }
        }
    }
    move |name| desk.table(&format!("results/edge/tables/{name}.csv"))
}

#[track_caller]
fn assert_empty(table: &Table, columns: &str) {
    assert_eq!((table.columns.join(",").as_str(), table.rows.len()), (columns, 0));
}

const COMPOSITION: &str = "model,replicate,kind,from_layer,from_head,to_layer,to_head,score,chance,chance_sd,z,alignment";

#[test]
fn a_model_without_layers_has_empty_tables_of_heads() {
    let table = measured("kind: random, layers: 0, heads: 2, d_model: 8, vocab: 6, context: 4", "[[0, 1, 2], [0, 2, 2]]");
    assert_empty(&table("composition"), COMPOSITION);
    assert_empty(&table("head_scores"), "model,replicate,layer,head,score,value,floor,ceiling");
    assert_empty(&table("derived"), "kind,pairs,score");
    assert!(table("ablation").rows.is_empty() && table("attention").rows.is_empty());
    assert_eq!((table("logits").rows.len(), table("loss").rows.len()), (2 * 3 * 6, 2));
}

#[test]
fn a_single_token_predicts_nothing_and_attends_to_itself() {
    let table = measured("kind: random, layers: 2, heads: 2, d_model: 8, vocab: 6, context: 4", "[[0]]");
    assert_empty(&table("loss"), "model,replicate,position,repeat,loss,accuracy");
    assert_eq!(table("logits").rows.len(), 6);
    let attention = table("attention");
    assert_eq!(attention.column("value"), ["1.0"; 4]);
    let scores = table("head_scores");
    for row in scores.rows() {
        match row.text("score") {
            "current_token" => assert_eq!(row.number("value"), Some(1.0), "{row:?}"),
            // There is no position before, no copy, and the first position does not count for itself.
            "previous_token" | "first_token" | "duplicate_token" | "prefix_matching" => {
                assert_eq!(row.number("value"), None, "{row:?}");
            }
            _ => {}
        }
    }
    assert_eq!(scores.rows.len(), CONVENTIONS.len() * 4);
}

#[test]
fn one_layer_composes_with_nothing() {
    let table = measured("kind: random, layers: 1, heads: 3, d_model: 6, vocab: 6, context: 4", "[[0, 1, 2]]");
    assert_empty(&table("composition"), COMPOSITION);
    assert_empty(&table("derived"), "kind,pairs,score");
    assert_eq!(table("head_scores").rows.len(), CONVENTIONS.len() * 3);
}

#[test]
fn all_zero_heads_have_nulls_and_no_nan() {
    let table = measured("kind: random, layers: 2, heads: 2, d_model: 8, vocab: 6, context: 4, std: 0", "[[0, 1, 2, 1]]");
    let composition = table("composition");
    assert_eq!(composition.rows.len(), 3 * 4);
    for row in composition.rows() {
        for column in ["score", "chance", "chance_sd", "z", "alignment"] {
            assert_eq!(row.number(column), None, "{column}: {row:?}");
        }
    }
    // The mean of nothing but nulls is null.
    assert_eq!(table("derived").column("score"), ["", "", ""]);
    // What is nothing but zeros predicts every token alike.
    let loss = table("loss");
    assert!(loss.rows().all(|row| (row.number("loss").unwrap() - 6f64.ln()).abs() < 1e-6), "{loss:?}");
}

#[test]
fn one_token_of_vocabulary_and_heads_of_width_one() {
    let table = measured("kind: random, layers: 2, heads: 1, d_model: 1, vocab: 1, context: 3", "[[0, 0, 0]]");
    assert_eq!(table("loss").column("loss"), ["0.0", "0.0"]);
    assert_eq!(table("loss").column("accuracy"), ["1.0", "1.0"]);
    let composition = table("composition");
    // In one dimension everything that is written is read.
    assert!(composition.rows().all(|row| (row.number("score").unwrap() - 1.0).abs() < 1e-6), "{composition:?}");
}

#[test]
fn a_head_that_is_not_there_is_underlined() {
    let text = "\
title: Heads
models:
  edge: { kind: random, layers: 2, heads: 4, d_model: 8, vocab: 6, context: 4 }
inputs:
  given: { kind: tokens, tokens: [[0, 1]] }
cells:
  - measure: ablation
    heads: [\"9.9\"]
";
    let desk = Desk::with("edge.yaml", text);
    desk.run(["check", "edge.yaml"]).expect_error(2, &["there is no head 9.9", "2 layers of 4 heads", "--> edge.yaml:"]);
}
