//! Low-rank products, and the decompositions behind them (faer behind ndarray views).

mod decompose;
mod low_rank;

pub use decompose::{Complex, eigenvalues, r_factor, r_factor_by_blocks, singular_values, svd};
pub use low_rank::{Eigenpair, LowRank};
