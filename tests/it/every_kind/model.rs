//! What must be held of what was written, as maps.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{Exemplar, FullSeries, Histogram, Metadata};
use crate::support::{LabelPairs, STALE_BITS};

const GAUGE: i32 = 3;
const DIFFERENCES_SHOWN: usize = 6;

/// A NaN for all that a text cannot tell apart.
pub(super) const ANY_NAN: u64 = 0x7ff8_0000_0000_0000;

/// A sample; the histogram without its time and its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Point {
    Float(u64),
    Histogram(Box<Histogram>),
}

impl Point {
    pub(super) fn of_histogram(histogram: &Histogram) -> Self {
        Self::Histogram(Box::new(Histogram { ts_ms: 0, start_ms: 0, ..histogram.clone() }))
    }

    /// Returns what a chunk tells of it: of the hints only whether it is a gauge.
    pub(super) fn in_chunks(&self) -> Self {
        match self {
            Self::Float(bits) => Self::Float(*bits),
            Self::Histogram(histogram) => {
                let gauge = histogram.reset_hint == GAUGE && histogram.sum != STALE_BITS;
                let reset_hint = if gauge { GAUGE } else { 0 };
                Self::Histogram(Box::new(Histogram { reset_hint, ..(**histogram).clone() }))
            }
        }
    }

    /// Which of two with one timestamp stays: a histogram over a float, but a stale marker under everything else; of
    /// two histograms whole counts over fractions, then more observations; of two floats a number over a NaN, the
    /// greater number, the NaN with the greater bits.
    fn rank(&self) -> (u8, u8, u64, u64, u64) {
        match self {
            Self::Float(bits) => {
                let value = f64::from_bits(*bits);
                let class = if *bits == STALE_BITS { 0 } else { 2 };
                let order = if value.is_nan() || bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
                (class, u8::from(!value.is_nan()), if value.is_nan() { *bits } else { order }, 0, 0)
            }
            Self::Histogram(h) => {
                let class = if h.sum == STALE_BITS { 1 } else { 3 };
                let (count, zero) = match (h.count_int, h.count_float) {
                    (Some(count), None) => (count, h.zero_count_int.unwrap()),
                    // Counts are not negative: their bits order as they do.
                    (None, Some(count)) => (count, h.zero_count_float.unwrap()),
                    other => panic!("{other:?}"),
                };
                (class, u8::from(h.count_int.is_some()), count, zero, h.sum)
            }
        }
    }
}

/// A sample with its start timestamp; 0 is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) point: Point,
    pub(super) start_ms: i64,
}

impl Held {
    fn loses_to(&self, other: &Self) -> bool {
        let (own, its) = (self.point.rank(), other.point.rank());
        if own == its {
            assert_eq!(self.point, other.point, "the writer makes no other two of one rank");
        }
        (own, self.start_ms) < (its, other.start_ms)
    }
}

/// Samples by series and time.
pub(super) type Points = BTreeMap<LabelPairs, BTreeMap<i64, Point>>;

/// Exemplars by series, as a text can tell them apart.
pub(super) type Exemplars = BTreeMap<LabelPairs, Vec<Exemplar>>;

/// Everything of one tenant.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) series: BTreeMap<LabelPairs, BTreeMap<i64, Held>>,
    exemplars: BTreeMap<LabelPairs, BTreeSet<Exemplar>>,
    /// By family, the oldest first; neighbours differ.
    pub(super) metadata: BTreeMap<String, Vec<Metadata>>,
}

impl Model {
    /// Takes in what was acknowledged.
    pub(super) fn write(&mut self, request: &[FullSeries]) {
        for one in request {
            let floats = one.samples.iter().map(|s| (s.ts_ms, Point::Float(s.bits), s.start_ms));
            let histograms = one.histograms.iter().map(|h| (h.ts_ms, Point::of_histogram(h), h.start_ms));
            let held = self.series.entry(one.labels.clone()).or_default();
            for (ts_ms, point, start_ms) in floats.chain(histograms) {
                let new = Held { point, start_ms };
                if held.get(&ts_ms).is_none_or(|old| old.loses_to(&new)) {
                    held.insert(ts_ms, new);
                }
            }
            self.exemplars.entry(one.labels.clone()).or_default().extend(one.exemplars.iter().cloned());
            if let Some(said) = &one.metadata {
                let history = self.metadata.entry(one.family().to_owned()).or_default();
                if history.last() != Some(said) {
                    history.push(said.clone());
                }
            }
        }
    }

    /// Returns how many floats, histograms and exemplars there are.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        let all = self.series.values().map(BTreeMap::len).sum::<usize>();
        let points = self.series.values().flat_map(BTreeMap::values);
        let floats = points.filter(|held| matches!(held.point, Point::Float(_))).count();
        (floats, all - floats, self.exemplars.values().map(BTreeSet::len).sum())
    }

    /// Returns the samples.
    pub(super) fn points(&self) -> Points {
        let series = self.series.iter().filter(|(_, held)| !held.is_empty());
        let points = |held: &BTreeMap<i64, Held>| held.iter().map(|(t, h)| (*t, h.point.clone())).collect();
        series.map(|(labels, held)| (labels.clone(), points(held))).collect()
    }

    /// Returns the exemplars as a text can tell them apart.
    pub(super) fn exemplars(&self) -> Exemplars {
        let plain = |one: &Exemplar| {
            let bits = if f64::from_bits(one.bits).is_nan() { ANY_NAN } else { one.bits };
            Exemplar { bits, ..one.clone() }
        };
        let mut all = Exemplars::new();
        for (labels, exemplars) in self.exemplars.iter().filter(|(_, exemplars)| !exemplars.is_empty()) {
            let mut exemplars: Vec<_> = exemplars.iter().map(plain).collect();
            exemplars.sort();
            all.insert(labels.clone(), exemplars);
        }
        all
    }
}

/// Returns samples as chunks tell them.
pub(super) fn in_chunks(points: &Points) -> Points {
    let plain =
        |points: &BTreeMap<i64, Point>| points.iter().map(|(t, point)| (*t, point.in_chunks())).collect();
    points.iter().map(|(labels, points)| (labels.clone(), plain(points))).collect()
}

/// Panics with the first differences.
pub(super) fn assert_same(expected: &Points, found: &Points, reader: &str) {
    let mut differences = Vec::new();
    for labels in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let empty = BTreeMap::new();
        let one = expected.get(labels).unwrap_or(&empty);
        let two = found.get(labels).unwrap_or(&empty);
        for ts_ms in one.keys().chain(two.keys()).collect::<BTreeSet<_>>() {
            let (one, two) = (one.get(ts_ms), two.get(ts_ms));
            if one != two {
                differences
                    .push(format!("{labels:?} at {ts_ms}:\n  expected {one:#x?}\n  found    {two:#x?}"));
            }
        }
    }
    let all = differences.len();
    differences.truncate(DIFFERENCES_SHOWN);
    assert!(all == 0, "{reader}: {all} samples differ\n{}", differences.join("\n"));
}
