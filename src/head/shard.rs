//! A part of a head's series with all that they hold; several can be written to at the same time.

use hashbrown::HashMap;

use super::chunk::SeriesSamples;
use super::histograms::SeriesHistograms;
use super::open::OpenBlocks;
use crate::model::{Exemplar, HistogramSample, Sample, SeriesData, TimeRange, normalize_exemplars};
use crate::tsdb::XorChunks;

/// How many shards a head has.
pub(super) const SHARDS: usize = 4;

/// Returns the shard of a series and its place in it.
#[inline]
pub(super) const fn place(series: u32) -> (usize, usize) {
    (series as usize % SHARDS, series as usize / SHARDS)
}

/// A part of a head's series, by their shards: threads that append to different parts do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadPart {
    part: usize,
    of: usize,
}

impl HeadPart {
    /// All series.
    pub const WHOLE: Self = Self { part: 0, of: 1 };

    /// Returns the parts that so many threads can share, which together are all series.
    pub fn for_threads(threads: usize) -> impl Iterator<Item = Self> {
        let of = threads.clamp(1, SHARDS);
        (0..of).map(move |part| Self { part, of })
    }

    /// Returns whether it is the first of its parts.
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.part == 0
    }

    pub(super) const fn has(self, shard: usize) -> bool {
        shard % self.of == self.part
    }
}

/// Every [`SHARDS`]th series of a head.
#[derive(Debug, Default)]
pub(super) struct Shard {
    floats: Vec<SeriesSamples>,
    blocks: OpenBlocks,
    // Few series have these.
    histograms: HashMap<u32, SeriesHistograms>,
    exemplars: HashMap<u32, Vec<Exemplar>>,
    scratch: XorChunks,
    bytes: usize,
}

impl Shard {
    /// Makes room for the series of a head that has so many.
    pub(super) fn grow(&mut self, series: usize) {
        let own = series.div_ceil(SHARDS);
        if self.floats.len() < own {
            self.floats.resize_with(own, SeriesSamples::default);
        }
    }

    #[inline]
    pub(super) fn push(&mut self, place: usize, sample: Sample) {
        self.bytes += self.floats[place].push(sample, &mut self.blocks, &mut self.scratch);
    }

    pub(super) fn push_histogram(&mut self, series: u32, sample: &HistogramSample) {
        let grown = self.histograms.entry(series).or_default().push(sample);
        self.bytes = self.bytes.saturating_add_signed(grown);
    }

    pub(super) fn push_exemplar(&mut self, series: u32, exemplar: Exemplar) {
        let held = self.exemplars.entry(series).or_default();
        // A sender that repeats a request repeats its exemplars.
        if held.last() != Some(&exemplar) {
            self.bytes += size_of::<Exemplar>() + exemplar.labels.as_bytes().len();
            held.push(exemplar);
        }
    }

    /// Returns whether the samples of a series reach into `range`.
    pub(super) fn overlaps(&self, series: u32, range: TimeRange) -> bool {
        let floats = self.floats.get(place(series).1);
        floats.is_some_and(|floats| floats.overlaps(range, &self.blocks))
            || self.histograms.get(&series).is_some_and(|histograms| histograms.overlaps(range))
    }

    /// Returns an upper bound of the samples of a series.
    pub(super) fn samples_max(&self, series: u32) -> usize {
        let floats = self.floats.get(place(series).1).map_or(0, SeriesSamples::samples_max);
        floats + self.histograms.get(&series).map_or(0, SeriesHistograms::len)
    }

    /// Returns an upper bound of the memory that the samples of a series take once they are read.
    pub(super) fn read_bytes_max(&self, series: u32) -> usize {
        let floats = self.floats.get(place(series).1).map_or(0, SeriesSamples::samples_max);
        let histograms = self.histograms.get(&series).map_or(0, SeriesHistograms::read_bytes);
        floats * size_of::<Sample>() + histograms
    }

    /// Returns the samples of a series within `range`.
    pub(super) fn read(&self, series: u32, range: TimeRange) -> SeriesData {
        let floats = self.floats.get(place(series).1);
        let samples = floats.map(|floats| floats.read(range, &self.blocks)).unwrap_or_default();
        match self.histograms.get(&series) {
            None => SeriesData::floats(samples),
            Some(histograms) => {
                SeriesData::merge(vec![SeriesData { samples, histograms: histograms.read(range) }])
            }
        }
    }

    /// Returns the series that have exemplars.
    pub(super) fn with_exemplars(&self) -> impl Iterator<Item = u32> + '_ {
        self.exemplars.keys().copied()
    }

    /// Returns the exemplars of a series within `range`.
    pub(super) fn read_exemplars(&self, series: u32, range: TimeRange) -> Vec<Exemplar> {
        let held = self.exemplars.get(&series).into_iter().flatten();
        let mut read: Vec<_> = held.filter(|exemplar| range.contains(exemplar.ts_ms)).cloned().collect();
        normalize_exemplars(&mut read);
        read
    }

    /// Calls `visit` with the start of each raw window that has samples or exemplars, more than once.
    pub(super) fn visit_windows(&self, visit: &mut impl FnMut(i64)) {
        self.floats.iter().for_each(|floats| floats.visit_windows(&self.blocks, visit));
        self.histograms.values().for_each(|histograms| histograms.visit_windows(visit));
        let exemplars = self.exemplars.values().flatten();
        exemplars.for_each(|exemplar| visit(TimeRange::raw_window(exemplar.ts_ms).start_ms));
    }

    /// Estimates the memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.floats.len() * size_of::<SeriesSamples>()
    }
}
