//! Whether a circuit maps things to themselves: the copying and the matching score, what chance makes of them, and the diagonal.
//!
//! Source: Elhage et al. 2021, sections "Detecting copying behaviour" and "Copying matrices and eigenvalues"; the diagonal
//! answers their caveat that positive eigenvalues need not copy.

use super::weights::{Circuit, Circuits, positive_share};
use crate::Result;
use crate::linalg::{product, r_factor};
use crate::model::ModelConfig;
use ndarray::{Array1, Array2, Axis};

/// Traces of powers below this, relative to what the norms allow, are those of a nilpotent matrix in single precision.
const NILPOTENT: f64 = 1e-5;
/// Whether a matrix has no eigenvalues but zeros, as far as weights in single precision can tell: it is zero, or nilpotent.
///
/// Eigenvalues themselves do not tell: those of a nilpotent matrix of size `k` come out as large as the `k`-th root of the rounding.
/// Their power sums do: `tr Mʲ` is compared with its bound `‖M‖ ‖Mʲ⁻¹‖` for `j = 1 … k`.
fn is_nilpotent(core: &Array2<f64>) -> bool {
    let length = |a: &Array2<f64>| a.iter().map(|v| v * v).sum::<f64>().sqrt();
    let size = length(core);
    if size == 0.0 {
        return true;
    }
    let core = core / size;
    // Scaled to norm 1 after each step: only ratios are compared.
    let mut power = Array2::eye(core.nrows());
    for _ in 0..core.nrows() {
        let before = length(&power);
        power = power.dot(&core);
        if power.diag().sum().abs() > NILPOTENT * before {
            return false;
        }
        let after = length(&power);
        if after <= NILPOTENT * before {
            return true;
        }
        power /= after;
    }
    true
}

/// What is found of a circuit; [`copying`] shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copying {
    /// `Σ Re λ / Σ |λ|`, as [`copying_score`] finds it.
    pub score: Option<f64>,
    /// The diagonal, as [`diagonal`] finds it.
    pub diagonal: Option<Diagonal>,
}

/// The score and the diagonal of a circuit at once: they share what takes long. `tokens` and `top_percent` are those of
/// [`diagonal`].
///
/// ```
/// use attn_circuits::circuit::copying::copying;
/// use attn_circuits::circuit::weights::{Circuit, Circuits};
/// # use attn_circuits::model::{BlockWeights, ModelConfig, Normalization, Positions, Transformer, Weights};
/// # use attn_circuits::prelude::*;
/// # let config = ModelConfig {
/// #     n_layers: 1, n_heads: 1, d_model: 3, d_head: 3, d_vocab: 3, n_ctx: 8,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::None, attn_scale: 1.0,
/// # };
/// # let one = || Array2::<f32>::eye(3).insert_axis(ndarray::Axis(0));
/// # let of_head = |w_o: Array2<f32>| BlockWeights {
/// #     ln: None, w_q: one(), w_k: one(), w_v: one(), w_o: w_o.insert_axis(ndarray::Axis(0)),
/// #     b_q: None, b_k: None, b_v: None, b_o: None,
/// # };
/// # let weights = |w_o| Weights {
/// #     w_e: Array2::eye(3), w_pos: None, blocks: vec![of_head(w_o)], ln_final: None, w_u: Array2::eye(3), b_u: None,
/// # };
/// // A head whose full OV circuit has the eigenvalues 1, 2 and 3, and yet raises other tokens than those that it attends to.
/// let w_o = array![[1.0, 9.0, 9.0], [0.0, 2.0, 9.0], [0.0, 0.0, 3.0]];
/// let model = Transformer::new(config, weights(w_o))?;
/// let found = copying(&Circuits::new(&model), Circuit::FullOv(HeadId::new(0, 0)), 2048, 5.0)?;
/// assert!(found.score.is_some_and(|score| (score - 1.0).abs() < 1e-6));
/// // Two, one and no entries of the rows are above the diagonal: half of all others, as by chance.
/// let diagonal = found.diagonal.expect("a circuit over tokens");
/// assert!(diagonal.rank.is_some_and(|rank| (rank - 0.5).abs() < 1e-3) && (diagonal.top_share - 1.0 / 3.0).abs() < 1e-3);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the eigenvalues do not converge.
///
/// # Panics
/// If the model has no such head.
pub fn copying(circuits: &Circuits, circuit: Circuit, tokens: usize, top_percent: f64) -> Result<Copying> {
    Ok(match circuits.norm_if_any(circuit)? {
        None => Copying { score: None, diagonal: None },
        Some(norm) => Copying {
            score: score_of_any(circuits, circuit)?,
            diagonal: diagonal_of_any(circuits, circuit, norm, tokens, top_percent)?,
        },
    })
}

/// `Σ Re λ / Σ |λ|` of a circuit, in [−1, 1]; none where it is zero or nilpotent to the precision of the weights.
///
/// Of a full OV circuit it is the copying score, of a K-composition term over tokens the matching score. Whether it is more than
/// noise, [`chance_sd`] says.
///
/// ```
/// use attn_circuits::circuit::copying::copying_score;
/// use attn_circuits::circuit::weights::{Circuit, Circuits};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let (circuits, previous, induction) = (Circuits::new(&model), HeadId::new(0, 0), HeadId::new(1, 0));
/// let is_one = |score: Option<f64>| score.is_some_and(|score| (score - 1.0).abs() < 1e-4);
/// assert!(is_one(copying_score(&circuits, Circuit::FullOv(induction))?));
/// assert!(is_one(copying_score(&circuits, Circuit::KComposition { from: previous, to: induction })?));
/// // The previous-token head writes nothing that W_U reads, and W_OV itself moves from one subspace to another: nilpotent.
/// assert_eq!(copying_score(&circuits, Circuit::FullOv(previous))?, None);
/// assert_eq!(copying_score(&circuits, Circuit::Ov(induction))?, None);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if the eigenvalues do not converge.
///
/// # Panics
/// If the model has no such head.
pub fn copying_score(circuits: &Circuits, circuit: Circuit) -> Result<Option<f64>> {
    if circuits.norm_if_any(circuit)?.is_none() {
        return Ok(None);
    }
    score_of_any(circuits, circuit)
}

/// [`copying_score`] of a circuit that is not zero.
fn score_of_any(circuits: &Circuits, circuit: Circuit) -> Result<Option<f64>> {
    let core = circuits.core(circuit)?;
    if is_nilpotent(&core) {
        return Ok(None);
    }
    Ok(positive_share(&circuits.eigenvalues_of(circuit, core.view())?))
}

/// The standard deviation of `Σ Re λ / Σ |λ|` if every matrix of the circuit were independently Gaussian; its mean is 0.
///
/// For a product of Gaussian matrices that closes to a cycle of sizes `n_1, n_2, …`, the smallest of them `m`:
/// `√(Π n_j) / Σ_{i=1}^m Π_j Γ(n_j − m + i + ½)/Γ(n_j − m + i)`. The numerator is the standard deviation of the trace, exactly; the
/// denominator the mean of `Σ |λ|` of complex matrices (Akemann and Burda 2012), which real ones come near as `m` grows. For `k`
/// much smaller than `d` and `V` it tends to `(h + 2)/(2k)`, `h` being the number of heads: 1.5/k for one, 2/k for two. `W_E` at both
/// ends of a circuit is treated as if it were two independent matrices.
///
/// Simulated models of `k = 8` and 16 spread up to 15 % more than this, the more the smaller they are: run
/// `cargo test --test identities chance_level_of_copying -- --nocapture`.
///
/// ```
/// use attn_circuits::circuit::copying::chance_sd;
/// use attn_circuits::circuit::weights::Circuit;
/// # use attn_circuits::model::{HeadId, ModelConfig, Normalization, Positions};
/// let config = ModelConfig {
///     n_layers: 2, n_heads: 1, d_model: 8000, d_head: 64, d_vocab: 50_000, n_ctx: 8,
/// #   normalization: Normalization::None, eps: 1e-5, positions: Positions::None, attn_scale: 8.0,
///     // …
/// };
/// // Narrow heads in a wide stream: 1.5/k for one, 2/k for two. For one, a score of 0.1 is four standard
/// // deviations.
/// let (from, to) = (HeadId::new(0, 0), HeadId::new(1, 0));
/// assert!((chance_sd(&config, Circuit::FullOv(to)) * 64.0 / 1.5 - 1.0).abs() < 0.02);
/// assert!((chance_sd(&config, Circuit::VirtualOv { from, to }) * 64.0 / 2.0 - 1.0).abs() < 0.02);
/// ```
pub fn chance_sd(model: &ModelConfig, circuit: Circuit) -> f64 {
    let (k, d, vocab) = (model.d_head, model.d_model, model.d_vocab);
    let heads: &[usize] = match circuit {
        Circuit::Direct => &[],
        Circuit::Ov(_) | Circuit::Qk(_) | Circuit::FullOv(_) | Circuit::FullQk(_) => &[k, d],
        Circuit::KComposition { .. } | Circuit::QComposition { .. } | Circuit::VirtualOv { .. } => &[k, d, k, d],
    };
    let mut sizes = heads.to_vec();
    match circuit {
        Circuit::Direct => sizes.extend([d, vocab]),
        _ if circuit.is_over_tokens() => sizes.extend([vocab, d]),
        _ => {}
    }
    let smallest = sizes.iter().copied().min().unwrap_or(0);
    let term = |i: usize| sizes.iter().map(|n| gamma_ratio(n - smallest + i) / (*n as f64).sqrt()).product::<f64>();
    let sum: f64 = (1..=smallest).map(term).sum();
    (1.0 / sum).min(1.0)
}

/// `Γ(x + ½)/Γ(x)`.
fn gamma_ratio(x: usize) -> f64 {
    if x > 100 {
        // The asymptotic series; its next term is below 1e-9 here.
        let x = x as f64;
        return x.sqrt() * (1.0 - 1.0 / (8.0 * x) + 1.0 / (128.0 * x * x));
    }
    let first = std::f64::consts::PI.sqrt() / 2.0;
    (1..x).fold(first, |ratio, i| ratio * (i as f64 + 0.5) / i as f64)
}

/// Where the diagonal of a circuit over tokens stands in its rows; [`diagonal`] shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diagonal {
    /// Mean rank of a token's own entry in its row: 0 if it is always the largest, 1 if always the smallest, ½ by chance; none with
    /// a single token.
    pub rank: Option<f64>,
    /// Share of tokens whose own entry is among the largest of its row, in [0, 1].
    pub top_share: f64,
}

/// Differences below this, relative to the root of the mean square of the row or of the whole circuit, count as ties.
const TIE: f64 = 1e-4;

/// The diagonal of a circuit over tokens, "the largest" being `top_percent` of the entries of a row (and at least one).
///
/// Of more than `tokens` tokens, so many stand for all, evenly spaced: their rows, and of these the entries in their columns. A
/// token's own entry is among them.
///
/// Ties count by half, and a difference below 1e-4 of a row's size in proportion: a rank does not hang on rounding. Where entries tie
/// for the last places among the largest, they share them; so the share is `top_percent` by chance, whatever the ties.
///
/// None if the circuit is not one of heads over tokens (the direct path has none either), or zero.
///
/// ```
/// use attn_circuits::circuit::copying::diagonal;
/// use attn_circuits::circuit::weights::{Circuit, Circuits};
/// # use attn_circuits::model::{BlockWeights, ModelConfig, Normalization, Positions, Transformer, Weights};
/// # use attn_circuits::prelude::*;
/// # let config = ModelConfig {
/// #     n_layers: 1, n_heads: 1, d_model: 3, d_head: 3, d_vocab: 3, n_ctx: 8,
/// #     normalization: Normalization::None, eps: 1e-5, positions: Positions::None, attn_scale: 1.0,
/// # };
/// # let one = || Array2::<f32>::eye(3).insert_axis(ndarray::Axis(0));
/// # let of_head = |w_o: Array2<f32>| BlockWeights {
/// #     ln: None, w_q: one(), w_k: one(), w_v: one(), w_o: w_o.insert_axis(ndarray::Axis(0)),
/// #     b_q: None, b_k: None, b_v: None, b_o: None,
/// # };
/// # let weights = |w_o| Weights {
/// #     w_e: Array2::eye(3), w_pos: None, blocks: vec![of_head(w_o)], ln_final: None, w_u: Array2::eye(3), b_u: None,
/// # };
/// // One head says again what it attends to, another one says the next token of three. In its rows one entry is above the own
/// // one, and one ties with it: 1.5 of 2.
/// let (copies, shifts) = (Array2::eye(3), array![[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]);
/// let id = HeadId::new(0, 0);
/// for (w_o, rank, top_share) in [(copies, 0.0, 1.0), (shifts, 0.75, 0.0)] {
///     let model = Transformer::new(config.clone(), weights(w_o))?;
///     let found = diagonal(&Circuits::new(&model), Circuit::FullOv(id), 2048, 5.0)?.expect("it is over tokens");
///     assert_eq!((found.rank, found.top_share), (Some(rank), top_share));
///     assert_eq!(diagonal(&Circuits::new(&model), Circuit::Ov(id), 2048, 5.0)?, None);
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// None that a model's own heads can cause.
///
/// # Panics
/// If the model has no such head.
pub fn diagonal(circuits: &Circuits, circuit: Circuit, tokens: usize, top_percent: f64) -> Result<Option<Diagonal>> {
    let norm = circuits.norm_if_any(circuit)?;
    norm.map_or(Ok(None), |norm| diagonal_of_any(circuits, circuit, norm, tokens, top_percent))
}

/// [`diagonal`] of a circuit that is not zero.
fn diagonal_of_any(
    circuits: &Circuits,
    circuit: Circuit,
    norm: f64,
    tokens: usize,
    top_percent: f64,
) -> Result<Option<Diagonal>> {
    if !circuit.is_over_tokens() || circuit == Circuit::Direct {
        return Ok(None);
    }
    let vocab = circuits.model().config().d_vocab;
    let count = tokens.clamp(1, vocab);
    let chosen: Vec<usize> = (0..count).map(|index| index * vocab / count).collect();
    let Sample { left, right, sizes } = circuits.sample(circuit, &chosen)?;
    let least = norm / vocab as f64;
    let ties = sizes.mapv(|size| (TIE * (size / (vocab as f64).sqrt()).max(least)) as f32);
    let places = (top_percent / 100.0 * count as f64).max(1.0);

    const BLOCK: usize = 128;
    let left = left.mapv(|v| v as f32);
    let (mut rank, mut share) = (0.0, 0.0);
    for (block, start) in left.axis_chunks_iter(Axis(0), BLOCK).zip((0..).step_by(BLOCK)) {
        let product = product(block, right.view());
        for (row, index) in product.rows().into_iter().zip(start..) {
            let row = row.to_slice().expect("a product is in standard layout");
            let (above, tied) = places_above(row, index, ties[index]);
            rank += above + tied / 2.0;
            share += ((places - above) / (tied + 1.0)).clamp(0.0, 1.0);
        }
    }
    let rank = (count > 1).then(|| rank / (count * (count - 1)) as f64);
    Ok(Some(Diagonal { rank, top_share: share / count as f64 }))
}

/// How many entries of a row are above its entry `own`, and how many tie with it: one that is above by half of `tie` counts half
/// here and half there.
fn places_above(row: &[f32], own: usize, tie: f32) -> (f64, f64) {
    let value = row[own];
    // Neither may be the value itself, where the tie is lost in its digits.
    let (low, high) = ((value - tie).min(value.next_down()), (value + tie).max(value.next_up()));
    let mut above = 0u32;
    let mut not_below = 0u32;
    for &other in row {
        // Wrapping, since a check for overflow keeps the loop from being vectorised; a row has fewer entries than that.
        above = above.wrapping_add(u32::from(other >= high));
        not_below = not_below.wrapping_add(u32::from(other > low));
    }
    // The entry itself is not below.
    if not_below <= above + 1 {
        return (f64::from(above), 0.0);
    }
    let (mut sure, mut tied) = (f64::from(above), 0.0);
    for (index, &other) in row.iter().enumerate() {
        if index == own || other <= low || other >= high {
            continue;
        }
        // From −1, below, to 1, above.
        let place = f64::from((other - value) / tie.max(f32::MIN_POSITIVE)).clamp(-1.0, 1.0);
        sure += place.max(0.0);
        tied += 1.0 - place.abs();
    }
    (sure, tied)
}

/// Some rows and columns of a circuit over tokens, as factors.
struct Sample {
    /// `[tokens, k]`
    left: Array2<f64>,
    /// `[k, tokens]`, in single precision.
    right: Array2<f32>,
    /// The norms of the rows, over all columns.
    sizes: Array1<f64>,
}

impl Circuits<'_> {
    /// The rows and columns `tokens`, ascending, of a circuit over tokens.
    fn sample(&self, circuit: Circuit, tokens: &[usize]) -> Result<Sample> {
        let inner = self.inner(circuit)?;
        let left = self.model().w_e().select(Axis(0), tokens).mapv(f64::from).dot(&inner.left());
        let (narrow, reader) = (inner.right().mapv(|v| v as f32), self.reader(circuit));
        let right =
            if tokens.len() < reader.ncols() { narrow.dot(&reader.select(Axis(1), tokens)) } else { narrow.dot(&reader) };
        // Of what the rows are multiplied with only lengths are wanted, and these a triangular factor has as well.
        let read =
            self.triangles(circuit).map_or_else(|| inner.right().to_owned(), |(_, reader)| inner.right().dot(&reader.t()));
        let sizes = left.dot(&r_factor(read.t()).t()).map_axis(Axis(1), |row| row.dot(&row).sqrt());
        Ok(Sample { left, right, sizes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::testing::model;
    use crate::model::{HeadId, Normalization, Positions, Transformer};
    use ndarray::s;
    use serde_json::json;

    #[test]
    fn ranks_count_ties_by_half_and_near_ties_in_proportion() {
        // Own entry first: one clearly above, one clearly below, one tie.
        assert_eq!(places_above(&[1.0, 2.0, 0.0, 1.0], 0, 0.25), (1.0, 1.0));
        assert_eq!(places_above(&[1.0, 2.0, 0.0, 3.0], 0, 0.25), (2.0, 0.0));
        // Half a tie above: half sure, half tied.
        assert_eq!(places_above(&[1.125, 1.0, 0.0], 1, 0.25), (0.5, 0.5));
        // Half a tie below: it counts a quarter of a place.
        assert_eq!(places_above(&[0.875, 1.0, 0.0], 1, 0.25), (0.0, 0.5));
        assert_eq!(places_above(&[0.0; 5], 2, 1e-9), (0.0, 4.0));
        // A tie that is lost in the digits of the entry.
        assert_eq!(places_above(&[1e9, 1e9, 0.0], 1, 1e-9), (0.0, 1.0));
    }

    #[test]
    fn entries_that_are_clearly_above_count_once_beside_near_ties() {
        // Two above by far, one half a tie above, one half a tie below.
        assert_eq!(places_above(&[9.0, 1.0, 1.125, 0.875, 3.0, 0.0], 1, 0.25), (2.5, 1.0));
    }

    /// With one coordinate factors lie in memory by rows and by columns at once, and their product perhaps by columns.
    #[test]
    fn a_model_of_one_coordinate_has_diagonals() {
        let shape = json!({ "layers": 1, "heads": 1, "d_model": 1, "d_head": 1, "vocab": 5, "context": 4 });
        let model = model("random", shape);
        let circuits = Circuits::new(&model);
        let id = HeadId::new(0, 0);
        for circuit in [Circuit::FullQk(id), Circuit::FullOv(id)] {
            let dense = circuits.low_rank(circuit).unwrap().dense();
            let above = |token: usize| dense.row(token).iter().filter(|&&other| other > dense[(token, token)]).count();
            let expected = (0..5).map(above).sum::<usize>() as f64 / 20.0;
            let found = diagonal(&circuits, circuit, 2048, 5.0).unwrap().unwrap().rank.unwrap();
            assert!((found - expected).abs() < 1e-3, "{circuit:?}: {found} {expected}");
        }
    }

    /// Of few tokens rows and columns are those of these tokens, whatever the others are.
    #[test]
    fn some_tokens_are_ranked_among_themselves() {
        let shape = json!({ "layers": 1, "heads": 1, "d_model": 6, "d_head": 3, "vocab": 40, "context": 4 });
        let model = model("random", shape);
        let circuits = Circuits::new(&model);
        let id = HeadId::new(0, 0);
        let tokens: Vec<usize> = (0..8).map(|index| 5 * index).collect();
        for circuit in [Circuit::FullQk(id), Circuit::FullOv(id)] {
            let few = circuits.low_rank(circuit).unwrap().select(Some(&tokens), Some(&tokens)).dense();
            let above = |token: usize| few.row(token).iter().filter(|&&other| other > few[(token, token)]).count();
            let rank = (0..8).map(above).sum::<usize>() as f64 / 56.0;
            let share = (0..8).map(|token| (2.0 - above(token) as f64).clamp(0.0, 1.0)).sum::<f64>() / 8.0;
            let found = copying(&circuits, circuit, 8, 25.0).unwrap().diagonal.unwrap();
            assert!((found.rank.unwrap() - rank).abs() < 1e-2, "{circuit:?}: {found:?} {rank}");
            assert!((found.top_share - share).abs() < 1e-2, "{circuit:?}: {found:?} {share}");
        }
    }

    /// `W_V M` and `M⁻¹ W_O` are the same circuit: whether it is nilpotent must not hang on `M`.
    #[test]
    fn a_circuit_has_its_score_however_it_is_factored() {
        let shape = json!({ "layers": 1, "heads": 1, "d_model": 12, "d_head": 4, "vocab": 30, "context": 4 });
        let model = model("random", shape);
        let id = HeadId::new(0, 0);
        let expected = copying_score(&Circuits::new(&model), Circuit::FullOv(id)).unwrap().unwrap();
        let mut weights = model.to_weights();
        for (index, scale) in [1.0, 10.0, 100.0, 1e3].into_iter().enumerate() {
            weights.blocks[0].w_v.slice_mut(s![.., .., index]).mapv_inplace(|v| v * scale);
            weights.blocks[0].w_o.slice_mut(s![.., index, ..]).mapv_inplace(|v| v / scale);
        }
        let other = Transformer::new(model.config().clone(), weights).unwrap();
        let circuits = Circuits::new(&other);
        let found = copying_score(&circuits, Circuit::FullOv(id)).unwrap().unwrap();
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        let length = |circuits: &Circuits| circuits.core(Circuit::Ov(id)).unwrap().iter().map(|v| v * v).sum::<f64>();
        assert!((length(&circuits) / length(&Circuits::new(&model)) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn ratios_of_gamma_functions_are_right_on_both_sides_of_the_change_of_formula() {
        assert!((gamma_ratio(1) - 0.886_226_925).abs() < 1e-9);
        assert!((gamma_ratio(3) - 0.886_226_925 * 1.5 * 1.25).abs() < 1e-8);
        assert!((gamma_ratio(101) / (gamma_ratio(100) * 100.5 / 100.0) - 1.0).abs() < 1e-8);
    }

    #[test]
    fn narrow_heads_in_wide_models_have_a_chance_level_of_one_and_a_half_over_their_width() {
        let config = ModelConfig {
            n_layers: 2,
            n_heads: 1,
            d_model: 8000,
            d_head: 64,
            d_vocab: 50_000,
            n_ctx: 8,
            normalization: Normalization::None,
            eps: 1e-5,
            positions: Positions::None,
            attn_scale: 8.0,
        };
        let (from, to) = (HeadId::new(0, 0), HeadId::new(1, 0));
        for (circuit, expected) in [
            (Circuit::Ov(to), 1.5),
            (Circuit::FullOv(to), 1.5),
            (Circuit::FullQk(to), 1.5),
            (Circuit::KComposition { from, to }, 2.0),
            (Circuit::VirtualOv { from, to }, 2.0),
        ] {
            let found = chance_sd(&config, circuit) * 64.0;
            assert!((found / expected - 1.0).abs() < 0.02, "{circuit:?}: {found}");
        }
    }
}
