//! Sweeps and replicates, and that no model depends on what else a file holds.

use crate::desk::{Desk, Table};

const FILE: &str = "
title: Sweeps
seed: 3
models:
  swept: { kind: wired, circuit: induction, vocab: 7, context: 13, rotate: true, sweep: { noise: [10.0, 0.5, 0, 2] } }
  drawn: { kind: random, layers: 2, heads: 2, d_model: 8, vocab: 7, context: 13, replicates: 12 }
inputs:
  repeated: { kind: repeated_tokens, sequences: 3, period: 6, repeats: 2 }
cells:
  - measure: loss
  - measure: head_scores
    models: [drawn]
";

fn table(desk: &Desk, name: &str) -> Table {
    desk.table(&format!("results/x/tables/{name}.csv"))
}

fn run(text: &str) -> Desk {
    let desk = Desk::with("x.yaml", text);
    desk.run_well("x.yaml");
    desk
}

/// Neighbours in which a value differs: the order in which values stand.
fn runs<'t>(values: &[&'t str]) -> Vec<&'t str> {
    let mut runs = values.to_vec();
    runs.dedup();
    runs
}

#[test]
fn a_swept_parameter_is_a_column_in_the_order_of_numbers() {
    let table = table(&run(FILE), "loss");
    assert_eq!(table.columns.join(","), "model,noise,replicate,position,repeat,loss,accuracy");
    let swept = table.of("model", "swept");
    assert_eq!(runs(&swept.column("noise")), ["0.0", "0.5", "2.0", "10.0"], "neither the file's order nor that of letters");
    // The model that is not swept has no value there.
    assert_eq!(runs(&table.of("model", "drawn").column("noise")), [""]);
    // Noise does something.
    let losses: Vec<_> = ["0.0", "10.0"].map(|noise| swept.of("noise", noise).column("loss").join(" ")).into();
    assert_ne!(losses[0], losses[1]);
}

#[test]
fn swept_words_and_switches_are_columns_too() {
    let text = FILE.replace("sweep: { noise: [10.0, 0.5, 0, 2] }", "sweep: { rotate: [true, false], compress: [null, 20] }");
    let text = text.replace("rotate: true, ", "");
    let table = table(&run(&text), "loss");
    assert_eq!(table.columns[..4], ["model", "rotate", "compress", "replicate"]);
    let swept = table.of("model", "swept");
    let values: Vec<_> = swept.rows().map(|row| [row.text("rotate"), row.text("compress")].join("/")).collect();
    assert_eq!(runs(&values.iter().map(String::as_str).collect::<Vec<_>>()), ["false/", "false/20", "true/", "true/20"]);
}

#[test]
fn replicates_are_counted_from_one_and_differ() {
    let table = table(&run(FILE), "loss").of("model", "drawn");
    let numbers: Vec<String> = (1..=12).map(|number| number.to_string()).collect();
    assert_eq!(runs(&table.column("replicate")), numbers, "10 stands behind 9, not behind 1");
    let mut losses: Vec<_> = numbers.iter().map(|number| table.of("replicate", number).column("loss").join(" ")).collect();
    losses.sort();
    losses.dedup();
    assert_eq!(losses.len(), 12, "no two are the same model");
}

/// A model's numbers are its own: its name, the seed and its parameters make them.
#[test]
fn other_models_inputs_and_cells_change_no_number() {
    let before = run(FILE);
    let more = FILE
        .replace("models:\n", "models:\n  first: { kind: random, layers: 1, heads: 3, d_model: 6, vocab: 7, context: 13 }\n")
        .replace("inputs:\n", "inputs:\n  other: { kind: repeated_tokens, sequences: 5, period: 4, repeats: 2 }\n")
        .replace("replicates: 12", "replicates: 13")
        .replace("cells:\n", "cells:\n  - measure: ablation\n    input: other\n  - measure: composition\n")
        .replace("measure: loss\n", "measure: loss\n    input: repeated\n")
        .replace("models: [drawn]\n", "models: [drawn]\n    input: repeated\n");
    let after = run(&more);
    for (name, at_least) in [("loss", 190), ("head_scores", 800)] {
        let [before, mut after] = [&before, &after].map(|desk| table(desk, name));
        after.rows.retain(|row| row[0] != "first");
        let replicate = after.columns.iter().position(|column| column == "replicate").unwrap();
        after.rows.retain(|row| row[replicate] != "13");
        assert_eq!(before, after);
        assert!(before.rows.len() >= at_least, "{}", before.rows.len());
    }
}

#[test]
fn the_name_and_the_seed_make_the_draws() {
    let before = table(&run(FILE), "head_scores");
    let renamed = table(&run(&FILE.replace("drawn", "drown")), "head_scores");
    let reseeded = table(&run(&FILE.replace("seed: 3", "seed: 4")), "head_scores");
    for other in [renamed, reseeded] {
        assert_eq!(before.rows.len(), other.rows.len());
        assert_ne!(before.column("value"), other.column("value"));
    }
}
