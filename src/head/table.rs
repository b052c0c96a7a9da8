//! From label bytes to series numbers.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use crate::model::Labels;

/// Returns the hash that [`super::Head::resolve`] looks series up by; it never leaves the process.
#[must_use]
pub fn label_hash(label_bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(label_bytes)
}

/// The series of one head: numbers by label bytes, and label sets by number.
#[derive(Debug, Default)]
pub(super) struct SeriesTable {
    by_labels: HashTable<(u64, u32)>,
    labels: Vec<Labels>,
    /// Nearly every query names a metric, so this one index carries the read side.
    by_metric: BTreeMap<Box<str>, Vec<u32>>,
    label_bytes: usize,
}

impl SeriesTable {
    pub(super) fn find(&self, hash: u64, label_bytes: &[u8]) -> Option<u32> {
        self.by_labels
            .find(hash, |(h, series)| *h == hash && self.labels[*series as usize].as_bytes() == label_bytes)
            .map(|(_, series)| *series)
    }

    pub(super) fn find_or_insert(&mut self, labels: &Labels) -> u32 {
        let hash = label_hash(labels.as_bytes());
        if let Some(series) = self.find(hash, labels.as_bytes()) {
            return series;
        }
        let series = u32::try_from(self.labels.len()).expect("memory ends before 2^32 series");
        self.by_labels.insert_unique(hash, (hash, series), |(h, _)| *h);
        match self.by_metric.get_mut(labels.metric_name()) {
            Some(list) => list.push(series),
            None => {
                self.by_metric.insert(labels.metric_name().into(), vec![series]);
            }
        }
        self.label_bytes += labels.as_bytes().len();
        self.labels.push(labels.clone());
        series
    }

    pub(super) fn labels(&self, series: u32) -> &Labels {
        &self.labels[series as usize]
    }

    pub(super) fn all(&self) -> &[Labels] {
        &self.labels
    }

    pub(super) fn by_metric(&self) -> &BTreeMap<Box<str>, Vec<u32>> {
        &self.by_metric
    }

    /// Estimates the memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.label_bytes + self.labels.len() * 80
    }
}
