//! How many heads it takes to say different things after different destinations.
//!
//! Source: Elhage et al. 2021, "Skip-trigram 'bugs'". What a source does is a table `[destination, out]` of rank one for each head:
//! attention of each destination times the source's row of the full OV circuit.

use super::skip_trigrams::{Among, HeadTables};
use super::weights::Circuits;
use crate::linalg::{LowRank, log_softmax, r_factor, singular_values};
use crate::model::HeadId;
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use rayon::prelude::*;

/// A wish: how much the logit of `out` should rise at `destination` if `source` stands before; see [`wished`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// The token that stands somewhere before.
    pub source: usize,
    /// The token that attends to it.
    pub destination: usize,
    /// The token that should come.
    pub out: usize,
    /// How much its logit should rise.
    pub value: f64,
}

/// The most destinations of one source that [`wished`] takes: the time for `m` of them grows as `3ᵐ`.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::skip_trigram_rank::{MOST_DESTINATIONS, Wish, wished};
/// let model = notebook.model("keep", "{ kind: wired, circuit: skip-trigram, vocab: 12, context: 8 }")?;
/// // As many destinations as may be, each of which wants another token.
/// let most = MOST_DESTINATIONS;
/// let wishes: Vec<_> = (0..most).map(|i| Wish { source: 1, destination: i, out: i, value: 20.0 }).collect();
/// let found = wished(&Circuits::new(&model), &[HeadId::new(0, 0)], &wishes)?;
/// let nats = |heads: usize| found[0].reachable[heads].nats.map(|nats| nats * most as f64);
/// // With a head for each nothing is lost. With one head less, two destinations share one: a coin toss each.
/// assert!(nats(most).is_some_and(|lost| lost < 1e-5));
/// assert!(nats(most - 1).is_some_and(|lost| (lost - 2.0 * 2f64.ln()).abs() < 1e-4));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub const MOST_DESTINATIONS: usize = 10;

/// Checks that the cost of a source can be found exactly.
///
/// # Errors
/// [`Error::Invalid`] if it has more destinations than [`MOST_DESTINATIONS`].
pub(crate) fn check_destinations(source: usize, destinations: usize) -> Result<()> {
    if destinations > MOST_DESTINATIONS {
        return Err(Error::invalid(format!(
            "source {source} has {destinations} destinations: the cost is found exactly for at most {MOST_DESTINATIONS}"
        )));
    }
    Ok(())
}

/// What so many heads can reach of a table `[destination, out]`, by the rank alone: a head's table for a source is of rank one.
/// [`Together::reaches`] and [`wished`] find it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// The number of heads.
    pub heads: usize,
    /// The singular value that the last of them accounts for, in units of logits; none for no head.
    pub singular_value: Option<f64>,
    /// The Frobenius norm of what the best table of this rank leaves, over that of the whole (Eckart and Young); none if there is
    /// nothing to reach.
    pub residual: Option<f64>,
    /// What it costs, in nats a prediction, that every destination has to share its row with those which attend with the same head.
    pub nats: Option<f64>,
}

/// Residuals of the best approximations of rank 0, 1, …, `heads` of a matrix with these singular values, none larger than `noise`
/// counting as nothing.
fn reaches(mut spectrum: Vec<f64>, heads: usize, noise: f64) -> Vec<Reach> {
    spectrum.resize(spectrum.len().max(heads), 0.0);
    // Summed from the small end, so that what is left does not drown in what is there.
    let mut left = vec![0.0];
    left.extend(spectrum.iter().rev().scan(0.0, |sum, value| {
        *sum += value * value;
        Some(*sum)
    }));
    left.reverse();
    let whole = left[0].sqrt();
    (0..=heads)
        .map(|heads| Reach {
            heads,
            singular_value: heads.checked_sub(1).map(|index| spectrum[index]),
            residual: (whole > noise).then(|| left[heads].sqrt() / whole),
            nats: None,
        })
        .collect()
}

/// What a set of heads does together for each source: their tables `[destination, out]`, each of rank one, added up.
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::skip_trigram_rank::Together;
/// for heads in [1, 2] {
///     // `keep … in → mind` and `keep … at → bay`, in one head or in two.
///     let yaml = format!("{{ kind: wired, circuit: skip-trigram-bug, n: {heads}, vocab: 6, context: 8 }}");
///     let model = notebook.model("bug", &yaml)?;
///     let all: Vec<_> = model.config().heads().collect();
///     let of_keep = Together::new(&Circuits::new(&model), &all, Some(&[1]))?.reaches()?.remove(0);
///     // Nothing is reached without a head, everything with as many as there are, and not before.
///     assert_eq!((of_keep[0].residual, of_keep[heads].residual), (Some(1.0), Some(0.0)));
///     assert!(of_keep[heads - 1].residual.is_some_and(|residual| residual > 0.5));
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct Together {
    heads: Vec<HeadTables>,
    d_vocab: usize,
    /// How many sources there are.
    sources: usize,
}

impl Together {
    /// The tables of `heads`, for these sources.
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head or token.
    pub fn new(circuits: &Circuits, heads: &[HeadId], sources: Option<&[usize]>) -> Result<Self> {
        let among = Among { sources, ..Among::default() };
        let heads = heads.iter().map(|&id| HeadTables::new(circuits, id, among)).collect::<Result<_>>()?;
        let d_vocab = circuits.model().config().d_vocab;
        Ok(Self { heads, d_vocab, sources: sources.map_or(d_vocab, <[usize]>::len) })
    }

    /// The table of source number `source`, rows centred over the outs.
    fn table(&self, source: usize) -> Result<LowRank> {
        let (mut attention, mut effects) = (Array2::zeros((self.d_vocab, 0)), Array2::zeros((0, self.d_vocab)));
        for head in &self.heads {
            let (a, e) = head.of_source(source);
            attention.push_column(Array1::from(a).view()).map_err(|error| Error::invalid(error.to_string()))?;
            effects.push_row(Array1::from(e).view()).map_err(|error| Error::invalid(error.to_string()))?;
        }
        LowRank::new(attention, effects)
    }

    /// The norm that a source's table has from rounding alone: that of each head's attention, times what rounding makes of a row of
    /// effects.
    fn noise(&self, table: &LowRank) -> f64 {
        let of_head = |(attention, head): (ArrayView1<f64>, &HeadTables)| attention.dot(&attention).sqrt() * head.noise;
        let attention = table.left();
        attention.columns().into_iter().zip(&self.heads).map(of_head).sum::<f64>() * (self.d_vocab as f64).sqrt()
    }

    /// For each source: how many of the heads its table needs, whatever they want.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// use attn_circuits::circuit::skip_trigram_rank::Together;
    /// let model = notebook.model("bug", "{ kind: wired, circuit: skip-trigram-bug, vocab: 6, context: 8 }")?;
    /// let sources = Some(&[1, 4][..]);
    /// let found = Together::new(&Circuits::new(&model), &[HeadId::new(0, 0)], sources)?.reaches()?;
    /// // `in` and `at` attend to `keep` (1), which raises two of the six tokens by 10: a row of length 10 √(2 − 4/6).
    /// let length = 2f64.sqrt() * 10.0 * (2.0 - 4.0 / 6.0f64).sqrt();
    /// assert!(found[0][1].singular_value.is_some_and(|value| (value - length).abs() < 1e-2));
    /// // `mind` (4) raises nothing, so there is nothing to reach.
    /// assert!(found[1].iter().all(|reach| reach.residual.is_none()));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if a decomposition does not converge.
    pub fn reaches(&self) -> Result<Vec<Vec<Reach>>> {
        let of_source = |source| {
            let table = self.table(source)?;
            Ok(reaches(table.singular_values()?, self.heads.len(), self.noise(&table)))
        };
        (0..self.sources).into_par_iter().map(of_source).collect()
    }
}

/// The wishes of one source, as rows of logits.
struct Target {
    source: usize,
    destinations: Vec<usize>,
    /// `[destinations, V]`
    logits: Array2<f64>,
}

fn targets(wishes: &[Wish], d_vocab: usize) -> Vec<Target> {
    let mut sources: Vec<usize> = wishes.iter().map(|wish| wish.source).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
        .into_iter()
        .map(|source| {
            let of_source: Vec<_> = wishes.iter().filter(|wish| wish.source == source).collect();
            let mut destinations: Vec<usize> = of_source.iter().map(|wish| wish.destination).collect();
            destinations.sort_unstable();
            destinations.dedup();
            let mut logits = Array2::zeros((destinations.len(), d_vocab));
            for wish in of_source {
                let row = destinations.partition_point(|&destination| destination < wish.destination);
                logits[(row, wish.out)] = wish.value;
            }
            Target { source, destinations, logits }
        })
        .collect()
}

pub(super) fn centered(rows: &Array2<f64>) -> Array2<f64> {
    match rows.mean_axis(Axis(1)) {
        Some(mean) => rows - &mean.insert_axis(Axis(1)),
        None => rows.clone(),
    }
}

/// The logarithm of the softmax of each row.
fn log_softmax_rows(logits: &Array2<f64>) -> Array2<f64> {
    let mut logs = logits.clone();
    logs.rows_mut().into_iter().zip(logits.rows()).for_each(|(mut to, row)| to.assign(&log_softmax(row)));
    logs
}

/// `KL(p ‖ q)` in nats, from `ln p` and `ln q`: finite also where `q` is too small to be told from 0.
fn divergence(log_p: ArrayView1<f64>, log_q: ArrayView1<f64>) -> f64 {
    log_p.iter().zip(log_q).map(|(log_p, log_q)| log_p.exp() * (log_p - log_q)).sum()
}

/// `−Σ p ln p` in nats.
fn entropy<'a>(p: impl IntoIterator<Item = &'a f64>) -> f64 {
    -p.into_iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>()
}

/// The least cost in nats, mean over the rows of `wanted` (distributions), with 0, 1, … heads, up to as many as there are rows.
///
/// Every row is served by one head, which says the same to all its rows, or by none, which says that all outs are alike. What a head
/// says best to several rows is the mean of their distributions; it then costs so many times the entropy of the mean, less the
/// entropies of the rows. The least over all ways to divide the rows.
fn costs(wanted: &Array2<f64>) -> Vec<f64> {
    let (count, outs) = wanted.dim();
    let sets = 1usize << count;
    let members = |set: usize| (0..count).filter(move |row| set >> row & 1 == 1);
    let entropies: Vec<f64> = wanted.rows().into_iter().map(entropy).collect();
    // What is said to each row of a set has this entropy.
    let cost = |set: usize, said: f64| members(set).map(|row| said - entropies[row]).sum::<f64>().max(0.0);
    let alike = (outs as f64).ln();
    let of_head: Vec<f64> = (0..sets)
        .map(|set| {
            let mut mean = Array1::<f64>::zeros(outs);
            members(set).for_each(|row| mean += &wanted.row(row));
            mean /= f64::from(set.count_ones()).max(1.0);
            cost(set, entropy(&mean))
        })
        .collect();
    let mut least: Vec<f64> = (0..sets).map(|set| cost(set, alike)).collect();
    let mut all = vec![least[sets - 1]];
    for _ in 0..count {
        let with_one_less = least.clone();
        for (set, place) in least.iter_mut().enumerate() {
            // Every subset of the set.
            let mut served = set;
            while served > 0 {
                *place = place.min(of_head[served] + with_one_less[set & !served]);
                served = (served - 1) & set;
            }
        }
        all.push(least[sets - 1]);
    }
    all.into_iter().map(|cost| cost.max(0.0) / count as f64).collect()
}

/// What is known of one source's wishes: what [`wished`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Wished {
    /// The source.
    pub source: usize,
    /// What 0, 1, … heads can reach.
    pub reachable: Vec<Reach>,
    /// What the heads of the model reach; their number is all of them.
    pub reached: Reach,
}

/// How near heads can come to what is wished of them, source by source (ascending), and how near `heads` do.
///
/// For each destination that is named a row of logits is wished, 0 for every out that is not named, and that is the distribution
/// which is its softmax; the cost is the mean over the destinations of `KL(wished ‖ said)` in nats. The least cost with so many
/// heads is that over all ways to divide the destinations among the heads, each of which says the same to all of its own; a
/// destination may also be served by none, and hears that all outs are alike. It takes `3ᵐ` steps for each of up to `m` heads,
/// where a source has `m` destinations, at most [`MOST_DESTINATIONS`].
///
/// ```
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// use attn_circuits::circuit::skip_trigram_rank::{Wish, wished};
/// // `keep … in → mind` and `keep … at → bay` are wished, and wired into one head.
/// let model = notebook.model("bug", "{ kind: wired, circuit: skip-trigram-bug, vocab: 6, context: 8 }")?;
/// let wishes = [(2, 4), (3, 5)].map(|(destination, out)| Wish { source: 1, destination, out, value: 10.0 });
/// let found = wished(&Circuits::new(&model), &[HeadId::new(0, 0)], &wishes)?.remove(0);
/// // Two heads could do it. One cannot tell `in` from `at`: it costs a coin toss, and so it does in the model.
/// let least: Vec<_> = found.reachable.iter().filter_map(|reach| reach.nats).collect();
/// assert!((least[1] - 2f64.ln()).abs() < 0.01 && least[2] < 1e-4);
/// assert!(found.reached.nats.is_some_and(|nats| (nats - 2f64.ln()).abs() < 0.01));
/// // Singular values of the wishes: 10 and 10 √(1 − 2/6), of which the second is out of reach.
/// assert!(found.reachable[1].residual.is_some_and(|residual| (residual - 0.4f64.sqrt()).abs() < 1e-6));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if a source has too many destinations, or a decomposition does not converge.
///
/// # Panics
/// If the model has no such head or token.
pub fn wished(circuits: &Circuits, heads: &[HeadId], wishes: &[Wish]) -> Result<Vec<Wished>> {
    let d_vocab = circuits.model().config().d_vocab;
    let targets = targets(wishes, d_vocab);
    targets.iter().try_for_each(|target| check_destinations(target.source, target.destinations.len()))?;
    let sources: Vec<usize> = targets.iter().map(|target| target.source).collect();
    let together = Together::new(circuits, heads, Some(&sources))?;
    let of_target = |(index, target): (usize, &Target)| {
        let logits = centered(&target.logits);
        let wanted = log_softmax_rows(&logits);
        let spectrum = singular_values(r_factor(logits.t()).view())?;
        let mut reachable = reaches(spectrum, target.destinations.len(), 0.0);
        for (reach, nats) in reachable.iter_mut().zip(costs(&wanted.mapv(f64::exp))) {
            reach.nats = Some(nats);
        }
        let does = together.table(index)?.select(Some(&target.destinations), None).dense();
        let norm = |m: &Array2<f64>| m.iter().map(|value| value * value).sum::<f64>().sqrt();
        let whole = norm(&logits);
        let said = log_softmax_rows(&does);
        let nats = wanted.rows().into_iter().zip(said.rows()).map(|(wanted, said)| divergence(wanted, said)).sum::<f64>();
        let reached = Reach {
            heads: heads.len(),
            singular_value: None,
            residual: (whole > 0.0).then(|| norm(&(&logits - &does)) / whole),
            nats: Some(nats.max(0.0) / target.destinations.len() as f64),
        };
        Ok(Wished { source: target.source, reachable, reached })
    };
    targets.iter().enumerate().map(of_target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::skip_trigrams::tests::{by_brute_force, one_layer};
    use crate::model::Transformer;
    use ndarray::array;

    #[test]
    fn more_destinations_than_can_be_waited_for_are_refused() {
        let wishes =
            (0..=MOST_DESTINATIONS).map(|i| Wish { source: 1, destination: i, out: i, value: 1.0 }).collect::<Vec<_>>();
        let model = one_layer(1, MOST_DESTINATIONS + 1);
        let error = wished(&Circuits::new(&model), &[HeadId::new(0, 0)], &wishes).unwrap_err().to_string();
        assert!(error.starts_with("source 1 has 11 destinations"), "{error}");
    }

    #[test]
    fn the_rank_of_a_source_is_that_of_its_table() {
        let vocab = 6;
        let model = one_layer(3, vocab);
        let circuits = Circuits::new(&model);
        let heads: Vec<_> = model.config().heads().collect();
        let found = Together::new(&circuits, &heads, None).unwrap().reaches().unwrap();
        for (source, reach) in found.iter().enumerate() {
            let mut table = Array2::zeros((vocab, vocab));
            for &id in &heads {
                for t in by_brute_force(&model, id).iter().filter(|t| t.source == source) {
                    table[(t.destination, t.out)] += t.attention * t.effect;
                }
            }
            let spectrum = singular_values(table.view()).unwrap();
            let norm = table.iter().map(|v| v * v).sum::<f64>().sqrt();
            assert_eq!(reach.len(), heads.len() + 1);
            for (heads, reach) in reach.iter().enumerate() {
                let left = spectrum[heads..].iter().map(|v| v * v).sum::<f64>().sqrt() / norm;
                assert!((reach.residual.unwrap() - left).abs() < 1e-9, "{source} {heads}");
                assert!(heads == 0 || (reach.singular_value.unwrap() - spectrum[heads - 1]).abs() < 1e-9 * norm);
            }
            assert_eq!(reach.last().unwrap().residual, Some(0.0));
        }
    }

    /// Two destinations that want different things: with one head the best is half and half, which costs ln 2; with none it costs all
    /// that is known.
    #[test]
    fn one_head_for_two_wishes_costs_a_coin_toss() {
        let wanted = array![[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]];
        let found = costs(&wanted);
        for (found, expected) in found.iter().zip([4f64.ln(), 2f64.ln(), 0.0]) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        // One head for the two destinations that agree leaves the third alone, which costs less than one head for all three.
        let found = costs(&array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]);
        assert!((found[1] - 3f64.ln() / 3.0).abs() < 1e-12, "{found:?}");
        assert!(found[2].abs() < 1e-12 && found[3].abs() < 1e-12);
    }

    /// A wish against which the model says the opposite, so loudly that the probability of what is wished underflows.
    #[test]
    fn a_cost_is_finite_where_probabilities_underflow() {
        let mut weights = one_layer(1, 6).to_weights();
        weights.w_u *= 1e6;
        let model = Transformer::new(one_layer(1, 6).config().clone(), weights).unwrap();
        let circuits = Circuits::new(&model);
        let heads: Vec<_> = model.config().heads().collect();
        let does = Together::new(&circuits, &heads, None).unwrap().table(2).unwrap().dense().row(1).to_owned();
        let out = (0..6).min_by(|&a, &b| does[a].total_cmp(&does[b])).unwrap();
        let most = does.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!(most - does[out] > 1000.0, "{does}");
        let found = wished(&circuits, &heads, &[Wish { source: 2, destination: 1, out, value: 900.0 }]).unwrap();
        let nats = found[0].reached.nats.unwrap();
        assert!((nats / (most - does[out]) - 1.0).abs() < 1e-3, "{nats} {does}");
    }

    /// Where heads hardly attend to a source, their table is small but not nothing: what counts is the rounding of just this table.
    #[test]
    fn rounding_is_as_small_as_the_attention() {
        let model = one_layer(2, 6);
        let circuits = Circuits::new(&model);
        let heads: Vec<_> = model.config().heads().collect();
        let together = Together::new(&circuits, &heads, None).unwrap();
        for source in 0..6 {
            let table = together.table(source).unwrap();
            let most: f64 = together.heads.iter().map(|head| head.noise).sum::<f64>() * 6.0;
            let noise = together.noise(&table);
            assert!(noise > 0.0 && noise < most, "{noise} {most}");
            let (small, large) = (table.scaled(1e-9), table.scaled(1.0));
            assert!((together.noise(&small) / together.noise(&large) / 1e-9 - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn wishes_that_the_model_fulfils_leave_nothing() {
        let model = one_layer(2, 6);
        let circuits = Circuits::new(&model);
        let heads: Vec<_> = model.config().heads().collect();
        let wishes: Vec<Wish> = [1, 3]
            .into_iter()
            .flat_map(|destination| {
                let together = Together::new(&circuits, &heads, None).unwrap();
                let row = together.table(2).unwrap().dense().row(destination).to_vec();
                row.into_iter().enumerate().map(move |(out, value)| Wish { source: 2, destination, out, value })
            })
            .collect();
        let found = wished(&circuits, &heads, &wishes).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].reached.residual.unwrap() < 1e-12 && found[0].reached.nats.unwrap() < 1e-12);
        let last = found[0].reachable.last().unwrap();
        assert!(last.residual.unwrap() < 1e-12 && last.nats.unwrap() < 1e-12);
        let nats: Vec<_> = found[0].reachable.iter().map(|reach| reach.nats.unwrap()).collect();
        assert!(nats.is_sorted_by(|a, b| a >= b) && nats[0] > 0.0);
    }
}
