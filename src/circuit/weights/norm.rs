//! Norms, and whether they are more than rounding.

use super::over_tokens::wide;
use super::{Circuit, Circuits};
use crate::Result;
use ndarray::{Array2, ArrayView2};

/// A norm of no more than so many times what rounding makes is that of a circuit of zeros.
const ROUNDING: f64 = 30.0;

impl Circuits<'_> {
    /// The Frobenius norm of a circuit; none where it is zero as far as weights in single precision can tell: no more than what
    /// rounding leaves.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("rotated", "{ kind: wired, circuit: induction, vocab: 13, context: 25, rotate: true }")?;
    /// let circuits = Circuits::new(&model);
    /// let (from, to) = (HeadId::new(0, 0), HeadId::new(1, 0));
    /// // One head reads through its keys what the other writes, and nothing through its values.
    /// assert!(circuits.norm_if_any(Circuit::KComposition { from, to })?.is_some());
    /// assert_eq!(circuits.norm_if_any(Circuit::VirtualOv { from, to })?, None);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn norm_if_any(&self, circuit: Circuit) -> Result<Option<f64>> {
        let (norm, rounding) = self.norm_and_rounding(circuit)?;
        Ok((norm > ROUNDING * rounding).then_some(norm))
    }

    /// The Frobenius norm of a circuit, and about how much of it the rounding of all weights to single precision can make up:
    /// half a unit in the last place of every weight, independent of each other.
    ///
    /// A circuit that wiring or pruning made zero has a norm of this size, not of 0, if its model was rotated or stored.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("rotated", "{ kind: wired, circuit: induction, vocab: 13, context: 25, rotate: true }")?;
    /// let circuits = Circuits::new(&model);
    /// let (from, to) = (HeadId::new(0, 0), HeadId::new(1, 0));
    /// // Zero but for the rounding of rotated weights, which is as large as said.
    /// let (norm, rounding) = circuits.norm_and_rounding(Circuit::VirtualOv { from, to })?;
    /// assert!(0.0 < norm && norm < 10.0 * rounding);
    /// // A table that says each of 13 tokens with a logit of 10: of norm 10 √13.
    /// let (norm, rounding) = circuits.norm_and_rounding(Circuit::FullOv(to))?;
    /// assert!((norm - 10.0 * 13f64.sqrt()).abs() < 1e-3 && norm > 1e5 * rounding);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// None that a model's own heads can cause.
    ///
    /// # Panics
    /// If the model has no such head.
    pub fn norm_and_rounding(&self, circuit: Circuit) -> Result<(f64, f64)> {
        let heads: Vec<_> = self.factors(circuit).into_iter().map(wide).collect();
        let (left, right) = self.triangles(circuit).map(|(embed, reader)| (embed.view(), reader.t())).unzip();
        let chain: Vec<_> = left.into_iter().chain(heads.iter().map(|w| w.view())).chain(right).collect();
        let square = |a: &Array2<f64>| a.iter().map(|v| v * v).sum::<f64>();
        // ‖M_1 … M_i‖², and from the other end ‖M_i … M_n‖².
        let squares = |mut factors: Box<dyn Iterator<Item = ArrayView2<f64>> + '_>, steps: usize| {
            let mut product = factors.next().map(|first| first.to_owned()).unwrap_or_default();
            let mut all = vec![square(&product)];
            for factor in factors.take(steps) {
                product = product.dot(&factor);
                all.push(square(&product));
            }
            all
        };
        let n = chain.len();
        let before = squares(Box::new(chain.iter().map(|m| m.view())), n - 2);
        let behind = squares(Box::new(chain.iter().rev().map(|m| m.t())), n - 2);
        let mut noise = 0.0;
        for (i, factor) in chain.iter().enumerate() {
            let (rows, columns) = (factor.nrows() as f64, factor.ncols() as f64);
            let before = if i == 0 { rows } else { before[i - 1] };
            let behind = if i == n - 1 { columns } else { behind[n - 2 - i] };
            noise += square(&factor.to_owned()) / (rows * columns) * before * behind;
        }
        Ok((self.compressed(circuit)?.norm(), f64::from(f32::EPSILON) / 2.0 * noise.sqrt()))
    }
}
