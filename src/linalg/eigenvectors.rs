//! Left eigenvectors of low-rank products, chosen where there are several.

use super::LowRank;
use super::decompose::{Complex, Svd, eigenvalues, r_factor, right_singular_complex, singular_values, svd};
use crate::Result;
use ndarray::{Array1, Array2, s};

/// An eigenvalue with its left eigenvector, as [`LowRank::left_eigenvectors`] chooses it.
///
/// ```
/// use attn_circuits::linalg::{Complex, LowRank};
/// use ndarray::array;
/// // What lies in the first two coordinates is doubled: a plane of eigenvectors, of which the first coordinates are chosen.
/// let product = LowRank::new(array![[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]], array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])?;
/// let pairs = product.left_eigenvectors(2)?;
/// assert!(pairs.iter().all(|pair| (pair.value - Complex::new(2.0, 0.0)).norm() < 1e-12 && pair.multiplicity == 2));
/// let first = pairs[0].vector.as_ref().map(|vector| vector.mapv(|z| z.re));
/// assert!(first.is_some_and(|vector| (vector - array![1.0, 0.0, 0.0]).iter().all(|difference| difference.abs() < 1e-12)));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Eigenpair {
    /// The eigenvalue.
    pub value: Complex,
    /// How many eigenvalues are equal to this one, itself included.
    pub multiplicity: usize,
    /// The row vector `x` with `x A B = λ x` and `Σ |x| = 1`, where there is one.
    pub vector: Option<Array1<Complex>>,
}

/// Eigenvalues that differ by less, relative to the largest singular value, count as equal: single precision leaves about 1e-6.
const EQUAL: f64 = 1e-5;
/// An eigenvector is as uncertain as rounding over the gap to the next one, relative to the largest singular value.
const UNDECIDED: f64 = 1e-3;
/// Coordinates whose share of an eigenspace differs by less count as equal.
const SAME_SHARE: f64 = 1e-3;

/// Takes from `row` what it has along `unit`.
fn subtract_projection(row: &mut Array1<Complex>, unit: &Array1<Complex>) {
    let along: Complex = row.iter().zip(unit).map(|(a, b)| a * b.conj()).sum();
    row.iter_mut().zip(unit).for_each(|(a, b)| *a -= along * b);
}

/// The vectors of a space that its longest projected coordinates are, one after the other, each scaled to `Σ |x| = 1`.
fn choose_vectors(mut basis: Vec<Array1<Complex>>, count: usize) -> Vec<Array1<Complex>> {
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let shares = basis.iter().fold(Array1::zeros(basis[0].len()), |sum, row| sum + row.mapv(|z| z.norm_sqr()));
        let largest = shares.iter().copied().fold(0.0, f64::max);
        let pivot = shares.iter().position(|&share| share >= (1.0 - SAME_SHARE) * largest).unwrap_or(0);
        let mut vector = Array1::from_elem(shares.len(), Complex::new(0.0, 0.0));
        for row in &basis {
            let weight = row[pivot].conj();
            vector.iter_mut().zip(row).for_each(|(to, from)| *to += weight * from);
        }
        let length = vector.iter().map(|z| z.norm_sqr()).sum::<f64>().sqrt();
        let unit = vector.mapv(|z| z / length);
        // What is left of the space is orthogonal to the vector: one dimension less, by the reflection that takes it away.
        basis = without(basis, &unit);
        let mass = unit.iter().map(|z| z.norm()).sum::<f64>();
        chosen.push(unit.mapv(|z| z / mass));
    }
    chosen
}

/// An orthonormal basis of what of the space of `basis` is orthogonal to its unit vector `unit`.
fn without(basis: Vec<Array1<Complex>>, unit: &Array1<Complex>) -> Vec<Array1<Complex>> {
    let dimensions = basis.len() - 1;
    let mut left: Vec<Array1<Complex>> = Vec::with_capacity(dimensions);
    let mut rest = basis;
    while left.len() < dimensions {
        for row in &mut rest {
            for _ in 0..2 {
                subtract_projection(row, unit);
                left.iter().for_each(|other| subtract_projection(row, other));
            }
        }
        // The longest of what remains: never one that the others already span.
        let lengths: Vec<f64> = rest.iter().map(|row| row.iter().map(|z| z.norm_sqr()).sum::<f64>().sqrt()).collect();
        let longest = (0..lengths.len()).max_by(|&i, &j| lengths[i].total_cmp(&lengths[j])).expect("the space is not empty");
        left.push(rest.swap_remove(longest).mapv(|z| z / lengths[longest]));
    }
    left
}

impl LowRank {
    /// The first `count` eigenvalues (`k` at most), in the order of [`LowRank::eigenvalues`], each with its left eigenvector
    /// `x A B = λ x`, a row vector `[m]`.
    ///
    /// A left eigenvector of `A B` is `u B` with `u` one of `B A`. Its length and phase mean nothing, and where several
    /// eigenvalues are equal (to 1e-5 of the largest singular value) only the space of their eigenvectors does. So the vectors
    /// are chosen: the first is the projection onto that space of the coordinate that keeps most of its length there (of nearly
    /// equal ones, the lowest), the next is that in what of the space is left, and so on; each is scaled to `Σ |x| = 1`. In its
    /// own coordinate such a vector is positive. It does not depend on the factors, only on the product.
    ///
    /// There is no vector where the eigenvalue is 0 (to 1e-5), where there are fewer eigenvectors than equal eigenvalues, and
    /// where rounding would decide: where `A B − λ` has another singular value below 1e-3 of the largest one of `A B`.
    ///
    /// ```
    /// use attn_circuits::linalg::LowRank;
    /// use ndarray::array;
    /// let product = LowRank::new(array![[2.0, 0.0], [1.0, -1.0], [0.0, 3.0]], array![[1.0, 0.0, 1.0], [0.0, 1.0, 2.0]])?;
    /// for pair in product.left_eigenvectors(2)? {
    ///     let Some(x) = pair.vector else { continue };
    ///     let (x, value) = (x.mapv(|z| z.re), pair.value.re); // both are real here
    ///     assert!((x.mapv(f64::abs).sum() - 1.0).abs() < 1e-12);
    ///     assert!((product.apply(x.view())? - x * value).iter().all(|difference| difference.abs() < 1e-9));
    /// }
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] if the product is not square or the numbers are not finite.
    pub fn left_eigenvectors(&self, count: usize) -> Result<Vec<Eigenpair>> {
        self.check_square()?;
        // In an orthonormal basis of the columns of A the product is Y (B A) X, small, and the same for all factors of one product
        // but for an orthogonal change of basis: its singular values mean something.
        let Svd { s: sizes, v, .. } = svd(r_factor(self.a.view()).view())?;
        let rank = sizes.iter().take_while(|&&size| size > 1e-12 * sizes[0]).count();
        let kept = v.slice(s![.., ..rank]);
        let sizes = Array1::from(sizes[..rank].to_vec());
        let (x, y) = (&kept / &sizes, (&kept * &sizes).reversed_axes());
        let core = y.dot(&self.b.dot(&self.a)).dot(&x);
        let values = eigenvalues(core.view())?;
        let scale = singular_values(core.view())?.first().copied().unwrap_or(0.0);

        let mut pairs = Vec::with_capacity(count.min(self.inner()));
        let mut known: Option<(usize, Vec<Array1<Complex>>)> = None;
        for index in 0..count.min(self.inner()) {
            let Some(&value) = values.get(index) else {
                pairs.push(Eigenpair { value: Complex::new(0.0, 0.0), multiplicity: self.inner() - rank, vector: None });
                continue;
            };
            let equal = |other: &Complex| (other - value).norm() <= EQUAL * scale;
            let start = index - values[..index].iter().rev().take_while(|other| equal(other)).count();
            let end = index + values[index..].iter().take_while(|other| equal(other)).count();
            if value.norm() <= EQUAL * scale {
                pairs.push(Eigenpair { value, multiplicity: end - start, vector: None });
                continue;
            }
            if known.as_ref().is_none_or(|(of, _)| *of != start) {
                let mean = values[start..end].iter().sum::<Complex>() / (end - start) as f64;
                let basis = self.left_eigenspace(&core, &y, mean, scale)?;
                let wanted = (end - start).min(count - start).min(basis.len());
                known = Some((start, choose_vectors(basis, wanted)));
            }
            let vector = known.as_ref().and_then(|(_, vectors)| vectors.get(index - start).cloned());
            pairs.push(Eigenpair { value, multiplicity: end - start, vector });
        }
        Ok(pairs)
    }

    /// An orthonormal basis of the left eigenvectors of `value`; empty if rounding would decide what they are.
    fn left_eigenspace(&self, core: &Array2<f64>, y: &Array2<f64>, value: Complex, scale: f64) -> Result<Vec<Array1<Complex>>> {
        let size = core.nrows();
        let shifted = |i: usize, j: usize| core[(j, i)] - if i == j { value } else { Complex::new(0.0, 0.0) };
        let (singular, v) = right_singular_complex(size, shifted)?;
        let null = singular.iter().rev().take_while(|&&s| s <= EQUAL * scale).count().max(1);
        if size > null && singular[size - null - 1] <= UNDECIDED * scale {
            return Ok(Vec::new());
        }
        let to_rows = y.dot(&self.b);
        let rows = (size - null..size).map(|column| {
            let part = |of: fn(&Complex) -> f64| v.column(column).mapv(|z| of(&z)).dot(&to_rows);
            let (re, im) = (part(|z| z.re), part(|z| z.im));
            re.iter().zip(&im).map(|(&re, &im)| Complex::new(re, im)).collect::<Array1<_>>()
        });
        let mut basis: Vec<Array1<Complex>> = Vec::with_capacity(null);
        for mut row in rows {
            // Twice, so that rounding leaves nothing along the others.
            for _ in 0..2 {
                basis.iter().for_each(|other| subtract_projection(&mut row, other));
            }
            let length = row.iter().map(|z| z.norm_sqr()).sum::<f64>().sqrt();
            basis.push(row.mapv(|z| z / length));
        }
        Ok(basis)
    }
}
