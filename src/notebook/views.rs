//! What a model computes and what it is, ready to be looked at.

use crate::batch::TokenBatch;
use crate::circuit::table::{self, Wanted};
use crate::circuit::weights::{Circuit, Circuits};
use crate::figure::{Drawing, FIGURES, Figure, MOST_FACETS, Style};
use crate::kind::Kind;
use crate::measure::{MEASURES, Measure, Subject};
use crate::model::{HeadId, Transformer};
use crate::{Error, Result};
use polars::prelude::{Column, DataFrame};
use serde_json::json;

/// Circuits over more tokens are shown as a table: a matrix of them would be grey.
const LARGEST_MATRIX: usize = 100;

/// Where heads look in one sequence: it shows itself as lower triangles with the tokens on both axes.
#[derive(Clone, Debug)]
pub struct AttentionView {
    /// `layer, head, sequence, destination, source, destination_token, source_token, value`: the measure `attention`.
    pub table: DataFrame,
    /// The figure `attention` of it.
    pub drawing: Drawing,
}

/// A circuit over tokens: it shows itself as a matrix with the tokens on both axes, or as a table if there are more than 100.
#[derive(Clone, Debug)]
pub struct CircuitView {
    /// `row_token, column_token, value`, by row.
    pub table: DataFrame,
    /// The figure `circuit_matrix` of it.
    pub drawing: Option<Drawing>,
}

/// The attention patterns of some heads in the sequence at `sequence` (from 0) of a batch: what the measure and the figure
/// `attention` say. With no `heads`, of all, which must not be more than 24.
///
/// ```
/// use attn_circuits::prelude::*;
/// let mut notebook = Notebook::new("Patterns")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
/// let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 1, period: 10, repeats: 3 }")?;
/// let patterns = attention(&model, &tokens, 0, &[HeadId::new(0, 0)])?;
/// assert!(patterns.drawing.svg.contains("head 0.0"));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if the model has no such head or cannot read the batch, or the batch has no such sequence;
/// [`Error::Figure`] if there are too many heads.
pub fn attention(model: &Transformer, batch: &TokenBatch, sequence: usize, heads: &[HeadId]) -> Result<AttentionView> {
    let names: Vec<_> = heads.iter().map(HeadId::to_string).collect();
    let all = model.config().n_layers * model.config().n_heads;
    if heads.is_empty() && all > MOST_FACETS {
        return Err(Error::Figure(format!(
            "the model has {all} heads, and {MOST_FACETS} fit in one figure: name some of them"
        )));
    }
    let parameters = json!({ "sequences": [sequence], "heads": if heads.is_empty() { None } else { Some(&names) } });
    let measure: Box<dyn Measure> = Kind::make(MEASURES, "measure", "attention", parameters)?;
    measure.check(model.config(), Some(&crate::input::InputShape::of(batch)))?;
    let table = measure.compute(&Subject::new(model, Some(batch)))?;
    let figure: Box<dyn Figure> = Kind::make(FIGURES, "figure", "attention", json!({}))?;
    let title = match heads {
        [] => "Where the heads look".to_string(),
        [head] => format!("Where head {head} looks"),
        _ => format!("Where heads {} look", names.join(", ")),
    };
    let drawing = figure.draw(&table, &title, &Style::default())?;
    Ok(AttentionView { table, drawing })
}

/// What a circuit is called, and its rows and columns.
fn words(circuit: Circuit) -> (String, &'static str, &'static str) {
    const SOURCE: &str = "token attended to";
    const DESTINATION: &str = "token at the destination";
    const NEXT: &str = "token whose logit changes";
    match circuit {
        Circuit::Direct => ("The direct path: what a token makes likely next".into(), "token", NEXT),
        Circuit::FullOv(head) => (format!("Full OV circuit of head {head}: what attending to a token does"), SOURCE, NEXT),
        Circuit::FullQk(head) => (format!("Full QK circuit of head {head}: what it wants to attend to"), DESTINATION, SOURCE),
        Circuit::KComposition { from, to } => {
            (format!("What head {from} adds to the keys of head {to}"), DESTINATION, "token that the earlier head moved")
        }
        Circuit::QComposition { from, to } => {
            (format!("What head {from} adds to the queries of head {to}"), "token that the earlier head moved", SOURCE)
        }
        Circuit::VirtualOv { from, to } => (format!("OV circuits of heads {from} and {to} in sequence"), SOURCE, NEXT),
        Circuit::Ov(head) => (format!("W_OV of head {head}"), "", ""),
        Circuit::Qk(head) => (format!("W_QK of head {head}"), "", ""),
    }
}

/// A circuit over tokens `[V, V]`, multiplied out, from the weights alone: positions, biases and LayerNorm are left out, and QK
/// circuits are not divided by the scale of the scores. A vocabulary that is too large for a matrix comes as a table, with the ten
/// largest entries of each row.
///
/// ```
/// use attn_circuits::prelude::*;
/// let mut notebook = Notebook::new("Circuits")?;
/// let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 17, context: 31 }")?;
/// let copying = circuit(&model, Circuit::FullOv(HeadId::new(1, 0)))?;
/// assert_eq!(copying.table.height(), 17 * 17);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
///
/// # Errors
/// [`Error::Invalid`] if the model has no such head, or the circuit is one between coordinates of the stream
/// ([`Circuit::is_over_tokens`]).
pub fn circuit(model: &Transformer, circuit: Circuit) -> Result<CircuitView> {
    let (reads, writes) = circuit.heads();
    match (writes, reads) {
        (Some(from), Some(to)) => model.config().check_edge(from, to)?,
        (one, other) => one.or(other).map_or(Ok(()), |head| model.config().check_head(head))?,
    }
    if !circuit.is_over_tokens() {
        let text = "this circuit goes between coordinates of the stream, whose entries are different in every basis: look at \
                    `Circuit::FullOv` or `Circuit::FullQk`, or at eigenvalues and singular values";
        return Err(Error::invalid(text));
    }
    let d_vocab = model.config().d_vocab;
    let top = (d_vocab > LARGEST_MATRIX).then_some(10);
    let entries = table::entries(&Circuits::new(model), circuit, Wanted { top, ..Wanted::default() })?;
    let tokens = |of: fn(&table::Entry) -> usize| entries.iter().map(|entry| of(entry) as i64).collect::<Vec<_>>();
    let columns = vec![
        Column::new("row_token".into(), tokens(|entry| entry.row)),
        Column::new("column_token".into(), tokens(|entry| entry.column)),
        Column::new("value".into(), entries.iter().map(|entry| entry.value).collect::<Vec<_>>()),
    ];
    let table = DataFrame::new(entries.len(), columns)?;
    if top.is_some() {
        return Ok(CircuitView { table, drawing: None });
    }
    let (title, y_label, x_label) = words(circuit);
    let labels = json!({ "x_label": x_label, "y_label": y_label });
    let figure: Box<dyn Figure> = Kind::make(FIGURES, "figure", "circuit_matrix", labels)?;
    let drawing = Some(figure.draw(&table, &title, &Style::default())?);
    Ok(CircuitView { table, drawing })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notebook::Notebook;

    fn wired(vocab: usize) -> Transformer {
        let model = format!("{{ kind: random, layers: 2, heads: 2, d_model: 8, vocab: {vocab}, context: 9 }}");
        Notebook::new("Views").unwrap().model("small", &model).unwrap()
    }

    #[test]
    fn what_a_model_does_not_have_is_refused() {
        let model = wired(5);
        let message = |of| circuit(&model, of).unwrap_err().to_string();
        let (early, late) = (HeadId::new(0, 1), HeadId::new(1, 0));
        assert_eq!(
            message(Circuit::FullOv(HeadId::new(2, 0))),
            "there is no head 2.0: the model has 2 layers of 2 heads, counted from 0"
        );
        assert_eq!(
            message(Circuit::VirtualOv { from: late, to: early }),
            "head 0.1 does not read what 1.0 writes: it is in no later layer"
        );
        assert!(message(Circuit::Ov(early)).contains("look at `Circuit::FullOv`"));
        let batch = TokenBatch::new(ndarray::array![[0, 4, 2]], None).unwrap();
        let message = |sequence, head| attention(&model, &batch, sequence, &[head]).unwrap_err().to_string();
        assert!(message(0, HeadId::new(0, 2)).contains("there is no head 0.2"), "{}", message(0, HeadId::new(0, 2)));
        assert!(message(1, early).contains("sequence"), "{}", message(1, early));
    }

    #[test]
    fn a_circuit_over_many_tokens_is_a_table() {
        let of = Circuit::FullQk(HeadId::new(1, 1));
        let small = circuit(&wired(7), of).unwrap();
        assert!(small.drawing.is_some() && small.table.height() == 49);
        let large = circuit(&wired(300), of).unwrap();
        assert!(large.drawing.is_none() && large.table.height() == 3000);
    }
}
