//! The bytes that come over the network and go back: pure functions between bytes and the model.
//!
//! [`remote_write`] walks write requests, [`snappy`] is the compression they and remote read use ([`snappy_stream`] that of gRPC), [`remote_read`]
//! answers a Prometheus that reads back. [`store_api`] is what Thanos queriers ask; its messages are generated
//! from `schemas/proto`. Nothing here opens a socket, reads a clock, logs or keeps state between requests.
//!
//! Vocabulary: a *body* is a request after decompression; *as sent* means bytes of the body that were stepped
//! over but not yet read; *canonical* is the form of [`Labels`](crate::model::Labels).
//!
//! **Invariants**
//! - Input never panics and never recurses. Every decoder knows a bound before it allocates: a length that is
//!   claimed is checked against the bytes that are there and against a limit first.
//! - What a decoder does not understand it either refuses or was told by the protocol to skip; it never drops
//!   data that the sender would then believe written.
//! - Values and stale markers are moved as bits.
//!
//! What it does not do: HTTP, content negotiation beyond the content type, admission by time or tenant, and
//! anything with the series once they are handed on.

mod chunk;
mod error;
mod generated;
mod protobuf;

pub mod fuzz;
pub mod fuzz_read;
pub mod remote_read;
pub mod remote_write;
pub mod snappy;
pub mod snappy_stream;
pub mod store_api;

pub use chunk::{ChunkKind, WireChunk};
pub use error::{Malformed, WireError};
