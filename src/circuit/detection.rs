//! Which measure finds a circuit that is known to be there: every measure gives each candidate, a head or a pair of heads, a number,
//! and a good one gives the true candidates higher numbers than all others.
//!
//! A ranking is judged by the area under its ROC curve, which is the probability that a true candidate stands above a false one
//! (Hanley and McNeil 1982).

use super::closed_forms::{ClosedForm, Quantity};
use super::composition::composition;
use super::copying::copying_score;
use super::head_scores::{Score, head_scores};
use super::loss::repeat_groups;
use super::sweep::Sweep;
use super::virtual_heads::VirtualHead;
use super::weights::{Circuit, Circuits, Shared};
use crate::Result;
use crate::batch::TokenBatch;
use crate::model::build::wired::Wiring;
use crate::model::intervention::{Intervention, Reader, Replacement, Site};
use crate::model::{Channel, HeadId, ModelConfig, Transformer};
use crate::stream::Stream;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What may be true of a model: that a head, or an edge between two heads, belongs to what is looked for.
///
/// ```
/// use attn_circuits::circuit::detection::Candidate;
/// use attn_circuits::model::{Channel, HeadId};
/// let (from, to) = (HeadId::new(0, 0), HeadId::new(1, 0));
/// assert_eq!(Candidate::Head(from).head(), from);
/// assert_eq!(Candidate::Edge { channel: Channel::K, from, to }.head(), to);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidate {
    /// A head.
    Head(HeadId),
    /// What an earlier head hands to a later one.
    Edge {
        /// Through which input of the later head.
        channel: Channel,
        /// The head that writes.
        from: HeadId,
        /// The head that reads.
        to: HeadId,
    },
}

impl Candidate {
    /// The head; of an edge, the one that reads.
    pub fn head(self) -> HeadId {
        match self {
            Self::Head(id) | Self::Edge { to: id, .. } => id,
        }
    }
}

/// A number of each candidate by which it is ranked, the larger the better. What the loss rises by is in nats.
///
/// ```
/// use attn_circuits::circuit::detection::Detector;
/// assert_eq!(Detector::find("zero_ablation"), Some(Detector::ZeroAblation));
/// assert_eq!(Detector::find("zero"), None);
/// assert!(Detector::ALL.iter().all(|detector| Detector::find(detector.name()) == Some(*detector)));
/// // One half of them ranks heads, the other half edges.
/// assert_eq!(Detector::ALL.iter().filter(|detector| detector.finds_edges()).count(), 6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detector {
    /// Edges: `‖AB‖²/Σ σᵢ(A)² σᵢ(B)²`, of [`composition`].
    Alignment,
    /// Edges: the composition score.
    Composition,
    /// Edges: by how many standard deviations the composition score exceeds chance.
    CompositionZ,
    /// Heads: `Σ Re λ/Σ |λ|` of the full OV circuit, of [`copying_score`].
    Copying,
    /// Heads: the head score of the same name.
    DuplicateToken,
    /// Edges through keys: `Σ Re λ/Σ |λ|` of the K-composition term over tokens.
    Matching,
    /// Heads: the head score of the same name.
    PrefixMatching,
    /// Heads: the head score of the same name.
    PreviousToken,
    /// Heads: what the loss rises by where the head's output is that of another sequence.
    ResampleAblation,
    /// Edges: what the loss rises by where what is handed over is that of another sequence.
    ResamplePathPatching,
    /// Heads: what the loss rises by where the head's output is zero.
    ZeroAblation,
    /// Edges: what the loss rises by where nothing is handed over.
    ZeroPathPatching,
}

impl Detector {
    /// In the order of their names.
    pub const ALL: [Self; 12] = [
        Self::Alignment,
        Self::Composition,
        Self::CompositionZ,
        Self::Copying,
        Self::DuplicateToken,
        Self::Matching,
        Self::PrefixMatching,
        Self::PreviousToken,
        Self::ResampleAblation,
        Self::ResamplePathPatching,
        Self::ZeroAblation,
        Self::ZeroPathPatching,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alignment => "alignment",
            Self::Composition => "composition",
            Self::CompositionZ => "composition_z",
            Self::Copying => "copying",
            Self::DuplicateToken => "duplicate_token",
            Self::Matching => "matching",
            Self::PrefixMatching => "prefix_matching",
            Self::PreviousToken => "previous_token",
            Self::ResampleAblation => "resample_ablation",
            Self::ResamplePathPatching => "resample_path_patching",
            Self::ZeroAblation => "zero_ablation",
            Self::ZeroPathPatching => "zero_path_patching",
        }
    }

    /// The detector of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|detector| detector.name() == name)
    }

    /// The head score that it is.
    fn score(self) -> Option<Score> {
        let is_score = matches!(self, Self::DuplicateToken | Self::PrefixMatching | Self::PreviousToken);
        is_score.then(|| Score::find(self.name()).expect("detectors are called like head scores"))
    }

    /// What it puts in the place of what a candidate writes.
    fn replacement(self) -> Option<Replacement> {
        match self {
            Self::ResampleAblation | Self::ResamplePathPatching => Some(Replacement::Resample),
            Self::ZeroAblation | Self::ZeroPathPatching => Some(Replacement::Zero),
            _ => None,
        }
    }

    /// Whether it finds edges, not heads.
    pub fn finds_edges(self) -> bool {
        matches!(
            self,
            Self::Alignment
                | Self::Composition
                | Self::CompositionZ
                | Self::Matching
                | Self::ResamplePathPatching
                | Self::ZeroPathPatching
        )
    }

    /// Whether it says something of edges through this channel.
    fn covers(self, channel: Channel) -> bool {
        self != Self::Matching || channel == Channel::K
    }

    /// All that it ranks, in order: every head, or every edge through one of the channels.
    ///
    /// ```
    /// use attn_circuits::circuit::detection::Detector;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: 10, context: 12 }")?;
    /// let count = |detector: Detector| detector.candidates(model.config(), &Channel::ALL).len();
    /// // Four heads, and as many pairs through each channel; matching is a matter of keys.
    /// let detectors = [Detector::Copying, Detector::Composition, Detector::Matching];
    /// assert_eq!(detectors.map(count), [4, 12, 4]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn candidates(self, config: &ModelConfig, channels: &[Channel]) -> Vec<Candidate> {
        if !self.finds_edges() {
            return config.heads().map(Candidate::Head).collect();
        }
        let mut candidates = Vec::new();
        for channel in Channel::ALL.into_iter().filter(|channel| channels.contains(channel) && self.covers(*channel)) {
            let edge = |VirtualHead { from, to }| Candidate::Edge { channel, from, to };
            candidates.extend(VirtualHead::all(config).into_iter().map(edge));
        }
        candidates
    }

    /// What it should find in a model of this wiring, through one of the channels; in order.
    ///
    /// Of head scores, the heads that look for what the score looks for. Of `copying`, `matching` and the three of composition, heads and
    /// edges for which the closed form of the same number is above 0. Of an ablation all heads of the wiring; of path patching, the
    /// edges with composition.
    ///
    /// `forms` are the closed forms of the wiring ([`super::closed_forms::of_wiring`]; those of attention are not looked at).
    ///
    /// ```
    /// use attn_circuits::circuit::closed_forms::of_wiring;
    /// use attn_circuits::circuit::detection::{Candidate, Detector};
    /// use attn_circuits::model::build::{ModelKind, Wired};
    /// # use attn_circuits::model::{Channel, HeadId};
    /// let wired: Wired = serde_json::from_value(serde_json::json!({ "circuit": "induction", "vocab": 13, "context": 25 }))?;
    /// let wiring = wired.resolve()?;
    /// let forms = of_wiring(&wiring, &wired.config("".as_ref())?, &[])?;
    /// let truth = |detector: Detector| detector.truth(&wiring, &forms, &Channel::ALL);
    /// let (previous, induction) = (HeadId::new(0, 0), HeadId::new(1, 0));
    /// assert_eq!(truth(Detector::PreviousToken), [Candidate::Head(previous)]);
    /// assert_eq!(truth(Detector::Copying), [Candidate::Head(induction)]);
    /// assert_eq!(truth(Detector::Composition), [Candidate::Edge { channel: Channel::K, from: previous, to: induction }]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn truth(self, wiring: &Wiring, forms: &[ClosedForm], channels: &[Channel]) -> Vec<Candidate> {
        let wanted = |quantity: Quantity, expected: f64| match (self, quantity) {
            (Self::DuplicateToken, Quantity::AfterCopy) => expected == 0.0,
            (Self::PrefixMatching, Quantity::AfterCopy) | (Self::PreviousToken, Quantity::Offset) => expected == 1.0,
            (Self::Copying, Quantity::Copying) | (Self::Matching, Quantity::Matching) => expected > 0.0,
            (_, Quantity::Composition(_)) => self.finds_edges() && self != Self::Matching && expected > 0.0,
            _ => false,
        };
        let mut truth = Vec::new();
        if matches!(self, Self::ResampleAblation | Self::ZeroAblation) {
            truth.extend(wiring.heads.iter().map(|head| Candidate::Head(HeadId::new(head.layer, head.head))));
        }
        for form in forms.iter().filter(|form| wanted(form.quantity, form.expected)) {
            let channel = match form.quantity {
                Quantity::Composition(channel) => channel,
                _ => Channel::K,
            };
            match (self.finds_edges(), form.head, form.from) {
                (true, Some(to), Some(from)) if channels.contains(&channel) => {
                    truth.push(Candidate::Edge { channel, from, to });
                }
                (false, Some(id), None) => truth.push(Candidate::Head(id)),
                _ => {}
            }
        }
        truth.sort_unstable();
        truth.dedup();
        truth
    }
}

/// The numbers that a detector gives to its candidates; [`detect`] makes them, and [`Detection::find`] ranks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Which detector.
    pub detector: Detector,
    /// Its candidates in order, each with its number; `None` where it has none (a head of zeros, say).
    pub values: Vec<(Candidate, Option<f64>)>,
}

/// Where a true candidate stands among those that are not; [`Detection::find`] makes it.
///
/// ```
/// use attn_circuits::circuit::detection::{Candidate, Found};
/// use attn_circuits::model::HeadId;
/// // A head that does harm: three of four numbers are above its own, and a single one is larger in size.
/// let found = Found {
///     candidate: Candidate::Head(HeadId::new(0, 0)),
///     value: Some(-2.0), best_false: Some(3.0), false_candidates: 4, above: Some(3.0), above_by_size: Some(1.0),
/// };
/// assert_eq!((found.auc(), found.auc_by_size()), (Some(0.25), Some(0.75)));
/// // Where nothing is false, there is nothing to stand above.
/// assert_eq!(Found { false_candidates: 0, above: Some(0.0), ..found }.auc(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The candidate.
    pub candidate: Candidate,
    /// Its number.
    pub value: Option<f64>,
    /// The largest number of a false candidate.
    pub best_false: Option<f64>,
    /// How many candidates are false.
    pub false_candidates: usize,
    /// How many of them stand above it, ties counting half; candidates without a number stand below all others. `None` if the
    /// detector has no number for any.
    pub above: Option<f64>,
    /// The same for a ranking by absolute values.
    pub above_by_size: Option<f64>,
}

impl Found {
    /// The share of false candidates below it, ties counting half: for a single true candidate the area under the ROC curve. `None` if
    /// nothing is false, or nothing has a number.
    pub fn auc(&self) -> Option<f64> {
        self.share_below(self.above)
    }

    /// The same for a ranking by absolute values: high for a head that does harm, too.
    pub fn auc_by_size(&self) -> Option<f64> {
        self.share_below(self.above_by_size)
    }

    fn share_below(&self, above: Option<f64>) -> Option<f64> {
        let above = above.filter(|_| self.false_candidates > 0)?;
        Some(1.0 - above / self.false_candidates as f64)
    }
}

impl Detection {
    /// Where each of `truth` stands, in order; what is no candidate is left out.
    ///
    /// ```
    /// use attn_circuits::circuit::detection::{Candidate, Detection, Detector};
    /// use attn_circuits::model::HeadId;
    /// let heads = (0..4).map(|head| Candidate::Head(HeadId::new(0, head)));
    /// let values = heads.zip([Some(0.5), Some(0.9), Some(0.5), None]).collect();
    /// let detection = Detection { detector: Detector::PreviousToken, values };
    /// let found = detection.find(&[Candidate::Head(HeadId::new(0, 2))]);
    /// // One head is above, one is equal, one has no number.
    /// assert_eq!((found[0].above, found[0].auc()), (Some(1.5), Some(0.5)));
    /// assert_eq!(found[0].best_false, Some(0.9));
    /// ```
    pub fn find(&self, truth: &[Candidate]) -> Vec<Found> {
        let is_true = |candidate: &Candidate| truth.contains(candidate);
        let false_values: Vec<_> = self.values.iter().filter(|(c, _)| !is_true(c)).map(|(_, value)| *value).collect();
        let best_false = false_values.iter().flatten().copied().max_by(f64::total_cmp);
        let says_something = self.values.iter().any(|(_, value)| value.is_some());
        let rank = |value: Option<f64>, key: fn(f64) -> f64| {
            let all = || false_values.iter().map(|other| above(other.map(key), value.map(key))).sum();
            says_something.then(all)
        };
        let found = |&(candidate, value): &(Candidate, Option<f64>)| Found {
            candidate,
            value,
            best_false,
            false_candidates: false_values.len(),
            above: rank(value, |value| value),
            above_by_size: rank(value, f64::abs),
        };
        self.values.iter().filter(|(candidate, _)| is_true(candidate)).map(found).collect()
    }
}

/// 1 if `other` is above `value`, ½ if they are equal, 0 if it is below; nothing is below every number.
fn above(other: Option<f64>, value: Option<f64>) -> f64 {
    match other.partial_cmp(&value) {
        Some(std::cmp::Ordering::Greater) => 1.0,
        Some(std::cmp::Ordering::Less) => 0.0,
        _ => 0.5,
    }
}

/// The intervention of a detector on a candidate.
fn intervention(candidate: Candidate, by: Replacement) -> Intervention {
    let site = match candidate {
        Candidate::Head(id) => Site::Z(id),
        Candidate::Edge { channel, from, to } => Site::Sent { from, to: Reader::Head(to, channel) },
    };
    Intervention::new(site, by)
}

/// The numbers of all candidates of each detector, edges only through one of the channels.
///
/// Losses are means over the positions of the second repeat and later ones, where the input repeats; over all positions otherwise.
/// Resampled values come from one permutation of the sequences; with one sequence there are none.
///
/// ```
/// use attn_circuits::circuit::detection::{Candidate, Detector, detect};
/// # use attn_circuits::prelude::*;
/// # use attn_circuits::stream::Stream;
/// # let mut notebook = Notebook::new("example")?;
/// // An induction circuit beside two random heads in each layer.
/// let circuit = "{ kind: wired, circuit: induction, vocab: 17, context: 13, scale: 3, distractors: 2, rotate: true }";
/// let model = notebook.model("hidden", circuit)?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 8, period: 6, repeats: 2 }")?;
/// let detectors = [Detector::PrefixMatching, Detector::ZeroAblation];
/// let found = detect(&model, &tokens, &detectors, &Channel::ALL, &Stream::new(1))?;
/// // One of six heads matches prefixes, and the model needs two: no random head stands above these.
/// let circuit = [HeadId::new(0, 0), HeadId::new(1, 0)].map(Candidate::Head);
/// for (detection, truth) in found.iter().zip([&circuit[1..], &circuit[..]]) {
///     let places = detection.find(truth);
///     assert!(places.len() == truth.len() && places.iter().all(|place| place.auc() == Some(1.0)));
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the model cannot read the batch, or a decomposition does not converge.
pub fn detect(
    model: &Transformer,
    batch: &TokenBatch,
    detectors: &[Detector],
    channels: &[Channel],
    stream: &Stream,
) -> Result<Vec<Detection>> {
    let config = model.config();
    let heads: Vec<_> = config.heads().collect();
    // What several detectors share is computed once, and only if one of them is asked for.
    let wants = |list: &[Detector]| list.iter().any(|detector| detectors.contains(detector));
    let scores: Vec<_> = detectors.iter().filter_map(|detector| detector.score()).collect();
    let scored = if scores.is_empty() { Vec::new() } else { head_scores(model, batch, &scores)? };
    let composed = if wants(&[Detector::Alignment, Detector::Composition, Detector::CompositionZ]) {
        composition(model)?
    } else {
        Vec::new()
    };
    let composed: BTreeMap<_, _> = composed.iter().map(|pair| ((pair.channel, pair.from, pair.to), pair.value)).collect();
    let circuits = Circuits::new(model);
    let changes = loss_changes(model, batch, detectors, channels, stream)?;

    let mut found = Vec::with_capacity(detectors.len());
    for &detector in detectors {
        let candidates = detector.candidates(config, channels);
        let of_pair = |of: fn(&super::composition::CompositionValue) -> Option<f64>| {
            let value = |candidate: &Candidate| match *candidate {
                Candidate::Edge { channel, from, to } => of(composed.get(&(channel, from, to))?.as_ref()?),
                Candidate::Head(_) => None,
            };
            candidates.iter().map(value).collect::<Vec<_>>()
        };
        let values = match detector {
            Detector::Alignment => of_pair(|value| Some(value.alignment)),
            Detector::Composition => of_pair(|value| Some(value.score)),
            Detector::CompositionZ => of_pair(|value| value.z),
            Detector::Copying => shares(&circuits, heads.iter().map(|&id| Circuit::FullOv(id)).collect())?,
            Detector::Matching => {
                let circuit = |candidate: &Candidate| match *candidate {
                    Candidate::Edge { from, to, .. } => Circuit::KComposition { from, to },
                    Candidate::Head(id) => Circuit::FullQk(id),
                };
                shares(&circuits, candidates.iter().map(circuit).collect())?
            }
            Detector::DuplicateToken | Detector::PrefixMatching | Detector::PreviousToken => {
                let of = scored.iter().find(|found| Some(&found.score) == detector.score().as_ref());
                let values = of.and_then(|found| found.values.as_ref());
                (0..heads.len()).map(|place| values.map(|values| values[place])).collect()
            }
            Detector::ResampleAblation
            | Detector::ResamplePathPatching
            | Detector::ZeroAblation
            | Detector::ZeroPathPatching => candidates.iter().map(|c| changes.get(&(detector, *c)).copied()).collect(),
        };
        // A run of weights beyond all bounds has no number, and no place.
        let values = candidates.into_iter().zip(values.into_iter().map(|value| value.filter(|value| !value.is_nan())));
        found.push(Detection { detector, values: values.collect() });
    }
    Ok(found)
}

/// `Σ Re λ/Σ |λ|` of each circuit.
fn shares(circuits: &Circuits, of: Vec<Circuit>) -> Result<Vec<Option<f64>>> {
    circuits.prepare(&of, Shared::Eigenvalues);
    of.into_par_iter().map(|circuit| copying_score(circuits, circuit)).collect()
}

/// What the loss rises by under the intervention of each detector that makes one, on each of its candidates: one sweep for all.
fn loss_changes(
    model: &Transformer,
    batch: &TokenBatch,
    detectors: &[Detector],
    channels: &[Channel],
    stream: &Stream,
) -> Result<BTreeMap<(Detector, Candidate), f64>> {
    let sweep = Sweep::new(model, batch).stream(stream.clone());
    let mut keys = Vec::new();
    let mut interventions = Vec::new();
    for &detector in detectors {
        let Some(by) = detector.replacement().filter(|&by| by != Replacement::Resample || sweep.can_resample()) else {
            continue;
        };
        for candidate in detector.candidates(model.config(), channels) {
            keys.push((detector, candidate));
            interventions.push(intervention(candidate, by));
        }
    }
    let groups = repeat_groups(batch.length() - 1, batch.repeats());
    let of = |wanted: fn(Option<usize>) -> bool| {
        let groups = groups.iter().filter(|(repeat, _)| wanted(*repeat));
        groups.flat_map(|(_, positions)| positions.clone()).collect::<Vec<_>>()
    };
    let later = of(|repeat| repeat.is_some_and(|repeat| repeat > 1));
    let positions = if later.is_empty() { of(|repeat| repeat.is_none()) } else { later };
    if positions.is_empty() || interventions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let outcomes = sweep.run(&interventions, &[positions])?;
    let clean = outcomes.clean.mean_loss(0);
    Ok(keys.into_iter().zip(outcomes.intervened.iter().map(|outcome| outcome.mean_loss(0) - clean)).collect())
}

#[cfg(test)]
mod tests;
