//! What goes wrong: exit statuses, messages, and that nothing half done is left behind.

use crate::desk::{Desk, SMALL, assert_same, repository};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn bad_experiments() -> Vec<String> {
    let entries = fs::read_dir(repository("tests/bad_experiments")).expect("bad experiments");
    let paths = entries.map(|entry| entry.expect("an entry").path().to_string_lossy().into_owned());
    let mut files: Vec<_> = paths.filter(|path| path.ends_with(".yaml")).collect();
    files.sort();
    assert!(files.len() >= 60, "only {} files", files.len());
    files
}

/// Whether a line of the message is ` --> FILE:LINE:COLUMN`.
fn names_a_place(message: &str, file: &str) -> bool {
    let behind = message.lines().filter_map(|line| line.trim_start().strip_prefix(&format!("--> {file}:")));
    behind.filter_map(|place| place.split_once(':')).any(|(line, column)| {
        let number = |text: &str| text.parse::<u32>().is_ok_and(|number| number >= 1);
        number(line) && number(column)
    })
}

#[test]
fn a_bad_experiment_is_refused_with_its_place_and_nothing_is_written() {
    let desk = Desk::new();
    for file in bad_experiments() {
        let finished = desk.run(["run", &file, "--out", "out"]).expect_error(2, &[]);
        assert!(names_a_place(&finished.stderr, &file), "{finished:#?}");
        assert!(!desk.path("out").exists(), "{file} has left something");
    }
}

#[test]
fn check_refuses_what_run_refuses() {
    let desk = Desk::new();
    for file in bad_experiments().iter().step_by(7) {
        let [run, check] = ["run", "check"].map(|command| desk.run([command, file]).expect_error(2, &[]));
        assert_eq!(run.stderr, check.stderr);
    }
}

#[test]
fn the_problems_of_several_files_are_reported_at_once() {
    let desk = Desk::with("good.yaml", SMALL);
    let [one, other] = ["empty_sweep", "unknown_measure"].map(|name| repository(&format!("tests/bad_experiments/{name}.yaml")));
    let finished = desk.run(["run", "good.yaml", &one, &other]).expect_error(2, &[]);
    assert!(names_a_place(&finished.stderr, &one) && names_a_place(&finished.stderr, &other), "{finished:#?}");
    assert!(!desk.path("results").exists(), "the good one waits for the others");
}

#[test]
fn a_failed_claim_is_exit_status_1_with_the_results_written() {
    let desk = Desk::with("small.yaml", SMALL);
    let finished = desk.run(["run", "small.yaml"]).expect(1);
    let [_, failed] = finished.stdout.split("✗ FAILS").collect::<Vec<_>>()[..] else { panic!("{finished:#?}") };
    // Both sides of what was compared.
    for part in ["Random models have ten million losses.", "COUNT(*) = 30", "MAX(loss) = ", "check: SELECT COUNT(*) = 10000000"]
    {
        assert!(failed.contains(part), "{part}: {finished:#?}");
    }
    assert!(failed.contains("\n1 of 2 claims hold\n"), "{finished:#?}");
    assert!(desk.path("results/small/tables/loss.csv").exists());
    assert!(desk.read("results/small/report.html").contains("Random models have ten million losses."));
}

/// Somebody else's experiment does not get hold of the terminal.
#[test]
fn what_would_steer_a_terminal_is_spelt_out() {
    let desk = Desk::with(
        "small.yaml",
        &SMALL.replace("claim: The wired", "claim: \"\\e[2J\\rThe wired").replace("can be.\n", "can be.\"\n"),
    );
    let finished = desk.run(["run", "small.yaml"]).expect(1);
    assert!(finished.stdout.contains("\\u{1b}[2J\\rThe wired"), "{finished:#?}");
    assert!(!(finished.stdout + &finished.stderr).contains(['\u{1b}', '\r']));
    let check = desk.run(["check", "small.yaml"]).expect(0);
    assert!(!check.stdout.contains('\u{1b}'), "{check:#?}");
}

/// Neither do its tables and its results, when something is wrong with them.
#[test]
fn errors_spell_out_what_would_steer_a_terminal() {
    let query = "query: SELECT model, layer, head, AVG(value) AS value FROM head_scores WHERE score = 'prefix_matching' GROUP BY \
                 model, layer, head\n";
    let other =
        "query: \"SELECT '\\e[2J\\u202eno' AS model, layer, head, value FROM head_scores WHERE score = 'prefix_matching'\"\n";
    assert!(SMALL.contains(query));
    let desk = Desk::with("small.yaml", &SMALL.replace(query, other));
    let finished = desk.run(["run", "small.yaml", "--quiet"]).expect_error(2, &["rows share", "\\u{1b}[2J\\u{202e}no"]);
    assert!(!finished.stderr.contains(['\u{1b}', '\u{202e}']), "{finished:#?}");

    desk.write("small.yaml", SMALL);
    desk.run(["run", "small.yaml", "--quiet"]).expect(1);
    let manifest = desk.read("results/small/manifest.json");
    desk.write("results/small/manifest.json", manifest.replace("\"heatmap\"", "\"he\\u001b[2Jat\""));
    let finished = desk.run(["figures", "results/small"]).expect_error(2, &["there is no figure `he\\u{1b}[2Jat`"]);
    assert!(!finished.stderr.contains('\u{1b}'), "{finished:#?}");

    // The problems of several files are shown together, each in its way.
    desk.write("bad.yaml", "title: [");
    let finished =
        desk.run(["check", "bad.yaml", "no\u{1b}[31m.yaml"]).expect_error(2, &["--> bad.yaml:", "no\\u{1b}[31m.yaml"]);
    assert!(!finished.stderr.contains('\u{1b}'), "{finished:#?}");
}

/// A claim is not true because there was nothing to look at.
#[test]
fn a_claim_about_no_rows_fails() {
    let check = "SELECT MAX(loss) > 1 FROM loss WHERE model = 'randon'";
    let text = SMALL.replace("SELECT COUNT(*) = 10000000 AND MAX(loss) > 1 FROM loss WHERE model = 'random'", check);
    let desk = Desk::with("small.yaml", &text);
    let finished = desk.run(["run", "small.yaml"]).expect(1);
    assert!(finished.stdout.contains("✗ FAILS"), "{finished:#?}");
    assert!(finished.stdout.contains("MAX(loss) = null"), "{finished:#?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_exit_status_3() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.write("file", "in the way");
    desk.run(["run", "small.yaml", "--out", "file/out", "--quiet"]).expect_error(3, &["file/out"]);
    assert_eq!(desk.tree("").names(), ["file", "small.yaml"]);
}

#[test]
fn a_missing_experiment_file_is_named() {
    let desk = Desk::with("folder/small.yaml", SMALL);
    for command in ["run", "check"] {
        desk.run([command, "nowhere.yaml"]).expect_error(2, &["nowhere.yaml: there is no such file"]);
        desk.run([command, "folder"]).expect_error(2, &["folder: is a folder; name an experiment file in it"]);
    }
}

/// What the cells of its file need is no reason not to write a model.
#[test]
fn a_model_is_exported_if_it_fits_by_itself() {
    let desk = Desk::with("large.yaml", &SMALL.replace("sequences: 4", "sequences: 400000000"));
    desk.run(["check", "large.yaml", "--memory-limit", "1GiB"]).expect_error(2, &["the run needs about"]);
    desk.run(["export", "large.yaml", "random", "--out", "files", "--memory-limit", "1GiB"]).expect(0);
    let refused = desk.run(["export", "large.yaml", "random", "--memory-limit", "1k"]);
    refused
        .expect_error(2, &["large.yaml: writing model `random` takes about ", "the memory limit is 1.0 KiB; `--memory-limit`"]);
    assert_eq!(desk.tree("").names(), ["files/config.json", "files/weights.safetensors", "large.yaml"]);
}

#[test]
fn unknown_commands_and_options_are_exit_status_2() {
    let desk = Desk::new();
    desk.run(["rnu", "x.yaml"]).expect_error(2, &["'rnu'"]);
    desk.run(["run", "x.yaml", "--thread", "2"]).expect_error(2, &["'--thread'", "--threads"]);
    desk.run(["run", "x.yaml", "--threads", "0"]).expect_error(2, &["--threads"]);
    desk.run(["run"]).expect_error(2, &["FILE"]);
    desk.run(["check", "x.yaml", "--set", "models.wired.noise"]).expect_error(2, &["PATH=VALUE"]);
}

#[test]
fn a_bad_second_run_leaves_the_first_results() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let first = desk.tree("results");
    desk.write("small.yaml", SMALL.replace("measure: loss", "measure: los"));
    desk.run(["run", "small.yaml"]).expect_error(2, &["did you mean `loss`?"]);
    assert_same(&first, &desk.tree("results"));

    // The other kind of bad run: one that is found only when the figure is drawn.
    desk.write("small.yaml", SMALL.replace("GROUP BY model, layer, head", "GROUP BY model, layer, head, replicate"));
    desk.run(["run", "small.yaml", "--quiet"]).expect_error(2, &["error: small.yaml: figure 1 (matching) cannot be drawn: "]);
    assert_same(&first, &desk.tree("results"));
}

#[test]
fn a_second_run_leaves_nothing_of_the_first() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    desk.write("small.yaml", SMALL.replace("name: matching", "name: prefix").replace("of: matching", "of: prefix"));
    desk.run(["run", "small.yaml"]).expect(1);
    let tree = desk.tree("results");
    assert!(tree.names().contains(&"small/figures/01-prefix.svg"), "{:?}", tree.names());
    assert!(tree.names().iter().all(|name| !name.contains("matching")), "{:?}", tree.names());
}

#[test]
fn files_of_someone_else_are_not_touched() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.write("results/small/thesis.txt", "years of work");
    let before = desk.tree("");
    desk.run(["run", "small.yaml", "--quiet"]).expect_error(2, &["results/small: is in the way", "choose another --out"]);
    assert_same(&before, &desk.tree(""));

    // A file where the folder should stand is in the way as well.
    let desk = Desk::with("small.yaml", SMALL);
    desk.write("results/small", "years of work");
    let before = desk.tree("");
    desk.run(["run", "small.yaml", "--quiet"]).expect_error(2, &["results/small: is in the way"]);
    assert_same(&before, &desk.tree(""));
}

/// `list | head` closes the pipe before everything is written.
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for arguments in [&["list"][..], &["schema"], &["describe", "wired"], &["check", &repository("experiments/induction.yaml")]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_attn-circuits"));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().expect("the program starts");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_device_without_room_is_exit_status_3() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_attn-circuits"));
    let output = command.arg("list").stdout(full).stderr(Stdio::piped()).output().expect("the program starts");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.starts_with("error: standard output: "), "{message}");
}
