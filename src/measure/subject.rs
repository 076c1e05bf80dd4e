//! What a measure looks at.

use crate::input::TokenBatch;
use crate::model::Transformer;
use crate::model::build::ModelKind;
use crate::stream::Stream;
use crate::{Error, Result};

/// An input that a parameter of a measure names, beside the cell's `input`. Its sequences are as long as those of `input`.
///
/// ```
/// use attn_circuits::kind::parsed;
/// use attn_circuits::measure::{Ablation, Measure};
/// // Means may be taken over as many sequences as one likes.
/// let measure: Ablation = parsed(serde_json::json!({ "reference": "much" }))?;
/// let others = measure.other_inputs();
/// assert_eq!((others[0].parameter, others[0].name, others[0].same_sequences), ("reference", "much", false));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherInput<'a> {
    /// The parameter, `corrupted`.
    pub parameter: &'static str,
    /// The name that it gives.
    pub name: &'a str,
    /// Whether there must be as many sequences as in `input`, since each is the counterpart of one there.
    pub same_sequences: bool,
}

/// What a measure looks at: one model, and what belongs to it.
///
/// ```
/// # use attn_circuits::prelude::*;
/// use attn_circuits::measure::CircuitSize;
/// # let mut notebook = Notebook::new("example")?;
/// let model = notebook.model("random", "{ kind: random, layers: 2, heads: 2, d_model: 16, vocab: 10, context: 12 }")?;
/// let subject = Subject::new(&model, None);
/// assert!(subject.input.is_none() && subject.others.is_empty() && subject.origin.is_none());
/// // The direct path, and four circuits of each head.
/// assert_eq!(CircuitSize {}.compute(&subject)?.height(), 1 + 4 * 4);
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Transformer,
    /// The tokens that it reads, for a measure that needs an input.
    pub input: Option<&'a TokenBatch>,
    /// The tokens of the [`OtherInput`]s, each with its parameter.
    pub others: Vec<(&'a str, &'a TokenBatch)>,
    /// The parameters that the model was built from, where they are known: theory starts from them.
    pub origin: Option<&'a dyn ModelKind>,
    /// The stream of the measure's own random draws: one for each cell, the same for all its models.
    pub stream: Stream,
}

impl<'a> Subject<'a> {
    /// A model that is measured outside of an experiment: without further inputs, without knowing where it comes from, and with
    /// the root stream of the seed 0.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// use attn_circuits::kind::parsed;
    /// use attn_circuits::measure::ClosedForms;
    /// use attn_circuits::model::build::{ModelKind, Wired};
    /// # use attn_circuits::model::build::BuildContext;
    /// use attn_circuits::stream::Stream;
    /// let circuit = serde_json::json!({ "circuit": "induction", "vocab": 13, "context": 25 });
    /// let wired: Wired = parsed(circuit)?;
    /// let model = wired.build(&BuildContext { base: ".".as_ref(), stream: Stream::new(0) })?;
    ///
    /// // What the model and random draws come from can be added: theory needs the first, a bootstrap the second.
    /// let unknown = Subject::new(&model, None);
    /// let known = Subject { origin: Some(&wired), stream: Stream::new(2021).child("measure"), ..unknown.clone() };
    /// let theory: ClosedForms = parsed(serde_json::json!({}))?;
    /// assert_eq!(theory.compute(&unknown)?.height(), 0);
    /// assert!(theory.compute(&known)?.height() > 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(model: &'a Transformer, input: Option<&'a TokenBatch>) -> Self {
        Self { model, input, others: Vec::new(), origin: None, stream: Stream::new(0) }
    }

    /// The same with the input that a parameter of the measure names, whatever its name.
    ///
    /// ```
    /// use attn_circuits::input::{Recipe, TokenBatch};
    /// use attn_circuits::measure::Subject;
    /// use attn_circuits::stream::Stream;
    /// # let mut notebook = attn_circuits::prelude::Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 1, heads: 1, d_model: 4, vocab: 9, context: 5 }")?;
    /// let clean = TokenBatch::new(ndarray::array![[0, 5, 3, 5, 3]], None)?;
    /// let corrupted = Recipe::OtherTokens.apply(&clean, model.config().d_vocab, &Stream::new(2021))?;
    ///
    /// let subject = Subject::new(&model, Some(&clean)).with("corrupted", &corrupted);
    /// assert_eq!(subject.counterpart("corrupted")?, &corrupted);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    #[must_use]
    pub fn with(mut self, parameter: &'a str, batch: &'a TokenBatch) -> Self {
        self.others.retain(|(taken, _)| *taken != parameter);
        self.others.push((parameter, batch));
        self
    }

    /// The input that a parameter of the measure names ([`super::Measure::other_inputs`]).
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 1, heads: 1, d_model: 4, vocab: 9, context: 5 }")?;
    /// let input = TokenBatch::new(array![[0, 5, 3]], None)?;
    /// let (more, longer) = (TokenBatch::new(array![[0, 1, 2], [0, 2, 1]], None)?, TokenBatch::new(array![[0, 1, 2, 3]], None)?);
    /// let subject = Subject::new(&model, Some(&input)).with("reference", &more).with("corrupted", &longer);
    /// assert_eq!(subject.other("reference")?, &more);
    /// assert!(subject.other("corrupted").is_err_and(|error| error.to_string().contains("4 tokens, but `input` of 3")));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, or its sequences are not as long as those of [`Subject::input`].
    pub fn other(&self, parameter: &str) -> Result<&'a TokenBatch> {
        let found = self.others.iter().find(|(of, _)| *of == parameter).map(|(_, batch)| *batch);
        let other = found.ok_or_else(|| Error::invalid(format!("this measure needs an input for its `{parameter}`")))?;
        match self.input.map(TokenBatch::length) {
            Some(length) if length != other.length() => {
                let found = other.length();
                Err(Error::invalid(format!(
                    "the input for `{parameter}` has sequences of {found} tokens, but `input` of {length}"
                )))
            }
            _ => Ok(other),
        }
    }

    /// [`Subject::other`] where each sequence is the counterpart of the one at the same place in [`Subject::input`].
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let model = notebook.model("random", "{ kind: random, layers: 1, heads: 1, d_model: 4, vocab: 9, context: 5 }")?;
    /// let (input, more) = (TokenBatch::new(array![[0, 5, 3]], None)?, TokenBatch::new(array![[0, 1, 2], [0, 2, 1]], None)?);
    /// let subject = Subject::new(&model, Some(&input)).with("corrupted", &more);
    /// assert!(subject.other("corrupted").is_ok() && subject.counterpart("corrupted").is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Subject::other`]; [`Error::Invalid`] if there are not as many sequences.
    pub fn counterpart(&self, parameter: &str) -> Result<&'a TokenBatch> {
        let other = self.other(parameter)?;
        match self.input.map(TokenBatch::sequences) {
            Some(sequences) if sequences != other.sequences() => {
                let found = other.sequences();
                Err(Error::invalid(format!("the input for `{parameter}` has {found} sequences, but `input` has {sequences}")))
            }
            _ => Ok(other),
        }
    }

    /// The input of a measure that needs one.
    pub(super) fn required_input(&self) -> Result<&'a TokenBatch> {
        self.input.ok_or_else(|| Error::invalid("this measure needs an input"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;
    use serde_json::json;

    #[test]
    fn other_inputs_are_as_long_and_counterparts_as_many() {
        let builder = Kind::find(crate::model::build::MODELS, "random").unwrap().parse;
        let builder = builder(json!({ "layers": 0, "heads": 1, "d_model": 1, "vocab": 3, "context": 9 })).unwrap();
        let context = crate::model::build::BuildContext { base: std::path::Path::new(""), stream: Stream::new(1) };
        let model = builder.build(&context).unwrap();
        let batch = |sequences, length| TokenBatch::new(ndarray::Array2::zeros((sequences, length)), None).unwrap();
        let (input, same, more, longer) = (batch(2, 3), batch(2, 3), batch(5, 3), batch(2, 4));
        let subject =
            Subject::new(&model, Some(&input)).with("a", &longer).with("a", &same).with("b", &more).with("c", &longer);
        assert!(std::ptr::eq(subject.counterpart("a").unwrap(), &same));
        assert!(std::ptr::eq(subject.other("b").unwrap(), &more));
        let error = |result: Result<&TokenBatch>| result.unwrap_err().to_string();
        assert_eq!(error(subject.counterpart("b")), "the input for `b` has 5 sequences, but `input` has 2");
        assert_eq!(error(subject.other("c")), "the input for `c` has sequences of 4 tokens, but `input` of 3");
        assert_eq!(error(subject.other("d")), "this measure needs an input for its `d`");
    }
}
