use crate::experiment::testing::{load, problems};

const VALID: &str = "\
title: Toys
seed: 7
models:
  plain: { kind: toy, vocab: 5 }
  noisy:
    kind: toy
    vocab: 5
    sweep: { noise: [0.0, 0.5], circuit: [induction, null] }
    replicates: 3
inputs:
  ramp: { kind: ramp, length: 5, largest: 4 }
cells:
  - text: Hello
  - measure: scores
    input: ramp
  - query: |
      SELECT model, layer, MAX(value) AS value
      FROM scores
      GROUP BY model, layer
    name: best
  - figure: dots
    of: best
    title: Best
    x: layer
    y: [value]
  - claim: High.
    check: SELECT MAX(value) > 0.5 FROM best
";

#[test]
fn dump() {
    for text in std::fs::read_to_string("/tmp/cases.txt").unwrap().split("=====\n") {
        let mut lines = text.splitn(2, "\n");
        let first = lines.next().unwrap();
        let (body, sets) = match first.strip_prefix("#set ") {
            Some(sets) => (lines.next().unwrap(), sets.split("; ").map(|s| s.split_once('=').unwrap()).collect()),
            None => (text, vec![]),
        };
        let body = if let Some(edit) = body.strip_prefix("EDIT\n") {
            let (a, b) = edit.split_once("\n->\n").unwrap();
            let b = b.strip_suffix('\n').unwrap();
            assert!(VALID.contains(a), "{a}");
            VALID.replacen(a, b, 1)
        } else { body.to_string() };
        match load(&body, &sets) { Ok(_) => println!("LOADS: {text}"), Err(e) => println!("----- {text}\n{e}\n") }
    }
}

#[test]
fn a_valid_file_loads() {
    let experiment = load(VALID, &[]).unwrap();
    assert_eq!(experiment.seed, 7);
    let names: Vec<String> = experiment
        .instances()
        .map(|instance| format!("{} {} {}", instance.name, instance.variant_index, instance.replicate))
        .collect();
    assert_eq!(names.len(), 1 + 4 * 3);
    assert_eq!(names[4], "noisy 1 1");
    let _ = problems;
}
