//! Whether a circuit maps things to themselves: the copying and the matching score, what chance makes of them, and the diagonal.
//!
//! Source: Elhage et al. 2021, sections "Detecting copying behaviour" and "Copying matrices and eigenvalues"; the diagonal
//! answers their caveat that positive eigenvalues need not copy.

use super::weights::{Circuit, Circuits, positive_share};
use crate::Result;
use crate::model::ModelConfig;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Traces of powers below this, relative to what the norms allow, are those of a nilpotent matrix in single precision.
const NILPOTENT: f64 = 1e-5;
/// A norm of no more than so many times what rounding makes is that of a circuit of zeros.
pub const ROUNDING: f64 = 30.0;

/// Whether the circuit has no eigenvalues but zeros, as far as weights in single precision can tell: it is zero, or nilpotent.
///
/// Eigenvalues themselves do not tell: those of a nilpotent matrix of size `k` come out as large as the `k`-th root of the rounding.
/// Their power sums do: `tr Mʲ` is compared with its bound `‖M‖ ‖Mʲ⁻¹‖` for `j = 1 … k`.
///
/// # Errors
/// None that a model's own heads can cause.
pub fn is_nilpotent(circuits: &Circuits, circuit: Circuit) -> Result<bool> {
    let (norm, rounding) = circuits.norm_and_rounding(circuit)?;
    if norm <= ROUNDING * rounding {
        return Ok(true);
    }
    let core = circuits.core(circuit)?;
    let length = |a: &Array2<f64>| a.iter().map(|v| v * v).sum::<f64>().sqrt();
    let size = length(&core);
    if size == 0.0 {
        return Ok(true);
    }
    let core = core / size;
    // Scaled to norm 1 after each step: only ratios are compared.
    let mut power = Array2::eye(core.nrows());
    for _ in 0..core.nrows() {
        let before = length(&power);
        power = power.dot(&core);
        if power.diag().sum().abs() > NILPOTENT * before {
            return Ok(false);
        }
        let after = length(&power);
        if after <= NILPOTENT * before {
            return Ok(true);
        }
        power /= after;
    }
    Ok(true)
}

/// `Σ Re λ / Σ |λ|` of a circuit, in [−1, 1]; none where it is zero or nilpotent ([`is_nilpotent`]).
///
/// # Errors
/// [`crate::Error::Invalid`] if the eigenvalues do not converge.
pub fn copying_score(circuits: &Circuits, circuit: Circuit) -> Result<Option<f64>> {
    if is_nilpotent(circuits, circuit)? {
        return Ok(None);
    }
    Ok(positive_share(&circuits.eigenvalues(circuit)?))
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

/// Where the diagonal of a circuit over tokens stands in its rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diagonal {
    /// Mean rank of a token's own entry in its row: 0 if it is always the largest, 1 if always the smallest, ½ by chance; none with
    /// a single token.
    pub rank: Option<f64>,
    /// Share of tokens whose own entry is among the largest of its row.
    pub top_share: f64,
}

/// Differences below this, relative to the root of the mean square of the row or of the whole circuit, count as ties.
const TIE: f64 = 1e-4;

/// The diagonal of a circuit over tokens, in at most `tokens` evenly spaced rows, "the largest" being `top_percent` of the entries of
/// a row (and at least one).
///
/// Ties count by half, and a difference below 1e-4 of a row's size in proportion: a rank does not hang on rounding. Where entries tie
/// for the last places among the largest, they share them; so the share is `top_percent` by chance, whatever the ties.
///
/// None if the circuit is not over tokens, or zero.
///
/// # Errors
/// None that a model's own heads can cause.
pub fn diagonal(circuits: &Circuits, circuit: Circuit, tokens: usize, top_percent: f64) -> Result<Option<Diagonal>> {
    if !circuit.is_over_tokens() || circuit == Circuit::Direct {
        return Ok(None);
    }
    let (norm, rounding) = circuits.norm_and_rounding(circuit)?;
    if norm <= ROUNDING * rounding {
        return Ok(None);
    }
    let vocab = circuits.model().config().d_vocab;
    let rows = tokens.clamp(1, vocab);
    let chosen: Vec<usize> = (0..rows).map(|row| row * vocab / rows).collect();
    let (left, right) = circuits.rows(circuit, &chosen)?;
    let sizes = circuits.row_norms(circuit, left.view())?;
    let least = norm / vocab as f64;
    let ties = sizes.mapv(|size| (TIE * (size / (vocab as f64).sqrt()).max(least)) as f32);
    let places = (top_percent / 100.0 * vocab as f64).max(1.0);

    const BLOCK: usize = 128;
    let left = left.mapv(|v| v as f32);
    let (mut rank, mut share) = (0.0, 0.0);
    for (block, start) in left.axis_chunks_iter(Axis(0), BLOCK).zip((0..).step_by(BLOCK)) {
        let product = block.dot(&right);
        for (row, index) in product.rows().into_iter().zip(start..) {
            let row = row.to_slice().expect("a product has its rows in one piece");
            let (above, tied) = places_above(row, chosen[index], ties[index]);
            rank += above + tied / 2.0;
            share += ((places - above) / (tied + 1.0)).clamp(0.0, 1.0);
        }
    }
    let rank = (vocab > 1).then(|| rank / (rows * (vocab - 1)) as f64);
    Ok(Some(Diagonal { rank, top_share: share / rows as f64 }))
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
    let (mut sure, mut tied) = (0.0, 0.0);
    for (index, &other) in row.iter().enumerate() {
        if index == own || other <= low {
            continue;
        }
        // From −1, below, to 1, above.
        let place = f64::from((other - value) / tie.max(f32::MIN_POSITIVE)).clamp(-1.0, 1.0);
        sure += place.max(0.0);
        tied += 1.0 - place.abs();
    }
    (sure, tied)
}

impl Circuits<'_> {
    /// The factors of the rows `tokens` of a circuit over tokens: `[rows, k]`, and `[k, V]` in single precision.
    fn rows(&self, circuit: Circuit, tokens: &[usize]) -> Result<(Array2<f64>, Array2<f32>)> {
        let inner = self.inner(circuit)?;
        let left = self.model().w_e().select(Axis(0), tokens).mapv(f64::from).dot(&inner.left());
        Ok((left, inner.right().mapv(|v| v as f32).dot(&self.reader(circuit))))
    }

    /// The norms of the rows of a circuit over tokens of which `left` is the left factor.
    fn row_norms(&self, circuit: Circuit, left: ArrayView2<f64>) -> Result<Array1<f64>> {
        let rows = left.dot(&self.compressed(circuit)?.right());
        Ok(rows.map_axis(Axis(1), |row| row.dot(&row).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HeadId, Normalization, Positions};

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
