//! Perennial: long-term storage, backup and point-in-time recovery for Prometheus.
//!
//! Modules stand in ranks and import only lower ones (held by `tests/it/tidy.rs`); `docs/architecture.md` is the map.

pub mod archive;
pub mod block;
pub mod bucket;
pub mod catalog;
pub mod cli;
pub mod envelope;
pub mod head;
pub mod jobs;
pub mod load;
pub mod log;
pub mod model;
pub mod receive;
pub mod restore;
pub mod runtime;
pub mod select;
pub mod server;
pub mod store;
pub mod tsdb;
pub mod wire;
