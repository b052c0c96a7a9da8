//! From label sets to series numbers.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use super::symbols::{RowCursor, SymbolIndex, short_hash, spread};
use crate::model::Labels;

/// What a label set takes beside its bytes: two counters, a pointer, its places in the index and in the list of its
/// metric, and the state of its samples.
const SERIES_BYTES: usize = 64;

/// Returns what an allocation of so many bytes takes: allocators round sizes up, to a quarter of a power of two in ours.
fn allocated_bytes(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(8))
}

/// The series of one head: numbers by label bytes, and label sets by number.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    /// Part of the hash, and the number.
    by_labels: HashTable<(u32, u32)>,
    labels: Vec<Labels>,
    /// Nearly every query names a metric, so this one index carries the read side.
    by_metric: BTreeMap<Box<str>, Vec<u32>>,
    label_bytes: usize,
    pub(super) symbols: SymbolIndex,
}

impl SeriesTable {
    #[inline]
    pub(super) fn find(&self, label_bytes: &[u8]) -> Option<u32> {
        self.find_hashed(short_hash(label_bytes), label_bytes)
    }

    fn find_hashed(&self, kept: u32, label_bytes: &[u8]) -> Option<u32> {
        let same =
            |entry: &(u32, u32)| entry.0 == kept && self.labels[entry.1 as usize].as_bytes() == label_bytes;
        self.by_labels.find(spread(kept), same).map(|entry| entry.1)
    }

    pub(super) fn find_or_insert(&mut self, labels: &Labels) -> u32 {
        let kept = short_hash(labels.as_bytes());
        if let Some(series) = self.find_hashed(kept, labels.as_bytes()) {
            return series;
        }
        let series = u32::try_from(self.labels.len()).expect("memory ends before 2^32 series");
        self.by_labels.insert_unique(spread(kept), (kept, series), |entry| spread(entry.0));
        match self.by_metric.get_mut(labels.metric_name()) {
            Some(list) => list.push(series),
            None => {
                self.by_metric.insert(labels.metric_name().into(), vec![series]);
            }
        }
        self.label_bytes += allocated_bytes(labels.as_bytes().len());
        self.labels.push(labels.clone());
        series
    }

    pub(super) fn labels(&self, series: u32) -> &Labels {
        &self.labels[series as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.labels.len()
    }

    pub(super) fn by_metric(&self) -> &BTreeMap<Box<str>, Vec<u32>> {
        &self.by_metric
    }

    /// Estimates the memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.label_bytes + self.labels.len() * SERIES_BYTES + self.symbols.bytes()
    }
}

/// Looks series up while the table stands still.
#[derive(Debug)]
pub struct SeriesLookup<'a>(pub(super) &'a SeriesTable);

impl SeriesLookup<'_> {
    /// Returns the number of the series with these label bytes.
    #[inline]
    #[must_use]
    pub fn by_labels(&self, label_bytes: &[u8]) -> Option<u32> {
        self.0.find(label_bytes)
    }

    /// Returns the number of a symbol.
    #[must_use]
    pub fn symbol(&self, text: &str) -> Option<u32> {
        self.0.symbols.symbol(text)
    }

    /// Returns the number of the series that was sent with the symbols of these numbers, four bytes each; `cursor` is
    /// the same for all look-ups of a request.
    #[inline]
    #[must_use]
    pub fn by_symbols(&self, row: &[u8], cursor: &mut RowCursor) -> Option<u32> {
        self.0.symbols.series(row, cursor)
    }
}
