//! The mathematics on weights and caches; no tables.
//!
//! | module | what it answers |
//! | --- | --- |
//! | [`weights`] | the QK and OV circuits as low-rank products: norms, singular values, eigenvalues |
//! | [`composition`], [`components`] | how much of what one head writes another one reads, and in which directions |
//! | [`copying`] | whether a circuit maps tokens to themselves |
//! | [`table`], [`skip_trigrams`], [`skip_trigram_rank`] | which tokens circuits raise, after which, and with how many heads |
//! | [`head_scores`], [`virtual_heads`] | what attention patterns are like, of heads and of pairs of them |
//! | [`loss`], [`paths`], [`token_swap`] | what a model predicts, through which paths, and what it does with another token |
//! | [`sweep`], [`bootstrap`] | what interventions change, and how sure that is |
//! | [`closed_forms`], [`detection`] | what theory says, and which measure finds what is known to be there |
//!
//! ```
//! use attn_circuits::circuit::composition::composition;
//! use attn_circuits::circuit::copying::copying_score;
//! use attn_circuits::circuit::weights::{Circuit, Circuits};
//! # use attn_circuits::prelude::*;
//! # let mut notebook = Notebook::new("example")?;
//! let model = notebook.model("wired", "{ kind: wired, circuit: induction, vocab: 13, context: 25 }")?;
//! // The later head reads, through its keys, what the earlier one writes, looks for its own token there, and copies.
//! let (from, to) = (HeadId::new(0, 0), HeadId::new(1, 0));
//! let composed = composition(&model)?.into_iter().find(|pair| pair.channel == Channel::K).and_then(|pair| pair.value);
//! assert!(composed.is_some_and(|value| (value.alignment - 1.0).abs() < 1e-5));
//! let circuits = Circuits::new(&model);
//! for circuit in [Circuit::KComposition { from, to }, Circuit::FullOv(to)] {
//!     assert!(copying_score(&circuits, circuit)?.is_some_and(|score| (score - 1.0).abs() < 1e-4));
//! }
//! # Ok::<(), attn_circuits::Error>(())
//! ```

pub mod bootstrap;
pub mod closed_forms;
pub mod components;
pub mod composition;
pub mod copying;
pub mod detection;
pub mod head_scores;
pub mod loss;
pub mod paths;
pub mod skip_trigram_rank;
pub mod skip_trigrams;
pub mod sweep;
pub mod table;
pub mod token_swap;
pub mod virtual_heads;
pub mod weights;

#[cfg(test)]
mod testing {
    use crate::kind::Kind;
    use crate::model::Transformer;
    use crate::model::build::{BuildContext, MODELS, ModelKind};
    use crate::stream::Stream;
    use serde_json::Value;
    use std::path::Path;

    /// A model from the parameters of its kind.
    pub fn model(kind: &str, parameters: Value) -> Transformer {
        let kind = Kind::<dyn ModelKind>::find(MODELS, kind).unwrap();
        let context = BuildContext { base: Path::new(""), stream: Stream::new(4).child("circuits") };
        (kind.parse)(parameters).unwrap().build(&context).unwrap()
    }
}
