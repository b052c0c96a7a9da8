//! One tenant's head.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::chunk::SeriesSamples;
use super::table::{SeriesTable, label_hash};
use crate::model::{
    Labels, METRIC_NAME, MatchKind, Matcher, Sample, SeriesData, TenantId, TimeRange, match_labels,
};
use crate::tsdb::XorChunks;

/// So many series are read under one lock, so that a large query does not hold up commits.
const READ_SERIES: usize = 256;

/// So many series are matched under one lock.
const SELECT_SERIES: usize = 4_096;

/// A series that a query selected.
#[derive(Debug, Clone)]
pub struct HeadSeries {
    /// Its number within the head.
    pub series: u32,
    /// Its labels.
    pub labels: Labels,
    /// An upper bound of its samples.
    pub samples_max: usize,
}

/// The samples of one tenant between two cuts.
#[derive(Debug)]
pub struct Head {
    tenant: TenantId,
    table: RwLock<SeriesTable>,
    samples: RwLock<Vec<SeriesSamples>>,
    sample_count: AtomicU64,
    sample_bytes: AtomicUsize,
    frozen: AtomicBool,
}

impl Head {
    /// Returns an empty head.
    #[must_use]
    pub fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            table: RwLock::default(),
            samples: RwLock::default(),
            sample_count: AtomicU64::new(0),
            sample_bytes: AtomicUsize::new(0),
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

    /// Returns the number of samples appended.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.sample_count.load(Ordering::Relaxed)
    }

    /// Returns the number of series, those without samples included.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.read_table().all().len()
    }

    /// Estimates the memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.read_table().bytes()
            + self.series_count() * size_of::<SeriesSamples>()
            + self.sample_bytes.load(Ordering::Relaxed)
    }

    // A panic while a lock is held is a defect that aborts the request; the data under it is still consistent,
    // because series are only ever added whole.
    fn read_table(&self) -> RwLockReadGuard<'_, SeriesTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_samples(&self) -> RwLockReadGuard<'_, Vec<SeriesSamples>> {
        self.samples.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` with a look-up from label bytes (as sent) to series numbers, under one lock.
    pub fn look_up<T>(&self, work: impl FnOnce(&dyn Fn(&[u8]) -> Option<u32>) -> T) -> T {
        let table = self.read_table();
        work(&|label_bytes| table.find(label_hash(label_bytes), label_bytes))
    }

    /// Returns the numbers of label sets, creating the series that are missing.
    #[must_use]
    pub fn resolve(&self, labels: &[Labels]) -> Vec<u32> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        labels.iter().map(|l| table.find_or_insert(l)).collect()
    }

    /// Returns the labels of a series.
    #[must_use]
    pub fn labels(&self, series: u32) -> Labels {
        self.read_table().labels(series).clone()
    }

    /// Appends samples of series that [`Head::resolve`] numbered.
    pub fn append(&self, samples: impl IntoIterator<Item = (u32, Sample)>) {
        let known = self.series_count();
        let mut all = self.samples.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() < known {
            all.resize_with(known, SeriesSamples::default);
        }
        let (mut count, mut bytes, mut scratch) = (0, 0, XorChunks::default());
        for (series, sample) in samples {
            bytes += all[series as usize].push(sample, &mut scratch);
            count += 1;
        }
        self.sample_count.fetch_add(count, Ordering::Relaxed);
        self.sample_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the series that match and whose samples' time span overlaps `range`, in no order.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<HeadSeries> {
        let candidates = self.candidates(matchers);
        let mut selected = Vec::new();
        for slice in candidates.chunks(SELECT_SERIES) {
            let (table, samples) = (self.read_table(), self.read_samples());
            selected.extend(slice.iter().filter_map(|series| {
                let own = samples.get(*series as usize)?;
                let labels = table.labels(*series);
                let inside = TimeRange::from_inclusive(own.min_ms, own.max_ms).overlaps(&range);
                (inside && match_labels(matchers, labels)).then(|| HeadSeries {
                    series: *series,
                    labels: labels.clone(),
                    samples_max: own.samples_max(),
                })
            }));
        }
        selected
    }

    /// Returns the series whose metric name can match.
    fn candidates(&self, matchers: &[Matcher]) -> Vec<u32> {
        let on_metric = matchers.iter().filter(|m| m.name() == METRIC_NAME).collect::<Vec<_>>();
        let table = self.read_table();
        match on_metric.iter().find(|m| m.kind() == MatchKind::Equal) {
            Some(equal) => table.by_metric().get(equal.value()).cloned().unwrap_or_default(),
            None => {
                let names = table.by_metric().iter();
                let names = names.filter(|(name, _)| on_metric.iter().all(|m| m.matches(name)));
                names.flat_map(|(_, list)| list).copied().collect()
            }
        }
    }

    /// Returns the samples of series within `range`, sorted, one per timestamp.
    #[must_use]
    pub fn read(&self, series: &[u32], range: TimeRange) -> Vec<SeriesData> {
        let mut answer = Vec::with_capacity(series.len());
        for slice in series.chunks(READ_SERIES) {
            let samples = self.read_samples();
            answer.extend(slice.iter().map(|s| SeriesData::floats(samples[*s as usize].read(range))));
        }
        answer
    }

    /// Returns the starts of the raw windows that hold samples.
    #[must_use]
    pub fn raw_windows(&self) -> BTreeSet<i64> {
        let mut windows = BTreeSet::new();
        let mut last = None;
        for series in self.read_samples().iter() {
            series.visit_windows(&mut |start_ms| {
                if last != Some(start_ms) {
                    windows.insert(start_ms);
                    last = Some(start_ms);
                }
            });
        }
        windows
    }

    /// Returns all series that have samples, in the order of `compare`.
    #[must_use]
    pub fn sorted_series(&self, compare: impl Fn(&Labels, &Labels) -> std::cmp::Ordering) -> Vec<HeadSeries> {
        let mut all = self.select(&[], TimeRange::ALL);
        all.sort_by(|a, b| compare(&a.labels, &b.labels));
        all
    }
}
