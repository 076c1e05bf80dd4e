use crate::{Error, Result};
use faer::{Mat, MatRef};
use ndarray::{Array2, ArrayView2, Axis};

/// A complex number, as eigenvalues come.
///
/// ```
/// use attn_circuits::linalg::Complex;
/// let value = Complex::new(3.0, -4.0);
/// assert_eq!((value.re, value.im, value.norm()), (3.0, -4.0, 5.0));
/// ```
pub type Complex = num_complex::Complex64;

fn to_faer(a: ArrayView2<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |row, column| a[(row, column)])
}

fn from_faer(a: MatRef<f64>) -> Array2<f64> {
    Array2::from_shape_fn((a.nrows(), a.ncols()), |(row, column)| a[(row, column)])
}

/// A singular value decomposition without the zeros that the shape forces: `A = U diag(s) Vᵀ` with `r = min(m, p)` for `A`
/// `[m, p]`.
///
/// ```
/// use attn_circuits::linalg::svd;
/// use ndarray::{Array1, array};
/// let a = array![[0.0, 2.0], [1.0, 0.0], [3.0, -1.0]];
/// let found = svd(a.view())?;
/// assert_eq!((found.u.dim(), found.s.len(), found.v.dim()), ((3, 2), 2, (2, 2)));
/// let again = (&found.u * &Array1::from(found.s)).dot(&found.v.t());
/// assert!((again - a).iter().all(|difference| difference.abs() < 1e-12));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    /// Left singular vectors in columns, `[m, r]`.
    pub u: Array2<f64>,
    /// Singular values, descending, `[r]`.
    pub s: Vec<f64>,
    /// Right singular vectors in columns, `[p, r]`.
    pub v: Array2<f64>,
}

impl Svd {
    /// How many singular values exceed `tolerance` times the largest: the numerical rank.
    ///
    /// ```
    /// use attn_circuits::linalg::svd;
    /// use ndarray::array;
    /// assert_eq!(svd(array![[1.0, 2.0], [2.0, 4.0]].view())?.rank(1e-10), 1);
    /// assert_eq!(svd(array![[1.0, 0.0], [0.0, 1e-3]].view())?.rank(1e-4), 2);
    /// assert_eq!(svd(array![[0.0, 0.0]].view())?.rank(1e-10), 0);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn rank(&self, tolerance: f64) -> usize {
        let least = self.s.first().map_or(0.0, |largest| largest * tolerance);
        self.s.iter().filter(|&&value| value > least).count()
    }
}

/// Singular values of `a`, `[m, p]`, with their vectors. A vector is determined up to its sign, and where singular values
/// coincide, up to a rotation among them.
///
/// ```
/// use attn_circuits::Error;
/// use attn_circuits::linalg::svd;
/// use ndarray::array;
/// let found = svd(array![[0.0, 0.0], [0.0, 5.0]].view())?;
/// assert!((found.s[0] - 5.0).abs() < 1e-12 && found.s[1] < 1e-12);
/// assert!((found.v[(1, 0)].abs() - 1.0).abs() < 1e-12); // up to its sign
/// assert!(matches!(svd(array![[f64::NAN]].view()), Err(Error::Invalid(_))));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if the iteration does not converge (numbers that are not finite).
pub fn svd(a: ArrayView2<f64>) -> Result<Svd> {
    let (m, p) = a.dim();
    if a.is_empty() {
        return Ok(Svd { u: Array2::zeros((m, 0)), s: Vec::new(), v: Array2::zeros((p, 0)) });
    }
    let found = to_faer(a).thin_svd().map_err(|_| not_converged())?;
    let s = found.S().column_vector();
    Ok(Svd { u: from_faer(found.U()), s: (0..s.nrows()).map(|index| s[index]).collect(), v: from_faer(found.V()) })
}

/// `a = Q R` with orthonormal columns of `Q` `[m, r]` and a triangular `R` `[r, k]`, `r = min(m, k)`, for `a`: `[m, k]`.
///
/// ```
/// use attn_circuits::linalg::thin_qr;
/// use ndarray::{Array2, array};
/// let a = array![[3.0, 1.0], [4.0, 2.0], [0.0, 5.0]];
/// let (q, r) = thin_qr(a.view());
/// assert_eq!((q.dim(), r.dim(), r[(1, 0)]), ((3, 2), (2, 2), 0.0));
/// let small = |difference: Array2<f64>| difference.iter().all(|value| value.abs() < 1e-12);
/// assert!(small(q.t().dot(&q) - Array2::<f64>::eye(2)) && small(q.dot(&r) - a));
/// ```
pub fn thin_qr(a: ArrayView2<f64>) -> (Array2<f64>, Array2<f64>) {
    let rank = a.nrows().min(a.ncols());
    if rank == 0 {
        return (Array2::zeros((a.nrows(), 0)), Array2::zeros((0, a.ncols())));
    }
    let qr = to_faer(a).qr();
    (from_faer(qr.compute_thin_Q().as_ref()), upper(qr.thin_R()))
}

/// What lies on and above the diagonal.
fn upper(r: MatRef<f64>) -> Array2<f64> {
    Array2::from_shape_fn((r.nrows(), r.ncols()), |(row, column)| if row <= column { r[(row, column)] } else { 0.0 })
}

/// The triangular factor `R` of `a = Q R`, `[min(m, k), k]` for `a`: `[m, k]`. `Q` keeps lengths, so `‖a b‖ = ‖R b‖`. The
/// sign of each of its rows is arbitrary.
///
/// ```
/// use attn_circuits::linalg::r_factor;
/// use ndarray::{Array2, array};
/// let w_v = array![[3.0, 1.0], [4.0, 2.0], [0.0, 5.0]];
/// let w_o = array![[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]];
/// let square = |matrix: Array2<f64>| matrix.iter().map(|value| value * value).sum::<f64>();
/// // The norm of W_OV from a matrix of `[k, d]` instead of `[d, d]`.
/// assert!((square(r_factor(w_v.view()).dot(&w_o)) - square(w_v.dot(&w_o))).abs() < 1e-9);
/// ```
pub fn r_factor(a: ArrayView2<f64>) -> Array2<f64> {
    let rank = a.nrows().min(a.ncols());
    if rank == 0 {
        return Array2::zeros((rank, a.ncols()));
    }
    upper(to_faer(a).qr().thin_R())
}

/// Singular values of `a`, `[m, p]`, descending: `min(m, p)` of them.
///
/// ```
/// use attn_circuits::linalg::singular_values;
/// use ndarray::array;
/// // The squares are the eigenvalues of `[[25, 20], [20, 25]]`.
/// let found = singular_values(array![[3.0, 0.0], [4.0, 5.0]].view())?;
/// assert!((found[0] - 45f64.sqrt()).abs() < 1e-12 && (found[1] - 5f64.sqrt()).abs() < 1e-12);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if the iteration does not converge (numbers that are not finite).
pub fn singular_values(a: ArrayView2<f64>) -> Result<Vec<f64>> {
    if a.is_empty() {
        return Ok(Vec::new());
    }
    to_faer(a).singular_values().map_err(|_| not_converged())
}

/// Magnitudes and parts of eigenvalues that differ by less than this, relative to the largest magnitude, count as equal when they
/// are put in order.
const TIE: f64 = 1e-4;

/// Eigenvalues of a square matrix, by descending magnitude, then descending real part, then descending imaginary part: of a
/// conjugate pair the one above the real axis comes first.
///
/// Magnitudes and real parts that differ by less than 1e-4 of the largest magnitude count as equal, so that rounding does not
/// decide the order. Eigenvalues of a matrix that has not enough eigenvectors (a nilpotent one, say) are only accurate to a root
/// of the machine precision.
///
/// ```
/// use attn_circuits::linalg::{Complex, eigenvalues};
/// use ndarray::{arr2, array};
/// let real: Vec<f64> = eigenvalues(array![[1.0, 9.0], [0.0, -3.0]].view())?.iter().map(|value| value.re).collect();
/// assert!((real[0] + 3.0).abs() < 1e-12 && (real[1] - 1.0).abs() < 1e-12);
/// // A quarter turn: a conjugate pair.
/// let turn = eigenvalues(array![[0.0, -1.0], [1.0, 0.0]].view())?;
/// assert!((turn[0] - Complex::new(0.0, 1.0)).norm() < 1e-12 && (turn[1] - turn[0].conj()).norm() < 1e-12);
/// assert!(eigenvalues(arr2(&[[1.0, 2.0]]).view()).is_err());
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if the matrix is not square or the iteration does not converge (numbers that are not finite).
pub fn eigenvalues(a: ArrayView2<f64>) -> Result<Vec<Complex>> {
    if a.nrows() != a.ncols() {
        return Err(Error::invalid(format!("eigenvalues need a square matrix, not {:?}", a.dim())));
    }
    if a.is_empty() {
        return Ok(Vec::new());
    }
    let mut values =
        to_faer(a).eigenvalues().map_err(|_| Error::invalid("eigenvalues do not converge: are all numbers finite?"))?;
    let largest = values.iter().map(|value| value.norm()).fold(0.0, f64::max);
    sort_nearly(&mut values, TIE * largest, &[|v| v.norm(), |v| v.re, |v| v.im]);
    Ok(values)
}

/// Sorts by the first key, descending; runs whose neighbours differ by no more than `tie` count as equal and are sorted by the
/// next.
fn sort_nearly(values: &mut [Complex], tie: f64, keys: &[fn(&Complex) -> f64]) {
    let [key, rest @ ..] = keys else { return };
    values.sort_by(|a, b| key(b).total_cmp(&key(a)));
    values.chunk_by_mut(|a, b| key(a) - key(b) <= tie).for_each(|equal| sort_nearly(equal, tie, rest));
}

/// Singular values, descending, and the right singular vectors that belong to them as columns, of a square complex matrix given
/// entry by entry.
///
/// # Errors
/// [`Error::Invalid`] if the iteration does not converge.
pub(super) fn right_singular_complex(
    size: usize,
    entry: impl FnMut(usize, usize) -> Complex,
) -> Result<(Vec<f64>, Array2<Complex>)> {
    if size == 0 {
        return Ok((Vec::new(), Array2::from_elem((0, 0), Complex::new(0.0, 0.0))));
    }
    let svd = Mat::from_fn(size, size, entry).svd().map_err(|_| not_converged())?;
    let (s, v) = (svd.S().column_vector(), svd.V());
    Ok(((0..size).map(|i| s[i].re).collect(), Array2::from_shape_fn((size, size), |(i, j)| v[(i, j)])))
}

/// The triangular factor of a tall matrix of which `rows` yields one block of rows after another: `[min(m, k), k]`, with only one
/// block in memory.
///
/// ```
/// use attn_circuits::linalg::{r_factor, r_factor_by_blocks};
/// use ndarray::{array, s};
/// let a = array![[3.0, 1.0], [4.0, 2.0], [0.0, 5.0], [1.0, 1.0]];
/// let blocks = [0..1, 1..4].map(|rows| a.slice(s![rows, ..]).to_owned());
/// let (r, whole) = (r_factor_by_blocks(2, blocks.into_iter()), r_factor(a.view()));
/// // RᵀR = AᵀA is what counts.
/// assert!((r.t().dot(&r) - whole.t().dot(&whole)).iter().all(|difference| difference.abs() < 1e-12));
/// ```
///
/// # Panics
/// If a block does not have `columns` columns.
pub fn r_factor_by_blocks(columns: usize, rows: impl Iterator<Item = Array2<f64>>) -> Array2<f64> {
    rows.fold(Array2::zeros((0, columns)), |r, block| {
        let stacked = ndarray::concatenate(Axis(0), &[r.view(), block.view()]).expect("blocks have equally many columns");
        r_factor(stacked.view())
    })
}

fn not_converged() -> Error {
    Error::invalid("singular values do not converge: are all numbers finite?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::gaussian;
    use crate::stream::Stream;
    use ndarray::array;

    fn diagonal_blocks(values: &[Complex]) -> Array2<f64> {
        let mut a = Array2::zeros((2 * values.len(), 2 * values.len()));
        for (i, v) in values.iter().enumerate() {
            let block = array![[v.re, v.im], [-v.im, v.re]];
            a.slice_mut(ndarray::s![2 * i..2 * i + 2, 2 * i..2 * i + 2]).assign(&block);
        }
        a
    }

    #[test]
    fn eigenvalues_of_nearly_equal_magnitude_come_in_one_order() {
        let c = Complex::new;
        // 1, −1 and i, −i, the magnitudes apart by rounding in both directions.
        for e in [1e-9, -1e-9] {
            let a = diagonal_blocks(&[c(-1.0 - e, 0.0), c(0.0, 1.0 + e), c(1.0, 0.0), c(0.5, 0.0)]);
            let found: Vec<_> =
                eigenvalues(a.view()).unwrap().iter().map(|v| (v.re.round() as i32, v.im.round() as i32)).collect();
            assert_eq!(found[..6], [(1, 0), (1, 0), (0, 1), (0, -1), (-1, 0), (-1, 0)], "{e}");
        }
    }

    #[test]
    fn a_triangular_factor_by_blocks_is_that_of_the_whole() {
        let a = Array2::from_shape_fn((11, 4), |(i, j)| ((i * 7 + j * 3) % 5) as f64 - 1.5 * j as f64);
        let blocks = [0..3, 3..5, 5..11].map(|rows| a.slice(ndarray::s![rows, ..]).to_owned());
        let r = r_factor_by_blocks(4, blocks.into_iter());
        assert_eq!(r.dim(), (4, 4));
        let error = (r.t().dot(&r) - a.t().dot(&a)).mapv(f64::abs).sum();
        assert!(error < 1e-10, "{error}");
        assert_eq!(r_factor_by_blocks(4, std::iter::once(a.slice(ndarray::s![..2, ..]).to_owned())).dim(), (2, 4));
    }

    fn assert_same(a: &Array2<f64>, b: &Array2<f64>) {
        assert_eq!(a.dim(), b.dim());
        assert!((a - b).iter().all(|value| value.abs() < 1e-12), "{a}\n{b}");
    }

    #[test]
    fn factors_multiply_out_to_the_matrix_and_are_orthonormal() {
        for (m, p) in [(5, 3), (3, 5), (4, 4), (1, 6), (0, 3), (3, 0)] {
            let a = gaussian(m, p, &mut Stream::new(3).rng(format!("{m} {p}")));
            let found = svd(a.view()).unwrap();
            let r = m.min(p);
            assert_eq!((found.u.dim(), found.s.len(), found.v.dim()), ((m, r), r, (p, r)));
            assert_same(&(&found.u * &ndarray::Array1::from(found.s.clone())).dot(&found.v.t()), &a);
            assert_same(&found.u.t().dot(&found.u), &Array2::eye(r));
            assert!(found.s.is_sorted_by(|a, b| a >= b));
            let (q, triangle) = thin_qr(a.view());
            assert_same(&q.dot(&triangle), &a);
            assert_same(&q.t().dot(&q), &Array2::eye(r));
            assert_same(&triangle, &r_factor(a.view()));
        }
    }

    #[test]
    fn the_rank_is_that_above_the_tolerance() {
        let found = svd(ndarray::array![[3.0, 0.0], [0.0, 1e-7]].view()).unwrap();
        assert_eq!((found.rank(1e-5), found.rank(1e-9)), (1, 2));
        assert_eq!(svd(Array2::zeros((2, 2)).view()).unwrap().rank(1e-5), 0);
    }
}
