use super::decompose::{Complex, Svd, eigenvalues, r_factor, singular_values, svd, thin_qr};
use crate::{Error, Result};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

/// A product `A B` of rank at most `k` that is never multiplied out: `A` `[m, k]`, `B` `[k, p]`, `k` small.
///
/// A head's `W_OV = W_V W_O` and `W_QK = W_Q W_Kᵀ`, and everything made of them, are of this kind. Every answer comes from
/// matrices no larger than `[max(m, p), k]`. Kept in `f64`.
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
    pub(super) a: Array2<f64>,
    pub(super) b: Array2<f64>,
}

impl LowRank {
    /// The product of `a` `[m, k]` and `b` `[k, p]`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::Array2;
    /// let (w_v, w_o) = (Array2::zeros((16, 4)), Array2::zeros((4, 16)));
    /// let w_ov = LowRank::new(w_v.clone(), w_o)?;
    /// assert_eq!((w_ov.dim(), w_ov.inner()), ((16, 16), 4));
    /// assert!(LowRank::new(w_v.clone(), w_v).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
    /// ```
    /// # use attn_circuits::prelude::*;
    /// use attn_circuits::linalg::LowRank;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
    /// let head = model.head(HeadId::new(1, 0));
    /// let w_qk = LowRank::from_f32(head.w_q, head.w_k.t())?;
    /// assert_eq!((w_qk.dim(), w_qk.inner()), ((model.config().d_model, model.config().d_model), model.config().d_head));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`LowRank::new`].
    pub fn from_f32(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Result<Self> {
        Self::new(a.mapv(f64::from), b.mapv(f64::from))
    }

    /// The shape `(m, p)` of the product.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0, 2.0]])?;
    /// assert_eq!((product.dim(), product.t().dim(), product.inner()), ((2, 3), (3, 2), 1));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn dim(&self) -> (usize, usize) {
        (self.a.nrows(), self.b.ncols())
    }

    /// The inner size `k`, which bounds the rank.
    pub fn inner(&self) -> usize {
        self.a.ncols()
    }

    /// `(A B)ᵀ = Bᵀ Aᵀ`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0]])?;
    /// assert_eq!(product.t().dense(), array![[3.0, 4.0], [0.0, 0.0]]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn t(&self) -> Self {
        Self { a: self.b.t().to_owned(), b: self.a.t().to_owned() }
    }

    /// `M (A B)`, the product with `matrix`, `[q, m]`, from the left: `(M A) B`, `[q, p]`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// // W_E W_OV `[V, d]`: what a head writes when it attends to each token.
    /// let (w_e, w_ov) = (array![[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0]])?);
    /// assert_eq!(w_ov.after(w_e.view())?.dense(), w_e.dot(&w_ov.dense()));
    /// assert!(w_ov.after(w_e.t()).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the shapes do not fit.
    pub fn after(&self, matrix: ArrayView2<f64>) -> Result<Self> {
        if matrix.ncols() != self.a.nrows() {
            return Err(Error::invalid(format!("{:?} and {:?} cannot be multiplied", matrix.dim(), self.dim())));
        }
        Self::new(matrix.dot(&self.a), self.b.clone())
    }

    /// The left factor `A`, `[m, k]`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0]])?;
    /// assert_eq!((product.left().dim(), product.right().dim()), ((2, 1), (1, 2)));
    /// assert_eq!(product.left().dot(&product.right()), product.dense());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn left(&self) -> ArrayView2<'_, f64> {
        self.a.view()
    }

    /// The right factor `B`, `[k, p]`.
    pub fn right(&self) -> ArrayView2<'_, f64> {
        self.b.view()
    }

    /// `(A B)(C D)`, `self` first, again low-rank, with the smaller of the two inner sizes.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::{Array2, array};
    /// // The OV circuit of a virtual head, W_OV of the earlier head times W_OV of the later one.
    /// let earlier = LowRank::new(array![[3.0], [4.0]], array![[1.0, 2.0]])?;
    /// let later = LowRank::new(Array2::eye(2), array![[0.0, 1.0], [1.0, 0.0]])?;
    /// let virtual_ov = earlier.then(&later)?;
    /// assert_eq!(virtual_ov.dense(), earlier.dense().dot(&later.dense()));
    /// assert_eq!(virtual_ov.inner(), 1);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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

    /// The product with `matrix`, `[p, q]`, from the right: `A (B M)`, `[m, q]`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// // W_OV W_U `[d, V]`: what attending to a direction of the stream does to each logit.
    /// let (w_ov, w_u) = (LowRank::new(array![[3.0], [4.0]], array![[1.0, 2.0]])?, array![[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]);
    /// assert_eq!(w_ov.dot(w_u.view())?.dense(), w_ov.dense().dot(&w_u));
    /// assert!(w_ov.dot(w_u.t()).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
    pub(super) fn core(&self) -> Array2<f64> {
        r_factor(self.a.view()).dot(&r_factor(self.b.t()).t())
    }

    /// Frobenius norm: that of `R_A R_Bᵀ`, the triangular factors of `A` and `Bᵀ`, at most `[k, k]`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0, 1.0], [4.0, 0.0]], array![[1.0, 0.0], [2.0, 2.0]])?;
    /// let square: f64 = product.dense().iter().map(|value| value * value).sum();
    /// assert!((product.norm() - square.sqrt()).abs() < 1e-12);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn norm(&self) -> f64 {
        self.core().iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// The `min(m, k, p)` singular values that can differ from zero, descending.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0]])?;
    /// let values = product.singular_values()?;
    /// assert!(values.len() == 1 && (values[0] - 5.0).abs() < 1e-12);
    /// // The squares sum to that of the norm.
    /// let square: f64 = values.iter().map(|value| value * value).sum();
    /// assert!((square.sqrt() - product.norm()).abs() < 1e-12);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the numbers are not finite.
    pub fn singular_values(&self) -> Result<Vec<f64>> {
        singular_values(self.core().view())
    }

    /// The eigenvalues that can differ from zero, `k` of them, by descending magnitude: those of `B A`, `[k, k]`, which has the
    /// same ones (Sylvester's determinant identity). Where the product is smaller than `[k, k]`, the rest are zeros.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.5]])?;
    /// let values = product.eigenvalues()?; // of the 1 × 1 matrix B A
    /// assert!(values.len() == 1 && (values[0].re - 5.0).abs() < 1e-12 && values[0].im == 0.0);
    /// assert!(LowRank::new(array![[3.0], [4.0]], array![[1.0]])?.eigenvalues().is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the product is not square or the numbers are not finite.
    pub fn eigenvalues(&self) -> Result<Vec<Complex>> {
        self.check_square()?;
        let (size, k) = (self.a.nrows(), self.inner());
        let small = if size < k { self.dense() } else { self.b.dot(&self.a) };
        let mut values = eigenvalues(small.view())?;
        values.resize(k, Complex::new(0.0, 0.0));
        Ok(values)
    }

    /// `x A B`, `[p]`, for a row vector `x`, `[m]`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0, 2.0]])?;
    /// assert_eq!(product.apply(array![0.0, 1.0].view())?, array![4.0, 0.0, 8.0]); // its second row
    /// assert!(product.apply(array![1.0].view()).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the sizes differ.
    pub fn apply(&self, x: ArrayView1<f64>) -> Result<Array1<f64>> {
        if x.len() != self.a.nrows() {
            return Err(Error::invalid(format!("a row of {} cannot be multiplied by {:?}", x.len(), self.dim())));
        }
        Ok(x.dot(&self.a).dot(&self.b))
    }

    /// `B M A`, `[k, k]`: its eigenvalues are those of the product closed to a loop by `M`, `[p, m]`, apart from zeros.
    ///
    /// ```
    /// use attn_circuits::linalg::{LowRank, eigenvalues};
    /// use ndarray::array;
    /// // The full OV circuit W_E W_OV W_U `[V, V]` has the eigenvalues of W_O (W_U W_E) W_V `[k, k]`, and zeros.
    /// let (w_e, w_u) = (array![[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], array![[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]);
    /// let w_ov = LowRank::new(array![[3.0], [4.0]], array![[1.0, 2.0]])?;
    /// let small = w_ov.closed_by(w_u.dot(&w_e).view())?;
    /// assert_eq!(small.dim(), (1, 1));
    /// let full = eigenvalues(w_ov.after(w_e.view())?.dot(w_u.view())?.dense().view())?;
    /// assert!((full[0].re - small[(0, 0)]).abs() < 1e-9 && full[1].norm() < 1e-6);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
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
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0, 1.0], [4.0, 0.0]], array![[1.0, 0.0], [2.0, 2.0]])?;
    /// assert_eq!(product.trace()?, product.dense().diag().sum());
    /// // It is the sum of the eigenvalues.
    /// assert!((product.eigenvalues()?.iter().map(|value| value.re).sum::<f64>() - product.trace()?).abs() < 1e-12);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the product is not square.
    pub fn trace(&self) -> Result<f64> {
        self.check_square()?;
        Ok(self.a.iter().zip(self.b.t().iter()).map(|(a, b)| a * b).sum())
    }

    /// Singular values with their vectors, `min(m, k, p)` of each: those of the product that can differ from zero.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let found = LowRank::new(array![[3.0], [4.0]], array![[0.0, 2.0, 0.0]])?.svd()?;
    /// assert_eq!((found.u.dim(), found.s.len(), found.v.dim()), ((2, 1), 1, (3, 1)));
    /// assert!((found.s[0] - 10.0).abs() < 1e-12);
    /// // What is read most strongly is (3, 4)/5; the sign is the vectors' own.
    /// assert!((found.u[(0, 0)].abs() - 0.6).abs() < 1e-12 && (found.v[(1, 0)].abs() - 1.0).abs() < 1e-12);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the numbers are not finite.
    pub fn svd(&self) -> Result<Svd> {
        let ((q_a, r_a), (q_b, r_b)) = (thin_qr(self.a.view()), thin_qr(self.b.t()));
        let core = svd(r_a.dot(&r_b.t()).view())?;
        Ok(Svd { u: q_a.dot(&core.u), s: core.s, v: q_b.dot(&core.v) })
    }

    /// The rows and columns that the lists name, in their order; without a list all of them.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0, 2.0]])?;
    /// assert_eq!(product.select(Some(&[1, 0]), Some(&[2])).dense(), array![[8.0], [6.0]]);
    /// assert_eq!(product.select(None, None), product);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Panics
    /// If an index is out of range.
    pub fn select(&self, rows: Option<&[usize]>, columns: Option<&[usize]>) -> Self {
        let chosen =
            |m: &Array2<f64>, axis: Axis, list: Option<&[usize]>| list.map_or_else(|| m.clone(), |l| m.select(axis, l));
        Self { a: chosen(&self.a, Axis(0), rows), b: chosen(&self.b, Axis(1), columns) }
    }

    /// The product times a number.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// // Attention scores are W_QK over √d_head.
    /// let w_qk = LowRank::new(array![[3.0, 0.0, 0.0, 1.0]], array![[2.0], [0.0], [0.0], [2.0]])?;
    /// assert_eq!(w_qk.scaled(1.0 / (w_qk.inner() as f64).sqrt()).dense(), array![[4.0]]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn scaled(&self, factor: f64) -> Self {
        Self { a: &self.a * factor, b: self.b.clone() }
    }

    /// Rows `rows` multiplied out, `[rows.len(), p]`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::{array, s};
    /// let product = LowRank::new(array![[3.0], [4.0], [5.0]], array![[1.0, 2.0]])?;
    /// assert_eq!(product.rows(1..3), product.dense().slice(s![1..3, ..]));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the range leaves the product.
    pub fn rows(&self, rows: std::ops::Range<usize>) -> Array2<f64> {
        self.a.slice(ndarray::s![rows, ..]).dot(&self.b)
    }

    /// The product with its columns' mean taken from each: every row then sums to zero.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// // What a softmax along the rows can see of logits.
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 0.0, 2.0]])?;
    /// assert_eq!(product.centered_rows().dense(), array![[0.0, -3.0, 3.0], [0.0, -4.0, 4.0]]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn centered_rows(&self) -> Self {
        let mean = self.b.mean_axis(Axis(1)).unwrap_or_else(|| Array1::zeros(self.inner()));
        Self { a: self.a.clone(), b: &self.b - &mean.insert_axis(Axis(1)) }
    }

    /// The product multiplied out, `[m, p]`: for small ones, and for tests.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[3.0], [4.0]], array![[1.0, 2.0]])?;
    /// assert_eq!(product.dense(), array![[3.0, 6.0], [4.0, 8.0]]);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn dense(&self) -> Array2<f64> {
        self.a.dot(&self.b)
    }

    pub(super) fn check_square(&self) -> Result<()> {
        let (m, p) = self.dim();
        if m == p {
            return Ok(());
        }
        Err(Error::invalid(format!("only a square product has eigenvalues and a trace; this one is {m} by {p}")))
    }
}
