//! The library under its own name, however it was built.

#[cfg(attn_circuits_built)]
extern crate attn_circuits_notebook;
#[cfg(attn_circuits_built)]
extern crate attn_circuits as library;

pub use library::*;
