//! Random data of every kind that keeps the rules, and that is hard on encodings.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::wire::{Exemplar, FullSeries, Histogram, Metadata, Sample, Span};
use crate::support::{LabelPairs, STALE_BITS, label_pairs};

/// Metrics of floats alone, of histograms alone, and of both.
pub(super) const FLOATS: &str = "floats";
pub(super) const HISTOGRAMS: &str = "histograms";
pub(super) const BOTH: &str = "both";

// Some aligned 8 h windows around 2024-01-01.
const START_MS: i64 = 1_704_067_200_000;
const SPAN_MS: i64 = 3 * 8 * 3_600_000;
const CUSTOM_BUCKETS: i32 = -53;

const SPECIAL: [u64; 8] = [
    STALE_BITS,
    0x7ff8_0000_0000_0001,
    0xfff8_dead_beef_0001,
    0x8000_0000_0000_0000,
    0,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    1,
];

fn bits(random: &mut StdRng) -> u64 {
    match random.random_range(0..4) {
        0 => *SPECIAL.choose(random).unwrap(),
        1 => f64::from(random.random_range(-100_000..100_000)).to_bits(),
        2 => (f64::from(random.random_range(0..1_000_000)) / 1000.0).to_bits(),
        _ => random.random(),
    }
}

/// A sum, which is no stale marker.
fn sum(random: &mut StdRng) -> u64 {
    let sum = bits(random);
    if sum == STALE_BITS { 0 } else { sum }
}

fn spans(random: &mut StdRng, first: std::ops::Range<i32>) -> Vec<Span> {
    let span = |offset, length| Span { offset, length };
    let mut spans: Vec<Span> = (0..random.random_range(0..4))
        .map(|_| span(random.random_range(0..9), random.random_range(0..5)))
        .collect();
    // One bucket at least, so that no two histograms count the same.
    spans.insert(0, span(random.random_range(first), random.random_range(1..4)));
    spans
}

fn counts(spans: &[Span], random: &mut StdRng) -> Vec<u32> {
    (0..spans.iter().map(|s| s.length).sum::<u32>()).map(|_| random.random()).collect()
}

fn deltas(counts: &[u32]) -> Vec<i64> {
    let before = std::iter::once(0).chain(counts.iter().map(|count| i64::from(*count)));
    counts.iter().zip(before).map(|(count, before)| i64::from(*count) - before).collect()
}

fn total(counts: &[u32]) -> u64 {
    counts.iter().map(|count| u64::from(*count)).sum()
}

/// A stale marker and nothing else.
fn stale(float: bool) -> Histogram {
    let (whole, fraction) = if float { (None, Some(0)) } else { (Some(0), None) };
    Histogram {
        count_int: whole,
        zero_count_int: whole,
        count_float: fraction,
        zero_count_float: fraction,
        sum: STALE_BITS,
        ..Histogram::default()
    }
}

/// A histogram before its counts are known.
#[derive(Debug, Clone)]
struct Shape {
    like: Histogram,
    positive: Vec<u32>,
    negative: Vec<u32>,
    zero: u32,
    float: bool,
}

impl Shape {
    fn new(random: &mut StdRng) -> Self {
        let custom = random.random_bool(0.3);
        let mut like = Histogram { reset_hint: random.random_range(0..4), ..Histogram::default() };
        if custom {
            like.schema = CUSTOM_BUCKETS;
            like.positive_spans = spans(random, 0..3);
            let reached: i32 =
                like.positive_spans.iter().map(|s| s.offset + i32::try_from(s.length).unwrap()).sum();
            // The last bucket goes to infinity.
            let bound = |place: i32| (f64::from(place) * 0.25 - 1.0).to_bits();
            like.custom_values = (0..reached - random.random_range(0..2)).map(bound).collect();
        } else {
            like.schema = random.random_range(-4..9);
            like.zero_threshold = *[0, 1e-9f64.to_bits(), 0.25f64.to_bits()].choose(random).unwrap();
            like.positive_spans = spans(random, -9..9);
            if random.random_bool(0.5) {
                like.negative_spans = spans(random, -9..9);
            }
        }
        let positive = counts(&like.positive_spans, random);
        let negative = counts(&like.negative_spans, random);
        let zero = if custom { 0 } else { random.random() };
        Self { like, positive, negative, zero, float: random.random_bool(0.4) }
    }

    /// Observes some more, or starts anew.
    fn go_on(&mut self, random: &mut StdRng) {
        let reset = random.random_bool(0.05);
        let zero = (self.like.schema != CUSTOM_BUCKETS).then_some(&mut self.zero);
        for count in self.positive.iter_mut().chain(&mut self.negative).chain(zero) {
            *count = if reset {
                random.random_range(0..9)
            } else {
                count.saturating_add(random.random_range(0..5))
            };
        }
        // Once more, so that no two count the same.
        self.positive[0] = self.positive[0].wrapping_add(random.random_range(1..1_000_000));
    }

    fn histogram(&self, random: &mut StdRng) -> Histogram {
        let like = Histogram { sum: sum(random), ..self.like.clone() };
        let count = total(&self.positive) + total(&self.negative) + u64::from(self.zero);
        if !self.float {
            return Histogram {
                count_int: Some(count),
                zero_count_int: Some(self.zero.into()),
                positive_deltas: deltas(&self.positive),
                negative_deltas: deltas(&self.negative),
                ..like
            };
        }
        let thirds = |counts: &[u32]| counts.iter().map(|c| (f64::from(*c) / 3.0).to_bits()).collect();
        Histogram {
            count_float: Some((count as f64 / 3.0).to_bits()),
            zero_count_float: Some((f64::from(self.zero) / 3.0).to_bits()),
            positive_counts: thirds(&self.positive),
            negative_counts: thirds(&self.negative),
            ..like
        }
    }
}

/// A place in time that comes again now and then.
fn time(random: &mut StdRng) -> i64 {
    let start = START_MS + random.random_range(0..SPAN_MS);
    start / 600_000 * 600_000 + random.random_range(0..9) * 15_000
}

fn start(ts_ms: i64, random: &mut StdRng) -> i64 {
    if random.random_bool(0.5) { 0 } else { ts_ms - random.random_range(1..100_000) }
}

/// One histogram after the other as a target has them, or each of a shape of its own.
fn histograms(random: &mut StdRng) -> Vec<Histogram> {
    let (steady, first_ms) = (random.random_bool(0.6), time(random));
    let mut shape = Shape::new(random);
    let mut made = Vec::new();
    for step in 0..random.random_range(1..25) {
        let mut one = shape.histogram(random);
        if random.random_bool(0.05) {
            one = stale(random.random_bool(0.5));
        }
        one.ts_ms = if steady { first_ms + step * 15_000 } else { time(random) };
        one.start_ms = start(one.ts_ms, random);
        made.push(one);
        if steady { shape.go_on(random) } else { shape = Shape::new(random) }
    }
    made
}

fn samples(random: &mut StdRng) -> Vec<Sample> {
    let one = |random: &mut StdRng| {
        let ts_ms = time(random);
        Sample { ts_ms, bits: bits(random), start_ms: start(ts_ms, random) }
    };
    (0..random.random_range(1..40)).map(|_| one(random)).collect()
}

fn exemplars(random: &mut StdRng) -> Vec<Exemplar> {
    let one = |random: &mut StdRng| {
        let id = random.random_range(0..1_000).to_string();
        let labels: &[(&str, &str)] = match random.random_range(0..4) {
            0 => &[],
            1 => &[("trace_id", &id), ("span_id", "s")],
            2 => &[("ünit", "°C"), ("a.b/c", "{x=\"y\"}"), ("trace_id", &id)],
            _ => &[("trace_id", &id)],
        };
        Exemplar { ts_ms: time(random), labels: label_pairs(labels), bits: bits(random) }
    };
    (0..random.random_range(0..4)).map(|_| one(random)).collect()
}

/// Makes requests about a fixed set of series.
#[derive(Debug)]
pub(super) struct Maker {
    series: Vec<LabelPairs>,
    said: BTreeMap<String, Metadata>,
    changes: u32,
}

impl Maker {
    pub(super) fn new() -> Self {
        let labels = |metric: &str, number: i32| {
            label_pairs(&[("__name__", metric), ("job", "made"), ("number", &number.to_string())])
        };
        let metrics = [FLOATS, HISTOGRAMS, BOTH].into_iter();
        let series = metrics.flat_map(|metric| (0..5).map(move |number| labels(metric, number))).collect();
        Self { series, said: BTreeMap::new(), changes: 0 }
    }

    /// Returns what is said about a family from now on: the same, or something that was never said of it.
    fn metadata(&mut self, family: &str, random: &mut StdRng) -> Option<Metadata> {
        if random.random_bool(0.4) {
            return None;
        }
        if random.random_bool(0.3) || !self.said.contains_key(family) {
            self.changes += 1;
            let unit = *["", "seconds", "°C"].choose(random).unwrap();
            let help = format!("Text {} of \"{family}\"\n\\ and \u{1F980}.", self.changes);
            let said = Metadata { kind: random.random_range(0..8), help, unit: unit.to_owned() };
            self.said.insert(family.to_owned(), said);
        }
        self.said.get(family).cloned()
    }

    pub(super) fn request(&mut self, random: &mut StdRng) -> Vec<FullSeries> {
        let mut request = Vec::new();
        let mut said = BTreeMap::new();
        for _ in 0..random.random_range(1..7) {
            let labels = self.series.choose(random).unwrap().clone();
            let mut one = FullSeries { labels, exemplars: exemplars(random), ..FullSeries::default() };
            let family = one.family().to_owned();
            if family != HISTOGRAMS {
                one.samples = samples(random);
            }
            if family != FLOATS {
                one.histograms = histograms(random);
            }
            // One request says one thing of a family.
            let metadata = said.entry(family.clone()).or_insert_with(|| self.metadata(&family, random));
            one.metadata.clone_from(metadata);
            request.push(one);
        }
        request
    }
}
