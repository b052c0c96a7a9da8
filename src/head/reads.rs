//! One tenant's head: what comes out.

use std::collections::BTreeSet;

use super::series::{Head, HeadSeries};
use super::shard::{SHARDS, Shard, place};
use crate::model::{Exemplar, Labels, METRIC_NAME, MatchKind, Matcher, SeriesData, TimeRange, match_labels};

/// So many series are read under one lock, so that a large query does not hold up commits.
const READ_SERIES: usize = 256;

/// So many series are matched under one lock.
const SELECT_SERIES: usize = 4_096;

impl Head {
    /// Returns the series that match and whose samples' time span overlaps `range`, in no order.
    #[must_use]
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Vec<HeadSeries> {
        let candidates = self.candidates(matchers);
        let mut selected = Vec::new();
        for slice in candidates.chunks(SELECT_SERIES) {
            let table = self.read_table();
            let shards: [_; SHARDS] = std::array::from_fn(|shard| self.read_shard(shard));
            selected.extend(slice.iter().filter_map(|series| {
                let (own, labels) = (&shards[place(*series).0], table.labels(*series));
                let found = match_labels(matchers, labels) && own.overlaps(*series, range);
                found.then(|| HeadSeries {
                    series: *series,
                    labels: labels.clone(),
                    samples_max: own.samples_max(*series),
                    bytes_max: own.read_bytes_max(*series),
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
            let shards: [_; SHARDS] = std::array::from_fn(|shard| self.read_shard(shard));
            answer.extend(slice.iter().map(|s| shards[place(*s).0].read(*s, range)));
        }
        answer
    }

    /// Returns the exemplars within `range` of the series that match, sorted by labels.
    #[must_use]
    pub fn exemplars(&self, matchers: &[Matcher], range: TimeRange) -> Vec<(Labels, Vec<Exemplar>)> {
        let mut found = Vec::new();
        for shard in 0..SHARDS {
            let series: Vec<u32> = self.read_shard(shard).with_exemplars().collect();
            for slice in series.chunks(READ_SERIES) {
                let (table, own) = (self.read_table(), self.read_shard(shard));
                let matching = slice.iter().map(|series| (*series, table.labels(*series)));
                let matching = matching.filter(|(_, labels)| match_labels(matchers, labels));
                let read =
                    matching.map(|(series, labels)| (labels.clone(), own.read_exemplars(series, range)));
                found.extend(read.filter(|(_, exemplars)| !exemplars.is_empty()));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    /// Returns the starts of the raw windows that hold samples or exemplars.
    #[must_use]
    pub fn raw_windows(&self) -> BTreeSet<i64> {
        let mut windows = BTreeSet::new();
        let mut last = None;
        for shard in 0..SHARDS {
            let shard: &Shard = &self.read_shard(shard);
            shard.visit_windows(&mut |start_ms| {
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
