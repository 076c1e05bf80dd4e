use super::*;
use crate::model::export::export;
use crate::model::{BlockWeights, HeadId, LayerNorm, Normalization, Positions, Weights};
use crate::stream::Stream;
use half::{bf16, f16};
use ndarray::{Array, Dimension, Ix1, Ix2, Ix3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::StandardNormal;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::fs;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/one_layer")
}

fn import(folder: &Path) -> Result<Transformer> {
    let kind = Import { weights: "weights.safetensors".into(), config: None, scramble: false };
    let config = kind.config(folder)?;
    let model = kind.build(&BuildContext { base: folder, stream: Stream::new(0) })?;
    assert_eq!(model.config(), &config);
    Ok(model)
}

/// A copy of the fixture, with changed settings and tensors (`None` removes one).
fn copy(settings: &Value, tensors: &[(&str, Option<TensorView>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(fixture().join("config.json")).unwrap()).unwrap();
    for (name, value) in settings.as_object().unwrap() {
        match value {
            Value::String(text) if text == "REMOVE" => drop(config.as_object_mut().unwrap().remove(name)),
            value => config[name] = value.clone(),
        }
    }
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let bytes = fs::read(fixture().join("weights.safetensors")).unwrap();
    let mut all = SafeTensors::deserialize(&bytes).unwrap().tensors();
    for (name, tensor) in tensors {
        all.retain(|(other, _)| other != name);
        all.extend(tensor.clone().map(|tensor| (name.to_string(), tensor)));
    }
    fs::write(folder.path().join("weights.safetensors"), safetensors::serialize(all, None).unwrap()).unwrap();
    folder
}

fn error(settings: &Value, tensors: &[(&str, Option<TensorView>)]) -> String {
    let folder = copy(settings, tensors);
    let kind = Import { weights: "weights.safetensors".into(), config: None, scramble: false };
    kind.config(folder.path()).unwrap_err().to_string()
}

#[test]
fn a_file_of_transformer_lens_is_imported() {
    let model = import(&fixture()).unwrap();
    let config = model.config();
    assert_eq!((config.n_layers, config.n_heads, config.d_model, config.d_head), (1, 4, 32, 8));
    assert_eq!((config.d_vocab, config.n_ctx, config.positions), (24, 20, Positions::Standard));
    assert_eq!(config.attn_scale, 8f64.sqrt());
    let bytes = fs::read(fixture().join("weights.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let number = |name: &str, index: usize| {
        let data = tensors.tensor(name).unwrap().data()[4 * index..4 * index + 4].try_into().unwrap();
        f32::from_le_bytes(data)
    };
    assert_eq!(model.w_e()[(3, 5)], number("embed.W_E", 3 * 32 + 5));
    assert_eq!(model.head(HeadId::new(0, 2)).w_k[(7, 4)], number("blocks.0.attn.W_K", (2 * 32 + 7) * 8 + 4));
    assert_eq!(model.head(HeadId::new(0, 3)).w_o[(6, 31)], number("blocks.0.attn.W_O", (3 * 8 + 6) * 32 + 31));
    assert_eq!(model.w_u()[(31, 2)], number("unembed.W_U", 31 * 24 + 2));
}

#[test]
fn settings_that_change_the_computation_are_refused_by_name_and_value() {
    for (settings, expected) in [
        (json!({ "attn_only": false }), "`attn_only` is false"),
        (json!({ "attn_only": "REMOVE" }), "`attn_only` is missing"),
        (json!({ "attention_dir": "bidirectional" }), "`attention_dir` is \"bidirectional\""),
        (json!({ "final_rms": true }), "`final_rms` is true"),
        (json!({ "scale_attn_by_inverse_layer_idx": true }), "`scale_attn_by_inverse_layer_idx` is true"),
        (json!({ "normalization_type": "RMS" }), "`normalization_type` is \"RMS\""),
        (json!({ "normalization_type": "REMOVE" }), "`normalization_type` is missing"),
        (json!({ "positional_embedding_type": "alibi" }), "`positional_embedding_type` is \"alibi\""),
        (json!({ "d_vocab_out": 30 }), "`d_vocab_out` is 30"),
        (json!({ "n_key_value_heads": 2 }), "`n_key_value_heads` is 2"),
        (json!({ "use_qk_norm": true }), "`use_qk_norm` is true"),
        (json!({ "attn_scores_soft_cap": 30.0 }), "`attn_scores_soft_cap` is 30"),
        (json!({ "d_head": "REMOVE" }), "`d_head` is missing"),
        (json!({ "d_head": -1 }), "`d_head`: invalid value"),
        (json!({ "d_model": u64::MAX }), "config.json: the model would have"),
        (json!({ "n_layers": 1_000_000 }), "too few for the 1000000 layers"),
        (json!({ "attn_scale": 0.0 }), "attn_scale must be positive"),
    ] {
        let error = error(&settings, &[]);
        assert!(error.contains(expected) && error.contains(".json") | error.contains(".safetensors"), "{settings}: {error}");
    }
}

#[test]
fn harmless_and_unknown_settings_are_let_through() {
    let settings = json!({
        "act_fn": "relu", "device": "cuda", "seed": 3, "attn_scores_soft_cap": -1.0, "d_vocab_out": -1, "use_attn_result": true,
        "n_key_value_heads": null, "attn_scale": -1.0, "eps": "REMOVE", "model_name": "custom"
    });
    assert_eq!(import(copy(&settings, &[]).path()).unwrap(), import(&fixture()).unwrap());
    let scale = |settings| import(copy(&settings, &[]).path()).unwrap().config().attn_scale;
    assert_eq!(scale(json!({ "use_attn_scale": false })), 1.0);
    assert_eq!(scale(json!({ "attn_scale": 3.5 })), 3.5);
    assert_eq!(scale(json!({ "attn_scale": 2.8284271247461905 })), 8f64.sqrt());
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let zeros = [0; 4 * 24 * 32];
    let view = |dtype, shape: &[usize]| {
        let bytes = shape.iter().product::<usize>() * dtype_size(dtype);
        Some(TensorView::new(dtype, shape.to_vec(), &zeros[..bytes]).unwrap())
    };
    let none = json!({});
    assert!(error(&none, &[("embed.W_E", None)]).ends_with("`embed.W_E` is missing, with shape [24, 32]"));
    assert!(error(&none, &[("pos_embed.W_pos", None)]).contains("`pos_embed.W_pos` is missing"));
    let wrong = error(&none, &[("unembed.W_U", view(Dtype::F32, &[24, 32]))]);
    assert!(wrong.contains("`unembed.W_U` has shape [24, 32], but the configuration asks for [32, 24]"), "{wrong}");
    assert!(error(&none, &[("unembed.b_U", view(Dtype::I32, &[24]))]).contains("`unembed.b_U` holds I32"));
    for name in ["blocks.0.mlp.W_in", "blocks.1.attn.W_Q", "blocks.0.ln1.w"] {
        assert!(error(&none, &[(name, view(Dtype::F32, &[4]))]).contains(&format!("holds `{name}`")));
    }
    let buffers = [("blocks.0.attn.mask", view(Dtype::BOOL, &[20, 20])), ("blocks.0.attn.IGNORE", view(Dtype::F32, &[]))];
    assert!(import(copy(&none, &buffers).path()).is_ok());
    let no_biases = ["b_Q", "b_K", "b_V", "b_O"].map(|name| format!("blocks.0.attn.{name}"));
    let no_biases = no_biases.iter().map(|name| (name.as_str(), None)).collect::<Vec<_>>();
    let weights = import(copy(&none, &no_biases).path()).unwrap().to_weights();
    assert!(weights.blocks[0].b_q.is_none() && weights.blocks[0].b_o.is_none() && weights.b_u.is_some());
}

fn dtype_size(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

#[test]
fn every_float_type_is_converted() {
    let values = (0..24).map(|index| index as f32 / 4.0 - 2.0).collect::<Vec<_>>();
    let encoded = |encode: fn(f32) -> Vec<u8>| values.iter().flat_map(|&value| encode(value)).collect::<Vec<_>>();
    for (dtype, bytes) in [
        (Dtype::F64, encoded(|value| f64::from(value).to_le_bytes().to_vec())),
        (Dtype::F16, encoded(|value| f16::from_f32(value).to_le_bytes().to_vec())),
        (Dtype::BF16, encoded(|value| bf16::from_f32(value).to_le_bytes().to_vec())),
    ] {
        let tensor = TensorView::new(dtype, vec![24], &bytes).unwrap();
        let model = import(copy(&json!({}), &[("unembed.b_U", Some(tensor))]).path()).unwrap();
        assert_eq!(model.b_u().unwrap().to_vec(), values, "{dtype:?}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let error = |name: &str, dtype: Dtype, shape: &[usize], entry: &[usize], number: &[u8]| {
        let flat = entry.iter().zip(shape).fold(0, |flat, (index, length)| flat * length + index);
        let mut bytes = vec![0; shape.iter().product::<usize>() * number.len()];
        bytes[flat * number.len()..][..number.len()].copy_from_slice(number);
        let tensor = TensorView::new(dtype, shape.to_vec(), &bytes).unwrap();
        import(copy(&json!({}), &[(name, Some(tensor))]).path()).unwrap_err().to_string()
    };
    let (w_q, nan, infinite) = ("blocks.0.attn.W_Q", f32::NAN.to_le_bytes(), f32::NEG_INFINITY.to_le_bytes());
    for (found, expected) in [
        (error("unembed.b_U", Dtype::F32, &[24], &[5], &nan), "unembed.b_U[5] is NaN"),
        (error(w_q, Dtype::F32, &[4, 32, 8], &[2, 5, 1], &nan), "blocks.0.attn.W_Q[2, 5, 1] is NaN"),
        (error("embed.W_E", Dtype::F32, &[24, 32], &[23, 0], &infinite), "embed.W_E[23, 0] is infinite"),
        (
            error(w_q, Dtype::F16, &[4, 32, 8], &[3, 31, 7], &f16::INFINITY.to_le_bytes()),
            "blocks.0.attn.W_Q[3, 31, 7] is infinite",
        ),
        (error(w_q, Dtype::BF16, &[4, 32, 8], &[0, 0, 7], &bf16::NAN.to_le_bytes()), "blocks.0.attn.W_Q[0, 0, 7] is NaN"),
        (error(w_q, Dtype::F64, &[4, 32, 8], &[0, 1, 0], &f64::NAN.to_le_bytes()), "blocks.0.attn.W_Q[0, 1, 0] is NaN"),
        (
            error(w_q, Dtype::F64, &[4, 32, 8], &[1, 0, 2], &(-3.5e38f64).to_le_bytes()),
            "blocks.0.attn.W_Q[1, 0, 2] is -3.5e38, too large for F32",
        ),
    ] {
        assert!(found.contains(&format!("weights.safetensors: {expected}")), "{found}");
    }
}

/// What is too small for F32 is zero, and what is nearly too large is the largest: rounding, as in any conversion.
#[test]
fn numbers_of_double_precision_are_rounded() {
    let numbers = [1e-60, f64::from(f32::MAX) * (1.0 + 1e-9), 0.1];
    let bytes: Vec<u8> = (0..24).flat_map(|index| numbers[index % 3].to_le_bytes()).collect();
    let tensor = TensorView::new(Dtype::F64, vec![24], &bytes).unwrap();
    let model = import(copy(&json!({}), &[("unembed.b_U", Some(tensor))]).path()).unwrap();
    assert_eq!(model.b_u().unwrap().to_vec()[..3], [0.0, f32::MAX, 0.1]);
}

#[test]
fn a_broken_file_is_an_error() {
    let folder = copy(&json!({}), &[]);
    let path = folder.path().join("weights.safetensors");
    let bytes = fs::read(&path).unwrap();
    for part in [&bytes[..bytes.len() - 1], &bytes[..100], &bytes[..3], &[]] {
        fs::write(&path, part).unwrap();
        assert!(matches!(import(folder.path()), Err(Error::File { .. })), "{}", part.len());
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(import(folder.path()), Err(Error::Io { .. })));
    fs::write(folder.path().join("config.json"), "[]").unwrap();
    assert!(matches!(import(folder.path()), Err(Error::File { .. })));
}

/// Any model with these options, every weight random.
fn model(normalization: Normalization, positions: Positions, biases: bool) -> Transformer {
    let (n_layers, n_heads, d_model, d_head, d_vocab, n_ctx) = (2, 3, 10, 6, 9, 8);
    let config = ModelConfig {
        n_layers,
        n_heads,
        d_model,
        d_head,
        d_vocab,
        n_ctx,
        normalization,
        eps: 3e-6,
        positions,
        attn_scale: (d_head as f64).sqrt(),
    };
    let mut rng = Stream::new(5).rng("weights");
    let mut draw = Draw(&mut rng);
    let norm = |draw: &mut Draw| {
        (normalization == Normalization::Ln).then(|| LayerNorm { w: draw.array(Ix1(d_model)), b: draw.array(Ix1(d_model)) })
    };
    let blocks = (0..n_layers).map(|_| BlockWeights {
        ln: norm(&mut draw),
        w_q: draw.array(Ix3(n_heads, d_model, d_head)),
        w_k: draw.array(Ix3(n_heads, d_model, d_head)),
        w_v: draw.array(Ix3(n_heads, d_model, d_head)),
        w_o: draw.array(Ix3(n_heads, d_head, d_model)),
        b_q: biases.then(|| draw.array(Ix2(n_heads, d_head))),
        b_k: biases.then(|| draw.array(Ix2(n_heads, d_head))),
        b_v: biases.then(|| draw.array(Ix2(n_heads, d_head))),
        b_o: biases.then(|| draw.array(Ix1(d_model))),
    });
    let blocks = blocks.collect();
    let weights = Weights {
        w_e: draw.array(Ix2(d_vocab, d_model)),
        w_pos: config.has_w_pos().then(|| draw.array(Ix2(n_ctx, d_model))),
        blocks,
        ln_final: norm(&mut draw),
        w_u: draw.array(Ix2(d_model, d_vocab)),
        b_u: biases.then(|| draw.array(Ix1(d_vocab))),
    };
    Transformer::new(config, weights).unwrap()
}

struct Draw<'a>(&'a mut rand_chacha::ChaCha8Rng);

impl Draw<'_> {
    fn array<D: Dimension>(&mut self, shape: D) -> Array<f32, D> {
        Array::random_using(shape, StandardNormal, self.0)
    }
}

#[test]
fn importing_what_was_exported_gives_the_same_model() {
    let rotary = |dim, base, adjacent_pairs| Positions::Rotary { dim, base, adjacent_pairs };
    let schemes = [Positions::None, Positions::Standard, Positions::Shortformer, rotary(4, 500.5, true), rotary(6, 1e4, false)];
    for normalization in [Normalization::None, Normalization::Ln, Normalization::LnPre] {
        for positions in schemes {
            for biases in [false, true] {
                let model = model(normalization, positions, biases);
                let folder = tempfile::tempdir().unwrap();
                let inner = folder.path().join("made/on/the/way");
                export(&model, &inner).unwrap();
                assert_eq!(import(&inner).unwrap(), model);
            }
        }
    }
}

#[test]
fn exported_bytes_depend_on_the_model_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = || {
        export(&model(Normalization::Ln, Positions::Standard, true), folder.path()).unwrap();
        ["weights.safetensors", "config.json"].map(|name| fs::read(folder.path().join(name)).unwrap())
    };
    assert_eq!(bytes(), bytes());
    let mut names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["config.json", "weights.safetensors"], "nothing temporary is left");
}

#[test]
fn the_exported_configuration_is_the_one_that_was_imported() {
    let folder = tempfile::tempdir().unwrap();
    export(&import(&fixture()).unwrap(), folder.path()).unwrap();
    let read = |folder: &Path| -> Value { serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap() };
    assert_eq!(read(folder.path()), read(&fixture()));
}

/// Each head keeps its spectra, and no two heads their relation.
#[test]
fn a_scrambled_model_keeps_what_a_head_is_by_itself() {
    use crate::linalg::LowRank;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/two_layer");
    let build = |scramble: bool, seed: u64| {
        let kind = Import { weights: "weights.safetensors".into(), config: None, scramble };
        kind.build(&BuildContext { base: &folder, stream: Stream::new(seed) }).unwrap()
    };
    let circuits = |model: &Transformer, id: HeadId| {
        let head = model.head(id);
        [LowRank::from_f32(head.w_v, head.w_o).unwrap(), LowRank::from_f32(head.w_q, head.w_k.t()).unwrap()]
    };
    let (plain, scrambled) = (build(false, 0), build(true, 0));
    for id in plain.config().heads() {
        for (found, expected) in circuits(&scrambled, id).iter().zip(&circuits(&plain, id)) {
            assert!((found.trace().unwrap() - expected.trace().unwrap()).abs() < 1e-4);
            for (found, expected) in found.singular_values().unwrap().iter().zip(expected.singular_values().unwrap()) {
                assert!((found - expected).abs() < 1e-5 * (1.0 + expected), "{found} {expected}");
            }
        }
    }
    let composed = |model: &Transformer| {
        let [ov, _] = circuits(model, HeadId::new(0, 0));
        let [_, qk] = circuits(model, HeadId::new(1, 0));
        ov.then(&qk.t()).unwrap().norm()
    };
    assert!((composed(&scrambled) / composed(&plain) - 1.0).abs() > 1e-3);
    assert_ne!(composed(&scrambled), composed(&build(true, 1)));
    assert_eq!(composed(&scrambled), composed(&build(true, 0)));
}
