//! Native histograms as Prometheus stores them, in the log and in chunks alike.

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
