//! What a server lost before the restored time, and so does not answer though it was recorded.

use crate::archive::{Archive, ArchiveError, ArchiveView, Event, EventKind, Resolved};
use crate::bucket::LogKind;
use crate::model::Ulid;
use crate::restore::context::RestoreContext;
use crate::tsdb::wal::Record;

/// Returns the times of which samples were deleted, or whose block had gone, both ends inclusive.
pub(super) async fn taken(
    context: &RestoreContext,
    view: &ArchiveView,
    found: &Resolved,
    as_of_ms: i64,
) -> Result<Vec<(i64, i64)>, ArchiveError> {
    let lineage = view.lineage(found.position.timeline);
    let applies = |event: &&Event| {
        let timeline = event.position.timeline;
        // On the way there everything was before it, whatever the clock said.
        let passed = timeline < found.position.timeline;
        (event.at_ms <= as_of_ms || passed) && lineage.iter().any(|(known, _)| known.number == timeline)
    };
    let mut times = Vec::new();
    for event in view.events.iter().filter(applies) {
        let known = match (event.kind, event.block) {
            (EventKind::Delete | EventKind::BlockGone, Some(block)) => times_of_block(view, block),
            (EventKind::Delete, None) => times_in_log(&context.archive, view, event).await?,
            _ => continue,
        };
        match known {
            Some(known) => times.push(known),
            // It cannot have been newer than the delete.
            None if event.kind == EventKind::Delete => times.push((i64::MIN, event.at_ms)),
            // A block that no kept base knows went before all of them.
            None => {}
        }
    }
    Ok(times)
}

fn times_of_block(view: &ArchiveView, block: Ulid) -> Option<(i64, i64)> {
    let mut blocks = view.bases.iter().rev().flat_map(|base| &base.blocks);
    let block = blocks.find(|known| known.id == block)?;
    Some((block.min_time_ms, block.max_time_ms.saturating_sub(1)))
}

/// Reads what a delete in the log deleted; nothing where that part of the log is not kept.
async fn times_in_log(
    archive: &Archive,
    view: &ArchiveView,
    event: &Event,
) -> Result<Option<(i64, i64)>, ArchiveError> {
    let at = event.position.wal;
    let Some(timeline) = view.timelines.get(&event.position.timeline) else { return Ok(None) };
    let mut pieces = timeline.pieces(LogKind::Wal).iter();
    let holds = pieces.find(|piece| piece.start_position() <= at && at < piece.end_position());
    let Some(entry) = holds else { return Ok(None) };
    let piece = archive.read_piece(entry).await?;
    for record in piece.records().filter(|record| record.end > at.offset) {
        let Ok(Record::Tombstones(tombstones)) = Record::decode(record.data) else { continue };
        let ranges = tombstones.iter().filter(|tombstone| !tombstone.is_whole_series());
        let times = ranges.fold(None, |times: Option<(i64, i64)>, range| {
            let (first, last) = times.unwrap_or((i64::MAX, i64::MIN));
            Some((first.min(range.min_time_ms), last.max(range.max_time_ms)))
        });
        if times.is_some() {
            return Ok(times);
        }
    }
    Ok(None)
}
