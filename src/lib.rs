//! Perennial: long-term storage, backup and point-in-time recovery for Prometheus.
//!
//! Modules stand in ranks and import only lower ones (held by `tests/it/tidy.rs`); `docs/architecture.md` is the map.

pub mod log;
pub mod model;
pub mod runtime;
