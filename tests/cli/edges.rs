//! Measures at the edges of what there is to measure.

use crate::desk::{Desk, Table};
use attn_circuits::circuit::head_scores::CONVENTIONS;
use attn_circuits::input::{INPUTS, InputContext};
use attn_circuits::kind::Kind;
use attn_circuits::measure::{MEASURES, Measure, Subject};
use attn_circuits::model::build::{BuildContext, MODELS};
use attn_circuits::stream::Stream;
use serde_json::{Value, json};
use std::path::Path;

/// Measures everything of one model on given tokens; the tables by name.
fn measured(model: &str, tokens: &str) -> impl Fn(&str) -> Table {
    let cell = |kind: &Kind<dyn Measure>| {
        let input = if (kind.parse)(json!({})).unwrap().needs_input() { "    input: given\n" } else { "" };
        // Some measures compare with a second input, and some of these cannot do without.
        let second = if (kind.parse)(json!({ "corrupted": "again" })).is_ok() { "    corrupted: again\n" } else { "" };
        format!("  - measure: {}\n{input}{second}", kind.name)
    };
    let cells: String = MEASURES.iter().map(cell).collect();
    let text = format!(
        "title: Edges
models:
  edge: {{ {model} }}
inputs:
  given: {{ kind: tokens, tokens: {tokens} }}
  again: {{ kind: tokens, tokens: {tokens} }}
cells:
{cells}  - query: SELECT kind, COUNT(*) AS pairs, AVG(score) AS score FROM composition GROUP BY kind
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

/// The parameters of a measure's example, without what belongs to the cell.
fn example(text: &str) -> Value {
    let mut cells: Vec<serde_json::Map<String, Value>> = serde_yaml::from_str(text).expect("an example is a list of cells");
    let mut cell = cells.remove(0);
    cell.retain(|key, _| !["measure", "input", "models", "name"].contains(&key.as_str()));
    cell.into()
}

/// A run is refused by the rows that a measure says it has: they must be no fewer than it yields.
#[test]
fn no_table_has_more_rows_than_its_cost_says() {
    let random = |layers: usize, heads: usize, more: Value| {
        let mut model = json!({ "layers": layers, "heads": heads, "d_model": 8, "d_head": 4, "vocab": 33, "context": 61 });
        model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("random", model)
    };
    let repeated = json!({ "sequences": 3, "period": 20, "repeats": 3 });
    let small = json!({ "tokens": [[0, 1, 1]] });
    let models = [
        ("wired", json!({ "circuit": "induction", "vocab": 33, "context": 61 })),
        ("bigram", json!({ "vocab": 33, "context": 61 })),
        random(0, 2, json!({})),
        random(1, 3, json!({ "layer_norm": "ln_pre" })),
        random(3, 2, json!({})),
        random(2, 2, json!({ "d_head": 16 })),
    ];
    for (kind, parameters) in models {
        let stream = Stream::new(1);
        let builder = (Kind::find(MODELS, kind).unwrap().parse)(parameters.clone()).unwrap();
        let model = builder.build(&BuildContext { base: Path::new(""), stream: stream.child("model") }).unwrap();
        for (input, parameters_of_input) in [("repeated_tokens", &repeated), ("tokens", &small)] {
            let input = (Kind::find(INPUTS, input).unwrap().parse)(parameters_of_input.clone()).unwrap();
            let shape = input.shape(Path::new(""), None).unwrap();
            let batch = input
                .build(&InputContext { base: Path::new(""), stream: stream.child("input"), d_vocab: 33, original: None })
                .unwrap();
            for measure in MEASURES {
                for parameters_of_measure in [json!({}), example(measure.example)] {
                    let what = format!("{} with {parameters_of_measure} of {kind} {parameters}", measure.name);
                    let measure = (measure.parse)(parameters_of_measure).unwrap();
                    let (shape, batch) = if measure.needs_input() { (Some(&shape), Some(&batch)) } else { (None, None) };
                    // Examples name heads and positions that not every model and input has.
                    if measure.check(model.config(), shape).is_err() {
                        continue;
                    }
                    let others = measure.other_inputs();
                    let subject = Subject::new(&model, batch);
                    let mut subject =
                        others.iter().fold(subject, |subject, other| subject.with(other.parameter, batch.unwrap()));
                    subject.origin = Some(builder.as_ref());
                    let table = measure.compute(&subject).unwrap_or_else(|error| panic!("{what}: {error}"));
                    let rows = measure.cost(model.config(), shape).rows;
                    assert!(table.height() <= rows, "{what}: {} rows, not {rows}", table.height());
                    assert!(table.get_column_names().into_iter().eq(measure.columns().iter_names()), "{what}");
                }
            }
        }
    }
}
