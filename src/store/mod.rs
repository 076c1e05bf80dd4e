//! The results tree on disk.
