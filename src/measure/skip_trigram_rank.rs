use super::columns::{INTEGER, NUMBER, TEXT, check_heads, head_count, heads, integer, schema, tokens};
use super::{Cost, Measure, Subject, bytes_of};
use crate::circuit::skip_trigram_rank::{MOST_DESTINATIONS, Reach, Together, Wish, check_destinations, wished};
use crate::circuit::weights::Circuits;
use crate::input::InputShape;
use crate::kind::Described;
use crate::model::{HeadId, ModelConfig};
use crate::{Error, Result};
use polars::prelude::{DataFrame, Schema, df};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// How many heads it takes to say different things after different destinations: the rank of what a source does.
///
/// What a head does for a source token is a table [destination, out] of rank one: attention of each destination times the source's row
/// of the full OV circuit. So one head that raises a … b → c and a … b′ → c′ raises a … b → c′ and a … b′ → c too (Elhage et al. 2021,
/// "skip-trigram bugs"). Several heads add up to a table of as many ranks as there are heads.
///
/// `of` says whose table it is. `model`: what `heads` do together for the source over all destinations and outs, rows centred, as in
/// `skip_trigrams`. `target`: what is wished for the source, rows centred. `reached`: the model's table, where wishes are, against the
/// target. `heads` is the number r of heads that are allowed. `singular_value` is the r-th of the table, in logits. `residual` is the
/// part of the table's Frobenius norm that the best table of rank r leaves (Eckart and Young): no r heads come nearer. For `reached` it
/// is the norm of the difference from the target over that of the target.
///
/// `nats` is a cost in prediction, mean over the destinations that are wished for: the divergence KL(wanted ‖ said) of two
/// distributions over the vocabulary, wanted = softmax of the wishes. For `target` with r heads it is the least that can be had if each
/// destination attends to the source fully with one of the heads, or with none, which says all tokens alike: those that share a head
/// get the mean of their distributions. (Heads that attend in degrees can do a little better, at the price of large weights.) For
/// `reached` said is the softmax of the model's own table; the direct path and all else is left out. `nats` is null for `model`, and
/// `residual` is null where there is nothing to reach.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SkipTrigramRank {
    /// Which heads act together, as in `["0.0", "0.1"]` (layer, head); default: those of layer 0.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// Sources whose table of the model is wanted; default: those of the target, or all tokens.
    #[serde(default)]
    #[schemars(length(min = 1))]
    sources: Option<Vec<usize>>,
    /// What is wished: by how much the logit of `out` should rise at `destination` where `source` stands before. Outs that are not named
    /// should not rise. At most ten destinations for a source.
    #[serde(default)]
    #[schemars(length(min = 1))]
    target: Option<Vec<WishParameter>>,
}

/// One wish.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WishParameter {
    /// The token that stands somewhere before.
    source: usize,
    /// The token that attends to it.
    destination: usize,
    /// The token that should come.
    out: usize,
    /// How much its logit should rise.
    #[schemars(range(min = -1e6, max = 1e6))]
    value: f64,
}

impl SkipTrigramRank {
    fn heads(&self, model: &ModelConfig) -> Result<Vec<HeadId>> {
        match &self.heads {
            Some(list) => heads(model, Some(list)),
            None => Ok(model.heads().filter(|id| id.layer == 0).collect()),
        }
    }

    fn wishes(&self) -> impl Iterator<Item = Wish> + '_ {
        let wish = |w: &WishParameter| Wish { source: w.source, destination: w.destination, out: w.out, value: w.value };
        self.target.iter().flatten().map(wish)
    }

    /// Sources whose own table is wanted, ascending; all without a list.
    fn sources(&self, model: &ModelConfig) -> Result<Option<Vec<usize>>> {
        match (&self.sources, &self.target) {
            (None, Some(_)) => Ok(Some(self.wishes().map(|wish| wish.source).collect::<BTreeSet<_>>().into_iter().collect())),
            (list, _) => tokens("sources", model, list.as_deref()),
        }
    }

    /// The destinations that are wished for each source.
    fn destinations(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let mut all: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for wish in self.wishes() {
            all.entry(wish.source).or_default().insert(wish.destination);
        }
        all
    }
}

impl Described for SkipTrigramRank {
    const NAME: &'static str = "skip_trigram_rank";
    const EXAMPLE: &'static str = "\
- measure: skip_trigram_rank
  target:
    - { source: 1, destination: 2, out: 4, value: 10 }
    - { source: 1, destination: 3, out: 5, value: 10 }
";
}

impl Measure for SkipTrigramRank {
    fn columns(&self) -> Schema {
        schema([
            ("of", TEXT),
            ("source", INTEGER),
            ("heads", INTEGER),
            ("singular_value", NUMBER),
            ("residual", NUMBER),
            ("nats", NUMBER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())?;
        self.sources(model)?;
        let mut seen = BTreeSet::new();
        for (index, wish) in self.wishes().enumerate() {
            for (name, token) in [("source", wish.source), ("destination", wish.destination), ("out", wish.out)] {
                if token >= model.d_vocab {
                    let text =
                        format!("there is no token {token}: the vocabulary has {} tokens, counted from 0", model.d_vocab);
                    return Err(Error::parameter(format!("target[{index}].{name}"), text));
                }
            }
            if !(-1e6..=1e6).contains(&wish.value) {
                let text = format!("a wished rise must lie between -1000000 and 1000000, and is {}", wish.value);
                return Err(Error::parameter(format!("target[{index}].value"), text));
            }
            if !seen.insert((wish.source, wish.destination, wish.out)) {
                let text = "the same source, destination and out are wished twice: keep one of the two";
                return Err(Error::parameter(format!("target[{index}]"), text));
            }
        }
        for (source, destinations) in self.destinations() {
            check_destinations(source, destinations.len()).map_err(|error| Error::parameter("target", error.to_string()))?;
        }
        Ok(())
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let of_first_layer = if model.n_layers == 0 { 0 } else { model.n_heads };
        let heads = self.heads.as_deref().map_or(of_first_layer, |list| head_count(model, Some(list)));
        let own = self.sources(model).ok().flatten().map_or(model.d_vocab, |sources| sources.len());
        let wished = self.destinations().values().map(|destinations| destinations.len() + 2).sum::<usize>();
        let rows = own.saturating_mul(heads.saturating_add(1)).saturating_add(wished);
        // The embeddings in double precision while a head's factors are made; those of all heads; tables in work.
        let factors = bytes_of::<f64>(&[2, model.d_vocab, model.d_model.saturating_add(heads.saturating_mul(model.d_head))]);
        let tables = bytes_of::<f64>(&[rayon::current_num_threads(), model.d_vocab, heads.saturating_mul(6)]);
        let targets =
            bytes_of::<f64>(&[3, MOST_DESTINATIONS + 2, model.d_vocab]).saturating_mul(usize::from(self.target.is_some()));
        let bytes = [tables, targets, rows.saturating_mul(150)].into_iter().fold(factors, usize::saturating_add);
        Cost { rows, bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model.config();
        self.check(model, None)?;
        let circuits = Circuits::new(subject.model);
        let heads = self.heads(model)?;
        let sources = self.sources(model)?;
        let source = |index: usize| sources.as_ref().map_or(index, |sources| sources[index]);
        let own = Together::new(&circuits, &heads, sources.as_deref())?.reaches()?;
        let wished = wished(&circuits, &heads, &self.wishes().collect::<Vec<_>>())?;

        let of_model = own.into_iter().enumerate().flat_map(|(index, reaches)| reaches.into_iter().map(move |r| (index, r)));
        let mut rows: Vec<(&str, usize, Reach)> = of_model.map(|(index, reach)| ("model", source(index), reach)).collect();
        rows.extend(wished.iter().map(|found| ("reached", found.source, found.reached)));
        for found in &wished {
            rows.extend(found.reachable.iter().map(|&reach| ("target", found.source, reach)));
        }
        Ok(df!(
            "of" => rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            "source" => rows.iter().map(|row| integer(row.1)).collect::<Vec<_>>(),
            "heads" => rows.iter().map(|row| integer(row.2.heads)).collect::<Vec<_>>(),
            "singular_value" => rows.iter().map(|row| row.2.singular_value).collect::<Vec<_>>(),
            "residual" => rows.iter().map(|row| row.2.residual).collect::<Vec<_>>(),
            "nats" => rows.iter().map(|row| row.2.nats).collect::<Vec<_>>(),
        )?)
    }
}
