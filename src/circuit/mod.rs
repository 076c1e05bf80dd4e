//! The mathematics on weights and caches; no tables.
