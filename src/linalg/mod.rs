//! Low-rank products, and the decompositions behind them (faer behind ndarray views).
