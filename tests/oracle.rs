//! Every tensor against the reference made with TransformerLens (tests/oracle/README.md), and against the whole reference where it
//! lies beside the repository. Run with `--nocapture` to see each tensor's largest error.

mod common;

use attn_circuits::circuit::composition::composition;
use attn_circuits::circuit::copying::copying_score;
use attn_circuits::circuit::head_scores::{HeadScore, Score, head_scores};
use attn_circuits::circuit::loss::predictions;
use attn_circuits::circuit::paths::{Component, Part, Path as Chain, logit_attribution, paths, term_importance};
use attn_circuits::circuit::sweep::{Outcome, Sweep};
use attn_circuits::circuit::weights::{Circuit, Circuits};
use attn_circuits::input::{Repeats, TokenBatch};
use attn_circuits::kind::Kind;
use attn_circuits::linalg::Complex;
use attn_circuits::measure::{MEASURES, Measure, Subject};
use attn_circuits::model::intervention::{Intervention, Reader, Replacement, Site};
use attn_circuits::model::{Channel, HeadId, Keep, Transformer};
use common::{batch, by_position, model, tensors};
use ndarray::{Array1, ArrayD, ArrayViewD, Axis, IxDyn};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Compares tensors, prints their largest errors, and remembers those beyond tolerance.
#[derive(Default)]
struct Comparison {
    compared: usize,
    failed: Vec<String>,
}

impl Comparison {
    fn check(&mut self, name: &str, found: ArrayViewD<f64>, expected: ArrayViewD<f64>, absolute: f64, relative: f64) {
        assert_eq!(found.shape(), expected.shape(), "{name}");
        let (mut worst, mut good) = (0.0f64, true);
        for (&found, &expected) in found.iter().zip(expected.iter()) {
            if expected.is_finite() && found.is_finite() {
                let error = (found - expected).abs();
                worst = worst.max(error);
                good &= error <= absolute + relative * expected.abs();
            } else {
                good &= found == expected || (found.is_nan() && expected.is_nan());
            }
        }
        println!("  {name:<28} largest error {worst:.2e}{}", if good { "" } else { "  TOO LARGE" });
        self.compared += 1;
        if !good {
            self.failed.push(format!("{name}: {worst:e}"));
        }
    }
}

fn wide<D: ndarray::Dimension>(a: ndarray::Array<f32, D>) -> ArrayD<f64> {
    a.mapv(f64::from).into_dyn()
}

fn stacked<D: ndarray::Dimension>(layers: &[ndarray::Array<f32, D>]) -> ArrayD<f64> {
    let layers: Vec<_> = layers.iter().map(|a| a.mapv(f64::from).into_dyn()).collect();
    let views: Vec<_> = layers.iter().map(|a| a.view()).collect();
    ndarray::stack(Axis(0), &views).expect("layers have equal shapes")
}

fn composition_tensor(model: &Transformer, channel: Channel) -> ArrayD<f64> {
    let config = model.config();
    let mut tensor = ArrayD::zeros(IxDyn(&[config.n_layers, config.n_heads, config.n_layers, config.n_heads]));
    for pair in composition(model).unwrap().into_iter().filter(|pair| pair.channel == channel) {
        let place = [pair.from.layer, pair.from.head, pair.to.layer, pair.to.head];
        tensor[IxDyn(&place)] = pair.value.map_or(f64::NAN, |value| value.score);
    }
    tensor
}

/// A number of every head, `[L, H]`, NaN where there is none.
fn by_head(model: &Transformer, of: impl Fn(HeadId) -> Option<f64>) -> ArrayD<f64> {
    let config = model.config();
    ArrayD::from_shape_fn(IxDyn(&[config.n_layers, config.n_heads]), |place| {
        of(HeadId::new(place[0], place[1])).unwrap_or(f64::NAN)
    })
}

/// The part `[l, h]` of a tensor.
fn of_head(tensor: &ArrayD<f64>, id: HeadId) -> ArrayViewD<'_, f64> {
    tensor.view().index_axis_move(Axis(0), id.layer).index_axis_move(Axis(0), id.head)
}

/// The expected eigenvalues in the order of those found: each takes the nearest one that is left.
fn matched(found: &[Complex], re: ArrayViewD<f64>, im: ArrayViewD<f64>) -> Vec<Complex> {
    let mut left: Vec<Complex> = re.iter().zip(&im).map(|(&re, &im)| Complex::new(re, im)).collect();
    let mut nearest = |value: &Complex| {
        let distance = |i: &usize| (left[*i] - value).norm();
        let index = (0..left.len()).min_by(|i, j| distance(i).total_cmp(&distance(j))).expect("equally many");
        left.swap_remove(index)
    };
    found.iter().map(&mut nearest).collect()
}

/// Spectra, copying scores and full matrices from the weights alone.
fn check_spectra(comparison: &mut Comparison, model: &Transformer, expected: &BTreeMap<String, ArrayD<f64>>) {
    let circuits = Circuits::new(model);
    type OfHead = fn(HeadId) -> Circuit;
    for (name, of) in
        [("ov", Circuit::Ov as OfHead), ("qk", Circuit::Qk), ("ov.full", Circuit::FullOv), ("qk.full", Circuit::FullQk)]
    {
        for id in model.config().heads() {
            let circuit = of(id);
            if let Some(expected) = expected.get(&format!("{name}.singular_values")) {
                let (found, expected) =
                    (Array1::from(circuits.singular_values(circuit).unwrap()).into_dyn(), of_head(expected, id));
                comparison.check(&format!("{name}.singular_values {id}"), found.view(), expected, 1e-5, 1e-5);
            }
            if let Some(re) = expected.get(&format!("{name}.eigenvalues_re")) {
                let found = circuits.eigenvalues(circuit).unwrap();
                let expected = matched(&found, of_head(re, id), of_head(&expected[&format!("{name}.eigenvalues_im")], id));
                let errors: Array1<f64> = found.iter().zip(&expected).map(|(a, b)| (a - b).norm()).collect();
                let zeros = ArrayD::zeros(errors.shape());
                let largest = expected.iter().map(|v| v.norm()).fold(0.0, f64::max);
                // Single eigenvalues are as uncertain as the roots of polynomials are.
                comparison.check(
                    &format!("{name}.eigenvalues {id}"),
                    errors.into_dyn().view(),
                    zeros.view(),
                    1e-4 * largest + 1e-6,
                    0.0,
                );
            }
            if let Some(expected) = expected.get(&format!("{name}.matrix")) {
                let found = circuits.low_rank(circuit).unwrap().dense().into_dyn();
                comparison.check(&format!("{name}.matrix {id}"), found.view(), of_head(expected, id), 1e-6, 1e-6);
            }
        }
        if let Some(expected) = expected.get(&format!("{name}.copying")) {
            let found = by_head(model, |id| copying_score(&circuits, of(id)).unwrap());
            comparison.check(&format!("{name}.copying"), found.view(), expected.view(), 1e-5, 0.0);
        }
    }
}

/// `tokens_rep`: a start token, then a block twice.
fn repeated_batch(tensor: &ArrayD<f64>) -> TokenBatch {
    let tokens = batch(tensor).tokens().to_owned();
    let repeats = Repeats { start: 1, period: (tokens.ncols() - 1) / 2, count: 2 };
    TokenBatch::new(tokens, Some(repeats)).expect("a batch that repeats")
}

/// The values of a score, `[L, H]`.
fn score_tensor(model: &Transformer, score: &HeadScore) -> ArrayD<f64> {
    let shape = [model.config().n_layers, model.config().n_heads];
    ArrayD::from_shape_vec(shape.to_vec(), score.values.clone().unwrap()).unwrap()
}

/// `[L, H, V, V]`, from the table of the measure.
fn circuit_tables(model: &Transformer, circuit: &str) -> ArrayD<f64> {
    let kind = Kind::<dyn Measure>::find(MEASURES, "circuit_table").unwrap();
    let table = (kind.parse)(json!({ "circuits": [circuit] })).unwrap().compute(&Subject::new(model, None)).unwrap();
    let config = model.config();
    let shape = [config.n_layers, config.n_heads, config.d_vocab, config.d_vocab];
    let values = table.column("value").unwrap().f64().unwrap().iter().map(|value| value.unwrap()).collect();
    // The rows are sorted by their keys, which are the indices of the tensor.
    ArrayD::from_shape_vec(IxDyn(&shape), values).expect("an entry for each pair of tokens")
}

/// The loss entries of a forward pass `[B, n − 1]` against logits that were kept.
fn check_forward(
    comparison: &mut Comparison,
    model: &Transformer,
    tokens: &ArrayD<f64>,
    expected: &BTreeMap<String, ArrayD<f64>>,
    names: [&str; 2],
) {
    let batch = batch(tokens);
    let logits = model.run(&batch, Keep { logits: true, ..Keep::NOTHING }).unwrap().logits.unwrap();
    let loss = predictions(logits.view(), batch.tokens()).loss.into_dyn();
    comparison.check(names[0], wide(logits).view(), expected[names[0]].view(), 2e-4, 1e-4);
    comparison.check(names[1], loss.view(), expected[names[1]].view(), 2e-4, 1e-4);
}

/// Direct attributions, paths and orders; the reference has the last two only where the stream is linear.
fn check_paths(
    comparison: &mut Comparison,
    model: &Transformer,
    tokens: &ArrayD<f64>,
    expected: &BTreeMap<String, ArrayD<f64>>,
) {
    let repeated = batch(tokens);
    let groups: Vec<_> = (0..repeated.length() - 1).map(|position| vec![position]).collect();
    let rows = |rows: Vec<Vec<f64>>| {
        let shape = IxDyn(&[rows.len(), groups.len()]);
        ArrayD::from_shape_vec(shape, rows.concat()).expect("a number for each position")
    };
    let by_position = |name: &str| Some(expected.get(name)?.mean_axis(Axis(1)).unwrap());

    // The reference leaves out what the last LayerNorm and the unembedding add, and the LayerNorm's weight.
    let mut weights = model.to_weights();
    weights.b_u = None;
    if let Some(ln) = &mut weights.ln_final {
        ln.w.fill(1.0);
        ln.b.fill(0.0);
    }
    let twin = Transformer::new(model.config().clone(), weights).unwrap();
    let parts = logit_attribution(&twin, &repeated, &groups).unwrap();
    let (heads, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| matches!(part.component, Component::Head(_)));
    let mut found: Vec<_> = heads.into_iter().map(|part| part.logit).collect();
    found.push((0..groups.len()).map(|group| others.iter().map(|part| part.logit[group]).sum()).collect());
    comparison.check("dla", rows(found).view(), by_position("dla").expect("every folder has it").view(), 2e-4, 1e-4);

    if let Some(expected) = by_position("paths.logit") {
        let all = paths(model, &repeated, usize::MAX, &groups).unwrap().parts;
        // The reference has, layer by layer, all paths so far first and then the same with each head of the layer behind.
        let n_heads = model.config().n_heads;
        let mut labels: Vec<Vec<_>> = vec![vec![]];
        for layer in 0..model.config().n_layers {
            let with = |head: usize| labels.iter().map(move |path| [path.clone(), vec![(layer, head)]].concat());
            let longer: Vec<_> = (0..n_heads).flat_map(with).collect();
            labels.extend(longer);
        }
        let logit = |label: Vec<(usize, usize)>| {
            let path = Part::Path(Chain::new(label.into_iter().map(|(layer, head)| HeadId::new(layer, head)).collect()));
            all.iter().find(|(part, _)| *part == path).expect("every path").1.logit.clone()
        };
        comparison.check("paths.logit", rows(labels.into_iter().map(logit).collect()).view(), expected.view(), 2e-4, 1e-4);
    }
    if let Some(expected) = by_position("order.loss") {
        let terms = term_importance(model, &repeated, &groups).unwrap().terms;
        let whole = terms.into_iter().filter(|term| term.layers.is_empty()).map(|term| term.loss);
        comparison.check("order.loss", rows(whole.collect()).view(), expected.view(), 1e-4, 0.0);
    }
}

/// Ablation, path patching and activation patching.
fn check_interventions(
    comparison: &mut Comparison,
    model: &Transformer,
    repeated: &TokenBatch,
    corrupted: &TokenBatch,
    expected: &BTreeMap<String, ArrayD<f64>>,
) {
    let heads: Vec<_> = model.config().heads().collect();
    let positions = repeated.length() - 1;
    for (name, by) in
        [("zero", Replacement::Zero), ("mean_batch_pos", Replacement::Mean), ("mean_batch", Replacement::MeanPerPosition)]
    {
        let name = format!("ablate.{name}.loss");
        let out: Vec<_> = heads.iter().map(|&id| Intervention::of_heads(&[id], by)).collect();
        let found = by_position(&Sweep::new(model, repeated), positions, &out, |outcome| &outcome.loss);
        let expected = expected[&name].mean_axis(Axis(2)).unwrap();
        let found: Vec<f64> = found.into_iter().flatten().collect();
        comparison.check(&name, ArrayD::from_shape_vec(expected.raw_dim(), found).unwrap().view(), expected.view(), 1e-4, 0.0);
    }

    let whole = [(0..positions).collect::<Vec<_>>()];
    let loss = |outcome: &Outcome| outcome.loss.mean().unwrap();
    let sweep = Sweep::new(model, repeated).other(corrupted);
    for (name, by) in [("zero", Replacement::Zero), ("corrupt", Replacement::Other)] {
        let name = format!("path.{name}.delta");
        let expected = &expected[&name];
        let mut found = ArrayD::zeros(expected.raw_dim());
        let (mut places, mut patches) = (Vec::new(), Vec::new());
        for (place, channel) in [Channel::Q, Channel::K, Channel::V].into_iter().enumerate() {
            for &from in &heads {
                for &to in heads.iter().filter(|to| to.layer > from.layer) {
                    places.push([place, from.layer, from.head, to.layer, to.head]);
                    patches.push(Intervention::new(Site::Sent { from, to: Reader::Head(to, channel) }, by));
                }
            }
        }
        let outcomes = sweep.run(&patches, &whole).unwrap();
        for (place, outcome) in places.iter().zip(&outcomes.intervened) {
            found[IxDyn(place)] = loss(outcome) - loss(&outcomes.clean);
        }
        comparison.check(&name, found.view(), expected.view(), 1e-4, 0.0);
    }

    let restored: Vec<_> = heads.iter().map(|&id| Intervention::new(Site::Z(id), Replacement::Other)).collect();
    let outcomes = Sweep::new(model, corrupted).targets(repeated).other(repeated).run(&restored, &whole).unwrap();
    let corrupt = ArrayD::from_elem(IxDyn(&[]), loss(&outcomes.clean));
    comparison.check("patch.corrupt_loss", corrupt.view(), expected["patch.corrupt_loss"].view(), 1e-4, 0.0);
    let found: Vec<_> = outcomes.intervened.iter().map(loss).collect();
    let expected = &expected["patch.restore_z.loss"];
    let found = ArrayD::from_shape_vec(expected.raw_dim(), found).unwrap();
    comparison.check("patch.restore_z.loss", found.view(), expected.view(), 1e-4, 0.0);
}

fn check_folder(folder: &Path, weights: &Path) -> Comparison {
    let mut comparison = Comparison::default();
    let model = model("import", json!({ "weights": weights.join("weights.safetensors") }));
    let inputs = tensors(&folder.join("inputs.safetensors"));
    let expected = tensors(&folder.join("expected_f64.safetensors"));

    check_forward(&mut comparison, &model, &inputs["tokens"], &expected, ["logits", "loss"]);
    check_forward(&mut comparison, &model, &inputs["tokens_rep"], &expected, ["rep.logits", "rep.loss"]);
    let cache = model.run(&batch(&inputs["tokens"]), Keep::ALL).unwrap();
    for (name, found) in [
        ("resid", stacked(&cache.residual)),
        ("scores", stacked(&cache.scores)),
        ("pattern", stacked(&cache.patterns)),
        ("z", stacked(&cache.z)),
        ("result", stacked(&cache.results)),
    ] {
        // Left out of most of the copied folders, for their size.
        if let Some(expected) = expected.get(name) {
            comparison.check(name, found.view(), expected.view(), 2e-4, 1e-4);
        }
    }
    for (name, channel) in [("comp.Q", Channel::Q), ("comp.K", Channel::K), ("comp.V", Channel::V)] {
        comparison.check(name, composition_tensor(&model, channel).view(), expected[name].view(), 1e-5, 0.0);
    }
    check_spectra(&mut comparison, &model, &expected);

    let repeated = repeated_batch(&inputs["tokens_rep"]);
    let mut interventions = expected.clone();
    // In a file of their own where the folder is a copy.
    let patches = folder.join("expected_interventions_f64.safetensors");
    if patches.exists() {
        interventions.extend(tensors(&patches));
    }
    check_interventions(&mut comparison, &model, &repeated, &batch(&inputs["tokens_corrupt"]), &interventions);

    for score in head_scores(&model, &repeated, &Score::all()).unwrap() {
        if score.score.name() == "induction_stripe_repeats" {
            let name = "detect.induction_stripe";
            comparison.check(name, score_tensor(&model, &score).view(), expected[name].view(), 1e-5, 0.0);
        }
        let Some(name) = score.score.name().strip_prefix("tl_") else { continue };
        let (kind, convention) = name.split_at(name.find("_mul").or(name.find("_abs")).unwrap());
        let kind = if kind == "induction" { "induction_head".to_string() } else { format!("{kind}_head") };
        let name = format!("detect.{kind}.{}", &convention[1..]);
        let found = score_tensor(&model, &score);
        let tolerance = if convention.contains("abs") { 1.001e-3 } else { 1e-5 };
        let expected = expected[&name].mean_axis(Axis(0)).unwrap();
        comparison.check(&name, found.view(), expected.view(), tolerance, 0.0);
    }

    // In a file of their own where the folder is a copy.
    let of_paths = folder.join("expected_paths_f64.safetensors");
    let of_paths = if of_paths.exists() { &tensors(&of_paths) } else { &expected };
    check_paths(&mut comparison, &model, &inputs["tokens_rep"], of_paths);

    let processed = folder.join("processed_weights.safetensors");
    if processed.exists() {
        let config = folder.join("processed_config.json");
        let model = common::model("import", json!({ "weights": processed, "config": config }));
        check_forward(&mut comparison, &model, &inputs["tokens"], &expected, ["processed.logits", "processed.loss"]);
    }
    comparison
}

/// Tensors compared in a folder: with those of every layer on the way (residual stream, scores, …), and without.
const WHOLE: usize = 32;
const COPIED: usize = 27;

fn check_root(root: &Path, folders: &[(&str, usize)]) {
    let mut failed = Vec::new();
    for &(name, least) in folders {
        println!("{name}");
        let folder = root.join(name);
        let comparison = check_folder(&folder, &folder);
        assert!(comparison.compared >= least, "{name}: only {} tensors compared", comparison.compared);
        failed.extend(comparison.failed.iter().map(|failure| format!("{name}: {failure}")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_copied_reference_agrees() {
    let root = Path::new("tests/oracle");
    let whole = ["one_layer", "shortformer", "layernorm", "rotary"].map(|name| (name, WHOLE));
    check_root(root, &whole);
    check_root(root, &["two_layer", "layernorm_pre", "handwired"].map(|name| (name, COPIED)));
}

/// The whole reference, where it lies beside the repository; the copied part above is always compared.
#[test]
fn the_whole_reference_agrees_where_it_is_there() {
    let root = PathBuf::from("../shared/oracle");
    if !root.is_dir() {
        println!("no {} on this machine: only the copied part is compared", root.display());
        return;
    }
    let mut folders: Vec<String> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("weights.safetensors").exists())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    folders.sort();
    check_root(&root, &folders.iter().map(|name| (name.as_str(), WHOLE)).collect::<Vec<_>>());
}

/// Composition through training, checkpoint by checkpoint, where the reference is there.
#[test]
fn checkpoints_agree_where_they_are_there() {
    let root = Path::new("../shared/oracle/trained_checkpoints");
    if !root.is_dir() {
        println!("no {} on this machine", root.display());
        return;
    }
    let expected = tensors(&root.join("expected_f64.safetensors"));
    let tokens = repeated_batch(&tensors(&root.join("inputs.safetensors"))["tokens_rep"]);
    let mut comparison = Comparison::default();
    for (index, step) in expected["steps"].iter().enumerate() {
        let weights = root.join(format!("step_{:05}.safetensors", *step as usize));
        if !weights.exists() {
            // The last step is the model `trained`.
            continue;
        }
        let model = model("import", json!({ "weights": weights, "config": root.join("config.json") }));
        for (name, channel) in [("comp.Q", Channel::Q), ("comp.K", Channel::K), ("comp.V", Channel::V)] {
            let expected = expected[name].index_axis(Axis(0), index);
            comparison.check(&format!("step {step} {name}"), composition_tensor(&model, channel).view(), expected, 1e-5, 0.0);
        }
        let circuits = Circuits::new(&model);
        let copying = by_head(&model, |id| copying_score(&circuits, Circuit::FullOv(id)).unwrap());
        let expected_copying = expected["ov.full.copying"].index_axis(Axis(0), index);
        comparison.check(&format!("step {step} ov.full.copying"), copying.view(), expected_copying, 1e-5, 0.0);
        for score in head_scores(&model, &tokens, &Score::all()).unwrap() {
            let names = [
                ("tl_induction_mul", "detect.induction_head.mul"),
                ("tl_previous_token_mul", "detect.previous_token_head.mul"),
                ("tl_duplicate_token_mul", "detect.duplicate_token_head.mul"),
                ("induction_stripe_repeats", "detect.induction_stripe"),
            ];
            let Some((_, name)) = names.iter().find(|(ours, _)| *ours == score.score.name()) else { continue };
            let expected = expected[*name].index_axis(Axis(0), index);
            comparison.check(&format!("step {step} {name}"), score_tensor(&model, &score).view(), expected, 1e-5, 0.0);
        }
    }
    assert!(comparison.compared >= 60 && comparison.failed.is_empty(), "{:#?}", comparison.failed);
}

/// Circuits over tokens, multiplied out, from the table of the measure.
#[test]
fn circuit_tables_agree() {
    let mut comparison = Comparison::default();
    let folder = Path::new("tests/oracle/one_layer");
    let model = model("import", json!({ "weights": folder.join("weights.safetensors") }));
    let expected = tensors(&folder.join("full_circuits.safetensors"));
    for (name, circuit) in [("ov.full.matrix", "full_ov"), ("qk.full.matrix", "full_qk")] {
        comparison.check(name, circuit_tables(&model, circuit).view(), expected[name].view(), 1e-6, 1e-6);
    }
    assert!(comparison.compared == 2 && comparison.failed.is_empty(), "{:#?}", comparison.failed);
}
