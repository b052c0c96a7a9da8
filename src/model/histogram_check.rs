//! What a native histogram must hold to be one: the rules by which Prometheus takes them.

use super::histogram::{FloatHistogram, Histogram, NativeHistogram, Span};

/// The exponential schemas that Prometheus stores.
const SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;

/// The most counts, spans and bounds of one histogram, so that one sample is never larger than a log entry.
const PARTS_MAX: usize = 1 << 16;

/// Why a native histogram was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// The schema is none that is stored.
    #[error("schema {schema} is not stored: use -4 to 8, or -53 for custom buckets")]
    Schema {
        /// The schema.
        schema: i32,
    },
    /// The spans do not name as many buckets as there are counts.
    #[error(
        "the {side} spans name {spanned} buckets and there are {buckets} counts: send one count a bucket"
    )]
    Spans {
        /// `positive` or `negative`.
        side: &'static str,
        /// Buckets that the spans name.
        spanned: u64,
        /// Counts that came.
        buckets: u64,
    },
    /// A span but the first lies before the end of the one before it.
    #[error("a {side} span starts before the end of the one before it: send spans in order")]
    SpanOrder {
        /// `positive` or `negative`.
        side: &'static str,
    },
    /// A count is below zero, or over 64 bits.
    #[error("{what} is negative or too large: counts are whole observations")]
    Count {
        /// Which count.
        what: &'static str,
    },
    /// The buckets do not add up to the count.
    #[error("the buckets hold {buckets} observations and the count says {count}")]
    Mismatch {
        /// All buckets together.
        buckets: u64,
        /// The count.
        count: u64,
    },
    /// The bounds of custom buckets are not usable.
    #[error("custom bucket bounds must rise and be finite")]
    Bounds,
    /// More buckets are named than the bounds part.
    #[error("the spans reach past bucket {buckets}, the last that the custom bounds make")]
    BeyondBounds {
        /// Buckets that the bounds make.
        buckets: u64,
    },
    /// Custom buckets with what only exponential ones have.
    #[error("a histogram with custom buckets has {what}")]
    NotCustom {
        /// What it has.
        what: &'static str,
    },
    /// Exponential buckets with bounds of their own.
    #[error("a histogram with exponential buckets has custom bounds")]
    NotExponential,
    /// It has more buckets, spans and bounds than are stored.
    #[error("it has {parts} counts, spans and bounds and {limit} are allowed")]
    TooLarge {
        /// How many it has.
        parts: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// Whole and fractional counts in one histogram.
    #[error("whole and fractional counts are mixed in one histogram")]
    MixedCounts,
}

impl NativeHistogram {
    /// Checks all that Prometheus checks before it stores a histogram, and its size.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), HistogramError> {
        let parts = self.parts();
        if parts > PARTS_MAX {
            return Err(HistogramError::TooLarge { parts, limit: PARTS_MAX });
        }
        match self {
            Self::Int(histogram) => check_int(histogram),
            Self::Float(histogram) => check_float(histogram),
        }
    }

    /// Returns how many counts, spans and bounds it has.
    fn parts(&self) -> usize {
        match self {
            Self::Int(h) => {
                h.positive_spans.len()
                    + h.negative_spans.len()
                    + h.positive_buckets.len()
                    + h.negative_buckets.len()
                    + h.custom_values.len()
            }
            Self::Float(h) => {
                h.positive_spans.len()
                    + h.negative_spans.len()
                    + h.positive_buckets.len()
                    + h.negative_buckets.len()
                    + h.custom_values.len()
            }
        }
    }

    /// Checks only that there is a count for each bucket that the spans name, which encoders rely on.
    ///
    /// # Errors
    /// Spans that do not fit the counts.
    pub fn check_layout(&self) -> Result<(), HistogramError> {
        let (positive, negative) = match self {
            Self::Int(h) => {
                ((&h.positive_spans, h.positive_buckets.len()), (&h.negative_spans, h.negative_buckets.len()))
            }
            Self::Float(h) => {
                ((&h.positive_spans, h.positive_buckets.len()), (&h.negative_spans, h.negative_buckets.len()))
            }
        };
        check_spans("positive", positive.0, positive.1)?;
        check_spans("negative", negative.0, negative.1)
    }
}

fn check_int(h: &Histogram) -> Result<(), HistogramError> {
    if h.has_custom_buckets() {
        check_bounds(&h.custom_values, &h.positive_spans)?;
        let zero = h.zero_count != 0 || h.zero_threshold != 0.0;
        check_custom(zero, &h.negative_spans, h.negative_buckets.len())?;
    } else {
        check_exponential(h.schema, &h.custom_values)?;
    }
    check_spans("positive", &h.positive_spans, h.positive_buckets.len())?;
    check_spans("negative", &h.negative_spans, h.negative_buckets.len())?;
    let positive = add_up(&h.positive_buckets, "a positive bucket")?;
    let negative = add_up(&h.negative_buckets, "a negative bucket")?;
    let buckets = positive.checked_add(negative).and_then(|sum| sum.checked_add(h.zero_count));
    let buckets = buckets.ok_or(HistogramError::Count { what: "the sum of the buckets" })?;
    // Observations that are NaN are counted and are in no bucket; they make the sum NaN.
    let fits = if h.sum.is_nan() { buckets <= h.count } else { buckets == h.count };
    if fits { Ok(()) } else { Err(HistogramError::Mismatch { buckets, count: h.count }) }
}

fn check_float(h: &FloatHistogram) -> Result<(), HistogramError> {
    if h.has_custom_buckets() {
        check_bounds(&h.custom_values, &h.positive_spans)?;
        let zero = h.zero_count != 0.0 || h.zero_threshold != 0.0;
        check_custom(zero, &h.negative_spans, h.negative_buckets.len())?;
    } else {
        check_exponential(h.schema, &h.custom_values)?;
    }
    check_spans("positive", &h.positive_spans, h.positive_buckets.len())?;
    check_spans("negative", &h.negative_spans, h.negative_buckets.len())?;
    // Sums of fractions round: the count is not compared with the buckets.
    for (what, negative) in [
        ("the zero bucket", h.zero_count < 0.0),
        ("the count", h.count < 0.0),
        ("a positive bucket", h.positive_buckets.iter().any(|count| *count < 0.0)),
        ("a negative bucket", h.negative_buckets.iter().any(|count| *count < 0.0)),
    ] {
        if negative {
            return Err(HistogramError::Count { what });
        }
    }
    Ok(())
}

fn check_exponential(schema: i32, custom_values: &[f64]) -> Result<(), HistogramError> {
    if !SCHEMAS.contains(&schema) {
        return Err(HistogramError::Schema { schema });
    }
    if custom_values.is_empty() { Ok(()) } else { Err(HistogramError::NotExponential) }
}

fn check_custom(zero: bool, negative_spans: &[Span], negatives: usize) -> Result<(), HistogramError> {
    let what = match (zero, !negative_spans.is_empty() || negatives > 0) {
        (true, _) => "a zero bucket",
        (_, true) => "negative buckets",
        _ => return Ok(()),
    };
    Err(HistogramError::NotCustom { what })
}

fn check_spans(side: &'static str, spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    if spans.iter().skip(1).any(|span| span.offset < 0) {
        return Err(HistogramError::SpanOrder { side });
    }
    let spanned: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    let buckets = buckets as u64;
    if spanned == buckets { Ok(()) } else { Err(HistogramError::Spans { side, spanned, buckets }) }
}

fn check_bounds(bounds: &[f64], spans: &[Span]) -> Result<(), HistogramError> {
    let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let finite = bounds.iter().all(|bound| !bound.is_nan() && *bound != f64::INFINITY);
    if !rising || !finite || bounds.first().is_some_and(|bound| bound.is_infinite()) {
        return Err(HistogramError::Bounds);
    }
    if spans.first().is_some_and(|span| span.offset < 0) {
        return Err(HistogramError::SpanOrder { side: "positive" });
    }
    let reached: i64 = spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
    let buckets = bounds.len() as u64 + 1;
    if reached.unsigned_abs() <= buckets { Ok(()) } else { Err(HistogramError::BeyondBounds { buckets }) }
}

/// Adds up counts that are stored as differences.
fn add_up(deltas: &[i64], what: &'static str) -> Result<u64, HistogramError> {
    let (mut count, mut sum) = (0i64, 0u64);
    for delta in deltas {
        let next = count.checked_add(*delta).filter(|next| *next >= 0);
        count = next.ok_or(HistogramError::Count { what })?;
        sum = sum.checked_add(count.unsigned_abs()).ok_or(HistogramError::Count { what })?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests;
