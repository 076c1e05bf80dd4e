//! How a stream differs from that of the clean run.

use super::super::Transformer;
use crate::linalg::{add_product, product};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, CowArray, Ix2, s};
use std::ops::Range;

/// What some heads of a layer write more than in the clean run: a difference of `z`, to be multiplied by rows of `W_O`.
#[derive(Clone, Debug)]
pub struct Part {
    /// Layer of the heads.
    pub layer: usize,
    /// Rows of the layer's `W_O`, `[H·k, d]`.
    pub rows: Range<usize>,
    /// `[b·n, rows]`
    pub z: Array2<f32>,
}

impl Part {
    fn w_o<'m>(&self, model: &'m Transformer) -> ArrayView2<'m, f32> {
        model.blocks[self.layer].w_o.slice(s![self.rows.clone(), ..])
    }
}

/// A difference of streams, `[b·n, d]`, of which little is multiplied out: one head's part has rank `k`, and what reads it needs two
/// thin products instead of a wide one.
#[derive(Clone, Debug, Default)]
pub struct Change {
    parts: Vec<Part>,
    dense: Option<Array2<f32>>,
}

impl Change {
    /// Whether there is no difference at all.
    pub fn is_none(&self) -> bool {
        self.parts.is_empty() && self.dense.is_none()
    }

    /// Adds what heads write more.
    pub fn push(&mut self, model: &Transformer, part: Part) {
        if part.z.iter().all(|&v| v == 0.0) {
            return;
        }
        self.parts.push(part);
        // Beyond half the width of the stream, thin products are no cheaper than the wide one.
        let rank: usize = self.parts.iter().map(|part| part.rows.len()).sum();
        if 2 * rank > model.config.d_model {
            let rows = self.parts[0].z.nrows();
            let mut dense = self.dense.take().unwrap_or_else(|| Array2::zeros((rows, model.config.d_model)));
            self.add_parts_to(model, &mut dense);
            *self = Self { parts: Vec::new(), dense: Some(dense) };
        }
    }

    /// The same with further parts.
    pub fn with<'p>(&self, model: &Transformer, parts: impl Iterator<Item = &'p Part>) -> Self {
        let mut sum = self.clone();
        parts.for_each(|part| sum.push(model, part.clone()));
        sum
    }

    fn add_parts_to(&self, model: &Transformer, x: &mut Array2<f32>) {
        for part in &self.parts {
            add_product(part.z.view(), part.w_o(model), x.view_mut());
        }
    }

    /// Adds the difference to a stream, `[b·n, d]`.
    pub fn add_to(&self, model: &Transformer, x: &mut Array2<f32>) {
        if let Some(dense) = &self.dense {
            *x += dense;
        }
        self.add_parts_to(model, x);
    }

    /// The difference times a matrix `[d, p]` that reads the stream, not multiplied out. `w_o_w` is the product of the last layer's
    /// `W_O` with that matrix, `[H·k, p]`, where it is there already.
    pub fn read<'a>(&'a self, model: &Transformer, w: ArrayView2<'a, f32>, w_o_w: Option<&'a Array2<f32>>) -> Product<'a> {
        let of_part = |part: &'a Part| -> (ArrayView2<'a, f32>, CowArray<'a, f32, Ix2>) {
            let ready = w_o_w.filter(|_| part.layer + 1 == model.config.n_layers);
            let right = match ready {
                Some(ready) => ready.slice(s![part.rows.clone(), ..]).into(),
                None => product(part.w_o(model), w).into(),
            };
            (part.z.view(), right)
        };
        let dense = self.dense.iter().map(|dense| (dense.view(), w.into()));
        Product { terms: dense.chain(self.parts.iter().map(of_part)).collect() }
    }
}

/// A sum of products, `[b·n, p]`, any rows of which can be had.
pub struct Product<'a> {
    terms: Vec<(ArrayView2<'a, f32>, CowArray<'a, f32, Ix2>)>,
}

impl Product<'_> {
    /// Adds some of its rows to `x`.
    pub fn add_rows_to(&self, rows: Range<usize>, x: &mut ArrayViewMut2<f32>) {
        for (left, right) in &self.terms {
            add_product(left.slice(s![rows.clone(), ..]), right.view(), x.view_mut());
        }
    }
}
