//! Maps that send few one-hot vectors to few: their entries are counted instead of multiplied out.

use crate::Result;
use crate::linalg::singular_values;
use ndarray::Array2;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A matrix by its entries that are not zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OneHotMap {
    entries: BTreeMap<(usize, usize), f64>,
}

/// The largest block whose singular values are computed where they cannot be counted.
const LARGEST_BLOCK: usize = 1024;

impl OneHotMap {
    /// From (row, column, weight).
    pub fn new(triples: impl IntoIterator<Item = (usize, usize, f64)>) -> Self {
        let mut entries = BTreeMap::new();
        for (row, column, weight) in triples {
            *entries.entry((row, column)).or_insert(0.0) += weight;
        }
        entries.retain(|_, weight| *weight != 0.0);
        Self { entries }
    }

    fn triples(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        self.entries.iter().map(|(&(row, column), &weight)| (row, column, weight))
    }

    pub fn transposed(&self) -> Self {
        Self::new(self.triples().map(|(row, column, weight)| (column, row, weight)))
    }

    /// This map, then `next`.
    pub fn then(&self, next: &Self) -> Self {
        let product = self.triples().flat_map(|(row, middle, weight)| {
            let onwards = next.entries.range((middle, 0)..=(middle, usize::MAX));
            onwards.map(move |(&(_, column), &more)| (row, column, weight * more))
        });
        Self::new(product)
    }

    /// The entries in these rows and columns, counted from their starts.
    pub fn block(&self, rows: &Range<usize>, columns: &Range<usize>) -> Self {
        let inside = self.triples().filter(|(row, column, _)| rows.contains(row) && columns.contains(column));
        Self::new(inside.map(|(row, column, weight)| (row - rows.start, column - columns.start, weight)))
    }

    /// The entries of each row that has some.
    pub fn rows(&self) -> Vec<Vec<f64>> {
        let mut rows: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        self.triples().for_each(|(row, _, weight)| rows.entry(row).or_default().push(weight));
        rows.into_values().collect()
    }

    /// The Frobenius norm.
    pub fn norm(&self) -> f64 {
        self.entries.values().map(|weight| weight * weight).sum::<f64>().sqrt()
    }

    /// Singular values that are not zero by construction, descending. Rows and columns that share no entry are blocks by
    /// themselves; one of a single row or column has its norm as its only singular value. `None` if a block is too large.
    pub fn singular_values(&self) -> Result<Option<Vec<f64>>> {
        let mut all = Vec::new();
        for block in self.blocks() {
            let rows: BTreeSet<usize> = block.triples().map(|(row, ..)| row).collect();
            let columns: BTreeSet<usize> = block.triples().map(|(_, column, _)| column).collect();
            if rows.len() == 1 || columns.len() == 1 {
                all.push(block.norm());
            } else if rows.len().max(columns.len()) > LARGEST_BLOCK {
                return Ok(None);
            } else {
                let place = |set: &BTreeSet<usize>, of: usize| set.range(..of).count();
                let mut dense = Array2::zeros((rows.len(), columns.len()));
                for (row, column, weight) in block.triples() {
                    dense[(place(&rows, row), place(&columns, column))] = weight;
                }
                all.extend(singular_values(dense.view())?);
            }
        }
        all.sort_by(|a, b| b.total_cmp(a));
        Ok(Some(all))
    }

    /// The parts that share neither rows nor columns.
    fn blocks(&self) -> Vec<Self> {
        // Rows and columns are the nodes of a graph, entries its edges; each node points to another of its part, or itself.
        let mut part: BTreeMap<(bool, usize), (bool, usize)> = BTreeMap::new();
        fn root(part: &mut BTreeMap<(bool, usize), (bool, usize)>, mut node: (bool, usize)) -> (bool, usize) {
            loop {
                let next = *part.entry(node).or_insert(node);
                if next == node {
                    return node;
                }
                let after = part[&next];
                part.insert(node, after);
                node = after;
            }
        }
        for (row, column, _) in self.triples() {
            let (a, b) = (root(&mut part, (false, row)), root(&mut part, (true, column)));
            part.insert(a, b);
        }
        let mut blocks: BTreeMap<(bool, usize), Self> = BTreeMap::new();
        for (row, column, weight) in self.triples() {
            let block = blocks.entry(root(&mut part, (false, row))).or_default();
            block.entries.insert((row, column), weight);
        }
        blocks.into_values().collect()
    }

    /// `Σ Re λ / Σ |λ|` of a square map that is triangular in some order, so that its eigenvalues are its diagonal. `None`
    /// for any other, and if they are all zero.
    pub fn eigenvalue_share(&self) -> Option<f64> {
        let mut onwards: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (row, column, _) in self.triples().filter(|(row, column, _)| row != column) {
            onwards.entry(row).or_default().insert(column);
        }
        // Rows that lead nowhere else are taken away until none is left; a cycle never goes.
        while !onwards.is_empty() {
            let before = onwards.len();
            let rows: BTreeSet<usize> = onwards.keys().copied().collect();
            onwards.retain(|_, columns| columns.iter().any(|column| rows.contains(column)));
            if onwards.len() == before {
                return None;
            }
        }
        let diagonal: Vec<f64> = self.triples().filter(|(row, column, _)| row == column).map(|(.., weight)| weight).collect();
        let size: f64 = diagonal.iter().map(|value| value.abs()).sum();
        (size > 0.0).then(|| diagonal.iter().sum::<f64>() / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn map(dense: &Array2<f64>) -> OneHotMap {
        OneHotMap::new(dense.indexed_iter().map(|((row, column), &weight)| (row, column, weight)))
    }

    #[test]
    fn products_norms_and_singular_values_are_those_of_the_matrix() {
        let a = array![[2.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.5], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
        let b = array![[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 2.0, 0.0]];
        assert_eq!(map(&a).then(&map(&b)), map(&a.dot(&b)));
        assert_eq!(map(&a).transposed(), map(&a.t().to_owned()));
        assert_eq!(map(&a).block(&(1..3), &(1..4)), map(&a.slice(ndarray::s![1..3, 1..4]).to_owned()));
        for dense in [a, b] {
            let (found, expected) = (map(&dense).singular_values().unwrap().unwrap(), singular_values(dense.view()).unwrap());
            for (index, expected) in expected.iter().enumerate() {
                assert!((found.get(index).unwrap_or(&0.0) - expected).abs() < 1e-12, "{found:?} {expected}");
            }
            assert!((map(&dense).norm() - dense.iter().map(|v| v * v).sum::<f64>().sqrt()).abs() < 1e-12);
        }
    }

    #[test]
    fn eigenvalues_are_the_diagonal_where_nothing_turns_in_a_circle() {
        let share = |dense: Array2<f64>| map(&dense).eigenvalue_share();
        assert_eq!(share(array![[1.0, 5.0], [0.0, -3.0]]), Some(-0.5));
        assert_eq!(share(array![[1.0, 0.0], [5.0, 0.0]]), Some(1.0));
        // Nilpotent, a rotation, nothing.
        assert_eq!(share(array![[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), None);
        assert_eq!(share(array![[1.0, 1.0], [-1.0, 1.0]]), None);
        assert_eq!(share(array![[0.0]]), None);
    }
}
