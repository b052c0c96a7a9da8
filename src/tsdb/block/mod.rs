//! Prometheus' blocks, as pure functions over bytes: meta.json, index, chunk files and tombstones.
//!
//! Owns the byte rules of a block folder's files, both ways, and the offline check of one block, which `promtool`
//! lacks. Not to be mixed up with the crate's own `block` module, the Parquet form.
//!
//! Vocabulary: a **series reference** is where a series stands in the index, in units of 16 bytes; a **chunk
//! reference** is a chunk file's number (from 0) and an offset in it; **postings** are the ascending references
//! of the series with one label; a **symbol** is a text of the index, named by its ordinal.
//!
//! Flow
//! 1. Writing: samples of a series → [`SeriesChunks`] (compute; one per thread) → [`BlockBuilder::add`] in order of
//!    labels → chunk files as it goes → [`BlockBuilder::finish`] writes index, meta.json and tombstones.
//! 2. Reading: [`IndexReader::open`] → series, postings, label values → [`BlockChunks::read`] →
//!    `chunk::decode_chunk`.
//! 3. Checking: [`check_block`] reads everything once and lists what is wrong.
//!
//! **Invariants**
//! - What is written opens in Prometheus 2.42 and later: index version 2, encodings 1 to 3, a tombstones file.
//! - Series ascend by labels; chunk references ascend over the whole index; the chunks of a series do not overlap.
//! - Every decoder bounds sizes by the bytes that are there before it allocates, and never panics.
//! - Checksums are verified on every read, not only on opening.
//!
//! **Crash consistency** is the caller's: he writes into a folder of another name, syncs what [`BlockFiles::close`]
//! hands him and renames the folder last. `meta.json` is written after chunks and index, as Prometheus does.
//!
//! What it does not do: no I/O (see [`ReadAt`] and [`BlockFiles`]), no compaction, no index cache.

mod check;
mod chunk_files;
mod cursor;
mod error;
mod files;
mod fuzz;
mod index;
mod meta;
mod series_chunks;
mod tombstones;
mod writer;

#[cfg(test)]
mod tests;

pub use check::{BlockParts, CheckReport, Finding, check_block};
pub use chunk_files::{BlockChunks, ChunkEntry, ChunkFile};
pub use error::BlockError;
#[cfg(test)]
pub(crate) use files::FilesInFolder;
pub use files::{BlockFile, BlockFiles, ReadAt};
pub use fuzz::{fuzz_block_chunks, fuzz_block_meta, fuzz_index, fuzz_tombstones};
pub use index::{ChunkMeta, IndexReader, IndexWriter, SeriesEntry, SeriesIter};
pub use meta::{
    BlockCompaction, BlockMeta, BlockParent, BlockStats, HINT_FROM_OUT_OF_ORDER, ThanosDownsample, ThanosMeta,
};
pub use series_chunks::SeriesChunks;
pub use tombstones::{Tombstone, decode_tombstones, encode_tombstones};
pub use writer::{BlockBuilder, BlockOptions};
