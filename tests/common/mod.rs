//! What several test files share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use attn_circuits::circuit::sweep::{Outcome, Sweep};
use attn_circuits::input::{INPUTS, InputContext, TokenBatch};
use attn_circuits::kind::Kind;
use attn_circuits::model::build::{BuildContext, MODELS, ModelKind};
use attn_circuits::model::intervention::Intervention;
use attn_circuits::model::{BlockWeights, ModelConfig, Normalization, Positions, Transformer, Weights};
use attn_circuits::stream::Stream;
use ndarray::{Array, Array2, ArrayD, Axis, Dimension, ShapeBuilder};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::Normal;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A model from the parameters of its kind, as they would stand in a YAML file.
pub fn model(kind: &str, parameters: Value) -> Transformer {
    let kind = Kind::<dyn ModelKind>::find(MODELS, kind).expect("a kind of model");
    let builder = (kind.parse)(parameters).expect("parameters of the kind");
    let context = BuildContext { base: Path::new(""), stream: Stream::new(1).child("test model") };
    builder.build(&context).expect("a model that can be built")
}

/// An input from the parameters of its kind.
pub fn input(kind: &str, parameters: Value, d_vocab: usize) -> TokenBatch {
    let kind = Kind::find(INPUTS, kind).expect("a kind of input");
    let builder = (kind.parse)(parameters).expect("parameters of the kind");
    let context = InputContext { base: Path::new(""), stream: Stream::new(1).child("test input"), d_vocab, original: None };
    builder.build(&context).expect("an input that can be built")
}

/// The tensors of a safetensors file as `f64`.
pub fn tensors(path: &Path) -> BTreeMap<String, ArrayD<f64>> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let mut all = BTreeMap::new();
    for (name, view) in file.tensors() {
        let data = view.data();
        let values: Vec<f64> = match view.dtype() {
            Dtype::F64 => data.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect(),
            Dtype::F32 => data.chunks_exact(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().unwrap()))).collect(),
            Dtype::I64 => data.chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap()) as f64).collect(),
            other => panic!("{name}: unexpected dtype {other:?}"),
        };
        all.insert(name.to_string(), ArrayD::from_shape_vec(view.shape(), values).expect("shape fits"));
    }
    all
}

/// The tokens of an input tensor.
pub fn batch(tensor: &ArrayD<f64>) -> TokenBatch {
    let tokens = tensor.mapv(|token| token as u32).into_dimensionality().expect("tokens are [B, n]");
    TokenBatch::new(tokens, None).expect("a batch")
}

/// Gaussian numbers of variance 1.
pub fn gaussian<Sh: ShapeBuilder<Dim = D>, D: Dimension>(shape: Sh, stream: &Stream, name: &str) -> Array<f32, D> {
    Array::random_using(shape, Normal::new(0.0f32, 1.0).unwrap(), &mut stream.rng(name))
}

/// A configuration without LayerNorm, with standard positions.
pub fn config(n_layers: usize, n_heads: usize, d_model: usize, d_head: usize, d_vocab: usize) -> ModelConfig {
    ModelConfig {
        n_layers,
        n_heads,
        d_model,
        d_head,
        d_vocab,
        n_ctx: 16,
        normalization: Normalization::None,
        eps: 1e-5,
        positions: Positions::Standard,
        attn_scale: (d_head.max(1) as f64).sqrt(),
    }
}

/// Gaussian weights, sized such that scores and logits are of order 1, with all biases if asked.
pub fn random_weights(config: &ModelConfig, biases: bool, seed: u64) -> Weights {
    let stream = Stream::new(seed);
    let (d, k, h) = (config.d_model, config.d_head, config.n_heads);
    let scale = |width: usize| 1.0 / (width.max(1) as f32).sqrt();
    let blocks = (0..config.n_layers).map(|layer| {
        let stream = stream.child(layer.to_string());
        let bias = |name: &str| biases.then(|| gaussian((h, k), &stream, name) * 0.3);
        BlockWeights {
            ln: None,
            w_q: gaussian((h, d, k), &stream, "W_Q") * scale(d),
            w_k: gaussian((h, d, k), &stream, "W_K") * scale(d),
            w_v: gaussian((h, d, k), &stream, "W_V") * scale(d),
            w_o: gaussian((h, k, d), &stream, "W_O") * scale(k * h),
            b_q: bias("b_Q"),
            b_k: bias("b_K"),
            b_v: bias("b_V"),
            b_o: biases.then(|| gaussian(d, &stream, "b_O") * 0.3),
        }
    });
    Weights {
        w_e: gaussian((config.d_vocab, d), &stream, "W_E"),
        w_pos: config.has_w_pos().then(|| gaussian((config.n_ctx, d), &stream, "W_pos") * 0.5),
        blocks: blocks.collect(),
        ln_final: None,
        w_u: gaussian((d, config.d_vocab), &stream, "W_U") * scale(d),
        b_u: biases.then(|| gaussian(config.d_vocab, &stream, "b_U") * 0.3),
    }
}

/// A random rotation, by Gram–Schmidt in `f64`.
pub fn rotation(d: usize, stream: &Stream) -> Array2<f64> {
    let mut q = gaussian((d, d), stream, "rotation").mapv(f64::from);
    for i in 0..d {
        for j in 0..i {
            let along = q.row(i).dot(&q.row(j));
            let other = q.row(j).to_owned();
            q.row_mut(i).scaled_add(-along, &other);
        }
        let length = q.row(i).dot(&q.row(i)).sqrt();
        q.row_mut(i).mapv_inplace(|v| v / length);
    }
    q
}

fn product(a: ndarray::ArrayView2<f32>, b: &Array2<f64>) -> Array2<f32> {
    a.mapv(f64::from).dot(b).mapv(|v| v as f32)
}

/// The same model in a rotated stream.
pub fn rotated(config: &ModelConfig, weights: &Weights, r: &Array2<f64>) -> Transformer {
    let mut turned = weights.clone();
    turned.w_e = product(weights.w_e.view(), r);
    turned.w_pos = weights.w_pos.as_ref().map(|w| product(w.view(), r));
    turned.w_u = r.t().dot(&weights.w_u.mapv(f64::from)).mapv(|v| v as f32);
    for block in &mut turned.blocks {
        for w in [&mut block.w_q, &mut block.w_k, &mut block.w_v] {
            for mut of_head in w.axis_iter_mut(Axis(0)) {
                let new = r.t().dot(&of_head.mapv(f64::from)).mapv(|v| v as f32);
                of_head.assign(&new);
            }
        }
        for mut of_head in block.w_o.axis_iter_mut(Axis(0)) {
            let new = product(of_head.view(), r);
            of_head.assign(&new);
        }
        block.b_o = block.b_o.as_ref().map(|b| product(b.view().insert_axis(Axis(0)), r).remove_axis(Axis(0)));
    }
    Transformer::new(config.clone(), turned).expect("a rotation keeps shapes")
}

/// The same model with other bases within its heads: `W_Q M`, `W_K M⁻ᵀ`, `W_V N`, `N⁻¹ W_O` (biases alike).
pub fn rebased(config: &ModelConfig, weights: &Weights, stream: &Stream) -> Transformer {
    let k = config.d_head;
    let mut changed = weights.clone();
    for (layer, block) in changed.blocks.iter_mut().enumerate() {
        for head in 0..config.n_heads {
            let stream = stream.child(format!("{layer}.{head}"));
            // A rotation times a diagonal has an inverse that can be written down.
            let basis = |name: &str| {
                let (r, scale) =
                    (rotation(k, &stream.child(name)), gaussian(k, &stream, name).mapv(|v| f64::from(v.abs()) + 0.5));
                (&r * &scale, (&r / &scale).reversed_axes())
            };
            let (m, m_inverse) = basis("qk");
            let (n, n_inverse) = basis("ov");
            let apply = |w: &mut ndarray::Array3<f32>, by: &Array2<f64>| {
                let new = product(w.index_axis(Axis(0), head), by);
                w.index_axis_mut(Axis(0), head).assign(&new);
            };
            apply(&mut block.w_q, &m);
            apply(&mut block.w_k, &m_inverse.t().to_owned());
            apply(&mut block.w_v, &n);
            let new = n_inverse.dot(&block.w_o.index_axis(Axis(0), head).mapv(f64::from)).mapv(|v| v as f32);
            block.w_o.index_axis_mut(Axis(0), head).assign(&new);
            let biases = [(&mut block.b_q, &m), (&mut block.b_k, &m_inverse.t().to_owned()), (&mut block.b_v, &n)];
            for (bias, by) in biases {
                if let Some(bias) = bias {
                    let new = product(bias.row(head).insert_axis(Axis(0)), by).remove_axis(Axis(0));
                    bias.row_mut(head).assign(&new);
                }
            }
        }
    }
    Transformer::new(config.clone(), changed).expect("a change of basis keeps shapes")
}

/// The mean over sequences at each position that predicts, of a sweep's loss (or accuracy) under each intervention.
pub fn by_position(
    sweep: &Sweep,
    positions: usize,
    interventions: &[Intervention],
    of: fn(&Outcome) -> &Array2<f64>,
) -> Vec<ndarray::Array1<f64>> {
    let groups: Vec<_> = (0..positions).map(|position| vec![position]).collect();
    let found = sweep.run(interventions, &groups).expect("interventions that fit");
    found.intervened.iter().map(|outcome| of(outcome).mean_axis(Axis(0)).expect("sequences")).collect()
}
