//! The mathematics on weights and caches; no tables.

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
