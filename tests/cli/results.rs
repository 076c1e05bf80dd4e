//! What `run` writes.

use crate::desk::{Desk, SMALL, TOKENS, Tree, assert_golden, assert_same, hash, reading_tokens, repository};
use attn_circuits::store::parquet_table;
use serde_json::Value;
use std::fs;

fn induction() -> String {
    repository("experiments/induction.yaml")
}

/// What DESIGN promises of a results folder, from the manifest in it.
fn expected_names(manifest: &Value) -> Vec<String> {
    let mut names: Vec<String> = ["experiment.yaml", "manifest.json", "report.html", "run.json"].map(String::from).into();
    for name in manifest["tables"].as_object().unwrap().keys() {
        names.extend([format!("tables/{name}.csv"), format!("tables/{name}.parquet")]);
    }
    let figures = manifest["cells"].as_array().unwrap().iter().filter(|cell| cell["cell"] == "figure");
    for (index, figure) in figures.enumerate() {
        let path = format!("figures/{:02}-{}", index + 1, figure["name"].as_str().unwrap());
        names.extend([format!("{path}.svg"), format!("{path}.png")]);
    }
    names.sort();
    names
}

#[track_caller]
fn assert_hashes_are_true(tree: &Tree, manifest: &Value) {
    let mut hashed = vec!["experiment.yaml", "manifest.json", "run.json"];
    for (name, record) in manifest["tables"].as_object().unwrap() {
        for end in ["csv", "parquet"] {
            let (path, bytes) = tree.0.get_key_value(&format!("tables/{name}.{end}")).unwrap();
            assert_eq!(record[end], hash(bytes), "{path}");
            hashed.push(path);
        }
    }
    for artifact in manifest["artifacts"].as_array().unwrap() {
        let (path, bytes) = tree.0.get_key_value(artifact["path"].as_str().unwrap()).unwrap();
        assert_eq!(artifact["blake3"], hash(bytes), "{path}");
        hashed.push(path);
    }
    hashed.sort_unstable();
    assert_eq!(hashed, tree.names(), "files that no hash speaks of");
}

/// Decodes every row; the checksums are checked on the way.
fn assert_decodes(name: &str, bytes: &[u8]) {
    let mut reader = png::Decoder::new(bytes).read_info().unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut rows = 0;
    while reader.next_row().unwrap_or_else(|error| panic!("{name}: {error}")).is_some() {
        rows += 1;
    }
    assert_eq!(rows, reader.info().height, "{name}");
    reader.finish().unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Whether every element that is opened is closed in its turn, and no `<` or `&` stands bare.
fn assert_well_formed(name: &str, text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let tag = &rest[at + 1..];
        let end = tag.find('>').unwrap_or_else(|| panic!("{name}: a tag without an end: {tag:.40}"));
        let (inside, behind) = (&tag[..end], &tag[end + 1..]);
        assert!(!inside.contains('<'), "{name}: a bare < before {inside:.40}");
        let element = inside.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(element), "{name}: closes what is not open");
        } else if !inside.ends_with('/') && !inside.starts_with(['?', '!']) {
            assert_eq!(inside.matches('"').count() % 2, 0, "{name}: {inside}");
            open.push(element);
        }
        rest = behind;
    }
    assert_eq!(open, [""; 0], "{name}: left open");
    for (at, _) in text.match_indices('&') {
        let entity = &text[at + 1..text.len().min(at + 8)];
        assert!(
            ["amp;", "lt;", "gt;", "quot;", "apos;", "#"].iter().any(|known| entity.starts_with(known)),
            "{name}: {entity}"
        );
    }
}

#[test]
fn the_induction_experiment_runs_and_all_its_claims_hold() {
    let desk = Desk::new();
    let finished = desk.run(["run", &induction(), "--out", "out"]).expect(0);
    assert!(finished.stdout.contains("\n20 of 20 claims hold\n"), "{finished:#?}");
    assert!(!finished.stdout.contains("FAILS"), "{finished:#?}");
    assert!(finished.stdout.ends_with("report: out/induction/report.html\n"), "{finished:#?}");

    // Nothing else is left, neither in the folder nor beside it: there is the index.
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(desk.path("out")).unwrap().count(), 2);
    assert!(desk.path("out/index.html").exists());
    let tree = desk.tree("out/induction");
    let manifest: Value = serde_json::from_str(&desk.read("out/induction/manifest.json")).unwrap();
    assert_eq!(tree.names(), expected_names(&manifest));
    assert!(
        manifest["tables"].as_object().unwrap().len() >= 12 && tree.names().contains(&"figures/07-ablation_of_each_head.png")
    );
    assert_hashes_are_true(&tree, &manifest);
    assert_eq!(tree.0["experiment.yaml"], fs::read(induction()).unwrap());

    for (name, bytes) in &tree.0 {
        if name.ends_with(".png") {
            assert_decodes(name, bytes);
        } else if name.ends_with(".svg") {
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"), "{name}");
            assert_well_formed(name, text);
        }
    }
}

#[test]
fn a_report_loads_nothing_from_elsewhere() {
    let desk = Desk::new();
    desk.run(["run", &induction()]).expect(0);
    let report = desk.read("results/induction/report.html");
    let loads =
        ["src=\"", "src='", "<link", "<script src", "@import", "url(", "srcset", "<iframe", "<object", "<embed", "xlink:href"];
    for load in loads {
        for (at, _) in report.match_indices(load) {
            let target = &report[at..].split_at_checked(load.len() + 5).map_or(&report[at..], |(start, _)| start);
            // Data that the page itself holds, and references within the page.
            let inside = ["data:", "#"].iter().any(|within| target[load.len()..].trim_matches(['"', '\'']).starts_with(within));
            assert!(inside, "{}", &report[at..].chars().take(80).collect::<String>());
        }
    }
    // Addresses may be named (a namespace is one) and linked to, but the namespace is all that there is.
    let addresses = report.match_indices("http").map(|(at, _)| &report[at..]);
    for address in addresses.filter(|text| text.starts_with("http://") || text.starts_with("https://")) {
        assert!(address.starts_with("http://www.w3.org/2000/svg\""), "{}", address.chars().take(80).collect::<String>());
    }
    // Figures are in the page itself.
    assert_eq!(report.matches("<svg ").count(), 7);
}

#[test]
fn parquet_and_csv_hold_the_same_table() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let mut compared = 0;
    for name in desk.tree("results/small").names().iter().filter_map(|name| name.strip_suffix(".parquet")) {
        let csv = desk.table(&format!("results/small/{name}.csv"));
        let path = desk.path(&format!("results/small/{name}.parquet"));
        let frame = parquet_table(fs::read(&path).unwrap(), &path).unwrap();
        let columns: Vec<_> = frame.get_column_names().iter().map(|name| name.to_string()).collect();
        assert_eq!((&columns, frame.height()), (&csv.columns, csv.rows.len()), "{name}");
        for (index, row) in csv.rows.iter().enumerate() {
            for (cell, value) in row.iter().zip(frame.get_row(index).unwrap().0) {
                let same = match value.extract::<f64>() {
                    Some(number) => cell.parse() == Ok(number),
                    None if value.is_null() => cell.is_empty(),
                    None => value.get_str() == Some(cell),
                };
                assert!(same, "{name}, row {index}: `{cell}` in CSV, {value:?} in Parquet");
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "{compared} cells compared");
}

/// The sum of a column that a group, a join, a union or a choice of distinct rows yields depends on the order of its rows.
#[test]
fn sums_over_inner_queries_are_the_same_to_the_last_digit() {
    let groups = "SELECT position, token, AVG(value) AS x FROM logits GROUP BY position, token";
    let inner = [
        groups.to_string(),
        format!("SELECT a.value AS x FROM logits AS a JOIN ({groups}) AS b ON a.token = b.token"),
        "SELECT DISTINCT value AS x FROM logits".to_string(),
        format!("SELECT x FROM ({groups}) UNION ALL SELECT value AS x FROM logits"),
    ];
    let query = |(index, inner): (usize, &String)| {
        format!("  - query: SELECT SUM(x) AS sum, STDDEV(x) AS sd FROM ({inner}) AS inner\n    name: q{index}\n")
    };
    let cells: String = inner.iter().enumerate().map(query).collect();
    let text = format!(
        "title: Sums
models:
  small: {{ kind: random, layers: 1, heads: 2, d_model: 8, vocab: 40, context: 20, std: 1.0 }}
inputs:
  repeated: {{ kind: repeated_tokens, sequences: 3, period: 9, repeats: 2 }}
cells:
  - measure: logits
{cells}"
    );
    let desk = Desk::with("sums.yaml", &text);
    let tables = |out: &str| {
        // Computed every time: what a cache hands back is the same by itself.
        desk.run(["run", "sums.yaml", "--out", out, "--force"]).expect(0);
        assert_computed(&desk, &format!("{out}/sums"));
        desk.tree(&format!("{out}/sums")).tables()
    };
    let first = tables("0");
    // The engine's hashes differ from process to process.
    (1..8).for_each(|again| assert_same(&first, &tables(&again.to_string())));
}

/// Insists that nothing of a run was taken from the cache.
#[track_caller]
fn assert_computed(desk: &Desk, folder: &str) {
    let run: Value = serde_json::from_str(&desk.read(&format!("{folder}/run.json"))).unwrap();
    for (what, count) in run["reused"].as_object().unwrap() {
        assert_eq!(count["reused"], 0, "{what}");
    }
    assert!(run["reused"]["measurements"]["all"].as_u64().unwrap() > 0);
}

#[test]
fn neither_repetition_nor_the_number_of_threads_changes_a_byte() {
    let desk = Desk::new();
    for (out, threads) in [("one", "1"), ("two", "2"), ("two-again", "2"), ("five", "5")] {
        desk.run(["run", &induction(), "--out", out, "--threads", threads, "--quiet", "--force"]).expect(0);
        assert_computed(&desk, &format!("{out}/induction"));
        let run: Value = serde_json::from_str(&desk.read(&format!("{out}/induction/run.json"))).unwrap();
        assert_eq!(run["threads"].to_string(), threads);
    }
    let first = desk.tree("one/induction").reproducible();
    for out in ["two", "two-again", "five"] {
        assert_same(&first, &desk.tree(&format!("{out}/induction")).reproducible());
    }
}

#[test]
fn a_run_ends_with_its_claims_and_the_path_of_the_report() {
    let desk = Desk::with("small.yaml", SMALL);
    let finished = desk.run(["run", "small.yaml"]).expect(1);
    assert_golden("run.stdout", &finished.stdout);
    assert_golden("run.stderr", &finished.stderr);
}

#[test]
fn a_quiet_run_says_only_which_claims_fail() {
    let desk = Desk::with("small.yaml", SMALL);
    let finished = desk.run(["run", "small.yaml", "--quiet"]).expect(1);
    assert_eq!(finished.stderr, "");
    assert!(finished.stdout.starts_with("✗ FAILS  Random models"), "{finished:#?}");
    assert!(!finished.stdout.contains("holds"), "{finished:#?}");
}

/// Who keeps new files from others keeps results from them, and who has closed a results folder finds it closed.
#[cfg(unix)]
#[test]
fn results_have_the_permissions_of_any_new_folder_or_those_of_the_last_ones() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::with("small.yaml", SMALL);
    let mode = |path: &str| fs::metadata(desk.path(path)).unwrap().permissions().mode() & 0o777;
    let run = |umask: &str| {
        let program = env!("CARGO_BIN_EXE_attn-circuits");
        let script = format!("umask {umask}; exec '{program}' run small.yaml --force --quiet");
        desk.run_command::<&str>(desk.command_of("sh").args(["-c", &script]), &[]).expect(1);
    };
    run("027");
    assert_eq!(["results", "results/small", "results/small/tables"].map(mode), [0o750; 3]);
    assert_eq!(["results/index.html", "results/small/report.html"].map(mode), [0o640; 2]);
    fs::set_permissions(desk.path("results/small"), fs::Permissions::from_mode(0o700)).unwrap();
    run("022");
    assert_eq!(mode("results/small"), 0o700);
}

#[test]
fn several_experiments_have_a_folder_each() {
    let desk = Desk::with("a.yaml", SMALL);
    desk.write("b.yaml", SMALL.replace("seed: 7", "seed: 8"));
    desk.run(["run", "a.yaml", "b.yaml"]).expect(1);
    let [a, b] = ["results/a", "results/b"].map(|folder| desk.tree(folder));
    assert_eq!(a.names(), b.names());
    assert_ne!(a.0["tables/head_scores.csv"], b.0["tables/head_scores.csv"], "another seed");
}

#[test]
fn a_run_that_fails_does_not_keep_the_others_from_it() {
    let text = SMALL.replace("GROUP BY model, layer, head", "GROUP BY model, layer, head, replicate");
    let desk = Desk::with("a.yaml", &text);
    desk.write("b.yaml", SMALL);
    let finished = desk.run(["run", "a.yaml", "b.yaml", "--quiet"]).expect(2);
    assert!(finished.stderr.starts_with("error: a.yaml: figure 1 (matching) cannot be drawn: "), "{finished:#?}");
    assert!(finished.stdout.starts_with("✗ FAILS  Random models"), "{finished:#?}");
    assert_eq!(fs::read_dir(desk.path("results")).unwrap().count(), 2);
    assert!(desk.path("results/b/report.html").exists());
    assert!(desk.read("results/index.html").contains("b/report.html"));
}

#[test]
fn two_files_that_would_write_to_one_folder_are_refused() {
    let desk = Desk::with("a.yaml", SMALL);
    desk.write("sub/a.yaml", SMALL);
    desk.run(["run", "a.yaml", "sub/a.yaml"]).expect_error(2, &["sub/a.yaml", "same results folder as a.yaml"]);
    assert!(!desk.path("results").exists());
}

#[test]
fn the_manifest_says_what_made_the_results() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let manifest: Value = serde_json::from_str(&desk.read("results/small/manifest.json")).unwrap();
    assert_eq!(manifest["program"], concat!("attn-circuits ", env!("CARGO_PKG_VERSION")));
    assert_eq!(manifest["file"], "small.yaml");
    assert_eq!(manifest["seed"], 7);
    assert_eq!(manifest["parameters"]["models"]["wired"]["circuit"], "induction");
    let streams: Vec<_> = manifest["models"].as_array().unwrap().iter().map(|model| model["stream"].to_string()).collect();
    assert_eq!(streams.len(), 3, "one model wired, two drawn");
    assert!(streams[0] != streams[1] && streams[1] != streams[2], "{streams:?}");
    assert_eq!(manifest["cells"][6]["holds"], true);
    assert_eq!(manifest["cells"][7]["holds"], false);
    assert_eq!(manifest.get("files"), None, "nothing is read but the experiment itself");
    // What is read is written down as the experiment names it.
    desk.write("mine/tokens.json", TOKENS);
    desk.write("small.yaml", reading_tokens("mine/tokens.json"));
    desk.run(["run", "small.yaml"]).expect(1);
    let manifest: Value = serde_json::from_str(&desk.read("results/small/manifest.json")).unwrap();
    assert_eq!(manifest["files"], serde_json::json!({ "mine/tokens.json": hash(TOKENS.as_bytes()) }));
}

#[test]
fn tables_are_sorted_by_their_keys() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let table = desk.table("results/small/tables/head_scores.csv");
    let keys: Vec<_> =
        table.rows().map(|row| (row.text("model"), row.index("replicate"), row.index("layer"), row.index("head"))).collect();
    assert!(keys.is_sorted());
    assert_eq!((keys[0], keys[keys.len() - 1]), (("random", 1, 0, 0), ("wired", 1, 1, 0)));
}
