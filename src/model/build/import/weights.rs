//! The tensors of a model in a safetensors file: checked from the header alone, then read.

use crate::model::weights::entry;
use crate::model::{BlockWeights, LayerNorm, ModelConfig, Normalization, Weights};
use crate::names::shorten;
use crate::tensor_file::TensorFile;
use crate::{Error, Result};
use half::{bf16, f16};
use ndarray::{Array, Array1, Dimension, Ix1, Ix2, Ix3};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

/// Buffers that TransformerLens saves with the weights, and that follow from the configuration.
const BUFFERS: [&str; 4] = ["mask", "IGNORE", "rotary_sin", "rotary_cos"];

/// One tensor that the configuration has a place for.
struct Expected {
    name: String,
    shape: Vec<usize>,
    required: bool,
}

fn expected(config: &ModelConfig) -> Vec<Expected> {
    let ModelConfig { n_heads, d_model, d_head, d_vocab, n_ctx, .. } = *config;
    let mut all = Vec::new();
    let mut add = |name: String, shape: &[usize], required| all.push(Expected { name, shape: shape.to_vec(), required });
    add("embed.W_E".into(), &[d_vocab, d_model], true);
    if config.has_w_pos() {
        add("pos_embed.W_pos".into(), &[n_ctx, d_model], true);
    }
    let norms = config.normalization == Normalization::Ln;
    for layer in 0..config.n_layers {
        for part in ["W_Q", "W_K", "W_V"] {
            add(format!("blocks.{layer}.attn.{part}"), &[n_heads, d_model, d_head], true);
        }
        add(format!("blocks.{layer}.attn.W_O"), &[n_heads, d_head, d_model], true);
        for part in ["b_Q", "b_K", "b_V"] {
            add(format!("blocks.{layer}.attn.{part}"), &[n_heads, d_head], false);
        }
        add(format!("blocks.{layer}.attn.b_O"), &[d_model], false);
        if norms {
            add(format!("blocks.{layer}.ln1.w"), &[d_model], true);
            add(format!("blocks.{layer}.ln1.b"), &[d_model], true);
        }
    }
    if norms {
        add("ln_final.w".into(), &[d_model], true);
        add("ln_final.b".into(), &[d_model], true);
    }
    add("unembed.W_U".into(), &[d_model, d_vocab], true);
    add("unembed.b_U".into(), &[d_vocab], false);
    all
}

/// Checks that the file holds the tensors of the configuration, in shapes and types that can be read, and nothing that would
/// change the computation.
///
/// # Errors
/// [`Error::File`] names the tensor.
pub(super) fn check_header(file: &TensorFile, config: &ModelConfig) -> Result<()> {
    let path = file.path();
    let mut rest = file.header().tensors();
    if config.n_layers > rest.len() {
        let text = format!("holds {} tensors, too few for the {} layers of the configuration", rest.len(), config.n_layers);
        return Err(Error::file(path, text));
    }
    for Expected { name, shape, required } in expected(config) {
        match rest.remove(name.as_str()) {
            Some(tensor) if tensor.shape != shape => {
                let text = format!("`{name}` has shape {:?}, but the configuration asks for {shape:?}", tensor.shape);
                return Err(Error::file(path, text));
            }
            Some(tensor) if !matches!(tensor.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
                let text = format!("`{name}` holds {:?}, which is none of F32, F64, F16, BF16", tensor.dtype);
                return Err(Error::file(path, text));
            }
            None if required => return Err(Error::file(path, format!("`{name}` is missing, with shape {shape:?}"))),
            _ => {}
        }
    }
    let is_buffer = |name: &str| name.rsplit('.').next().is_some_and(|last| BUFFERS.contains(&last));
    if let Some(name) = rest.into_keys().filter(|name| !is_buffer(name)).min() {
        let name = shorten(&name);
        let text = format!("holds `{name}`, for which an attention-only model of this configuration has no place");
        return Err(Error::file(path, text));
    }
    Ok(())
}

/// Reads tensors whose header was checked.
struct Reader<'a> {
    file: &'a TensorFile,
}

impl Reader<'_> {
    fn error(&self, text: String) -> Error {
        Error::file(self.file.path(), text)
    }

    fn optional<D: Dimension>(&self, name: &str, shape: D) -> Result<Option<Array<f32, D>>> {
        let Some(tensor) = self.file.header().info(name) else { return Ok(None) };
        let array = self.floats(name, tensor)?.and_then(|values| Array::from_shape_vec(shape, values).ok());
        array.map(Some).ok_or_else(|| self.error(format!("`{name}` cannot be read in the shape expected")))
    }

    /// Little-endian numbers of any supported type as `f32`; `None` for what holds others.
    fn floats(&self, name: &str, tensor: &TensorInfo) -> Result<Option<Vec<f32>>> {
        let values = match tensor.dtype {
            Dtype::F32 => self.file.read(tensor, |_, bytes| Ok(f32::from_le_bytes(bytes))),
            Dtype::F64 => self.file.read(tensor, |index, bytes| {
                let value = f64::from_le_bytes(bytes);
                let single = value as f32;
                if single.is_finite() || !value.is_finite() {
                    return Ok(single);
                }
                let place = entry(name, &tensor.shape, index);
                Err(self.error(format!("{place} is {value:?}, too large for F32, in which models are computed")))
            }),
            Dtype::F16 => self.file.read(tensor, |_, bytes| Ok(f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => self.file.read(tensor, |_, bytes| Ok(bf16::from_le_bytes(bytes).to_f32())),
            _ => return Ok(None),
        };
        values.map(Some)
    }

    fn need<D: Dimension>(&self, name: &str, shape: D) -> Result<Array<f32, D>> {
        self.optional(name, shape)?.ok_or_else(|| self.error(format!("`{name}` is missing")))
    }

    fn norm(&self, name: &str, config: &ModelConfig) -> Result<Option<LayerNorm>> {
        if config.normalization != Normalization::Ln {
            return Ok(None);
        }
        let part = |part: &str| -> Result<Array1<f32>> { self.need(&format!("{name}.{part}"), Ix1(config.d_model)) };
        Ok(Some(LayerNorm { w: part("w")?, b: part("b")? }))
    }

    fn block(&self, layer: usize, config: &ModelConfig) -> Result<BlockWeights> {
        let ModelConfig { n_heads, d_model, d_head, .. } = *config;
        let name = |part: &str| format!("blocks.{layer}.attn.{part}");
        let (input, bias) = (Ix3(n_heads, d_model, d_head), Ix2(n_heads, d_head));
        Ok(BlockWeights {
            ln: self.norm(&format!("blocks.{layer}.ln1"), config)?,
            w_q: self.need(&name("W_Q"), input)?,
            w_k: self.need(&name("W_K"), input)?,
            w_v: self.need(&name("W_V"), input)?,
            w_o: self.need(&name("W_O"), Ix3(n_heads, d_head, d_model))?,
            b_q: self.optional(&name("b_Q"), bias)?,
            b_k: self.optional(&name("b_K"), bias)?,
            b_v: self.optional(&name("b_V"), bias)?,
            b_o: self.optional(&name("b_O"), Ix1(d_model))?,
        })
    }
}

/// Reads all tensors, converted to single precision.
///
/// # Errors
/// [`Error::File`] names a tensor that is missing or does not fit; those of [`TensorFile::read`].
pub(super) fn read(file: &TensorFile, config: &ModelConfig) -> Result<Weights> {
    let ModelConfig { n_layers, d_model, d_vocab, n_ctx, .. } = *config;
    let reader = Reader { file };
    let w_pos = config.has_w_pos().then(|| reader.need("pos_embed.W_pos", Ix2(n_ctx, d_model))).transpose()?;
    Ok(Weights {
        w_e: reader.need("embed.W_E", Ix2(d_vocab, d_model))?,
        w_pos,
        blocks: (0..n_layers).map(|layer| reader.block(layer, config)).collect::<Result<_>>()?,
        ln_final: reader.norm("ln_final", config)?,
        w_u: reader.need("unembed.W_U", Ix2(d_model, d_vocab))?,
        b_u: reader.optional("unembed.b_U", Ix1(d_vocab))?,
    })
}
