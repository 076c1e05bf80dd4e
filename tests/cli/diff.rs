//! `diff`: two runs side by side.

use crate::desk::{Desk, SMALL, TOKENS, assert_golden, assert_same, reading_tokens};
use std::fs;

/// Two runs of one experiment: as it is, and with other values.
fn two_runs() -> Desk {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml", "--quiet"]).expect(1);
    let noise = "models.wired.noise=0.1";
    desk.run(["run", "small.yaml", "--out", "other", "--set", noise, "--set", "inputs.repeated.sequences=5", "--quiet"])
        .expect(1);
    desk
}

#[test]
fn two_runs_differ_by_what_was_set() {
    let desk = two_runs();
    let before = desk.tree("");
    let finished = desk.run(["diff", "results/small", "other/small"]).expect(1);
    assert_golden("diff.stdout", &finished.stdout);
    assert_eq!(finished.stderr, "");
    assert_same(&before, &desk.tree(""));
    // The other way round, everything is said of the other.
    let back = desk.run(["diff", "other/small", "results/small"]).expect(1);
    assert!(
        back.stdout.contains("models.wired.noise: only in A: 0.1\n    A --set models.wired.noise=0.1\n"),
        "{}",
        back.stdout
    );
}

#[test]
fn the_same_run_twice_has_no_difference() {
    let desk = Desk::with("small.yaml", SMALL);
    for out in ["results", "other"] {
        desk.run(["run", "small.yaml", "--out", out, "--quiet"]).expect(1);
    }
    // By name, by file and by folder.
    for first in ["small", "small.yaml", "results/small/"] {
        let finished = desk.run(["diff", first, "other/small"]).expect(0);
        assert!(finished.stdout.ends_with("no difference in settings, tables and claims\n"), "{finished:#?}");
    }
}

#[test]
fn a_changed_file_is_shown_with_both_lines() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml", "--quiet"]).expect(1);
    let changed = SMALL
        .replace("replicates: 2", "replicates: 3")
        .replace("  - measure: composition\n", "")
        .replace("  - claim: The wired pair", "  - measure: bigrams\n  - claim: The wired pair");
    let changed = changed
        .replace("FROM composition WHERE model = 'wired' AND kind = 'k'", "FROM (SELECT 1 AS alignment, 2 AS score) AS x");
    desk.write("small.yaml", &changed);
    desk.run(["run", "small.yaml", "--out", "other", "--quiet"]).expect(1);
    let finished = desk.run(["diff", "small", "other/small"]).expect(1);
    assert_golden("diff_of_files.stdout", &finished.stdout);
}

/// The experiment says the same, and what it reads does not.
#[test]
fn a_file_that_holds_something_else_is_named() {
    let desk = Desk::with("small.yaml", &reading_tokens("mine/tokens.json"));
    for (out, tokens) in
        [("results", TOKENS.to_string()), ("other", TOKENS.replace("3]", "4]")), ("third", format!("{TOKENS} "))]
    {
        desk.write("mine/tokens.json", tokens);
        desk.run(["run", "small.yaml", "--out", out, "--quiet"]).expect(1);
    }
    let finished = desk.run(["diff", "small", "other/small"]).expect(1);
    assert!(finished.stdout.contains("\n\nsettings\n  files: mine/tokens.json differs\n\ntables\n"), "{finished:#?}");
    // Also where that changes nothing.
    let finished = desk.run(["diff", "small", "third/small"]).expect(1);
    assert!(finished.stdout.ends_with("\n\nsettings\n  files: mine/tokens.json differs\n"), "{finished:#?}");
}

#[test]
fn a_tolerance_hides_what_is_smaller() {
    let desk = two_runs();
    let all = desk.run(["diff", "small", "other/small"]).expect(1).stdout;
    let coarse = desk.run(["diff", "small", "other/small", "--tolerance", "1e3"]).expect(1).stdout;
    assert!(all.contains("\ntables\n") && !coarse.contains("\ntables\n"), "{coarse}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let desk = two_runs();
    desk.write("results/again/manifest.json", desk.read("results/small/manifest.json"));
    desk.run(["diff", "results", "other/small"]).expect_error(2, &["results: holds the results of several experiments"]);
    desk.run(["diff", "small", "nowhere"]).expect_error(2, &["nowhere: is not there"]);
    fs::write(desk.path("other/small/tables/loss.parquet"), "spoilt").unwrap();
    desk.run(["diff", "small", "other/small"]).expect_error(2, &["tables/loss.parquet: is not what the run wrote"]);
}
