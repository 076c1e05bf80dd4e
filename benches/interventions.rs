//! Sweeps of interventions: `cargo bench --profile dev` (the profile that `cargo run` computes in).

use attn_circuits::circuit::sweep::Sweep;
use attn_circuits::input::{INPUTS, InputContext, TokenBatch};
use attn_circuits::kind::Kind;
use attn_circuits::model::build::{BuildContext, MODELS, ModelKind};
use attn_circuits::model::intervention::{Intervention, Reader, Replacement, Site};
use attn_circuits::model::{Channel, Transformer};
use attn_circuits::stream::Stream;
use divan::Bencher;
use serde_json::{Value, json};
use std::path::Path;

fn main() {
    divan::main();
}

/// A random model and as many random sequences of `length` tokens.
fn subject(model: Value, sequences: usize, length: usize) -> (Transformer, TokenBatch) {
    let stream = Stream::new(1);
    let kind = Kind::<dyn ModelKind>::find(MODELS, "random").expect("a kind of model");
    let builder = (kind.parse)(model).expect("parameters of the kind");
    let model = builder.build(&BuildContext { base: Path::new(""), stream: stream.child("model") }).expect("a model");
    let parameters = json!({ "sequences": sequences, "period": length - 1, "repeats": 1, "distinct": false });
    let kind = Kind::find(INPUTS, "repeated_tokens").expect("a kind of input");
    let builder = (kind.parse)(parameters).expect("parameters of the kind");
    let d_vocab = model.config().d_vocab;
    let context = InputContext { base: Path::new(""), stream: stream.child("input"), d_vocab, original: None };
    let batch = builder.build(&context).expect("an input");
    (model, batch)
}

fn sweep(bencher: Bencher, model: &Transformer, batch: &TokenBatch, interventions: &[Intervention]) {
    let groups = [(0..batch.length() - 1).collect()];
    bencher.bench_local(|| Sweep::new(model, batch).run(interventions, &groups).expect("interventions that fit"));
}

/// Each of 24 heads set to zero, one at a time, on 8 sequences of 128 tokens.
#[divan::bench(sample_count = 20)]
fn zero_ablation_of_24_heads(bencher: Bencher) {
    let shape = json!({ "layers": 2, "heads": 12, "d_model": 256, "d_head": 32, "vocab": 5000, "context": 128 });
    let (model, batch) = subject(shape, 8, 128);
    let out: Vec<_> = model.config().heads().map(|id| Intervention::of_heads(&[id], Replacement::Zero)).collect();
    assert_eq!(out.len(), 24);
    sweep(bencher, &model, &batch, &out);
}

/// What each of 8 heads sends into queries, keys and values of each of 8 later ones, on 8 sequences of 64 tokens.
#[divan::bench(sample_count = 20)]
fn path_patching_of_192_paths(bencher: Bencher) {
    let shape = json!({ "layers": 2, "heads": 8, "d_model": 256, "d_head": 32, "vocab": 512, "context": 64 });
    let (model, batch) = subject(shape, 8, 64);
    let heads: Vec<_> = model.config().heads().collect();
    let mut patches = Vec::new();
    for &from in &heads[..8] {
        for &to in &heads[8..] {
            let path = |channel| Site::Sent { from, to: Reader::Head(to, channel) };
            patches.extend(Channel::ALL.map(|channel| Intervention::new(path(channel), Replacement::Zero)));
        }
    }
    assert_eq!(patches.len(), 192);
    sweep(bencher, &model, &batch, &patches);
}
