//! Memory: what a run needs is known before it begins.

use crate::desk::{Desk, SMALL, assert_same, repository};
use std::fs;

const UNITS: [(&str, f64); 4] = [("bytes", 1.0), ("KiB", 1024.0), ("MiB", 1048576.0), ("GiB", 1073741824.0)];

/// What `check` says that a run needs, in bytes.
fn estimate(stdout: &str) -> f64 {
    let words = stdout.split("needs about ").nth(1).expect("the plan ends with what the run needs");
    let mut words = words.split(' ');
    let number: f64 = words.next().unwrap().parse().expect("a number");
    let unit = words.next().unwrap();
    number * UNITS.iter().find(|(name, _)| *name == unit).unwrap_or_else(|| panic!("unit {unit}")).1
}

/// Runs an experiment whose claims hold or fail as `status` says.
#[track_caller]
fn assert_foreseen(desk: &Desk, file: &str, status: i32) {
    let estimate = estimate(&desk.run(["check", file]).expect(0).stdout);
    desk.run(["run", file, "-q"]).expect(status);
    let name = std::path::Path::new(file).file_stem().unwrap().to_string_lossy();
    let run: serde_json::Value = serde_json::from_str(&desk.read(&format!("results/{name}/run.json"))).unwrap();
    // Only Linux tells.
    let used = match run["peak_memory_bytes"].as_f64() {
        Some(used) => used,
        None if cfg!(target_os = "linux") => panic!("this system tells"),
        None => return,
    };
    let ratio = used / estimate;
    assert!((1.0 / 1.5..1.5).contains(&ratio), "{name}: {used} bytes used, {estimate} estimated");
}

/// Models of all kinds, many of them, wide tables, many figures.
#[test]
fn shipped_experiments_need_what_was_foreseen_and_are_reused_as_a_whole() {
    let entries = fs::read_dir(repository("experiments")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    assert!(!files.is_empty());
    for path in files {
        let (desk, file) = (Desk::new(), path.to_str().expect("a path in UTF-8"));
        let results = || desk.tree(&format!("results/{}", path.file_stem().unwrap().display())).reproducible();
        assert_foreseen(&desk, file, 0);
        let first = results();
        let second = desk.run(["run", file]).expect(0);
        assert!(second.stderr.contains("up to date"), "{second:#?}");
        fs::remove_dir_all(desk.path("results")).unwrap();
        let third = desk.run(["run", file]).expect(0);
        assert!(third.stderr.contains("reused") && !third.stderr.contains("measuring"), "{third:#?}");
        assert_same(&first, &results());
    }
}

#[test]
fn large_figures_are_foreseen() {
    let large = SMALL.replace("- figure: heatmap\n", "- figure: heatmap\n    width: 2400\n    height: 2400\n");
    assert_ne!(large, SMALL);
    assert_foreseen(&Desk::with("large.yaml", &large), "large.yaml", 1);
}

/// What the program itself takes only this system tells.
#[cfg(target_os = "linux")]
#[test]
fn a_run_beyond_the_limit_is_refused_with_the_numbers() {
    let large = SMALL.replace("sequences: 4", "sequences: 4000000");
    let desk = Desk::with("small.yaml", SMALL);
    desk.write("large.yaml", large);
    for command in ["run", "check"] {
        desk.run([command, "large.yaml", "--memory-limit", "200MiB"]).expect_error(
            2,
            &["--> large.yaml:", "the run needs about", "and the memory limit is 200.0 MiB", "most of it for `", "rows"],
        );
        // What is small by itself is refused only if there is no room for the program.
        let whole = estimate(&desk.run(["check", "small.yaml"]).expect(0).stdout);
        desk.run([command, "small.yaml", "--memory-limit", &(whole * 0.5).to_string()])
            .expect_error(2, &["beside the program itself of", "and the memory limit is"]);
        desk.run([command, "small.yaml", "--memory-limit", "many"]).expect_error(2, &["write a size as in 2GiB"]);
    }
    assert!(!desk.path("results").exists());
    desk.run(["run", "small.yaml", "--memory-limit", "2GiB"]).expect(1);
}
