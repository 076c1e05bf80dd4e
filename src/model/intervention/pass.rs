//! A run under an intervention, made of the clean run and what differs from it.

use super::change::{Change, Part};
use super::source::{Source, Sources};
use super::{Downstream, Intervention, Reader, Site};
use crate::linalg::{product, set_product};
use crate::model::attention::{Keepers, attend, attend_with};
use crate::model::{Cache, Channel, HeadId, Keep, Normalization, Transformer};
use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use std::cell::OnceCell;
use std::ops::Range;

/// The clean run of a chunk of sequences, from which runs under interventions differ.
///
/// Layers before an intervention are those of the clean run; a head none of whose inputs changes keeps its output; a changed input
/// is the clean one plus what the difference of a few heads adds to it. Logits are computed once, at the end.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// The model.
    pub model: &'a Transformer,
    /// What the clean run kept: [`Pass::KEEP`].
    pub clean: &'a Cache,
    /// What stands in place of what is replaced.
    pub sources: &'a Sources<'a>,
    /// What [`Pass::last_readout`] says of the model.
    pub last_readout: Option<&'a Array2<f32>>,
}

/// Queries, keys and values of a layer that are not those of the clean run.
#[derive(Default)]
struct Inputs {
    /// Of all heads, `[b·n, H·k]`, by [`Channel::place`].
    shared: [Option<Array2<f32>>; 3],
    /// Of single heads, `[b·n, k]`, before those.
    own: Vec<(usize, Channel, Array2<f32>)>,
}

impl Inputs {
    fn of(&self, head: usize, channel: Channel, d_head: usize) -> Option<ArrayView2<'_, f32>> {
        let own = self.own.iter().find(|(of, through, _)| (*of, *through) == (head, channel));
        let shared = || Some(self.shared[channel.place()].as_ref()?.slice(s![.., head * d_head..(head + 1) * d_head]));
        own.map(|(.., own)| own.view()).or_else(shared)
    }
}

impl<'a> Pass<'a> {
    /// What the clean run has to keep.
    pub const KEEP: Keep =
        Keep { scores: false, patterns: true, qkv: true, z: true, results: false, residual: true, logits: true };

    /// What the heads of the last layer write to the logits: `W_O W_U`, `[H·k, V]`. Without LayerNorm, half of all interventions read
    /// their logits from it, so it is multiplied out once for all of them.
    pub fn last_readout(model: &Transformer) -> Option<Array2<f32>> {
        let last = model.blocks.last().filter(|_| model.config.normalization == Normalization::None)?;
        Some(product(last.w_o.view(), model.w_u.view()))
    }

    /// Number of sequences, of positions, and `d_head`.
    fn shape(&self) -> [usize; 3] {
        let (b, n, _) = self.clean.residual[0].dim();
        [b, n, self.model.config.d_head]
    }

    /// How the stream that the unembedding reads differs under an intervention.
    pub fn change(&self, intervention: &Intervention) -> Change {
        let mut change = Change::default();
        let mut sent: Vec<(Reader, Part)> = Vec::new();
        for layer in 0..self.model.config.n_layers {
            let edited = intervention.edits.iter().any(|edit| edit.site.head().layer == layer);
            let reaches = |reader: &Reader| match reader {
                Reader::Head(id, _) => id.layer == layer,
                Reader::Later(_) => true,
                Reader::Logits => false,
            };
            if !change.is_none() || edited || sent.iter().any(|(reader, _)| reaches(reader)) {
                self.layer(layer, intervention, &mut change, &mut sent);
            }
        }
        for (_, part) in sent.into_iter().filter(|(reader, _)| *reader == Reader::Logits) {
            change.push(self.model, part);
        }
        change
    }

    /// Adds to the change of the stream what one layer adds, and to what is sent what its heads send.
    fn layer(&self, layer: usize, intervention: &Intervention, change: &mut Change, sent: &mut Vec<(Reader, Part)>) {
        let [b, n, d_head] = self.shape();
        let n_heads = self.model.config.n_heads;
        let inputs = self.inputs(layer, intervention, change, sent);
        let clean = self.flat(&self.clean.z[layer]);
        let mut changed: Vec<(usize, Array2<f32>)> = Vec::new();
        for head in 0..n_heads {
            let id = HeadId { layer, head };
            let columns = head * d_head..(head + 1) * d_head;
            let was = clean.slice(s![.., columns.clone()]);
            let z = match intervention.at(Site::Z(id)) {
                Some(by) => Some(flatten(self.sources.value(Source::Z, layer, head, by, [b, n, d_head]))),
                None => self.z(id, intervention, &inputs),
            };
            for edit in &intervention.edits {
                if let Site::Sent { from, to } = edit.site
                    && from == id
                {
                    let instead = flatten(self.sources.value(Source::Z, layer, head, edit.by, [b, n, d_head]));
                    let sends = z.as_ref().map_or(was, |z| z.view());
                    sent.push((to, Part { layer, rows: columns.clone(), z: instead - sends }));
                }
            }
            changed.extend(z.map(|z| (head, z - was)));
        }
        if changed.len() == n_heads {
            // One product for all of them.
            let views: Vec<_> = changed.iter().map(|(_, z)| z.view()).collect();
            let z = ndarray::concatenate(Axis(1), &views).expect("all have a row for each position");
            change.push(self.model, Part { layer, rows: 0..n_heads * d_head, z });
        } else {
            for (head, z) in changed {
                change.push(self.model, Part { layer, rows: head * d_head..(head + 1) * d_head, z });
            }
        }
    }

    /// The queries, keys and values of a layer that differ from those of the clean run, where anybody will look at them.
    fn inputs(&self, layer: usize, intervention: &Intervention, change: &Change, sent: &[(Reader, Part)]) -> Inputs {
        let n_heads = self.model.config.n_heads;
        let mut inputs = Inputs::default();
        let plain = OnceCell::new();
        for channel in Channel::ALL {
            if channel != Channel::V && intervention.downstream == Downstream::Frozen {
                continue;
            }
            let to_all = || sent.iter().filter(|(reader, _)| *reader == Reader::Later(channel)).map(|(_, part)| part);
            for head in 0..n_heads {
                let id = HeadId { layer, head };
                let mut to_it =
                    sent.iter().filter(|(reader, _)| *reader == Reader::Head(id, channel)).map(|(_, part)| part).peekable();
                if let Some(by) = intervention.at(Site::Input(id, channel)) {
                    let index = channel.place() * n_heads + head;
                    let value = self.sources.value(Source::Qkv, layer, index, by, self.shape());
                    inputs.own.push((head, channel, flatten(value)));
                } else if to_it.peek().is_some() {
                    let read = change.with(self.model, to_all().chain(to_it));
                    let normed = self.normed(layer, &read);
                    let own = self.projected(layer, channel, head..head + 1, (&read, normed.as_ref()));
                    inputs.own.push((head, channel, own));
                }
            }
            let shared = if to_all().next().is_some() {
                let read = change.with(self.model, to_all());
                let normed = self.normed(layer, &read);
                Some(self.projected(layer, channel, 0..n_heads, (&read, normed.as_ref())))
            } else if !change.is_none() {
                // All three channels read this one.
                let normed = plain.get_or_init(|| self.normed(layer, change));
                Some(self.projected(layer, channel, 0..n_heads, (change, normed.as_ref())))
            } else {
                None
            };
            inputs.shared[channel.place()] = shared;
        }
        inputs
    }

    /// The changed stream that a layer reads, normalised, `[b·n, d]`; none where nothing normalises it, and what differs can be told
    /// from the difference alone.
    fn normed(&self, layer: usize, change: &Change) -> Option<Array2<f32>> {
        (self.model.config.normalization != Normalization::None).then(|| {
            let norm = self.model.blocks.get(layer).map_or(&self.model.ln_final, |block| &block.ln);
            let mut x = self.flat(&self.clean.residual[layer]).to_owned();
            change.add_to(self.model, &mut x);
            self.model.normalize(&mut x, norm.as_ref());
            x
        })
    }

    /// Queries, keys or values of some heads of a layer, `[b·n, heads·k]`, the stream that they read being changed; `normed` is that
    /// stream as [`Pass::normed`] has it.
    fn projected(
        &self,
        layer: usize,
        channel: Channel,
        heads: Range<usize>,
        (change, normed): (&Change, Option<&Array2<f32>>),
    ) -> Array2<f32> {
        let [b, n, d_head] = self.shape();
        let start = channel.place() * self.model.config.n_heads;
        let columns = (start + heads.start) * d_head..(start + heads.end) * d_head;
        if let Some(normed) = normed {
            return self.model.read(layer, n, columns, normed.view());
        }
        let w = self.model.blocks[layer].w_qkv.slice(s![.., columns.clone()]);
        let mut x = Array2::zeros((b * n, columns.len()));
        change.read(self.model, w, None).add_rows_to(0..b * n, &mut x.view_mut());
        if channel != Channel::V {
            self.model.turn(n, x.view_mut());
        }
        // What positions and biases add is in the clean ones.
        x += &self.flat(&self.clean.qkv[layer]).slice(s![.., columns]);
        x
    }

    /// `z` of a head, `[b·n, k]`; `None` if nothing of it changes.
    fn z(&self, id: HeadId, intervention: &Intervention, inputs: &Inputs) -> Option<Array2<f32>> {
        let [b, n, d_head] = self.shape();
        let HeadId { layer, head } = id;
        let [q, k, v] = [Channel::Q, Channel::K, Channel::V].map(|channel| inputs.of(head, channel, d_head));
        let replaced = intervention.at(Site::Pattern(id));
        let replaced = replaced.map(|by| self.sources.value(Source::Patterns, layer, head, by, [b, n, n]));
        let looks = (q.is_some() || k.is_some()) && replaced.is_none() && intervention.downstream == Downstream::Recomputed;
        if !looks && replaced.is_none() && v.is_none() {
            return None;
        }
        let clean = self.flat(&self.clean.qkv[layer]);
        let part = |channel: Channel| {
            let start = (channel.place() * self.model.config.n_heads + head) * d_head;
            clean.slice(s![.., start..start + d_head])
        };
        let v = v.unwrap_or_else(|| part(Channel::V));
        let mut z = Array2::zeros((b * n, d_head));
        for sequence in 0..b {
            let rows = sequence * n..(sequence + 1) * n;
            let z = z.slice_mut(s![rows.clone(), ..]);
            let v = v.slice(s![rows.clone(), ..]);
            if looks {
                let [q, k] =
                    [(q, Channel::Q), (k, Channel::K)].map(|(changed, channel)| changed.unwrap_or_else(|| part(channel)));
                let (q, k) = (q.slice(s![rows.clone(), ..]), k.slice(s![rows, ..]));
                attend(q, k, v, self.model.config.attn_scale as f32, z, Keepers::NONE);
            } else {
                let clean = self.clean.patterns[layer].slice(s![sequence, head, .., ..]);
                let pattern = replaced.as_ref().map_or(clean, |replaced| replaced.index_axis(Axis(0), sequence));
                attend_with(pattern, v, z);
            }
        }
        Some(z)
    }

    /// Hands over the logits of a changed stream, some rows `[rows, V]` at a time.
    pub fn logits(&self, change: &Change, mut f: impl FnMut(Range<usize>, ArrayView2<f32>)) {
        let model = self.model;
        let clean = self.clean.logits.as_ref().expect("logits are kept");
        let (b, n, d_vocab) = clean.dim();
        let rows = b * n;
        let clean = clean.view().into_shape_with_order((rows, d_vocab)).expect("logits are in standard layout");
        let normed = self.normed(model.config.n_layers, change);
        // With a LayerNorm the change of the logits is no product, and this one is not wanted.
        let read = normed.is_none().then(|| change.read(model, model.w_u.view(), self.last_readout));
        // So many that they stay in the cache, but not so few that packing the matrix outweighs the product.
        let step = (LOGITS_AT_ONCE / d_vocab).max(LEAST_ROWS_OF_LOGITS);
        let mut logits = Array2::zeros((step.min(rows), d_vocab));
        for start in (0..rows).step_by(step) {
            let range = start..(start + step).min(rows);
            let mut block = logits.slice_mut(s![..range.len(), ..]);
            match (&normed, &read) {
                (Some(x), _) => {
                    set_product(1.0, x.slice(s![range.clone(), ..]), model.w_u.view(), block.view_mut());
                    if let Some(b_u) = &model.b_u {
                        block += b_u;
                    }
                }
                (None, read) => {
                    block.assign(&clean.slice(s![range.clone(), ..]));
                    read.iter().for_each(|read| read.add_rows_to(range.clone(), &mut block));
                }
            }
            f(range, block.view());
        }
    }

    /// `[b, n, …]` as `[b·n, …]`.
    fn flat<'x, D: ndarray::Dimension>(&self, x: &'x ndarray::Array<f32, D>) -> ArrayView2<'x, f32> {
        let [b, n, _] = self.shape();
        x.view().into_shape_with_order((b * n, x.len() / (b * n))).expect("caches are in standard layout")
    }
}

/// Changed logits that are in memory at once.
const LOGITS_AT_ONCE: usize = 1 << 18;
/// But at least those of so many positions.
pub(crate) const LEAST_ROWS_OF_LOGITS: usize = 128;

fn flatten(x: Array3<f32>) -> Array2<f32> {
    let (b, n, k) = x.dim();
    x.as_standard_layout().into_owned().into_shape_with_order((b * n, k)).expect("just put into standard layout")
}
