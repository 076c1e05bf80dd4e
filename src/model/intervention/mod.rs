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
    /// The head whose numbers are replaced.
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
    /// In the order of their names.
    pub const ALL: [Self; 5] = [Self::Mean, Self::MeanPerPosition, Self::Other, Self::Resample, Self::Zero];

    /// `mean`, `mean_per_position`, `other`, `resample`, `zero`.
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
    /// In the order of their names.
    pub const ALL: [Self; 2] = [Self::Frozen, Self::Recomputed];

    /// `frozen`, `recomputed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Recomputed => "recomputed",
        }
    }
}

/// What of a run is replaced, all at once, and what happens downstream.
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
    pub fn new(site: Site, by: Replacement) -> Self {
        Self { edits: vec![Edit { site, by }], downstream: Downstream::Recomputed }
    }

    /// The outputs of a set of heads, with patterns computed anew.
    pub fn of_heads(heads: &[HeadId], by: Replacement) -> Self {
        let edits = heads.iter().map(|&id| Edit { site: Site::Z(id), by });
        Self { edits: edits.collect(), downstream: Downstream::Recomputed }
    }

    /// The same with something else downstream.
    #[must_use]
    pub fn with(mut self, downstream: Downstream) -> Self {
        self.downstream = downstream;
        self
    }

    /// Checks that a model has what is replaced.
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
