//! The library, loaded once by the process in which a notebook's cells run: they link to it in a moment, and share its threads.

pub use attn_circuits;
