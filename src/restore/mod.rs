//! Prometheus data directories out of what is stored.
//!
//! Owns [`export`]: directories built from our own blocks, for those who had no archiver.

pub mod export;
