//! `verify`: run again elsewhere, and compared.

use crate::desk::{Desk, SMALL, TOKENS, Tree, assert_golden, assert_same, hash, reading_tokens};
use attn_circuits::store::{parquet_table, to_csv, to_parquet};
use polars::prelude::{DataFrame, Float64Chunked, IntoColumn, NamedFrom, Series};
use serde_json::Value;
use std::fs;

const RESULTS: &str = "results/small";
const SAME: &str = "results/small: the same to the byte (4 tables, 1 figure, 1 of 2 claims hold)\n";

fn after_a_run() -> Desk {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml", "--quiet"]).expect(1);
    desk
}

/// Verifies what lies there, which must not change by it; answers with what was said.
#[track_caller]
fn verify(desk: &Desk, arguments: &[&str], status: i32) -> String {
    let before = desk.tree("");
    let finished = desk.run(["verify"].iter().chain(arguments)).expect(status);
    assert_same(&before, &desk.tree(""));
    finished.stdout
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
}

fn edit(desk: &Desk, path: &str, from: &str, to: &str) {
    let text = desk.read(path);
    assert!(text.contains(from), "no `{from}` in {path}");
    desk.write(path, text.replacen(from, to, 1));
}

fn edit_manifest(desk: &Desk, change: impl FnOnce(&mut Value)) {
    let path = format!("{RESULTS}/manifest.json");
    let mut manifest: Value = serde_json::from_str(&desk.read(&path)).unwrap();
    change(&mut manifest);
    desk.write(&path, serde_json::to_string_pretty(&manifest).unwrap() + "\n");
}

/// Replaces both files of a table, and their hashes in the manifest: only another run can tell.
fn rewrite(desk: &Desk, name: &str, change: impl FnOnce(&mut DataFrame)) {
    let path = |end: &str| format!("{RESULTS}/tables/{name}.{end}");
    let mut table = parquet_table(fs::read(desk.path(&path("parquet"))).unwrap(), &desk.path(&path("parquet"))).unwrap();
    change(&mut table);
    let (csv, parquet) = (to_csv(&table).unwrap(), to_parquet(&table).unwrap());
    edit_manifest(desk, |manifest| {
        manifest["tables"][name]["csv"] = hash(&csv).into();
        manifest["tables"][name]["parquet"] = hash(&parquet).into();
        manifest["tables"][name]["rows"] = table.height().into();
    });
    desk.write(&path("csv"), csv);
    desk.write(&path("parquet"), parquet);
}

fn map_numbers(table: &mut DataFrame, column: &str, change: impl Fn(usize, f64) -> f64) {
    let numbers = table.column(column).unwrap().f64().unwrap().clone();
    let changed = numbers.iter().enumerate().map(|(row, value)| value.map(|value| change(row, value)));
    let changed: Vec<Option<f64>> = changed.collect();
    table.with_column(Float64Chunked::new(column.into(), changed).into_column()).unwrap();
}

#[test]
fn what_a_run_wrote_is_verified_to_the_byte() {
    let desk = after_a_run();
    for arguments in
        [&[][..], &[RESULTS], &["small.yaml"], &["results"], &["small", "--threads", "1"], &[RESULTS, "--tolerance", "0"]]
    {
        assert_eq!(verify(&desk, arguments, 0), SAME, "{arguments:?}");
    }
    assert_eq!(verify(&desk, &["--quiet"], 0), "");
    let finished = desk.run(["verify"]).expect(0);
    assert_eq!(finished.stderr, "results/small: measuring (9)\nresults/small: asking (3)\nresults/small: drawing (1)\n");
}

#[test]
fn the_limit_of_the_memory_that_an_error_names_can_be_set() {
    let desk = after_a_run();
    let parts = ["the memory limit is 40.0 KiB", "`--memory-limit` sets the limit"];
    desk.run(["verify", "--memory-limit", "40k"]).expect_error(2, &parts);
    assert_eq!(verify(&desk, &["--memory-limit", "4GiB"], 0), SAME);
}

#[test]
fn what_is_not_committed_may_be_missing() {
    let desk = after_a_run();
    fs::remove_file(desk.path("results/small/run.json")).unwrap();
    fs::remove_file(desk.path("results/small/figures/01-matching.png")).unwrap();
    assert_eq!(verify(&desk, &[], 0), SAME);
}

#[test]
fn a_changed_cell_is_named_with_its_row_and_both_values() {
    let desk = after_a_run();
    let path = "results/small/tables/loss.csv";
    let line = desk.read(path).lines().nth(3).unwrap().to_string();
    let value = line.rsplit(',').nth(1).unwrap().to_string();
    edit(&desk, path, &value, "0.125");
    let said = verify(&desk, &[], 1);
    let what =
        ["tables/loss.csv is not what the manifest says\n", "tables/loss.csv: 1 of 45 values differs by more than 1e-4\n"];
    assert_says(&said, &what);
    assert_says(&said, &[&format!("model = random, replicate = 1, position = 2: loss is 0.125 stored, {value} now\n")]);
    // The other file of the table is as it was.
    assert!(said.starts_with("results/small: DIFFERS\n") && !said.contains("loss.parquet"), "{said}");
    // A cell that is no number at all.
    edit(&desk, path, "0.125", "many");
    assert_says(&verify(&desk, &[], 1), &["column loss: str stored, f64 now", &format!("loss is many stored, {value} now\n")]);
    // A line too many, and a file that is no table.
    desk.write(path, desk.read(path).replace("many", &value) + "zebra,1,0,,0.5,0.5\n");
    assert_says(&verify(&desk, &[], 1), &["only stored: 1 row, the first model = zebra"]);
    desk.write(path, "a,b\n1,2,3,4\n");
    assert_says(&verify(&desk, &[], 1), &["loss.csv: cannot be read as a table"]);
}

/// Somebody has changed a table, and its hashes with it.
#[test]
fn values_are_compared_and_not_only_hashes() {
    let desk = after_a_run();
    rewrite(&desk, "head_scores", |table| {
        map_numbers(table, "value", |row, value| if [3, 77].contains(&row) { value + 0.5 } else { value })
    });
    let said = verify(&desk, &[], 1);
    assert_says(&said, &["tables/head_scores.csv: 2 of 200 values differ by more than 1e-4\n"]);
    assert!(!said.contains("is not what the manifest says"), "{said}");
    assert_eq!(said.matches(" stored, ").count(), 2, "each once, though both files say it: {said}");
    assert_golden("verify.stdout", &said.lines().map(|line| rounded(line) + "\n").collect::<String>());
}

/// Numbers with three digits: their last ones are those of the processor.
fn rounded(line: &str) -> String {
    let word = |word: &str| match word.parse::<f64>() {
        Ok(number) if word.contains('.') => format!("{number:.3}"),
        _ => word.to_string(),
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// As another kind of processor would have it: last digits everywhere.
#[test]
fn last_digits_are_within_the_tolerance_and_said_to_be() {
    let desk = after_a_run();
    rewrite(&desk, "loss", |table| map_numbers(table, "loss", |_, value| value * (1.0 + 1e-6)));
    let said = verify(&desk, &[], 0);
    assert_says(
        &said,
        &["results/small: the same values within 1e-4, other bytes (4 tables", "table loss: 45 values differ by "],
    );
    assert_eq!(verify(&desk, &["--quiet"], 0), "");
    // What that makes of the figures is no further fault.
    desk.write("results/small/report.html", "<p>Other digits");
    edit_manifest(&desk, |manifest| manifest["artifacts"][2]["blake3"] = hash(b"<p>Other digits").into());
    assert_says(&verify(&desk, &[], 0), &["note: 1 of 3 files of figures and report differs\n"]);
    let said = verify(&desk, &["--tolerance", "1e-8"], 1);
    assert_says(&said, &[" of 45 values differ by more than 1e-8\n"]);
    // Large numbers are compared by their share, small ones by the difference.
    let desk = after_a_run();
    rewrite(&desk, "loss", |table| map_numbers(table, "loss", |_, value| value + 2e-4));
    verify(&desk, &[], 1);
    verify(&desk, &["--tolerance", "3e-4"], 0);
}

#[test]
fn null_and_what_is_no_number_are_no_last_digits() {
    for (column, change) in [("loss", f64::NAN), ("loss", f64::INFINITY), ("accuracy", -0.5)] {
        let desk = after_a_run();
        rewrite(&desk, "loss", |table| map_numbers(table, column, |row, value| if row == 0 { change } else { value }));
        assert_says(&verify(&desk, &["--tolerance", "0.1"], 1), &["1 of ", &format!("{column} is ")]);
    }
    let desk = after_a_run();
    rewrite(&desk, "loss", |table| {
        let nulls = Series::new("loss".into(), vec![None::<f64>; table.height()]);
        table.with_column(nulls.into_column()).unwrap();
    });
    assert_says(&verify(&desk, &[], 1), &["45 of 45 values differ", "loss is null stored, "]);
    // Words are compared exactly.
    let desk = after_a_run();
    rewrite(&desk, "matching", |table| {
        let names = Series::new("model".into(), vec!["randon", "random", "random", "random", "wired", "wired"]);
        table.with_column(names.into_column()).unwrap();
    });
    assert_says(
        &verify(&desk, &[], 1),
        &["only stored: 1 row, the first model = randon", "not stored: 1 row, the first model = random"],
    );
}

#[test]
fn rows_columns_and_tables_are_counted() {
    let desk = after_a_run();
    rewrite(&desk, "loss", |table| *table = table.head(Some(40)));
    assert_says(
        &verify(&desk, &[], 1),
        &["tables/loss.csv: not the same columns and rows", "not stored: 5 rows, the first model = wired"],
    );
    let desk = after_a_run();
    rewrite(&desk, "loss", |table| drop(table.drop_in_place("accuracy").unwrap()));
    assert_says(&verify(&desk, &[], 1), &["not stored: column accuracy (f64)"]);
    let desk = after_a_run();
    rewrite(&desk, "loss", |table| *table = table.reverse());
    assert_says(&verify(&desk, &[], 0), &["other bytes", "table loss: all values are equal, rows in another order"]);

    for (name, parts) in [
        ("loss", ["table loss is not stored, but the experiment makes it", ""]),
        ("", ["tables/spare.csv lies among the results, but no run wrote it", ""]),
    ] {
        let desk = after_a_run();
        if name.is_empty() {
            desk.write("results/small/tables/spare.csv", "x\n1\n");
        } else {
            edit_manifest(&desk, |manifest| drop(manifest["tables"].as_object_mut().unwrap().remove(name)));
        }
        assert_says(&verify(&desk, &[], 1), &parts);
    }
    let desk = after_a_run();
    for end in ["csv", "parquet"] {
        fs::copy(
            desk.path(&format!("results/small/tables/loss.{end}")),
            desk.path(&format!("results/small/tables/more.{end}")),
        )
        .unwrap();
    }
    edit_manifest(&desk, |manifest| manifest["tables"]["more"] = manifest["tables"]["loss"].clone());
    assert_says(&verify(&desk, &[], 1), &["table more is stored, but the experiment makes none of this name"]);
}

#[test]
fn missing_files_are_named() {
    for path in ["tables/loss.csv", "tables/loss.parquet", "figures/01-matching.svg", "report.html"] {
        let desk = after_a_run();
        fs::remove_file(desk.path(&format!("{RESULTS}/{path}"))).unwrap();
        assert_says(&verify(&desk, &[], 1), &[&format!("{path} cannot be read\n"), "is missing; `run` makes it anew"]);
    }
    let desk = after_a_run();
    fs::remove_file(desk.path("results/small/experiment.yaml")).unwrap();
    desk.run(["verify"]).expect_error(2, &["experiment.yaml: is missing"]);
}

#[test]
fn verdicts_and_numbers_of_claims_are_compared() {
    let desk = after_a_run();
    edit_manifest(&desk, |manifest| manifest["cells"][7]["holds"] = true.into());
    assert_says(&verify(&desk, &[], 1), &["claim: Random models have ten million losses.\n    holds stored, fails now\n"]);
    let desk = after_a_run();
    edit_manifest(&desk, |manifest| manifest["cells"][6]["numbers"][0][1] = 0.5.into());
    assert_says(&verify(&desk, &[], 1), &["claim: The wired pair is composed", "score is 0.5 stored, 0.333333 now\n"]);
    let desk = after_a_run();
    edit_manifest(&desk, |manifest| manifest["cells"][6]["numbers"][0][1] = 0.333334.into());
    verify(&desk, &[], 0);
    let desk = after_a_run();
    edit_manifest(&desk, |manifest| drop(manifest["cells"][6]["numbers"].as_array_mut().unwrap().pop()));
    assert_says(&verify(&desk, &[], 1), &["not the same numbers"]);
}

#[test]
fn figures_and_report_are_compared_by_their_hash() {
    let desk = after_a_run();
    edit(&desk, "results/small/figures/01-matching.svg", "<title>", "<title>Not ");
    assert_says(&verify(&desk, &[], 1), &["figures/01-matching.svg is not what the manifest says"]);
    // With its hash in the manifest it is still not what these tables make.
    let bytes = fs::read(desk.path("results/small/figures/01-matching.svg")).unwrap();
    edit_manifest(&desk, |manifest| manifest["artifacts"][0]["blake3"] = hash(&bytes).into());
    let what = "1 of 3 files of figures and report differs, though all values are the same\n    figures/01-matching.svg\n";
    assert_says(&verify(&desk, &[], 1), &[what]);
    let desk = after_a_run();
    edit_manifest(&desk, |manifest| drop(manifest["artifacts"].as_array_mut().unwrap().remove(0)));
    assert_says(&verify(&desk, &[], 1), &["figures/01-matching.svg is not stored, but the experiment makes it"]);
}

#[test]
fn the_manifest_must_say_what_was_run() {
    let desk = after_a_run();
    edit(&desk, "results/small/experiment.yaml", "title: Prefix matching", "title: Suffix matching");
    let said = verify(&desk, &[], 1);
    assert_says(
        &said,
        &["manifest.json does not say what experiment.yaml says", "\"Prefix matching\" stored, \"Suffix matching\" now"],
    );
    let desk = after_a_run();
    edit_manifest(&desk, |manifest| manifest["models"][1]["stream"] = "00".into());
    assert_says(&verify(&desk, &[], 1), &["models[1].stream: \"00\" stored, "]);
    let desk = after_a_run();
    edit_manifest(&desk, |manifest| manifest["program"] = "attn-circuits 0.0.1".into());
    let said = verify(&desk, &[], 0);
    assert_says(&said, &["note: made by attn-circuits 0.0.1, verified by attn-circuits "]);
}

/// What is verified is what was run; that the file says something else by now is said.
#[test]
fn a_changed_experiment_file_is_noted() {
    let desk = after_a_run();
    desk.write("small.yaml", SMALL.replace("seed: 7", "seed: 8"));
    for arguments in [&[][..], &["small.yaml"]] {
        let said = verify(&desk, arguments, 0);
        assert_says(
            &said,
            &["the same to the byte", "small.yaml has changed since these results were made; what is verified is the text"],
        );
    }
}

#[test]
fn overrides_of_the_run_are_applied_again() {
    let desk = Desk::with("small.yaml", SMALL);
    let set = ["--set", "seed=11", "--set", "models.wired.noise=1e-3", "--set", "title='a: b'"];
    desk.run(["run", "small.yaml", "--quiet"].iter().chain(&set)).expect(1);
    assert_eq!(verify(&desk, &[], 0), SAME.replace("1 of 2", "0 of 2"));
    // Without them it is another experiment.
    edit_manifest(&desk, |manifest| drop(manifest["overrides"].as_object_mut().unwrap().remove("seed")));
    assert_says(&verify(&desk, &[], 1), &["seed: 11 stored, 7 now"]);
}

#[test]
fn files_that_the_experiment_names_are_found_from_its_own_folder() {
    // In the folder `experiments`, as here.
    let desk = Desk::with("experiments/small.yaml", &reading_tokens("tokens.json"));
    desk.write("experiments/tokens.json", TOKENS);
    desk.run(["run", "experiments/small.yaml", "--quiet"]).expect(1);
    let said = verify(&desk, &[], 0);
    assert_says(&said, &["the same to the byte"]);
    // Elsewhere it has to be named.
    fs::rename(desk.path("experiments"), desk.path("mine")).unwrap();
    let message = desk.run(["verify"]).expect_error(2, &["`small.yaml` was not found", "name the file itself", "tokens.json"]);
    assert!(message.stderr.contains("/experiments, "), "where was looked: {message:#?}");
    assert_eq!(verify(&desk, &["mine/small.yaml"], 0), said);
    // Without files that it names, the stored text is enough.
    let desk = after_a_run();
    fs::remove_file(desk.path("small.yaml")).unwrap();
    assert_eq!(verify(&desk, &[], 0), SAME);
}

/// The reason stands before what comes of it.
#[test]
fn a_file_that_is_another_one_now_is_named_first() {
    let desk = Desk::with("small.yaml", &reading_tokens("tokens.json"));
    desk.write("tokens.json", TOKENS);
    desk.run(["run", "small.yaml", "--quiet"]).expect(1);
    let same = verify(&desk, &[], 0);
    desk.write("tokens.json", TOKENS.replace("3]", "4]"));
    let said = verify(&desk, &[], 1);
    assert!(said.starts_with("results/small: DIFFERS\n"), "{said}");
    let (file, table) =
        (said.find("\n  tokens.json is another file now than the one that was read\n"), said.find("\n  tables/"));
    assert!(file.is_some() && file < table, "{said}");
    assert_says(&said, &[&format!("    BLAKE3 {} stored, ", hash(TOKENS.as_bytes()))]);
    // What changes no table is another file all the same.
    desk.write("tokens.json", format!("{TOKENS} "));
    let said = verify(&desk, &[], 1);
    assert_says(&said, &["  tokens.json is another file now"]);
    assert!(!said.contains("tables/"), "{said}");
    // A file more, and a file less, than the experiment reads.
    desk.write("tokens.json", TOKENS);
    edit_manifest(&desk, |manifest| manifest["files"]["more.json"] = hash(b"").into());
    assert_says(&verify(&desk, &[], 1), &["more.json is in manifest.json, but the experiment does not read it"]);
    edit_manifest(&desk, |manifest| drop(manifest["files"].as_object_mut().unwrap().remove("tokens.json")));
    assert_says(&verify(&desk, &[], 1), &["tokens.json is not in manifest.json, but the experiment reads it"]);
    // Manifests of before have none.
    edit_manifest(&desk, |manifest| drop(manifest.as_object_mut().unwrap().remove("files")));
    assert_eq!(verify(&desk, &[], 0), same);
}

#[test]
fn all_results_are_verified_and_each_has_its_verdict() {
    let desk = Desk::new();
    for name in ["a", "b", "c"] {
        desk.write(&format!("{name}.yaml"), SMALL);
        desk.run(["run", &format!("{name}.yaml"), "--quiet"]).expect(1);
    }
    edit(&desk, "results/b/tables/loss.csv", "0,", "1,");
    let before = desk.tree("");
    let said = verify(&desk, &[], 1);
    assert_says(
        &said,
        &["results/a: the same to the byte", "results/b: DIFFERS", "results/c: the same to the byte", "\n2 of 3 verified\n"],
    );
    assert!(!verify(&desk, &["--quiet"], 1).contains("results/a"));
    // One that cannot be verified does not keep the others from it.
    desk.write("results/b/experiment.yaml", "title: [");
    let finished = desk.run(["verify"]).expect(2);
    assert_says(&finished.stdout, &["results/a: the same to the byte", "results/c: the same to the byte", "2 of 3 verified"]);
    assert!(finished.stderr.contains("error"), "{finished:#?}");
    desk.write("results/b/manifest.json", "{}");
    let finished = desk.run(["verify", "results/a", "results/b"]).expect(2);
    assert!(finished.stderr.contains("is not a manifest of this version"), "{finished:#?}");
    let kept = |tree: Tree| tree.0.into_iter().filter(|(name, _)| name.starts_with("results/a")).collect::<Vec<_>>();
    assert_eq!(kept(before), kept(desk.tree("")));
}

#[test]
fn what_is_no_tolerance_is_refused() {
    let desk = after_a_run();
    for tolerance in ["-1", "nan", "inf", "small"] {
        desk.run(["verify", &format!("--tolerance={tolerance}")]).expect_error(2, &["--tolerance"]);
    }
    desk.run(["verify", "nowhere"]).expect_error(2, &["nowhere: is not there"]);
}
