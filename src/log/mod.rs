//! The durable log: what a receiver writes before it acknowledges, and reads back when it starts.
//!
//! There are two kinds behind one type, [`Log`]: on disk, which is told of here, and in the bucket, see [`object`]. The
//! bodies of their entries are the same.
//!
//! **Vocabulary.** An *entry* is what one commit makes durable: batches of any tenants, numbered by a *sequence
//! number*. A *segment* is a file of entries. An *epoch* is one opening of the log, named by a ULID; its sequence
//! numbers start at 1. A *position* is (epoch, sequence number); the catalog says which positions blocks cover.
//!
//! **Flow**
//! 1. [`DiskLog::open`] locks the directory, checks what earlier epochs left, cuts off a torn tail, and returns a
//!    [`RecoveredSegment`] for each segment, oldest first. The caller replays those that the catalog does not cover.
//! 2. [`DiskLog::append`] writes an entry and calls fdatasync. One thread appends; what arrives behind a running
//!    append is batched into the next, so that an idle writer waits for no timer.
//! 3. At a cut [`DiskLog::start_segment`] ends the segment, and once the blocks are durable [`DiskLog::release`]
//!    deletes the segments they cover.
//!
//! Segments lie at `<dir>/<epoch>/<first sequence number>.log`. `docs/formats/log.md` has the bytes.
//!
//! **Invariants**
//! - A position that `append` returned is durable, and so are all before it.
//! - After a failed write or fsync a file takes no more entries. The next segment records up to where it is good.
//! - A segment stands alone: a series is declared again, with its labels, in each segment that has samples of it.
//!   Metadata is not repeated: it stands once in the segments between two cuts, which are released together.
//! - A segment names the one before it, where that one ended, and its last sequence number, across epochs too.
//!   Segments are deleted oldest first, so that a missing one is told from a released one.
//! - Nothing is skipped silently. Damage and missing segments refuse the start, unless `skip_damaged` is set, which
//!   replays what reads, reports the rest, and keeps the file.
//!
//! **Crash consistency**
//! - In `append`: the entry is torn, or whole but not acknowledged. A torn one is the very last of the log, since
//!   an entry is written only after the one before it is durable, so that valid bytes after a bad entry mean damage.
//!   `open` cuts it off. A whole one is replayed: samples that nobody acknowledged may appear, none may go.
//! - When a segment is created: it is written under a temporary name and renamed once durable. `open` deletes
//!   temporary files; a segment with its final name has a whole header.
//! - In `release`: a prefix of the history is gone; `release` is simply called again.
//!
//! What it cannot tell: bit rot in the very last entry from a torn write, and the loss of whole segments at either
//! end of the history.
//!
//! It does not decide what is covered, does not know the catalog, and runs no thread.

mod bytes;
mod columns;
mod decode;
mod directory;
mod disk;
mod error;
mod files;
mod frame;
mod inspect;
mod kind;
pub mod object;
mod recovery;
mod replay;
mod sections;
mod segment;
mod series_set;

#[cfg(test)]
mod tests;

use std::fmt;

pub use decode::fuzz_log;
pub use directory::has_segments;
pub use disk::DiskLog;
pub use error::LogError;
pub use files::{LogFile, LogFiles, OsFiles};
pub use inspect::{EpochReport, InspectProgress, LogPlace, TenantReport, inspect_disk, inspect_objects};
pub use kind::Log;
pub use replay::{RecoveredSegment, SegmentReader, Skipped};

use crate::model::{Exemplar, HistogramSample, Labels, MetadataEntry, Sample, TenantId};

/// What can be set about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A segment of this size is followed by a new one. Smaller ones are let go sooner and declare series more often.
    pub segment_bytes_max: u64,
    /// Goes on where a segment is damaged or missing, with what can be read.
    pub skip_damaged: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { segment_bytes_max: 64 << 20, skip_damaged: false }
    }
}

/// A sample and the number of its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedSample {
    /// The series' number, as the writer numbers the series of the tenant.
    pub series: u32,
    /// The sample.
    pub sample: Sample,
}

/// A native histogram and the number of its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedHistogram {
    /// The series' number.
    pub series: u32,
    /// The sample.
    pub sample: HistogramSample,
}

/// An exemplar and the number of its series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedExemplar {
    /// The series' number.
    pub series: u32,
    /// The exemplar.
    pub exemplar: Exemplar,
}

/// What is to be logged of one tenant.
#[derive(Clone, Copy)]
pub struct TenantWrite<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Its float samples, in any order.
    pub samples: &'a [LoggedSample],
    /// Its native histograms, in any order.
    pub histograms: &'a [LoggedHistogram],
    /// Its exemplars, in any order.
    pub exemplars: &'a [LoggedExemplar],
    /// Its metadata.
    pub metadata: &'a [MetadataEntry],
    /// Returns the labels of a series; asked for series that the open segment has not declared.
    pub labels: &'a dyn Fn(u32) -> Labels,
}

impl TenantWrite<'_> {
    /// Returns whether there is nothing to log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
            && self.histograms.is_empty()
            && self.exemplars.is_empty()
            && self.metadata.is_empty()
    }
}

impl fmt::Debug for TenantWrite<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantWrite")
            .field("tenant", self.tenant)
            .field("samples", &self.samples.len())
            .field("histograms", &self.histograms.len())
            .field("exemplars", &self.exemplars.len())
            .field("metadata", &self.metadata.len())
            .finish_non_exhaustive()
    }
}

/// One entry, read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence number.
    pub seq: u64,
    /// What it holds; a tenant may come more than once.
    pub tenants: Vec<TenantEntry>,
}

impl Entry {
    /// Returns how many samples it holds, floats and histograms.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.tenants.iter().map(|tenant| tenant.samples.len() + tenant.histograms.len()).sum()
    }
}

/// What an entry holds of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantEntry {
    /// The tenant.
    pub tenant: TenantId,
    /// Series numbers that mean these labels from here to the end of the segment.
    pub declared: Vec<(u32, Labels)>,
    /// The float samples; every series number was declared here or earlier in the segment.
    pub samples: Vec<LoggedSample>,
    /// The native histograms, of declared series too.
    pub histograms: Vec<LoggedHistogram>,
    /// The exemplars, of declared series too.
    pub exemplars: Vec<LoggedExemplar>,
    /// The metadata.
    pub metadata: Vec<MetadataEntry>,
}
