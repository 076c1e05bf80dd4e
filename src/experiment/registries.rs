//! What the names in an experiment file can mean.

use crate::figure::{FIGURES, Figure};
use crate::input::{INPUTS, InputKind};
use crate::kind::Kind;
use crate::measure::{MEASURES, Measure};
use crate::model::build::{MODELS, ModelKind};
use std::fmt;

/// The kinds that an experiment file can use.
///
/// For a measure of one's own see `examples/add_a_measure.rs`. A program can leave kinds out as well:
///
/// ```
/// use attn_circuits::experiment::{LoadOptions, Registries, load_str};
/// use attn_circuits::measure::MEASURES;
/// let text = "
/// title: Weights alone
/// models: { wired: { kind: wired, circuit: induction, vocab: 13, context: 25 } }
/// inputs: { repeated: { kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 } }
/// cells: [{ measure: loss }]
/// ";
/// let measures: Vec<_> = MEASURES.iter().filter(|kind| kind.name != "loss").copied().collect();
/// let registries = Registries { measures: &measures, ..Registries::standard() };
/// let load = |registries| load_str(text, "x.yaml".as_ref(), &[], &LoadOptions { registries, ..LoadOptions::default() });
/// assert!(load(Registries::standard()).is_ok() && load(registries).is_err());
/// ```
#[derive(Clone, Copy)]
pub struct Registries<'a> {
    /// What `models:` can hold.
    pub models: &'a [Kind<dyn ModelKind>],
    /// What `inputs:` can hold.
    pub inputs: &'a [Kind<dyn InputKind>],
    /// What `measure:` can name.
    pub measures: &'a [Kind<dyn Measure>],
    /// What `figure:` can name.
    pub figures: &'a [Kind<dyn Figure>],
}

impl Registries<'static> {
    /// All kinds of this crate.
    pub fn standard() -> Self {
        Self { models: MODELS, inputs: INPUTS, measures: MEASURES, figures: FIGURES }
    }
}

impl Registries<'_> {
    /// Whether these are all kinds of this crate and no other.
    pub(super) fn is_standard(&self) -> bool {
        let standard = Registries::standard();
        std::ptr::eq(self.models, standard.models)
            && std::ptr::eq(self.inputs, standard.inputs)
            && std::ptr::eq(self.measures, standard.measures)
            && std::ptr::eq(self.figures, standard.figures)
    }
}

impl fmt::Debug for Registries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries")
            .field("models", &self.models.iter().map(|kind| kind.name).collect::<Vec<_>>())
            .field("inputs", &self.inputs.iter().map(|kind| kind.name).collect::<Vec<_>>())
            .field("measures", &self.measures.iter().map(|kind| kind.name).collect::<Vec<_>>())
            .field("figures", &self.figures.iter().map(|kind| kind.name).collect::<Vec<_>>())
            .finish()
    }
}
