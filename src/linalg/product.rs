//! Products of matrices: faer behind ndarray views.
//!
//! On one thread each, since what is worth several threads (sequences, heads, interventions) is spread over them above; so a
//! product is the same to the last digit whatever the number of threads. Of thin matrices, of which these models are made, faer's
//! products are one and a half to six times as fast as ndarray's own on a processor with 512-bit vectors
//! (`cargo bench --profile dev --bench products`).

use faer::linalg::matmul::matmul;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, LinalgScalar};

fn view<T>(a: ArrayView2<'_, T>) -> MatRef<'_, T> {
    let ((rows, columns), strides) = (a.dim(), a.strides());
    // SAFETY: pointer, shape and strides are those of a view, which borrows what they reach for as long as the result lives.
    unsafe { MatRef::from_raw_parts(a.as_ptr(), rows, columns, strides[0], strides[1]) }
}

fn view_mut<T>(mut a: ArrayViewMut2<'_, T>) -> MatMut<'_, T> {
    let ((rows, columns), strides) = (a.dim(), [a.strides()[0], a.strides()[1]]);
    // SAFETY: as above, and the view is the only one.
    unsafe { MatMut::from_raw_parts_mut(a.as_mut_ptr(), rows, columns, strides[0], strides[1]) }
}

/// `A B`, in standard layout; `a` `[m, k]`, `b` `[k, n]`.
///
/// ```
/// use attn_circuits::linalg::product;
/// use ndarray::array;
/// assert_eq!(product(array![[1.0, 2.0]].view(), array![[3.0], [4.0]].view()), array![[11.0]]);
/// ```
///
/// # Panics
/// If the shapes do not fit.
pub fn product<T: ComplexField + LinalgScalar>(a: ArrayView2<T>, b: ArrayView2<T>) -> Array2<T> {
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    add_product(a, b, c.view_mut());
    c
}

/// Adds `A B` to `C`; `a` `[m, k]`, `b` `[k, n]`, `c` `[m, n]`, in any layout.
///
/// ```
/// use attn_circuits::linalg::add_product;
/// use ndarray::array;
/// // A head adds what it writes, z W_O, to the stream.
/// let (z, w_o, mut stream) = (array![[1.0, 2.0]], array![[1.0, 0.0], [0.0, 1.0]], array![[10.0, 20.0]]);
/// add_product(z.view(), w_o.view(), stream.view_mut());
/// assert_eq!(stream, array![[11.0, 22.0]]);
/// ```
///
/// # Panics
/// If the shapes do not fit.
pub fn add_product<T: ComplexField + LinalgScalar>(a: ArrayView2<T>, b: ArrayView2<T>, c: ArrayViewMut2<T>) {
    matmul(view_mut(c), Accum::Add, view(a), view(b), T::one(), Par::Seq);
}

/// Puts `factor · A B` in the place of `C`, whatever stood there; `a` `[m, k]`, `b` `[k, n]`, `c` `[m, n]`, in any layout.
///
/// ```
/// use attn_circuits::linalg::set_product;
/// use ndarray::{Array2, array};
/// // Attention scores: queries times keys over √d_head.
/// let (q, k) = (array![[2.0, 0.0, 0.0, 0.0]], array![[3.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]);
/// let mut scores = Array2::from_elem((1, 2), f64::NAN);
/// set_product(0.5, q.view(), k.t(), scores.view_mut());
/// assert_eq!(scores, array![[3.0, 0.0]]);
/// ```
///
/// # Panics
/// If the shapes do not fit.
pub fn set_product<T: ComplexField + LinalgScalar>(factor: T, a: ArrayView2<T>, b: ArrayView2<T>, c: ArrayViewMut2<T>) {
    matmul(view_mut(c), Accum::Replace, view(a), view(b), factor, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Stream;
    use ndarray::{Axis, s};

    /// Whole matrices, parts of larger ones, transposed and reversed ones, in all sizes down to none.
    #[test]
    fn products_of_any_views_are_those_of_ndarray() {
        let mut rng = Stream::new(1).rng("products");
        for (m, k, n) in [(0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 1, 1), (1, 7, 1), (5, 1, 9), (17, 33, 65), (130, 40, 70)] {
            let (a, b) = (crate::linalg::gaussian(m, k + 3, &mut rng), crate::linalg::gaussian(n, k, &mut rng));
            let a = a.slice(s![.., 2..k + 2]);
            let mut b = b.reversed_axes();
            for _ in 0..2 {
                let expected = a.dot(&b);
                let close = |found: &Array2<f64>, expected: &Array2<f64>| {
                    found.dim() == expected.dim() && found.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-12)
                };
                assert!(close(&product(a, b.view()), &expected), "{m} {k} {n}");
                // Into a part of something larger, column by column.
                let mut room = Array2::from_elem((n + 2, m + 1), 1.0).reversed_axes();
                add_product(a, b.view(), room.slice_mut(s![1.., ..n]));
                assert!(close(&room.slice(s![1.., ..n]).to_owned(), &(&expected + 1.0)), "{m} {k} {n}");
                set_product(-0.5, a, b.view(), room.slice_mut(s![1.., 2..]));
                assert!(close(&room.slice(s![1.., 2..]).to_owned(), &(&expected * -0.5)), "{m} {k} {n}");
                assert!(room.row(0).iter().all(|&v| v == 1.0));
                b.invert_axis(Axis(0));
            }
        }
    }

    #[test]
    #[should_panic]
    fn shapes_that_do_not_fit_are_no_product() {
        product(Array2::<f32>::zeros((2, 3)).view(), Array2::zeros((2, 3)).view());
    }
}
