//! Where the values come from that are put in place of others.

use super::{Edit, Intervention, Replacement, Site};
use crate::Result;
use crate::batch::TokenBatch;
use crate::model::{Cache, Chunk, Keep, Transformer};
use ndarray::{Array3, Array4, ArrayView2, Axis};

/// A family of numbers that a run keeps, one array a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `[b, H, n, n]`
    Patterns,
    /// `[b, n, 3·H, k]`
    Qkv,
    /// `[b, n, H, k]`
    Z,
}

impl Source {
    const ALL: [Self; 3] = [Self::Patterns, Self::Qkv, Self::Z];

    /// Where the numbers of a site stand.
    fn of(site: Site) -> Self {
        match site {
            Site::Input(..) => Self::Qkv,
            Site::Pattern(_) => Self::Patterns,
            Site::Sent { .. } | Site::Z(_) => Self::Z,
        }
    }

    fn in_cache(self, cache: &Cache) -> &[Array4<f32>] {
        match self {
            Self::Patterns => &cache.patterns,
            Self::Qkv => &cache.qkv,
            Self::Z => &cache.z,
        }
    }

    /// The axis of a layer's array along which heads lie.
    fn head_axis(self) -> Axis {
        match self {
            Self::Patterns => Axis(1),
            Self::Qkv | Self::Z => Axis(2),
        }
    }
}

/// What replacements need of the runs that their values are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Of the reference batch, to be averaged.
    pub means: Kinds,
    /// Of the resampled reference.
    pub resampled: Kinds,
    /// Of the other batch.
    pub other: Kinds,
}

/// Which of [`Source::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds([bool; 3]);

impl Kinds {
    fn add(&mut self, source: Source) {
        self.0[source as usize] = true;
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What a run has to keep.
    pub fn keep(self) -> Keep {
        let [patterns, qkv, z] = self.0;
        Keep { patterns, qkv, z, ..Keep::NOTHING }
    }
}

impl Needs {
    /// What a list of interventions needs.
    pub fn of(interventions: &[Intervention]) -> Self {
        let mut needs = Self::default();
        for Edit { site, by } in interventions.iter().flat_map(|intervention| &intervention.edits) {
            let source = Source::of(*site);
            match by {
                Replacement::Zero => {}
                Replacement::Mean | Replacement::MeanPerPosition => needs.means.add(source),
                Replacement::Other => needs.other.add(source),
                Replacement::Resample => needs.resampled.add(source),
            }
        }
        needs
    }
}

/// At each position, means over the sequences of a batch: [`Source::ALL`], one array a layer, empty where not needed.
#[derive(Debug, Default)]
pub struct Means([Vec<Array3<f64>>; 3]);

impl Means {
    /// The means over a batch.
    ///
    /// # Errors
    /// If the model cannot read the batch.
    pub fn new(model: &Transformer, batch: &TokenBatch, kinds: Kinds) -> Result<Self> {
        if kinds.is_empty() {
            return Ok(Self::default());
        }
        let sum = |x: &Array4<f32>| {
            let (_, first, second, third) = x.dim();
            let mut sum = Array3::<f64>::zeros((first, second, third));
            x.outer_iter().for_each(|x| sum.zip_mut_with(&x, |sum, &x| *sum += f64::from(x)));
            sum
        };
        let sums =
            |_: Chunk, cache: Cache| Source::ALL.map(|source| source.in_cache(&cache).iter().map(sum).collect::<Vec<_>>());
        let mut total: Option<[Vec<Array3<f64>>; 3]> = None;
        // The sums of one chunk are as large as those of all.
        model.take_chunks(batch, kinds.keep(), sums, |part| match &mut total {
            None => total = Some(part),
            Some(total) => total.iter_mut().flatten().zip(part.iter().flatten()).for_each(|(total, part)| *total += part),
        })?;
        let mut means = total.expect("a batch has at least one chunk");
        means.iter_mut().flatten().for_each(|mean| *mean /= batch.sequences() as f64);
        Ok(Self(means))
    }
}

/// The values that are put in place of those of one chunk.
#[derive(Debug)]
pub struct Sources<'a> {
    /// Of the reference batch.
    pub means: &'a Means,
    /// As many sequences of the reference batch.
    pub resampled: Option<Cache>,
    /// The same sequences of the other batch.
    pub other: Option<Cache>,
}

impl Sources<'_> {
    /// What stands at a place of a layer instead, `[b, n, p]`: of patterns `index` is the head and `p` is `n`; of queries, keys and
    /// values it is `which·H + head`, and of `z` the head, and `p` is `k`.
    pub fn value(&self, source: Source, layer: usize, index: usize, by: Replacement, shape: [usize; 3]) -> Array3<f32> {
        let of_run = |cache: &Option<Cache>| {
            let cache = cache.as_ref().expect("the runs that interventions need were made");
            source.in_cache(cache)[layer].index_axis(source.head_axis(), index).to_owned()
        };
        let mean = || {
            let axis = Axis(source.head_axis().index() - 1);
            self.means.0[source as usize][layer].index_axis(axis, index).to_owned()
        };
        let spread = |mean: ArrayView2<f64>| mean.mapv(|v| v as f32).broadcast(shape).expect("positions agree").to_owned();
        match by {
            Replacement::Zero => Array3::zeros(shape),
            Replacement::Mean => {
                let mean = mean().mean_axis(Axis(0)).expect("sequences are not empty");
                spread(mean.insert_axis(Axis(0)).view())
            }
            Replacement::MeanPerPosition => spread(mean().view()),
            Replacement::Other => of_run(&self.other),
            Replacement::Resample => of_run(&self.resampled),
        }
    }
}
