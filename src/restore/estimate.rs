//! How long a restore takes: the work of each phase by measured rates.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;

use super::context::RestoreContext;
use super::inventory::Inventory;
use super::plan::{PlannedFetch, PlannedLog};
use super::request::{HeadMode, RestoreRequest};
use crate::bucket::ObjectKey;

/// How many objects are fetched at once, by the probe and by the run.
pub(super) const FETCHES_AT_ONCE: usize = 8;

/// What the probe reads at most.
const PROBE_BYTES_MAX: u64 = 32 << 20;

/// Below this the probe is not worth its time.
const PROBE_BYTES_MIN: u64 = 8 << 20;

/// A rate that is not measured because there is little to fetch.
const FETCH_BYTES_PER_SECOND: f64 = (100 << 20) as f64;

/// Hashing and writing of files, per thread.
const FILE_BYTES_PER_SECOND: f64 = (350 << 20) as f64;

/// Samples of the log that are decoded, sorted and encoded, per thread.
const BUILD_SAMPLES_PER_SECOND: f64 = 3_000_000.0;

/// Records that are written to a log.
const WAL_BYTES_PER_SECOND: f64 = (150 << 20) as f64;

/// What every restore takes, however small.
const FIXED_SECONDS: f64 = 0.3;

/// What a sample takes in a block that is built of the log.
const BLOCK_BYTES_PER_SAMPLE: u64 = 2;

/// What there is to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Work {
    fetch_bytes: u64,
    fetch_objects: u64,
    file_bytes: u64,
    /// Of those, what is hard-linked out of the target.
    local_bytes: u64,
    /// What blocks may take once more, as they are rewritten beside the fetched ones.
    rewritten_bytes: u64,
    stage_bytes: u64,
    plain_log_bytes: u64,
    head_samples: u64,
    wal_bytes: u64,
}

impl Work {
    pub(super) fn of(
        inventory: &Inventory,
        fetch: PlannedFetch,
        log: PlannedLog,
        (head, rewrites): (HeadMode, bool),
    ) -> Self {
        let file_bytes = inventory.blocks.iter().map(super::inventory::BlockInventory::plain_bytes).sum();
        let verbatim = head == HeadMode::Wal;
        let log_bytes = log.plain_bytes.saturating_add(log.checkpoint_bytes);
        Self {
            fetch_bytes: fetch.stored_bytes,
            fetch_objects: fetch.objects,
            file_bytes,
            local_bytes: fetch.local_bytes,
            rewritten_bytes: if rewrites { file_bytes } else { 0 },
            stage_bytes: log.stored_bytes.saturating_add(log.checkpoint_bytes),
            plain_log_bytes: log_bytes,
            head_samples: if verbatim { 0 } else { log.samples },
            wal_bytes: if verbatim { log_bytes } else { log_bytes / 20 },
        }
    }

    /// Returns the room that it needs at its peak: files that are not there yet, rewritten blocks,
    /// staged pieces, the log and blocks of the head.
    pub(super) fn disk_bytes(&self) -> u64 {
        let head = self.head_samples.saturating_mul(BLOCK_BYTES_PER_SAMPLE);
        let files = self.file_bytes.saturating_sub(self.local_bytes).saturating_add(self.rewritten_bytes);
        let parts = [files, self.stage_bytes, self.wal_bytes, head, 16 << 20];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// How long a restore takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// All of it.
    pub seconds: f64,
    /// Of that, reading from the bucket.
    pub fetch_seconds: f64,
    /// The rate that was measured or assumed for that.
    pub fetch_bytes_per_second: f64,
    /// Whether the rate was measured just now.
    pub measured: bool,
}

/// Measures how fast the bucket is, where there is much to fetch, and adds up the phases.
pub(super) async fn estimate(
    context: &RestoreContext,
    request: &RestoreRequest,
    inventory: &Inventory,
    work: Work,
) -> Estimate {
    let measured = if work.fetch_bytes >= PROBE_BYTES_MIN { probe(context, inventory).await } else { None };
    let rate = measured.unwrap_or(FETCH_BYTES_PER_SECOND);
    let limited = request.limit_bytes_per_second.map_or(rate, |limit| rate.min(limit as f64));
    // Small objects take a round trip each.
    let round_trips = work.fetch_objects as f64 * 0.002 / FETCHES_AT_ONCE as f64;
    let fetch_seconds = (work.fetch_bytes as f64 / limited.max(1.0)).max(round_trips);
    let threads = context.threads as f64;
    let seconds = FIXED_SECONDS
        + fetch_seconds
        + (work.file_bytes + work.rewritten_bytes + work.plain_log_bytes) as f64
            / (FILE_BYTES_PER_SECOND * threads)
        + work.head_samples as f64 / (BUILD_SAMPLES_PER_SECOND * threads)
        + work.wal_bytes as f64 / WAL_BYTES_PER_SECOND;
    let rounded = |seconds: f64| (seconds * 10.0).round() / 10.0;
    Estimate {
        seconds: rounded(seconds),
        fetch_seconds: rounded(fetch_seconds),
        fetch_bytes_per_second: limited.round(),
        measured: measured.is_some(),
    }
}

/// Reads some of the objects as the run will, and returns the bytes per second.
async fn probe(context: &RestoreContext, inventory: &Inventory) -> Option<f64> {
    let source = context.archive.source();
    let blocks = inventory.blocks.iter().flat_map(|block| &block.files);
    let parts = blocks.flat_map(|file| {
        let keys = (0_u32..).zip(&file.parts).filter_map(|(i, part)| Some((file.part_key(source, i)?, part)));
        keys.map(|(key, part)| (key, part.stored_bytes))
    });
    let resolved = &inventory.resolved;
    let pieces = resolved.wal.iter().chain(&resolved.wbl);
    let pieces = pieces.map(|cut| (cut.piece.key(source), cut.piece.stored_bytes));
    let mut bytes = 0;
    let sample: Vec<(ObjectKey, u64)> = parts
        .chain(pieces)
        .take_while(|(_, size)| {
            bytes += size;
            bytes <= PROBE_BYTES_MAX
        })
        .collect();
    let begun_ms = context.clock.monotonic_ms();
    let bucket = Arc::new(context.archive.bucket().clone());
    let reads = sample.iter().map(|(key, _)| bucket.get(key));
    let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(FETCHES_AT_ONCE).collect().await;
    let bytes: usize = read.iter().filter_map(|read| read.as_ref().ok()).map(bytes::Bytes::len).sum();
    let elapsed_ms = (context.clock.monotonic_ms() - begun_ms).max(1);
    (bytes > 0).then(|| bytes as f64 * 1_000.0 / elapsed_ms as f64)
}
