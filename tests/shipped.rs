//! The shipped experiments and their committed results belong together.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

fn files_in(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn experiments() -> Vec<PathBuf> {
    let yaml = |path: &PathBuf| path.extension() == Some(OsStr::new("yaml"));
    files_in("experiments").into_iter().filter(yaml).collect()
}

fn results(experiment: &Path) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(experiment.file_stem().expect("a name"))
}

#[test]
fn every_experiment_has_the_results_of_what_it_says_now() {
    let experiments = experiments();
    assert!(!experiments.is_empty());
    for path in experiments {
        let (now, then) = (fs::read(&path), fs::read(results(&path).join("experiment.yaml")));
        let name = path.display();
        let then = then.unwrap_or_else(|error| panic!("{name} has no results: {error}; run it"));
        assert!(now.expect("an experiment") == then, "{name} has changed since its results were made: run it again");
    }
}

#[test]
fn every_result_is_of_an_experiment() {
    let names: BTreeSet<_> = experiments().iter().map(|path| results(path)).collect();
    for folder in files_in("results").into_iter().filter(|path| path.is_dir()) {
        assert!(names.contains(&folder), "{} belongs to no experiment", folder.display());
    }
}

#[test]
fn the_index_shows_the_committed_results() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    let page = fs::read_to_string(folder.join("index.html")).expect("an index");
    assert!(page == attn_circuits::experiment::index(&folder).expect("results"), "run `figures`, which writes the index anew");
    for path in experiments() {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(page.contains(&format!("href=\"{name}/report.html\"")), "{name} is not in the index");
    }
}

#[test]
fn every_claim_of_the_committed_results_holds() {
    for path in experiments() {
        let text = fs::read_to_string(results(&path).join("manifest.json")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let cells = manifest["cells"].as_array().expect("cells");
        let claims: Vec<_> = cells.iter().filter(|cell| cell["cell"] == "claim").collect();
        assert!(!claims.is_empty(), "{} claims nothing", path.display());
        for claim in claims {
            assert_eq!(claim["holds"], true, "{}: {}", path.display(), claim["statement"]);
        }
    }
}
