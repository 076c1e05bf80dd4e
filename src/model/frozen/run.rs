//! Streams sent through the frozen model.

use super::Frozen;
use crate::model::attention::attend_with;
use crate::model::forward::moments;
use crate::model::{Cache, HeadId, Normalization, Positions};
use ndarray::{Array1, Array2, ArrayView2, s};

/// A run with its patterns and scales, through which any stream can be sent. Streams are `[b·n, d]`.
///
/// ```
/// # use attn_circuits::model::frozen::Frozen;
/// # use attn_circuits::prelude::*;
/// # let mut notebook = Notebook::new("example")?;
/// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
/// #     layer_norm: ln, biases: true }";
/// # let model = notebook.model("random", yaml)?;
/// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
/// // `model` has LayerNorm and biases, and 2 layers of 2 heads; `tokens` are 4 sequences of 13.
/// let frozen = Frozen::new(&model);
/// let run = frozen.run(tokens.tokens(), model.run(&tokens, Frozen::KEEP)?);
/// assert_eq!(run.tokens().dim(), (4, 13));
/// assert_eq!(run.zeros().dim(), (4 * 13, 16));
/// assert_eq!(run.cache().patterns.len(), run.frozen().model().config().n_layers);
/// // The sum of what tokens and positions write is the stream before layer 0.
/// let x = run.embedded() + run.placed().expect("positions are standard");
/// assert!(x.iter().zip(&run.cache().residual[0]).all(|(sum, x)| (sum - x).abs() < 1e-6));
/// # Ok::<(), attn_circuits::Error>(())
/// ```
#[derive(Debug)]
pub struct FrozenRun<'r, 'a> {
    frozen: &'r Frozen<'a>,
    tokens: ArrayView2<'r, u32>,
    cache: Cache,
    /// For each layer and the unembedding, what the normalisation multiplies each position by; empty without normalisation.
    scales: Vec<Array1<f32>>,
}

impl<'r, 'a> FrozenRun<'r, 'a> {
    pub(super) fn new(frozen: &'r Frozen<'a>, tokens: ArrayView2<'r, u32>, cache: Cache) -> Self {
        let config = &frozen.model.config;
        let scales = match config.normalization {
            Normalization::None => Vec::new(),
            Normalization::Ln | Normalization::LnPre => {
                let of = |x: &ndarray::Array3<f32>| {
                    let x = x.rows().into_iter();
                    x.map(|row| moments(row, config.eps).1 as f32).collect()
                };
                cache.residual.iter().map(of).collect()
            }
        };
        Self { frozen, tokens, cache, scales }
    }

    /// The model.
    pub fn frozen(&self) -> &'r Frozen<'a> {
        self.frozen
    }

    /// What the run kept.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The tokens, `[b, n]`.
    pub fn tokens(&self) -> ArrayView2<'r, u32> {
        self.tokens
    }

    /// Nothing: a stream of zeros, `[b·n, d]`.
    pub fn zeros(&self) -> Array2<f32> {
        Array2::zeros((self.tokens.len(), self.frozen.model.config.d_model))
    }

    /// What the tokens write, `[b·n, d]`: rows of `W_E`.
    pub fn embedded(&self) -> Array2<f32> {
        let mut x = self.zeros();
        for (mut row, &token) in x.rows_mut().into_iter().zip(self.tokens) {
            row.assign(&self.frozen.model.w_e.row(token as usize));
        }
        x
    }

    /// What the positions write to the stream, `[b·n, d]`: rows of `W_pos`, with standard positions only.
    pub fn placed(&self) -> Option<Array2<f32>> {
        let model = self.frozen.model;
        let w_pos = model.w_pos.as_ref().filter(|_| model.config.positions == Positions::Standard)?;
        let n = self.tokens.ncols();
        let mut x = self.zeros();
        x.rows_mut().into_iter().enumerate().for_each(|(index, mut row)| row.assign(&w_pos.row(index % n)));
        Some(x)
    }

    /// Multiplies each position of a stream, `[b·n, d]`, by the scale of a layer's normalisation, or (`layer` = L) the
    /// unembedding's. Without normalisation nothing changes.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
    /// #     layer_norm: ln_pre }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // `model` has LayerNorm without weights; `tokens` are 4 sequences of 13.
    /// # let frozen = Frozen::new(&model);
    /// # let run = frozen.run(tokens.tokens(), model.run(&tokens, Frozen::KEEP)?);
    /// let stream = &run.cache().residual[2];    // What the unembedding reads, [b, n, d].
    /// # let mut x = stream.clone().into_shape_with_order((4 * 13, 16)).expect("4 sequences of 13 positions");
    /// run.scale(2, &mut x);
    /// // Scaled, the variance of each row is 1, but for `eps`.
    /// assert!(x.rows().into_iter().all(|row| (row.std(0.0) - 1.0).abs() < 1e-3));
    /// assert_eq!(x[(5, 7)], stream[(0, 5, 7)] * run.scale_at(2, 5));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn scale(&self, layer: usize, x: &mut Array2<f32>) {
        if let Some(scales) = self.scales.get(layer) {
            x.rows_mut().into_iter().zip(scales).for_each(|(mut row, &scale)| row *= scale);
        }
    }

    /// What the normalisation of a layer (or, `layer` = L, of the unembedding) multiplies a position by; 1 without one. `row` is
    /// the position's in a stream, `[b·n, d]`: `sequence · n + position`. [`FrozenRun::scale`] has an example.
    pub fn scale_at(&self, layer: usize, row: usize) -> f32 {
        self.scales.get(layer).map_or(1.0, |scales| scales[row])
    }

    /// What a head moves from a position of the run with attention 1, biases of values included: `v W_O`, `[d]`. `row` is the
    /// position's in a stream, `sequence · n + position`.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
    /// #     layer_norm: ln, biases: true }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // `model` has LayerNorm and biases, and 2 layers of 2 heads; `tokens` are 4 sequences of 13.
    /// let frozen = Frozen::new(&model);
    /// let run = frozen.run(tokens.tokens(), model.run(&tokens, Keep { results: true, ..Frozen::KEEP })?);
    /// // What head 1.1 writes at position 9 of sequence 2 is what it moves from each source, as much as it attends to it.
    /// let id = HeadId::new(1, 1);
    /// let pattern = run.cache().patterns[1].slice(s![2, 1, 9, ..]);
    /// let sum = (0..=9).fold(Array1::<f32>::zeros(16), |sum, source| sum + run.moved(id, 2 * 13 + source) * pattern[source]);
    /// let wrote = run.cache().results[1].slice(s![2, 9, 1, ..]);
    /// assert!((sum - wrote).iter().all(|off| off.abs() < 1e-5));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn moved(&self, id: HeadId, row: usize) -> Array1<f32> {
        let (n, d_head) = (self.tokens.ncols(), self.frozen.model.config.d_head);
        let start = (2 * self.frozen.model.config.n_heads + id.head) * d_head;
        let reader = &self.frozen.layers[id.layer];
        let x = self.cache.residual[id.layer].slice(s![row / n, row % n, ..]);
        let mut values = x.dot(&reader.w.slice(s![.., start..start + d_head])) * self.scale_at(id.layer, row);
        if let Some(b) = &reader.b {
            values += &b.slice(s![start..start + d_head]);
        }
        values.dot(&self.frozen.w_o(id.layer).slice(s![id.head * d_head..(id.head + 1) * d_head, ..]))
    }

    fn read(&self, layer: usize, x: &Array2<f32>, w: ArrayView2<f32>) -> Array2<f32> {
        if self.scales.is_empty() {
            return x.dot(&w);
        }
        let mut scaled = x.clone();
        self.scale(layer, &mut scaled);
        scaled.dot(&w)
    }

    /// The values that the heads of a layer make of a stream, without `b_V`: `[b·n, H·k]`. [`FrozenRun::head`] takes them.
    pub fn values(&self, layer: usize, x: &Array2<f32>) -> Array2<f32> {
        let config = &self.frozen.model.config;
        self.read(layer, x, self.frozen.layers[layer].w.slice(s![.., 2 * config.n_heads * config.d_head..]))
    }

    /// Values moved by the patterns of some heads of a layer, `[b·n, H·k]`; the columns of the others are zero.
    fn mixed(&self, layer: usize, heads: std::ops::Range<usize>, values: &Array2<f32>) -> Array2<f32> {
        let (n, d_head) = (self.tokens.ncols(), self.frozen.model.config.d_head);
        let mut z = Array2::zeros((values.nrows(), heads.len() * d_head));
        for sequence in 0..self.tokens.nrows() {
            let rows = sequence * n..(sequence + 1) * n;
            for (place, head) in heads.clone().enumerate() {
                let pattern = self.cache.patterns[layer].slice(s![sequence, head, .., ..]);
                let values = values.slice(s![rows.clone(), head * d_head..(head + 1) * d_head]);
                attend_with(pattern, values, z.slice_mut(s![rows.clone(), place * d_head..(place + 1) * d_head]));
            }
        }
        z
    }

    /// What one head writes, `[b·n, d]`, its layer's `values`, `[b·n, H·k]`, given, without biases: `A V W_O`.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13, \
    /// #     layer_norm: ln, biases: true }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // `model` has LayerNorm and biases, and 2 layers of 2 heads; `tokens` are 4 sequences of 13.
    /// # let frozen = Frozen::new(&model);
    /// # let run = frozen.run(tokens.tokens(), model.run(&tokens, Frozen::KEEP)?);
    /// let x = run.embedded();
    /// let values = run.values(1, &x);
    /// assert_eq!(values.dim(), (4 * 13, 2 * 4));
    /// let heads = run.head(HeadId::new(1, 0), &values) + run.head(HeadId::new(1, 1), &values);
    /// assert!((heads - run.layer(1, &x)).iter().all(|off| off.abs() < 1e-5));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn head(&self, id: HeadId, values: &Array2<f32>) -> Array2<f32> {
        let d_head = self.frozen.model.config.d_head;
        let w_o = self.frozen.w_o(id.layer);
        self.mixed(id.layer, id.head..id.head + 1, values).dot(&w_o.slice(s![id.head * d_head..(id.head + 1) * d_head, ..]))
    }

    /// What all heads of a layer together write of a stream, `[b·n, d]`, without biases. The module's page has an example, and
    /// [`FrozenRun::head`].
    pub fn layer(&self, layer: usize, x: &Array2<f32>) -> Array2<f32> {
        self.mixed(layer, 0..self.frozen.model.config.n_heads, &self.values(layer, x)).dot(&self.frozen.w_o(layer))
    }

    /// The logits of a stream behind the last layer, without biases, `[b·n, V]`.
    ///
    /// ```
    /// # use attn_circuits::model::frozen::Frozen;
    /// # use attn_circuits::prelude::*;
    /// # let mut notebook = Notebook::new("example")?;
    /// # let yaml = "{ kind: random, layers: 2, heads: 2, d_model: 16, d_head: 4, vocab: 10, context: 13 }";
    /// # let model = notebook.model("random", yaml)?;
    /// # let tokens = notebook.input("repeated", "{ kind: repeated_tokens, sequences: 4, period: 6, repeats: 2 }")?;
    /// // `model` has neither LayerNorm nor biases; `tokens` are 4 sequences of 13.
    /// # let frozen = Frozen::new(&model);
    /// # let run = frozen.run(tokens.tokens(), model.run(&tokens, Frozen::KEEP)?);
    /// // Without layers between, and without LayerNorm: the direct path, `W_E W_U`.
    /// let bigram = model.w_e().dot(&model.w_u());
    /// let logits = run.unembed(&run.embedded());
    /// let token = run.tokens()[(1, 6)] as usize;
    /// assert!((&logits.row(13 + 6) - &bigram.row(token)).iter().all(|off| off.abs() < 1e-5));
    /// # Ok::<(), attn_circuits::Error>(())
    /// ```
    pub fn unembed(&self, x: &Array2<f32>) -> Array2<f32> {
        self.read(self.frozen.model.config.n_layers, x, self.frozen.w_u())
    }
}
