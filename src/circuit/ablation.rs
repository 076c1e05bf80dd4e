//! Ablation: what the loss becomes when one head is taken out.

use super::loss::{ByPosition, mean_over_sequences, predictions};
use crate::Result;
use crate::batch::TokenBatch;
use crate::model::{Cache, HeadId, Keep, Steer, Transformer};
use ndarray::{Array1, Array2, Array3, ArrayView4, ArrayViewMut2, Axis, s};

/// What the head's `z` is replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Its mean over sequences and positions of the batch.
    Mean,
    /// At each position, its mean over the sequences of the batch.
    MeanPerPosition,
    /// Zero.
    Zero,
}

impl Method {
    /// In the order of their names.
    pub const ALL: [Self; 3] = [Self::Mean, Self::MeanPerPosition, Self::Zero];

    /// `mean`, `mean_per_position`, `zero`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanPerPosition => "mean_per_position",
            Self::Zero => "zero",
        }
    }
}

/// What happens to the attention patterns of later layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Patterns {
    /// They stay as they were: only what passes through values changes.
    Frozen,
    /// They are computed anew from the changed stream.
    Recomputed,
}

impl Patterns {
    /// In the order of their names.
    pub const ALL: [Self; 2] = [Self::Frozen, Self::Recomputed];

    /// `frozen`, `recomputed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Recomputed => "recomputed",
        }
    }
}

/// One intervention: which heads, replaced by what, with what downstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ablation {
    /// The heads that are taken out together.
    pub heads: Vec<HeadId>,
    /// What replaces their `z`.
    pub method: Method,
    /// What happens downstream.
    pub patterns: Patterns,
}

/// Loss and accuracy of the model as it is, and under each intervention in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Ablations {
    /// The model as it is.
    pub clean: ByPosition,
    /// Under each intervention, in the order asked.
    pub ablated: Vec<ByPosition>,
}

/// Means of `z` over the batch, per layer.
struct Means {
    /// `[n, H, k]`
    per_position: Vec<Array3<f64>>,
    /// `[H, k]`
    overall: Vec<Array2<f64>>,
}

impl Means {
    fn of(model: &Transformer, batch: &TokenBatch) -> Result<Self> {
        let keep = Keep { z: true, ..Keep::NOTHING };
        let sum = |z: ArrayView4<f32>| z.mapv(f64::from).sum_axis(Axis(0));
        let parts = model.map_chunks(batch, keep, |_, cache| cache.z.iter().map(|z| sum(z.view())).collect::<Vec<_>>())?;
        let mut per_position = parts
            .into_iter()
            .reduce(|mut total, part| {
                total.iter_mut().zip(&part).for_each(|(total, part)| *total += part);
                total
            })
            .expect("a batch has at least one chunk");
        per_position.iter_mut().for_each(|z| *z /= batch.sequences() as f64);
        let overall = per_position.iter().map(|z| z.mean_axis(Axis(0)).expect("sequences are not empty")).collect();
        Ok(Self { per_position, overall })
    }

    /// What replaces `z` of a head at a position, `[k]`.
    fn replacement(&self, method: Method, HeadId { layer, head }: HeadId, position: usize) -> Array1<f64> {
        match method {
            Method::Zero => Array1::zeros(self.overall[layer].ncols()),
            Method::Mean => self.overall[layer].row(head).to_owned(),
            Method::MeanPerPosition => self.per_position[layer].slice(s![position, head, ..]).to_owned(),
        }
    }
}

/// Runs the batch once as it is, and once for each intervention.
///
/// Nothing is computed that an intervention cannot change: the stream up to the first head's layer is that of the clean run, and the
/// difference of the head's output is added to it.
///
/// # Errors
/// If the model cannot read the batch, or has no such head.
pub fn ablate(model: &Transformer, batch: &TokenBatch, ablations: &[Ablation]) -> Result<Ablations> {
    for &id in ablations.iter().flat_map(|ablation| &ablation.heads) {
        model.config().check_head(id)?;
    }
    let means = Means::of(model, batch)?;
    let keep = Keep { patterns: true, z: true, residual: true, logits: true, ..Keep::NOTHING };
    let parts = model.map_chunks(batch, keep, |chunk, clean| {
        let sum = |cache: &Cache| {
            let logits = cache.logits.as_ref().expect("logits were asked for");
            ByPosition::sum(&predictions(logits.view(), chunk.tokens))
        };
        let ablated = |ablation: &Ablation| sum(&run_ablated(model, &clean, &means, ablation));
        // Chunks run in parallel already. A second level would keep more of their caches alive than there are threads.
        (sum(&clean), ablations.iter().map(ablated).collect::<Vec<_>>())
    })?;
    let (clean, ablated): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let mean = |parts: Vec<ByPosition>| mean_over_sequences(parts, batch.sequences()).expect("a batch has at least one chunk");
    let of = |index: usize| mean(ablated.iter().map(|part| part[index].clone()).collect());
    Ok(Ablations { clean: mean(clean), ablated: (0..ablations.len()).map(of).collect() })
}

fn run_ablated(model: &Transformer, clean: &Cache, means: &Means, ablation: &Ablation) -> Cache {
    let Some(first) = ablation.heads.iter().map(|id| id.layer).min() else {
        return clean.clone();
    };
    let (b, n, _, d_head) = clean.z[first].dim();
    let replacement = |id: HeadId, row: usize| means.replacement(ablation.method, id, row % n);
    let (in_first, later): (Vec<HeadId>, Vec<HeadId>) = ablation.heads.iter().partition(|id| id.layer == first);

    let mut x = clean.residual[first + 1].clone();
    for id in in_first {
        let z = clean.z[first].slice(s![.., .., id.head, ..]);
        let mut difference = Array2::<f32>::zeros((b * n, d_head));
        for (row, (mut difference, was)) in difference.rows_mut().into_iter().zip(z.rows()).enumerate() {
            let becomes = replacement(id, row);
            difference.iter_mut().zip(becomes.iter().zip(was)).for_each(|(d, (new, &old))| *d = (new - f64::from(old)) as f32);
        }
        let write = difference.dot(&model.head(id).w_o);
        x += &write.into_shape_with_order(x.dim()).expect("rows are sequences times positions");
    }
    let edit_z = |layer: usize, mut z: ArrayViewMut2<f32>| {
        for &id in later.iter().filter(|id| id.layer == layer) {
            let mut of_head = z.slice_mut(s![.., id.head * d_head..(id.head + 1) * d_head]);
            for (row, mut place) in of_head.rows_mut().into_iter().enumerate() {
                place.assign(&replacement(id, row).mapv(|v| v as f32));
            }
        }
    };
    let patterns = (ablation.patterns == Patterns::Frozen).then_some(clean.patterns.as_slice());
    let steer = Steer { patterns, edit_z: Some(&edit_z) };
    model.continue_from(first + 1, x, steer, Keep { logits: true, ..Keep::NOTHING })
}
