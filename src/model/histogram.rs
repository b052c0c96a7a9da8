//! Native histograms as Prometheus stores them, in the log and in chunks alike, and samples that are histograms.

use std::cmp::Ordering;

use super::sample::is_stale;

/// The schema whose buckets have bounds of their own, listed in `custom_values`.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A run of neighbouring buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Distance to the previous span's end, or to bucket 0 for the first span.
    pub offset: i32,
    /// How many buckets follow each other.
    pub length: u32,
}

/// A native histogram with whole counts. Equal means equal bit by bit: NaNs compare by their payload.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// What is known about a counter reset: 0 unknown, 1 reset, 2 not reset, 3 gauge. Kept as it was stored.
    pub counter_reset_hint: u8,
    /// Resolution of the exponential buckets, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// All observations.
    pub count: u64,
    /// Sum of the observations; the stale marker makes the whole sample stale.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Positive counts, each as the difference to the bucket before.
    pub positive_buckets: Vec<i64>,
    /// Negative counts, each as the difference to the bucket before.
    pub negative_buckets: Vec<i64>,
    /// Upper bounds of custom buckets; empty for every other schema.
    pub custom_values: Vec<f64>,
}

/// A native histogram with fractional counts. Equal means equal bit by bit: NaNs compare by their payload.
#[derive(Debug, Clone, Default)]
pub struct FloatHistogram {
    /// What is known about a counter reset: 0 unknown, 1 reset, 2 not reset, 3 gauge. Kept as it was stored.
    pub counter_reset_hint: u8,
    /// Resolution of the exponential buckets, or [`CUSTOM_BUCKETS_SCHEMA`].
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of the observations; the stale marker makes the whole sample stale.
    pub sum: f64,
    /// Where the positive buckets lie.
    pub positive_spans: Vec<Span>,
    /// Where the negative buckets lie.
    pub negative_spans: Vec<Span>,
    /// Positive counts, absolute.
    pub positive_buckets: Vec<f64>,
    /// Negative counts, absolute.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets; empty for every other schema.
    pub custom_values: Vec<f64>,
}

impl Histogram {
    /// Says whether the buckets have bounds of their own.
    #[must_use]
    pub const fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }
}

impl FloatHistogram {
    /// Says whether the buckets have bounds of their own.
    #[must_use]
    pub const fn has_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && same_bits(self.zero_threshold, other.zero_threshold)
            && self.zero_count == other.zero_count
            && self.count == other.count
            && same_bits(self.sum, other.sum)
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && self.positive_buckets == other.positive_buckets
            && self.negative_buckets == other.negative_buckets
            && all_same_bits(&self.custom_values, &other.custom_values)
    }
}

impl Eq for Histogram {}

impl PartialEq for FloatHistogram {
    fn eq(&self, other: &Self) -> bool {
        self.counter_reset_hint == other.counter_reset_hint
            && self.schema == other.schema
            && same_bits(self.zero_threshold, other.zero_threshold)
            && same_bits(self.zero_count, other.zero_count)
            && same_bits(self.count, other.count)
            && same_bits(self.sum, other.sum)
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && all_same_bits(&self.positive_buckets, &other.positive_buckets)
            && all_same_bits(&self.negative_buckets, &other.negative_buckets)
            && all_same_bits(&self.custom_values, &other.custom_values)
    }
}

impl Eq for FloatHistogram {}

fn same_bits(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits()
}

fn all_same_bits(some: &[f64], others: &[f64]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| same_bits(*one, *other))
}

/// A native histogram, with whole or with fractional counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NativeHistogram {
    /// With whole counts.
    Int(Box<Histogram>),
    /// With fractional counts.
    Float(Box<FloatHistogram>),
}

impl NativeHistogram {
    /// Returns the sum of the observations; the stale marker makes the sample stale.
    #[must_use]
    pub fn sum(&self) -> f64 {
        match self {
            Self::Int(histogram) => histogram.sum,
            Self::Float(histogram) => histogram.sum,
        }
    }

    /// Returns whether this ends the series.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum())
    }

    /// Orders by content: a histogram beats a stale marker, whole counts beat fractional ones, of two alike the one
    /// with more observations stays, then that whose fields are greater, one after the other, as bits.
    fn memory_bytes(&self) -> usize {
        let (own, spans, numbers) = match self {
            Self::Int(h) => {
                let numbers = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
                (size_of::<Histogram>(), h.positive_spans.len() + h.negative_spans.len(), numbers)
            }
            Self::Float(h) => {
                let numbers = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
                (size_of::<FloatHistogram>(), h.positive_spans.len() + h.negative_spans.len(), numbers)
            }
        };
        own + spans * size_of::<Span>() + numbers * size_of::<i64>()
    }

    fn content_order(&self, other: &Self) -> Ordering {
        let by_staleness = other.is_stale().cmp(&self.is_stale());
        by_staleness.then_with(|| match (self, other) {
            (Self::Int(one), Self::Int(two)) => int_order(one, two),
            (Self::Float(one), Self::Float(two)) => float_order(one, two),
            (Self::Int(_), Self::Float(_)) => Ordering::Greater,
            (Self::Float(_), Self::Int(_)) => Ordering::Less,
        })
    }
}

fn int_order(one: &Histogram, two: &Histogram) -> Ordering {
    let fields =
        |h: &Histogram| (h.count, h.zero_count, h.sum.to_bits(), h.schema, h.zero_threshold.to_bits());
    fields(one)
        .cmp(&fields(two))
        .then_with(|| spans_order(&one.positive_spans, &two.positive_spans))
        .then_with(|| spans_order(&one.negative_spans, &two.negative_spans))
        .then_with(|| one.positive_buckets.cmp(&two.positive_buckets))
        .then_with(|| one.negative_buckets.cmp(&two.negative_buckets))
        .then_with(|| bits_order(&one.custom_values, &two.custom_values))
        .then_with(|| one.counter_reset_hint.cmp(&two.counter_reset_hint))
}

fn float_order(one: &FloatHistogram, two: &FloatHistogram) -> Ordering {
    let by_count = one.count.total_cmp(&two.count);
    let fields =
        |h: &FloatHistogram| (h.zero_count.to_bits(), h.sum.to_bits(), h.schema, h.zero_threshold.to_bits());
    by_count
        .then_with(|| fields(one).cmp(&fields(two)))
        .then_with(|| spans_order(&one.positive_spans, &two.positive_spans))
        .then_with(|| spans_order(&one.negative_spans, &two.negative_spans))
        .then_with(|| bits_order(&one.positive_buckets, &two.positive_buckets))
        .then_with(|| bits_order(&one.negative_buckets, &two.negative_buckets))
        .then_with(|| bits_order(&one.custom_values, &two.custom_values))
        .then_with(|| one.counter_reset_hint.cmp(&two.counter_reset_hint))
}

fn spans_order(one: &[Span], two: &[Span]) -> Ordering {
    let fields = |span: &Span| (span.offset, span.length);
    one.iter().map(fields).cmp(two.iter().map(fields))
}

fn bits_order(one: &[f64], two: &[f64]) -> Ordering {
    one.iter().map(|v| v.to_bits()).cmp(two.iter().map(|v| v.to_bits()))
}

/// One sample of a series that is a native histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSample {
    /// When, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// When the counter started, in milliseconds; 0 where none was sent.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: NativeHistogram,
}

impl HistogramSample {
    /// Returns about how many bytes of memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.histogram.memory_bytes()
    }

    /// Returns whether another sample with the same timestamp stays in place of this one; by content alone, so that
    /// the order of arrival does not matter. With equal histograms the later start timestamp stays.
    fn loses_to(&self, other: &Self) -> bool {
        let order = self.histogram.content_order(&other.histogram);
        order.then(self.start_ms.cmp(&other.start_ms)) == Ordering::Less
    }
}

/// Sorts histogram samples by time and leaves one per timestamp, decided by content.
pub fn normalize_histograms(samples: &mut Vec<HistogramSample>) {
    if samples.windows(2).all(|w| w[0].ts_ms < w[1].ts_ms) {
        return;
    }
    samples.sort_by_key(|s| s.ts_ms);
    samples.dedup_by(|later, kept| {
        let same = later.ts_ms == kept.ts_ms;
        if same && kept.loses_to(later) {
            std::mem::swap(kept, later);
        }
        same
    });
}
