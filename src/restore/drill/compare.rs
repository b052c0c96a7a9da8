//! Holds what a server answers against what was recorded.

use hashbrown::HashMap;
use serde::Serialize;

use crate::archive::DigestRow;
use crate::model::Labels;

/// More differences tell nothing new.
const DIFFERENCES_MAX: usize = 1_000;

/// A series that is not as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeriesDifference {
    /// Start of the range.
    pub min_time_ms: i64,
    /// End of the range, exclusive.
    pub max_time_ms: i64,
    /// The series; the hash of its labels where the server does not know it.
    pub series: String,
    /// Samples that were recorded.
    pub recorded: u32,
    /// Samples that the server answered.
    pub restored: u32,
}

/// What comparing came to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) ranges: u64,
    pub(super) equal_series: u64,
    pub(super) equal_samples: u64,
    pub(super) deleted_series: u64,
    pub(super) late_series: u64,
    pub(super) differences: Vec<SeriesDifference>,
    pub(super) omitted: u64,
}

/// What was recorded of a series.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expected {
    pub(super) row: DigestRow,
    /// Further samples were recorded after the restored position.
    pub(super) unsettled: bool,
}

/// Compares the series of one range.
#[derive(Debug)]
pub(super) struct RangeCheck {
    range: (i64, i64),
    expected: HashMap<u64, Expected>,
    deleted: bool,
}

impl RangeCheck {
    pub(super) fn new(range: (i64, i64), expected: HashMap<u64, Expected>, deleted: bool) -> Self {
        Self { range, expected, deleted }
    }

    /// Takes a series with what its samples add up to.
    pub(super) fn see(&mut self, labels: &Labels, found: &DigestRow, tally: &mut Tally) {
        match self.expected.remove(&found.labels) {
            Some(expected) => self.compare(&expected, found, || labels.to_string(), tally),
            // It came only after the range was recorded, or was never declared to the archiver.
            None => tally.late_series += 1,
        }
    }

    /// Ends the range: what is left was not answered.
    pub(super) fn finish(mut self, tally: &mut Tally) {
        tally.ranges += 1;
        for (hash, expected) in std::mem::take(&mut self.expected) {
            let nothing = DigestRow { labels: hash, ..DigestRow::default() };
            let name = || format!("a series that the server does not know (labels hash {hash:016x})");
            self.compare(&expected, &nothing, name, tally);
        }
    }

    fn compare(
        &self,
        expected: &Expected,
        found: &DigestRow,
        name: impl FnOnce() -> String,
        tally: &mut Tally,
    ) {
        let recorded = expected.row;
        if (recorded.count, recorded.sum, recorded.hash) == (found.count, found.sum, found.hash) {
            tally.equal_series += 1;
            tally.equal_samples += u64::from(found.count);
            return;
        }
        // A late sample may stand beside one of the same time, of which a query shows one.
        let least = recorded.count.saturating_sub(recorded.late);
        let doubled = recorded.late > 0 && (least..=recorded.count).contains(&found.count);
        if doubled || expected.unsettled || found.count > recorded.count {
            tally.late_series += 1;
        } else if found.count < recorded.count && self.deleted {
            tally.deleted_series += 1;
        } else if tally.differences.len() < DIFFERENCES_MAX {
            tally.differences.push(SeriesDifference {
                min_time_ms: self.range.0,
                max_time_ms: self.range.1,
                series: name(),
                recorded: recorded.count,
                restored: found.count,
            });
        } else {
            tally.omitted += 1;
        }
    }
}
