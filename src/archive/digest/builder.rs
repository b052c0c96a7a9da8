//! Adds up samples while their records pass.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;

use hashbrown::HashMap;

use super::{Digest, DigestRow, folded, hash_of};
use crate::bucket::LogKind;
use crate::tsdb::wal::{FloatSample, Record, RecordKind, decode_samples};

/// Series stand in pages of so many consecutive numbers.
const PAGE_SERIES: u64 = 1 << 10;

/// Higher numbers than these pages hold are taken for damage.
const PAGES_MAX: u64 = 1 << 22;

/// A range is closed when samples are so far past its end, or past it by its own length where that is less.
const SLACK_MS: i64 = 300_000;

/// A server gives up a series, and its number, within hours after its last sample.
const FORGET_MS: i64 = 24 * 3_600_000;

/// With so many rows of late samples they are given out before their time.
const LATE_ROWS_MAX: usize = 500_000;

/// What is known of a series: 32 bytes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The hash of its labels; 0 where it was not declared.
    labels: u64,
    last_ms: i64,
    /// Count, sum and hash are of the range that `last_ms` lies in.
    hash: u64,
    sum: u32,
    count: u32,
}

const EMPTY: Slot = Slot { labels: 0, last_ms: i64::MIN, hash: 0, sum: 0, count: 0 };

impl Slot {
    fn take(&mut self) -> DigestRow {
        let Self { labels, hash, sum, count, .. } = *self;
        (self.hash, self.sum, self.count) = (0, 0, 0);
        DigestRow { labels, count, late: 0, sum, hash }
    }
}

#[derive(Debug)]
struct Page {
    newest_ms: i64,
    slots: [Slot; PAGE_SERIES as usize],
}

/// Adds up the float samples of each series per aligned range of sample time. Histograms are not counted.
#[derive(Debug)]
pub struct DigestBuilder {
    range_ms: i64,
    slack_ms: i64,
    /// Ranges from here on were seen from their beginning.
    whole_from_ms: i64,
    /// Ranges that end here or before are closed.
    closed_to_ms: i64,
    newest_ms: i64,
    pages: Vec<Option<Box<Page>>>,
    /// Rows of series that went on to a later range, by start of their own.
    done: BTreeMap<i64, Vec<DigestRow>>,
    /// Samples out of order, by start of their range and by series.
    late: BTreeMap<i64, HashMap<u64, DigestRow>>,
    late_rows: usize,
    undeclared: u64,
}

impl DigestBuilder {
    /// Begins to count with the first range that starts after now.
    #[must_use]
    pub fn new(range_ms: i64, now_ms: i64) -> Self {
        let range_ms = range_ms.max(1);
        let mut builder = Self {
            range_ms,
            slack_ms: range_ms.min(SLACK_MS),
            whole_from_ms: 0,
            closed_to_ms: 0,
            newest_ms: i64::MIN,
            pages: Vec::new(),
            done: BTreeMap::new(),
            late: BTreeMap::new(),
            late_rows: 0,
            undeclared: 0,
        };
        builder.forget_open(now_ms);
        builder
    }

    /// Drops what was counted since the last closed ranges and begins anew: the log went on differently from what was
    /// read. What series are called stays known.
    pub fn forget_open(&mut self, now_ms: i64) {
        let start = self.start_of(now_ms.saturating_add(self.slack_ms));
        self.whole_from_ms = start.saturating_add(self.range_ms);
        self.closed_to_ms = self.whole_from_ms;
        self.newest_ms = i64::MIN;
        self.done.clear();
        self.late.clear();
        self.late_rows = 0;
        for slot in self.pages.iter_mut().flatten().flat_map(|page| &mut page.slots) {
            *slot = Slot { labels: slot.labels, ..EMPTY };
        }
    }

    /// Takes a record of a checkpoint, or of the log before the place from which it is read: only what series are
    /// called counts.
    pub fn declare(&mut self, data: &[u8]) {
        if RecordKind::of(data) != RecordKind::Series {
            return;
        }
        let Ok(Record::Series(series)) = Record::decode(data) else { return };
        for row in series {
            // Label sets that are no text cannot be asked for either.
            let Ok(labels) = row.labels.to_labels() else { continue };
            let newest_ms = self.newest_ms;
            let Some(page) = self.page_of(row.reference) else { continue };
            page.newest_ms = page.newest_ms.max(newest_ms);
            page.slots[(row.reference % PAGE_SERIES) as usize].labels = labels.series_hash();
        }
    }

    /// Takes a record of a log.
    pub fn record(&mut self, log: LogKind, data: &[u8]) {
        match RecordKind::of(data) {
            RecordKind::Series => self.declare(data),
            RecordKind::Samples | RecordKind::SamplesV2 => {
                // What does not decode was counted as far as the server would read it.
                let _ = decode_samples(data, |sample| match log {
                    LogKind::Wal => self.in_order(&sample),
                    LogKind::Wbl => self.out_of_order(&sample),
                });
            }
            _ => {}
        }
    }

    /// The server takes what is newer than the series' newest sample; the log also has what it refused, and what went
    /// to the log of out-of-order samples.
    fn in_order(&mut self, sample: &FloatSample) {
        let FloatSample { reference, ts_ms, value_bits, .. } = *sample;
        let (range_ms, whole_from_ms) = (self.range_ms, self.whole_from_ms);
        let page = self.pages.get_mut((reference / PAGE_SERIES) as usize).and_then(Option::as_mut);
        let Some(page) = page else {
            self.undeclared += u64::from(ts_ms >= whole_from_ms);
            return;
        };
        let slot = &mut page.slots[(reference % PAGE_SERIES) as usize];
        if slot.labels == 0 {
            self.undeclared += u64::from(ts_ms >= whole_from_ms);
            return;
        }
        if ts_ms <= slot.last_ms {
            return;
        }
        if slot.count > 0 {
            let start = slot.last_ms.saturating_sub(slot.last_ms.rem_euclid(range_ms));
            if ts_ms >= start.saturating_add(range_ms) {
                self.done.entry(start).or_default().push(slot.take());
            }
        }
        slot.last_ms = ts_ms;
        if ts_ms >= whole_from_ms {
            slot.count = slot.count.saturating_add(1);
            slot.sum = slot.sum.wrapping_add(folded(value_bits));
            slot.hash = slot.hash.wrapping_add(hash_of(ts_ms, value_bits));
        }
        page.newest_ms = page.newest_ms.max(ts_ms);
        self.newest_ms = self.newest_ms.max(ts_ms);
    }

    fn out_of_order(&mut self, sample: &FloatSample) {
        let start = self.start_of(sample.ts_ms);
        let page = self.pages.get((sample.reference / PAGE_SERIES) as usize).and_then(Option::as_ref);
        let slot = page.map(|page| &page.slots[(sample.reference % PAGE_SERIES) as usize]);
        let Some(slot) = slot.filter(|slot| slot.labels != 0) else {
            self.undeclared += u64::from(sample.ts_ms >= self.whole_from_ms);
            return;
        };
        let rows = self.late.entry(start).or_default();
        let before = rows.len();
        let row =
            rows.entry(slot.labels).or_insert(DigestRow { labels: slot.labels, ..DigestRow::default() });
        row.add(sample.ts_ms, sample.value_bits);
        row.late = row.late.saturating_add(1);
        self.late_rows += rows.len() - before;
    }

    /// Returns the digests of the ranges that have passed, and additions to earlier ones.
    pub fn closed(&mut self, now_ms: i64) -> Vec<Digest> {
        // A sample from far ahead must not close what is being written.
        let passed_ms = self.newest_ms.min(now_ms).saturating_sub(self.slack_ms);
        let closed_to_ms = self.start_of(passed_ms).max(self.closed_to_ms);
        if closed_to_ms == self.closed_to_ms && self.late_rows < LATE_ROWS_MAX {
            return Vec::new();
        }
        let mut ranges = self.take_until(closed_to_ms);
        let digests = ranges.iter_mut().map(|(start, rows)| {
            rows.sort_unstable_by_key(|row| row.labels);
            rows.dedup_by(|next, kept| {
                let same = next.labels == kept.labels;
                if same {
                    kept.merge(next);
                }
                same
            });
            Digest {
                is_whole: *start >= self.closed_to_ms,
                min_time_ms: *start,
                max_time_ms: start.saturating_add(self.range_ms),
                undeclared: std::mem::take(&mut self.undeclared),
                rows: std::mem::take(rows),
            }
        });
        let digests = digests.collect();
        self.closed_to_ms = closed_to_ms;
        digests
    }

    /// Takes the rows of all ranges that end by then, and lets go of series that were given up.
    fn take_until(&mut self, end_ms: i64) -> BTreeMap<i64, Vec<DigestRow>> {
        let (range_ms, newest_ms) = (self.range_ms, self.newest_ms);
        for slot in self.pages.iter_mut().flatten().flat_map(|page| &mut page.slots) {
            if slot.count > 0 && slot.last_ms < end_ms {
                let start = slot.last_ms.saturating_sub(slot.last_ms.rem_euclid(range_ms));
                self.done.entry(start).or_default().push(slot.take());
            }
        }
        for page in &mut self.pages {
            if page.as_ref().is_some_and(|page| page.newest_ms < newest_ms.saturating_sub(FORGET_MS)) {
                *page = None;
            }
        }
        let open = self.done.split_off(&end_ms);
        let mut ranges = std::mem::replace(&mut self.done, open);
        let open = self.late.split_off(&end_ms);
        for (start, rows) in std::mem::replace(&mut self.late, open) {
            match ranges.entry(start) {
                MapEntry::Occupied(range) => range.into_mut().extend(rows.into_values()),
                MapEntry::Vacant(range) => drop(range.insert(rows.into_values().collect())),
            }
        }
        self.late_rows = self.late.values().map(HashMap::len).sum();
        ranges
    }

    fn start_of(&self, ts_ms: i64) -> i64 {
        ts_ms.saturating_sub(ts_ms.rem_euclid(self.range_ms))
    }

    fn page_of(&mut self, reference: u64) -> Option<&mut Page> {
        let index = reference / PAGE_SERIES;
        if index >= PAGES_MAX {
            return None;
        }
        let index = index as usize;
        if self.pages.len() <= index {
            self.pages.resize_with(index + 1, || None);
        }
        let page = Page { newest_ms: i64::MIN, slots: [EMPTY; PAGE_SERIES as usize] };
        Some(self.pages[index].get_or_insert_with(|| Box::new(page)))
    }
}
