//! One tenant's head: what goes in.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;

use super::shard::{HeadPart, SHARDS, Shard, place};
use super::table::{SeriesLookup, SeriesTable};
use crate::model::{Exemplar, HistogramSample, Labels, MetadataEntry, Sample, TenantId, normalize_metadata};

/// A series that a query selected.
#[derive(Debug, Clone)]
pub struct HeadSeries {
    /// Its number within the head.
    pub series: u32,
    /// Its labels.
    pub labels: Labels,
    /// An upper bound of its samples, floats and histograms.
    pub samples_max: usize,
    /// An upper bound of the memory that they take once they are read.
    pub bytes_max: usize,
}

/// What came in for one tenant between two cuts.
#[derive(Debug)]
pub struct Head {
    tenant: TenantId,
    table: RwLock<SeriesTable>,
    shards: [RwLock<Shard>; SHARDS],
    metadata: RwLock<HashMap<String, Vec<MetadataEntry>>>,
    sample_count: AtomicU64,
    /// Exemplars and metadata entries.
    other_count: AtomicU64,
    /// Of samples and exemplars; `i64::MAX` before the first.
    min_time_ms: AtomicI64,
    frozen: AtomicBool,
}

impl Head {
    /// Returns an empty head.
    #[must_use]
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            table: RwLock::default(),
            shards: Default::default(),
            metadata: RwLock::default(),
            sample_count: AtomicU64::new(0),
            other_count: AtomicU64::new(0),
            min_time_ms: AtomicI64::new(i64::MAX),
            frozen: AtomicBool::new(false),
        }
    }

    /// Returns whose samples these are.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns whether a cut has ended this head.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    pub(super) fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    /// Returns the number of samples appended, floats and histograms.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.sample_count.load(Ordering::Relaxed)
    }

    /// Returns the time of the earliest sample or exemplar.
    #[must_use]
    pub fn min_time_ms(&self) -> Option<i64> {
        let min_ms = self.min_time_ms.load(Ordering::Relaxed);
        (min_ms != i64::MAX).then_some(min_ms)
    }

    /// Returns whether nothing of any kind was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sample_count() == 0 && self.other_count.load(Ordering::Relaxed) == 0
    }

    /// Returns the number of series, those without samples included.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.read_table().len()
    }

    /// Estimates the memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let shards: usize = (0..SHARDS).map(|shard| self.read_shard(shard).bytes()).sum();
        let texts = |e: &MetadataEntry| {
            size_of::<MetadataEntry>() + e.family.len() + e.metadata.help.len() + e.metadata.unit.len()
        };
        let metadata: usize = self.read_metadata().values().flatten().map(texts).sum();
        self.read_table().bytes() + shards + metadata
    }

    // A panic while a lock is held is a defect that aborts the request; the data under it is still consistent,
    // because series are only ever added whole.
    pub(super) fn read_table(&self) -> RwLockReadGuard<'_, SeriesTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_table(&self) -> RwLockWriteGuard<'_, SeriesTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read_shard(&self, shard: usize) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_shard(&self, shard: usize, series: usize) -> RwLockWriteGuard<'_, Shard> {
        let mut shard = self.shards[shard].write().unwrap_or_else(PoisonError::into_inner);
        shard.grow(series);
        shard
    }

    fn read_metadata(&self) -> RwLockReadGuard<'_, HashMap<String, Vec<MetadataEntry>>> {
        self.metadata.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` with a look-up of series, under one lock.
    pub fn look_up<T>(&self, work: impl FnOnce(&SeriesLookup<'_>) -> T) -> T {
        work(&SeriesLookup(&self.read_table()))
    }

    /// Returns the numbers of label sets, creating the series that are missing.
    #[must_use]
    pub fn resolve(&self, labels: &[Labels]) -> Vec<u32> {
        let mut table = self.write_table();
        labels.iter().map(|l| table.find_or_insert(l)).collect()
    }

    /// Remembers that series were sent as symbols, names and values in the order of their labels, so that
    /// [`SeriesLookup::by_symbols`] finds them.
    pub fn remember_symbols(&self, series: &[(u32, Labels)]) {
        let mut table = self.write_table();
        for (number, labels) in series {
            table.symbols.insert(*number, labels.iter().flat_map(|(name, value)| [name, value]));
        }
    }

    /// Returns the labels of a series.
    #[must_use]
    pub fn labels(&self, series: u32) -> Labels {
        self.read_table().labels(series).clone()
    }

    /// Appends float samples of series that [`Head::resolve`] numbered.
    pub fn append<'a>(&self, samples: impl IntoIterator<Item = (u32, &'a Sample)>) {
        let known = self.series_count();
        let mut shards: [_; SHARDS] = std::array::from_fn(|shard| self.write_shard(shard, known));
        let (mut count, mut min_ms) = (0, i64::MAX);
        for (series, sample) in samples {
            let (shard, place) = place(series);
            shards[shard].push(place, *sample);
            count += 1;
            min_ms = min_ms.min(sample.ts_ms);
        }
        self.sample_count.fetch_add(count, Ordering::Relaxed);
        self.min_time_ms.fetch_min(min_ms, Ordering::Relaxed);
    }

    /// Appends those of the samples whose series belong to a part of the head, so that threads can share the work of
    /// one run of samples.
    pub fn append_part<'a>(&self, part: HeadPart, samples: impl IntoIterator<Item = (u32, &'a Sample)>) {
        let known = self.series_count();
        let mut shards: [_; SHARDS] =
            std::array::from_fn(|shard| part.has(shard).then(|| self.write_shard(shard, known)));
        let (mut count, mut min_ms) = (0, i64::MAX);
        for (series, sample) in samples {
            let (shard, place) = place(series);
            if let Some(shard) = &mut shards[shard] {
                shard.push(place, *sample);
                count += 1;
                min_ms = min_ms.min(sample.ts_ms);
            }
        }
        self.sample_count.fetch_add(count, Ordering::Relaxed);
        self.min_time_ms.fetch_min(min_ms, Ordering::Relaxed);
    }

    /// Appends native histograms of series that [`Head::resolve`] numbered.
    pub fn append_histograms<'a>(&self, samples: impl IntoIterator<Item = (u32, &'a HistogramSample)>) {
        let mut count = 0;
        for (series, sample) in samples {
            self.min_time_ms.fetch_min(sample.ts_ms, Ordering::Relaxed);
            self.write_shard(place(series).0, 0).push_histogram(series, sample);
            count += 1;
        }
        self.sample_count.fetch_add(count, Ordering::Relaxed);
    }

    /// Appends exemplars of series that [`Head::resolve`] numbered.
    pub fn append_exemplars(&self, exemplars: impl IntoIterator<Item = (u32, Exemplar)>) {
        let mut count = 0;
        for (series, exemplar) in exemplars {
            self.min_time_ms.fetch_min(exemplar.ts_ms, Ordering::Relaxed);
            self.write_shard(place(series).0, 0).push_exemplar(series, exemplar);
            count += 1;
        }
        self.other_count.fetch_add(count, Ordering::Relaxed);
    }

    /// Appends metadata. What this head knows already is passed over.
    pub fn append_metadata(&self, entries: impl IntoIterator<Item = MetadataEntry>) {
        let mut metadata = self.metadata.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let known = metadata.entry(entry.family.clone()).or_default();
            match known.iter_mut().find(|held| held.metadata == entry.metadata) {
                Some(held) => held.since_ms = held.since_ms.min(entry.since_ms),
                None => known.push(entry),
            }
            self.other_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns whether one of the entries that this head has of a family says the same. Two sources that contradict each
    /// other in turns are known both, so that they do not fill the log.
    #[must_use]
    pub fn knows_metadata(&self, family: &str, same: impl FnMut(&MetadataEntry) -> bool) -> bool {
        self.read_metadata().get(family).is_some_and(|known| known.iter().any(same))
    }

    /// Returns the metadata with its history.
    #[must_use]
    pub fn metadata(&self) -> Vec<MetadataEntry> {
        let mut entries: Vec<_> = self.read_metadata().values().flatten().cloned().collect();
        normalize_metadata(&mut entries);
        entries
    }
}
