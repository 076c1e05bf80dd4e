//! Interventions: what of a run is replaced, by what, and with what downstream.
//!
//! The vocabulary of ablation, of path patching and of activation patching is one: an [`Intervention`] is a list of [`Edit`]s, each of
//! which replaces what stands at a [`Site`]. [`crate::circuit::sweep`] runs batches under them.
//!
//! ```
//! use attn_circuits::model::intervention::{Downstream, Intervention, Reader, Replacement, Site};
//! use attn_circuits::model::{Channel, HeadId};
//! let (previous, induction) = (HeadId::new(0, 0), HeadId::new(1, 0));
//! // Two heads taken out together, later patterns computed anew.
//! let ablation = Intervention::of_heads(&[previous, induction], Replacement::Zero);
//! assert_eq!(ablation.edits.len(), 2);
//! // What one head sends into the keys of another, and into nothing else, from a corrupted input.
//! let path = Site::Sent { from: previous, to: Reader::Head(induction, Channel::K) };
//! let patch = Intervention::new(path, Replacement::Other);
//! assert_eq!(path.to_string(), "what 0.0 sends into k of 1.0");
//! // All patterns held as they were.
//! let frozen = ablation.with(Downstream::Frozen);
//! # let _ = (patch, frozen);
//! ```

mod change;
mod pass;
mod source;

pub(crate) use pass::{LEAST_ROWS_OF_LOGITS, Pass};
pub(crate) use source::{Means, Needs, Sources};

use super::{Channel, HeadId, ModelConfig};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;

/// What reads a stream.
///
/// For later heads and the logits together see the example of [`Site`].
///
/// ```
/// use attn_circuits::circuit::sweep::Sweep;
/// use attn_circuits::model::intervention::Reader;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// let (previous, induction) = (HeadId::new(0, 0), HeadId::new(1, 0));
/// let cuts = Channel::ALL.map(|channel| {
///     Intervention::new(Site::Sent { from: previous, to: Reader::Head(induction, channel) }, Replacement::Zero)
/// });
/// assert_eq!(Reader::Head(induction, Channel::K).to_string(), "k of 1.0");
/// // In the second repeat, the induction head needs what the previous-token head sends into its keys, and nothing else.
/// let found = Sweep::new(&model, &tokens).run(&cuts, &[(7..12).collect()])?;
/// let accuracy: Vec<f64> = found.intervened.iter().filter_map(|outcome| outcome.accuracy.mean()).collect();
/// assert!(accuracy[0] < 0.5 && accuracy[1..] == [1.0, 1.0]);    // Through k, q, v.
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// The queries, keys or values of one head.
    Head(HeadId, Channel),
    /// The queries, keys or values of all heads of later layers.
    Later(Channel),
    /// The unembedding.
    Logits,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Head(id, channel) => write!(f, "{} of {id}", channel.name()),
            Self::Later(channel) => write!(f, "{} of later heads", channel.name()),
            Self::Logits => f.write_str("the logits"),
        }
    }
}

/// What is replaced, at every position.
///
/// ```
/// use attn_circuits::circuit::sweep::Sweep;
/// use attn_circuits::model::intervention::{Downstream, Reader};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
/// # let model = notebook.model("random", yaml)?;
/// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// // What a head sends to everything that reads it is its output.
/// let head = HeadId::new(0, 0);
/// let whole = Intervention::new(Site::Z(head), Replacement::Zero);
/// let readers = [Reader::Later(Channel::K), Reader::Later(Channel::Q), Reader::Later(Channel::V), Reader::Logits];
/// let edits = readers.map(|to| Edit { site: Site::Sent { from: head, to }, by: Replacement::Zero }).to_vec();
/// let parts = Intervention { edits, downstream: Downstream::Recomputed };
/// let found = Sweep::new(&model, &tokens).run(&[whole, parts], &[vec![5, 8]])?;
/// let (whole, parts) = (&found.intervened[0], &found.intervened[1]);
/// assert!((&whole.loss - &parts.loss).iter().all(|off| off.abs() < 1e-5));
/// assert_eq!(Site::Sent { from: head, to: Reader::Logits }.to_string(), "what 0.0 sends into the logits");
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Queries, keys or values of a head, `[n, k]`: with biases and positions in them, before the division by the scale.
    Input(HeadId, Channel),
    /// The attention pattern of a head, `[n, n]`.
    Pattern(HeadId),
    /// What one head's output is to one reader: everything else, its own successors included, reads it as it is.
    Sent {
        /// The head that writes.
        from: HeadId,
        /// What reads it; a head of a later layer.
        to: Reader,
    },
    /// `z` of a head, `[n, k]`: the values mixed by its pattern. The head's output is `z W_O`, so this replaces the output.
    Z(HeadId),
}

impl Site {
    /// The head whose numbers are replaced; of what is sent, the one that sends it.
    ///
    /// ```
    /// use attn_circuits::model::intervention::{Reader, Site};
    /// use attn_circuits::model::{Channel, HeadId};
    /// let (previous, induction) = (HeadId::new(0, 0), HeadId::new(1, 0));
    /// assert_eq!(Site::Pattern(induction).head(), induction);
    /// assert_eq!(Site::Sent { from: previous, to: Reader::Head(induction, Channel::K) }.head(), previous);
    /// ```
    pub fn head(&self) -> HeadId {
        match *self {
            Self::Input(id, _) | Self::Pattern(id) | Self::Z(id) | Self::Sent { from: id, .. } => id,
        }
    }

    /// What two sites have in common: what a head sends to all later heads, it also sends to each of them.
    fn both(self, other: Self) -> Option<Self> {
        let within = |part: Self, whole: Self| match (part, whole) {
            (Self::Sent { from, to: Reader::Head(_, channel) }, Self::Sent { from: sender, to: Reader::Later(through) }) => {
                (from, channel) == (sender, through)
            }
            _ => part == whole,
        };
        [(self, other), (other, self)].into_iter().find(|&(part, whole)| within(part, whole)).map(|(part, _)| part)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Input(id, channel) => write!(f, "{} of {id}", channel.name()),
            Self::Pattern(id) => write!(f, "the pattern of {id}"),
            Self::Sent { from, to } => write!(f, "what {from} sends into {to}"),
            Self::Z(id) => write!(f, "z of {id}"),
        }
    }
}

/// What is put in the place of what a head writes, reads or attends to.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// The mean over sequences and positions of the reference.
    Mean,
    /// At each position, the mean over the sequences of the reference.
    MeanPerPosition,
    /// What stands there in the run of the other batch. A file says which batch that is.
    #[serde(skip)]
    Other,
    /// What stands there in another sequence of the reference: a seeded permutation says which.
    Resample,
    /// Zero.
    Zero,
}

impl Replacement {
    /// In the order of their names; [`Replacement::name`] has an example.
    pub const ALL: [Self; 5] = [Self::Mean, Self::MeanPerPosition, Self::Other, Self::Resample, Self::Zero];

    /// `mean`, `mean_per_position`, `other`, `resample`, `zero`: as files and tables spell them. `other` is in neither: they say
    /// which batch is meant.
    ///
    /// ```
    /// use attn_circuits::model::intervention::Replacement;
    /// assert_eq!(Replacement::ALL.map(Replacement::name), ["mean", "mean_per_position", "other", "resample", "zero"]);
    /// assert_eq!(serde_json::from_str::<Replacement>("\"resample\"")?, Replacement::Resample);
    /// // This one is no word of files.
    /// assert!(serde_json::from_str::<Replacement>("\"other\"").is_err());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanPerPosition => "mean_per_position",
            Self::Other => "other",
            Self::Resample => "resample",
            Self::Zero => "zero",
        }
    }
}

/// One replacement.
///
/// ```
/// use attn_circuits::prelude::*;
///
/// let head = HeadId::new(1, 0);
/// let edit = Edit { site: Site::Input(head, Channel::Q), by: Replacement::MeanPerPosition };
/// // An intervention is a list of them.
/// assert_eq!(Intervention::new(edit.site, edit.by).edits, [edit]);
/// assert_eq!(edit.site.to_string(), "q of 1.0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edit {
    /// What is replaced.
    pub site: Site,
    /// By what.
    pub by: Replacement,
}

/// What happens to the attention patterns of all heads whose pattern is not itself replaced.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Downstream {
    /// They stay as they were: only what passes through values changes. Queries and keys then do not matter. The scales of LayerNorms
    /// are computed anew all the same, other than in the path expansion, which holds them as well.
    Frozen,
    /// They are computed anew from the changed stream.
    Recomputed,
}

impl Downstream {
    /// In the order of their names; [`Downstream::name`] has an example.
    pub const ALL: [Self; 2] = [Self::Frozen, Self::Recomputed];

    /// `frozen`, `recomputed`: as files and tables spell it.
    ///
    /// ```
    /// use attn_circuits::model::intervention::Downstream;
    /// assert_eq!(Downstream::ALL.map(Downstream::name), ["frozen", "recomputed"]);
    /// assert_eq!(serde_json::from_str::<Downstream>("\"frozen\"")?, Downstream::Frozen);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Recomputed => "recomputed",
        }
    }
}

/// What of a run is replaced, all at once, and what happens downstream.
///
/// [`crate::circuit::sweep::Sweep`] runs batches under them.
///
/// ```
/// use attn_circuits::circuit::sweep::Sweep;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
/// # let model = notebook.model("random", yaml)?;
/// // Of equal sequences, each stands for the others: their mean at each position, or another of them, changes nothing.
/// let tokens = TokenBatch::new(array![[3, 1, 4, 1, 5], [3, 1, 4, 1, 5]], None)?;
/// let by = [Replacement::MeanPerPosition, Replacement::Resample, Replacement::Zero];
/// let interventions = by.map(|by| Intervention::new(Site::Z(HeadId::new(0, 1)), by));
/// let found = Sweep::new(&model, &tokens).run(&interventions, &[vec![0, 1, 2, 3]])?;
/// let off: Vec<f64> = found.intervened.iter().map(|outcome| (outcome.loss[(0, 0)] - found.clean.loss[(0, 0)]).abs()).collect();
/// assert!(off[0] < 1e-5 && off[1] < 1e-5 && off[2] > 1e-5);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Intervention {
    /// The replacements. What is sent is that of the run under intervention: where `z` of the sender is replaced too, it is the
    /// difference to that which is replaced.
    pub edits: Vec<Edit>,
    /// What happens downstream.
    pub downstream: Downstream,
}

impl Intervention {
    /// One site, with patterns computed anew.
    ///
    /// ```
    /// use attn_circuits::prelude::*;
    /// let intervention = Intervention::new(Site::Pattern(HeadId::new(1, 0)), Replacement::Other);
    /// assert_eq!(intervention.edits, [Edit { site: Site::Pattern(HeadId::new(1, 0)), by: Replacement::Other }]);
    /// assert_eq!(intervention.downstream, Downstream::Recomputed);
    /// ```
    pub fn new(site: Site, by: Replacement) -> Self {
        Self { edits: vec![Edit { site, by }], downstream: Downstream::Recomputed }
    }

    /// The outputs of a set of heads, with patterns computed anew.
    ///
    /// ```
    /// use attn_circuits::circuit::loss::loss;
    /// use attn_circuits::circuit::sweep::Sweep;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // All heads taken out, what is left is the model without layers.
    /// let all: Vec<HeadId> = model.config().heads().collect();
    /// let found = Sweep::new(&model, &tokens).run(&[Intervention::of_heads(&all, Replacement::Zero)], &[(0..12).collect()])?;
    /// let weights = Weights { blocks: vec![], ..model.to_weights() };
    /// let bigram = Transformer::new(ModelConfig { n_layers: 0, ..model.config().clone() }, weights)?;
    /// let expected = loss(&bigram, &tokens)?.loss.mean().unwrap_or_default();
    /// assert!((found.intervened[0].mean_loss(0) - expected).abs() < 1e-5);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn of_heads(heads: &[HeadId], by: Replacement) -> Self {
        let edits = heads.iter().map(|&id| Edit { site: Site::Z(id), by });
        Self { edits: edits.collect(), downstream: Downstream::Recomputed }
    }

    /// The same with something else downstream.
    ///
    /// ```
    /// use attn_circuits::circuit::sweep::Sweep;
    /// use attn_circuits::model::intervention::Downstream;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // Where patterns are held, it does not matter what a head looks for.
    /// let query = Intervention::new(Site::Input(HeadId::new(1, 0), Channel::Q), Replacement::Zero);
    /// let both = [query.clone(), query.with(Downstream::Frozen)];
    /// let found = Sweep::new(&model, &tokens).run(&both, &[vec![5, 8]])?;
    /// assert!(found.intervened[0] != found.clean && found.intervened[1] == found.clean);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    #[must_use]
    pub fn with(mut self, downstream: Downstream) -> Self {
        self.downstream = downstream;
        self
    }

    /// Checks that a model has what is replaced.
    ///
    /// ```
    /// use attn_circuits::model::intervention::Reader;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// # let model = notebook.model("random", yaml)?;
    /// let (early, late) = (HeadId::new(0, 0), HeadId::new(1, 0));
    /// let path = |from, to| Intervention::new(Site::Sent { from, to: Reader::Head(to, Channel::K) }, Replacement::Other);
    /// path(early, late).check(model.config())?;
    /// let said = |intervention: Intervention| intervention.check(model.config()).map_err(|error| error.to_string());
    /// assert!(said(path(late, early)).is_err_and(|text| text.contains("no later layer")));
    /// // Two edits at one site are refused, and means of rows that differ in length.
    /// assert_eq!(said(Intervention::of_heads(&[late, late], Replacement::Zero)), Err("z of 1.0 is replaced twice".into()));
    /// assert!(said(Intervention::new(Site::Pattern(late), Replacement::Mean)).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] names a head that is not there, a reader that does not come after what it reads, a site that is replaced
    /// twice (also within what is sent to all later heads), or a mean of patterns over positions (rows of a pattern differ in length).
    pub fn check(&self, config: &ModelConfig) -> Result<()> {
        let mut sites = Vec::new();
        for Edit { site, by } in &self.edits {
            config.check_head(site.head())?;
            match *site {
                Site::Sent { from, to: Reader::Head(to, _) } => config.check_edge(from, to)?,
                Site::Pattern(id) if *by == Replacement::Mean => {
                    let text = format!("the pattern of {id} has no mean over positions, as its rows differ in length");
                    return Err(Error::invalid(text));
                }
                _ => {}
            }
            if let Some(twice) = sites.iter().find_map(|&before| site.both(before)) {
                return Err(Error::invalid(format!("{twice} is replaced twice")));
            }
            sites.push(*site);
        }
        Ok(())
    }

    /// The replacement at a site.
    fn at(&self, site: Site) -> Option<Replacement> {
        self.edits.iter().find(|edit| edit.site == site).map(|edit| edit.by)
    }
}
