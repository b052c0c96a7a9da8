//! What one series holds: floats and native histograms.

use std::collections::HashMap;

use super::histogram::{HistogramSample, normalize_histograms};
use super::sample::{Sample, is_stale, merge_samples};
use super::time::TimeRange;

/// The samples of one series: floats and histograms, each sorted by time with one per timestamp, and no timestamp in
/// both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesData {
    /// The float samples.
    pub samples: Vec<Sample>,
    /// The samples that are native histograms.
    pub histograms: Vec<HistogramSample>,
}

impl SeriesData {
    /// Samples that are all floats.
    #[must_use]
    pub const fn floats(samples: Vec<Sample>) -> Self {
        Self { samples, histograms: Vec::new() }
    }

    /// Returns whether there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty()
    }

    /// Returns the number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    /// Leaves the samples within a range.
    pub fn clip(&mut self, range: TimeRange) {
        let inside = |sample: Option<&Sample>| sample.is_none_or(|s| range.contains(s.ts_ms));
        if !inside(self.samples.first()) || !inside(self.samples.last()) {
            self.samples.retain(|s| range.contains(s.ts_ms));
        }
        self.histograms.retain(|h| range.contains(h.ts_ms));
    }

    /// Merges what several sources hold of one series. Which of two samples with one timestamp stays is decided by
    /// content; between a float and a histogram the histogram stays, unless it alone is a stale marker.
    #[must_use]
    pub fn merge(mut runs: Vec<Self>) -> Self {
        let mut histograms: Vec<HistogramSample> =
            runs.iter_mut().flat_map(|run| std::mem::take(&mut run.histograms)).collect();
        let samples = merge_samples(runs.into_iter().map(|run| run.samples).collect());
        normalize_histograms(&mut histograms);
        let mut merged = Self { samples, histograms };
        merged.settle();
        merged
    }

    /// Merges what several sources hold of one series into parts that follow each other in time: sources that overlap
    /// become one part, others stay apart, and no part reaches over the end of a raw window.
    ///
    /// A part depends on nothing but the samples of the sources in it. Whoever holds a block's samples, a head that
    /// becomes the block or a reader of the block, therefore makes the same chunks of them, and Thanos Query knows
    /// equal chunks as one.
    #[must_use]
    pub fn merge_apart(runs: Vec<Self>) -> Vec<Self> {
        let mut runs: Vec<Self> = runs.into_iter().flat_map(Self::split_at_raw_windows).collect();
        if runs.len() <= 1 {
            return runs;
        }
        runs.sort_by_key(|run| run.bounds_ms().map(|(min_ms, _)| min_ms));
        let (mut groups, mut end_ms) = (Vec::<Vec<Self>>::new(), i64::MIN);
        for run in runs {
            let Some((min_ms, max_ms)) = run.bounds_ms() else { continue };
            match groups.last_mut() {
                Some(group) if min_ms <= end_ms => group.push(run),
                _ => groups.push(vec![run]),
            }
            end_ms = end_ms.max(max_ms);
        }
        groups.into_iter().map(Self::merge).collect()
    }

    /// Joins parts that follow each other in time.
    #[must_use]
    pub fn join(parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut joined = parts.next().unwrap_or_default();
        for part in parts {
            joined.samples.extend(part.samples);
            joined.histograms.extend(part.histograms);
        }
        joined
    }

    /// Returns the times of the first and the last sample.
    fn bounds_ms(&self) -> Option<(i64, i64)> {
        let floats = self.samples.first().map(|s| s.ts_ms).zip(self.samples.last().map(|s| s.ts_ms));
        let histograms =
            self.histograms.first().map(|h| h.ts_ms).zip(self.histograms.last().map(|h| h.ts_ms));
        match (floats, histograms) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        }
    }

    /// Splits sorted samples into those of each raw window; nothing becomes no part.
    fn split_at_raw_windows(mut self) -> Vec<Self> {
        let mut parts = Vec::with_capacity(1);
        while let Some((min_ms, max_ms)) = self.bounds_ms() {
            let window = TimeRange::raw_window(min_ms);
            if window.contains(max_ms) {
                parts.push(self);
                break;
            }
            let floats = self.samples.partition_point(|s| s.ts_ms < window.end_ms);
            let histograms = self.histograms.partition_point(|h| h.ts_ms < window.end_ms);
            if floats + histograms == 0 {
                // The last window of all time ends with the last millisecond inside.
                parts.push(self);
                break;
            }
            let rest = Self {
                samples: self.samples.split_off(floats),
                histograms: self.histograms.split_off(histograms),
            };
            parts.push(std::mem::replace(&mut self, rest));
        }
        parts
    }

    /// Leaves one of a float and a histogram with the same timestamp.
    fn settle(&mut self) {
        if self.samples.is_empty() || self.histograms.is_empty() {
            return;
        }
        let stale: HashMap<i64, bool> =
            self.histograms.iter().map(|h| (h.ts_ms, h.histogram.is_stale())).collect();
        let mut floats_that_win = Vec::new();
        self.samples.retain(|sample| match stale.get(&sample.ts_ms) {
            None => true,
            Some(true) if !is_stale(sample.value) => {
                floats_that_win.push(sample.ts_ms);
                true
            }
            Some(_) => false,
        });
        self.histograms.retain(|h| floats_that_win.binary_search(&h.ts_ms).is_err());
    }
}
