//! `list`, `describe`, `schema`, `check`, `new`, `export`: what helps to write an experiment.

use crate::desk::{Desk, SMALL, assert_golden, assert_same, repository};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// The names that `list` shows, by the first word of their heading.
fn listed() -> BTreeMap<String, Vec<String>> {
    let finished = Desk::new().run(["list"]).expect(0);
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut heading = String::new();
    for line in finished.stdout.lines() {
        match line.strip_prefix("  ") {
            Some(entry) => {
                let (name, summary) = entry.split_once(' ').expect("a name and a summary");
                assert!(summary.trim().len() > 10, "{line}");
                // A sentence that ends within brackets was cut at an abbreviation.
                assert_eq!(summary.matches('(').count(), summary.matches(')').count(), "{line}");
                sections.entry(heading.clone()).or_default().push(name.to_string());
            }
            None => heading = line.split(" (").next().unwrap_or_default().to_string(),
        }
    }
    sections
}

fn section(heading: &str) -> Vec<String> {
    listed().remove(heading).unwrap_or_else(|| panic!("`list` has no {heading}"))
}

/// The example on the card that `describe` shows.
fn example(words: &[&str]) -> String {
    let finished = Desk::new().run(["describe"].iter().chain(words)).expect(0);
    let (_, example) = finished.stdout.split_once("\nExample:\n").unwrap_or_else(|| panic!("no example: {finished:#?}"));
    let lines = example.lines().map(|line| line.strip_prefix("  ").unwrap_or_else(|| panic!("not indented: {line}")));
    lines.map(|line| format!("{line}\n")).collect()
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// An experiment around examples, each where it belongs.
fn experiment(model: &str, input: &str, cells: &str) -> String {
    format!("title: An example\nmodels:\n{}inputs:\n{}cells:\n{}", indented(model, 2), indented(input, 2), indented(cells, 2))
}

const MODEL: &str = "wired: { kind: wired, circuit: induction, vocab: 33, context: 61 }\n";
const INPUT: &str = "repeated: { kind: repeated_tokens, sequences: 2, period: 20, repeats: 3 }\n";
/// What the examples of measures of two inputs name beside it.
const COUNTERPART: &str = "other_tokens: { kind: corrupted, of: repeated, recipe: other_tokens }\n";

#[track_caller]
fn assert_checks(text: &str) {
    let desk = Desk::with("example.yaml", text);
    // The example of `import` names files that are the user's own.
    for file in ["weights.safetensors", "config.json"] {
        desk.write(&format!("mine/{file}"), fs::read(repository(&format!("tests/oracle/two_layer/{file}"))).unwrap());
    }
    let finished = desk.run(["check", "example.yaml"]);
    assert_eq!(finished.status, Some(0), "{text}\n{}", finished.stderr);
}

#[test]
fn list_shows_what_there_is() {
    let finished = Desk::new().run(["list"]).expect(0);
    assert_eq!(finished.stderr, "");
    assert_golden("list.stdout", &finished.stdout);
}

#[test]
fn describe_shows_a_card() {
    assert_golden("describe_ablation.stdout", &Desk::new().run(["describe", "ablation"]).expect(0).stdout);
}

#[test]
fn every_name_that_list_shows_can_be_described() {
    let desk = Desk::new();
    for (heading, names) in listed() {
        for name in names {
            // `copying` is a measure and a circuit: the category says which.
            let category = match heading.as_str() {
                "Kinds of model" => "model",
                "Kinds of input" => "input",
                "Measures" => "measure",
                "Figures" => "figure",
                "Wired circuits" => "circuit",
                _ => "score",
            };
            let card = desk.run(["describe", category, &name]).expect(0).stdout;
            match heading.as_str() {
                "Wired circuits" => assert!(card.contains("\nresidual:\n") && card.contains("\nheads:\n"), "{card}"),
                _ => assert!(card.contains(&format!(" `{name}`\n")) && card.contains("\nExample:\n"), "{card}"),
            }
        }
    }
}

/// A name may mean two things; a category in front says which.
#[test]
fn a_category_tells_namesakes_apart() {
    let desk = Desk::new();
    for (name, categories) in [("attention", ["measure", "figure"]), ("copying", ["measure", "circuit"])] {
        let cards = categories.map(|category| {
            let card = desk.run(["describe", category, name]).expect(0).stdout;
            assert!(card.trim_start_matches("# ").starts_with(&format!("{category} `{name}`\n")), "{card}");
            card
        });
        assert_eq!(desk.run(["describe", name]).expect(0).stdout, cards.join("\n"));
    }
}

#[test]
fn only_a_circuit_has_a_number() {
    let desk = Desk::new();
    let described = desk.run(["describe", "circuit", "n-back", "3"]).expect(0).stdout;
    assert!(described.contains("here 3; default"), "{described}");
    desk.run(["describe", "circuit", "n-back", "three"]).expect_error(2, &["must be a whole number, not `three`"]);
    desk.run(["describe", "circuit", "copying", "3"]).expect_error(2, &["the circuit `copying` has no `n`"]);
    for category in ["measure", "score"] {
        let name = if category == "score" { "prefix_matching" } else { "copying" };
        desk.run(["describe", category, name, "3"]).expect_error(2, &["only a circuit may have a number", "leave `3` out"]);
    }
}

/// The fields of a map, of a list of maps, and of maps within these.
#[test]
fn describe_shows_what_a_map_is_made_of() {
    let desk = Desk::new();
    for (words, fields) in [
        (["model", "bigram"], &["\n  chain: map (", "\n      sharpness: number "][..]),
        (["measure", "skip_trigram_rank"], &["\n  target: list of map (", "\n      source: "]),
        (["figure", "line"], &["\n  rule: list of map (", "\n      value: number (required)\n          "]),
        (["model", "wired"], &["\n  heads: list of map (", "\n      query: map (", "\n          from: "]),
    ] {
        let card = desk.run(["describe"].iter().chain(&words)).expect(0).stdout;
        let mut rest = card.as_str();
        for field in fields {
            rest = rest.split_once(field).unwrap_or_else(|| panic!("{words:?}: {field} is not where it belongs:\n{card}")).1;
        }
    }
}

#[test]
fn the_examples_of_models_pass_check() {
    for name in section("Kinds of model") {
        assert_checks(&experiment(&example(&["model", &name]), INPUT, "- measure: composition\n"));
    }
}

#[test]
fn the_examples_of_inputs_pass_check() {
    for name in section("Kinds of input") {
        let inputs = example(&["input", &name]);
        // What the example is of comes last.
        let (last, _) = inputs.lines().last().and_then(|line| line.split_once(':')).expect("a name");
        assert_checks(&experiment(MODEL, &inputs, &format!("- measure: loss\n  input: {last}\n")));
    }
}

#[test]
fn the_examples_of_measures_pass_check() {
    for name in section("Measures") {
        assert_checks(&experiment(MODEL, &format!("{INPUT}{COUNTERPART}"), &example(&["measure", &name])));
    }
}

/// Figures read tables; these are all that the examples name.
#[test]
fn the_examples_of_figures_pass_check() {
    let tables = "\
- measure: attention
- measure: loss
- measure: head_scores
- measure: composition
- measure: eigenvalues
- measure: circuit_table
";
    for name in section("Figures") {
        let example = example(&["figure", &name]);
        assert_checks(&experiment(MODEL, INPUT, &format!("{tables}{example}")));
    }
}

#[test]
fn a_circuit_that_is_printed_can_stand_for_its_name() {
    for name in section("Wired circuits") {
        let text = SMALL.replace(
            "  wired: { kind: wired, circuit: induction, vocab: 9, context: 17 }",
            &format!("  wired:\n    kind: wired\n    vocab: 9\n    context: 17\n    noise: 0.1\n    circuit: {name}"),
        );
        let preset = Desk::with("small.yaml", &text);
        let printed = preset.run(["describe", "circuit", &name]).expect(0).stdout;
        let spelt_out = text.replace(&format!("    circuit: {name}\n"), &indented(&printed, 4));
        assert_ne!(text, spelt_out);
        let pasted = Desk::with("small.yaml", &spelt_out);
        for desk in [&preset, &pasted] {
            desk.run(["run", "small.yaml"]).expect(1);
        }
        assert_same(&preset.tree("results/small").tables(), &pasted.tree("results/small").tables());
    }
}

#[test]
fn what_is_not_there_is_suggested() {
    let desk = Desk::new();
    desk.run(["describe", "nonsense"]).expect_error(2, &["nothing is called `nonsense`", "`list` shows all"]);
    desk.run(["describe", "head_score"]).expect_error(2, &["did you mean `head_scores`?"]);
    desk.run(["describe", "circuit", "inductoin"]).expect_error(2, &["did you mean `induction`?"]);
    desk.run(["describe", "circuit", "inducton", "3"]).expect_error(2, &["did you mean `induction`?"]);
    desk.run(["describe", "ofset_N"]).expect_error(2, &["did you mean `offset_N`?"]);
    // Of that category if there is one, else of any.
    desk.run(["describe", "circuit", "duplicate_tokens"]).expect_error(2, &["did you mean `duplicate-token`?"]);
    desk.run(["describe", "score", "duplicate_tokens"]).expect_error(2, &["did you mean `duplicate_token`?"]);
    desk.run(["describe", "circuit", "los"]).expect_error(2, &["did you mean `loss`?"]);
    desk.run(["describe", "mesure", "loss"]).expect_error(2, &["mesure"]);
}

#[test]
fn the_schema_is_json_and_knows_every_kind() {
    let schema: Value = serde_json::from_str(&Desk::new().run(["schema"]).expect(0).stdout).expect("valid JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let text = schema.to_string();
    for (heading, names) in listed() {
        for name in names {
            assert!(text.contains(&format!("\"{name}\"")), "{heading}: {name}");
        }
    }
}

#[test]
fn check_plans_and_writes_nothing() {
    let desk = Desk::with("small.yaml", SMALL);
    let finished = desk.run(["check", "small.yaml"]).expect(0);
    assert_eq!(finished.stderr, "");
    // What the program itself takes depends on the machine and on how it was built.
    let (plan, memory) = finished.stdout.split_once("needs about ").expect("the plan ends with what the run needs");
    let (_, rest) = memory.split_once(" of memory").expect("of memory");
    assert_golden("check.stdout", &format!("{plan}needs about … of memory{rest}"));
    assert_eq!(desk.tree("").names(), ["small.yaml"]);
}

/// A run of this would take days; its plan comes from the shapes alone.
#[test]
fn check_computes_nothing() {
    let text = "
title: Large
models:
  random: { kind: random, layers: 20, heads: 64, d_model: 1024, vocab: 9, context: 17, replicates: 100000 }
inputs:
  repeated: { kind: repeated_tokens, sequences: 64, period: 5, repeats: 3 }
cells:
  - measure: loss
";
    let finished = Desk::with("large.yaml", text).run(["check", "large.yaml"]).expect(0);
    assert!(finished.stdout.contains("random: random, 100000 × 20 layers × 64 heads"), "{finished:#?}");
    assert!(finished.stdout.contains("(1500000 rows"), "{finished:#?}");
}

#[test]
fn an_override_changes_results_and_is_recorded() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let before = desk.tree("results/small");
    let arguments = ["run", "small.yaml", "--set", "models.wired.noise=0.3", "--set", "seed = 8"];
    desk.run(arguments).expect(1);
    let after = desk.tree("results/small");
    let manifest: Value = serde_json::from_str(&desk.read("results/small/manifest.json")).unwrap();
    assert_eq!(manifest["overrides"], serde_json::json!({ "models.wired.noise": 0.3, "seed": 8 }));
    assert_eq!(manifest["parameters"]["models"]["wired"]["noise"], 0.3);
    assert_eq!(manifest["seed"], 8);
    assert_ne!(before.0["tables/composition.csv"], after.0["tables/composition.csv"]);
    // The file is kept as it was; the report says what was changed.
    assert_eq!(desk.read("results/small/experiment.yaml"), SMALL);
    assert!(desk.read("results/small/report.html").contains("models.wired.noise"));

    // The same as if the file said so.
    let edited = SMALL.replace("seed: 7", "seed: 8").replace("vocab: 9, context: 17 }", "vocab: 9, context: 17, noise: 0.3 }");
    let other = Desk::with("small.yaml", &edited);
    other.run(["run", "small.yaml"]).expect(1);
    assert_same(&after.tables(), &other.tree("results/small").tables());
}

#[test]
fn a_wrong_override_is_shown_underlined() {
    let desk = Desk::with("small.yaml", SMALL);
    for (set, parts) in [
        ("models.wierd.noise=0.3", ["--set models.wierd.noise=0.3", "did you mean `wired`?"]),
        ("models.wired.nosie=0.3", ["--set models.wired.nosie=0.3", "did you mean `noise`?"]),
        ("models.wired.noise=loud", ["--set models.wired.noise=loud", "`noise` must be"]),
        ("cells[20].measure=loss", ["--set cells[20].measure=loss", "items are numbered from 0"]),
    ] {
        for command in ["check", "run"] {
            desk.run([command, "small.yaml", "--set", set]).expect_error(2, &parts);
        }
    }
    assert_eq!(desk.tree("").names(), ["small.yaml"]);
}

#[test]
fn a_new_experiment_checks_and_runs() {
    let desk = Desk::new();
    assert_eq!(desk.run(["new", "demo"]).expect(0).stdout, "demo.yaml\n");
    desk.run(["check", "demo.yaml"]).expect(0);
    let finished = desk.run_well("demo.yaml");
    assert!(finished.stdout.contains("\n1 of 1 claims hold\n"), "{finished:#?}");
    assert!(desk.path("results/demo/figures/01-induction_by_head.svg").exists());
}

#[test]
fn a_new_experiment_overwrites_nothing() {
    let desk = Desk::with("demo.yaml", "mine");
    for name in ["demo", "demo.yaml"] {
        desk.run(["new", name]).expect_error(2, &["demo.yaml: is already there"]);
    }
    assert_eq!(desk.tree("").0["demo.yaml"], b"mine");
    desk.run(["new", "nowhere/demo"]).expect_error(3, &["nowhere/demo.yaml"]);
}

/// Names that YAML would read as something else than a title.
#[test]
fn a_new_experiment_may_have_any_name() {
    let desk = Desk::new();
    for name in ["123", "true", "null", "a: b", "# x", "one-two_three", "'quoted\"", "1e5.yaml"] {
        desk.run(["new", name]).expect(0);
        let file = if name.ends_with(".yaml") { name.to_string() } else { format!("{name}.yaml") };
        desk.run(["check", &file]).expect(0);
    }
    let finished = desk.run(["check", "one-two_three.yaml"]).expect(0);
    assert!(finished.stdout.starts_with("one-two_three.yaml: one two three\n"), "{finished:#?}");
}

/// Two models of a replicate and every kind of position that has a name of its own elsewhere.
const EXPORTED: &str = "
title: Export
models:
  original: { kind: random, layers: 2, heads: 2, d_model: 8, vocab: 9, context: 6, replicates: 2, biases: true, layer_norm: ln POSITIONS }
inputs:
  given: { kind: tokens, tokens: [[0, 5, 3, 5, 3], [0, 7, 1, 8, 2]] }
cells:
  - measure: logits
  - measure: composition
";

#[test]
fn an_exported_model_imports_as_the_same() {
    for positions in ["", ", positions: none", ", positions: shortformer", ", positions: rotary"] {
        let text = EXPORTED.replace(" POSITIONS", positions);
        let desk = Desk::with("export.yaml", &text);
        desk.run_well("export.yaml");
        let finished = desk.run(["export", "export.yaml", "original", "--replicate", "2", "--out", "files"]).expect(0);
        assert_eq!(finished.stdout, "files/weights.safetensors\nfiles/config.json\n");
        let model = text.lines().find(|line| line.contains("original:")).unwrap();
        desk.write("import.yaml", text.replace(model, "  copy: { kind: import, weights: files/weights.safetensors }"));
        desk.run_well("import.yaml");
        for table in ["logits", "composition"] {
            let original = desk.table(&format!("results/export/tables/{table}.csv")).of("replicate", "2");
            let copy = desk.table(&format!("results/import/tables/{table}.csv"));
            let values = |rows: &[Vec<String>]| rows.iter().map(|row| row[2..].to_vec()).collect::<Vec<_>>();
            assert_eq!(values(&original.rows), values(&copy.rows), "{table} {positions}");
            assert!(!copy.rows.is_empty());
        }
    }
}

#[test]
fn an_export_says_what_it_cannot_find() {
    let desk = Desk::with("small.yaml", &SMALL.replace("context: 17 }", "context: 17, sweep: { noise: [0, 1] } }"));
    desk.run(["export", "small.yaml", "rnadom"]).expect_error(2, &["has no model `rnadom`; it has wired, random"]);
    desk.run(["export", "small.yaml", "random", "--replicate", "3"]).expect_error(2, &["replicates 1 to 2, not 3"]);
    desk.run(["export", "small.yaml", "wired"]).expect_error(2, &["swept over noise"]);
    assert_eq!(desk.tree("").names(), ["small.yaml"]);
}
