//! A forward pass in double precision, straight from the definitions, that applies interventions to the letter: every head reads a
//! stream of its own through each channel, and everything is computed again.

use attn_circuits::model::intervention::{Downstream, Intervention, Reader, Replacement, Site};
use attn_circuits::model::{Channel, HeadId, LayerNorm, ModelConfig, Normalization, Positions, Transformer, Weights};
use ndarray::{Array, Array1, Array2, ArrayView2, Axis, Dimension, s};
use std::collections::BTreeMap;

/// One matrix for each sequence.
pub type Values = Vec<Array2<f64>>;

/// Everything that a run computes.
pub struct Run {
    /// `[n, k]`, positions and biases in them.
    inputs: BTreeMap<(HeadId, Channel), Values>,
    /// `[n, n]`
    patterns: BTreeMap<HeadId, Values>,
    /// `[n, k]`
    z: BTreeMap<HeadId, Values>,
    /// `[n, V]`
    pub logits: Values,
}

/// What a run under an intervention takes its values from.
pub struct Under<'a> {
    pub intervention: &'a Intervention,
    /// The same batch as it is.
    pub clean: &'a Run,
    pub reference: &'a Run,
    pub other: Option<&'a Run>,
    /// Which sequence of the reference is put in the place of each sequence.
    pub permutation: Option<&'a [usize]>,
}

impl Under<'_> {
    /// What is put at a site, where the intervention says so.
    fn at(&self, site: Site, of: impl Fn(&Run) -> &Values) -> Option<Values> {
        let mut edits = self.intervention.edits.iter().filter(|edit| edit.site == site);
        let by = edits.next()?.by;
        assert_eq!(edits.next(), None);
        Some(self.value(by, of))
    }

    /// What is put instead of what a head sends to a reader.
    fn sent(&self, from: HeadId, to: Reader) -> Option<Values> {
        let covers = |site: Site| match (site, to) {
            (Site::Sent { from: sender, .. }, _) if sender != from => false,
            (Site::Sent { to: Reader::Later(channel), .. }, Reader::Head(_, through)) => channel == through,
            (Site::Sent { to: reader, .. }, _) => reader == to,
            _ => false,
        };
        let mut edits = self.intervention.edits.iter().filter(|edit| covers(edit.site));
        let by = edits.next()?.by;
        assert_eq!(edits.next(), None, "what {from} sends to {to} is replaced twice");
        Some(self.value(by, |run| &run.z[&from]))
    }

    fn value(&self, by: Replacement, of: impl Fn(&Run) -> &Values) -> Values {
        let clean = of(self.clean);
        let reference = of(self.reference);
        let by_position = || {
            let sum = reference.iter().fold(Array2::zeros(reference[0].dim()), |sum: Array2<f64>, value| sum + value);
            sum / reference.len() as f64
        };
        match by {
            Replacement::Zero => clean.iter().map(|value| Array2::zeros(value.dim())).collect(),
            Replacement::MeanPerPosition => vec![by_position(); clean.len()],
            Replacement::Mean => {
                let mean = by_position().mean_axis(Axis(0)).unwrap();
                clean.iter().map(|value| mean.broadcast(value.dim()).unwrap().to_owned()).collect()
            }
            Replacement::Other => of(self.other.expect("an other batch")).clone(),
            Replacement::Resample => {
                let permutation = self.permutation.expect("a known permutation");
                permutation.iter().map(|&sequence| reference[sequence].clone()).collect()
            }
        }
    }
}

fn wide<D: Dimension>(a: &Array<f32, D>) -> Array<f64, D> {
    a.mapv(f64::from)
}

/// A model in its definition.
pub struct Naive {
    config: ModelConfig,
    weights: Weights,
}

impl Naive {
    pub fn new(model: &Transformer) -> Self {
        Self { config: model.config().clone(), weights: model.to_weights() }
    }

    fn heads(&self, layers: usize) -> impl Iterator<Item = HeadId> + use<> {
        let heads = self.config.n_heads;
        (0..layers).flat_map(move |layer| (0..heads).map(move |head| HeadId::new(layer, head)))
    }

    fn w_pos(&self, n: usize) -> Array2<f64> {
        wide(self.weights.w_pos.as_ref().unwrap()).slice(s![..n, ..]).to_owned()
    }

    fn normalized(&self, x: &Array2<f64>, ln: &Option<LayerNorm>) -> Array2<f64> {
        let mut x = x.clone();
        if self.config.normalization == Normalization::None {
            return x;
        }
        for mut row in x.rows_mut() {
            row -= row.mean().unwrap();
            row /= (row.mapv(|v| v * v).mean().unwrap() + self.config.eps).sqrt();
            if let Some(LayerNorm { w, b }) = ln {
                row *= &wide(w);
                row += &wide(b);
            }
        }
        x
    }

    fn embedded(&self, tokens: ArrayView2<u32>) -> Values {
        let embed = |sequence: ndarray::ArrayView1<u32>| {
            let rows: Vec<_> = sequence.iter().map(|&token| token as usize).collect();
            let x = wide(&self.weights.w_e.select(Axis(0), &rows));
            if self.config.positions == Positions::Standard { x + self.w_pos(rows.len()) } else { x }
        };
        tokens.rows().into_iter().map(embed).collect()
    }

    /// The stream that a reader reads after some layers: the embedding, what each head sends to the reader, and the biases.
    fn stream(&self, run: &Run, embedded: &Values, layers: usize, reader: Reader, under: Option<&Under>) -> Values {
        let mut x = embedded.clone();
        for id in self.heads(layers) {
            let sent = under.and_then(|under| under.sent(id, reader)).unwrap_or_else(|| run.z[&id].clone());
            let w_o = wide(&self.weights.blocks[id.layer].w_o.index_axis(Axis(0), id.head).to_owned());
            x.iter_mut().zip(&sent).for_each(|(x, z)| *x += &z.dot(&w_o));
        }
        for b_o in self.weights.blocks[..layers].iter().filter_map(|block| block.b_o.as_ref()) {
            x.iter_mut().for_each(|x| *x += &wide(b_o));
        }
        x
    }

    /// Queries, keys or values of a head from the stream that it reads.
    fn input(&self, id: HeadId, channel: Channel, x: &Array2<f64>) -> Array2<f64> {
        let block = &self.weights.blocks[id.layer];
        let (w, b) = match channel {
            Channel::Q => (&block.w_q, &block.b_q),
            Channel::K => (&block.w_k, &block.b_k),
            Channel::V => (&block.w_v, &block.b_v),
        };
        let n = x.nrows();
        let mut x = self.normalized(x, &block.ln);
        if self.config.positions == Positions::Shortformer && channel != Channel::V {
            x += &self.w_pos(n);
        }
        let mut x = x.dot(&wide(&w.index_axis(Axis(0), id.head).to_owned()));
        if let Some(b) = b {
            x += &wide(&b.row(id.head).to_owned());
        }
        match self.config.positions {
            Positions::Rotary { dim, base, adjacent_pairs } if channel != Channel::V => {
                Array2::from_shape_fn(x.dim(), |(position, i)| {
                    if i >= dim {
                        return x[(position, i)];
                    }
                    let half = dim / 2;
                    let (pair, first) = if adjacent_pairs { (i / 2, i % 2 == 0) } else { (i % half, i < half) };
                    let partner = match (adjacent_pairs, first) {
                        (true, true) => i + 1,
                        (true, false) => i - 1,
                        (false, true) => i + half,
                        (false, false) => i - half,
                    };
                    let angle = position as f64 * base.powf(-2.0 * pair as f64 / dim as f64);
                    let sign = if first { -1.0 } else { 1.0 };
                    x[(position, i)] * angle.cos() + sign * x[(position, partner)] * angle.sin()
                })
            }
            _ => x,
        }
    }

    fn pattern(&self, q: &Array2<f64>, k: &Array2<f64>) -> Array2<f64> {
        let scores = q.dot(&k.t()) / self.config.attn_scale;
        let mut pattern = Array2::zeros(scores.dim());
        for (destination, mut row) in pattern.rows_mut().into_iter().enumerate() {
            let allowed = scores.slice(s![destination, ..=destination]);
            let largest = allowed.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let exponentials = allowed.mapv(|score| (score - largest).exp());
            let total = exponentials.sum();
            row.slice_mut(s![..=destination]).assign(&(exponentials / total));
        }
        pattern
    }

    /// A run, as it is or under an intervention.
    pub fn run(&self, tokens: ArrayView2<u32>, under: Option<&Under>) -> Run {
        let embedded = self.embedded(tokens);
        let mut run = Run { inputs: BTreeMap::new(), patterns: BTreeMap::new(), z: BTreeMap::new(), logits: Vec::new() };
        for id in self.heads(self.config.n_layers) {
            for channel in Channel::ALL {
                let x = self.stream(&run, &embedded, id.layer, Reader::Head(id, channel), under);
                let computed = || x.iter().map(|x| self.input(id, channel, x)).collect();
                let place = (id, channel);
                let replaced = under.and_then(|under| under.at(Site::Input(id, channel), |run| &run.inputs[&place]));
                run.inputs.insert(place, replaced.unwrap_or_else(computed));
            }
            let [q, k, v] = [Channel::Q, Channel::K, Channel::V].map(|channel| &run.inputs[&(id, channel)]);
            let held = under.filter(|under| under.intervention.downstream == Downstream::Frozen);
            let patterns = under
                .and_then(|under| under.at(Site::Pattern(id), |run| &run.patterns[&id]))
                .or_else(|| held.map(|under| under.clean.patterns[&id].clone()))
                .unwrap_or_else(|| q.iter().zip(k).map(|(q, k)| self.pattern(q, k)).collect());
            let mixed = patterns.iter().zip(v).map(|(pattern, v)| pattern.dot(v)).collect();
            let z = under.and_then(|under| under.at(Site::Z(id), |run| &run.z[&id])).unwrap_or(mixed);
            run.patterns.insert(id, patterns);
            run.z.insert(id, z);
        }
        let x = self.stream(&run, &embedded, self.config.n_layers, Reader::Logits, under);
        let unembed = |x: &Array2<f64>| {
            let logits = self.normalized(x, &self.weights.ln_final).dot(&wide(&self.weights.w_u));
            logits + self.weights.b_u.as_ref().map_or_else(|| Array1::zeros(self.config.d_vocab), wide)
        };
        run.logits = x.iter().map(unembed).collect();
        run
    }
}

/// What logits `[V]` say of a token.
pub struct Expected {
    pub loss: f64,
    pub logit: f64,
    /// By how much the token's logit is above the largest other one.
    pub margin: f64,
}

impl Expected {
    pub fn new(logits: ndarray::ArrayView1<f64>, target: usize) -> Self {
        let logit = logits[target];
        let loss = logits.iter().map(|other| (other - logit).exp()).sum::<f64>().ln();
        let others = logits.iter().enumerate().filter(|(token, _)| *token != target).map(|(_, &other)| other);
        Self { loss, logit, margin: logit - others.fold(f64::NEG_INFINITY, f64::max) }
    }
}
