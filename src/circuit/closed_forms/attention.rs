//! What a wired head attends to, as far as it can be said without an input.

use super::sought::Sought;
use super::{ClosedForm, Quantity, RUN_TOLERANCE};
use crate::model::build::wired::{POSITION, Reading, TOKEN, Translation, Wiring};

/// How a head attends where one earlier position is what it looks for, or none is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// The score of the one position that is looked for: the least and the most that it can be, since what earlier heads hand over
    /// is a little less than one-hot.
    target: (f64, f64),
    /// The most that a position scores which is not looked for.
    stray: f64,
    /// So many of the first positions score up to so much: a head that looks several positions back finds nothing there, and hands
    /// over a mixture.
    early: (usize, f64),
    /// The score of the start token, and of the own position (`None`: like any other that is not looked for).
    rest: Option<f64>,
    own: Option<f64>,
    /// The smallest number of keys among which there is an earlier position that is looked for.
    least_keys: usize,
    /// Whether nothing can match, so that the head rests.
    can_rest: bool,
}

/// What softmax gives to a position that scores `score` beside others: pairs (how many, score).
fn share<const N: usize>(score: f64, others: [(usize, f64); N]) -> f64 {
    let others = others.iter().filter(|(count, _)| *count > 0);
    1.0 / (1.0 + others.map(|&(count, other)| count as f64 * (other - score).exp()).sum::<f64>())
}

impl Looks {
    /// The positions with a score of their own, beside the target.
    fn named(&self) -> [(usize, f64); 2] {
        [self.rest, self.own].map(|score| (usize::from(score.is_some()), score.unwrap_or(0.0)))
    }

    /// The least and the most attention to the one target among `keys` positions.
    pub fn attention_bounds(&self, keys: usize) -> Option<(f64, f64)> {
        if keys < self.least_keys {
            return None;
        }
        let [rest, own] = self.named();
        let others = keys.checked_sub(1 + rest.0 + own.0)?;
        let early = self.early.0.min(others);
        let least = share(self.target.0, [rest, own, (early, self.early.1), (others - early, self.stray)]);
        let most = share(self.target.1, [rest, own, (others, 0.0)]);
        Some((least, most))
    }

    /// The least and the most attention to the start token where nothing matches.
    pub fn rest_bounds(&self, keys: usize) -> Option<(f64, f64)> {
        let score = self.rest.filter(|_| self.can_rest && keys >= 2)?;
        let [_, own] = self.named();
        let others = keys.checked_sub(1 + own.0)?;
        let early = self.early.0.min(others);
        let least = share(score, [own, (early, self.early.1), (others - early, self.stray)]);
        Some((least, share(score, [own, (others, 0.0)])))
    }

    /// The closed forms with so many keys: the expected value is that of a perfect hand-over.
    pub fn attention<'a>(&'a self, keys: &'a [usize]) -> impl Iterator<Item = ClosedForm> + 'a {
        let form = |quantity, keys, (least, most): (f64, f64)| ClosedForm {
            keys: Some(keys),
            ..ClosedForm::new(quantity, most, RUN_TOLERANCE + (most - least))
        };
        keys.iter().flat_map(move |&keys| {
            let target = self.attention_bounds(keys).map(|bounds| form(Quantity::AttentionOnTarget, keys, bounds));
            let rest = self.rest_bounds(keys).map(|bounds| form(Quantity::AttentionAtRest, keys, bounds));
            target.into_iter().chain(rest)
        })
    }
}

/// How each head of a wiring attends, in the order of the wiring; `None` where it has no closed form.
pub(super) fn looks(wiring: &Wiring, sought: &[Option<Sought>], context: usize) -> Vec<Option<Looks>> {
    // Heads may be listed in any order, so layer by layer.
    let mut looks: Vec<Option<Looks>> = vec![None; wiring.heads.len()];
    for layer in 0..wiring.n_layers {
        for index in (0..wiring.heads.len()).filter(|&index| wiring.heads[index].layer == layer) {
            looks[index] = look(wiring, sought, &looks, index, context);
        }
    }
    looks
}

/// Whether the heads of a reading give each of its one-hot vectors to one index only, with weight one.
fn is_plain(reading: &Reading) -> bool {
    match &reading.translation {
        Translation::Shift(_) => true,
        Translation::Map(triples) => {
            triples.iter().all(|&(_, _, weight)| weight == 1.0) && triples.windows(2).all(|pair| pair[0].0 != pair[1].0)
        }
    }
}

fn look(wiring: &Wiring, sought: &[Option<Sought>], earlier: &[Option<Looks>], index: usize, context: usize) -> Option<Looks> {
    let head = &wiring.heads[index];
    if !(is_plain(&head.query) && is_plain(&head.key) && head.sharpness > 0.0) {
        return None;
    }
    let (mut least, mut most, mut stray, mut early) = (0.0, 0.0, 0.0, (0, 0.0));
    for (query, key) in head.query.from.iter().zip(&head.key.from) {
        let (q_least, q_most) = handed_over(wiring, earlier, head.layer, query, context)?;
        let (k_least, k_most) = handed_over(wiring, earlier, head.layer, key, context)?;
        least += head.sharpness * q_least * k_least;
        most += head.sharpness * q_most * k_most;
        stray += head.sharpness * (q_most * k_most - q_least * k_least);
        let mut writers = wiring.heads.iter().zip(sought).filter(|(writer, _)| writer.layer < head.layer && writer.to == *key);
        let back = writers.find_map(|(_, sought)| sought.and_then(Sought::back));
        if let Some(back) = back.filter(|&back| back > 1) {
            // Position 0 has only itself to hand over, each of the next ones at least two.
            early = (early.0.max(back as usize - 1), early.1 + head.sharpness * q_most * k_most / 2.0);
        }
    }
    early.1 += stray;
    let offset = sought[index].and_then(Sought::back);
    let compares_positions = offset.is_some();
    // A head whose query and key are the same matches itself too, one that looks back no position nothing else.
    let matches_itself = head.query == head.key && !compares_positions;
    if offset == Some(0) && (head.current.is_some() || head.rest.is_some()) {
        return None;
    }
    let own = match (&head.current, matches_itself) {
        (Some(current), true) => Some(current.score + most),
        (Some(current), false) => Some(current.score),
        (None, true) => Some(most),
        (None, false) => None,
    };
    let named = 1 + usize::from(head.rest.is_some()) + usize::from(own.is_some());
    let least_keys = offset.map_or(named, |offset| (1 + offset as usize + usize::from(head.rest.is_some())).max(named));
    Some(Looks {
        target: (least, most),
        stray,
        early,
        rest: head.rest.as_ref().map(|rest| rest.score),
        own,
        least_keys,
        can_rest: !compares_positions && (!matches_itself || head.current.is_some()),
    })
}

/// How much of a one-hot vector stands in a subspace when a head of `layer` reads it: the least and the most.
fn handed_over(wiring: &Wiring, earlier: &[Option<Looks>], layer: usize, subspace: &str, context: usize) -> Option<(f64, f64)> {
    if [TOKEN, POSITION].contains(&subspace) {
        let written = wiring.heads.iter().any(|head| head.layer < layer && head.to == subspace);
        return (!written).then_some((1.0, 1.0));
    }
    let mut writers = wiring.heads.iter().zip(earlier).filter(|(head, _)| head.layer < layer && head.to == subspace);
    let (Some((writer, look)), None) = (writers.next(), writers.next()) else { return None };
    if ![TOKEN, POSITION].contains(&writer.value.from[0].as_str()) || !is_plain(&writer.value) || writer.scale <= 0.0 {
        return None;
    }
    let look = (*look)?;
    let (least, _) = look.attention_bounds(context)?;
    let (_, most) = look.attention_bounds(look.least_keys)?;
    Some((writer.scale * least, writer.scale * most))
}
