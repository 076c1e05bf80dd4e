use super::*;
use crate::experiment::{LoadOptions, RunOptions, load_str, run};
use std::path::PathBuf;

const TEXT: &str = "\
title: Two models
seed: 3
models:
  wired: { kind: wired, circuit: induction, vocab: 9, context: 13 }
  noisy:
    kind: wired
    circuit: induction
    vocab: 9
    context: 13
    noise: 0.1
inputs:
  repeated: { kind: repeated_tokens, sequences: 2, period: 4, repeats: 3 }
cells:
  - text: |
      Some words.
      And more.
  - measure: loss
  - measure: head_scores
  - query: SELECT model, AVG(loss) AS loss FROM loss GROUP BY model
    name: mean
  - claim: The loss is small.
    check: SELECT MAX(loss) < 99.0 AS holds, MAX(loss) AS largest FROM mean
";

fn results(root: &Path, name: &str, text: &str, overrides: &[(&str, &str)]) -> PathBuf {
    let overrides: Vec<_> = overrides.iter().map(|(path, value)| (path.to_string(), value.to_string())).collect();
    let experiment = load_str(text, &root.join("x.yaml"), &overrides, &LoadOptions::default()).unwrap();
    run(&experiment, &root.join(name), &RunOptions::default()).unwrap().folder
}

fn places(setting: &Setting) -> (Option<usize>, Option<usize>) {
    let number = |line: &Option<Line>| line.as_ref().and_then(|line| line.place.as_ref()).map(|(_, number)| *number);
    (number(&setting.left_line), number(&setting.right_line))
}

#[test]
fn the_same_run_twice_has_no_difference() {
    let root = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| results(root.path(), name, TEXT, &[]));
    assert_eq!(diff(&a, &b, Tolerance::EXACT).unwrap(), Difference::default());
}

#[test]
fn the_line_that_made_the_difference_is_named() {
    let root = tempfile::tempdir().unwrap();
    let a = results(root.path(), "a", TEXT, &[]);
    let changed = TEXT.replace("noise: 0.1", "noise: 0.5").replace("And more.", "And other ones.");
    let b = results(root.path(), "b", &format!("# a comment\n{changed}"), &[]);
    let found = diff(&a, &b, Tolerance::EXACT).unwrap();
    let [noise, text] = &found.settings[..] else { panic!("{:#?}", found.settings) };
    assert_eq!(
        (noise.path.as_str(), noise.left.as_deref(), noise.right.as_deref()),
        ("models.noisy.noise", Some("0.1"), Some("0.5"))
    );
    assert_eq!(places(noise), (Some(10), Some(11)));
    assert_eq!(noise.right_line.as_ref().unwrap().text, "noise: 0.5");
    assert_eq!((text.path.as_str(), places(text)), ("cells[0].text", (Some(16), Some(17))));
    // What was set decides which heads changed.
    let Change::Changed(scores) = &found.tables.iter().find(|table| table.name == "head_scores").unwrap().change else {
        panic!()
    };
    assert!(scores.columns.iter().flat_map(|column| &column.first).all(|cell| cell.place.contains("model = noisy")));
    assert!(
        found.claims.iter().all(|claim| matches!(&claim.change, Change::Changed(change) if change.numbers[0].0 == "largest"))
    );
}

#[test]
fn an_override_is_named_as_such() {
    let root = tempfile::tempdir().unwrap();
    let a = results(root.path(), "a", TEXT, &[]);
    let b = results(root.path(), "b", TEXT, &[("models.noisy.noise", "0.3"), ("seed", "4")]);
    let found = diff(&a, &b, Tolerance::EXACT).unwrap();
    let lines: Vec<_> = found.settings.iter().map(|setting| setting.right_line.clone().unwrap()).collect();
    assert_eq!(lines[0], Line { place: None, text: "--set seed=4".into() });
    assert_eq!(lines[1], Line { place: None, text: "--set models.noisy.noise=0.3".into() });
    assert_eq!(places(&found.settings[1]), (Some(10), None));
}

#[test]
fn cells_are_paired_by_name_wherever_they_stand() {
    let root = tempfile::tempdir().unwrap();
    let a = results(root.path(), "a", TEXT, &[]);
    let inserted = TEXT
        .replace("  - measure: head_scores\n", "  - measure: head_scores\n    models: [wired]\n")
        .replace("  - measure: loss\n", "  - measure: eigenvalues\n  - measure: loss\n");
    let b = results(root.path(), "b", &inserted, &[]);
    let found = diff(&a, &b, Tolerance::EXACT).unwrap();
    let paths: Vec<_> = found.settings.iter().map(|s| (s.path.as_str(), places(s))).collect();
    assert_eq!(paths, [("cells[1]", (None, Some(17))), ("cells[2].models", (None, Some(20)))]);
    let kinds: Vec<_> = found.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(kinds, ["head_scores", "eigenvalues"]);
    let Change::Changed(scores) = &found.tables[0].change else { panic!() };
    assert!(scores.removed_rows.0 > 0 && scores.columns.is_empty(), "the rows of the other model are as they were");
    let back = diff(&b, &a, Tolerance::EXACT).unwrap();
    assert!(back.tables.iter().any(|table| table.change == Change::Removed(found_rows(&b, "eigenvalues"))));
}

fn found_rows(folder: &Path, table: &str) -> usize {
    Run::open(folder).unwrap().manifest.tables[table].rows
}

#[test]
fn claims_are_compared_by_their_words() {
    let root = tempfile::tempdir().unwrap();
    let a = results(root.path(), "a", TEXT, &[]);
    let b = results(root.path(), "b", &TEXT.replace("MAX(loss) < 99.0", "MAX(loss) < 0.0"), &[]);
    let found = diff(&a, &b, Tolerance::EXACT).unwrap();
    let change = ClaimChange { holds: (true, false), numbers: vec![] };
    assert_eq!(found.claims, [ClaimDifference { statement: "The loss is small.".into(), change: Change::Changed(change) }]);
    assert!(found.tables.is_empty());
    let c = results(root.path(), "c", &TEXT.replace("The loss is small.", "Loss is small."), &[]);
    let found = diff(&a, &c, Tolerance::EXACT).unwrap();
    assert_eq!(
        found.claims.iter().map(|claim| &claim.change).collect::<Vec<_>>(),
        [&Change::Removed(true), &Change::Added(true)]
    );
}
