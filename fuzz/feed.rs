//! What each fuzz target does with its bytes, and what must be true of the answer. `tests/hostile.rs` of the crate feeds every seed
//! to the same functions.
#![allow(dead_code, reason = "each target uses one of them")]

use attn_circuits::Error;
use attn_circuits::experiment::compare::Tolerance;
use attn_circuits::experiment::diff::diff;
use attn_circuits::experiment::verify::{VerifyOptions, verify};
use attn_circuits::experiment::{LoadOptions, RunOptions, Silent, draw_into, load_str, load_with, run};
use attn_circuits::figure::{FIGURES, Figure, Style};
use attn_circuits::input::{INPUTS, InputContext, InputKind};
use attn_circuits::kind::Kind;
use attn_circuits::model::Transformer;
use attn_circuits::model::build::{BuildContext, MODELS, ModelKind};
use attn_circuits::model::export::export;
use attn_circuits::store::{Artifact, Run};
use attn_circuits::stream::Stream;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A configuration for which a weights file is a few hundred bytes.
const CONFIG: &str = r#"{ "n_layers": 1, "n_heads": 1, "d_model": 2, "d_head": 1, "d_vocab": 3, "n_ctx": 2, "attn_only": true,
    "normalization_type": "LN", "positional_embedding_type": "standard" }"#;
/// The model of [`CONFIG`] as `export` writes it.
const WEIGHTS: &[u8] = include_bytes!("seeds/weights/whole.safetensors");

/// An experiment that runs in no time, and of whose results a part is fuzzed.
const STORED: &str = "\
title: Stored
models:
  m: { kind: random, layers: 1, heads: 1, d_model: 2, vocab: 3, context: 3 }
inputs:
  i: { kind: tokens, tokens: [[0, 1, 2], [0, 2, 1]] }
cells:
  - { measure: loss, name: t }
  - { figure: line, of: t, title: Loss, x: position, y: loss, width: 200, height: 120 }
  - { claim: It is finite., check: SELECT MAX(loss) < 99.0 AS holds FROM t }
";

/// Puts the files beside the fuzzed one into the folder.
pub fn prepare(folder: &Path) {
    fs::write(folder.join("config.json"), CONFIG).expect("config.json");
    fs::write(folder.join("weights.safetensors"), WEIGHTS).expect("weights.safetensors");
    fs::write(folder.join("tokens.json"), "[[0, 1], [2, 1]]").expect("tokens.json");
    fs::write(folder.join("stored.yaml"), STORED).expect("stored.yaml");
}

/// An experiment file; behind zero bytes, overrides `PATH=VALUE`. Loads, or is refused with a place.
pub fn experiment(folder: &Path, data: &[u8]) {
    let path = folder.join("fuzzed.yaml");
    let options = LoadOptions { memory_limit: Some(1 << 30), ..LoadOptions::default() };
    let loaded = match std::str::from_utf8(data) {
        Ok(text) => {
            let mut parts = text.split('\0');
            let text = parts.next().unwrap_or_default();
            let set = parts.filter_map(|part| part.split_once('=')).map(|(path, value)| (path.to_string(), value.to_string()));
            load_str(text, &path, &set.collect::<Vec<_>>(), &options)
        }
        Err(_) => {
            fs::write(&path, data).expect("fuzzed.yaml");
            load_with(&path, &[], &options)
        }
    };
    match loaded {
        Ok(experiment) => assert!(experiment.plan().peak_bytes < 1 << 30),
        Err(Error::Experiment(text)) => {
            let place = format!("--> {}:", path.display());
            assert!(text.starts_with("error: ") && (text.contains(&place) || text.contains("--set ")), "no place: {text}");
        }
        Err(other) => panic!("not an experiment's error: {other:?}"),
    }
}

/// A `config.json` beside a whole file of weights.
pub fn config(folder: &Path, data: &[u8]) {
    fs::write(folder.join("fuzzed.json"), data).expect("fuzzed.json");
    imported(folder, json!({ "weights": "weights.safetensors", "config": "fuzzed.json" }));
}

/// A file of weights beside a whole `config.json`.
pub fn weights(folder: &Path, data: &[u8]) {
    fs::write(folder.join("fuzzed.safetensors"), data).expect("fuzzed.safetensors");
    imported(folder, json!({ "weights": "fuzzed.safetensors" }));
}

/// Imports, or is refused with the file named. What is imported can be exported, and imported again.
fn imported(folder: &Path, parameters: Value) {
    let Some(model) = import(folder, parameters) else { return };
    let out = folder.join("exported");
    export(&model, &out).expect("an imported model can be exported");
    assert!(import(&out, json!({ "weights": "weights.safetensors" })).as_ref() == Some(&model), "not the model exported");
}

fn import(folder: &Path, parameters: Value) -> Option<Transformer> {
    let kind = Kind::<dyn ModelKind>::find(MODELS, "import").expect("a kind");
    let builder = (kind.parse)(parameters).expect("parameters of the kind");
    let named = |error: Error| {
        let text = error.to_string();
        assert!(
            matches!(error, Error::File { .. }) && (text.contains(".json: ") || text.contains(".safetensors: ")),
            "{error:?}"
        );
    };
    let config = builder.config(folder).map_err(named).ok()?;
    let model = builder.build(&BuildContext { base: folder, stream: Stream::new(0) }).map_err(named).ok()?;
    assert_eq!(model.config(), &config);
    Some(model)
}

/// A JSON file of tokens.
pub fn tokens_json(folder: &Path, data: &[u8]) {
    fs::write(folder.join("fuzzed.json"), data).expect("fuzzed.json");
    tokens(folder, json!({ "file": "fuzzed.json" }));
    tokens(folder, json!({ "file": "fuzzed.json", "period": 2, "start": false }));
}

/// A safetensors file of tokens.
pub fn tokens_safetensors(folder: &Path, data: &[u8]) {
    fs::write(folder.join("fuzzed.safetensors"), data).expect("fuzzed.safetensors");
    tokens(folder, json!({ "file": "fuzzed.safetensors" }));
    tokens(folder, json!({ "file": "fuzzed.safetensors", "tensor": "tokens" }));
}

/// Is read, for every vocabulary that holds its tokens and for no other, or is refused with the file (or the parameter) named.
fn tokens(folder: &Path, parameters: Value) {
    let kind = Kind::<dyn InputKind>::find(INPUTS, "tokens").expect("a kind");
    let input = (kind.parse)(parameters).expect("parameters of the kind");
    let shape = match input.shape(folder, None) {
        Ok(shape) => shape,
        Err(Error::Parameter { .. }) => return,
        Err(error) => {
            assert!(matches!(error, Error::File { .. }) && error.to_string().contains("fuzzed."), "{error:?}");
            return;
        }
    };
    let build = |d_vocab| input.build(&InputContext { base: folder, stream: Stream::new(0), d_vocab, original: None });
    let batch = build(shape.min_vocab).expect("the vocabulary holds the tokens");
    assert_eq!((batch.sequences(), batch.length()), (shape.sequences, shape.length));
    assert!(build(shape.min_vocab - 1).is_err());
}

/// A JSON file of names for tokens. Is read as a list of names, or refused with the file named.
pub fn token_names(folder: &Path, data: &[u8]) {
    fs::write(folder.join("fuzzed.json"), data).expect("fuzzed.json");
    let kind = Kind::<dyn Figure>::find(FIGURES, "circuit_matrix").expect("a kind");
    let figure = (kind.parse)(json!({ "tokens": "fuzzed.json" })).expect("parameters of the kind");
    match figure.read(folder) {
        Ok(read) => {
            let parameters = read.into_iter().map(|(parameter, value)| (parameter.to_string(), value)).collect();
            (kind.parse)(Value::Object(parameters)).expect("names as they would stand in the experiment");
        }
        Err(error) => {
            assert!(matches!(error, Error::File { .. }) && error.to_string().contains("fuzzed.json: "), "{error:?}");
        }
    }
}

/// A `manifest.json`, in which `HASH` stands for the hash of the table; behind a zero byte, the table, which lies there as
/// Parquet and as CSV. What `figures`, `diff` and `verify` read of such results, they draw and compare, or refuse with the file
/// or figure named.
pub fn results(folder: &Path, data: &[u8]) {
    let (whole, results, file) = (folder.join("whole/stored"), folder.join("results"), folder.join("stored.yaml"));
    if !whole.exists() {
        let experiment = load_str(STORED, &file, &[], &LoadOptions::default()).expect("an experiment");
        run(&experiment, &folder.join("whole"), &RunOptions::default()).expect("results");
    }
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    let (manifest, table) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    // Who changes a table can change the manifest as well.
    let hash = Artifact::new("", table).blake3;
    let manifest = std::str::from_utf8(manifest).map_or(manifest.to_vec(), |text| text.replace("HASH", &hash).into());
    fs::create_dir_all(results.join("tables")).expect("a folder for the table");
    let files = [("manifest.json", &manifest[..]), ("experiment.yaml", STORED.as_bytes())];
    for (name, bytes) in files.into_iter().chain([("tables/t.csv", table), ("tables/t.parquet", table)]) {
        fs::write(results.join(name), bytes).expect(name);
    }
    let refused = |error: Error| {
        let text = error.to_string();
        let places = ["manifest.json", "experiment.yaml", "--set ", "/tables/", "/drawn/", "figure "];
        let named = places.iter().any(|place| text.contains(place));
        assert!(!matches!(error, Error::Table(_)) && named, "{error:?}");
    };
    let stored = match Run::open(&results) {
        Ok(stored) => stored,
        Err(error) => return refused(error),
    };
    for name in stored.manifest.tables.keys() {
        stored.table(name).map_or_else(refused, drop);
    }
    draw_into(&results, &folder.join("drawn"), &Style::default()).map_or_else(refused, drop);
    for (left, right) in [(&results, &whole), (&whole, &results)] {
        diff(left, right, Tolerance::EXACT).map_or_else(refused, drop);
    }
    // With overrides it could be any experiment, and take any time.
    if stored.manifest.overrides.is_empty() {
        let options = VerifyOptions { file: Some(file.as_path()), ..VerifyOptions::default() };
        verify(&results, &options, &Silent).map_or_else(refused, drop);
    }
}
