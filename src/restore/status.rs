//! What an archive offers: window, timelines, gaps, size.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::archive::{ArchiveView, EventKind, Timeline};
use crate::model::Ulid;

/// What an archive offers.
#[derive(Debug, Clone, Serialize)]
pub struct ArchiveStatus {
    /// The source.
    pub source: String,
    /// The first and last time that `--as-of` takes.
    pub window_ms: Option<(i64, i64)>,
    /// When the last entry was made.
    pub last_entry_ms: i64,
    /// How long ago that was.
    pub last_entry_age_ms: i64,
    /// The number of the last entry.
    pub entries: u64,
    /// Timelines, the oldest first.
    pub timelines: Vec<TimelineStatus>,
    /// Times of which records are missing.
    pub gaps: Vec<GapStatus>,
    /// Points from which a restore can start.
    pub bases: u64,
    /// Blocks of the newest base.
    pub blocks: u64,
    /// Pieces of the logs.
    pub pieces: u64,
    /// Size of the pieces in the bucket.
    pub piece_bytes: u64,
    /// Size of all blocks in the bucket.
    pub block_bytes: u64,
    /// The version of the server, where it is known.
    pub version: Option<String>,
    /// Its external labels.
    pub external_labels: BTreeMap<String, String>,
    /// Deletions that were seen.
    pub deletes: u64,
}

/// A timeline.
#[derive(Debug, Clone, Serialize)]
pub struct TimelineStatus {
    /// Its number.
    pub number: u32,
    /// The one that it left.
    pub parent: Option<u32>,
    /// Why it begins.
    pub reason: &'static str,
    /// When that was noticed.
    pub noticed_ms: i64,
    /// When its newest entry was made.
    pub last_ms: i64,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A time of which records are missing.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GapStatus {
    /// The timeline that begins after it.
    pub timeline: u32,
    /// The last moment before.
    pub from_ms: i64,
    /// The first moment after.
    pub to_ms: i64,
}

/// Sums up an archive.
#[must_use]
pub fn status(view: &ArchiveView, now_ms: i64) -> ArchiveStatus {
    let timelines: Vec<&Timeline> = view.timelines.values().collect();
    let pieces = || timelines.iter().flat_map(|timeline| timeline.wal.iter().chain(&timeline.wbl));
    let stored = view.bases.iter().flat_map(|base| &base.blocks).flat_map(|state| &state.stored);
    let uploads: BTreeMap<Ulid, u64> = stored.map(|block| (block.upload, block.stored_bytes)).collect();
    let facts = view.server_at(i64::MAX);
    ArchiveStatus {
        source: view.source.to_string(),
        window_ms: view.window_ms(),
        last_entry_ms: view.last_made.wall_ms,
        last_entry_age_ms: now_ms.saturating_sub(view.last_made.wall_ms),
        entries: view.end.seq,
        gaps: gaps(&timelines),
        bases: view.bases.len() as u64,
        blocks: view.bases.last().map_or(0, |base| base.blocks.len() as u64),
        pieces: pieces().count() as u64,
        piece_bytes: pieces().map(|piece| piece.stored_bytes).sum(),
        block_bytes: uploads.values().sum(),
        version: facts.and_then(|facts| facts.version.clone()),
        external_labels: facts.map(|facts| facts.external_labels.clone()).unwrap_or_default(),
        deletes: view.events.iter().filter(|event| event.kind == EventKind::Delete).count() as u64,
        timelines: timelines.iter().map(|timeline| timeline_status(timeline)).collect(),
    }
}

fn timeline_status(timeline: &Timeline) -> TimelineStatus {
    TimelineStatus {
        number: timeline.number,
        parent: timeline.fork.parent,
        reason: timeline.fork.reason.name(),
        noticed_ms: timeline.fork.noticed.wall_ms,
        last_ms: timeline.last_made.wall_ms,
        detail: timeline.fork.detail.clone(),
    }
}

fn gaps(timelines: &[&Timeline]) -> Vec<GapStatus> {
    let gap = |pair: &[&Timeline]| {
        let [before, after] = pair else { return None };
        let to_ms = after.wal.first().map_or(after.fork.noticed.wall_ms, |piece| {
            if piece.after_ms > 0 { piece.after_ms } else { piece.seen.wall_ms }
        });
        (after.fork.reason == crate::archive::ForkReason::Gap).then_some(GapStatus {
            timeline: after.number,
            from_ms: before.last_made.wall_ms,
            to_ms,
        })
    };
    timelines.windows(2).filter_map(gap).collect()
}
