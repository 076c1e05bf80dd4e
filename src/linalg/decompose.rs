use crate::{Error, Result};
use faer::Mat;
use ndarray::{Array2, ArrayView2};

/// A complex number, as eigenvalues come.
pub type Complex = faer::c64;

fn to_faer(a: ArrayView2<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |row, column| a[(row, column)])
}

/// The triangular factor `R` of `a = Q R`, `[min(m, k), k]` for `a`: `[m, k]`. `Q` keeps lengths, so `‖a b‖ = ‖R b‖`.
pub fn r_factor(a: ArrayView2<f64>) -> Array2<f64> {
    let rank = a.nrows().min(a.ncols());
    if rank == 0 {
        return Array2::zeros((rank, a.ncols()));
    }
    let qr = to_faer(a).qr();
    let r = qr.thin_R();
    Array2::from_shape_fn((rank, a.ncols()), |(row, column)| if row <= column { r[(row, column)] } else { 0.0 })
}

/// Singular values, descending.
///
/// # Errors
/// [`Error::Invalid`] if the iteration does not converge (numbers that are not finite).
pub fn singular_values(a: ArrayView2<f64>) -> Result<Vec<f64>> {
    if a.is_empty() {
        return Ok(Vec::new());
    }
    to_faer(a).singular_values().map_err(|_| Error::invalid("singular values do not converge: are all numbers finite?"))
}

/// The thin singular value decomposition `a = U diag(σ) Vᵀ`: `U` `[m, r]`, `σ` descending, `Vᵀ` `[r, p]`, with `r = min(m, p)`.
///
/// # Errors
/// [`Error::Invalid`] if the iteration does not converge (numbers that are not finite).
pub fn svd(a: ArrayView2<f64>) -> Result<(Array2<f64>, Vec<f64>, Array2<f64>)> {
    let rank = a.nrows().min(a.ncols());
    if rank == 0 {
        return Ok((Array2::zeros((a.nrows(), 0)), Vec::new(), Array2::zeros((0, a.ncols()))));
    }
    let svd = to_faer(a).thin_svd().map_err(|_| Error::invalid("singular values do not converge: are all numbers finite?"))?;
    let (u, v) = (svd.U(), svd.V());
    Ok((
        Array2::from_shape_fn((a.nrows(), rank), |(row, column)| u[(row, column)]),
        svd.S().column_vector().iter().copied().collect(),
        Array2::from_shape_fn((rank, a.ncols()), |(row, column)| v[(column, row)]),
    ))
}

/// Eigenvalues of a square matrix, by descending magnitude, then real part, then imaginary part.
///
/// # Errors
/// [`Error::Invalid`] if the matrix is not square or the iteration does not converge.
pub fn eigenvalues(a: ArrayView2<f64>) -> Result<Vec<Complex>> {
    if a.nrows() != a.ncols() {
        return Err(Error::invalid(format!("eigenvalues need a square matrix, not {:?}", a.dim())));
    }
    if a.is_empty() {
        return Ok(Vec::new());
    }
    let mut values =
        to_faer(a).eigenvalues().map_err(|_| Error::invalid("eigenvalues do not converge: are all numbers finite?"))?;
    let key = |value: &Complex| [value.norm(), value.re, value.im];
    values.sort_by(|a, b| key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal));
    Ok(values)
}
