//! Low-rank products, the decompositions behind them and products (faer behind ndarray views), random matrices, and the softmax.

mod decompose;
mod eigenvectors;
mod low_rank;
mod product;
mod random;
mod rows;
mod softmax;

pub use decompose::{Complex, Svd, eigenvalues, r_factor, r_factor_by_blocks, singular_values, svd, thin_qr};
pub use eigenvectors::Eigenpair;
pub use low_rank::LowRank;
pub use product::{add_product, product, set_product};
pub use random::{gaussian, haar};
pub use rows::{largest, softmax_row, sum_exp};
pub use softmax::{log_softmax, log_sum_exp, softmax};
