//! The wiring language: what `residual:` and `heads:` of a file hold.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

/// The subspaces of a residual stream, and the heads that read and write them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Circuit {
    pub residual: IndexMap<String, Size>,
    pub heads: Vec<HeadSpec>,
}

/// The size of a subspace: `vocab`, `context`, or a number of dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// One dimension a token, or one a position.
    Of(SizeOf),
    /// So many dimensions.
    Dimensions(#[schemars(range(min = 1))] usize),
}

/// What the dimensions of a subspace stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SizeOf {
    /// One dimension for each token of the vocabulary.
    Vocab,
    /// One dimension for each position of the context.
    Context,
}

/// A head: attention from query to key, and what it moves.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadSpec {
    /// The layer, counted from 0. The heads of a layer are numbered in the order in which they are listed.
    #[schemars(range(min = 0, max = 1000))]
    pub layer: usize,
    /// A name for messages and reports; no two heads may share one.
    #[serde(default)]
    pub name: Option<String>,
    /// What the destination looks for.
    pub query: Read,
    /// What each source offers.
    pub key: Read,
    /// What is moved from source to destination.
    pub value: Move,
    /// The attention score where query and key are the same one-hot vector, after the division by the root of `d_head`.
    /// A single match among n positions gets the attention e^sharpness / (e^sharpness + n − 1).
    #[serde(default = "default_sharpness")]
    #[schemars(range(min = -1e6, max = 1e6))]
    pub sharpness: f64,
    /// A resting place: what is added to the score of the start token (token 0), wherever the head looks from. Below
    /// `sharpness`, so that the head attends there when nothing matches. Nothing is moved from there: the coordinate 0 of the
    /// value (the start token, the first position) is left out. Null: no resting place.
    #[serde(default)]
    #[schemars(range(min = -1e6, max = 1e6))]
    pub rest: Option<f64>,
    /// What is added to the score of the own position; a negative number keeps a head from attending to itself. It needs the
    /// subspace `position`. Null: nothing.
    #[serde(default)]
    #[schemars(range(min = -1e6, max = 1e6))]
    pub current: Option<f64>,
}

fn default_sharpness() -> f64 {
    20.0
}

/// A subspace to read, perhaps shifted or mapped.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// The subspace, by its name in `residual`; or a list of them, which are compared one by one: their scores add up.
    pub from: Names,
    /// Turns the one-hot vector of i into that of i + shift; what falls off either end becomes zero.
    #[serde(default)]
    pub shift: i64,
    /// Instead of a shift, what each one-hot vector counts as: `{ 2: 1 }` reads 2 as 1 and everything else as nothing.
    #[serde(default)]
    pub map: Option<TokenMap>,
}

/// What one-hot vectors (tokens, say) are read as: every one that is not listed as nothing.
///
/// ```
/// use attn_circuits::model::build::wired::{Targets, TokenMap};
/// let map: TokenMap = serde_json::from_str(r#"{ "2": 1, "3": [4, 5], "6": { "4": 0.5, "5": -0.5 } }"#)?;
/// assert_eq!((&map["2"], &map["3"]), (&Targets::One(1), &Targets::Several(vec![4, 5])));
/// assert!(matches!(&map["6"], Targets::Weighted(weights) if weights["5"] == -0.5));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub type TokenMap = IndexMap<String, Targets>;

/// What one one-hot vector is read as.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Targets {
    /// As another one.
    One(usize),
    /// As the sum of several.
    Several(#[schemars(length(min = 1))] Vec<usize>),
    /// As a sum with weights: `{ 5: 1.0, 6: -0.5 }`.
    Weighted(#[schemars(length(min = 1))] IndexMap<String, f64>),
}

/// One name, or several.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Names {
    /// One subspace.
    One(String),
    /// Several, joined.
    Several(#[schemars(length(min = 1))] Vec<String>),
}

impl Names {
    /// The names in order.
    ///
    /// ```
    /// use attn_circuits::model::build::wired::Names;
    /// assert_eq!(Names::One("token".into()).as_slice(), ["token"]);
    /// let names: Names = serde_json::from_str(r#"["token", "previous_1"]"#)?;
    /// assert_eq!(names.as_slice(), ["token", "previous_1"]);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

/// A subspace to read and one to write.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The subspace that is read at the source.
    pub from: String,
    /// The subspace that is written at the destination, of the same size.
    pub to: String,
    /// Factor on what is written. For a head that writes to `output` this is the logit that it gives the token.
    #[serde(default = "default_scale")]
    #[schemars(range(min = -1e6, max = 1e6))]
    pub scale: f64,
    /// Turns the one-hot vector of i into that of i + shift; what falls off either end becomes zero.
    #[serde(default)]
    pub shift: i64,
    /// Instead of a shift, what each one-hot vector is moved as: `{ 1: [4, 5] }` moves 1 as 4 and 5, and nothing else.
    #[serde(default)]
    pub map: Option<TokenMap>,
}

fn default_scale() -> f64 {
    1.0
}
