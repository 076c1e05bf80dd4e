//! Products of the shapes that models are made of, by faer and by ndarray: `cargo bench --profile dev --bench products`.

use attn_circuits::linalg::set_product;
use divan::Bencher;
use divan::counter::ItemsCount;
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;

fn main() {
    divan::main();
}

/// `[m, k]` times `[k, n]`: logits, thin changes of logits, one head's queries, those of all heads, scores of a block,
/// scores in very small models.
const SHAPES: [[usize; 3]; 7] =
    [[1024, 256, 5000], [512, 32, 512], [512, 256, 32], [1024, 256, 384], [32, 32, 128], [20, 4, 20], [9, 2, 9]];

fn factors([m, k, n]: [usize; 3]) -> [Array2<f32>; 3] {
    let matrix = |rows, columns| Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 7 + j * 3) % 11) as f32 * 0.1);
    [matrix(m, k), matrix(k, n), matrix(m, n)]
}

/// Floating-point operations, two for each pair of entries that meet.
fn operations([m, k, n]: [usize; 3]) -> ItemsCount {
    ItemsCount::new(2 * m * k * n)
}

#[divan::bench(args = SHAPES)]
fn faer(bencher: Bencher, shape: [usize; 3]) {
    let [a, b, mut c] = factors(shape);
    bencher.counter(operations(shape)).bench_local(|| set_product(1.0, a.view(), b.view(), c.view_mut()));
}

#[divan::bench(args = SHAPES)]
fn ndarray(bencher: Bencher, shape: [usize; 3]) {
    let [a, b, mut c] = factors(shape);
    bencher.counter(operations(shape)).bench_local(|| general_mat_mul(1.0, &a, &b, 0.0, &mut c));
}
