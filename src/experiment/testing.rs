//! Kinds for tests: the smallest that show what the loader has to handle.

use super::{Experiment, LoadOptions, Registries, load_str};
use crate::figure::{Drawing, Figure, Style};
use crate::input::{InputContext, InputKind, InputShape, TokenBatch};
use crate::kind::{Described, Kind};
use crate::measure::{Cost, Measure, OtherInput, Subject};
use crate::model::build::{BuildContext, ModelKind};
use crate::model::{ModelConfig, Normalization, Positions, Transformer};
use crate::{Error, Result, kind};
use polars::prelude::{DataFrame, DataType, Field, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// A model that is never built.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Toy {
    /// Tokens in the vocabulary.
    #[schemars(range(min = 1))]
    vocab: usize,
    /// Longest input.
    #[serde(default = "Toy::context")]
    #[schemars(range(min = 1))]
    context: usize,
    /// Relative noise on every weight.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    noise: f64,
    /// What the heads do.
    #[serde(default)]
    heads: Vec<ToyHead>,
    /// Width.
    #[serde(default)]
    compress: Option<usize>,
    /// A named circuit.
    #[serde(default)]
    circuit: Option<Circuit>,
    /// A file of weights.
    #[serde(default)]
    weights: Option<String>,
}

impl Toy {
    fn context() -> usize {
        8
    }
}

/// A head.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToyHead {
    /// Where it is.
    layer: usize,
    /// What it reads: a number or a name.
    #[allow(dead_code)]
    from: Size,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Circuit {
    /// Copies.
    Induction,
    /// Repeats.
    Duplicate,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum Size {
    Named(Named),
    Number(usize),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Named {
    Vocab,
    Context,
}

impl Described for Toy {
    const NAME: &'static str = "toy";
    const EXAMPLE: &'static str = "kind: toy\nvocab: 5\n";
}

impl ModelKind for Toy {
    fn config(&self, base: &Path) -> Result<ModelConfig> {
        if let Some(index) = self.heads.iter().position(|head| head.layer > 1) {
            let head = &self.heads[index];
            return Err(Error::parameter(format!("heads[{index}].layer"), format!("there is no layer {}", head.layer)));
        }
        if self.noise > 10.0 {
            return Err(Error::parameter("noise", format!("{} drowns everything", self.noise)));
        }
        if let Some(weights) = &self.weights {
            return Err(Error::file(base.join(weights), "there is no such file"));
        }
        let width = self.compress.unwrap_or(4);
        let _ = &self.circuit;
        Ok(ModelConfig {
            n_layers: 2,
            n_heads: 1,
            d_model: width,
            d_head: 2,
            d_vocab: self.vocab,
            n_ctx: self.context,
            normalization: Normalization::None,
            eps: 1e-5,
            positions: Positions::Standard,
            attn_scale: 1.0,
        })
    }

    fn build(&self, _: &BuildContext) -> Result<Transformer> {
        Err(Error::invalid("toys are not built"))
    }

    fn is_random(&self) -> bool {
        self.noise > 0.0
    }
}

/// Tokens that are never made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Ramp {
    /// Tokens of a sequence.
    #[schemars(range(min = 1, max = 1000))]
    length: usize,
    /// The largest token.
    #[serde(default)]
    largest: u32,
    /// Number of sequences.
    #[serde(default = "one")]
    sequences: usize,
}

fn one() -> usize {
    1
}

impl Described for Ramp {
    const NAME: &'static str = "ramp";
    const EXAMPLE: &'static str = "kind: ramp\nlength: 5\n";
}

impl InputKind for Ramp {
    fn shape(&self, _: &Path, _: Option<&InputShape>) -> Result<InputShape> {
        if self.length == 13 {
            return Err(Error::parameter("length", "13 is bad luck"));
        }
        let min_vocab = self.largest as usize + 1;
        Ok(InputShape { sequences: self.sequences, length: self.length, repeats: None, min_vocab, max_vocab: None })
    }

    fn build(&self, _: &InputContext) -> Result<TokenBatch> {
        Err(Error::invalid("ramps are not built"))
    }
}

/// What another input holds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Echo {
    /// The other input.
    of: String,
}

impl Described for Echo {
    const NAME: &'static str = "echo";
    const EXAMPLE: &'static str = "kind: echo\nof: ramp\n";
}

impl InputKind for Echo {
    fn of(&self) -> Option<&str> {
        Some(&self.of)
    }

    fn shape(&self, _: &Path, original: Option<&InputShape>) -> Result<InputShape> {
        original.copied().ok_or_else(|| Error::parameter("of", "the original is needed first"))
    }

    fn build(&self, _: &InputContext) -> Result<TokenBatch> {
        Err(Error::invalid("echoes are not built"))
    }
}

fn columns<const N: usize>(columns: [(&str, DataType); N]) -> Schema {
    columns.into_iter().map(|(name, data_type)| Field::new(name.into(), data_type)).collect()
}

/// A measure that reads an input.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scores {
    /// The layer measured.
    #[serde(default)]
    layer: Option<usize>,
}

impl Described for Scores {
    const NAME: &'static str = "scores";
    const EXAMPLE: &'static str = "measure: scores\n";
}

impl Measure for Scores {
    fn columns(&self) -> Schema {
        columns([("layer", DataType::Int64), ("score", DataType::String), ("value", DataType::Float64)])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        match self.layer {
            Some(layer) if layer >= model.n_layers => {
                Err(Error::parameter("layer", format!("there is no layer {layer}: the model has {}", model.n_layers)))
            }
            _ => Ok(()),
        }
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        Cost { rows: model.n_layers, bytes: 64 }
    }

    fn compute(&self, _: &Subject) -> Result<DataFrame> {
        Err(Error::invalid("scores are not computed"))
    }
}

/// A measure of weights.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Spectrum {}

impl Described for Spectrum {
    const NAME: &'static str = "spectrum";
    const EXAMPLE: &'static str = "measure: spectrum\n";
}

impl Measure for Spectrum {
    fn columns(&self) -> Schema {
        columns([("index", DataType::Int64), ("noise", DataType::Float64)])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        Cost { rows: model.d_vocab.saturating_mul(model.d_vocab), bytes: 0 }
    }

    fn compute(&self, _: &Subject) -> Result<DataFrame> {
        Err(Error::invalid("spectra are not computed"))
    }
}

/// A measure that compares its input with others, and can be computed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Contrast {
    /// An input with as many sequences.
    #[serde(default)]
    against: Option<String>,
    /// An input with any number of sequences.
    #[serde(default)]
    reference: Option<String>,
}

impl Described for Contrast {
    const NAME: &'static str = "contrast";
    const EXAMPLE: &'static str = "measure: contrast\nagainst: other\n";
}

impl Measure for Contrast {
    fn columns(&self) -> Schema {
        columns([("position", DataType::Int64), ("against", DataType::Int64), ("reference", DataType::Int64)])
    }

    fn needs_input(&self) -> bool {
        true
    }

    fn other_inputs(&self) -> Vec<OtherInput<'_>> {
        let against = self.against.as_deref().map(|name| OtherInput { parameter: "against", name, same_sequences: true });
        let reference =
            self.reference.as_deref().map(|name| OtherInput { parameter: "reference", name, same_sequences: false });
        against.into_iter().chain(reference).collect()
    }

    fn cost(&self, _: &ModelConfig, input: Option<&InputShape>) -> Cost {
        Cost { rows: input.map_or(0, |input| input.length), bytes: 0 }
    }

    /// The tokens of the first sequence of each.
    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let first = |batch: &TokenBatch| batch.tokens().row(0).iter().map(|&token| i64::from(token)).collect::<Vec<_>>();
        let (against, reference) = (first(subject.counterpart("against")?), first(subject.other("reference")?));
        let positions = (0..against.len() as i64).collect::<Vec<_>>();
        Ok(df!("position" => positions, "against" => against, "reference" => reference)?)
    }
}

/// A figure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Dots {
    /// Column across.
    x: String,
    /// Columns up.
    #[serde(default)]
    y: Vec<String>,
    /// Colours.
    #[serde(default)]
    #[allow(dead_code)]
    smooth: bool,
}

impl Described for Dots {
    const NAME: &'static str = "dots";
    const EXAMPLE: &'static str = "figure: dots\nof: scores\nx: layer\n";
}

impl Figure for Dots {
    fn columns(&self) -> Vec<(&'static str, &str)> {
        let y = self.y.iter().map(|name| ("y", name.as_str()));
        std::iter::once(("x", self.x.as_str())).chain(y).collect()
    }

    fn numbers(&self) -> &'static [&'static str] {
        &[]
    }

    /// No dots, but what they would be of.
    fn draw(&self, data: &DataFrame, title: &str, _: &Style) -> Result<Drawing> {
        let svg = format!("<svg width=\"9\"><title>{title}: {} by {}</title></svg>", self.x, data.height());
        Ok(Drawing { svg, png: b"dots".to_vec() })
    }
}

static MODELS: &[Kind<dyn ModelKind>] = &[kind!(dyn ModelKind, Toy)];
static INPUTS: &[Kind<dyn InputKind>] = &[kind!(dyn InputKind, Echo), kind!(dyn InputKind, Ramp)];
static MEASURES: &[Kind<dyn Measure>] =
    &[kind!(dyn Measure, Contrast), kind!(dyn Measure, Scores), kind!(dyn Measure, Spectrum)];
static FIGURES: &[Kind<dyn Figure>] = &[kind!(dyn Figure, Dots)];

/// The kinds of this module.
pub fn registries() -> Registries<'static> {
    Registries { models: MODELS, inputs: INPUTS, measures: MEASURES, figures: FIGURES }
}

/// Loads a text with the kinds of this module, as the file `x.yaml`, on a machine with 1 GiB.
pub fn load(text: &str, overrides: &[(&str, &str)]) -> Result<Experiment> {
    let overrides: Vec<(String, String)> =
        overrides.iter().map(|(path, value)| (path.to_string(), value.to_string())).collect();
    let options = LoadOptions { registries: registries(), memory_limit: Some(1 << 30), colour: false };
    load_str(text, Path::new("x.yaml"), &overrides, &options)
}

/// What is wrong with a text.
pub fn problems(text: &str, overrides: &[(&str, &str)]) -> String {
    match load(text, overrides) {
        Ok(experiment) => panic!("this loads: {experiment:?}"),
        Err(Error::Experiment(text)) => text,
        Err(other) => panic!("not a problem of the file: {other}"),
    }
}
