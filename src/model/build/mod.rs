//! Kinds of model: what `models:` of an experiment can hold.
//!
//! A kind is its parameters, checked: [`Wired`], [`Random`], [`Bigram`], [`Import`]. In a program, they are read from what a file
//! would say, and build models from a random stream.
//!
//! ```
//! use attn_circuits::model::build::{BuildContext, ModelKind, Random};
//! use attn_circuits::stream::Stream;
//! use serde_json::json;
//! # use std::path::Path;
//! let random = |layers: usize| -> Result<Random, serde_json::Error> {
//!     serde_json::from_value(json!({ "layers": layers, "heads": 2, "d_model": 16, "vocab": 10, "context": 13 }))
//! };
//! let context = BuildContext { base: Path::new("."), stream: Stream::new(2021).child("random") };
//! let (shallow, deep) = (random(1)?.build(&context)?, random(2)?.build(&context)?);
//! // Each tensor has a stream of its own: the deeper model begins like the other one.
//! assert_eq!(shallow.to_weights().blocks[0], deep.to_weights().blocks[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A model of kind `bigram` is a chain, as far as its width allows, and knows all that can be known of a text of it:
//!
//! ```
//! # use attn_circuits::model::build::{Bigram, BuildContext, ModelKind};
//! # use attn_circuits::stream::Stream;
//! # use serde_json::json;
//! # use std::path::Path;
//! let parameters = json!({ "chain": { "sharpness": 2 }, "vocab": 12, "context": 40 });
//! let bigram: Bigram = serde_json::from_value(parameters)?;
//! # let context = BuildContext { base: Path::new("."), stream: Stream::new(2021) };
//! let model = bigram.build(&context)?;
//! assert_eq!(model.config().d_model, 11);    // V − 1 is wide enough for every chain.
//! let chain = bigram.chain.draw(12, &context.stream)?;
//! let logits = model.w_e().dot(&model.w_u()).mapv(f64::from);
//! assert!((chain.mean_loss(logits.view()) - chain.entropy_rate()).abs() < 1e-6);    // nats
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A model from files can be scrambled, each head turned by itself: its singular values stay, and how it lies to other heads is
//! left to chance.
//!
//! ```
//! # use attn_circuits::prelude::*;
//! # use attn_circuits::model::build::{BuildContext, Import, ModelKind};
//! # use attn_circuits::stream::Stream;
//! # let mut notebook = Notebook::new("example")?;
//! # let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
//! # let folder = tempfile::tempdir()?;
//! # let context = BuildContext { base: folder.path(), stream: Stream::new(2021) };
//! # let id = HeadId::new(1, 0);
//! export(&model, &folder.path().join("mine"))?;
//! let import = Import { weights: "mine/weights.safetensors".into(), config: None, scramble: true };
//! assert!(import.is_random() && import.files().contains(&"mine/config.json".into()));
//! let scrambled = import.build(&context)?;
//! let values = |model: &Transformer| Circuits::new(model).low_rank(Circuit::Ov(id))?.singular_values();
//! assert!(values(&model)?.iter().zip(values(&scrambled)?).all(|(was, is)| (was - is).abs() < 1e-4));
//! assert!(model.head(id).w_v != scrambled.head(id).w_v);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bigram;
mod import;
mod random;
pub mod wired;

pub use bigram::{Bigram, CutChain};
pub use import::Import;
pub use random::{Distribution, Init, Initialisation, LayerNorms, PositionScheme, Random};
pub use wired::Wired;

use super::{ModelConfig, Transformer};
use crate::kind;
use crate::kind::Kind;
use crate::names::closest;
use crate::stream::Stream;
use crate::{Error, Result};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// What a builder may use besides its own parameters.
///
/// ```
/// use attn_circuits::model::build::{BuildContext, MODELS, ModelKind};
/// use attn_circuits::kind::Kind;
/// use attn_circuits::stream::Stream;
/// use serde_json::json;
/// # use std::path::Path;
/// # let random = Kind::<dyn ModelKind>::find(MODELS, "random").expect("a kind of model");
/// let kind = (random.parse)(json!({ "layers": 1, "heads": 2, "d_model": 8, "vocab": 5, "context": 9 }))?;
/// let models = Stream::new(2021).child("models");
/// let build = |name: &str| kind.build(&BuildContext { base: Path::new("."), stream: models.child(name) });
/// // The name is what draws hang on: one model is the same at any time, two of the same parameters differ.
/// assert!(build("a")? == build("a")? && build("a")? != build("b")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BuildContext<'a> {
    /// Relative paths start here: the folder of the experiment file.
    pub base: &'a Path,
    /// The stream of this model and replicate; draws take a name below it, one per tensor.
    pub stream: Stream,
}

/// The checked parameters of a kind of model.
///
/// Three methods have to be written. The others answer for a kind that reads no files, and of which no theory says anything. A
/// kind of one's own, as [`crate::experiment::Registries`] takes it:
///
/// ```
/// use attn_circuits::model::build::{BuildContext, ModelKind, Theory};
/// use attn_circuits::model::{ModelConfig, Normalization, Positions, Transformer, Weights};
/// # use attn_circuits::Result;
/// # use attn_circuits::stream::Stream;
/// # use ndarray::Array2;
/// # use std::path::{Path, PathBuf};
/// /// Says each token again.
/// #[derive(Debug)]
/// struct Echo {
///     vocab: usize,
/// }
///
/// impl ModelKind for Echo {
///     fn config(&self, _: &Path) -> Result<ModelConfig> {
///         let config = ModelConfig {
///             n_layers: 0, n_heads: 0, d_model: self.vocab, d_head: 0, d_vocab: self.vocab, n_ctx: 9,
///             normalization: Normalization::None, eps: 1e-5, positions: Positions::None, attn_scale: 1.0,
///         };
///         config.check().map(|()| config)
///     }
///
///     fn build(&self, context: &BuildContext) -> Result<Transformer> {
///         let (w_e, w_u) = (Array2::eye(self.vocab), Array2::eye(self.vocab) * 10.0);
///         let weights = Weights { w_e, w_pos: None, blocks: vec![], ln_final: None, w_u, b_u: None };
///         Transformer::new(self.config(context.base)?, weights)
///     }
///
///     fn is_random(&self) -> bool {
///         false
///     }
/// }
///
/// let kind = Echo { vocab: 5 };
/// let model = kind.build(&BuildContext { base: Path::new("."), stream: Stream::new(1) })?;
/// assert_eq!(model.config(), &kind.config(Path::new("."))?);
/// assert!(Echo { vocab: 0 }.config(Path::new(".")).is_err());
/// // The other methods.
/// assert_eq!(kind.files(), Vec::<PathBuf>::new());
/// assert_eq!(kind.building_bytes(model.config()) as u128, 4 * model.config().n_params());
/// assert_eq!((kind.wiring()?, kind.theory()?), (None, Theory::Nothing));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub trait ModelKind: Send + Sync + Debug {
    /// The configuration of the model that [`ModelKind::build`] makes, found without making it. Whatever can be wrong with the
    /// parameters (and the header of a file of weights) is found here, before anything is computed.
    ///
    /// # Errors
    /// [`Error::Parameter`] and [`Error::Invalid`] say what is wrong with the parameters, [`Error::File`] and [`Error::Io`] what
    /// with a file, and what to do.
    fn config(&self, base: &Path) -> Result<ModelConfig>;

    /// Makes the model.
    ///
    /// # Errors
    /// Those of [`ModelKind::config`], and what only the numbers show (NaN in a file, say).
    fn build(&self, context: &BuildContext) -> Result<Transformer>;

    /// The files that the model is read from, as the parameters name them, relative to the folder of the experiment file. A file
    /// that is not here must not be read: what has been computed from one is taken for the same as long as it does not change.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The largest number of bytes that [`ModelKind::build`] holds beside the weights of the model, whose configuration is `config`:
    /// an estimate for planning. The weights themselves are in memory twice while the heads of a layer are put side by side.
    fn building_bytes(&self, config: &ModelConfig) -> usize {
        weight_bytes::<f32>(config)
    }

    /// Whether two replicates differ: false for a model without random draws.
    fn is_random(&self) -> bool;

    /// The circuit that the model was wired by, however blurred it is by now: which heads are meant to do what. `None` where nobody
    /// knows.
    ///
    /// # Errors
    /// Those of [`ModelKind::config`].
    fn wiring(&self) -> Result<Option<wired::Wiring>> {
        Ok(None)
    }

    /// What theory can start from to say what a measure should find in this very model.
    ///
    /// # Errors
    /// Those of [`ModelKind::config`].
    fn theory(&self) -> Result<Theory> {
        Ok(Theory::Nothing)
    }
}

/// What is known of all models of a kind with the same parameters.
///
/// [`crate::circuit::closed_forms`] has what follows from it.
///
/// ```
/// use attn_circuits::model::build::{Bigram, ModelKind, Random, Theory, Wired};
/// use serde_json::{from_value, json};
/// let wired = json!({ "circuit": "induction", "vocab": 13, "context": 25, "rotate": true });
/// let Theory::Wiring(wiring) = from_value::<Wired>(wired)?.theory()? else { panic!("a rotation blurs nothing") };
/// assert_eq!(wiring.n_layers, 2);
/// let noisy = json!({ "circuit": "induction", "vocab": 13, "context": 25, "noise": 0.1 });
/// assert_eq!(from_value::<Wired>(noisy)?.theory()?, Theory::Nothing);
/// let random = json!({ "layers": 2, "heads": 2, "d_model": 16, "vocab": 10, "context": 13 });
/// assert!(matches!(from_value::<Random>(random)?.theory()?, Theory::Initialisation(_)));
/// let bigram = json!({ "vocab": 10, "context": 13, "d_model": 4 });
/// assert!(matches!(from_value::<Bigram>(bigram)?.theory()?, Theory::Chain(chain) if chain.width == 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Theory {
    /// Nothing: its weights come from training, or its circuit is blurred.
    Nothing,
    /// Its circuit, to which every weight is true but for a rotation of the stream.
    Wiring(wired::Wiring),
    /// The distribution of its independent Gaussian weights.
    Initialisation(Initialisation),
    /// The bigram chain that it is, as far as its width allows.
    Chain(CutChain),
}

/// All kinds of model, as a registry: `kind:` of a file names one.
///
/// ```
/// use attn_circuits::kind::Kind;
/// use attn_circuits::model::build::{MODELS, ModelKind};
/// # use std::path::Path;
/// assert_eq!(MODELS.iter().map(|kind| kind.name).collect::<Vec<_>>(), ["wired", "random", "bigram", "import"]);
/// let wired = Kind::<dyn ModelKind>::find(MODELS, "wired").expect("a kind of model");
/// let kind = (wired.parse)(serde_json::json!({ "circuit": "induction", "vocab": 13, "context": 25 }))?;
/// // What is wrong with a model is known before it is built.
/// let config = kind.config(Path::new("."))?;
/// assert_eq!((config.n_layers, config.n_heads, config.d_model), (2, 1, 13 + 25 + 13 + 13));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub static MODELS: &[Kind<dyn ModelKind>] =
    &[kind!(dyn ModelKind, Wired), kind!(dyn ModelKind, Random), kind!(dyn ModelKind, Bigram), kind!(dyn ModelKind, Import)];

/// A model with more weights is a slip of the pen: refusing it here keeps every later product of sizes from overflowing.
const MAX_WEIGHTS: u128 = 1 << 40;

/// Bytes of a model's weights as numbers of type `T`; the largest number there is if it is beyond counting.
pub(crate) fn weight_bytes<T>(config: &ModelConfig) -> usize {
    usize::try_from(config.n_params()).unwrap_or(usize::MAX).saturating_mul(size_of::<T>())
}

/// Bytes of so many square matrices in double precision.
fn squares(count: usize, width: usize) -> usize {
    [count, width, width].iter().fold(size_of::<f64>(), |bytes, &factor| bytes.saturating_mul(factor))
}

/// Square matrices as wide as the stream that making a random rotation and turning by it takes.
const MATRICES_OF_A_ROTATION: usize = 4;

/// Checks a configuration and that its weights can be counted, before anything multiplies its numbers.
fn checked(config: ModelConfig) -> Result<ModelConfig> {
    config.check()?;
    let ModelConfig { n_layers, n_heads, d_model, d_head, d_vocab, n_ctx, .. } = config;
    let weights = config.n_params();
    if weights > MAX_WEIGHTS {
        let text = format!(
            "the model would have {weights} weights (n_layers {n_layers}, n_heads {n_heads}, d_model {d_model}, d_head {d_head}, \
             d_vocab {d_vocab}, n_ctx {n_ctx}); the limit is {MAX_WEIGHTS}"
        );
        return Err(Error::invalid(text));
    }
    Ok(config)
}

/// "; did you mean `x`?" for the nearest candidate, or nothing.
fn did_you_mean<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    closest(name, &candidates.collect::<Vec<_>>()).map(|candidate| format!("; did you mean `{candidate}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_example_parses_into_its_kind() {
        for kind in MODELS {
            let models: serde_json::Map<String, Value> = serde_yaml::from_str(kind.example).unwrap();
            let mut model = models.into_iter().next().unwrap().1;
            let fields = model.as_object_mut().unwrap();
            assert_eq!(fields.remove("kind").unwrap(), kind.name);
            // These belong to every kind of model.
            fields.retain(|name, _| !["sweep", "replicates"].contains(&name.as_str()));
            let parsed = (kind.parse)(model).unwrap();
            if kind.name != "import" {
                parsed.config(Path::new(".")).unwrap();
            }
            assert!(!kind.doc().is_empty());
        }
    }

    #[test]
    fn suggestions_are_near() {
        let names = || ["previous", "position", "token"].into_iter();
        assert_eq!(did_you_mean("previos", names()), "; did you mean `previous`?");
        assert_eq!(did_you_mean("output", names()), "");
    }
}
