//! Products over the vocabulary in double precision, without a copy of an embedding in double precision.

use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

pub(super) fn wide(w: ArrayView2<f32>) -> Array2<f64> {
    w.mapv(f64::from)
}

/// So many tokens are held in double precision at once.
const TOKENS: usize = 2048;

/// Row blocks of `w` `[V, d]`, each in double precision.
pub(super) fn blocks(w: ArrayView2<'_, f32>) -> impl Iterator<Item = Array2<f64>> {
    let rows = w.nrows();
    (0..rows).step_by(TOKENS).map(move |start| wide(w.slice(s![start..(start + TOKENS).min(rows), ..])))
}

/// A band of `A B` in double precision, without a copy of either of the width of `V`: `a` `[m, V]`, `b` `[V, p]`.
fn band_over_tokens(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f64> {
    let mut sum = Array2::zeros((a.nrows(), b.ncols()));
    for (a, b) in a.axis_chunks_iter(Axis(1), TOKENS).zip(blocks(b)) {
        sum += &wide(a).dot(&b);
    }
    sum
}

/// `A B` in double precision, band by band: `a` `[m, V]`, `b` `[V, p]`. The same to the digit whether in parallel or not.
pub(super) fn product_over_tokens(a: ArrayView2<f32>, b: ArrayView2<f32>, parallel: bool) -> Array2<f64> {
    const BAND: usize = 128;
    let bands: Vec<_> = a.axis_chunks_iter(Axis(0), BAND).collect();
    let bands: Vec<Array2<f64>> = if parallel {
        bands.par_iter().map(|band| band_over_tokens(*band, b)).collect()
    } else {
        bands.iter().map(|band| band_over_tokens(*band, b)).collect()
    };
    let views: Vec<_> = bands.iter().map(|band| band.view()).collect();
    ndarray::concatenate(Axis(0), &views).expect("bands have equally many columns")
}

/// `W M`, `[V, k]`, for `w` `[V, d]` and `m` `[d, k]`.
pub(super) fn over_tokens(w: ArrayView2<f32>, m: ArrayView2<f64>) -> Array2<f64> {
    let mut product = Array2::zeros((w.nrows(), m.ncols()));
    for (mut to, block) in product.axis_chunks_iter_mut(Axis(0), TOKENS).zip(blocks(w)) {
        ndarray::linalg::general_mat_mul(1.0, &block, &m, 0.0, &mut to);
    }
    product
}
