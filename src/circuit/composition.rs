//! Composition of two heads: how much of what one writes is read by the other, and what chance would give.
//!
//! Source of the score: Elhage et al. 2021, section "Composition scores" of the analysis of two-layer models, as
//! `TransformerLens` computes it. Chance level: one factor turned by a Haar-random rotation of the stream.

use crate::Result;
use crate::linalg::{LowRank, product, r_factor};
use crate::model::{Channel, HeadId, Transformer};
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

/// What a Frobenius score of two spectra is by chance.
///
/// With `A` and `B` of singular values `a`, `b` in a stream of width `d`, and one of them turned at random:
/// `E[c²] = 1/d` exactly; `sd(c)/E[c] ≈ √((1/PR_a − 1/d)(1/PR_b − 1/d)/2) · d/√((d−1)(d+2))` with the participation ratio
/// `PR = (Σ σ²)²/Σ σ⁴`; `E[c] ≈ d^{-1/2}(1 − r²/8)` with `r` the relative spread of `c²`.
///
/// ```
/// use attn_circuits::circuit::composition::Chance;
/// // Two heads of d_head = 4 with flat spectra in a stream of d_model = 64, whatever the scale of their weights.
/// let chance = Chance::new(&[1.0; 4], &[0.1; 4], 64);
/// let square = chance.mean.powi(2) + chance.sd.powi(2);
/// assert!((square * 64.0 - 1.0).abs() < 1e-3);
/// // In perfect overlap they score 1/√k, more than ten standard deviations above chance.
/// assert!(chance.z(0.5).is_some_and(|z| z > 10.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// Expected score.
    pub mean: f64,
    /// Its standard deviation; 0 if a factor is flat over the whole stream, so that no rotation changes the score.
    pub sd: f64,
}

impl Chance {
    /// The null distribution for singular values `a` and `b` in a stream of width `d`. Zeros may be left out; only ratios within
    /// a spectrum count.
    ///
    /// ```
    /// use attn_circuits::circuit::composition::Chance;
    /// // One strong direction among weak ones is like a head of fewer dimensions: its scores spread more.
    /// let flat = Chance::new(&[1.0, 1.0, 1.0, 1.0], &[1.0, 1.0], 32);
    /// let peaked = Chance::new(&[1.0, 0.1, 0.1, 0.1], &[1.0, 1.0], 32);
    /// assert!(peaked.sd > flat.sd);
    /// assert_eq!(Chance::new(&[1.0, 1.0, 0.0], &[1.0, 1.0], 32), Chance::new(&[2.0, 2.0], &[1.0, 1.0], 32));
    /// ```
    pub fn new(a: &[f64], b: &[f64], d: usize) -> Self {
        let d = d as f64;
        let excess = |spectrum: &[f64]| {
            let (square, fourth) = spectrum.iter().fold((0.0, 0.0), |(s, f), v| (s + v * v, f + v.powi(4)));
            // Of a flat spectrum over the whole stream only rounding is left.
            Some(fourth / (square * square) - 1.0 / d).filter(|&excess| excess > 1e-12).unwrap_or(0.0)
        };
        let spread = if d > 1.0 { d / ((d - 1.0) * (d + 2.0)).sqrt() } else { 0.0 };
        let relative_sd = (0.5 * excess(a) * excess(b)).sqrt() * spread;
        // The relative spread r of c² is twice that of c, so r²/8 is half the square of the latter.
        let mean = (1.0 - 0.5 * relative_sd * relative_sd) / d.sqrt();
        Self { mean, sd: mean * relative_sd }
    }

    /// By how many standard deviations `score` exceeds chance; none if chance has no spread.
    ///
    /// ```
    /// use attn_circuits::circuit::composition::Chance;
    /// let chance = Chance { mean: 0.125, sd: 0.0625 };
    /// assert_eq!(chance.z(0.25), Some(2.0));
    /// // A head that reads all of the stream equally scores 1/√d whatever is written.
    /// let certain = Chance::new(&[1.0; 16], &[1.0], 16);
    /// assert_eq!((certain.mean, certain.z(0.25)), (0.25, None));
    /// ```
    pub fn z(&self, score: f64) -> Option<f64> {
        (self.sd > 0.0).then(|| (score - self.mean) / self.sd)
    }
}

/// Composition of one pair of heads through one channel.
///
/// ```
/// use attn_circuits::circuit::composition::composition;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// // Two heads at offsets 1 and 2 in layer 0; layer 1 has one head, and is filled up with one that is all zeros.
/// let model = notebook.model("wired", "{ kind: wired, circuit: n-token-prefix, vocab: 6, context: 9 }")?;
/// for pair in composition(&model)? {
///     assert_eq!(pair.value.is_none(), pair.to == HeadId::new(1, 1));
///     // Both hand over V of the 2 V dimensions that keys are compared by.
///     if let (Channel::K, Some(value)) = (pair.channel, pair.value) {
///         assert!((value.score - 1.0 / 12f64.sqrt()).abs() < 1e-6, "{} to {}", pair.from, pair.to);
///     }
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Composition {
    /// Through which input.
    pub channel: Channel,
    /// The head that writes.
    pub from: HeadId,
    /// The head that reads.
    pub to: HeadId,
    /// The numbers; `None` where a head is all zeros.
    pub value: Option<CompositionValue>,
}

/// The numbers of a [`Composition`].
///
/// ```
/// use attn_circuits::circuit::composition::composition;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 12 }")?;
/// for value in composition(&model)?.into_iter().filter_map(|pair| pair.value) {
///     assert!(value.score <= value.highest && value.highest <= 1.0);
///     assert!((value.alignment - (value.score / value.highest).powi(2)).abs() < 1e-12);
///     assert_eq!(value.z, value.chance.z(value.score));
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompositionValue {
    /// `‖A B‖_F / (‖A‖_F ‖B‖_F)`, in `[0, 1]`.
    pub score: f64,
    /// `√(Σ σ_i(A)² σ_i(B)²) / (‖A‖_F ‖B‖_F)`: the score of these spectra in perfect alignment (von Neumann's trace inequality).
    pub highest: f64,
    /// What chance gives.
    pub chance: Chance,
    /// `(score − chance)/sd`; `None` if chance has no spread.
    pub z: Option<f64>,
    /// `‖A B‖_F² / Σ σ_i(A)² σ_i(B)²`, in `[0, 1]`: 1 is as composed as these spectra allow.
    pub alignment: f64,
}

/// One head, reduced to what composition needs.
pub(super) struct Reduced {
    /// `R_V W_O`, `[k, d]`, over its norm: as long as `W_OV` on every row vector, but for that factor.
    pub(super) write: Array2<f32>,
    /// For each channel, the factor of the map that reads, `[d, k]`, over its norm: as long as that map on every column vector.
    pub(super) read: [Array2<f32>; 3],
    /// Singular values of `W_OV` and `W_QK`.
    ov: Vec<f64>,
    qk: Vec<f64>,
}

impl Reduced {
    /// Singular values of the map that reads through this channel.
    pub(super) fn reading(&self, channel: Channel) -> &[f64] {
        if channel == Channel::V { &self.ov } else { &self.qk }
    }

    /// Singular values of the map that writes.
    pub(super) fn writing(&self) -> &[f64] {
        &self.ov
    }
}

pub(super) fn reduce(model: &Transformer, id: HeadId) -> Result<Reduced> {
    let head = model.head(id);
    let wide = |w: ArrayView2<f32>| w.mapv(f64::from);
    let (w_q, w_k, w_v, w_o) = (wide(head.w_q), wide(head.w_k), wide(head.w_v), wide(head.w_o));
    let (r_q, r_k, r_v) = (r_factor(w_q.view()), r_factor(w_k.view()), r_factor(w_v.view()));
    let r_o = r_factor(w_o.t());
    Ok(Reduced {
        ov: LowRank::from_f32(head.w_v, head.w_o)?.singular_values()?,
        qk: LowRank::from_f32(head.w_q, head.w_k.t())?.singular_values()?,
        write: normalized(r_v.dot(&w_o)),
        read: Channel::ALL.map(|channel| match channel {
            Channel::K => normalized(w_k.dot(&r_q.t())),
            Channel::Q => normalized(w_q.dot(&r_k.t())),
            Channel::V => normalized(w_v.dot(&r_o.t())),
        }),
    })
}

/// The matrix over its Frobenius norm, in single precision: scores do not depend on the scale of weights, and so neither do
/// rounding and underflow. Zeros stay zeros.
fn normalized(a: Array2<f64>) -> Array2<f32> {
    let scale = a.iter().fold(0.0f64, |max, v| max.max(v.abs()));
    if scale == 0.0 {
        return a.mapv(|_| 0.0);
    }
    let norm = scale * a.iter().map(|v| (v / scale).powi(2)).sum::<f64>().sqrt();
    a.mapv(|v| (v / norm) as f32)
}

/// All composition scores of a model: every pair of heads in different layers, through every channel, sorted by channel (`k`, `q`,
/// `v`), then by the head that writes, then by the one that reads.
///
/// Cost: one product of stacked `[H·k, d]` and `[d, H·k]` factors for each pair of layers and channel; no `[d, d]` matrix. A
/// model with fewer than two layers has no pairs.
///
/// ```
/// use attn_circuits::circuit::composition::composition;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
/// let found = composition(&model)?;
/// assert_eq!(found.iter().map(|pair| pair.channel).collect::<Vec<_>>(), Channel::ALL);
/// // Two flat maps of V dimensions in perfect overlap score 1/√V, not 1; alignment says that no more is possible.
/// let [keys, queries, values] = [0, 1, 2].map(|index| found[index].value.expect("no head is all zeros"));
/// assert!((keys.score - 1.0 / 13f64.sqrt()).abs() < 1e-6 && (keys.alignment - 1.0).abs() < 1e-5);
/// assert_eq!((queries.score, values.score), (0.0, 0.0));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`crate::Error::Invalid`] if a decomposition does not converge.
pub fn composition(model: &Transformer) -> Result<Vec<Composition>> {
    let (n_layers, n_heads, d) = (model.config().n_layers, model.config().n_heads, model.config().d_model);
    if n_layers < 2 {
        return Ok(Vec::new());
    }
    let heads: Vec<_> = model.config().heads().collect();
    let reduced: Vec<_> = heads.par_iter().map(|&id| reduce(model, id)).collect::<Result<_>>()?;
    let of_layer = |layer: usize| &reduced[layer * n_heads..(layer + 1) * n_heads];

    let mut jobs = Vec::new();
    for channel in 0..Channel::ALL.len() {
        for from in 0..n_layers {
            jobs.extend((from + 1..n_layers).map(|to| (channel, from, to)));
        }
    }
    // Every head has min(d, k) rows in its triangular factors, so the blocks are of equal size.
    let scores: Vec<Array2<f64>> = jobs
        .par_iter()
        .map(|&(channel, from, to)| {
            let writes = stack(ndarray::Axis(0), of_layer(from).iter().map(|head| &head.write));
            let reads = stack(ndarray::Axis(1), of_layer(to).iter().map(|head| &head.read[channel]));
            let (rows, columns) = (writes.nrows() / n_heads, reads.ncols() / n_heads);
            let product = product(writes.view(), reads.view());
            Array2::from_shape_fn((n_heads, n_heads), |(h1, h2)| {
                let block = product.slice(s![h1 * rows..(h1 + 1) * rows, h2 * columns..(h2 + 1) * columns]);
                block.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
            })
        })
        .collect();

    let mut all = Vec::with_capacity(jobs.len() * n_heads * n_heads);
    for (&(channel, from, to), scores) in jobs.iter().zip(&scores) {
        for ((h1, h2), &score) in scores.indexed_iter() {
            let (a, b) = (of_layer(from)[h1].writing(), of_layer(to)[h2].reading(Channel::ALL[channel]));
            all.push(Composition {
                channel: Channel::ALL[channel],
                from: HeadId::new(from, h1),
                to: HeadId::new(to, h2),
                value: value(score, a, b, d),
            });
        }
    }
    all.sort_by_key(|c| (c.channel, c.from, c.to));
    Ok(all)
}

pub(super) fn stack<'a>(axis: ndarray::Axis, parts: impl Iterator<Item = &'a Array2<f32>>) -> Array2<f32> {
    let views: Vec<_> = parts.map(|part| part.view()).collect();
    ndarray::concatenate(axis, &views).expect("factors of one model have equal shapes")
}

/// A spectrum over its largest value, so that no power of it underflows; none if it is all zeros.
pub(super) fn relative(spectrum: &[f64]) -> Option<Vec<f64>> {
    let largest = spectrum.first().copied().filter(|&largest| largest > 0.0)?;
    Some(spectrum.iter().map(|v| v / largest).collect())
}

/// The numbers of a pair with this score and the spectra `a` and `b`; none where one of them is all zeros.
fn value(score: f64, a: &[f64], b: &[f64], d: usize) -> Option<CompositionValue> {
    let (a, b) = (relative(a)?, relative(b)?);
    let square = |spectrum: &[f64]| spectrum.iter().map(|v| v * v).sum::<f64>();
    let chance = Chance::new(&a, &b, d);
    let best: f64 = a.iter().zip(&b).map(|(a, b)| (a * b).powi(2)).sum();
    let highest = (best / (square(&a) * square(&b))).sqrt();
    Some(CompositionValue { score, highest, chance, z: chance.z(score), alignment: (score / highest).powi(2) })
}
