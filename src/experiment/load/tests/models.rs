//! Swept parameters, replicates, files, inputs that fit models, and what all of it costs.

use super::*;

#[test]
fn swept_parameters_are_checked_where_they_are() {
    let text = edited(&[("[0.0, 0.5]", "[0.0, 11, 0.0]"), ("ramp, length: 5", "ramp, length: 13")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: the sweep of `noise` has the number 0.0 twice
     --> x.yaml:7:31
      |
    7 |     sweep: { noise: [0.0, 11, 0.0], circuit: [induction, null], vocab: [6] }
      |                      ---      ^^^
      |                      |
      |                      first here

    error: input `ramp`: 13 is bad luck
      --> x.yaml:10:31
       |
    10 |   ramp: { kind: ramp, length: 13, largest: 4 }
       |                               ^^
    "#);
}

#[test]
fn swept_values_are_checked_by_the_kind() {
    let text = edited(&[
        ("[0.0, 0.5]", "[0.0, 11]"),
        ("input: ramp\n", "input: ramp\n    layer: 7\n"),
        (
            "plain: { kind: toy, vocab: 5 }",
            "plain: { kind: toy, vocab: 5, heads: [{ layer: 0, from: 1 }, { layer: 5, from: vocab }] }",
        ),
    ]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: model `plain`: there is no layer 5
     --> x.yaml:4:73
      |
    4 |   plain: { kind: toy, vocab: 5, heads: [{ layer: 0, from: 1 }, { layer: 5, from: vocab }] }
      |                                                                         ^

    error: model `noisy`: 11 drowns everything
     --> x.yaml:7:27
      |
    7 |     sweep: { noise: [0.0, 11], circuit: [induction, null], vocab: [6] }
      |                           ^^
    "#);
}

#[test]
fn files_are_pointed_at() {
    let text = edited(&[
        ("plain: { kind: toy, vocab: 5 }", "plain: { kind: toy, vocab: 5, weights: gone.bin }"),
        ("ramp, length: 5", "ramp, length: 13"),
    ]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: model `plain`: gone.bin: there is no such file
     --> x.yaml:4:42
      |
    4 |   plain: { kind: toy, vocab: 5, weights: gone.bin }
      |                                          ^^^^^^^^

    error: input `ramp`: 13 is bad luck
      --> x.yaml:10:31
       |
    10 |   ramp: { kind: ramp, length: 13, largest: 4 }
       |                               ^^
    "#);
}

#[test]
fn inputs_fit_models() {
    let text = edited(&[("plain: { kind: toy, vocab: 5 }", "plain: { kind: toy, vocab: 4, context: 3 }")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: input `ramp` is 5 tokens long, but model `plain` reads at most 3
      --> x.yaml:14:12
       |
    14 |     input: ramp
       |            ^^^^
       |
       = help: make the input shorter or the model's context longer

    error: input `ramp` needs a vocabulary of at least 5, but model `plain` has 4
      --> x.yaml:14:12
       |
    14 |     input: ramp
       |            ^^^^
       |
       = help: use fewer different tokens or a larger vocabulary
    "#);
}

#[test]
fn inputs_are_named_where_they_are_needed() {
    let text = edited(&[
        ("inputs:\n  ramp: { kind: ramp, length: 5, largest: 4 }\n", ""),
        ("    input: ramp\n", "  - measure: spectrum\n    models: plain\n    input: ramp\n"),
    ]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: `scores` needs an input, and the file has none
      --> x.yaml:11:14
       |
    11 |   - measure: scores
       |              ^^^^^^
       |
       = help: add one under `inputs:`

    error: `spectrum` reads no input: it looks at the weights only
      --> x.yaml:14:5
       |
    14 |     input: ramp
       |     ^^^^^
       |
       = help: leave `input` out
    "#);
}

#[test]
fn replicates_need_random_draws() {
    let text = edited(&[("vocab: 5 }", "vocab: 5, replicates: 4 }")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: model `plain` has no random draws: its 4 replicates would all be the same
     --> x.yaml:4:33
      |
    4 |   plain: { kind: toy, vocab: 5, replicates: 4 }
      |                                 ^^^^^^^^^^^^^
      |
      = help: leave `replicates` out
    "#);
}

#[test]
fn swept_names_do_not_hide_columns() {
    let text = edited(&[("  - text: Hello\n", "  - measure: spectrum\n")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: the swept parameter `noise` is called like a column of `spectrum`
      --> x.yaml:12:14
       |
    12 |   - measure: spectrum
       |              ^^^^^^^^
       |
       = help: list other `models:` here, or sweep something else than `noise`
    "#);
}

#[test]
fn costs_are_counted_before_the_run() {
    let text = edited(&[("vocab: 5 }", "vocab: 50000 }"), ("  - text: Hello\n", "  - measure: spectrum\n    models: plain\n")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: the run needs about 372.5 GiB beside the program itself, and the memory limit is 1.0 GiB: most of it for `spectrum`, whose table has 2500000000 rows and takes 93.1 GiB, with 3.1 MiB at work
      --> x.yaml:12:14
       |
    12 |   - measure: spectrum
       |              ^^^^^^^^
       |
       = help: measure fewer models or sequences, or limit the measure by its parameters; `--memory-limit` sets the limit
    "#);
}

#[test]
fn impossible_sizes_do_not_overflow() {
    let text = edited(&[("vocab: 5 }", "vocab: 9999999999999999999 }")]);
    insta::assert_snapshot!(problems(&text, &[]), @r#"
    error: the weights of model `plain` take more than 16 EiB, and the memory limit is 1.0 GiB
     --> x.yaml:4:3
      |
    4 |   plain: { kind: toy, vocab: 9999999999999999999 }
      |   ^^^^^
      |
      = help: make its vocabulary, context or width smaller
    "#);
}
