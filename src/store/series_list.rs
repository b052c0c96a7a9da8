//! The series of an answer in their final order, read in batches.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::error::StoreError;
use super::reads::Found;
use crate::model::{Labels, SeriesData};
use crate::runtime::Memory;
use crate::select::Selection;
use crate::wire::store_api::ShardInfo;

/// A batch is read whole, two at once per query; one series is never divided. This is what a quarter of a million
/// floats take.
const BATCH_BYTES_MIN: u64 = 6 << 20;

/// Queries over many blocks have larger batches, because every batch decodes a whole page of every block it touches.
const BATCH_BYTES_MAX: u64 = 24 << 20;

/// A batch takes no larger share of the memory budget, unless one series does.
const BATCH_PERCENT: u64 = 3;

/// What a series takes in a list: its final label set, and where its samples are.
pub(super) const SERIES_BYTES: u64 = 300;

/// Series without many samples must not make batches huge.
pub(super) const BATCH_SERIES: usize = 1 << 14;

/// So many selections, each of one tenant and producer, are read at once.
const SELECTIONS_AT_ONCE: usize = 4;

#[derive(Debug)]
struct ListedSeries {
    labels: Labels,
    selection: u32,
    index: u32,
}

/// The series of an answer, sorted by final label set. Equal label sets may follow each other.
#[derive(Debug)]
pub(super) struct SeriesList {
    selections: Vec<Selection>,
    series: Vec<ListedSeries>,
    batch_bytes: u64,
    /// Equal label sets are read as one series.
    merged: bool,
}

impl SeriesList {
    /// Adds external labels, drops replica labels, keeps one shard and sorts: compute, not for the I/O threads.
    pub(super) fn new(
        found: Vec<Found>,
        replica_labels: &[String],
        shard: Option<&ShardInfo>,
        memory: &Memory,
    ) -> Self {
        let mut series = Vec::with_capacity(found.iter().map(|f| f.selection.len()).sum());
        let mut selections = Vec::with_capacity(found.len());
        for (selection, Found { added, selection: own }) in (0u32..).zip(found) {
            for (index, labels) in (0u32..).zip(own.labels()) {
                let unchanged = added.is_empty() && replica_labels.is_empty();
                let labels =
                    if unchanged { labels.clone() } else { labels.with_external(&added, replica_labels) };
                if shard.is_none_or(|s| s.selects(&labels)) {
                    series.push(ListedSeries { labels, selection, index });
                }
            }
            selections.push(own);
        }
        // Added labels hardly change the order: mostly runs, which the standard sort finds.
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut list = Self { selections, series, batch_bytes: 0, merged: false };
        let batch_bytes = (list.bytes_max(&list.series) / 8).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX);
        list.batch_bytes = memory.at_most(batch_bytes, BATCH_PERCENT);
        list
    }

    /// Makes one series of equal label sets.
    pub(super) fn merged(self) -> Self {
        Self { merged: true, ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn labels(&self, index: usize) -> &Labels {
        &self.series[index].labels
    }

    fn series_samples_max(&self, series: &ListedSeries) -> u64 {
        self.selections[series.selection as usize].series_samples_max(series.index as usize)
    }

    /// Returns an upper bound of all samples.
    pub(super) fn samples_max(&self) -> u64 {
        self.series.iter().map(|s| self.series_samples_max(s)).fold(0, u64::saturating_add)
    }

    fn series_bytes_max(&self, series: &ListedSeries) -> u64 {
        self.selections[series.selection as usize].series_bytes_max(series.index as usize)
    }

    fn bytes_max(&self, series: &[ListedSeries]) -> u64 {
        series.iter().map(|s| self.series_bytes_max(s)).fold(0, u64::saturating_add)
    }

    /// Returns about how much memory all samples take at most.
    pub(super) fn all_bytes_max(&self) -> u64 {
        self.bytes_max(&self.series)
    }

    /// Returns about how much memory a batch and the one that is read ahead take at most; `series_max` as for
    /// [`BatchReader::new`].
    pub(super) fn two_batches_bytes_max(&self, series_max: usize) -> u64 {
        let series_max = if series_max == 0 { usize::MAX } else { series_max };
        let (mut start, mut before, mut most) = (0, 0u64, 0);
        while start < self.series.len() {
            let batch = self.batch_from(start, series_max);
            start = batch.end;
            let bytes = self.bytes_max(&self.series[batch]);
            most = most.max(before.saturating_add(bytes));
            before = bytes;
        }
        most
    }

    fn batch_from(&self, start: usize, series_max: usize) -> Range<usize> {
        let (mut end, mut bytes) = (start, 0u64);
        for series in self.series[start..].iter().take(series_max.clamp(1, BATCH_SERIES)) {
            bytes = bytes.saturating_add(self.series_bytes_max(series));
            if bytes > self.batch_bytes && end > start {
                break;
            }
            end += 1;
        }
        // An answer that ends early may end with this batch: what belongs to its last series must be in it.
        if self.merged || series_max != usize::MAX {
            let last = self.series[start..end].last();
            let rest = self.series[end..].iter();
            end += rest.take_while(|next| last.is_some_and(|last| last.labels == next.labels)).count();
        }
        start..end
    }

    async fn read(&self, batch: Range<usize>) -> Result<Batch, StoreError> {
        let mut wanted: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); self.selections.len()];
        for (slot, series) in self.series[batch.clone()].iter().enumerate() {
            let (indexes, slots) = &mut wanted[series.selection as usize];
            indexes.push(series.index as usize);
            slots.push(slot);
        }
        let asked = wanted.iter().zip(&self.selections).filter(|((indexes, _), _)| !indexes.is_empty());
        let reads = asked.map(|((indexes, _), selection)| selection.read_apart(indexes)).collect::<Vec<_>>();
        let reads = futures::stream::iter(reads).buffered(SELECTIONS_AT_ONCE);
        let runs: Vec<Vec<Vec<SeriesData>>> = reads.try_collect().await?;
        let mut answer: Batch = self.series[batch].iter().map(|s| (s.labels.clone(), Vec::new())).collect();
        let slots = wanted.into_iter().map(|(_, slots)| slots).filter(|slots| !slots.is_empty());
        for (slots, runs) in slots.zip(runs) {
            for (slot, run) in slots.into_iter().zip(runs) {
                answer[slot].1 = run;
            }
        }
        if self.merged && answer.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            let cpu = self.selections[0].cpu();
            return Ok(cpu.run(move || merge_equal(answer)).await?);
        }
        Ok(answer)
    }
}

/// Joins equal label sets, which follow each other.
fn merge_equal(batch: Batch) -> Batch {
    let mut groups: Vec<(Labels, Vec<SeriesData>)> = Vec::with_capacity(batch.len());
    for (labels, data) in batch {
        match groups.last_mut() {
            Some((last, runs)) if *last == labels => runs.extend(data),
            _ => groups.push((labels, data)),
        }
    }
    groups.into_iter().map(|(labels, runs)| (labels, SeriesData::merge_apart(runs))).collect()
}

/// Reads a list batch by batch.
#[derive(Debug)]
pub(super) struct BatchReader {
    list: Arc<SeriesList>,
    next: usize,
    series_max: usize,
}

/// Some series of a list with their samples, in parts that follow each other in time; a series may have none within
/// the range.
pub(super) type Batch = Vec<(Labels, Vec<SeriesData>)>;

impl BatchReader {
    /// Starts at the first series. `series_max` bounds a batch for answers that end early; 0 for no bound.
    pub(super) fn new(list: Arc<SeriesList>, series_max: usize) -> Self {
        let series_max = if series_max == 0 { usize::MAX } else { series_max };
        Self { list, next: 0, series_max }
    }

    /// Returns the next batch, or `None` after the last.
    pub(super) async fn read(&mut self) -> Result<Option<Batch>, StoreError> {
        if self.next >= self.list.len() {
            return Ok(None);
        }
        let batch = self.list.batch_from(self.next, self.series_max);
        self.next = batch.end;
        self.list.read(batch).await.map(Some)
    }
}
