//! What the loader takes, and what it says of what it does not take.

mod models;
mod queries;

use crate::experiment::testing::{load, problems};
use crate::experiment::{Cell, Experiment};
use polars::prelude::DataType;

const VALID: &str = "\
title: Toys
seed: 7
models:
  plain: { kind: toy, vocab: 5 }
  noisy:
    kind: toy
    sweep: { noise: [0.0, 0.5], circuit: [induction, null], vocab: [6] }
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

/// [`VALID`] with each first text replaced by the second.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(VALID.to_string(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the text");
        text.replacen(from, to, 1)
    })
}

fn measured(experiment: &Experiment) -> Vec<(&str, DataType)> {
    let Cell::Measure(cell) = &experiment.cells[1] else { panic!("not a measure") };
    cell.schema.iter().map(|(name, data_type)| (name.as_str(), data_type.clone())).collect()
}

#[test]
fn a_valid_file_loads() {
    let experiment = load(VALID, &[]).unwrap();
    assert_eq!((experiment.title.as_str(), experiment.seed), ("Toys", 7));
    let instances: Vec<_> = experiment.instances().map(|at| (at.name, at.variant_index, at.replicate)).collect();
    assert_eq!(instances.len(), 1 + 4 * 3);
    assert_eq!(instances[..5], [("plain", 0, 1), ("noisy", 0, 1), ("noisy", 0, 2), ("noisy", 0, 3), ("noisy", 1, 1)]);
    let noisy = &experiment.models["noisy"];
    assert_eq!(noisy.swept, ["noise", "circuit", "vocab"]);
    assert_eq!(noisy.variants[1].values, [serde_json::json!(0.0), serde_json::Value::Null, serde_json::json!(6)]);
    assert_eq!(noisy.variants[1].config.d_vocab, 6);
    assert!(matches!(&experiment.cells[2], Cell::Query { name, schema, .. } if name == "best" && schema.len() == 3));
    assert!(matches!(&experiment.cells[3], Cell::Figure(figure) if figure.name == "best"));
    assert!(matches!(&experiment.cells[4], Cell::Claim { decides, .. } if decides == "value"));
    assert_eq!(experiment.plan().cells[1].rows, 2 * 13);
}

#[test]
fn tables_start_with_their_keys() {
    let experiment = load(VALID, &[]).unwrap();
    let expected = [
        ("model", DataType::String),
        ("noise", DataType::Float64),
        ("circuit", DataType::String),
        ("vocab", DataType::Int64),
        ("replicate", DataType::Int64),
        ("layer", DataType::Int64),
        ("score", DataType::String),
        ("value", DataType::Float64),
    ];
    assert_eq!(measured(&experiment), expected);
    let plain = load(VALID, &[("cells[1].models", "plain")]).unwrap();
    assert_eq!(measured(&plain)[..2], [("model", DataType::String), ("replicate", DataType::Int64)]);
}

#[test]
fn overrides_change_what_is_loaded_and_are_kept() {
    let experiment = load(VALID, &[("models.plain.noise", "0.25"), ("title", "'8'"), ("seed", "9")]).unwrap();
    assert_eq!((experiment.title.as_str(), experiment.seed), ("8", 9));
    assert_eq!(experiment.overrides[0], ("models.plain.noise".to_string(), serde_json::json!(0.25)));
    assert_eq!(experiment.resolved["models"]["plain"]["noise"], serde_json::json!(0.25));
    assert_eq!(experiment.source, VALID);
}

#[test]
fn byte_order_marks_line_ends_anchors_and_merge_keys_change_nothing() {
    let text = edited(&[(
        "plain: { kind: toy, vocab: 5 }",
        "plain: &base { kind: toy, vocab: 5 }\n  other: { <<: *base, context: 9 }",
    )]);
    let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let experiment = load(&text, &[]).unwrap();
    assert_eq!(experiment.models["other"].variants[0].config.n_ctx, 9);
    assert_eq!(experiment.models["other"].variants[0].config.d_vocab, 5);
}

#[test]
fn sums_of_many_terms_do_not_overflow_the_stack() {
    let sum = vec!["value"; 300].join(" + ");
    load(&edited(&[("MAX(value) > 0.5", &format!("MAX({sum}) > 0.5"))]), &[]).unwrap();
}

/// The schema's problems, each inside the alternative that was meant, and the names that no cell can refer to.
#[test]
fn everything_wrong_is_said_at_once() {
    let text = "\
titel: Toys
models:
  a: { kind: toi, vocab: 3 }
  b: { knd: toy, vocab: 3 }
  c: { kind: toy }
  d: { kind: toy, vocab: twenty, context: 0, noise: -1, circuit: inducton }
  e: { kind: toy, vocab: 2, heads: [{ layer: 0, from: vocb }, { layer: 1, frm: 3 }] }
  f: { kind: toy, sweep: { heads: [[]], noise: [0, x], vocab: [] } }
cells:
  - mesure: scores
  - measure: scores
    figure: dots
  - measure: scores
    models: [zzz]
";
    insta::assert_snapshot!(problems(text, &[]), @r#"
    error: unknown key `titel` in the experiment
     --> x.yaml:1:1
      |
    1 | titel: Toys
      | ^^^^^
      |
      = help: did you mean `title`?

    error: there is no kind of model `toi`
     --> x.yaml:3:14
      |
    3 |   a: { kind: toi, vocab: 3 }
      |              ^^^
      |
      = help: did you mean `toy`?

    error: unknown key `knd` in `b`
     --> x.yaml:4:8
      |
    4 |   b: { knd: toy, vocab: 3 }
      |        ^^^
      |
      = help: did you mean `kind`?

    error: `vocab` is missing in `c`
     --> x.yaml:5:3
      |
    5 |   c: { kind: toy }
      |   ^
      |
      = help: `vocab`: Tokens in the vocabulary.

    error: `vocab` must be an integer of at least 1, not the string `twenty`
     --> x.yaml:6:26
      |
    6 |   d: { kind: toy, vocab: twenty, context: 0, noise: -1, circuit: inducton }
      |                          ^^^^^^

    error: `context` must be an integer of at least 1, not 0
     --> x.yaml:6:43
      |
    6 |   d: { kind: toy, vocab: twenty, context: 0, noise: -1, circuit: inducton }
      |                                           ^

    error: `noise` must be a number of at least 0, not -1
     --> x.yaml:6:53
      |
    6 |   d: { kind: toy, vocab: twenty, context: 0, noise: -1, circuit: inducton }
      |                                                     ^^

    error: `circuit` must be one of `induction` and `duplicate`, not the string `inducton`
     --> x.yaml:6:66
      |
    6 |   d: { kind: toy, vocab: twenty, context: 0, noise: -1, circuit: inducton }
      |                                                                  ^^^^^^^^
      |
      = help: did you mean `induction`?

    error: `from` must be one of `vocab` and `context` or an integer of at least 0, not the string `vocb`
     --> x.yaml:7:55
      |
    7 |   e: { kind: toy, vocab: 2, heads: [{ layer: 0, from: vocb }, { layer: 1, frm: 3 }] }
      |                                                       ^^^^
      |
      = help: did you mean `vocab`?

    error: unknown key `frm` in `heads[1]`
     --> x.yaml:7:75
      |
    7 |   e: { kind: toy, vocab: 2, heads: [{ layer: 0, from: vocb }, { layer: 1, frm: 3 }] }
      |                                                                           ^^^
      |
      = help: did you mean `from`?

    error: `heads` must not be here: only single values can be swept, and this parameter is a list or a map
     --> x.yaml:8:28
      |
    8 |   f: { kind: toy, sweep: { heads: [[]], noise: [0, x], vocab: [] } }
      |                            ^^^^^

    error: `noise[1]` must be a number of at least 0, not the string `x`
     --> x.yaml:8:52
      |
    8 |   f: { kind: toy, sweep: { heads: [[]], noise: [0, x], vocab: [] } }
      |                                                    ^

    error: `vocab` must be a list of at least 1 item, not an empty list
     --> x.yaml:8:63
      |
    8 |   f: { kind: toy, sweep: { heads: [[]], noise: [0, x], vocab: [] } }
      |                                                               ^^

    error: unknown key `mesure` in this cell
      --> x.yaml:10:5
       |
    10 |   - mesure: scores
       |     ^^^^^^
       |
       = help: did you mean `measure`?

    error: unknown key `figure` in this cell
      --> x.yaml:12:5
       |
    12 |     figure: dots
       |     ^^^^^^
       |
       = help: `figure` starts a cell of its own: put `- ` before it

    error: `scores` needs an input, and the file has none
      --> x.yaml:13:14
       |
    13 |   - measure: scores
       |              ^^^^^^
       |
       = help: add one under `inputs:`

    error: there are two tables called `scores`
      --> x.yaml:13:14
       |
    11 |   - measure: scores
       |              ------ the first
    12 |     figure: dots
    13 |   - measure: scores
       |              ^^^^^^
       |
       = help: a table is called like its measure: give this one another name with `name:`

    error: there is no model `zzz`
      --> x.yaml:14:14
       |
    14 |     models: [zzz]
       |              ^^^
       |
       = help: the models are: `a`, `b`, `c`, `d`, `e` and `f`
    "#);
}

#[test]
fn names_that_refer_to_nothing() {
    let text = edited(&[("input: ramp", "input: rmap\n    models: [plain, nosy, plain]")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: there is no input `rmap`
      --> x.yaml:14:12
       |
    14 |     input: rmap
       |            ^^^^
       |
       = help: did you mean `ramp`?

    error: there is no model `nosy`
      --> x.yaml:15:21
       |
    15 |     models: [plain, nosy, plain]
       |                     ^^^^
       |
       = help: did you mean `noisy`?

    error: the model `plain` is here twice
      --> x.yaml:15:27
       |
    15 |     models: [plain, nosy, plain]
       |                           ^^^^^
    "#);
}

#[test]
fn tables_are_defined_once_and_above() {
    let text = edited(&[(
        "  - text: Hello\n",
        "  - figure: dots\n    of: best\n    x: layer\n    title: Early\n  - measure: scores\n    name: Scores\n",
    )]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: the table `best` is defined later
      --> x.yaml:13:9
       |
    13 |     of: best
       |         ^^^^
    ...
    24 |     name: best
       |           ---- here
       |
       = help: tables can be used only below their cell

    error: the tables `Scores` and `scores` differ by case only, and some systems take them for one file
      --> x.yaml:18:14
       |
    17 |     name: Scores
       |           ------ the first
    18 |   - measure: scores
       |              ^^^^^^
       |
       = help: a table is called like its measure: give this one another name with `name:`
    "#);
}

#[test]
fn names_are_fit_for_files_and_sql() {
    let text = edited(&[("name: best", "name: ../best"), ("  plain:", "  pl ain:")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: `pl ain` cannot be a name
     --> x.yaml:4:3
      |
    4 |   pl ain: { kind: toy, vocab: 5 }
      |   ^^^^^^
      |
      = help: a name has letters, digits, `_` and `-` only, and starts with a letter or `_`

    error: `../best` cannot be a name
      --> x.yaml:19:11
       |
    19 |     name: ../best
       |           ^^^^^^^
       |
       = help: a name has letters, digits and `_` only, and starts with a letter or `_`
    "#);
}

#[test]
fn duplicate_keys_show_both() {
    let text = edited(&[("vocab: 5 }", "vocab: 5, vocab: 6 }"), ("seed: 7", "seed: -7")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: `seed` must be an integer of at least 0, not -7
     --> x.yaml:2:7
      |
    2 | seed: -7
      |       ^^

    error: the key `vocab` is here twice
     --> x.yaml:4:33
      |
    4 |   plain: { kind: toy, vocab: 5, vocab: 6 }
      |                       -----     ^^^^^
      |                       |
      |                       first here
    "#);
}

#[test]
fn overrides_are_pointed_at_on_the_command_line() {
    let text = edited(&[]);
    insta::assert_snapshot!(problems(&text, &[("models.plain.vocab", "x"), ("seed", "-3"), ("models.noisy.sweep.noise[1]", "12"), ("cells.1.lyer", "0")]), @r#"
    error: `vocab` must be an integer of at least 1, not the string `x`
     |
     | --set models.plain.vocab=x
     |                          ^

    error: `seed` must be an integer of at least 0, not -3
     |
     | --set seed=-3
     |            ^^

    error: model `noisy`: 12 drowns everything
     |
     | --set models.noisy.sweep.noise[1]=12
     |                                   ^^

    error: unknown key `lyer` in this cell
     |
     | --set cells.1.lyer=0
     |               ^^^^
     |
     = help: did you mean `layer`?
    "#);
}

#[test]
fn overrides_say_where_they_stop() {
    let text = edited(&[]);
    insta::assert_snapshot!(problems(&text, &[("models.plian.vocab", "3"), ("title.x", "3"), ("cells[9].layer", "1"), ("a..b", "3"), ("seed", "[")]), @r#"
    error: there is no `plian` in `models`
     |
     | --set models.plian.vocab=3
     |              ^^^^^
     |
     = help: did you mean `plain`?

    error: there is no `x` in `title`: it is the string `Toys`
     |
     | --set title.x=3
     |             ^

    error: there is no item `9` in `cells`, a list of 5
     |
     | --set cells[9].layer=1
     |             ^
     |
     = help: items are numbered from 0

    error: `a..b` is not a path into the file
     |
     | --set a..b=3
     |       ^^^^
     |
     = help: write it like `models.wired.noise=0.3` or `cells[2].title=…`

    error: this is not YAML: unclosed bracket '['
     |
     | --set seed=[
     |            ^
    "#);
}

#[test]
fn an_empty_file_says_what_to_write() {
    let text = "\
# nothing
";
    insta::assert_snapshot!(problems(text, &[]), @r#"
    error: the file is empty
     --> x.yaml:1:1
      |
    1 | # nothing
      | ^
      |
      = help: an experiment has a `title`, `models`, `inputs` and `cells`; `attn-circuits new NAME` writes one to start from
    "#);
}

#[test]
fn tabs_are_found() {
    let text = "\
title: a
	seed: 1
";
    insta::assert_snapshot!(problems(text, &[]), @r#"
    error: this is not YAML: while scanning a plain scalar, found a tab
     --> x.yaml:2:1
      |
    2 |     seed: 1
      | ^^^^
      |
      = help: indent with spaces: YAML allows no tabs there
    "#);
}
