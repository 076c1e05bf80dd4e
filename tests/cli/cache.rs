//! What a second run computes, and that it finds the same.

use crate::desk::{Desk, SMALL, Tree, assert_same};
use attn_circuits::experiment::{self, LoadOptions, Progress, Reused, RunOptions};
use attn_circuits::store::Cache;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// What [`SMALL`] has: three measures of three models, and so on.
const ALL: &str = "reused 9 of 9 measurements, 1 of 1 query, 2 of 2 claims, 1 of 1 figure";

/// A desk on which [`SMALL`] has run once.
fn after_a_run() -> Desk {
    let desk = Desk::with("small.yaml", SMALL);
    let first = desk.run(["run", "small.yaml"]).expect(1);
    assert!(!first.stderr.contains("reused") && !first.stderr.contains("up to date"), "{first:#?}");
    desk
}

/// Runs another text on a desk; what it says that it reused. Insists that the results are those of a run without a cache.
#[track_caller]
fn reused(desk: &Desk, text: &str) -> String {
    desk.write("small.yaml", text);
    let finished = desk.run(["run", "small.yaml"]);
    assert!(finished.status.is_some_and(|status| status < 2), "{finished:#?}");
    assert_fresh(desk, text);
    let line =
        finished.stderr.lines().find_map(|line| line.strip_prefix("small.yaml: ").filter(|line| line.starts_with("reused")));
    line.unwrap_or_default().to_string()
}

/// Insists that the results of `text` on a desk are those that are computed from nothing.
#[track_caller]
fn assert_fresh(desk: &Desk, text: &str) {
    let fresh = Desk::with("small.yaml", text);
    for (name, content) in desk.tree("").0 {
        if !name.starts_with("results/") {
            fresh.write(&name, content);
        }
    }
    fresh.run(["run", "small.yaml", "--force", "--threads", "1"]);
    let results = |desk: &Desk| desk.tree("results/small").reproducible();
    assert_same(&results(&fresh), &results(desk));
}

/// What is in the cache, but for the file that says that it is one.
fn entries(desk: &Desk) -> Tree {
    let mut tree = Tree::of(desk.cache());
    assert!(tree.0.remove("CACHEDIR.TAG").is_some(), "{:?}", tree.names());
    tree
}

#[test]
fn a_second_run_has_nothing_to_do_and_says_so() {
    let desk = after_a_run();
    let before = desk.tree("results");
    let second = desk.run(["run", "small.yaml"]).expect(1);
    assert!(second.stderr.starts_with("small.yaml: up to date"), "{second:#?}");
    assert!(!second.stderr.contains("measuring"), "{second:#?}");
    // Nothing is touched, not even the times of the run that made it.
    assert_same(&before, &desk.tree("results"));
    let first = Desk::with("small.yaml", SMALL).run(["run", "small.yaml"]).expect(1);
    assert_eq!(second.stdout, first.stdout);
    assert_eq!(desk.run(["run", "small.yaml", "--quiet"]).expect(1).stderr, "");
}

#[test]
fn results_that_are_gone_or_damaged_come_back_from_the_cache() {
    let desk = after_a_run();
    let before = desk.tree("results/small").reproducible();
    for name in before.names() {
        for damage in [None, Some("something else")] {
            let path = desk.path(&format!("results/small/{name}"));
            // Without its manifest nobody knows that the folder is ours.
            if name == "manifest.json" {
                fs::remove_dir_all(desk.path("results/small")).unwrap();
            } else {
                damage.map_or_else(|| fs::remove_file(&path), |text| fs::write(&path, text)).unwrap();
            }
            let finished = desk.run(["run", "small.yaml"]).expect(1);
            assert!(finished.stderr.contains(ALL), "{name}: {finished:#?}");
            assert_same(&before, &desk.tree("results/small").reproducible());
        }
    }
    fs::remove_dir_all(desk.path("results")).unwrap();
    assert!(desk.run(["run", "small.yaml", "--out", "elsewhere"]).expect(1).stderr.contains(ALL));
    assert_same(&before, &desk.tree("elsewhere/small").reproducible());
}

#[test]
fn words_and_order_recompute_nothing() {
    let desk = after_a_run();
    let edits = [
        ("title: Small", "# a comment\ntitle: Large # and one more"),
        ("What a run of everything", "What *a second* run of everything"),
        ("cells:", "about: Opening prose.\ncells:"),
        (
            "{ kind: wired, circuit: induction, vocab: 9, context: 17 }",
            "{ context: 17, kind: wired, vocab: 9, circuit: induction }",
        ),
        ("  - measure: composition\n  - measure: loss\n", "  - measure: loss\n  - { measure: composition }\n"),
        ("The wired pair is composed", "The wired pair is indeed composed"),
        ("    title: Prefix matching\n", "    title: Prefix matching\n    caption: Words under it.\n"),
    ];
    let mut text = SMALL.to_string();
    for (old, new) in edits {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
        assert_eq!(reused(&desk, &text), ALL, "{new}");
    }
}

/// Each change computes what depends on it, and nothing else.
#[test]
fn a_change_recomputes_what_depends_on_it() {
    let cases = [
        // Another parameter of one of two models.
        (
            "vocab: 9, context: 17 }\n  random",
            "vocab: 9, context: 17, noise: 0.5 }\n  random",
            "6 of 9 measurements, 0 of 1 query, 0 of 2",
        ),
        // A third replicate.
        ("replicates: 2", "replicates: 3", "9 of 12 measurements"),
        // A seed: of what is drawn, and the input is.
        ("seed: 7", "seed: 8", ""),
        // A longer input: measures of weights alone do not read it.
        ("sequences: 4", "sequences: 5", "3 of 9 measurements"),
        // A parameter of a measure.
        (
            "- measure: loss",
            "- measure: loss\n    models: [wired]",
            "7 of 7 measurements, 1 of 1 query, 1 of 2 claims, 1 of 1 figure",
        ),
        // Another name: its random draws are others.
        ("random: {", "chance: {", "3 of 9 measurements"),
        // A query, and the figure of it; its claim reads other tables.
        (
            "score = 'prefix_matching'",
            "score = 'previous_token'",
            "9 of 9 measurements, 0 of 1 query, 2 of 2 claims, 0 of 1 figure",
        ),
        ("ROUND(score, 6)", "ROUND(score, 3)", "9 of 9 measurements, 1 of 1 query, 1 of 2 claims, 1 of 1 figure"),
        ("y: layer", "y: layer\n    max: 2", "9 of 9 measurements, 1 of 1 query, 2 of 2 claims, 0 of 1 figure"),
        // An unrelated cell.
        ("  - measure: loss\n", "  - measure: loss\n  - measure: eigenvalues\n", "9 of 12 measurements, 1 of 1 query, 2 of 2"),
    ];
    for (old, new, expected) in cases {
        let desk = after_a_run();
        assert!(SMALL.contains(old), "{old}");
        let said = reused(&desk, &SMALL.replace(old, new));
        let said = said.strip_prefix("reused ").unwrap_or_default();
        assert!(said.starts_with(expected) && (said.is_empty() == expected.is_empty()), "{new}: {said}");
        // Back again, all is there.
        assert_eq!(reused(&desk, SMALL), ALL);
    }
}

#[test]
fn a_changed_file_beside_the_experiment_is_noticed() {
    let text = SMALL
        .replace("models:\n", "models:\n  mine: { kind: import, weights: mine/weights.safetensors }\n")
        .replace("{ kind: repeated_tokens, sequences: 4, period: 5, repeats: 3 }", "{ kind: tokens, file: tokens.json }")
        .replace(
            "    facet: model\n",
            "    facet: model\n  - { figure: attention, of: patterns, title: Patterns, tokens: names.json }\n",
        )
        .replace("  - measure: loss\n", "  - measure: loss\n  - measure: attention\n    name: patterns\n    models: [mine]\n");
    let desk = Desk::with("small.yaml", &text);
    let names = |first: &str| format!("[\"{first}\", \"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\"]");
    desk.write("names.json", names("start"));
    desk.write("tokens.json", "[[0, 1, 2, 3, 1, 2, 3]]");
    let export = |seed: u64| {
        let text = format!(
            "title: X\nseed: {seed}\nmodels:\n  m: {{ kind: random, layers: 1, heads: 2, d_model: 4, vocab: 9, context: 9 }}\ncells:\n  - measure: composition\n"
        );
        desk.write("other/x.yaml", text);
        desk.run(["export", "other/x.yaml", "m", "--out", "mine"]).expect(0);
    };
    export(1);
    assert_eq!(reused(&desk, &text), "");
    let second = desk.run(["run", "small.yaml"]);
    assert!(second.stderr.contains("up to date"), "{second:#?}");
    let all = reused(&desk, &format!("# a comment\n{text}"));
    assert_eq!(all, "reused 13 of 13 measurements, 1 of 1 query, 2 of 2 claims, 2 of 2 figures");
    export(2);
    // A model of one layer has no composition: that table is measured again, is the same, and so is the claim of it.
    let other_model = reused(&desk, &format!("# a comment\n{text}"));
    assert_eq!(other_model, "reused 9 of 13 measurements, 0 of 1 query, 1 of 2 claims, 0 of 2 figures");
    desk.write("tokens.json", "[[0, 1, 2, 3, 1, 2, 4]]");
    let other_tokens = reused(&desk, &text);
    assert!(other_tokens.starts_with("reused 4 of 13 measurements"), "only composition reads no tokens: {other_tokens}");
    desk.write("names.json", names("begin"));
    let other_names = reused(&desk, &text);
    assert_eq!(other_names, "reused 13 of 13 measurements, 1 of 1 query, 2 of 2 claims, 1 of 2 figures");
}

/// The order in which a wired model's subspaces stand is the order in which they lie in the stream, and noise tells it apart.
#[test]
fn an_order_that_means_something_is_noticed() {
    let model = |residual: &str| {
        let wired = format!(
            "{{ kind: wired, vocab: 9, context: 17, noise: 0.3, residual: {{ {residual} }}, heads: [{{ layer: 0, \
             query: {{ from: position, shift: -1 }}, key: {{ from: position }}, value: {{ from: token, to: output }} }}] }}"
        );
        SMALL.replace("{ kind: wired, circuit: induction, vocab: 9, context: 17 }", &wired)
    };
    let text = model("token: vocab, position: context, output: vocab");
    let desk = Desk::with("small.yaml", &text);
    desk.run(["run", "small.yaml"]).expect(1);
    let said = reused(&desk, &model("position: context, token: vocab, output: vocab"));
    assert!(said.starts_with("reused 6 of 9 measurements"), "{said}");
}

/// A table that was just made, and the same from the cache, answer alike to the last digit.
#[test]
fn queries_over_queries_are_the_same_from_the_cache() {
    let first = "  - query: SELECT model, layer, head, score, value FROM head_scores ORDER BY value\n    name: sorted\n\
                 \x20 - query: SELECT sequence, position, value FROM logits ORDER BY position\n    name: by_position\n";
    let text = |second: &str| {
        let logits = "  - measure: loss\n  - measure: logits\n    models: [random]\n";
        let text = SMALL.replace("  - measure: loss\n", logits).replace("  - figure", &format!("{first}{second}  - figure"));
        assert!(text.contains("by_position"));
        text
    };
    let desk = Desk::with("small.yaml", &text(""));
    desk.run(["run", "small.yaml"]).expect(1);
    let second = "  - query: SELECT position, STDDEV(value) AS sd, SUM(value) AS total FROM by_position GROUP BY position\n    name: q2\n\
                  \x20 - query: SELECT model, STDDEV(value) AS sd, AVG(value) AS mean FROM sorted GROUP BY model\n    name: q3\n";
    let said = reused(&desk, &text(second));
    assert!(said.starts_with("reused 11 of 11 measurements, 3 of 5 queries"), "{said}");
}

#[test]
fn force_computes_everything_and_replaces_what_was_kept() {
    let desk = after_a_run();
    let forced = desk.run(["run", "small.yaml", "--force"]).expect(1);
    assert!(forced.stderr.contains("measuring (9)") && !forced.stderr.contains("reused"), "{forced:#?}");
    let second = desk.run(["run", "small.yaml"]).expect(1);
    assert!(second.stderr.contains("up to date"), "{second:#?}");
}

#[test]
fn overrides_are_part_of_what_was_run() {
    let desk = after_a_run();
    let set = ["run", "small.yaml", "--set", "models.wired.noise=0.5"];
    let other = desk.run(set);
    assert!(other.stderr.contains("reused 6 of 9 measurements"), "{other:#?}");
    assert!(desk.run(set).stderr.contains("up to date"));
    assert!(desk.run(["run", "small.yaml"]).stderr.contains(ALL), "the file itself again");
}

/// Whatever becomes of the cache, results are the right ones.
#[test]
fn a_damaged_cache_is_computed_again() {
    let desk = after_a_run();
    let sound = entries(&desk);
    assert!(sound.0.len() > 15, "{:?}", sound.names());
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        Vec::clear,
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        |bytes| bytes.extend_from_slice(b"more"),
    ];
    for damage in damages {
        for (name, bytes) in entries(&desk).0 {
            let mut bytes = bytes;
            damage(&mut bytes);
            fs::write(desk.cache().join(name), bytes).unwrap();
        }
        fs::remove_dir_all(desk.path("results")).unwrap();
        let again = desk.run(["run", "small.yaml"]).expect(1);
        assert!(!again.stderr.contains("reused"), "{again:#?}");
        assert_fresh(&desk, SMALL);
    }
    // Entries under each other's names.
    let names: Vec<_> = sound.names().into_iter().map(|name| desk.cache().join(name)).collect();
    for pair in names.windows(2) {
        fs::copy(&pair[1], &pair[0]).unwrap();
    }
    fs::remove_dir_all(desk.path("results")).unwrap();
    desk.run(["run", "small.yaml"]).expect(1);
    assert_fresh(&desk, SMALL);
}

#[test]
fn the_cache_can_be_deleted_and_has_a_limit() {
    let desk = after_a_run();
    fs::remove_dir_all(desk.cache()).unwrap();
    desk.run(["run", "small.yaml"]).expect(1);
    assert!(!entries(&desk).0.is_empty());
    desk.run(["run", "small.yaml", "--force", "--cache-limit", "0"]).expect(1);
    assert!(entries(&desk).0.keys().all(|name| name.ends_with('/')), "{:?}", entries(&desk).names());
    assert_fresh(&desk, SMALL);
}

/// Remembers how large a cache was at most, at every step of a run.
struct Watching<'a> {
    cache: &'a Path,
    largest: AtomicU64,
}

impl Progress for Watching<'_> {
    fn step(&self, _: &str) {
        let size = if self.cache.exists() {
            let entries = Tree::of(self.cache).0;
            entries.iter().filter(|(name, _)| *name != "CACHEDIR.TAG").map(|(_, bytes)| bytes.len() as u64).sum()
        } else {
            0
        };
        self.largest.fetch_max(size, Ordering::Relaxed);
    }

    fn phase(&self, _: &str, _: usize) {}
    fn finish(&self) {}
    fn reused(&self, _: &Reused) {}
    fn waiting(&self, _: &Path) {}
}

/// One model, so that nothing is measured at the same time, and no figures: what is counted is not being written.
#[test]
fn a_cache_does_not_outgrow_its_limit_during_a_run() {
    const LIMIT: u64 = 32 << 10;
    let measure = |n: usize| format!("  - {{ measure: head_scores, scores: [previous_token], name: scores_{n} }}\n");
    let measures: String = (0..60).map(measure).collect();
    let text = format!(
        "title: Many\nmodels:\n  m: {{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: 9, context: 17 }}\n\
         inputs:\n  i: {{ kind: repeated_tokens, sequences: 2, period: 5, repeats: 3 }}\ncells:\n{measures}"
    );
    let desk = Desk::new();
    let experiment = experiment::load_str(&text, &desk.path("many.yaml"), &[], &LoadOptions::default()).expect("an experiment");
    let run = |cache: &Cache, progress: &Watching| {
        let options = RunOptions { cache: Some(cache), progress };
        experiment::run(&experiment, &desk.path("results"), &options).expect("results");
    };
    let largest = |folder: &str, limit: u64| {
        let folder = desk.path(folder);
        let watching = Watching { cache: &folder, largest: AtomicU64::new(0) };
        run(&Cache::new(folder.clone(), limit), &watching);
        watching.largest.into_inner()
    };
    let all = largest("all", 1 << 30);
    assert!(all > 2 * LIMIT, "only {all} bytes: they would nearly fit");
    let most = largest("limited", LIMIT);
    assert!((LIMIT / 2..=LIMIT + LIMIT / 5).contains(&most), "{most}");
}

/// Another build may compute something else of the same sources.
#[cfg(unix)]
#[test]
fn what_another_executable_has_computed_is_not_taken() {
    let desk = after_a_run();
    let (ours, copy) = (env!("CARGO_BIN_EXE_attn-circuits"), desk.path("attn-circuits"));
    // By another program: a file that this one has open for writing when it starts any is one that cannot be run.
    let copied = std::process::Command::new("cp").arg(ours).arg(&copy).status().expect("cp");
    assert!(copied.success());
    let run = |program: &str| desk.run_command(&mut desk.command_of(program), &["run", "small.yaml"]).expect(1).stderr;
    let copy = copy.to_str().expect("a path in UTF-8");
    let first = run(copy);
    assert!(first.contains("measuring (9)") && !first.contains("reused"), "{first}");
    for program in [copy, ours] {
        let again = run(program);
        assert!(again.starts_with("small.yaml: up to date"), "{program}: {again}");
    }
}

#[test]
fn without_a_place_for_the_cache_everything_is_computed() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.write("file", "in the way");
    for _ in 0..2 {
        let finished = desk.run(["run", "small.yaml", "--cache", "file"]).expect(1);
        assert!(finished.stderr.contains("note: not everything is kept for later runs: file"), "{finished:#?}");
        assert!(finished.stderr.contains("measuring (9)"), "{finished:#?}");
    }
    assert_eq!(desk.read("file"), "in the way");
}

/// A file that is copied, or an experiment that is moved, needs no second computing: names of folders say nothing.
#[test]
fn the_place_of_a_file_says_nothing() {
    let desk = after_a_run();
    desk.write("other/place/small.yaml", SMALL);
    let moved = desk.run(["run", "other/place/small.yaml", "--out", "out"]).expect(1);
    assert!(moved.stderr.contains(ALL), "{moved:#?}");
    let before = desk.tree("results/small").reproducible();
    assert_same(&before, &desk.tree("out/small").reproducible());
}

/// Reading them must not nest: there are more of them than a stack is deep.
#[test]
fn thousands_of_cached_parts_are_reused() {
    let text = |replicates: usize| {
        format!(
            "title: Many\nmodels:\n  random: {{ kind: random, layers: 1, heads: 1, d_model: 2, vocab: 3, context: 3, \
             replicates: {replicates} }}\ncells:\n  - measure: circuit_size\n"
        )
    };
    let desk = Desk::with("many.yaml", &text(3000));
    desk.run(["run", "many.yaml"]).expect(0);
    desk.write("many.yaml", text(2999));
    let fewer = desk.run(["run", "many.yaml"]).expect(0);
    assert!(fewer.stderr.contains("reused 2999 of 2999 measurements"), "{fewer:#?}");
}
