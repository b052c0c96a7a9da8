//! Which ranges can be compared, and what is known of them.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::compare::{Expected, RangeCheck, Tally};
use super::server::DrillServer;
use crate::archive::{
    Archive, ArchiveError, ArchiveView, DigestEntry, DigestRow, EventKind, Position, Resolved,
};
use crate::restore::context::RestoreContext;
use crate::restore::error::RestoreError;

/// The digests of one range: those that a restore must fulfil, and those that tell of later samples.
#[derive(Debug, Default)]
pub(super) struct RangeDigests {
    due: Vec<DigestEntry>,
    later: Vec<DigestEntry>,
    /// Samples may have been deleted.
    deleted: bool,
}

/// Returns the ranges that lie wholly before a position and whose samples the server still had, by their start.
pub(super) fn comparable(view: &ArchiveView, found: &Resolved) -> BTreeMap<i64, RangeDigests> {
    let held_from_ms = found.base.blocks.iter().map(|block| block.min_time_ms).min().unwrap_or(i64::MIN);
    let taken = |kind| matches!(kind, EventKind::Delete | EventKind::BlockGone | EventKind::BlockUnreadable);
    let deleted = view.events.iter().any(|event| taken(event.kind) && event.at_ms <= found.written_ms);
    let mut ranges: BTreeMap<i64, RangeDigests> = BTreeMap::new();
    for digest in view.digests.iter().filter(|digest| digest.min_time_ms >= held_from_ms) {
        let range = ranges.entry(digest.min_time_ms).or_default();
        range.deleted = deleted;
        if is_reached(view, &digest.position, &found.position) {
            range.due.push(digest.clone());
        } else {
            range.later.push(digest.clone());
        }
    }
    ranges.retain(|_, range| !range.due.is_empty());
    ranges
}

fn is_reached(view: &ArchiveView, digest: &Position, restored: &Position) -> bool {
    // Two logs are cut by themselves: within a timeline both have to be past the digest.
    let late = digest.timeline != restored.timeline || digest.wbl <= restored.wbl;
    late && view.is_before(digest, restored)
}

impl RangeDigests {
    /// Returns about how many series there are to read.
    pub(super) fn series(&self) -> u64 {
        self.due.iter().map(|digest| digest.series).max().unwrap_or(0)
    }

    /// Reads the range from the server and compares it; a range without a whole digest is left out.
    pub(super) async fn compare(
        self,
        context: &RestoreContext,
        server: &DrillServer,
        tally: &mut Tally,
    ) -> Result<(), RestoreError> {
        let Some(first) = self.due.first() else { return Ok(()) };
        let range = (first.min_time_ms, first.max_time_ms);
        let Some(expected) = self.expected(&context.archive).await? else { return Ok(()) };
        let mut check = RangeCheck::new(range, expected, self.deleted);
        let each = |labels: &_, row: &_| {
            check.see(labels, row, tally);
            context.progress.advance(1);
        };
        server.read(range, context, each).await?;
        check.finish(tally);
        Ok(())
    }

    async fn expected(&self, archive: &Archive) -> Result<Option<HashMap<u64, Expected>>, ArchiveError> {
        let mut expected: HashMap<u64, Expected> = HashMap::new();
        let mut is_whole = false;
        for entry in &self.due {
            let digest = archive.read_digest(entry).await?;
            is_whole |= digest.is_whole;
            for row in digest.rows {
                let sum = expected.entry(row.labels).or_default();
                sum.row.merge(&DigestRow { labels: row.labels, ..row });
                sum.row.labels = row.labels;
            }
        }
        if !is_whole {
            return Ok(None);
        }
        let mut unsettled = HashSet::new();
        for entry in &self.later {
            unsettled.extend(archive.read_digest(entry).await?.rows.into_iter().map(|row| row.labels));
        }
        for (labels, expected) in &mut expected {
            expected.unsettled = unsettled.contains(labels);
        }
        Ok(Some(expected))
    }
}
