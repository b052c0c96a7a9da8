//! The samples that a server had in memory, made into blocks without it.
//!
//! Owns the replay of checkpoint, WAL and log of out-of-order samples, by the rules that Prometheus follows when it
//! starts, and the blocks made of what comes out.
//!
//! Vocabulary: the *cut-off* is the end of the newest in-order block: the server drops samples of the log before it. A
//! *late* sample stands in the log of out-of-order samples. A *pass* reads the log for a range of series, so that memory
//! is bounded.
//!
//! Flow
//! 1. One pass over the WAL finds the series and what was deleted of them ([`SeriesTable`]).
//! 2. Per pass, every thread reads the log and collects the samples of its share of the series ([`collect`]).
//! 3. Batches of series are encoded in parallel and written in order of labels, one block per range of time.
//!
//! **Invariants**
//! - A sample counts if its time is after the newest in-order one of its series before it; late samples count always.
//!   Of two
//!   with one time the late one stays, as in a query to a running server.
//! - Samples before the cut-off are left out, but late ones.
//! - Two records that give one label set two numbers mean one series, unless the series was given up in between.
//! - The blocks carry the hint `from-out-of-order`, so that they do not move the cut-off: what the restored log holds is
//!   replayed as before.
//! - The same log gives the same bytes.
//!
//! What it does not do: exemplars and metadata, which no block holds.

mod blocks;
mod collect;
mod series;

pub(super) use blocks::{FilesInFolder, HeadBlocks, block_id, build_blocks, push};

use super::request::{Selector, ServerVersion};

/// What goes into blocks.
#[derive(Debug, Clone)]
pub(super) struct HeadRules {
    /// The end of the newest in-order block.
    pub(super) cut_off_ms: i64,
    /// Samples after this are left out.
    pub(super) until_ms: i64,
    /// Only these series.
    pub(super) selectors: Vec<Selector>,
    /// Whether deleted ranges hide late samples too, as versions from 3.0 on have it.
    pub(super) deletes_late: bool,
    /// Who has to read the blocks.
    pub(super) version: Option<ServerVersion>,
}
