//! The series of a log, by number and by labels.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use hashbrown::HashMap;

use super::HeadRules;
use crate::model::Labels;
use crate::restore::RestoreError;
use crate::restore::context::RestoreContext;
use crate::restore::filter::{damaged, decode};
use crate::restore::records::LogRecords;
use crate::restore::request::is_selected;
use crate::tsdb::wal::{Record, RecordKind, TombstoneRecord};

/// Numbers below this are looked up in a list, those above in a map.
const LISTED_REFERENCES: u64 = 1 << 26;

/// The log is decoded in so many stretches a thread.
const STRETCHES_A_THREAD: usize = 4;

/// A number that belongs to no series that is wanted.
const NONE: u32 = u32::MAX;

/// The series of a log. An *id* is a series' place in the order of the log, in which its samples come as well.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    labels: Vec<Labels>,
    /// Ids in the order of labels.
    in_order: Vec<u32>,
    listed: Vec<u32>,
    mapped: HashMap<u64, u32>,
    /// Deleted ranges by id, sorted; both ends belong to them.
    deleted: HashMap<u32, Vec<(i64, i64)>>,
}

/// What the pass over the log gathers.
#[derive(Debug, Default)]
struct Found {
    labels: Vec<Labels>,
    by_labels: HashMap<Labels, u32>,
    references: Vec<(u64, u32)>,
    by_reference: HashMap<u64, u32>,
    deleted: HashMap<u32, Vec<(i64, i64)>>,
}

impl SeriesTable {
    /// Reads the series and tombstones of a log: stretches of it are decoded on all threads, and taken in order.
    pub(super) async fn read(
        context: &RestoreContext,
        wal: &Arc<LogRecords>,
        rules: &HeadRules,
    ) -> Result<Self, RestoreError> {
        let pieces = wal.cuts().len();
        let stretch = pieces.div_ceil(context.threads * STRETCHES_A_THREAD).max(1);
        let stretches = (0..pieces.max(1)).step_by(stretch).map(|from| from..pieces.min(from + stretch));
        let jobs = stretches.map(|pieces| {
            let wal = Arc::clone(wal);
            async move { context.cpu.run(move || said(&wal, pieces)).await? }
        });
        let mut found = Found::default();
        let mut done = futures::stream::iter(jobs).buffered(context.threads);
        while let Some(said) = done.try_next().await? {
            for said in said {
                match said {
                    Said::Series(reference, labels) => found.take_series(reference, labels, rules),
                    Said::Deleted(row) => found.take_tombstone(row, rules.cut_off_ms),
                }
            }
        }
        Ok(found.into_table())
    }

    /// Returns how many series there are.
    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns the ids in the order of their labels.
    pub(super) fn in_order(&self) -> &[u32] {
        &self.in_order
    }

    /// Returns the id of a number's series.
    #[inline]
    pub(super) fn id(&self, reference: u64) -> Option<u32> {
        let id = match self.listed.get(reference as usize) {
            Some(id) => *id,
            None => self.mapped.get(&reference).copied().unwrap_or(NONE),
        };
        (id != NONE).then_some(id)
    }

    pub(super) fn labels(&self, id: u32) -> &Labels {
        &self.labels[id as usize]
    }

    pub(super) fn deleted(&self, id: u32) -> &[(i64, i64)] {
        self.deleted.get(&id).map_or(&[], Vec::as_slice)
    }
}

/// What a record says of a series.
enum Said {
    Series(u64, Labels),
    Deleted(TombstoneRecord),
}

/// Decodes what some pieces say of series; the checkpoint goes with the first ones.
fn said(wal: &LogRecords, pieces: Range<usize>) -> Result<Vec<Said>, RestoreError> {
    let mut all = Vec::new();
    let mut take = |data: &[u8]| {
        match RecordKind::of(data) {
            RecordKind::Series => {
                let Record::Series(rows) = decode(data)? else { return Ok(()) };
                for row in rows {
                    all.push(Said::Series(row.reference, row.labels.to_labels().map_err(damaged)?));
                }
            }
            RecordKind::Tombstones => {
                let Record::Tombstones(rows) = decode(data)? else { return Ok(()) };
                all.extend(rows.into_iter().map(Said::Deleted));
            }
            _ => {}
        }
        Ok(())
    };
    if pieces.start == 0 {
        wal.each_of_checkpoint(&mut take)?;
    }
    wal.each_of_pieces(pieces, &mut take)?;
    Ok(all)
}

impl Found {
    fn take_series(&mut self, reference: u64, labels: Labels, rules: &HeadRules) {
        let next = self.labels.len() as u32;
        let id = if let Some(id) = self.by_labels.get(&labels) {
            *id
        } else if is_selected(&rules.selectors, &labels) {
            self.by_labels.insert(labels.clone(), next);
            self.labels.push(labels);
            next
        } else {
            return;
        };
        self.references.push((reference, id));
        self.by_reference.insert(reference, id);
    }

    fn take_tombstone(&mut self, row: TombstoneRecord, cut_off_ms: i64) {
        let Some(id) = self.by_reference.get(&row.reference).copied() else { return };
        if row.is_whole_series() {
            // The same labels are a new series from here on.
            let labels = &self.labels[id as usize];
            if self.by_labels.get(labels) == Some(&id) {
                self.by_labels.remove(labels);
            }
        }
        if row.max_time_ms >= cut_off_ms {
            self.deleted.entry(id).or_default().push((row.min_time_ms, row.max_time_ms));
        }
    }

    fn into_table(self) -> SeriesTable {
        let mut in_order: Vec<u32> = (0..self.labels.len() as u32).collect();
        // Equal labels are series that were given up and came back, in that order.
        in_order.sort_by(|a, b| self.labels[*a as usize].cmp(&self.labels[*b as usize]).then(a.cmp(b)));
        let mut table =
            SeriesTable { labels: self.labels, in_order, deleted: self.deleted, ..SeriesTable::default() };
        let listed =
            self.references.iter().map(|(reference, _)| *reference).filter(|r| *r < LISTED_REFERENCES);
        table.listed = vec![NONE; listed.max().map_or(0, |max| max as usize + 1)];
        for (reference, id) in self.references {
            match table.listed.get_mut(reference as usize) {
                Some(slot) => *slot = id,
                None => drop(table.mapped.insert(reference, id)),
            }
        }
        table.deleted.values_mut().for_each(|ranges| ranges.sort_unstable());
        table
    }
}
