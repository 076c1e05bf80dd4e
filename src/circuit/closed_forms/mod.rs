//! What theory says of a model from how it was made: to be compared with what is measured on its weights and runs.
//!
//! A wired model is counted in its layout: its maps send one-hot vectors to one-hot vectors, so that norms are roots of numbers of
//! dimensions, and products of maps are counted as well ([`of_wiring`]). For independent Gaussian weights the expectations are
//! known ([`of_initialisation`]). Of a bigram chain everything is known ([`of_chain`]). None of them looks at a weight.

mod attention;
mod one_hot;
mod sought;

use crate::Result;
use crate::chain::Chain;
use crate::circuit::copying::chance_sd;
use crate::circuit::weights::Circuit;
use crate::model::build::Initialisation;
use crate::model::build::wired::{OUTPUT, TOKEN, WiredHead, Wiring};
use crate::model::{Channel, HeadId, ModelConfig};
use attention::Looks;
use one_hot::OneHotMap;
use sought::Sought;

/// What a closed form is about. Losses and entropies are in nats; scores, attention and alignment have no unit.
///
/// ```
/// use attn_circuits::circuit::closed_forms::Quantity;
/// use attn_circuits::model::Channel;
/// assert_eq!(Quantity::AttentionOnTarget.name(), "attention_on_target");
/// // One that belongs to a channel ends in it.
/// let names = Channel::ALL.map(|channel| Quantity::Composition(channel).name());
/// assert_eq!(names, ["composition_k", "composition_q", "composition_v"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// How many positions after an earlier copy of the current token a head looks: 0 a duplicate-token head, 1 an induction head.
    AfterCopy,
    /// Alignment of a pair through a channel, `‖AB‖²/Σ σᵢ(A)² σᵢ(B)²`.
    Alignment(Channel),
    /// Attention of a head to the start token where it has a resting place and nothing matches: `e^r/(e^r + m − 1)` at a score
    /// `r` of the resting place, with `m` keys.
    AttentionAtRest,
    /// Attention of a head to the one earlier position that it looks for: `e^β/(e^β + m − 1)` at sharpness `β` with `m` keys, and
    /// with a resting place `e^β/(e^β + e^r + m − 2)`.
    AttentionOnTarget,
    /// Composition score of a pair through a channel, `‖AB‖/(‖A‖ ‖B‖)`.
    Composition(Channel),
    /// Mean square of the composition scores of all pairs through a channel: `1/d` by chance.
    CompositionSquare(Channel),
    /// Mean loss, in an endless text of its chain, of the bigram table that a model without layers is.
    BigramLoss,
    /// `Σ Re λ / Σ |λ|` of a head's full OV circuit.
    Copying,
    /// Mean entropy of the next token of a chain: the least mean loss that any model can have.
    EntropyRate,
    /// Loss while every head that writes to the output rests: `ln V`.
    LossAtRest,
    /// `Σ Re λ / Σ |λ|` of a pair's K-composition term over tokens.
    Matching,
    /// How many positions a head looks back; for a pair, their virtual head.
    Offset,
    /// Loss of a random model on random tokens: near `ln V`.
    RandomLoss,
    /// Loss where a head attends only to sources each of which raises `s` tokens by `γ`, the right one among them:
    /// `ln(s + (V − s) e^{−γ})`.
    SaturatedLoss,
    /// Entropy of the tokens of a chain: the loss of a model that knows how frequent each is, and does not look.
    UnigramEntropy,
    /// `Σ Re λ / Σ |λ|` of the full OV circuit of a virtual head.
    VirtualCopying,
}

impl Quantity {
    /// The name in tables; one that belongs to a channel ends in it: `composition_k`.
    pub fn name(self) -> String {
        let of = |name: &str, channel: Channel| format!("{name}_{}", channel.name());
        match self {
            Self::Alignment(channel) => of("alignment", channel),
            Self::AfterCopy => "after_copy".to_string(),
            Self::AttentionAtRest => "attention_at_rest".to_string(),
            Self::AttentionOnTarget => "attention_on_target".to_string(),
            Self::Composition(channel) => of("composition", channel),
            Self::CompositionSquare(channel) => of("composition_square", channel),
            Self::BigramLoss => "bigram_loss".to_string(),
            Self::EntropyRate => "entropy_rate".to_string(),
            Self::UnigramEntropy => "unigram_entropy".to_string(),
            Self::Copying => "copying".to_string(),
            Self::LossAtRest => "loss_at_rest".to_string(),
            Self::Matching => "matching".to_string(),
            Self::Offset => "offset".to_string(),
            Self::RandomLoss => "random_loss".to_string(),
            Self::SaturatedLoss => "saturated_loss".to_string(),
            Self::VirtualCopying => "virtual_copying".to_string(),
        }
    }
}

/// A number that theory gives.
///
/// ```
/// use attn_circuits::circuit::closed_forms::{Quantity, of_wiring};
/// use attn_circuits::circuit::composition::composition;
/// use attn_circuits::model::build::{ModelKind, Wired};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// // The same model rotated: theory reads the wiring, the score is measured on the weights.
/// let wired: Wired = serde_json::from_value(serde_json::json!({ "circuit": "induction", "vocab": 13, "context": 25 }))?;
/// let forms = of_wiring(&wired.resolve()?, &wired.config("".as_ref())?, &[])?;
/// let model = notebook.model("turned", "{ kind: wired, circuit: induction, vocab: 13, context: 25, rotate: true }")?;
/// for pair in composition(&model)? {
///     let form = forms.iter().find(|form| form.quantity == Quantity::Composition(pair.channel));
///     let form = form.expect("every pair of wired heads has one");
///     assert_eq!((form.head, form.from, form.keys), (Some(pair.to), Some(pair.from), None));
///     assert!(pair.value.is_some_and(|value| (value.score - form.expected).abs() <= form.tolerance));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedForm {
    /// What it is.
    pub quantity: Quantity,
    /// The head; of a pair, the one that reads.
    pub head: Option<HeadId>,
    /// Of a pair, the head that writes.
    pub from: Option<HeadId>,
    /// The number of positions that can be attended to, for attention.
    pub keys: Option<usize>,
    /// The number.
    pub expected: f64,
    /// How far a measured value may be from it, in the unit of the number.
    pub tolerance: f64,
}

/// Scores and alignments of weights in single precision, rotated perhaps.
const SCORE_TOLERANCE: f64 = 1e-5;
/// Eigenvalue shares: eigenvalues are less exact than norms.
const EIGENVALUE_TOLERANCE: f64 = 1e-4;
/// Attention and loss in single precision.
const RUN_TOLERANCE: f64 = 1e-5;

impl ClosedForm {
    fn new(quantity: Quantity, expected: f64, tolerance: f64) -> Self {
        Self { quantity, head: None, from: None, keys: None, expected, tolerance }
    }

    fn of(self, head: HeadId) -> Self {
        Self { head: Some(head), ..self }
    }

    fn from(self, from: HeadId) -> Self {
        Self { from: Some(from), ..self }
    }
}

/// A head of a wiring with its circuits as maps between coordinates of the stream.
struct Mapped<'a> {
    id: HeadId,
    head: &'a WiredHead,
    ov: OneHotMap,
    /// Scores, the `√k` of the model taken off.
    qk: OneHotMap,
}

impl<'a> Mapped<'a> {
    fn new(head: &'a WiredHead) -> Self {
        let read = OneHotMap::new(head.value_triples());
        let write = head.to_range.clone().enumerate().map(|(index, coordinate)| (index, coordinate, head.scale));
        let (query, key) = (OneHotMap::new(head.query_triples()), OneHotMap::new(head.key_triples()));
        Self {
            id: HeadId::new(head.layer, head.head),
            head,
            ov: read.then(&OneHotMap::new(write)),
            qk: query.then(&key.transposed()),
        }
    }

    /// What the channel of a later head reads.
    fn read(&self, channel: Channel) -> OneHotMap {
        match channel {
            Channel::K => self.qk.transposed(),
            Channel::Q => self.qk.clone(),
            Channel::V => self.ov.clone(),
        }
    }
}

/// What theory says of a wired model without deviations, with `keys` positions to attend to; sorted by quantity, then by heads.
///
/// ```
/// use attn_circuits::circuit::closed_forms::{Quantity, of_wiring};
/// use attn_circuits::model::build::{ModelKind, Wired};
/// # use attn_circuits::model::Channel;
/// let circuit = serde_json::json!({ "circuit": "induction", "vocab": 13, "context": 25, "sharpness": 5, "scale": 3 });
/// let wired: Wired = serde_json::from_value(circuit)?;
/// let forms = of_wiring(&wired.resolve()?, &wired.config("".as_ref())?, &[20])?;
/// let expected = |quantity| forms.iter().find(|form| form.quantity == quantity).map_or(f64::NAN, |form| form.expected);
/// // V dimensions are written, and read in perfect overlap; the right answer is raised by γ = 3 above V − 1 others.
/// assert!((expected(Quantity::Composition(Channel::K)) - 1.0 / 13f64.sqrt()).abs() < 1e-12);
/// assert!((expected(Quantity::AttentionOnTarget) - 5f64.exp() / (5f64.exp() + 19.0)).abs() < 1e-12);
/// assert!((expected(Quantity::SaturatedLoss) - (1.0 + 12.0 * (-3f64).exp()).ln()).abs() < 1e-12);
/// // 0.0 looks one position back, 1.0 one position after an earlier copy.
/// assert_eq!((expected(Quantity::Offset), expected(Quantity::AfterCopy)), (1.0, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if a decomposition does not converge.
pub fn of_wiring(wiring: &Wiring, config: &ModelConfig, keys: &[usize]) -> Result<Vec<ClosedForm>> {
    let heads: Vec<Mapped> = wiring.heads.iter().map(Mapped::new).collect();
    let subspace = |name: &str| wiring.layout.get(name).unwrap_or(0..0);
    let (token, output) = (subspace(TOKEN), subspace(OUTPUT));
    // A map between tokens: those that it reads, and those that it raises (or, of a QK term, attends to).
    let over_tokens = |map: &OneHotMap, columns: &std::ops::Range<usize>| map.block(&token, columns);
    let mut found = Vec::new();
    for head in &heads {
        if let Some(share) = over_tokens(&head.ov, &output).eigenvalue_share() {
            found.push(ClosedForm::new(Quantity::Copying, share, EIGENVALUE_TOLERANCE).of(head.id));
        }
    }
    for (from, to) in heads.iter().flat_map(|from| heads.iter().map(move |to| (from, to))) {
        if from.id.layer >= to.id.layer {
            continue;
        }
        let pair = |form: ClosedForm| form.of(to.id).from(from.id);
        for channel in Channel::ALL {
            let read = to.read(channel);
            let (write_norm, read_norm) = (from.ov.norm(), read.norm());
            if write_norm == 0.0 || read_norm == 0.0 {
                continue;
            }
            let product = from.ov.then(&read).norm();
            let score = product / (write_norm * read_norm);
            found.push(pair(ClosedForm::new(Quantity::Composition(channel), score, SCORE_TOLERANCE)));
            if let (Some(a), Some(b)) = (from.ov.singular_values()?, read.singular_values()?) {
                let best: f64 = a.iter().zip(&b).map(|(a, b)| (a * b).powi(2)).sum();
                found.push(pair(ClosedForm::new(Quantity::Alignment(channel), product * product / best, SCORE_TOLERANCE)));
            }
        }
        if let Some(share) = over_tokens(&to.qk.then(&from.ov.transposed()), &token).eigenvalue_share() {
            found.push(pair(ClosedForm::new(Quantity::Matching, share, EIGENVALUE_TOLERANCE)));
        }
        if let Some(share) = over_tokens(&from.ov.then(&to.ov), &output).eigenvalue_share() {
            found.push(pair(ClosedForm::new(Quantity::VirtualCopying, share, EIGENVALUE_TOLERANCE)));
        }
    }

    let sought = sought::sought(wiring);
    let looks = attention::looks(wiring, &sought, config.n_ctx);
    for ((head, look), looked_for) in heads.iter().zip(&looks).zip(&sought) {
        if let Some(look) = look {
            found.extend(look.attention(keys).map(|form| form.of(head.id)));
        }
        if let Some(offset) = looked_for.and_then(Sought::after_copy) {
            found.push(ClosedForm::new(Quantity::AfterCopy, offset as f64, 0.0).of(head.id));
        }
        if let Some(offset) = looked_for.and_then(Sought::back) {
            found.push(ClosedForm::new(Quantity::Offset, offset as f64, 0.0).of(head.id));
            for (later, further) in heads.iter().zip(&sought).filter(|(later, _)| later.id.layer > head.id.layer) {
                if let Some(further) = further.and_then(Sought::back) {
                    let form = ClosedForm::new(Quantity::Offset, (offset + further) as f64, 0.0);
                    found.push(form.of(later.id).from(head.id));
                }
            }
        }
        if let Some(loss) = saturated_loss(head, look.as_ref(), config) {
            found.push(loss);
        }
    }
    found.extend(loss_at_rest(&heads, &looks, config));
    found.sort_by_key(|form| (form.quantity, form.head, form.from, form.keys));
    Ok(found)
}

/// `ln(s + (V − s) e^{−γ})`: a head that attends only to sources each of which raises `s` tokens by `γ`, the right one among them.
fn saturated_loss(head: &Mapped, look: Option<&Looks>, config: &ModelConfig) -> Option<ClosedForm> {
    if head.head.to != OUTPUT {
        return None;
    }
    let rows = head.ov.rows();
    let first = rows.first()?.clone();
    let alike = rows.iter().all(|row| row.len() == first.len() && row.iter().all(|&weight| weight == first[0]));
    // The least attention that the one target gets at any position decides how far the logit may fall short.
    let missing = 1.0 - look?.attention_bounds(config.n_ctx)?.0;
    let (raised, vocab, gamma) = (first.len() as f64, config.d_vocab as f64, first[0]);
    let expected = (raised + (vocab - raised) * (-gamma).exp()).ln();
    let tolerance = RUN_TOLERANCE + 2.0 * gamma.abs() * missing;
    alike.then(|| ClosedForm::new(Quantity::SaturatedLoss, expected, tolerance).of(head.id))
}

/// `ln V` while every head that writes to the output rests.
fn loss_at_rest(heads: &[Mapped], looks: &[Option<Looks>], config: &ModelConfig) -> Option<ClosedForm> {
    let mut tolerance = RUN_TOLERANCE;
    for (head, look) in heads.iter().zip(looks).filter(|(head, _)| head.head.to == OUTPUT) {
        let (least, _) = look.as_ref()?.rest_bounds(config.n_ctx)?;
        let largest = head.ov.rows().into_iter().flatten().fold(0.0f64, |max, weight| max.max(weight.abs()));
        tolerance += 2.0 * largest * (1.0 - least);
    }
    let writes = heads.iter().any(|head| head.head.to == OUTPUT);
    writes.then(|| ClosedForm::new(Quantity::LossAtRest, (config.d_vocab as f64).ln(), tolerance))
}

/// What theory says of a model without layers that is a bigram chain cut off to the width of its stream; sorted by quantity.
///
/// Means over an endless text. On a text of `m` tokens a measured loss is off by the standard deviation of the loss of one token
/// (about 1 nat) over √m; the tolerance is that of single precision alone.
///
/// ```
/// use attn_circuits::chain::ChainKind;
/// use attn_circuits::circuit::closed_forms::{Quantity, of_chain};
/// # use attn_circuits::stream::Stream;
/// let chain = ChainKind { sharpness: 2.0, ..ChainKind::default() }.draw(8, &Stream::new(1))?;
/// let expected = |width| -> attn_circuits::Result<Vec<_>> {
///     Ok(of_chain(&chain, width)?.into_iter().map(|form| (form.quantity, form.expected)).collect())
/// };
/// // A stream of V − 1 dimensions holds the whole chain, and one without any a loss of ln V.
/// let (whole, nothing) = (expected(7)?, expected(0)?);
/// assert_eq!((whole[0].0, whole[1].0, whole[2].0), (Quantity::BigramLoss, Quantity::EntropyRate, Quantity::UnigramEntropy));
/// assert!((whole[0].1 - whole[1].1).abs() < 1e-9 && whole[1].1 < whole[2].1);
/// assert!((nothing[0].1 - 8f64.ln()).abs() < 1e-12);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if a decomposition does not converge.
pub fn of_chain(chain: &Chain, width: usize) -> Result<Vec<ClosedForm>> {
    let (present, next) = chain.factors(width)?;
    let numbers = [
        (Quantity::BigramLoss, chain.mean_loss(present.dot(&next).view())),
        (Quantity::EntropyRate, chain.entropy_rate()),
        (Quantity::UnigramEntropy, chain.unigram_entropy()),
    ];
    Ok(numbers.into_iter().map(|(quantity, expected)| ClosedForm::new(quantity, expected, RUN_TOLERANCE)).collect())
}

/// What theory says of independent Gaussian weights; sorted by quantity, then by heads.
///
/// * The mean square of a composition score is 1/d: exactly so in expectation for every pair, since what the first head writes has
///   no preferred direction. One pair's square has the relative standard deviation `√2 (1/PR − 1/d)` (see
///   [`super::composition::Chance`]), which is `√2 (1/k + 1/d)` for products of Gaussian matrices, and pairs are uncorrelated;
///   the tolerance is four standard deviations of the mean over all pairs of one model.
/// * Copying and matching scores are symmetric around 0; the tolerance is four of [`chance_sd`], and at most 1.
/// * The loss is near `ln V`: with logits of variance `s²` it exceeds that by `s²/2`, and by what the logits of the right tokens
///   happen to be, which is below `s`. Both are in the tolerance, with `s²` as if every head attended to one position alone.
///
/// Heads whose weights are zero have no scores, and so no rows; with biases the loss has none.
///
/// ```
/// use attn_circuits::circuit::closed_forms::{Quantity, of_initialisation};
/// use attn_circuits::circuit::composition::composition;
/// use attn_circuits::model::build::Initialisation;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 4, d_model: 16, vocab: 10, context: 12, std: 0.2 }")?;
/// let square = 0.2 * 0.2;
/// let init = Initialisation { w_e: square, w_pos: square, w_v: square, w_o: square, w_u: square, biases: false };
/// let forms = of_initialisation(&init, model.config());
/// let form = forms.iter().find(|form| form.quantity == Quantity::CompositionSquare(Channel::K)).expect("there are pairs");
/// assert_eq!(form.expected, 1.0 / 16.0);
/// let pairs = composition(&model)?.into_iter().filter(|pair| pair.channel == Channel::K);
/// let squares: Vec<f64> = pairs.filter_map(|pair| Some(pair.value?.score.powi(2))).collect();
/// assert!((squares.iter().sum::<f64>() / squares.len() as f64 - form.expected).abs() <= form.tolerance);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub fn of_initialisation(init: &Initialisation, config: &ModelConfig) -> Vec<ClosedForm> {
    let mut found = Vec::new();
    if init.w_v * init.w_o != 0.0 {
        found.extend(scores_by_chance(config));
    }
    if let Some(variance) = init.logit_variance(config) {
        let tolerance = RUN_TOLERANCE + variance / 2.0 + variance.sqrt();
        found.push(ClosedForm::new(Quantity::RandomLoss, (config.d_vocab as f64).ln(), tolerance));
    }
    found.sort_by_key(|form| (form.quantity, form.head, form.from, form.keys));
    found
}

/// The scores of heads and of pairs, of independent Gaussian weights; see [`of_initialisation`].
fn scores_by_chance(config: &ModelConfig) -> Vec<ClosedForm> {
    let mut found = Vec::new();
    let (d, k) = (config.d_model as f64, config.d_head as f64);
    let pairs = (config.n_layers * config.n_layers.saturating_sub(1) / 2 * config.n_heads * config.n_heads) as f64;
    if pairs > 0.0 {
        let tolerance = 4.0 * 2f64.sqrt() * (1.0 / k.min(d) + 1.0 / d) / d / pairs.sqrt();
        let form = |channel| ClosedForm::new(Quantity::CompositionSquare(channel), 1.0 / d, tolerance);
        found.extend(Channel::ALL.map(form));
    }
    // The same for all heads, and for all pairs.
    let any = HeadId::new(0, 0);
    let share_tolerance = |circuit| (4.0 * chance_sd(config, circuit)).min(1.0);
    let of_head = share_tolerance(Circuit::FullOv(any));
    let of_pair = share_tolerance(Circuit::KComposition { from: any, to: any });
    for to in config.heads() {
        found.push(ClosedForm::new(Quantity::Copying, 0.0, of_head).of(to));
        for from in config.heads().filter(|from| from.layer < to.layer) {
            found.push(ClosedForm::new(Quantity::Matching, 0.0, of_pair).of(to).from(from));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Normalization, Positions};

    fn initialised(variance: f64) -> (Vec<ClosedForm>, ModelConfig) {
        let init =
            Initialisation { w_e: variance, w_pos: variance, w_v: variance, w_o: variance, w_u: variance, biases: false };
        let config = ModelConfig {
            n_layers: 2,
            n_heads: 2,
            d_model: 64,
            d_head: 32,
            d_vocab: 200,
            n_ctx: 8,
            normalization: Normalization::None,
            eps: 1e-5,
            positions: Positions::None,
            attn_scale: 1.0,
        };
        (of_initialisation(&init, &config), config)
    }

    #[test]
    fn scores_may_be_four_of_their_chance_levels_off() {
        let (found, config) = initialised(0.01);
        let (from, to) = (HeadId::new(0, 1), HeadId::new(1, 0));
        for (quantity, count, circuit) in
            [(Quantity::Copying, 4, Circuit::FullOv(to)), (Quantity::Matching, 4, Circuit::KComposition { from, to })]
        {
            let of_quantity: Vec<_> = found.iter().filter(|form| form.quantity == quantity).collect();
            assert_eq!(of_quantity.len(), count);
            let tolerance = 4.0 * chance_sd(&config, circuit);
            assert!(tolerance < 1.0 && of_quantity.iter().all(|form| form.tolerance == tolerance), "{of_quantity:?}");
        }
    }

    /// Scores of weights that are all zero are null, and the loss is ln V but for the rounding of a run.
    #[test]
    fn weights_of_zero_have_a_loss_and_no_scores() {
        let (found, _) = initialised(0.0);
        assert_eq!(found, [ClosedForm::new(Quantity::RandomLoss, 200f64.ln(), RUN_TOLERANCE)]);
    }
}
