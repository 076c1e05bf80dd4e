//! Every file in `tests/bad_experiments` is wrong, and what the user reads about it is beside it.
//!
//! `SNAPSHOTS=overwrite cargo test --test bad_experiments` writes the texts anew, to be read before they are committed.

use attn_circuits::Error;
use attn_circuits::experiment::{LoadOptions, load_with};
use std::fs;
use std::path::{Path, PathBuf};

/// Relative, as a user would type it: the texts hold it.
const FOLDER: &str = "tests/bad_experiments";

fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(FOLDER).expect(FOLDER).map(|entry| entry.expect(FOLDER).path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    files
}

/// Whether a line of the text is ` --> FILE:LINE:COLUMN`.
fn has_position(text: &str, path: &Path) -> bool {
    let prefix = format!("--> {}:", path.display());
    let numbers = text.lines().filter_map(|line| line.trim_start().strip_prefix(prefix.as_str())?.split_once(':'));
    numbers.into_iter().any(|(line, column)| line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok())
}

/// What the user reads about a file; `Err` says why that is not good enough.
fn read(path: &Path) -> Result<String, String> {
    // The memory of the machine that runs the test must not change the texts.
    let options = LoadOptions { memory_limit: Some(4 << 30), ..LoadOptions::default() };
    match load_with(path, &[], &options) {
        Ok(_) => Err("loads".to_string()),
        Err(Error::Experiment(text)) if has_position(&text, path) => Ok(text),
        Err(error) => Err(format!("fails without a position: {error}")),
    }
}

#[test]
fn bad_experiments_say_what_is_wrong_and_where() {
    let overwrite = std::env::var("SNAPSHOTS").is_ok_and(|value| value == "overwrite");
    let files = files();
    assert!(files.len() >= 30, "only {} files in {FOLDER}", files.len());
    let mut failures = Vec::new();
    for path in files {
        let golden = path.with_extension("stderr");
        match read(&path) {
            Err(problem) => failures.push(format!("{} {problem}", path.display())),
            Ok(text) if overwrite => fs::write(&golden, text + "\n").expect("write the text"),
            Ok(text) => {
                let expected = fs::read_to_string(&golden).unwrap_or_default();
                if expected.trim_end() != text {
                    failures.push(format!("{}\n--- expected\n{expected}\n--- found\n{text}", path.display()));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
