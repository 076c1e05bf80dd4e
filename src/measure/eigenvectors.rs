use super::columns::{INTEGER, NUMBER, check_heads, head_count, heads, integer, schema};
use super::{Cost, Measure, Subject};
use crate::Result;
use crate::circuit::weights::{Circuit, Circuits, Shared};
use crate::input::InputShape;
use crate::kind::Described;
use crate::linalg::Complex;
use crate::model::{HeadId, ModelConfig};
use ndarray::Array1;
use polars::prelude::{DataFrame, Schema, df};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// The eigenvectors of a head's full OV circuit `W_E W_OV W_U`: mixtures of tokens that the head, attending to them, maps to a
/// multiple of themselves.
///
/// `weight` is the share of a token in the mixture (the absolute values of all tokens sum to 1), `effect` what attention 1 to the
/// mixture adds to the token's logit through this head. For a real eigenvalue `effect` = `re` · `weight`: with a large positive one, a
/// mixture that makes itself more likely (Elhage et al. 2021, "Copying matrices and eigenvalues"). Of a complex one, which stands for
/// a rotation within a plane, the real part of the vector is shown. `re`, `im` and `index` are those of the measure `eigenvalues`,
/// descending in magnitude. A vector has `top` rows, those of its heaviest tokens, heaviest first (nearly equal ones: by token).
///
/// An eigenvector has no length and no sign of its own: the token that lies most within it has a positive weight. Where several
/// eigenvalues are equal (to 1e-5), `multiplicity` of them, any mixture of their vectors is an eigenvector: the first
/// one shown is then the part of one token that lies within their space, of the token that lies there most (of nearly equal
/// ones, the lowest), the next is the same in what is left, and so on. A vector has one row without token, weight and effect where
/// there is none: the eigenvalue is 0, there are fewer vectors than equal eigenvalues, or two are so close that rounding
/// would decide (to 1e-3).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Eigenvectors {
    /// Which heads, as in `["0.3", "1.0"]` (layer, head); default: all.
    #[serde(default)]
    #[schemars(length(min = 1))]
    heads: Option<Vec<String>>,
    /// How many eigenvectors of each head, by descending magnitude of the eigenvalue. Default: 1.
    #[serde(default = "default_count")]
    #[schemars(range(min = 1))]
    count: usize,
    /// How many tokens of each eigenvector. Default: 10.
    #[serde(default = "default_top")]
    #[schemars(range(min = 1))]
    top: usize,
}

fn default_count() -> usize {
    1
}

fn default_top() -> usize {
    10
}

/// One row of the table after `layer` and `head`.
struct Row {
    head: HeadId,
    index: usize,
    value: Complex,
    multiplicity: usize,
    token: Option<(usize, f64, f64)>,
}

/// Weights closer than this, of a sum of 1, count as equal when the heaviest tokens are chosen.
const TIE: f64 = 1e-5;

/// The indices of the `top` largest magnitudes, descending; nearly equal ones by index.
fn heaviest(weights: &Array1<f64>, top: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&i, &j| weights[j].abs().total_cmp(&weights[i].abs()).then(i.cmp(&j)));
    order.chunk_by_mut(|&i, &j| weights[i].abs() - weights[j].abs() <= TIE).for_each(|equal| equal.sort_unstable());
    order.truncate(top);
    order
}

impl Eigenvectors {
    fn of_head(&self, circuits: &Circuits, head: HeadId) -> Result<Vec<Row>> {
        let product = circuits.low_rank(Circuit::FullOv(head))?;
        let any = circuits.norm_if_any(Circuit::FullOv(head))?.is_some();
        let mut rows = Vec::new();
        for (index, pair) in product.left_eigenvectors(self.count)?.into_iter().enumerate() {
            let row = |token| Row { head, index, value: pair.value, multiplicity: pair.multiplicity, token };
            let vector = pair.vector.as_ref().filter(|_| any);
            let Some(vector) = vector else {
                rows.push(row(None));
                continue;
            };
            let weights = vector.mapv(|z| z.re);
            let effects = product.apply(weights.view())?;
            rows.extend(heaviest(&weights, self.top).into_iter().map(|t| row(Some((t, weights[t], effects[t])))));
        }
        Ok(rows)
    }
}

impl Described for Eigenvectors {
    const NAME: &'static str = "eigenvectors";
    const EXAMPLE: &'static str = "- measure: eigenvectors\n  heads: [\"1.0\"]\n  count: 3\n";
}

impl Measure for Eigenvectors {
    fn columns(&self) -> Schema {
        schema([
            ("layer", INTEGER),
            ("head", INTEGER),
            ("index", INTEGER),
            ("re", NUMBER),
            ("im", NUMBER),
            ("token", INTEGER),
            ("weight", NUMBER),
            ("effect", NUMBER),
            ("multiplicity", INTEGER),
        ])
    }

    fn needs_input(&self) -> bool {
        false
    }

    fn check(&self, model: &ModelConfig, _: Option<&InputShape>) -> Result<()> {
        check_heads("heads", model, self.heads.as_deref())
    }

    fn cost(&self, model: &ModelConfig, _: Option<&InputShape>) -> Cost {
        let heads = head_count(model, self.heads.as_deref());
        let vectors = heads.saturating_mul(self.count.min(model.d_head));
        // Both factors over tokens, a copy of the left one to decompose, and one complex vector after the other.
        let factors = model.d_vocab.saturating_mul(model.d_head.saturating_mul(4).saturating_add(8));
        let of_thread = factors.saturating_mul(size_of::<f64>()).saturating_mul(rayon::current_num_threads());
        let bytes = super::circuits::bytes(model).saturating_add(of_thread);
        Cost { rows: vectors.saturating_mul(self.top.min(model.d_vocab)), bytes }
    }

    fn compute(&self, subject: &Subject) -> Result<DataFrame> {
        let model = subject.model;
        let heads = heads(model.config(), self.heads.as_deref())?;
        let circuits = Circuits::new(model);
        circuits.prepare(&heads.iter().map(|&head| Circuit::FullOv(head)).collect::<Vec<_>>(), Shared::Norms);
        let rows: Vec<Vec<Row>> = heads.par_iter().map(|&head| self.of_head(&circuits, head)).collect::<Result<_>>()?;
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        Ok(df!(
            "layer" => rows.iter().map(|row| integer(row.head.layer)).collect::<Vec<_>>(),
            "head" => rows.iter().map(|row| integer(row.head.head)).collect::<Vec<_>>(),
            "index" => rows.iter().map(|row| integer(row.index)).collect::<Vec<_>>(),
            "re" => rows.iter().map(|row| row.value.re).collect::<Vec<_>>(),
            "im" => rows.iter().map(|row| row.value.im).collect::<Vec<_>>(),
            "token" => rows.iter().map(|row| row.token.map(|(token, ..)| integer(token))).collect::<Vec<_>>(),
            "weight" => rows.iter().map(|row| row.token.map(|(_, weight, _)| weight)).collect::<Vec<_>>(),
            "effect" => rows.iter().map(|row| row.token.map(|(.., effect)| effect)).collect::<Vec<_>>(),
            "multiplicity" => rows.iter().map(|row| integer(row.multiplicity)).collect::<Vec<_>>(),
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_tokens_come_first_and_nearly_equal_ones_by_number() {
        let weights = ndarray::array![0.2, -0.4, 0.1 + 1e-9, 0.1, 0.2 + 1e-9];
        assert_eq!(heaviest(&weights, 4), [1, 0, 4, 2]);
        assert_eq!(heaviest(&weights, 9), [1, 0, 4, 2, 3]);
    }
}
