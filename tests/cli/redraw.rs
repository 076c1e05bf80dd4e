//! `figures`: figures and report again, from the tables that are stored.

use crate::desk::{Desk, SMALL, assert_same};
use std::fs;

fn after_a_run() -> Desk {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    desk
}

#[test]
fn figures_come_out_as_the_run_drew_them() {
    let desk = after_a_run();
    let first = desk.tree("results");
    for arguments in [
        &["results/small"][..],
        &["small.yaml"],
        &["small.yaml", "--results", "results"],
        &["results/small/", "--threads", "1"],
    ] {
        // What is drawn again must not be what was left lying.
        desk.write("results/small/report.html", "spoilt");
        desk.write("results/small/figures/01-matching.svg", "spoilt");
        fs::remove_file(desk.path("results/small/figures/01-matching.png")).unwrap();
        let finished = desk.run(["figures"].iter().chain(arguments)).expect(0);
        assert!(finished.stdout.starts_with("1 figure and the report: "), "{finished:#?}");
        assert_same(&first, &desk.tree("results"));
    }
}

/// Tables of one version, figures of another: the manifest and the report say so, until both are of one again.
#[test]
fn what_another_version_has_drawn_is_said() {
    let desk = after_a_run();
    let first = desk.tree("results");
    let present = concat!("attn-circuits ", env!("CARGO_PKG_VERSION"));
    let manifest = desk.read("results/small/manifest.json");
    let older = manifest.replace(&format!("\"program\": \"{present}\""), "\"program\": \"attn-circuits 0.0.1\"");
    assert_ne!(older, manifest);
    desk.write("results/small/manifest.json", older);
    desk.run(["figures", "results/small"]).expect(0);
    let redrawn: serde_json::Value = serde_json::from_str(&desk.read("results/small/manifest.json")).unwrap();
    assert_eq!((&redrawn["program"], &redrawn["drawn_by"]), (&"attn-circuits 0.0.1".into(), &present.into()));
    assert!(desk.read("results/small/report.html").contains("Drawn by"));
    let verified = desk.run(["verify"]).expect(1);
    let note = format!("note: made by attn-circuits 0.0.1, drawn by {present}, verified by {present}\n");
    assert!(verified.stdout.contains(&note), "{verified:#?}");
    desk.write("results/small/manifest.json", desk.read("results/small/manifest.json").replace("attn-circuits 0.0.1", present));
    desk.run(["figures", "results/small"]).expect(0);
    assert_same(&first, &desk.tree("results"));
}

/// The experiment file is not read: what was run counts.
#[test]
fn figures_do_not_compute() {
    let desk = after_a_run();
    let first = desk.tree("results");
    desk.write("small.yaml", SMALL.replace("seed: 7", "seed: 8"));
    desk.run(["figures", "small.yaml"]).expect(0);
    assert_same(&first, &desk.tree("results"));
}

#[test]
fn figures_can_be_drawn_from_within_the_folder() {
    let desk = after_a_run();
    let first = desk.tree("results");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_attn-circuits"));
    let output = command.args(["figures", "."]).current_dir(desk.path("results/small")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_same(&first, &desk.tree("results"));
}

#[test]
fn a_missing_table_is_named_and_the_folder_stays() {
    for end in ["parquet", "csv"] {
        let desk = after_a_run();
        let path = format!("results/small/tables/loss.{end}");
        fs::remove_file(desk.path(&path)).unwrap();
        let before = desk.tree("results");
        desk.run(["figures", "results/small"])
            .expect_error(2, &[&format!("tables/loss.{end}: is missing"), "`run` makes it anew"]);
        assert_same(&before, &desk.tree("results"));
    }
}

/// The manifest vouches for the tables, so figures are not drawn from others.
#[test]
fn a_changed_table_is_named_and_the_folder_stays() {
    for end in ["parquet", "csv"] {
        let desk = after_a_run();
        let path = desk.path(&format!("results/small/tables/loss.{end}"));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        let before = desk.tree("results");
        desk.run(["figures", "results/small"]).expect_error(2, &[&format!("tables/loss.{end}: is not what the run wrote")]);
        assert_same(&before, &desk.tree("results"));
    }
}

/// One that is damaged does not keep the others from it.
#[test]
fn all_results_are_drawn_but_those_that_are_damaged() {
    let desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.write(&format!("{name}.yaml"), SMALL);
        desk.run(["run", &format!("{name}.yaml"), "--quiet"]).expect(1);
    }
    let sound = desk.tree("results");
    for path in ["a/report.html", "c/report.html", "b/tables/loss.parquet"] {
        desk.write(&format!("results/{path}"), "spoilt");
    }
    fs::remove_file(desk.path("results/index.html")).unwrap();
    let finished = desk.run(["figures"]).expect(2);
    let drawn = ["a", "c"].map(|name| format!("1 figure and the report: results/{name}/report.html\n")).concat();
    assert_eq!(finished.stdout, format!("{drawn}the index: results/index.html\n"));
    assert!(finished.stderr.contains("results/b/tables/loss.parquet: is not what the run wrote"), "{finished:#?}");
    let mut now = desk.tree("results");
    now.0.insert("b/tables/loss.parquet".into(), sound.0["b/tables/loss.parquet"].clone());
    assert_same(&sound, &now);
    // The same with a folder of their own for the figures.
    let finished = desk.run(["figures", "--out", "paper"]).expect(2);
    assert_eq!(finished.stdout, "1 figure: paper/a\n1 figure: paper/c\n");
}

#[test]
fn a_folder_without_results_is_refused() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.write("other/thesis.txt", "years of work");
    desk.run(["figures", "other"]).expect_error(2, &["other: holds no results of a run"]);
    desk.run(["figures", "nowhere"]).expect_error(2, &["nowhere: is not there"]);
    desk.run(["figures", "small.yaml"]).expect_error(2, &["results/small: is not there; `run` makes it"]);
    assert_eq!(desk.tree("").names(), ["other/thesis.txt", "small.yaml"]);
}
