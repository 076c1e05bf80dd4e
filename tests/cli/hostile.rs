//! Input that means no good: it is refused in bounded time, and nothing is read or written that it should not touch.

use crate::desk::{Desk, Finished, SMALL, assert_same, hash, repository};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::process::Command;

/// Runs the program; one that hangs is stopped, and its exit status then is none of the program's.
fn run(desk: &Desk, arguments: &[&str]) -> Finished {
    desk.run_command(desk.command_of("timeout").args(["600", env!("CARGO_BIN_EXE_attn-circuits")]), arguments)
}

const READS_FILES: &str = "\
title: Files
models:
  mine: { kind: import, weights: weights.safetensors, config: config.json }
inputs:
  json: { kind: tokens, file: tokens.json }
  safe: { kind: tokens, file: tokens.safetensors }
cells:
  - { measure: loss, input: json, name: a }
  - { measure: loss, input: safe, name: b }
  - measure: circuit_table
    circuits: [full_ov]
  - figure: circuit_matrix
    of: circuit_table
    title: Names
    tokens: names.json
";

/// A desk on which [`READS_FILES`] is in order.
fn with_files() -> Desk {
    let desk = Desk::with("files.yaml", READS_FILES);
    for name in ["weights.safetensors", "config.json"] {
        desk.write(name, fs::read(repository(&format!("tests/oracle/one_layer/{name}"))).expect("a file"));
    }
    desk.write("tokens.json", "[[0, 1, 2]]");
    desk.write("names.json", serde_json::to_string(&vec!["x"; 24]).unwrap());
    let tokens = [0u8, 3, 5];
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![3], &tokens).unwrap();
    desk.write("tokens.safetensors", safetensors::serialize([("tokens", view)], None).unwrap());
    desk
}

const FILES: [&str; 6] =
    ["files.yaml", "weights.safetensors", "config.json", "tokens.json", "tokens.safetensors", "names.json"];

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let desk = with_files();
    run(&desk, &["check", "files.yaml"]).expect(0);
    for name in FILES {
        let path = desk.path(name);
        let kept = fs::read(&path).unwrap();
        for (what, words) in
            [("pipe", "is a named pipe, not a file"), ("zero", "is a device, not a file"), ("folder", "is a folder")]
        {
            fs::remove_file(&path).unwrap();
            match what {
                "pipe" => assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()),
                "zero" => symlink("/dev/zero", &path).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            for command in ["check", "run"] {
                let finished = run(&desk, &[command, "files.yaml"]).expect_error(2, &[name, words]);
                assert!(name == "files.yaml" || finished.stderr.contains("--> files.yaml:"), "{finished:#?}");
            }
            if what == "folder" {
                fs::remove_dir(&path).unwrap()
            } else {
                fs::remove_file(&path).unwrap()
            }
            // A link to a file is as good as the file.
            desk.write("elsewhere/file", &kept);
            symlink(desk.path("elsewhere/file"), &path).unwrap();
            run(&desk, &["check", "files.yaml"]).expect(0);
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, &kept).unwrap();
    }
    assert!(!desk.path("results").exists());
}

#[test]
fn empty_and_endless_files_are_refused() {
    let desk = with_files();
    for name in FILES {
        let kept = fs::read(desk.path(name)).unwrap();
        desk.write(name, "");
        run(&desk, &["check", "files.yaml"])
            .expect_error(2, &["files.yaml:", if name == "files.yaml" { "empty" } else { name }]);
        // A sparse file takes no room on the disk; what would read it whole takes all memory.
        fs::File::options().write(true).open(desk.path(name)).unwrap().set_len(1 << 40).unwrap();
        run(&desk, &["check", "files.yaml"]).expect_error(2, &[name]);
        fs::remove_file(desk.path(name)).unwrap();
        desk.write(name, kept);
    }
}

#[test]
fn weights_that_are_no_numbers_are_named_with_file_and_index() {
    let desk = with_files();
    let mut bytes = fs::read(desk.path("weights.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
    let info: serde_json::Value = serde_json::from_str(&text).unwrap();
    let start = info["blocks.0.attn.W_Q"]["data_offsets"][0].as_u64().unwrap() as usize;
    // [4, 32, 8]: the number at [2, 5, 1].
    let at = header + start + 4 * ((2 * 32 + 5) * 8 + 1);
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinite")] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        desk.write("weights.safetensors", &bytes);
        let words = format!("weights.safetensors: blocks.0.attn.W_Q[2, 5, 1] is {word}");
        run(&desk, &["run", "files.yaml", "-q"]).expect_error(2, &[&words]);
        assert!(!desk.path("results/files").exists());
    }
}

#[test]
fn a_results_folder_is_never_called_dot_dot() {
    let desk = Desk::new();
    desk.write("deep/er/keep.txt", "kept");
    for name in ["..yaml", "...yaml", ".yaml", "....yaml", "a\nb.yaml", "con.yaml", "a\u{1b}[2J.yaml"] {
        desk.write(&format!("deep/{name}"), SMALL);
        let path = format!("deep/{name}");
        let before = desk.tree("");
        for command in ["run", "check"] {
            let finished = run(&desk, &[command, &path, "--out", "deep/er/out"][..if command == "run" { 4 } else { 2 }]);
            finished.expect_error(2, &["the results folder is called like the file: rename it"]);
        }
        assert_same(&before, &desk.tree(""));
        fs::remove_file(desk.path(&path)).unwrap();
    }
    desk.write("-x.yaml", SMALL);
    run(&desk, &["run", "-q", "--", "-x.yaml"]).expect(1);
    assert!(desk.path("results/-x/report.html").exists());
    // A name that is not UTF-8.
    let name = std::ffi::OsString::from_vec(b"a\xff.yaml".to_vec());
    fs::write(desk.path("").join(&name), SMALL).unwrap();
    let output = desk.command().arg("run").arg(&name).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not UTF-8"), "{output:?}");
}

#[test]
fn a_tampered_manifest_leads_nowhere() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    desk.write("secret.csv", "secret");
    desk.write("results/secret.csv", "secret");
    let manifest = desk.read("results/small/manifest.json");
    for (from, to) in [
        ("\"loss\": {", "\"../../secret\": {"),
        ("\"loss\": {", "\"..\": {"),
        ("\"loss\": {", "\"\": {"),
        ("\"name\": \"matching\"", "\"name\": \"../../../matching\""),
        ("\"name\": \"matching\"", "\"name\": \"a/b\""),
        ("\"name\": \"matching\"", "\"name\": \"a\\u0000\""),
        ("\"path\": \"report.html\"", "\"path\": \"../secret.csv\""),
        ("\"path\": \"report.html\"", "\"path\": \"/etc/passwd\""),
        ("\"path\": \"report.html\"", "\"path\": \"figures/./../../x\""),
        ("\"path\": \"report.html\"", "\"path\": \"C:\\\\x\""),
    ] {
        let tampered = manifest.replace(from, to);
        assert_ne!(tampered, manifest, "{from}");
        desk.write("results/small/manifest.json", &tampered);
        let before = desk.tree("");
        desk.run(["figures", "results/small"]).expect_error(2, &["manifest.json: holds `"]);
        assert_same(&before, &desk.tree(""));
    }
    // Links out of the folder would become a part of the report.
    desk.write("results/small/manifest.json", &manifest);
    for name in ["experiment.yaml", "tables/loss.csv", "run.json"] {
        let path = desk.path(&format!("results/small/{name}"));
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(desk.path("secret.csv"), &path).unwrap();
        desk.run(["figures", "results/small"]).expect_error(2, &[name, "is a link out of the folder"]);
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
    }
    desk.run(["figures", "results/small"]).expect(0);
}

/// Whoever has changed a table may have changed its hash in the manifest, too.
#[test]
fn a_damaged_table_is_an_error_or_a_difference() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml", "-q"]).expect(1);
    let path = "results/small/tables/loss.parquet";
    let manifest = desk.read("results/small/manifest.json");
    let sound = fs::read(desk.path(path)).unwrap();
    // A list that would have more elements than there is memory.
    let list = [0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07];
    for (damaged, why) in [
        (sound[..sound.len() / 2].to_vec(), "it is no Parquet file"),
        ([&sound[..sound.len() - 8], &[0xff; 4], b"PAR1"].concat(), "its footer is longer than it can be"),
        ([b"PAR1", &list[..], &[list.len() as u8, 0, 0, 0], b"PAR1"].concat(), "its footer cannot be read"),
    ] {
        desk.write(path, &damaged);
        run(&desk, &["figures", "results/small"]).expect_error(2, &["loss.parquet: is not what the run wrote"]);
        let said = run(&desk, &["verify"]).expect(1).stdout;
        assert!(said.contains("tables/loss.parquet is not what the manifest says") && said.contains(why), "{said}");
        desk.write("results/small/manifest.json", manifest.replace(&hash(&sound), &hash(&damaged)));
        for arguments in [&["figures", "results/small"][..], &["figures", "results/small", "--out", "drawn"]] {
            run(&desk, arguments).expect_error(2, &["loss.parquet: cannot be read as a table", why, "`run` makes it anew"]);
        }
        let said = run(&desk, &["verify"]).expect(1).stdout;
        assert!(said.contains("results/small: DIFFERS") && said.contains(why), "{said}");
        desk.write("results/small/manifest.json", &manifest);
    }
    desk.write(path, &sound);
    run(&desk, &["verify"]).expect(0);
}

/// Whatever is there in great numbers is refused, or run, in time that does not grow with its square.
#[test]
fn large_files_take_bounded_time() {
    let head = "title: Many\nmodels:\n  m: { kind: random, layers: 1, heads: 1, d_model: 2, vocab: 9, context: 5 }\n";
    let tail = "inputs:\n  i: { kind: tokens, tokens: [[0, 1]] }\ncells:\n  - measure: loss\n";
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let desk = Desk::new();
    for (what, text, words) in [
        (
            "models",
            format!("{head}{}{tail}", many(100_000, &|i| format!("  m{i}: {{ kind: no }}\n"))),
            "a map of at most 1000 entries",
        ),
        (
            "cells",
            format!("{head}{tail}{}", many(100_000, &|i| format!("  - measure: l{i}\n"))),
            "a list of at most 1000 items",
        ),
        ("inputs", format!("{head}inputs:\n{}", many(100_000, &|i| format!("  i{i}:\n"))), "more problems are not shown"),
        ("keys", format!("{head}{tail}{}", many(100_000, &|i| format!("k{i}: 1\n"))), "unknown key `k0`"),
        ("duplicates", format!("{head}{tail}{}", "title: x\n".repeat(100_000)), "the key `title` is here twice"),
        ("a long line", format!("{head}{tail}x: [{}]\n", "\"a\", ".repeat(400_000)), "unknown key `x`"),
        ("a long key", format!("{head}{tail}{}: 1\n", "k".repeat(1000)), "unknown key `kkk"),
        ("a long name", format!("{head}  {}: {{ kind: random }}\n{tail}", "n".repeat(1000)), "longer than 100 characters"),
        (
            "sweeps",
            format!(
                "{head}  w: {{ kind: random, layers: 1, heads: 1, d_model: 2, vocab: 9, context: 5, sweep: {{ std: [{}] }} }}\n{tail}",
                many(10_001, &|i| format!("{i}, "))
            ),
            "10001 models, and 10000 is the most",
        ),
        (
            "replicates",
            format!("{}{tail}", head.replace("context: 5", "context: 5, replicates: 4000000000")),
            "100000 is the most",
        ),
        ("merges", format!("{head}{tail}a: {{ <<: {{ x: 1 }}, <<: {{ y: 1 }} }}\n"), "the merge key `<<` is here twice"),
    ] {
        desk.write("many.yaml", text);
        let finished = run(&desk, &["check", "many.yaml"]).expect_error(2, &[words, "--> many.yaml:"]);
        assert!(finished.stderr.len() < 1 << 20, "{what}: {} bytes of words", finished.stderr.len());
    }
    // What is no mistake is run to its end: the report shows it, and the page over all results, for which others wait meanwhile.
    for (what, about) in [("sentences", format!("  {}\n", "a?".repeat(500_000))), ("headings", "  # a\n".repeat(100_000))] {
        desk.write("many.yaml", format!("about: |\n{about}{head}{tail}"));
        run(&desk, &["run", "many.yaml", "-q"]).expect(0);
        let index = desk.read("results/index.html");
        assert!(index.len() < 1 << 17, "{what}: {} bytes", index.len());
    }
}
