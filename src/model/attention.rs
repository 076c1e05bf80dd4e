//! Attention of one head on one sequence: only the lower triangle is computed.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, s};

/// Rows of the triangle that share one product: wide enough for the product to be efficient, narrow enough that little is computed
/// above the diagonal.
const BLOCK: usize = 32;

/// Where a head's numbers go on the way, if anybody wants them; both `[n, n]`.
pub(super) struct Keepers<'a> {
    pub scores: Option<ArrayViewMut2<'a, f32>>,
    pub pattern: Option<ArrayViewMut2<'a, f32>>,
}

/// Up to this many positions, plain loops are several times faster than products of blocks, whose packing costs more than it saves.
const SHORT: usize = 128;

/// `z = softmax(q kᵀ / scale) v` under the causal mask; `q, k, v, z`: `[n, k]`, each row contiguous.
pub(super) fn attend(
    q: ArrayView2<f32>,
    k: ArrayView2<f32>,
    v: ArrayView2<f32>,
    scale: f32,
    mut z: ArrayViewMut2<f32>,
    mut keep: Keepers,
) {
    let n = q.nrows();
    // Keys with positions along the rows, for the plain loops.
    let keys = if n <= SHORT { k.t().as_standard_layout().into_owned() } else { Array2::zeros((0, 0)) };
    let mut scratch = Array2::<f32>::zeros((BLOCK.min(n), n));
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        let mut block = scratch.slice_mut(s![..end - start, ..end]);
        if n <= SHORT {
            for (destination, mut row) in (start..end).zip(block.rows_mut()) {
                scores_of_row(row.slice_mut(s![..=destination]), q.row(destination), keys.view(), scale);
            }
        } else {
            general_mat_mul(1.0 / scale, &q.slice(s![start..end, ..]), &k.slice(s![..end, ..]).t(), 0.0, &mut block);
        }
        for (row, destination) in (start..end).enumerate() {
            let allowed = destination + 1;
            if let Some(scores) = &mut keep.scores {
                scores.slice_mut(s![destination, ..allowed]).assign(&block.slice(s![row, ..allowed]));
                scores.slice_mut(s![destination, allowed..]).fill(f32::NEG_INFINITY);
            }
            let mut line = block.row_mut(row);
            let line = line.as_slice_mut().expect("a row of the block is contiguous");
            softmax(&mut line[..allowed]);
            line[allowed..].fill(0.0);
        }
        if let Some(pattern) = &mut keep.pattern {
            pattern.slice_mut(s![start..end, ..end]).assign(&block);
        }
        mix(block.view(), start, v, z.slice_mut(s![start..end, ..]));
    }
}

/// `z = A v` with a pattern that is given; blocks of the lower triangle only.
pub(super) fn attend_with(pattern: ArrayView2<f32>, v: ArrayView2<f32>, mut z: ArrayViewMut2<f32>) {
    let n = v.nrows();
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        mix(pattern.slice(s![start..end, ..end]), start, v, z.slice_mut(s![start..end, ..]));
    }
}

/// Scores of one destination against the first sources, `keys`: `[k, n]`.
fn scores_of_row(mut row: ArrayViewMut1<f32>, query: ArrayView1<f32>, keys: ArrayView2<f32>, scale: f32) {
    let row = row.as_slice_mut().expect("a row of the block is contiguous");
    row.fill(0.0);
    for (&query, keys) in query.iter().zip(keys.rows()) {
        let query = query / scale;
        let keys = keys.to_slice().expect("rows of a standard layout are contiguous");
        row.iter_mut().zip(keys).for_each(|(score, key)| *score += query * key);
    }
}

/// `z = A v` for the destinations from `start` on, whose rows of the pattern are given up to the last of them.
fn mix(pattern: ArrayView2<f32>, start: usize, v: ArrayView2<f32>, mut z: ArrayViewMut2<f32>) {
    let end = pattern.ncols();
    if v.nrows() > SHORT {
        general_mat_mul(1.0, &pattern, &v.slice(s![..end, ..]), 0.0, &mut z);
        return;
    }
    let values = v.slice(s![..end, ..]);
    let values = values.as_standard_layout();
    let values = values.as_slice().expect("a standard layout is contiguous");
    for ((row, pattern), mut z) in pattern.rows().into_iter().enumerate().zip(z.rows_mut()) {
        let z = z.as_slice_mut().expect("rows of z are contiguous");
        z.fill(0.0);
        for (&weight, values) in pattern.iter().zip(values.chunks_exact(z.len())).take(start + row + 1) {
            z.iter_mut().zip(values).for_each(|(z, value)| *z += weight * value);
        }
    }
}

fn softmax(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0f64;
    for value in row.iter_mut() {
        *value = (*value - max).exp();
        total += f64::from(*value);
    }
    let factor = (1.0 / total) as f32;
    row.iter_mut().for_each(|value| *value *= factor);
}
