//! The weights of a wired model in double precision, head by head, until the last deviation is applied.

use super::wiring::{OUTPUT, POSITION, TOKEN, WiredHead, Wiring};
use crate::model::{BlockWeights, Weights};
use ndarray::{Array2, Array3, Axis, Zip};
use std::ops::Range;

/// Which side of a matrix lies in the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The columns: the matrix writes to the stream.
    Writes,
    /// The rows: the matrix reads from it.
    Reads,
}

/// One head.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeadMatrices {
    /// `[d, k]`
    pub q: Array2<f64>,
    /// `[d, k]`
    pub k: Array2<f64>,
    /// `[d, k]`
    pub v: Array2<f64>,
    /// `[k, d]`
    pub o: Array2<f64>,
}

/// A whole model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrices {
    /// `[V, d]`
    pub w_e: Array2<f64>,
    /// `[C, d]`
    pub w_pos: Option<Array2<f64>>,
    /// By layer, then head.
    pub heads: Vec<Vec<HeadMatrices>>,
    /// `[d, V]`
    pub w_u: Array2<f64>,
}

impl HeadMatrices {
    fn zeros(d_model: usize, d_head: usize) -> Self {
        let read = Array2::zeros((d_model, d_head));
        Self { q: read.clone(), k: read.clone(), v: read, o: Array2::zeros((d_head, d_model)) }
    }

    fn wired(head: &WiredHead, d_model: usize, d_head: usize) -> Self {
        let mut matrices = Self::zeros(d_model, d_head);
        // The model divides scores by √k, so the query carries it.
        read_into(&mut matrices.q, head.query_triples(), (d_head as f64).sqrt());
        read_into(&mut matrices.k, head.key_triples(), 1.0);
        read_into(&mut matrices.v, head.value_triples(), 1.0);
        for (index, coordinate) in head.to_range.clone().enumerate() {
            matrices.o[(index, coordinate)] = head.scale;
        }
        matrices
    }

    /// The four matrices with their names, which side is in the stream, and in a fixed order.
    pub fn parts_mut(&mut self) -> [(&'static str, Side, &mut Array2<f64>); 4] {
        [
            ("W_Q", Side::Reads, &mut self.q),
            ("W_K", Side::Reads, &mut self.k),
            ("W_V", Side::Reads, &mut self.v),
            ("W_O", Side::Writes, &mut self.o),
        ]
    }
}

fn read_into(matrix: &mut Array2<f64>, triples: Vec<(usize, usize, f64)>, factor: f64) {
    for (coordinate, index, weight) in triples {
        matrix[(coordinate, index)] = factor * weight;
    }
}

impl Matrices {
    /// The weights that a wiring means, without any deviation.
    pub fn wired(wiring: &Wiring) -> Self {
        let d_model = wiring.layout.width();
        let one_hot = |range: Range<usize>| {
            let mut w = Array2::zeros((range.len(), d_model));
            range.enumerate().for_each(|(index, coordinate)| w[(index, coordinate)] = 1.0);
            w
        };
        let subspace = |name: &str| wiring.layout.get(name).unwrap_or(0..0);
        let zero = HeadMatrices::zeros(d_model, wiring.d_head);
        let mut heads = vec![vec![zero; wiring.n_heads]; wiring.n_layers];
        for head in &wiring.heads {
            heads[head.layer][head.head] = HeadMatrices::wired(head, d_model, wiring.d_head);
        }
        Self {
            w_e: one_hot(subspace(TOKEN)),
            w_pos: wiring.layout.get(POSITION).map(one_hot),
            heads,
            w_u: one_hot(subspace(OUTPUT)).reversed_axes(),
        }
    }

    /// Calls `visit` with the name, the side and the matrix of everything: `embed.W_E`, …, `blocks.0.attn.W_Q 1` (head 1), ….
    pub fn for_each(&mut self, mut visit: impl FnMut(&str, Side, &mut Array2<f64>)) {
        visit("embed.W_E", Side::Writes, &mut self.w_e);
        if let Some(w_pos) = &mut self.w_pos {
            visit("pos_embed.W_pos", Side::Writes, w_pos);
        }
        for (layer, heads) in self.heads.iter_mut().enumerate() {
            for (head, matrices) in heads.iter_mut().enumerate() {
                for (name, side, matrix) in matrices.parts_mut() {
                    visit(&format!("blocks.{layer}.attn.{name} {head}"), side, matrix);
                }
            }
        }
        visit("unembed.W_U", Side::Reads, &mut self.w_u);
    }

    /// Expresses the stream in other coordinates: coordinate `i` becomes row `i` of `frame`, `[d, m]`.
    pub fn in_frame(&mut self, frame: &Array2<f64>) {
        self.for_each(|_, side, matrix| {
            *matrix = match side {
                Side::Writes => matrix.dot(frame),
                Side::Reads => frame.t().dot(&*matrix),
            };
        });
    }

    /// Rounds to single precision, in TransformerLens' shapes.
    pub fn into_weights(self) -> Weights {
        let blocks = self.heads.iter().map(|heads| {
            let stack = |part: fn(&HeadMatrices) -> &Array2<f64>| {
                let (rows, columns) = heads.first().map_or((0, 0), |head| part(head).dim());
                let mut all = Array3::<f32>::zeros((heads.len(), rows, columns));
                for (mut place, head) in all.axis_iter_mut(Axis(0)).zip(heads) {
                    Zip::from(&mut place).and(part(head)).for_each(|to, &from| *to = from as f32);
                }
                all
            };
            BlockWeights {
                ln: None,
                w_q: stack(|head| &head.q),
                w_k: stack(|head| &head.k),
                w_v: stack(|head| &head.v),
                w_o: stack(|head| &head.o),
                b_q: None,
                b_k: None,
                b_v: None,
                b_o: None,
            }
        });
        let single = |w: &Array2<f64>| w.mapv(|value| value as f32);
        Weights {
            w_e: single(&self.w_e),
            w_pos: self.w_pos.as_ref().map(single),
            blocks: blocks.collect(),
            ln_final: None,
            w_u: single(&self.w_u),
            b_u: None,
        }
    }
}
