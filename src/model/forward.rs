//! The forward pass, over a batch, in chunks of sequences that run in parallel.

use super::attention::{Keepers, attend};
use super::{Cache, Keep, LayerNorm, Normalization, Positions, Transformer};
use crate::batch::TokenBatch;
use crate::linalg::{add_product, product};
use crate::{Error, Result};
use ndarray::{Array2, Array3, Array4, ArrayView1, ArrayView2, ArrayViewMut2, Axis, concatenate, s};
use rayon::prelude::*;
use std::ops::Range;

/// Positions that share the products of one chunk. A constant: chunks, and so every rounding, are the same for any number of
/// threads.
const CHUNK_POSITIONS: usize = 512;

/// Sequences of `length` tokens that make up one chunk.
pub(crate) fn chunk_sequences(length: usize) -> usize {
    CHUNK_POSITIONS.div_ceil(length.max(1))
}

/// A slice of a batch, on which one thread works.
///
/// [`Transformer::map_chunks`] hands it over, and has an example.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// Number of the first sequence in the batch.
    pub first: usize,
    /// Tokens of these sequences, `[b, n]`.
    pub tokens: ArrayView2<'a, u32>,
}

impl Transformer {
    /// Checks that the model can read the batch.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// let model = notebook.model("random", yaml)?;
    /// model.check_batch(&TokenBatch::new(array![[3, 1, 4]], None)?)?;
    /// let beyond = TokenBatch::new(array![[3, 10, 4]], None)?;
    /// let error = model.check_batch(&beyond).map_err(|error| error.to_string());
    /// assert_eq!(error, Err("token 10 is beyond the vocabulary of 10".to_string()));
    /// let long = TokenBatch::new(Array2::zeros((1, 14)), None)?;
    /// assert!(model.check_batch(&long).is_err());
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] if the sequences are longer than the context, or a token is beyond the vocabulary.
    pub fn check_batch(&self, batch: &TokenBatch) -> Result<()> {
        let (n, n_ctx, d_vocab) = (batch.length(), self.config.n_ctx, self.config.d_vocab);
        if n > n_ctx {
            return Err(Error::invalid(format!("sequences of {n} tokens do not fit a context of {n_ctx}")));
        }
        match batch.tokens().iter().find(|&&token| token as usize >= d_vocab) {
            Some(token) => Err(Error::invalid(format!("token {token} is beyond the vocabulary of {d_vocab}"))),
            None => Ok(()),
        }
    }

    /// Runs the model on a whole batch.
    ///
    /// For each head, `S = (x W_Q + b_Q)(x W_K + b_K)ᵀ/√k`, masked to sources no later than the destination, `A = softmax(S)` row
    /// by row, and the head writes `A (x W_V + b_V) W_O`. All heads of a layer read the same stream `x` `[n, d]`, normalised
    /// where the model has that, and add what they write to it, and `b_O`. The logits are `x W_U + b_U`, `[n, V]`. Source: Elhage
    /// et al. 2021, with the scale that [`ModelConfig::attn_scale`](super::ModelConfig::attn_scale) says. [`Cache`] has the
    /// shapes.
    ///
    /// ```
    /// use attn_circuits::input::TokenBatch;
    /// use attn_circuits::model::{Keep, ModelConfig, Normalization, Positions, Transformer, Weights};
    /// use ndarray::{Array2, array};
    /// // No layers: the logits are rows of W_E W_U.
    /// let config = ModelConfig {
    ///     n_layers: 0, n_heads: 0, d_model: 3, d_head: 0, d_vocab: 3, n_ctx: 8,
    ///     normalization: Normalization::None, eps: 1e-5, positions: Positions::None, attn_scale: 1.0,
    /// };
    /// let weights = Weights {
    ///     w_e: Array2::eye(3), w_pos: None, blocks: vec![], ln_final: None, w_u: Array2::eye(3) * 2.0, b_u: None,
    /// };
    /// let model = Transformer::new(config, weights)?;
    /// let batch = TokenBatch::new(array![[0, 2, 1]], None)?;
    /// let cache = model.run(&batch, Keep { logits: true, ..Keep::NOTHING })?;
    /// assert_eq!(cache.logits.unwrap()[[0, 1, 2]], 2.0);
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Transformer::check_batch`].
    pub fn run(&self, batch: &TokenBatch, keep: Keep) -> Result<Cache> {
        let parts = self.map_chunks(batch, keep, |_, cache| cache)?;
        let layers = |of: fn(&Cache) -> &Vec<Array4<f32>>| -> Vec<Array4<f32>> {
            (0..of(&parts[0]).len()).map(|layer| join(parts.iter().map(|part| of(part)[layer].view()))).collect()
        };
        let stream = |entry: usize| join(parts.iter().map(|part| part.residual[entry].view()));
        let logits = parts.iter().map(|part| part.logits.as_ref().map(|l| l.view())).collect::<Option<Vec<_>>>();
        Ok(Cache {
            scores: layers(|part| &part.scores),
            patterns: layers(|part| &part.patterns),
            qkv: layers(|part| &part.qkv),
            z: layers(|part| &part.z),
            results: layers(|part| &part.results),
            residual: (0..parts[0].residual.len()).map(stream).collect(),
            logits: logits.map(|logits| join(logits.into_iter())),
        })
    }

    /// Runs the model chunk by chunk and hands each cache to `f`, so that no more caches are alive than are worked on. The
    /// answers come in the order of the sequences. How many sequences make up a chunk depends on their length alone, so that no
    /// number depends on how many threads there are.
    ///
    /// ```
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// let model = notebook.model("random", yaml)?;
    /// let tokens = Array2::from_shape_fn((600, 5), |(sequence, position)| ((sequence + position) % 10) as u32);
    /// let tokens = TokenBatch::new(tokens, None)?;
    /// // The largest logit, without ever holding those of all sequences.
    /// let found = model.map_chunks(&tokens, Keep { logits: true, ..Keep::NOTHING }, |chunk, cache| {
    ///     let logits = cache.logits.expect("logits were asked for");
    ///     assert_eq!(logits.dim(), (chunk.tokens.nrows(), 5, 10));
    ///     (chunk.first, chunk.tokens.nrows(), logits.fold(f32::MIN, |most, &logit| most.max(logit)))
    /// })?;
    /// // Each chunk starts where the one before ends.
    /// assert!(found.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
    /// assert_eq!(found.iter().map(|(_, sequences, _)| sequences).sum::<usize>(), 600);
    /// # let whole = model.run(&tokens, Keep { logits: true, ..Keep::NOTHING })?.logits.expect("logits were asked for");
    /// # let most = found.iter().fold(f32::MIN, |most, found| most.max(found.2));
    /// # assert_eq!(most, whole.fold(f32::MIN, |most, &logit| most.max(logit)));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`Transformer::check_batch`].
    pub fn map_chunks<R: Send>(&self, batch: &TokenBatch, keep: Keep, f: impl Fn(Chunk, Cache) -> R + Sync) -> Result<Vec<R>> {
        let chunks = self.chunks(batch)?;
        Ok(chunks.into_par_iter().map(|chunk| f(chunk, self.forward(chunk.tokens, keep))).collect())
    }

    /// The same where answers are large: `take` gets one after the other, in the order of the sequences, and no more of them are
    /// alive than there are threads.
    ///
    /// # Errors
    /// Those of [`Transformer::check_batch`].
    pub(crate) fn take_chunks<R: Send>(
        &self,
        batch: &TokenBatch,
        keep: Keep,
        f: impl Fn(Chunk, Cache) -> R + Sync,
        take: impl FnMut(R),
    ) -> Result<()> {
        let mut take = take;
        for wave in self.chunks(batch)?.chunks(rayon::current_num_threads().max(1)) {
            let work = |&chunk: &Chunk| f(chunk, self.forward(chunk.tokens, keep));
            wave.par_iter().map(work).collect::<Vec<_>>().into_iter().for_each(&mut take);
        }
        Ok(())
    }

    /// The slices of a batch, once it is checked.
    pub(crate) fn chunks<'b>(&self, batch: &'b TokenBatch) -> Result<Vec<Chunk<'b>>> {
        self.check_batch(batch)?;
        let size = chunk_sequences(batch.length());
        let rows = |first: usize| s![first..(first + size).min(batch.sequences()), ..];
        let chunk = |first| Chunk { first, tokens: batch.tokens().slice_move(rows(first)) };
        Ok((0..batch.sequences()).step_by(size).map(chunk).collect())
    }

    /// The residual stream before layer 0, `[b, n, d]`.
    fn embed(&self, tokens: ArrayView2<u32>) -> Array3<f32> {
        let (b, n) = tokens.dim();
        let mut x = Array3::zeros((b, n, self.config.d_model));
        for ((sequence, position), &token) in tokens.indexed_iter() {
            let mut place = x.slice_mut(s![sequence, position, ..]);
            place.assign(&self.w_e.row(token as usize));
            if let (Positions::Standard, Some(w_pos)) = (self.config.positions, &self.w_pos) {
                place += &w_pos.row(position);
            }
        }
        x
    }

    /// Runs all layers and the unembedding on some sequences, `[b, n]`, which were checked.
    pub(crate) fn forward(&self, tokens: ArrayView2<u32>, keep: Keep) -> Cache {
        let x = self.embed(tokens);
        let (b, n, d) = x.dim();
        let mut cache = Cache::default();
        let mut x = x.into_shape_with_order((b * n, d)).expect("the stream is in standard layout");
        for layer in 0..self.config.n_layers {
            if keep.residual {
                cache.residual.push(unflatten(&x, b));
            }
            self.layer(layer, &mut x, b, keep, &mut cache);
        }
        if keep.residual {
            cache.residual.push(unflatten(&x, b));
        }
        if keep.logits {
            cache.logits = Some(unflatten(&self.unembed(x), b));
        }
        cache
    }

    /// Logits `[rows, V]` from the last residual stream `[rows, d]`.
    fn unembed(&self, mut x: Array2<f32>) -> Array2<f32> {
        self.normalize(&mut x, self.ln_final.as_ref());
        let mut logits = product(x.view(), self.w_u.view());
        if let Some(b_u) = &self.b_u {
            logits += b_u;
        }
        logits
    }

    /// Adds to the stream `x` `[b·n, d]` what the heads of a layer write.
    fn layer(&self, layer: usize, x: &mut Array2<f32>, b: usize, keep: Keep, cache: &mut Cache) {
        let (n_heads, d_head) = (self.config.n_heads, self.config.d_head);
        let width = n_heads * d_head;
        let block = &self.blocks[layer];
        let n = x.nrows() / b;

        let qkv = if self.config.normalization == Normalization::None {
            self.read(layer, n, 0..3 * width, x.view())
        } else {
            let mut normed = x.clone();
            self.normalize(&mut normed, block.ln.as_ref());
            self.read(layer, n, 0..3 * width, normed.view())
        };

        let mut z = Array2::<f32>::zeros((b * n, width));
        let square = |wanted: bool| wanted.then(|| Array4::<f32>::zeros((b, n_heads, n, n)));
        let (mut scores, mut patterns) = (square(keep.scores), square(keep.patterns));
        for sequence in 0..b {
            let rows = sequence * n..(sequence + 1) * n;
            for head in 0..n_heads {
                let part = |which: usize| {
                    let start = which * width + head * d_head;
                    qkv.slice(s![rows.clone(), start..start + d_head])
                };
                let keepers = Keepers {
                    scores: scores.as_mut().map(|a| a.slice_mut(s![sequence, head, .., ..])),
                    pattern: patterns.as_mut().map(|a| a.slice_mut(s![sequence, head, .., ..])),
                };
                let z = z.slice_mut(s![rows.clone(), head * d_head..(head + 1) * d_head]);
                attend(part(0), part(1), part(2), self.config.attn_scale as f32, z, keepers);
            }
        }
        cache.scores.extend(scores);
        cache.patterns.extend(patterns);
        if keep.results {
            let mut results = Array3::zeros((b * n, n_heads, self.config.d_model));
            for head in 0..n_heads {
                let columns = head * d_head..(head + 1) * d_head;
                let result = product(z.slice(s![.., columns.clone()]), block.w_o.slice(s![columns, ..]));
                results.slice_mut(s![.., head, ..]).assign(&result);
            }
            let shape = (b, n, n_heads, self.config.d_model);
            cache.results.push(results.into_shape_with_order(shape).expect("rows are sequences times positions"));
        }
        add_product(z.view(), block.w_o.view(), x.view_mut());
        if let Some(b_o) = &block.b_o {
            *x += b_o;
        }
        if keep.z {
            let shape = (b, n, n_heads, d_head);
            cache.z.push(z.into_shape_with_order(shape).expect("columns are heads times d_head"));
        }
        if keep.qkv {
            let shape = (b, n, 3 * n_heads, d_head);
            cache.qkv.push(qkv.into_shape_with_order(shape).expect("columns are heads times d_head"));
        }
    }

    /// Some columns of a layer's queries, keys and values, from the stream `x` `[b·n, d]`, once it is normalised.
    pub(super) fn read(&self, layer: usize, n: usize, columns: Range<usize>, x: ArrayView2<f32>) -> Array2<f32> {
        let block = &self.blocks[layer];
        let mut read = product(x, block.w_qkv.slice(s![.., columns.clone()]));
        if let Some(b_qkv) = &block.b_qkv {
            read += &b_qkv.slice(s![columns.clone()]);
        }
        // Positions stand in queries and keys.
        let both = 2 * self.config.n_heads * self.config.d_head;
        let placed = columns.start.min(both)..columns.end.min(both);
        if !placed.is_empty() {
            let width = placed.len();
            self.shift(layer, n, placed, read.slice_mut(s![.., ..width]));
            self.turn(n, read.slice_mut(s![.., ..width]));
        }
        read
    }

    /// Adds what positions write to queries and keys, with shortformer positions. `x`: `[b·n, p]`, the columns `columns` of a layer's
    /// queries and keys.
    fn shift(&self, layer: usize, n: usize, columns: Range<usize>, mut x: ArrayViewMut2<f32>) {
        if self.config.positions != Positions::Shortformer {
            return;
        }
        let w_pos = self.w_pos.as_ref().expect("shortformer positions come with W_pos");
        let shift = product(w_pos.slice(s![..n, ..]), self.blocks[layer].w_qkv.slice(s![.., columns]));
        x.axis_chunks_iter_mut(Axis(0), n).for_each(|mut sequence| sequence += &shift);
    }

    /// Rotates queries and keys by their positions, with rotary positions. `x`: `[b·n, m·k]`, each `k` columns those of one head.
    pub(super) fn turn(&self, n: usize, mut x: ArrayViewMut2<f32>) {
        let Positions::Rotary { dim, base, adjacent_pairs } = self.config.positions else { return };
        let frequencies: Vec<f64> = (0..dim / 2).map(|pair| base.powf(-(pair as f64) / (dim / 2) as f64)).collect();
        let turns = Array2::from_shape_fn((n, dim / 2), |(position, pair)| (position as f64 * frequencies[pair]).sin_cos());
        for mut sequence in x.axis_chunks_iter_mut(Axis(0), n) {
            for start in (0..sequence.ncols()).step_by(self.config.d_head) {
                rotate(sequence.slice_mut(s![.., start..start + dim]), &turns, adjacent_pairs);
            }
        }
    }

    /// Normalises each row in place.
    pub(super) fn normalize(&self, x: &mut Array2<f32>, ln: Option<&LayerNorm>) {
        if self.config.normalization == Normalization::None {
            return;
        }
        for mut row in x.rows_mut() {
            let (mean, factor) = moments(row.view(), self.config.eps);
            row.mapv_inplace(|v| ((f64::from(v) - mean) * factor) as f32);
            if let Some(ln) = ln {
                row *= &ln.w;
                row += &ln.b;
            }
        }
    }
}

/// What the normalisation takes away from a row, and what it multiplies the rest by.
pub(super) fn moments(row: ArrayView1<f32>, eps: f64) -> (f64, f64) {
    let d = row.len() as f64;
    let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / d;
    let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / d;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Turns each pair of coordinates of `x` `[n, rotary_dim]` by the angle whose (sine, cosine) stands in `turns` `[n, pairs]`.
fn rotate(mut x: ArrayViewMut2<f32>, turns: &Array2<(f64, f64)>, adjacent_pairs: bool) {
    let pairs = turns.ncols();
    for ((position, pair), &(sin, cos)) in turns.indexed_iter() {
        let (first, second) = if adjacent_pairs { (2 * pair, 2 * pair + 1) } else { (pair, pair + pairs) };
        let (a, b) = (f64::from(x[(position, first)]), f64::from(x[(position, second)]));
        x[(position, first)] = (a * cos - b * sin) as f32;
        x[(position, second)] = (b * cos + a * sin) as f32;
    }
}

/// `[b·n, w]` as `[b, n, w]`.
fn unflatten(x: &Array2<f32>, b: usize) -> Array3<f32> {
    let shape = (b, x.nrows() / b, x.ncols());
    x.clone().into_shape_with_order(shape).expect("rows are sequences times positions")
}

/// Puts the chunks of a batch back together along the sequences.
fn join<'a, D: ndarray::RemoveAxis + 'a>(
    parts: impl Iterator<Item = ndarray::ArrayView<'a, f32, D>>,
) -> ndarray::Array<f32, D> {
    let parts: Vec<_> = parts.collect();
    concatenate(Axis(0), &parts).expect("chunks differ only in the number of sequences")
}
