//! Attention of one head on one sequence: only the lower triangle is computed.

use crate::linalg::{set_product, softmax_row};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

/// Rows of the triangle that share one product: wide enough for the product to be efficient, narrow enough that little is computed
/// above the diagonal.
const BLOCK: usize = 32;

/// Where a head's numbers go on the way, if anybody wants them; both `[n, n]`.
pub(super) struct Keepers<'a> {
    pub scores: Option<ArrayViewMut2<'a, f32>>,
    pub pattern: Option<ArrayViewMut2<'a, f32>>,
}

impl Keepers<'_> {
    /// Nobody wants them.
    pub const NONE: Self = Self { scores: None, pattern: None };
}

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
    let mut scratch = Array2::<f32>::zeros((BLOCK.min(n), n));
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        let mut block = scratch.slice_mut(s![..end - start, ..end]);
        set_product(1.0 / scale, q.slice(s![start..end, ..]), k.slice(s![..end, ..]).reversed_axes(), block.view_mut());
        for (row, destination) in (start..end).enumerate() {
            let allowed = destination + 1;
            if let Some(scores) = &mut keep.scores {
                scores.slice_mut(s![destination, ..allowed]).assign(&block.slice(s![row, ..allowed]));
                scores.slice_mut(s![destination, allowed..]).fill(f32::NEG_INFINITY);
            }
            let mut line = block.row_mut(row);
            let line = line.as_slice_mut().expect("a row of the block is contiguous");
            softmax_row(&mut line[..allowed]);
            line[allowed..].fill(0.0);
        }
        if let Some(pattern) = &mut keep.pattern {
            pattern.slice_mut(s![start..end, ..end]).assign(&block);
        }
        set_product(1.0, block.view(), v.slice(s![..end, ..]), z.slice_mut(s![start..end, ..]));
    }
}

/// `z = A v` with a pattern that is given; blocks of the lower triangle only.
pub(super) fn attend_with(pattern: ArrayView2<f32>, v: ArrayView2<f32>, mut z: ArrayViewMut2<f32>) {
    let n = v.nrows();
    for start in (0..n).step_by(BLOCK) {
        let end = (start + BLOCK).min(n);
        set_product(1.0, pattern.slice(s![start..end, ..end]), v.slice(s![..end, ..]), z.slice_mut(s![start..end, ..]));
    }
}
