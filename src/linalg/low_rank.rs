use super::decompose::{Complex, eigenvalues, r_factor, singular_values};
use crate::{Error, Result};
use ndarray::{Array2, ArrayView2};

/// A product `A B` of rank at most `k` that is never multiplied out: `A` `[m, k]`, `B` `[k, p]`, `k` small.
///
/// A head's `W_OV = W_V W_O` and `W_QK = W_Q W_Kᵀ`, and everything made of them, are of this kind. Every answer comes from matrices
/// no larger than `[max(m, p), k]`. Kept in `f64`.
///
/// ```
/// use attn_circuits::linalg::LowRank;
/// use ndarray::array;
/// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0]])?;
/// assert_eq!(product.norm(), 5.0);
/// assert_eq!(product.trace()?, 3.0);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    a: Array2<f64>,
    b: Array2<f64>,
}

impl LowRank {
    /// The product of `a` `[m, k]` and `b` `[k, p]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the inner sizes differ.
    pub fn new(a: Array2<f64>, b: Array2<f64>) -> Result<Self> {
        if a.ncols() != b.nrows() {
            return Err(Error::invalid(format!("{:?} and {:?} cannot be multiplied", a.dim(), b.dim())));
        }
        Ok(Self { a, b })
    }

    /// As [`LowRank::new`], from views of weights.
    ///
    /// # Errors
    /// Those of [`LowRank::new`].
    pub fn from_f32(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Result<Self> {
        Self::new(a.mapv(f64::from), b.mapv(f64::from))
    }

    /// The shape `(m, p)` of the product.
    pub fn dim(&self) -> (usize, usize) {
        (self.a.nrows(), self.b.ncols())
    }

    /// The inner size `k`, which bounds the rank.
    pub fn inner(&self) -> usize {
        self.a.ncols()
    }

    /// `(A B)ᵀ = Bᵀ Aᵀ`.
    pub fn t(&self) -> Self {
        Self { a: self.b.t().to_owned(), b: self.a.t().to_owned() }
    }

    /// `(A B)(C D)`, again low-rank, with the smaller of the two inner sizes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the shapes do not fit.
    pub fn then(&self, next: &Self) -> Result<Self> {
        if self.b.ncols() != next.a.nrows() {
            return Err(Error::invalid(format!("{:?} and {:?} cannot be multiplied", self.dim(), next.dim())));
        }
        let middle = self.b.dot(&next.a);
        if self.inner() <= next.inner() {
            Self::new(self.a.clone(), middle.dot(&next.b))
        } else {
            Self::new(self.a.dot(&middle), next.b.clone())
        }
    }

    /// The product with `matrix` from the right, `A (B M)`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the shapes do not fit.
    pub fn dot(&self, matrix: ArrayView2<f64>) -> Result<Self> {
        if self.b.ncols() != matrix.nrows() {
            return Err(Error::invalid(format!("{:?} and {:?} cannot be multiplied", self.dim(), matrix.dim())));
        }
        Self::new(self.a.clone(), self.b.dot(&matrix))
    }

    /// `R_A R_Bᵀ` with `A = Q_A R_A` and `Bᵀ = Q_B R_B`: at most `[k, k]`, with the singular values of the product.
    fn core(&self) -> Array2<f64> {
        r_factor(self.a.view()).dot(&r_factor(self.b.t()).t())
    }

    /// Frobenius norm.
    pub fn norm(&self) -> f64 {
        self.core().iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// The `min(m, k, p)` singular values that can differ from zero, descending.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the numbers are not finite.
    pub fn singular_values(&self) -> Result<Vec<f64>> {
        singular_values(self.core().view())
    }

    /// The `k` eigenvalues of `B A`: those of the square product, apart from zeros.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the product is not square or the numbers are not finite.
    pub fn eigenvalues(&self) -> Result<Vec<Complex>> {
        self.check_square()?;
        eigenvalues(self.b.dot(&self.a).view())
    }

    /// `B M A`, `[k, k]`: its eigenvalues are those of the product closed to a loop by `M`, `[p, m]`, apart from zeros.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the shapes do not fit.
    pub fn closed_by(&self, matrix: ArrayView2<f64>) -> Result<Array2<f64>> {
        if matrix.dim() != (self.b.ncols(), self.a.nrows()) {
            return Err(Error::invalid(format!("{:?} cannot be closed by {:?}", self.dim(), matrix.dim())));
        }
        Ok(self.b.dot(&matrix).dot(&self.a))
    }

    /// `tr A B = Σ A ∘ Bᵀ`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the product is not square.
    pub fn trace(&self) -> Result<f64> {
        self.check_square()?;
        Ok(self.a.iter().zip(self.b.t().iter()).map(|(a, b)| a * b).sum())
    }

    /// The product multiplied out, `[m, p]`: for small ones, and for tests.
    pub fn dense(&self) -> Array2<f64> {
        self.a.dot(&self.b)
    }

    fn check_square(&self) -> Result<()> {
        let (m, p) = self.dim();
        if m == p {
            return Ok(());
        }
        Err(Error::invalid(format!("only a square product has eigenvalues and a trace; this one is {m} by {p}")))
    }
}
