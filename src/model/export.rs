//! Models into files, in TransformerLens' names and shapes.

use super::build::weight_bytes;
use super::{BlockWeights, LayerNorm, ModelConfig, Normalization, Positions, Transformer, Weights};
use crate::{Error, Result, files};
use ndarray::{Array, Dimension};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use std::path::Path;

/// Writes `weights.safetensors` and `config.json` into `folder`, which is made if need be.
///
/// Importing them gives the same model, and TransformerLens reads these names and settings. It has no name for a model without
/// positions, which is therefore written as one whose rotary positions turn no dimension. The bytes depend on the model alone. Each
/// file appears whole or not at all.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
/// # let folder = folder.path();
/// # let mut notebook = Notebook::new("example")?;
/// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
/// let model = notebook.model("random", yaml)?;
/// export(&model, folder)?;
/// let weights = folder.join("weights.safetensors");
/// let again = notebook.model("again", &format!("{{ kind: import, weights: {} }}", serde_json::json!(weights)))?;
/// assert!(again == model);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Io`] if the folder or a file cannot be written.
pub fn export(model: &Transformer, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let tensors = tensors(&model.to_weights());
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        view.map(|view| (name.as_str(), view))
    });
    let path = folder.join("weights.safetensors");
    let bytes = views
        .collect::<Result<Vec<_>, _>>()
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|error| Error::file(&path, format!("cannot be written: {error}")))?;
    files::replace(&path, &bytes)?;
    let path = folder.join("config.json");
    let mut text = serde_json::to_string_pretty(&config(model.config()))
        .map_err(|error| Error::file(&path, format!("cannot be written: {error}")))?;
    text.push('\n');
    files::replace(&path, text.as_bytes())
}

/// Bytes that [`export`] takes with the model itself: that, its tensors in the order of the file, and the file.
///
/// ```
/// use attn_circuits::model::export::export_bytes;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
/// let model = notebook.model("random", yaml)?;
/// // Three times the weights, in single precision.
/// assert_eq!(export_bytes(model.config()) as u128, 3 * 4 * model.config().n_params());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub fn export_bytes(config: &ModelConfig) -> usize {
    weight_bytes::<f32>(config).saturating_mul(3)
}

fn config(config: &ModelConfig) -> Value {
    let (positions, rotary) = match config.positions {
        Positions::Standard => ("standard", None),
        Positions::Shortformer => ("shortformer", None),
        Positions::Rotary { dim, base, adjacent_pairs } => ("rotary", Some((dim, base, adjacent_pairs))),
        Positions::None => ("rotary", Some((0, 10_000.0, false))),
    };
    let normalization = match config.normalization {
        Normalization::None => None,
        Normalization::Ln => Some("LN"),
        Normalization::LnPre => Some("LNPre"),
    };
    json!({
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "d_model": config.d_model,
        "d_head": config.d_head,
        "d_vocab": config.d_vocab,
        "d_vocab_out": config.d_vocab,
        "n_ctx": config.n_ctx,
        "attn_only": true,
        "normalization_type": normalization,
        "eps": config.eps,
        "positional_embedding_type": positions,
        "rotary_dim": rotary.map(|(dim, _, _)| dim),
        "rotary_base": rotary.map_or(json!(10_000), |(_, base, _)| number(base)),
        "rotary_adjacent_pairs": rotary.is_some_and(|(_, _, adjacent)| adjacent),
        "attention_dir": "causal",
        "use_attn_scale": true,
        "attn_scale": config.attn_scale,
        "final_rms": false,
        "scale_attn_by_inverse_layer_idx": false,
    })
}

/// A whole number without a fraction, as TransformerLens wants the rotary base.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// Name, shape and little-endian bytes of a tensor.
type Tensor = (String, Vec<usize>, Vec<u8>);

fn tensor<D: Dimension>(name: impl Into<String>, array: &Array<f32, D>) -> Tensor {
    let bytes = array.iter().flat_map(|value| value.to_le_bytes()).collect();
    (name.into(), array.shape().to_vec(), bytes)
}

fn tensors(weights: &Weights) -> Vec<Tensor> {
    let Weights { w_e, w_pos, blocks, ln_final, w_u, b_u } = weights;
    let mut all = vec![tensor("embed.W_E", w_e), tensor("unembed.W_U", w_u)];
    all.extend(w_pos.iter().map(|w_pos| tensor("pos_embed.W_pos", w_pos)));
    all.extend(b_u.iter().map(|b_u| tensor("unembed.b_U", b_u)));
    all.extend(norm("ln_final", ln_final));
    for (layer, block) in blocks.iter().enumerate() {
        let BlockWeights { ln, w_q, w_k, w_v, w_o, b_q, b_k, b_v, b_o } = block;
        let name = |part: &str| format!("blocks.{layer}.attn.{part}");
        all.extend(norm(&format!("blocks.{layer}.ln1"), ln));
        for (part, array) in [("W_Q", w_q), ("W_K", w_k), ("W_V", w_v), ("W_O", w_o)] {
            all.push(tensor(name(part), array));
        }
        for (part, array) in [("b_Q", b_q), ("b_K", b_k), ("b_V", b_v)] {
            all.extend(array.iter().map(|array| tensor(name(part), array)));
        }
        all.extend(b_o.iter().map(|b_o| tensor(name("b_O"), b_o)));
    }
    all
}

fn norm(name: &str, norm: &Option<LayerNorm>) -> Vec<Tensor> {
    let parts = |LayerNorm { w, b }: &LayerNorm| [tensor(format!("{name}.w"), w), tensor(format!("{name}.b"), b)];
    norm.iter().flat_map(parts).collect()
}
