//! Prometheus' write-ahead log, out-of-order log (WBL) and checkpoints, as pure functions over bytes.
//!
//! Owns the **framing** that all of them share and the **records** inside. A **segment** is one file: pages of
//! 32 KiB that hold **fragments**, each with a CRC-32C; one or more fragments make a record, compressed as a whole
//! or not. A record never crosses segments. The first byte of a record is its **kind**.
//!
//! Flow: bytes of a segment → [`SegmentReader`] → [`SegmentRecord`] → [`Record::decode`], or [`decode_samples`]
//! where speed counts, or [`summarize`] where only counts and times are asked for. The other way
//! [`Record::encode`] → [`SegmentWriter`] → bytes that any Prometheus since 2.42 reads.
//!
//! **Invariants**
//! - A reader tells three ends apart: nothing more ([`Step::End`]), a record that is not wholly there yet
//!   ([`Step::Incomplete`], what a live log looks like now and then), and bytes that no writer leaves behind
//!   ([`Step::Damaged`]). Reading can start at any record's end, so a tailer goes on from the last one it has.
//! - No length in the bytes is believed before it is checked against what could follow; nothing here panics.
//! - What decodes is encoded to the same bytes again, if Prometheus wrote it: values as bit patterns, labels as
//!   they were stored, also when they are no UTF-8.
//! - Deltas wrap as they do in Go.
//!
//! What the checksum does not cover: a fragment's type byte. A flip that breaks the order of fragments, names an
//! unknown type or differs between the fragments of a record is damage. A flip that only says "compressed" of
//! a record that is not is caught where decompressing fails, which is nearly always; the reverse gives compressed
//! bytes, whose first is a length and mostly shows as [`RecordKind::Unknown`]. We are stricter than Prometheus
//! there, which ignores reserved bits.
//!
//! What it does not do: no I/O, no directory layout, no replay into series; which segments follow each other and
//! what a checkpoint replaces is known by `archive` and `restore`.

mod compression;
mod cursor;
mod error;
mod fuzz;
mod histograms;
mod labels;
mod reader;
mod record;
mod rows;
mod samples;
mod summary;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{Damage, Flaw, RecordError};
pub use fuzz::{fuzz_wal_record, fuzz_wal_segment};
pub use histograms::{FloatHistogramSample, HistogramSample, decode_histogram, encode_histogram};
pub use labels::WalLabels;
pub use reader::{RecordBounds, SegmentReader, SegmentRecord, Step};
pub use record::{Record, RecordKind};
pub use rows::{ExemplarRecord, MetadataRecord, MmapMarker, SeriesRecord, TombstoneRecord};
pub use samples::{FloatSample, decode_samples};
pub use summary::{RecordSummary, summarize};
pub use writer::{Compression, SegmentWriter};

/// The size of a page; a fragment never crosses one.
pub const PAGE_BYTES: usize = 32 * 1024;
/// The size at which Prometheus starts another segment, unless told otherwise.
pub const SEGMENT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The largest record that is decompressed. Prometheus' largest are a few MiB.
pub const RECORD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Type, length and checksum before the bytes of a fragment.
const HEADER_BYTES: usize = 7;
const SNAPPY_FLAG: u8 = 1 << 3;
const ZSTD_FLAG: u8 = 1 << 4;
const FRAGMENT_MASK: u8 = SNAPPY_FLAG - 1;
/// The types of a fragment; 0 is an unused page end.
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
