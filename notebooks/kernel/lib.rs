//! The library under its own name, however it was built.

#[cfg(attn_circuits_built)]
pub use attn_circuits_notebook::attn_circuits::*;
#[cfg(not(attn_circuits_built))]
pub use library::*;

// Found where `build.rs` says, and not among the dependencies.
#[cfg(attn_circuits_built)]
extern crate attn_circuits_notebook;
