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
