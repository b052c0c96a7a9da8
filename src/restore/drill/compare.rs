//! Holds what a server answers against what was recorded.

use hashbrown::{HashMap, HashSet};
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

/// Compares the series of one range.
#[derive(Debug)]
pub(super) struct RangeCheck {
    range: (i64, i64),
    expected: HashMap<u64, DigestRow>,
    /// Series of which more was recorded after the restored position.
    unsettled: HashSet<u64>,
    /// Samples of this range were deleted, or their block has gone.
    deleted: bool,
    /// Series with more than was recorded, or as much of something else.
    more: Vec<SeriesDifference>,
    more_omitted: u64,
}

impl RangeCheck {
    pub(super) fn new(
        range: (i64, i64),
        expected: HashMap<u64, DigestRow>,
        unsettled: HashSet<u64>,
        deleted: bool,
    ) -> Self {
        Self { range, expected, unsettled, deleted, more: Vec::new(), more_omitted: 0 }
    }

    /// Takes a series with what its samples add up to.
    pub(super) fn see(&mut self, labels: &Labels, found: &DigestRow, tally: &mut Tally) {
        // Of histograms nothing is counted.
        if found.count > 0 || self.expected.contains_key(&found.labels) {
            let recorded = self.expected.remove(&found.labels).unwrap_or_default();
            self.compare(&recorded, found, || labels.to_string(), tally);
        }
    }

    /// Notes that nothing more is answered: what is left is missing.
    pub(super) fn end(&mut self, tally: &mut Tally) {
        tally.ranges += 1;
        for (hash, recorded) in std::mem::take(&mut self.expected) {
            let nothing = DigestRow { labels: hash, ..DigestRow::default() };
            let name = || format!("a series that the server does not know (labels hash {hash:016x})");
            self.compare(&recorded, &nothing, name, tally);
        }
    }

    /// Returns whether there are series with more than was recorded, which only late samples could explain.
    pub(super) fn has_more(&self) -> bool {
        !self.more.is_empty()
    }

    /// Ends the range. `late` says whether samples of it came without being recorded.
    pub(super) fn finish(self, late: bool, tally: &mut Tally) {
        if late {
            tally.late_series += self.more.len() as u64 + self.more_omitted;
            return;
        }
        self.more
            .into_iter()
            .for_each(|difference| note(&mut tally.differences, &mut tally.omitted, difference));
        tally.omitted += self.more_omitted;
    }

    fn compare(
        &mut self,
        recorded: &DigestRow,
        found: &DigestRow,
        name: impl FnOnce() -> String,
        tally: &mut Tally,
    ) {
        if (recorded.count, recorded.sum, recorded.hash) == (found.count, found.sum, found.hash) {
            tally.equal_series += 1;
            tally.equal_samples += u64::from(found.count);
            return;
        }
        // A late sample may stand beside one of the same time, of which a query shows one.
        let least = recorded.count.saturating_sub(recorded.late);
        let unsettled = self.unsettled.contains(&found.labels);
        let difference = || SeriesDifference {
            min_time_ms: self.range.0,
            max_time_ms: self.range.1,
            series: name(),
            recorded: recorded.count,
            restored: found.count,
        };
        if unsettled && found.count >= least
            || recorded.late > 0 && (least..=recorded.count).contains(&found.count)
        {
            tally.late_series += 1;
        } else if found.count < recorded.count && self.deleted {
            tally.deleted_series += 1;
        } else if found.count < recorded.count {
            note(&mut tally.differences, &mut tally.omitted, difference());
        } else {
            let difference = difference();
            note(&mut self.more, &mut self.more_omitted, difference);
        }
    }
}

fn note(differences: &mut Vec<SeriesDifference>, omitted: &mut u64, difference: SeriesDifference) {
    if differences.len() < DIFFERENCES_MAX {
        differences.push(difference);
    } else {
        *omitted += 1;
    }
}
