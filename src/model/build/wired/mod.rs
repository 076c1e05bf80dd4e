//! Models wired by hand: named subspaces of the residual stream, and heads that read and write them by name.
//!
//! A [`Wired`] is what a file says, a [`Wiring`] what it means: every name resolved to coordinates. A head's attention score is
//! `sharpness · ⟨query, key⟩`, so that among `m` sources a single match gets the attention `e^sharpness/(e^sharpness + m − 1)`.
//!
//! ```
//! # use attn_circuits::prelude::*;
//! # let mut notebook = Notebook::new("example")?;
//! let model = notebook.model("mine", "
//!   kind: wired
//!   vocab: 4
//!   context: 8
//!   residual: { token: vocab, position: context, output: vocab }
//!   heads:
//!     - { layer: 0, query: { from: position, shift: -2 }, key: { from: position },
//!         value: { from: token, to: output, scale: 7 }, sharpness: 3 }
//! ")?;
//! // A head that looks two positions back, and says the token that stands there.
//! let cache = model.run(&TokenBatch::new(array![[0, 2, 1, 3]], None)?, Keep::ALL)?;
//! let attention = 3f32.exp() / (3f32.exp() + 4.0 - 1.0);
//! assert!((cache.patterns[0][[0, 0, 3, 1]] - attention).abs() < 1e-5);
//! let logits = cache.logits.expect("logits were asked for");
//! assert!((logits[[0, 3, 2]] - 7.0 * attention).abs() < 1e-4);
//! # Ok::<(), attn_circuits::Error>(())
//! ```
//!
//! In Rust, the same is made of [`HeadSpec`], [`Read`], [`Move`] and [`Size`], or read from JSON. What a one-hot vector is read
//! as can be mapped ([`TokenMap`], [`Targets`]): the skip-trigram `1 … 2 → 3`, with a resting place for everything else.
//!
//! ```
//! use attn_circuits::model::build::Wired;
//! use attn_circuits::model::build::wired::{HeadSpec, Move, Names, Read, Size, SizeOf, Targets};
//! use indexmap::IndexMap;
//!
//! let token = || Names::One("token".into());
//! let only = |from: &str, to: usize| Some(IndexMap::from([(from.to_string(), Targets::One(to))]));
//! let head = HeadSpec {
//!     layer: 0,
//!     name: Some("skip-trigram".into()),
//!     query: Read { from: token(), shift: 0, map: only("2", 1) },
//!     key: Read { from: token(), shift: 0, map: None },
//!     value: Move { from: "token".into(), to: "output".into(), scale: 10.0, shift: 0, map: only("1", 3) },
//!     sharpness: 20.0,
//!     rest: Some(10.0),
//!     current: None,
//! };
//! let one_a_token = Size::Of(SizeOf::Vocab);
//! let wired = Wired {
//!     residual: Some(IndexMap::from([("token".into(), one_a_token), ("output".into(), one_a_token)])),
//!     heads: Some(vec![head]),
//!     ..serde_json::from_str(r#"{ "vocab": 5, "context": 9 }"#)?
//! };
//! let wiring = wired.resolve()?;
//! // The subspace `output` begins at coordinate 5, and 3 is its fourth.
//! assert_eq!(wiring.heads[0].value.triples(), [(1, 3, 1.0)]);
//! assert_eq!(wiring.heads[0].to_range, 5..10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod circuits;
mod deviations;
mod language;
mod matrices;
mod resolve;
mod wiring;

pub use language::{HeadSpec, Move, Names, Read, Size, SizeOf, Targets, TokenMap};
pub use wiring::{Current, Layout, OUTPUT, POSITION, Reading, Rest, TOKEN, Translation, WiredHead, Wiring};

use super::{BuildContext, MATRICES_OF_A_ROTATION, ModelKind, Theory, checked, did_you_mean, squares, weight_bytes};
use crate::kind::Described;
use crate::model::{ModelConfig, Normalization, Positions, Transformer};
use crate::{Error, Result};
use circuits::{CIRCUITS, Preset};
use indexmap::IndexMap;
use language::Circuit;
use matrices::Matrices;
use resolve::{MAX_FACTOR, Overrides};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// A model wired by hand, so that what every measure should find is known.
///
/// The residual stream is divided into named subspaces, whose sizes add up to `d_model`. A head is two maps between them: its
/// attention score is `sharpness` times the product of a query subspace at the destination and a key subspace at the source,
/// and it moves what stands in one subspace of the source to another one of the destination.
///
/// Three names are taken: `W_E` writes the one-hot token to `token`, `W_pos` the one-hot position to `position` (without that
/// subspace the model has no positions), and `W_U` reads the logits from `output`. Token 0 is the start token. There are no
/// biases and no normalisation. `d_head` is what the largest head needs. All layers have as many heads as the fullest one:
/// the missing ones are all zero, and have no composition score.
///
/// Deviations are applied in this order: `compress`, `distractors`, `noise`, `rotate`. The rotation comes last, so a model and
/// its rotated twin compute the same function whatever else was done to them. Each has random streams of its own: changing
/// one leaves the draws of the others as they are.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wired {
    /// A preset: stands for the `residual` and `heads` that `describe circuit NAME` prints.
    #[serde(default)]
    #[schemars(schema_with = "circuits::name_schema")]
    pub circuit: Option<String>,
    /// The number that some circuits have: of tokens of the prefix in `n-token-prefix`, say. `describe circuit NAME` says what
    /// it counts, `describe circuit NAME 3` prints the text with 3.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub n: Option<usize>,
    /// The subspaces of the residual stream, in order: name and size, which is `vocab`, `context` or a number.
    #[serde(default)]
    pub residual: Option<IndexMap<String, Size>>,
    /// The heads. Layers are as many as the highest `layer` asks for; one that no head is in has only zero heads.
    #[serde(default)]
    pub heads: Option<Vec<HeadSpec>>,
    /// Number of tokens, the start token included.
    #[schemars(range(min = 1))]
    pub vocab: usize,
    /// Longest sequence.
    #[schemars(range(min = 1))]
    pub context: usize,
    /// Replaces the sharpness of every head, so that it can be swept.
    #[serde(default)]
    #[schemars(range(min = -1e6, max = 1e6))]
    pub sharpness: Option<f64>,
    /// Replaces the scale of every head that writes to `output`, so that it can be swept.
    #[serde(default)]
    #[schemars(range(min = -1e6, max = 1e6))]
    pub scale: Option<f64>,
    /// Turn the stream by a random rotation (uniform, by Haar's measure). What the model computes stays the same.
    #[serde(default)]
    pub rotate: bool,
    /// Gaussian noise on every weight, relative: the root mean square of the noise over that of the matrix, for every matrix
    /// of every head by itself. A matrix of zeros gets none.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub noise: f64,
    /// A `d_model` smaller than the sum of the subspaces: every coordinate becomes a random direction (of length 1 in
    /// expectation), so that subspaces lie in superposition and interfere. Null: no compression.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub compress: Option<usize>,
    /// Random heads added to every layer, behind the wired ones. Their matrices are Gaussian, each scaled to the mean
    /// Frobenius norm of the corresponding matrices of all wired heads.
    #[serde(default)]
    #[schemars(range(max = 10_000))]
    pub distractors: usize,
}

impl Described for Wired {
    const NAME: &'static str = "wired";
    const EXAMPLE: &'static str = "\
wired:
  kind: wired
  circuit: induction
  vocab: 33
  context: 61
  sweep: { noise: [0.0, 0.1, 0.3, 1.0] }
";
}

impl Wired {
    fn circuit(&self) -> Result<Circuit> {
        match (&self.circuit, &self.residual, &self.heads) {
            (Some(name), None, None) => {
                let preset = Preset::find(name).ok_or_else(|| {
                    let names = CIRCUITS.iter().map(|preset| preset.name);
                    let hint = did_you_mean(name, names.clone());
                    let listed = names.collect::<Vec<_>>().join(", ");
                    Error::parameter("circuit", format!("there is no circuit `{name}`{hint} (known: {listed})"))
                })?;
                preset.parse(self.n)
            }
            _ if self.n.is_some() && self.circuit.is_none() => {
                Err(Error::parameter("n", "n is a number of a circuit, and there is no `circuit` here"))
            }
            (None, Some(residual), Some(heads)) => Ok(Circuit { residual: residual.clone(), heads: heads.clone() }),
            (Some(_), _, _) => {
                let text = "a circuit stands for `residual` and `heads`: give either the circuit or both of these";
                Err(Error::parameter("circuit", text))
            }
            (None, Some(_), None) => Err(Error::parameter("residual", "`heads` is missing beside it")),
            (None, None, Some(_)) => Err(Error::parameter("heads", "`residual` is missing beside it")),
            (None, None, None) => {
                Err(Error::invalid("a wired model needs `circuit`, or `residual` and `heads`; `circuit: induction` is one"))
            }
        }
    }

    /// The circuit with its layout and named heads, overrides applied. Deviations are not in it: the wiring is what was meant.
    ///
    /// ```
    /// use attn_circuits::Error;
    /// use attn_circuits::model::build::Wired;
    /// use serde_json::json;
    /// let wired = |circuit: &str| json!({ "circuit": circuit, "vocab": 13, "context": 25, "scale": 5, "noise": 0.3 });
    /// let wiring = serde_json::from_value::<Wired>(wired("induction"))?.resolve()?;
    /// // `scale` is that of heads which write to `output`.
    /// assert_eq!(wiring.heads.iter().map(|head| head.scale).collect::<Vec<_>>(), [1.0, 5.0]);
    ///
    /// let wrong = serde_json::from_value::<Wired>(wired("inductoin"))?.resolve();
    /// let Err(Error::Parameter { path, message }) = wrong else { panic!("there is no such circuit") };
    /// assert_eq!(path, "circuit");
    /// assert!(message.contains("did you mean `induction`?"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Parameter`] says which name or number does not fit, and where it stands; [`Error::Invalid`] that there is neither
    /// a `circuit` nor `residual` and `heads`.
    pub fn resolve(&self) -> Result<Wiring> {
        for (name, value) in [("vocab", self.vocab), ("context", self.context)] {
            if value == 0 {
                return Err(Error::parameter(name, format!("{name} must be at least 1")));
            }
        }
        for (name, value) in [("sharpness", self.sharpness), ("scale", self.scale), ("noise", Some(self.noise))] {
            let least = if name == "noise" { 0.0 } else { -MAX_FACTOR };
            if value.is_some_and(|value| !(least..=MAX_FACTOR).contains(&value)) {
                let value = value.unwrap_or_default();
                let text = format!("{name} must lie between {least} and {MAX_FACTOR}, and is {value}");
                return Err(Error::parameter(name, text));
            }
        }
        let overrides = Overrides { sharpness: self.sharpness, output_scale: self.scale };
        let wiring = Wiring::resolve(&self.circuit()?, self.vocab, self.context, overrides).map_err(|error| match error {
            // The place is in the text of the preset, not in the file. There, `n` is the only one besides the name.
            Error::Parameter { path, message } if self.circuit.is_some() && path != "n" => Error::parameter("circuit", message),
            other => other,
        })?;
        if let Some(compress) = self.compress
            && !(1..=wiring.layout.width()).contains(&compress)
        {
            let width = wiring.layout.width();
            let text = format!("compress must lie between 1 and {width}, the sum of all subspaces, and is {compress}");
            return Err(Error::parameter("compress", text));
        }
        Ok(wiring)
    }

    fn config_of(&self, wiring: &Wiring) -> Result<ModelConfig> {
        let n_heads = if wiring.n_layers == 0 { 0 } else { wiring.n_heads.saturating_add(self.distractors) };
        let has_positions = wiring.layout.get(POSITION).is_some();
        let plain = checked(ModelConfig {
            n_layers: wiring.n_layers,
            n_heads,
            d_model: wiring.layout.width(),
            d_head: wiring.d_head,
            d_vocab: self.vocab,
            n_ctx: self.context,
            normalization: Normalization::None,
            eps: 1e-5,
            positions: if has_positions { Positions::Standard } else { Positions::None },
            attn_scale: (wiring.d_head as f64).sqrt(),
        })?;
        Ok(ModelConfig { d_model: self.compress.unwrap_or(plain.d_model), ..plain })
    }
}

impl ModelKind for Wired {
    fn config(&self, _: &Path) -> Result<ModelConfig> {
        self.config_of(&self.resolve()?)
    }

    fn build(&self, context: &BuildContext) -> Result<Transformer> {
        let wiring = self.resolve()?;
        let config = self.config_of(&wiring)?;
        let mut model = Matrices::wired(&wiring);
        if let Some(width) = self.compress {
            deviations::compress(&mut model, width, &context.stream);
        }
        if self.distractors > 0 {
            deviations::distract(&mut model, &wiring, self.distractors, &context.stream);
        }
        if self.noise > 0.0 {
            deviations::add_noise(&mut model, self.noise, &context.stream);
        }
        if self.rotate {
            deviations::rotate(&mut model, &context.stream);
        }
        Transformer::new(config, model.into_weights())
    }

    fn building_bytes(&self, config: &ModelConfig) -> usize {
        // It is wired in double precision, at its full width, and compressed and rotated thereafter.
        let Ok(full) = self.resolve().and_then(|wiring| Self { compress: None, ..self.clone() }.config_of(&wiring)) else {
            return 0;
        };
        let wide = if self.compress.is_some() { full.d_model } else { 0 };
        let turned = if self.rotate { config.d_model } else { 0 };
        let rotations = squares(MATRICES_OF_A_ROTATION, wide.max(turned));
        weight_bytes::<f64>(&full).saturating_add(weight_bytes::<f32>(config)).saturating_add(rotations)
    }

    fn is_random(&self) -> bool {
        self.rotate || self.noise > 0.0 || self.compress.is_some() || self.distractors > 0
    }

    fn wiring(&self) -> Result<Option<Wiring>> {
        self.resolve().map(Some)
    }

    fn theory(&self) -> Result<Theory> {
        let blurred = self.noise > 0.0 || self.compress.is_some() || self.distractors > 0;
        if blurred { Ok(Theory::Nothing) } else { self.resolve().map(Theory::Wiring) }
    }
}

#[cfg(test)]
mod tests;
