//! What makes a wired model less than ideal. Every draw has a stream of its own, so changing one deviation never changes the
//! draws of another.

use super::matrices::{HeadMatrices, Matrices};
use super::wiring::Wiring;
use crate::linalg::{gaussian, haar};
use crate::stream::Stream;
use ndarray::Array2;

fn norm(matrix: &Array2<f64>) -> f64 {
    matrix.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Squeezes the stream into `width` coordinates: every old coordinate becomes a random direction, of length 1 in expectation.
///
/// The directions are the rows of orthonormal columns, which is as near to orthogonal as so many directions can be on
/// average; with `width` equal to the old one they are exactly orthonormal.
pub(super) fn compress(model: &mut Matrices, width: usize, stream: &Stream) {
    let old = model.w_e.ncols();
    let frame = haar(old, width, &mut stream.rng("compress")) * (old as f64 / width as f64).sqrt();
    model.in_frame(&frame);
}

/// Turns the whole stream by a random rotation (or reflection).
pub(super) fn rotate(model: &mut Matrices, stream: &Stream) {
    let d_model = model.w_e.ncols();
    model.in_frame(&haar(d_model, d_model, &mut stream.rng("rotate")));
}

/// Appends `count` Gaussian heads to every layer, each matrix with the mean norm of its counterparts in the wired heads.
pub(super) fn distract(model: &mut Matrices, wiring: &Wiring, count: usize, stream: &Stream) {
    let mut means = [0.0; 4];
    for head in &wiring.heads {
        for (mean, (_, _, matrix)) in means.iter_mut().zip(model.heads[head.layer][head.head].parts_mut()) {
            *mean += norm(matrix) / wiring.heads.len() as f64;
        }
    }
    let (d_model, d_head) = (model.w_e.ncols(), wiring.d_head);
    let stream = stream.child("distractors");
    for (layer, heads) in model.heads.iter_mut().enumerate() {
        for index in 0..count {
            let draw = |part: usize, name: &str, rows: usize, columns: usize| {
                let w = gaussian(rows, columns, &mut stream.rng(format!("blocks.{layer}.attn.{name} {index}")));
                let factor = means[part] / norm(&w);
                w * factor
            };
            heads.push(HeadMatrices {
                q: draw(0, "W_Q", d_model, d_head),
                k: draw(1, "W_K", d_model, d_head),
                v: draw(2, "W_V", d_model, d_head),
                o: draw(3, "W_O", d_head, d_model),
            });
        }
    }
}

/// Adds Gaussian noise to every matrix whose expected squared norm is `sigma²` times that of the matrix. A matrix of zeros
/// stays one.
pub(super) fn add_noise(model: &mut Matrices, sigma: f64, stream: &Stream) {
    let stream = stream.child("noise");
    model.for_each(|name, _, matrix| {
        let norm = norm(matrix);
        if norm > 0.0 {
            let deviation = sigma * norm / (matrix.len() as f64).sqrt();
            let draws = gaussian(matrix.nrows(), matrix.ncols(), &mut stream.rng(name));
            matrix.scaled_add(deviation, &draws);
        }
    });
}
