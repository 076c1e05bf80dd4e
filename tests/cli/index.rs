//! `results/index.html`: one page over all results.

use crate::desk::{Desk, SMALL, assert_same};
use std::fs;

const PAGE: &str = "results/index.html";

fn ran(names: &[&str]) -> Desk {
    let desk = Desk::new();
    for name in names {
        desk.write(&format!("{name}.yaml"), SMALL.replace("title: Small", &format!("title: Called {name}")));
        desk.run(["run", &format!("{name}.yaml"), "--quiet"]).expect(1);
    }
    desk
}

#[test]
fn every_run_brings_the_page_up_to_date() {
    let desk = ran(&["b"]);
    let first = desk.read(PAGE);
    assert!(first.contains("1 experiment; 1 of 2 claims hold"), "{first}");
    desk.write("a.yaml", SMALL.replace("title: Small", "title: Called a"));
    desk.run(["run", "a.yaml", "--quiet"]).expect(1);
    let second = desk.read(PAGE);
    assert!(second.contains("2 experiments; 2 of 4 claims hold"), "{second}");
    let [a, b] =
        ["<a href=\"a/report.html\">Called a</a>", "<a href=\"b/report.html\">Called b</a>"].map(|link| second.find(link));
    assert!(a.is_some() && a < b, "by name");
    // Statements with their verdicts and numbers; the first figure in the page itself.
    for part in [
        "a/report.html#claim-2\">Random models have ten million losses.",
        "<code>score</code> = 0.3333",
        "data:image/svg+xml;base64,",
    ] {
        assert!(second.contains(part), "{part}");
    }
    // A run that fails leaves it alone, and nothing is left beside it.
    desk.run(["run", "a.yaml", "--set", "cells[1].measure=nothing"]).expect_error(2, &[]);
    assert_eq!(desk.read(PAGE), second);
    let names: Vec<_> = fs::read_dir(desk.path("results")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn the_page_is_the_same_every_time_and_holds_nothing_of_the_run() {
    let desk = ran(&["a", "b"]);
    let first = desk.tree("results");
    fs::remove_file(desk.path(PAGE)).unwrap();
    let finished = desk.run(["figures"]).expect(0);
    assert!(finished.stdout.ends_with("the index: results/index.html\n"), "{finished:#?}");
    assert_same(&first, &desk.tree("results"));
    let run: serde_json::Value = serde_json::from_str(&desk.read("results/a/run.json")).unwrap();
    let host = run["host"].as_str().unwrap_or("no name of a host");
    assert!(!desk.read(PAGE).contains(host));
}

#[test]
fn pages_of_others_are_left_alone() {
    let desk = ran(&["a"]);
    desk.write(PAGE, "<title>My thesis</title>");
    let finished = desk.run(["run", "a.yaml", "--quiet"]).expect(1);
    assert!(finished.stderr.contains("results/index.html is not ours and was left as it is"), "{finished:#?}");
    desk.run(["figures"]).expect(0);
    desk.run(["figures", "results/a"]).expect(0);
    assert_eq!(desk.read(PAGE), "<title>My thesis</title>");
}

#[test]
fn only_results_with_a_readable_manifest_are_listed() {
    let desk = ran(&["a", "b"]);
    desk.write("results/b/manifest.json", "{}");
    desk.write("results/notes/thesis.txt", "years of work");
    desk.run(["run", "a.yaml", "--quiet"]).expect(1);
    let page = desk.read(PAGE);
    assert!(page.contains("1 experiment; ") && page.contains("Called a") && !page.contains("Called b"), "{page}");
}

/// Figures of single results bring a page up to date, but begin none in a folder that may be anybody's.
#[test]
fn single_results_begin_no_page() {
    let desk = ran(&["a"]);
    desk.write(PAGE, desk.read(PAGE).replace("Called a", "Called something else"));
    desk.run(["figures", "results/a"]).expect(0);
    assert!(desk.read(PAGE).contains("Called a"));
    fs::remove_file(desk.path(PAGE)).unwrap();
    desk.run(["figures", "results/a"]).expect(0);
    assert!(!desk.path(PAGE).exists());
}
