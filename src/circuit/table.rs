//! Circuits over tokens as tables: their largest entries, found row by row.

use super::weights::{Circuit, Circuits};
use crate::Result;
use crate::linalg::{LowRank, log_sum_exp};
use crate::model::Transformer;
use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;

/// Rows of a table that are multiplied out together: so many rows of `V` numbers are in memory for each thread. [`map_rows`]
/// shows it.
pub const BLOCK: usize = 64;

/// Entries closer than this, relative to the largest of those that are compared, are equal: weights are single precision.
const TIE: f64 = 1e-5;

/// The indices of the `top` largest values, ascending. Values closer than `tie` to the least of these are equal to it: of them the
/// first are taken, so that rounding does not choose.
///
/// ```
/// use attn_circuits::circuit::table::largest;
/// assert_eq!(largest(&[1.0, 3.0, 1.0 + 1e-9, 0.0], 2, 1e-6), vec![0, 1]);
/// ```
pub fn largest(values: &[f64], top: usize, tie: f64) -> Vec<usize> {
    if top == 0 {
        return Vec::new();
    }
    if top >= values.len() {
        return (0..values.len()).collect();
    }
    let mut sorted = values.to_vec();
    let (_, &mut least, _) = sorted.select_nth_unstable_by(top - 1, |a, b| b.total_cmp(a));
    let above = values.iter().filter(|&&value| value > least + tie).count();
    let mut equal = top - above;
    let taken = |&(_, &value): &(usize, &f64)| {
        if value > least + tie {
            return true;
        }
        let take = equal > 0 && value >= least - tie;
        equal -= usize::from(take);
        take
    };
    values.iter().enumerate().filter(taken).map(|(index, _)| index).collect()
}

/// The difference at which two entries count as equal: what rounding of the weights does to a row whose largest magnitude is
/// `largest`, where the factors of the circuit are so large that entries cancel down to `noise`. It is `1e-5 · largest + noise`.
///
/// ```
/// use attn_circuits::circuit::table::{largest, tie};
/// // The second and the third differ by less than single precision can tell: the first of them is taken.
/// let row = [8.0, 2.0, 2.00001, -1.0];
/// assert_eq!(largest(&row, 2, tie(8.0, 0.0)), [0, 1]);
/// assert_eq!(largest(&row, 2, 0.0), [0, 2]);
/// // Of a row that ought to be zero nothing is larger than the rest.
/// assert_eq!(largest(&[0.0, 1e-9, 3e-9], 1, tie(3e-9, 1e-8)), [0]);
/// ```
pub fn tie(largest: f64, noise: f64) -> f64 {
    TIE * largest + noise
}

/// The size of what is left by rounding where the entries of a circuit cancel to zero: single precision's relative error on the
/// product of the norms of all factors, of `W_E` and `W_U` those of the longest row and column.
///
/// ```
/// use attn_circuits::circuit::table::noise;
/// use attn_circuits::circuit::weights::{Circuit, Circuits};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// // W_U reads nothing of what the previous-token head writes: in a rotated model only rounding is left of that.
/// let model = notebook.model("turned", "{ kind: wired, circuit: induction, vocab: 13, context: 25, rotate: true }")?;
/// let circuits = Circuits::new(&model);
/// let largest = |circuit| -> Result<f64> {
///     Ok(circuits.low_rank(circuit)?.dense().iter().fold(0.0, |most: f64, value| most.max(value.abs())))
/// };
/// let [previous, induction] = [0, 1].map(|layer| Circuit::FullOv(HeadId::new(layer, 0)));
/// assert!(largest(previous)? < noise(&circuits, previous) && largest(induction)? > noise(&circuits, induction));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Panics
/// If the circuit is of a head that the model does not have.
pub fn noise(circuits: &Circuits, circuit: Circuit) -> f64 {
    let model = circuits.model();
    let norm = |w: ArrayView2<f32>| w.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let (embed, unembed) = circuits.longest();
    let ov = |id| norm(model.head(id).w_v) * norm(model.head(id).w_o);
    let qk = |id| norm(model.head(id).w_q) * norm(model.head(id).w_k);
    let size = match circuit {
        Circuit::Direct => embed * unembed,
        Circuit::Ov(id) => ov(id),
        Circuit::Qk(id) => qk(id),
        Circuit::FullOv(id) => embed * ov(id) * unembed,
        Circuit::FullQk(id) => embed * qk(id) * embed,
        Circuit::KComposition { from, to } | Circuit::QComposition { from, to } => embed * qk(to) * ov(from) * embed,
        Circuit::VirtualOv { from, to } => embed * ov(from) * ov(to) * unembed,
    };
    size * f64::from(f32::EPSILON)
}

/// Calls `read` with the index and the values of every row of the product, in parallel; the results come in the order of the rows.
/// [`BLOCK`] rows are multiplied out at once.
///
/// ```
/// use attn_circuits::circuit::table::{BLOCK, map_rows};
/// use attn_circuits::linalg::LowRank;
/// use ndarray::{Array2, array};
/// // A multiplication table of 1, 2 and 3, several blocks long.
/// let rows = 3 * BLOCK + 5;
/// let numbers = Array2::from_shape_fn((rows, 1), |(row, _)| row as f64);
/// let table = LowRank::new(numbers, array![[1.0, 2.0, 3.0]])?;
/// let sums = map_rows(&table, |row, values| (row, values.sum()));
/// assert!(sums.iter().enumerate().all(|(row, &found)| found == (row, 6.0 * row as f64)) && sums.len() == rows);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
pub fn map_rows<T: Send>(product: &LowRank, read: impl Fn(usize, ArrayView1<f64>) -> T + Sync) -> Vec<T> {
    let rows = product.dim().0;
    let starts: Vec<usize> = (0..rows).step_by(BLOCK).collect();
    let of_block = |&start: &usize| {
        let block = product.rows(start..(start + BLOCK).min(rows));
        block.rows().into_iter().enumerate().map(|(row, values)| read(start + row, values)).collect::<Vec<_>>()
    };
    starts.par_iter().flat_map_iter(of_block).collect()
}

/// An entry of a table; [`entries`] and [`bigrams`] make them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The token of the row.
    pub row: usize,
    /// The token of the column.
    pub column: usize,
    /// What stands there.
    pub value: f64,
}

/// Which entries of a circuit's table are wanted: all by default. A mean that is taken off ([`Wanted::centered`]) is that of the
/// whole row, whatever the columns.
///
/// ```
/// use attn_circuits::circuit::table::{Wanted, entries};
/// use attn_circuits::circuit::weights::{Circuit, Circuits};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("random", "{ kind: random, layers: 1, heads: 1, d_model: 8, vocab: 10, context: 12 }")?;
/// let (circuits, circuit) = (Circuits::new(&model), Circuit::FullOv(HeadId::new(0, 0)));
/// let rows = entries(&circuits, circuit, Wanted { rows: Some(&[2, 7]), centered: true, ..Wanted::default() })?;
/// let sum = |of: usize| rows.iter().filter(|entry| entry.row == of).map(|entry| entry.value).sum::<f64>();
/// assert!(rows.len() == 20 && sum(2).abs() < 1e-12 && sum(7).abs() < 1e-12);
/// // Two columns of ten, and the larger entry of each row.
/// let few = entries(&circuits, circuit, Wanted { columns: Some(&[0, 4]), top: Some(1), ..Wanted::default() })?;
/// assert!(few.len() == 10 && few.iter().all(|entry| [0, 4].contains(&entry.column)));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The tokens of the rows, ascending; all without a list.
    pub rows: Option<&'a [usize]>,
    /// The tokens of the columns, ascending; all without a list.
    pub columns: Option<&'a [usize]>,
    /// So many of each row, the largest among the columns that are wanted; all without a number. Ties go to the first, by [`tie`]
    /// and [`noise`].
    pub top: Option<usize>,
    /// Each row minus its mean over all columns.
    pub centered: bool,
}

/// The entries of a circuit over tokens, by row, then column. (Of a circuit between vectors of the stream rows and columns are
/// coordinates.)
///
/// ```
/// use attn_circuits::circuit::table::{Wanted, entries};
/// use attn_circuits::circuit::weights::{Circuit, Circuits};
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 5, context: 9, scale: 3 }")?;
/// // The induction head raises the token that it attends to, by γ = 3.
/// let circuit = Circuit::FullOv(HeadId::new(1, 0));
/// let found = entries(&Circuits::new(&model), circuit, Wanted { top: Some(1), ..Wanted::default() })?;
/// assert_eq!(found.len(), 5);
/// assert!(found.iter().all(|entry| entry.row == entry.column && (entry.value - 3.0).abs() < 1e-6));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// Those of [`Circuits::low_rank`]: none that a model's own heads can cause.
///
/// # Panics
/// If a token is out of range, or the circuit is of a head that the model does not have.
pub fn entries(circuits: &Circuits, circuit: Circuit, wanted: Wanted) -> Result<Vec<Entry>> {
    let mut product = circuits.low_rank(circuit)?;
    if wanted.centered {
        product = product.centered_rows();
    }
    let product = product.select(wanted.rows, wanted.columns);
    let token = |list: Option<&[usize]>, index: usize| list.map_or(index, |list| list[index]);
    let noise = noise(circuits, circuit);
    let of_row = map_rows(&product, |row, values| {
        let values = values.to_vec();
        let largest_magnitude = values.iter().fold(0.0, |max: f64, value| max.max(value.abs()));
        let columns = largest(&values, wanted.top.unwrap_or(values.len()), tie(largest_magnitude, noise));
        let row = token(wanted.rows, row);
        let entry = |column| Entry { row, column: token(wanted.columns, column), value: values[column] };
        columns.into_iter().map(entry).collect::<Vec<_>>()
    });
    Ok(of_row.into_iter().flatten().collect())
}

/// The `top` largest entries of each row of `W_E W_U + b_U`, minus the row's mean, with the probability that the row's softmax gives
/// them: by token, then next token. `chosen`: the tokens, ascending; all without a list.
///
/// Of a model without layers, `W_E W_U` is all there is (Elhage et al. 2021, "Zero-layer transformers").
///
/// ```
/// use attn_circuits::chain::ChainKind;
/// use attn_circuits::circuit::table::bigrams;
/// # use attn_circuits::prelude::*;
/// # use attn_circuits::stream::Stream;
/// # let mut notebook = Notebook::new("example")?;
/// // A model that is a bigram chain: the probabilities are the chain's. Both are drawn from seed 0.
/// let model = notebook.model("bigram", "{ kind: bigram, chain: { sharpness: 2 }, vocab: 6, context: 8 }")?;
/// let chain = ChainKind { sharpness: 2.0, ..ChainKind::default() }.draw(6, &Stream::new(0))?;
/// let found = bigrams(&model, Some(&[1, 4]), 6)?;
/// assert_eq!(found.len(), 12);
/// for (entry, probability) in found {
///     assert!((probability - chain.log_probabilities()[(entry.row, entry.column)].exp()).abs() < 1e-5);
/// }
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// None that a model's own weights can cause.
///
/// # Panics
/// If a token is out of range.
pub fn bigrams(model: &Transformer, chosen: Option<&[usize]>, top: usize) -> Result<Vec<(Entry, f64)>> {
    let circuits = Circuits::new(model);
    let product = circuits.low_rank(Circuit::Direct)?.centered_rows().select(chosen, None);
    let bias = model.b_u().map(|b_u| b_u.mapv(f64::from));
    let bias = bias.map(|b_u| &b_u - b_u.mean().unwrap_or(0.0));
    let noise = noise(&circuits, Circuit::Direct);
    let of_row = map_rows(&product, |row, values| {
        let values = bias.as_ref().map_or_else(|| values.to_owned(), |bias| &values + bias).to_vec();
        let size = values.iter().fold(0.0, |max: f64, value| max.max(value.abs()));
        let normalizer = log_sum_exp(ArrayView1::from(&values));
        let row = chosen.map_or(row, |chosen| chosen[row]);
        let entry = |column| (Entry { row, column, value: values[column] }, (values[column] - normalizer).exp());
        largest(&values, top, tie(size, noise)).into_iter().map(entry).collect::<Vec<_>>()
    });
    Ok(of_row.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::TokenBatch;
    use crate::circuit::testing::model;
    use crate::linalg::softmax;
    use crate::model::Keep;
    use ndarray::{Array1, array};
    use serde_json::json;

    #[test]
    fn ties_go_to_the_first_and_rounding_does_not_choose() {
        let values = [0.5, 2.0, 0.5 + 1e-9, 0.5 - 1e-9, 1.0];
        assert_eq!(largest(&values, 3, 1e-6), vec![0, 1, 4]);
        assert_eq!(largest(&values, 4, 1e-6), vec![0, 1, 2, 4]);
        assert_eq!(largest(&values, 3, 0.0), vec![1, 2, 4]);
        assert_eq!(largest(&values, 9, 1e-6).len(), 5);
        assert_eq!(largest(&values, 0, 1e-6), Vec::<usize>::new());
        assert_eq!(largest(&[], 3, 1e-6), Vec::<usize>::new());
    }

    #[test]
    fn blocks_of_rows_come_in_order() {
        let rows = 3 * BLOCK + 5;
        let a = ndarray::Array2::from_shape_fn((rows, 1), |(row, _)| row as f64);
        let product = LowRank::new(a, array![[1.0, 2.0]]).unwrap();
        let found = map_rows(&product, |row, values| (row, values.sum()));
        assert_eq!(found, (0..rows).map(|row| (row, 3.0 * row as f64)).collect::<Vec<_>>());
    }

    fn random(layers: usize, positions: &str) -> Transformer {
        let shape = json!({
            "layers": layers, "heads": 2, "d_model": 8, "d_head": 3, "vocab": 9, "context": 5, "positions": positions,
        });
        model("random", shape)
    }

    #[test]
    fn entries_are_those_of_the_multiplied_out_circuit() {
        let model = random(2, "standard");
        let circuits = Circuits::new(&model);
        let (first, second) = ("0.1".parse().unwrap(), "1.0".parse().unwrap());
        for circuit in [Circuit::Direct, Circuit::FullOv(second), Circuit::KComposition { from: first, to: second }] {
            let dense = circuits.low_rank(circuit).unwrap().dense();
            let whole = entries(&circuits, circuit, Wanted::default()).unwrap();
            assert_eq!(whole.len(), 81);
            for entry in &whole {
                assert!((entry.value - dense[(entry.row, entry.column)]).abs() < 1e-12);
            }
            let wanted = Wanted { rows: Some(&[2, 8]), columns: Some(&[0, 3, 4]), top: Some(2), centered: true };
            let few = entries(&circuits, circuit, wanted).unwrap();
            assert_eq!(few.len(), 4);
            for entry in &few {
                let mean = dense.row(entry.row).mean().unwrap();
                assert!((entry.value - (dense[(entry.row, entry.column)] - mean)).abs() < 1e-12);
                let larger = [0, 3, 4].iter().filter(|&&column| dense[(entry.row, column)] - mean > entry.value + 1e-9).count();
                assert!(larger < 2, "{entry:?}");
            }
        }
    }

    /// A model without layers and positions says what the direct path says.
    #[test]
    fn bigrams_are_what_a_model_without_layers_predicts() {
        let mut weights = random(0, "none").to_weights();
        weights.b_u = Some(Array1::from_iter((0..9).map(|token| 0.1 * token as f32)));
        let model = Transformer::new(random(0, "none").config().clone(), weights).unwrap();
        let batch = TokenBatch::new(array![[4, 7, 1]], None).unwrap();
        let logits = model.run(&batch, Keep { logits: true, ..Keep::NOTHING }).unwrap().logits.unwrap();
        let found = bigrams(&model, Some(&[1, 4, 7]), 9).unwrap();
        assert_eq!(found.len(), 27);
        for (entry, probability) in found {
            let position = [4, 7, 1].iter().position(|&token| token == entry.row).unwrap();
            let row = logits.slice(ndarray::s![0, position, ..]).mapv(f64::from);
            assert!((probability - softmax(row.view())[entry.column]).abs() < 1e-6);
            assert!((entry.value - (row[entry.column] - row.mean().unwrap())).abs() < 1e-5);
        }
    }
}
