//! Models with independent random weights, as at the start of training.

use super::{BuildContext, ModelKind, Theory, checked};
use crate::kind::Described;
use crate::model::{BlockWeights, LayerNorm, ModelConfig, Normalization, Positions, Transformer, Weights};
use crate::{Error, Result};
use ndarray::{Array, Array1, Dimension, Ix2, Ix3};
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::{Distribution as _, StandardNormal, StandardUniform};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A model with independent random weights, as at the start of training.
///
/// Every tensor is drawn from a random stream of its own name, so a model with more layers has the same first ones, and a change of
/// scale changes only the scale.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Random {
    /// Number of layers; 0 is a bigram model.
    #[schemars(range(max = 1000))]
    pub layers: usize,
    /// Heads in each layer.
    #[schemars(range(min = 1))]
    pub heads: usize,
    /// Width of the residual stream.
    #[schemars(range(min = 1))]
    pub d_model: usize,
    /// Width of a head. Default: `d_model / heads`, if that is whole.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub d_head: Option<usize>,
    /// Number of tokens.
    #[schemars(range(min = 1))]
    pub vocab: usize,
    /// Longest sequence.
    #[schemars(range(min = 1))]
    pub context: usize,
    /// How the standard deviation of the weights depends on their shape.
    ///
    /// `fan_in` and `fan_out` are counted as TransformerLens does: for `W_E`, `W_pos` and `W_U` rows and columns; for `W_Q`,
    /// `W_K` and `W_V` `d_model` and `heads · d_head`; for `W_O` `d_head` and `heads · d_model`.
    #[serde(default)]
    pub init: Init,
    /// Normal, or uniform with the same standard deviation. Only with `xavier` and `kaiming`; default: `normal`.
    #[serde(default)]
    pub distribution: Option<Distribution>,
    /// Standard deviation of all weights with `init: gaussian`. Default: 0.8 / √`d_model`, as in TransformerLens.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub std: Option<f64>,
    /// Factor on the standard deviation with `xavier` and `kaiming`. Default: 1.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub gain: Option<f64>,
    /// Where positions enter.
    #[serde(default)]
    pub positions: PositionScheme,
    /// With `positions: rotary`: how many coordinates of a head are rotated; even. Default: all.
    #[serde(default)]
    #[schemars(range(min = 2))]
    pub rotary_dim: Option<usize>,
    /// With `positions: rotary`: pair i turns by position · base^(−2i/`rotary_dim`). Default: 10000.
    #[serde(default)]
    #[schemars(range(min = 1.0))]
    pub rotary_base: Option<f64>,
    /// Normalisation before each layer and before the unembedding.
    #[serde(default)]
    pub layer_norm: LayerNorms,
    /// Whether heads and unembedding have biases. They are Gaussian with the standard deviation of the matrix that they are
    /// added behind: biases of zero, with which training starts, would be the same as none.
    #[serde(default)]
    pub biases: bool,
}

/// How the standard deviation of the weights depends on their shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Normal with standard deviation `std` everywhere.
    #[default]
    Gaussian,
    /// Standard deviation `gain` · √(2 / (`fan_in` + `fan_out`)).
    Xavier,
    /// Standard deviation `gain` · √(2 / `fan_in`).
    Kaiming,
}

/// The shape of the distribution of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Gaussian.
    #[default]
    Normal,
    /// Uniform between ±√3 standard deviations.
    Uniform,
}

/// Where positions enter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PositionScheme {
    /// A position embedding is added to the token embedding.
    #[default]
    Standard,
    /// Nowhere: a head sees positions only through the causal mask.
    None,
    /// A position embedding is added to the input of queries and keys, never to the stream.
    Shortformer,
    /// Queries and keys are rotated by an angle proportional to the position.
    Rotary,
}

/// Normalisation of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerNorms {
    /// None: the stream is linear.
    #[default]
    None,
    /// LayerNorm with weight (1 here) and bias (0 here).
    Ln,
    /// LayerNorm without weight and bias.
    LnPre,
}

impl Described for Random {
    const NAME: &'static str = "random";
    const EXAMPLE: &'static str = "\
random:
  kind: random
  layers: 2
  heads: 4
  d_model: 64
  vocab: 33
  context: 61
  replicates: 16
";
}

impl Random {
    fn d_head(&self) -> Result<usize> {
        match (self.d_head, self.d_model.checked_rem(self.heads)) {
            (Some(d_head), _) => Ok(d_head),
            (None, Some(0)) => Ok(self.d_model / self.heads),
            (None, _) => {
                let text = format!(
                    "d_head must be given, since d_model = {} is not a multiple of heads = {}",
                    self.d_model, self.heads
                );
                Err(Error::parameter("d_model", text))
            }
        }
    }

    /// Refuses options that another option makes meaningless.
    fn check_options(&self) -> Result<()> {
        let gaussian = self.init == Init::Gaussian;
        let rotary = self.positions == PositionScheme::Rotary;
        for (name, given, allowed, condition) in [
            ("std", self.std.is_some(), gaussian, "`init: gaussian`"),
            ("gain", self.gain.is_some(), !gaussian, "`init: xavier` or `init: kaiming`"),
            ("distribution", self.distribution.is_some(), !gaussian, "`init: xavier` or `init: kaiming`"),
            ("rotary_dim", self.rotary_dim.is_some(), rotary, "`positions: rotary`"),
            ("rotary_base", self.rotary_base.is_some(), rotary, "`positions: rotary`"),
        ] {
            if given && !allowed {
                return Err(Error::parameter(name, format!("{name} has a meaning only with {condition}")));
            }
        }
        for (name, value) in [("std", self.std), ("gain", self.gain)] {
            if let Some(value) = value.filter(|value| !(0.0..=1e6).contains(value)) {
                return Err(Error::parameter(name, format!("{name} must lie between 0 and 1000000, and is {value}")));
            }
        }
        Ok(())
    }

    fn positions(&self, d_head: usize) -> Result<Positions> {
        Ok(match self.positions {
            PositionScheme::Standard => Positions::Standard,
            PositionScheme::None => Positions::None,
            PositionScheme::Shortformer => Positions::Shortformer,
            PositionScheme::Rotary => {
                let dim = self.rotary_dim.unwrap_or(d_head);
                if dim == 0 || dim % 2 == 1 || dim > d_head {
                    let text = format!("rotary_dim must be even, from 2 to d_head = {d_head}, and is {dim}");
                    return Err(Error::parameter(if self.rotary_dim.is_some() { "rotary_dim" } else { "positions" }, text));
                }
                Positions::Rotary { dim, base: self.rotary_base.unwrap_or(10_000.0), adjacent_pairs: false }
            }
        })
    }

    fn model_config(&self) -> Result<ModelConfig> {
        for (name, value) in [("heads", self.heads), ("d_model", self.d_model), ("d_head", self.d_head.unwrap_or(1))] {
            if value == 0 {
                return Err(Error::parameter(name, format!("{name} must be at least 1")));
            }
        }
        self.check_options()?;
        let d_head = self.d_head()?;
        checked(ModelConfig {
            n_layers: self.layers,
            n_heads: self.heads,
            d_model: self.d_model,
            d_head,
            d_vocab: self.vocab,
            n_ctx: self.context,
            normalization: match self.layer_norm {
                LayerNorms::None => Normalization::None,
                LayerNorms::Ln => Normalization::Ln,
                LayerNorms::LnPre => Normalization::LnPre,
            },
            eps: 1e-5,
            positions: self.positions(d_head)?,
            attn_scale: (d_head as f64).sqrt(),
        })
    }

    /// Standard deviation of the weights of a tensor with these fans.
    fn deviation(&self, (fan_in, fan_out): (usize, usize)) -> f64 {
        let gain = self.gain.unwrap_or(1.0);
        match self.init {
            Init::Gaussian => self.std.unwrap_or(0.8 / (self.d_model as f64).sqrt()),
            Init::Xavier => gain * (2.0 / (fan_in as f64 + fan_out as f64)).sqrt(),
            Init::Kaiming => gain * (2.0 / fan_in as f64).sqrt(),
        }
    }
}

/// The drawing of one model's tensors.
struct Draws<'a> {
    kind: &'a Random,
    config: &'a ModelConfig,
    context: &'a BuildContext<'a>,
}

impl Draws<'_> {
    fn tensor<D: Dimension>(&self, name: &str, shape: D, fans: (usize, usize)) -> Array<f32, D> {
        let mut rng = self.context.stream.rng(name);
        let deviation = self.kind.deviation(fans);
        let unit = match self.kind.distribution.unwrap_or_default() {
            Distribution::Normal => Array::<f64, D>::random_using(shape, StandardNormal, &mut rng),
            Distribution::Uniform => {
                let centred = StandardUniform.map(|unit: f64| (2.0 * unit - 1.0) * 3f64.sqrt());
                Array::random_using(shape, centred, &mut rng)
            }
        };
        unit.mapv(|value| (deviation * value) as f32)
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Array<f32, Ix2> {
        self.tensor(name, Ix2(rows, columns), (rows, columns))
    }

    /// A Gaussian bias with the standard deviation of the matrix that it stands behind.
    fn bias<D: Dimension>(&self, name: &str, shape: D, fans: (usize, usize)) -> Option<Array<f32, D>> {
        let deviation = self.kind.deviation(fans);
        self.kind.biases.then(|| {
            let unit = Array::<f64, D>::random_using(shape, StandardNormal, &mut self.context.stream.rng(name));
            unit.mapv(|value| (deviation * value) as f32)
        })
    }

    fn norm(&self) -> Option<LayerNorm> {
        let d_model = self.config.d_model;
        (self.config.normalization == Normalization::Ln)
            .then(|| LayerNorm { w: Array1::ones(d_model), b: Array1::zeros(d_model) })
    }

    fn block(&self, layer: usize) -> BlockWeights {
        let ModelConfig { n_heads, d_model, d_head, .. } = *self.config;
        let name = |part: &str| format!("blocks.{layer}.attn.{part}");
        let (inward, outward) = ((d_model, n_heads * d_head), (d_head, n_heads * d_model));
        let input = |part: &str| self.tensor(&name(part), Ix3(n_heads, d_model, d_head), inward);
        let bias = |part: &str| self.bias(&name(part), Ix2(n_heads, d_head), inward);
        BlockWeights {
            ln: self.norm(),
            w_q: input("W_Q"),
            w_k: input("W_K"),
            w_v: input("W_V"),
            w_o: self.tensor(&name("W_O"), Ix3(n_heads, d_head, d_model), outward),
            b_q: bias("b_Q"),
            b_k: bias("b_K"),
            b_v: bias("b_V"),
            b_o: self.bias(&name("b_O"), ndarray::Ix1(d_model), outward),
        }
    }
}

impl ModelKind for Random {
    fn config(&self, _: &Path) -> Result<ModelConfig> {
        self.model_config()
    }

    fn build(&self, context: &BuildContext) -> Result<Transformer> {
        let config = self.model_config()?;
        let ModelConfig { n_layers, d_model, d_vocab, n_ctx, .. } = config;
        let draws = Draws { kind: self, config: &config, context };
        let weights = Weights {
            w_e: draws.matrix("embed.W_E", d_vocab, d_model),
            w_pos: config.has_w_pos().then(|| draws.matrix("pos_embed.W_pos", n_ctx, d_model)),
            blocks: (0..n_layers).map(|layer| draws.block(layer)).collect(),
            ln_final: draws.norm(),
            w_u: draws.matrix("unembed.W_U", d_model, d_vocab),
            b_u: draws.bias("unembed.b_U", ndarray::Ix1(d_vocab), (d_model, d_vocab)),
        };
        Transformer::new(config, weights)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn theory(&self) -> Result<Theory> {
        if self.distribution == Some(Distribution::Uniform) {
            return Ok(Theory::Nothing);
        }
        let ModelConfig { n_heads, d_model, d_head, d_vocab, n_ctx, .. } = self.model_config()?;
        let variance = |fans| self.deviation(fans).powi(2);
        Ok(Theory::Initialisation(Initialisation {
            w_e: variance((d_vocab, d_model)),
            w_pos: variance((n_ctx, d_model)),
            w_v: variance((d_model, n_heads * d_head)),
            w_o: variance((d_head, n_heads * d_model)),
            w_u: variance((d_model, d_vocab)),
            biases: self.biases,
        }))
    }
}

/// The variances of the independent Gaussian weights of a random model.
///
/// What [`ModelKind::theory`] says of a [`Random`] with normal weights.
///
/// ```
/// use attn_circuits::model::build::{ModelKind, Random, Theory};
/// use serde_json::json;
/// # let parameters = json!({ "layers": 1, "heads": 2, "d_model": 16, "vocab": 10, "context": 13, "init": "xavier" });
/// # let random: Random = serde_json::from_value(parameters)?;
/// // `random` has d_model 16, 2 heads, vocabulary 10, and `init: xavier`: 2/(fan_in + fan_out).
/// let Theory::Initialisation(variances) = random.theory()? else { panic!("its weights are normal") };
/// assert!((variances.w_e - 2.0 / (10.0 + 16.0)).abs() < 1e-12);
/// assert!((variances.w_v - 2.0 / (16.0 + 2.0 * 8.0)).abs() < 1e-12);
/// assert!((variances.w_o - 2.0 / (8.0 + 2.0 * 16.0)).abs() < 1e-12);
/// assert!(!variances.biases);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Initialisation {
    /// Of `W_E`.
    pub w_e: f64,
    /// Of `W_pos`, where there is one.
    pub w_pos: f64,
    /// Of `W_V`.
    pub w_v: f64,
    /// Of `W_O`.
    pub w_o: f64,
    /// Of `W_U`.
    pub w_u: f64,
    /// Whether there are biases as well.
    pub biases: bool,
}

impl Initialisation {
    /// The variance of a logit, as if every head attended to one position alone: attention to several averages what is moved, so
    /// that this is the most. `None` with biases.
    ///
    /// Without LayerNorm, the squared length of the stream is `d (σ²(W_E) + σ²(W_pos))` at the start (the second with standard
    /// positions only), each layer multiplies it by `1 + H k σ²(W_V) d σ²(W_O)`, and the logits have the variance `σ²(W_U)` times
    /// that. With LayerNorm, what reads the stream finds it of squared length `d`.
    ///
    /// ```
    /// use attn_circuits::model::build::{ModelKind, Random, Theory};
    /// use serde_json::json;
    /// # use std::path::Path;
    /// let parameters = json!({ "layers": 0, "heads": 1, "d_model": 16, "vocab": 10, "context": 13, "positions": "none" });
    /// let random: Random = serde_json::from_value(parameters)?;
    /// let Theory::Initialisation(variances) = random.theory()? else { panic!("its weights are normal") };
    /// // Weights have the standard deviation 0.8/√d, and a logit is the sum of d products of two.
    /// let expected = 16.0 * (0.8f64.powi(2) / 16.0).powi(2);
    /// let variance = variances.logit_variance(&random.config(Path::new("."))?).expect("there are no biases");
    /// assert!((variance - expected).abs() < 1e-12);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn logit_variance(&self, config: &ModelConfig) -> Option<f64> {
        if self.biases {
            return None;
        }
        let [d, k, heads] = [config.d_model, config.d_head, config.n_heads].map(|size| size as f64);
        let normalized = config.normalization != Normalization::None;
        let position = if config.positions == Positions::Standard { self.w_pos } else { 0.0 };
        // The squared length of the stream; LayerNorm makes it d for what reads it.
        let mut square = d * (self.w_e + position);
        for _ in 0..config.n_layers {
            let read = if normalized { d } else { square };
            square += heads * read * k * self.w_v * d * self.w_o;
        }
        Some(if normalized { d } else { square } * self.w_u)
    }
}

#[cfg(test)]
mod tests;
