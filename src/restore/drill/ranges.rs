//! Which ranges can be compared, and what is known of them.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::compare::{RangeCheck, Tally};
use super::server::DrillServer;
use crate::archive::{
    ArchiveError, ArchiveView, Digest, DigestEntry, DigestRow, LogPosition, Position, Resolved,
};
use crate::bucket::LogKind;
use crate::restore::context::RestoreContext;
use crate::restore::error::RestoreError;
use crate::tsdb::wal::summarize;

/// The digests of one range: those that a restore must fulfil, and those that tell of later samples.
#[derive(Debug, Default)]
pub(super) struct RangeDigests {
    due: Vec<DigestEntry>,
    later: Vec<DigestEntry>,
    /// Those of the range before: closed a little later than that, they counted the first of this range's samples.
    before: Vec<DigestEntry>,
}

/// What a drill compares against.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    pub(super) context: &'a RestoreContext,
    pub(super) view: &'a ArchiveView,
    pub(super) found: &'a Resolved,
    /// Times of which samples were deleted or lost before the restored time, both ends inclusive.
    pub(super) taken: Vec<(i64, i64)>,
}

/// Returns the ranges that lie wholly before a position and whose samples the server still had, by their start.
pub(super) fn comparable(view: &ArchiveView, found: &Resolved) -> BTreeMap<i64, RangeDigests> {
    let held_from_ms = found.base.blocks.iter().map(|block| block.min_time_ms).min().unwrap_or(i64::MIN);
    let mut ranges: BTreeMap<i64, RangeDigests> = BTreeMap::new();
    for digest in view.digests.iter().filter(|digest| digest.min_time_ms >= held_from_ms) {
        let range = ranges.entry(digest.min_time_ms).or_default();
        if is_reached(view, &digest.position, &found.position) {
            range.due.push(digest.clone());
        } else {
            range.later.push(digest.clone());
        }
    }
    ranges.retain(|_, range| !range.due.is_empty());
    let mut before: Vec<DigestEntry> = Vec::new();
    for range in ranges.values_mut() {
        range.before = std::mem::replace(&mut before, range.due.clone());
    }
    ranges
}

/// Returns whether both logs were read past a digest where they are cut, or where the way there left its timeline.
fn is_reached(view: &ArchiveView, digest: &Position, restored: &Position) -> bool {
    let lineage = view.lineage(restored.timeline);
    let Some((_, until)) = lineage.iter().find(|(timeline, _)| timeline.number == digest.timeline) else {
        return false;
    };
    let (digest, until) = (view.settled(digest), view.settled(&until.unwrap_or(*restored)));
    digest.wal <= until.wal && late_log(&digest) <= late_log(&until)
}

/// A log of out-of-order samples that is not there has been read to its beginning.
fn late_log(position: &Position) -> LogPosition {
    position.wbl.unwrap_or_default()
}

impl RangeDigests {
    /// Returns about how many series there are to read.
    pub(super) fn series(&self) -> u64 {
        self.due.iter().map(|digest| digest.series).max().unwrap_or(0)
    }

    /// Reads the range from the server and compares it; a range without a whole digest is left out.
    pub(super) async fn compare(
        self,
        recorded: &Recorded<'_>,
        server: &DrillServer,
        tally: &mut Tally,
    ) -> Result<(), RestoreError> {
        let Some(first) = self.due.first() else { return Ok(()) };
        let range = (first.min_time_ms, first.max_time_ms);
        let due = recorded.read(&self.due).await?;
        let Some(whole) = due.iter().position(|digest| digest.is_whole) else { return Ok(()) };
        let mut unsettled = HashSet::new();
        for digest in recorded.read(&self.later).await? {
            unsettled.extend(digest.rows.into_iter().map(|row| row.labels));
        }
        let mut undeclared = due.iter().any(|digest| digest.undeclared > 0);
        let mut expected: HashMap<u64, DigestRow> = HashMap::new();
        for row in due.into_iter().flat_map(|digest| digest.rows) {
            let sum = expected.entry(row.labels).or_default();
            sum.merge(&row);
            sum.labels = row.labels;
        }
        let taken = recorded.taken.iter().any(|(first, last)| *first < range.1 && *last >= range.0);
        let mut check = RangeCheck::new(range, expected, unsettled, taken);
        let each = |labels: &_, row: &_| {
            check.see(labels, row, tally);
            recorded.context.progress.advance(1);
        };
        server.read(range, recorded.context, each).await?;
        check.end(tally);
        let mut late = false;
        if check.has_more() {
            undeclared |= recorded.read(&self.before).await?.iter().any(|digest| digest.undeclared > 0);
            late = undeclared || recorded.came_after(&self.due[whole].position, range).await?;
        }
        check.finish(late, tally);
        Ok(())
    }
}

impl Recorded<'_> {
    async fn read(&self, entries: &[DigestEntry]) -> Result<Vec<Digest>, ArchiveError> {
        let mut digests = Vec::with_capacity(entries.len());
        for entry in entries {
            digests.push(self.context.archive.read_digest(entry).await?);
        }
        Ok(digests)
    }

    /// Returns whether samples of a range stand in the logs after a position: an archiver that ends before it closes
    /// the next range records nothing of them. So it is, too, where the logs are no longer kept.
    pub(super) async fn came_after(
        &self,
        closed: &Position,
        range: (i64, i64),
    ) -> Result<bool, ArchiveError> {
        let overlaps = |times: Option<(i64, i64)>| times.is_some_and(|(a, b)| a < range.1 && b >= range.0);
        for log in [LogKind::Wal, LogKind::Wbl] {
            let closed_at = closed.of(log).unwrap_or_default();
            let Ok(cuts) = self.view.pieces_to(log, closed_at.segment, &self.found.position) else {
                return Ok(true);
            };
            for cut in cuts {
                let piece = &cut.piece;
                let passed = piece.timeline == closed.timeline && piece.end_position() <= closed_at;
                if passed || piece.timeline < closed.timeline || !overlaps(piece.sample_times_ms) {
                    continue;
                }
                let within = piece.timeline == closed.timeline && piece.segment == closed_at.segment;
                let from = if within { closed_at.offset } else { 0 };
                let records = self.context.archive.read_piece(piece).await?;
                let mut after =
                    records.records().filter(|record| from < record.end && record.end <= cut.until);
                if after.any(|record| summarize(record.data).is_ok_and(|found| overlaps(found.times_ms))) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
