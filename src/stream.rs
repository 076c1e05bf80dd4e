//! Named random streams.
//!
//! Every random draw of a run descends from the experiment's seed through a path of names (model, replicate, tensor, …).
//! Adding a model or a cell never changes the numbers of another, and no draw depends on the order of computing.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A node in the tree of names under a seed.
///
/// ```
/// use attn_circuits::stream::Stream;
/// use ndarray_rand::rand::Rng;
/// let model = Stream::new(2021).child("models").child("random");
/// let first: f64 = model.child("1").rng("W_Q").random();
/// assert_eq!(first, model.child("1").rng("W_Q").random::<f64>());
/// assert_ne!(first, model.child("2").rng("W_Q").random::<f64>());
/// ```
///
/// Shown as the hex digits of its seed.
#[derive(Clone, Debug)]
pub struct Stream {
    node: blake3::Hash,
    root: blake3::Hash,
}

impl Stream {
    /// The root of all streams of an experiment.
    ///
    /// ```
    /// use attn_circuits::stream::Stream;
    /// assert_eq!(Stream::new(7).to_string(), Stream::new(7).to_string());
    /// assert_ne!(Stream::new(7).to_string(), Stream::new(8).to_string());
    /// assert_eq!(Stream::new(7).to_string().len(), 64); // hex digits
    /// ```
    pub fn new(seed: u64) -> Self {
        let root = blake3::hash(&seed.to_le_bytes());
        Self { node: root, root }
    }

    /// The root of the tree that this node is in: for what several parts of an experiment draw by one name, and must draw alike.
    ///
    /// ```
    /// use attn_circuits::stream::Stream;
    /// let (model, input) = (Stream::new(7).child("models").child("a"), Stream::new(7).child("inputs"));
    /// assert_eq!(model.root().child("x").to_string(), input.root().child("x").to_string());
    /// ```
    pub fn root(&self) -> Self {
        Self { node: self.root, root: self.root }
    }

    /// The node called `name` below this one.
    ///
    /// ```
    /// use attn_circuits::stream::Stream;
    /// let models = Stream::new(2021).child("models");
    /// // The order of the names on the path counts, not the order in which nodes are asked for.
    /// assert_ne!(models.child("a").child("b").to_string(), models.child("b").child("a").to_string());
    /// assert_eq!(models.child("a").to_string(), Stream::new(2021).child("models").child("a").to_string());
    /// ```
    pub fn child(&self, name: impl AsRef<str>) -> Self {
        Self { node: blake3::keyed_hash(self.node.as_bytes(), name.as_ref().as_bytes()), root: self.root }
    }

    /// A generator for the draws called `name` below this node, at its beginning.
    ///
    /// ```
    /// use attn_circuits::linalg::gaussian;
    /// use attn_circuits::stream::Stream;
    /// let stream = Stream::new(2021);
    /// // A name always starts anew; a longer tensor begins as a shorter one does.
    /// let (short, long) = (gaussian(2, 4, &mut stream.rng("W_Q")), gaussian(3, 4, &mut stream.rng("W_Q")));
    /// assert_eq!(short, long.slice(ndarray::s![..2, ..]));
    /// assert_ne!(short, gaussian(2, 4, &mut stream.rng("W_K")));
    /// ```
    pub fn rng(&self, name: impl AsRef<str>) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(*self.child(name).node.as_bytes())
    }
}

impl std::fmt::Display for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.node.fmt(f)
    }
}
