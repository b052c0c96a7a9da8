//! Samples, stale markers, and which of two values for one timestamp stays.

use std::cmp::Ordering;

/// The bit pattern of a stale marker: a signalling NaN that Prometheus writes when a series ends.
pub const STALE_MARKER_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Returns whether a value is a stale marker.
#[must_use]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_MARKER_BITS
}

/// One float sample of a series.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When, in milliseconds since the Unix epoch.
    pub ts_ms: i64,
    /// The value; every bit pattern is meaningful.
    pub value: f64,
    /// When the counter started, in milliseconds; 0 where none was sent (as on the wire).
    pub start_ms: i64,
}

impl Sample {
    /// A sample without a start timestamp.
    #[must_use]
    pub const fn new(ts_ms: i64, value: f64) -> Self {
        Self { ts_ms, value, start_ms: 0 }
    }

    /// Returns the sample that stays of two with the same timestamp, decided by content alone: a value beats a
    /// stale marker, a number beats a NaN, of two numbers the greater stays (0.0 over -0.0), of two NaNs the
    /// greater bits; with equal values the later start timestamp stays (none is the earliest).
    #[must_use]
    pub fn winner(self, other: Self) -> Self {
        let order = value_order(self.value, other.value)
            .then((self.start_ms != 0).cmp(&(other.start_ms != 0)))
            .then(self.start_ms.cmp(&other.start_ms));
        if order == Ordering::Less { other } else { self }
    }
}

impl PartialEq for Sample {
    /// Compares bit patterns.
    fn eq(&self, other: &Self) -> bool {
        self.ts_ms == other.ts_ms
            && self.value.to_bits() == other.value.to_bits()
            && self.start_ms == other.start_ms
    }
}

impl Eq for Sample {}

fn value_order(a: f64, b: f64) -> Ordering {
    let rank = |v: f64| {
        if is_stale(v) {
            0
        } else if v.is_nan() {
            1
        } else {
            2
        }
    };
    rank(a).cmp(&rank(b)).then_with(|| match a.is_nan() {
        true => a.to_bits().cmp(&b.to_bits()),
        false => a.total_cmp(&b),
    })
}

/// Sorts samples by time and leaves one per timestamp, the [`Sample::winner`].
pub fn normalize_samples(samples: &mut Vec<Sample>) {
    if samples.windows(2).all(|w| w[0].ts_ms < w[1].ts_ms) {
        return;
    }
    samples.sort_by_key(|s| s.ts_ms);
    samples.dedup_by(|later, kept| {
        let same = later.ts_ms == kept.ts_ms;
        if same {
            *kept = kept.winner(*later);
        }
        same
    });
}

/// Merges runs of samples, each normalized, into one normalized run.
#[must_use]
pub fn merge_samples(mut runs: Vec<Vec<Sample>>) -> Vec<Sample> {
    runs.retain(|r| !r.is_empty());
    runs.sort_by_key(|r| r[0].ts_ms);
    let mut runs = runs.into_iter();
    let Some(mut merged) = runs.next() else { return Vec::new() };
    if runs.len() == 0 {
        return merged;
    }
    for run in runs {
        merged.extend(run);
    }
    normalize_samples(&mut merged);
    merged
}
