//! What the histograms of one chunk share, and how the next one relates to it.

use super::{ChunkError, varbit};
use crate::model::{CUSTOM_BUCKETS_SCHEMA, STALE_MARKER_BITS, Span};
use crate::tsdb::bits::{BitReader, BitWriter};

/// Hints of a sample about counter resets, as Prometheus numbers them.
pub(super) const HINT_UNKNOWN: u8 = 0;
pub(super) const HINT_RESET: u8 = 1;
pub(super) const HINT_NOT_RESET: u8 = 2;
pub(super) const HINT_GAUGE: u8 = 3;

/// What the header of a chunk says about counter resets; the numbers are its top two bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetHeader {
    Unknown = 0b00,
    NotReset = 0b01,
    Reset = 0b10,
    Gauge = 0b11,
}

impl ResetHeader {
    pub(super) fn from_top_bits(byte: u8) -> Self {
        match byte >> 6 {
            0b00 => Self::Unknown,
            0b01 => Self::NotReset,
            0b10 => Self::Reset,
            _ => Self::Gauge,
        }
    }

    pub(super) fn to_top_bits(self) -> u8 {
        (self as u8) << 6
    }

    /// Returns the hint of a sample of the chunk.
    pub(super) fn hint(self, is_first: bool) -> u8 {
        match self {
            Self::Gauge => HINT_GAUGE,
            _ if !is_first => HINT_NOT_RESET,
            Self::Reset => HINT_RESET,
            Self::NotReset => HINT_NOT_RESET,
            Self::Unknown => HINT_UNKNOWN,
        }
    }
}

/// Whether a histogram was appended to the open chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It was.
    Appended,
    /// It was not: it needs a chunk of its own, which is to be started with the same encoder.
    NeedsNewChunk,
}

/// Schema, zero bucket, spans and custom bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: u64,
    pub(super) positive: Vec<Span>,
    pub(super) negative: Vec<Span>,
    /// Bits of the upper bounds.
    pub(super) custom_values: Vec<u64>,
}

/// The fields of a histogram that make up its layout.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayoutRef<'a> {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive: &'a [Span],
    pub(super) negative: &'a [Span],
    pub(super) custom_values: &'a [f64],
}

impl LayoutRef<'_> {
    /// The layout of a stale histogram.
    pub(super) const EMPTY: LayoutRef<'static> =
        LayoutRef { schema: 0, zero_threshold: 0.0, positive: &[], negative: &[], custom_values: &[] };

    pub(super) fn to_layout(self) -> Layout {
        let custom = self.schema == CUSTOM_BUCKETS_SCHEMA;
        Layout {
            schema: self.schema,
            zero_threshold: self.zero_threshold.to_bits(),
            positive: self.positive.to_vec(),
            negative: self.negative.to_vec(),
            // Only this schema has them in a chunk.
            custom_values: self.custom_values.iter().filter(|_| custom).map(|v| v.to_bits()).collect(),
        }
    }

    /// Returns whether both have buckets of the same bounds, so that counts can be compared.
    pub(super) fn has_scale_of(self, other: &Layout) -> bool {
        self.schema == other.schema && self.zero_threshold.to_bits() == other.zero_threshold
    }

    pub(super) fn has_bounds_of(self, other: &Layout) -> bool {
        self.schema != CUSTOM_BUCKETS_SCHEMA
            || self.custom_values.iter().map(|v| v.to_bits()).eq(other.custom_values.iter().copied())
    }

    pub(super) fn has_spans_of(self, other: &Layout) -> bool {
        self.positive == other.positive && self.negative == other.negative
    }
}

/// What both kinds of histograms have in common.
pub(super) trait Shape {
    /// What is known about a counter reset.
    fn hint(&self) -> u8;

    /// The bits of the sum, which say whether the histogram is stale.
    fn sum_bits(&self) -> u64;

    /// Where its buckets lie.
    fn layout(&self) -> LayoutRef<'_>;
}

/// The chunk that is being written, or was written last, as the next histogram is compared with it.
pub(super) trait OpenChunk {
    /// What it holds.
    type Value: Shape;

    /// Whether it holds gauges.
    fn is_gauge(&self) -> bool;

    /// Where its buckets lie.
    fn layout(&self) -> &Layout;

    /// The bits of the last histogram's sum.
    fn sum_bits(&self) -> u64;

    /// Whether a histogram has fewer observations than the last one.
    fn count_shrank(&self, value: &Self::Value) -> bool;

    /// Whether a histogram of the same scale and bounds has fewer observations in a bucket than the last one.
    fn buckets_shrank(&self, value: &Self::Value) -> bool;

    /// Returns what the header of a new chunk says that starts with a histogram.
    fn header_for(&self, value: &Self::Value, follows: bool) -> ResetHeader {
        match value.hint() {
            HINT_GAUGE => ResetHeader::Gauge,
            HINT_RESET => ResetHeader::Reset,
            _ if !follows || self.is_gauge() => ResetHeader::Unknown,
            _ if value.sum_bits() == STALE_MARKER_BITS => ResetHeader::NotReset,
            _ if self.sum_bits() == STALE_MARKER_BITS => ResetHeader::Unknown,
            _ => self.compare(value),
        }
    }

    /// Returns whether a histogram that is not stale can stand in the open chunk.
    fn goes_with(&self, value: &Self::Value) -> bool {
        if self.sum_bits() == STALE_MARKER_BITS || value.hint() == HINT_RESET {
            return false;
        }
        let is_gauge = value.hint() == HINT_GAUGE;
        let layout = value.layout();
        is_gauge == self.is_gauge()
            && layout.has_scale_of(self.layout())
            && layout.has_bounds_of(self.layout())
            && layout.has_spans_of(self.layout())
            && (is_gauge || self.compare(value) == ResetHeader::NotReset)
    }

    /// Looks for a counter reset between the last histogram and this one.
    fn compare(&self, value: &Self::Value) -> ResetHeader {
        let layout = value.layout();
        if self.count_shrank(value) {
            return ResetHeader::Reset;
        }
        if !layout.has_scale_of(self.layout()) {
            return ResetHeader::Unknown;
        }
        let shrank = !layout.has_bounds_of(self.layout()) || self.buckets_shrank(value);
        if shrank { ResetHeader::Reset } else { ResetHeader::NotReset }
    }
}

/// Returns how many buckets spans cover.
pub(super) fn bucket_count(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

/// Complains where a histogram has other buckets than its spans say.
pub(super) fn expect_buckets(t_ms: i64, spans: &[Span], buckets: usize) -> Result<(), ChunkError> {
    let covered = bucket_count(spans);
    if covered == buckets as u64 {
        return Ok(());
    }
    Err(ChunkError::Buckets { t_ms, buckets, spans: covered })
}

/// Iterates over the indexes of the buckets that spans cover.
pub(super) fn bucket_indexes(spans: &[Span]) -> impl Iterator<Item = i64> {
    let mut next = 0i64;
    spans.iter().flat_map(move |span| {
        let first = next + i64::from(span.offset);
        next = first + i64::from(span.length);
        first..next
    })
}

/// Returns whether a bucket that counted something is gone or counts less: a counter reset.
pub(super) fn any_shrank<T: PartialOrd + Default>(
    before: impl Iterator<Item = (i64, T)>,
    after: impl Iterator<Item = (i64, T)>,
) -> bool {
    let mut after = after.peekable();
    for (index, count) in before {
        while after.next_if(|(other, _)| *other < index).is_some() {}
        let shrank = match after.peek() {
            Some((other, now)) if *other == index => count > *now,
            _ => count != T::default(),
        };
        if shrank {
            return true;
        }
    }
    false
}

impl Layout {
    pub(super) fn put(&self, bits: &mut BitWriter, out: &mut Vec<u8>) {
        put_zero_threshold(bits, out, self.zero_threshold);
        varbit::put_int(bits, out, i64::from(self.schema));
        for spans in [&self.positive, &self.negative] {
            varbit::put_uint(bits, out, spans.len() as u64);
            for span in spans {
                varbit::put_uint(bits, out, u64::from(span.length));
                varbit::put_int(bits, out, i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            varbit::put_uint(bits, out, self.custom_values.len() as u64);
            for value in &self.custom_values {
                put_bound(bits, out, *value);
            }
        }
    }

    /// Takes a layout whose buckets all fit into the bits that follow, at `bucket_bits` each in the first sample.
    pub(super) fn take(bits: &mut BitReader<'_>, bucket_bits: u64) -> Result<Self, ChunkError> {
        let layout = Self::take_parts(bits).ok_or(ChunkError::Layout {
            reason: "the chunk ends inside of it, or a number in it is too large",
        })?;
        if !matches!(layout.schema, -9..=52 | CUSTOM_BUCKETS_SCHEMA) {
            return Err(ChunkError::Layout { reason: "the schema is neither -9 to 52 nor -53" });
        }
        let buckets = bucket_count(&layout.positive).saturating_add(bucket_count(&layout.negative));
        if buckets.saturating_mul(bucket_bits) > bits.remaining() {
            return Err(ChunkError::Layout { reason: "it has more buckets than the chunk has room for" });
        }
        Ok(layout)
    }

    fn take_parts(bits: &mut BitReader<'_>) -> Option<Self> {
        let zero_threshold = take_zero_threshold(bits)?;
        let schema = i32::try_from(varbit::take_int(bits)?).ok()?;
        let positive = take_spans(bits)?;
        let negative = take_spans(bits)?;
        let mut custom_values = Vec::new();
        if schema == CUSTOM_BUCKETS_SCHEMA {
            let count = varbit::take_uint(bits).filter(|count| *count <= bits.remaining())?;
            for _ in 0..count {
                custom_values.push(take_bound(bits)?);
            }
        }
        Some(Self { schema, zero_threshold, positive, negative, custom_values })
    }

    pub(super) fn custom_floats(&self) -> Vec<f64> {
        self.custom_values.iter().map(|bits| f64::from_bits(*bits)).collect()
    }
}

fn take_spans(bits: &mut BitReader<'_>) -> Option<Vec<Span>> {
    // A span is at least two bits.
    let count = varbit::take_uint(bits).filter(|count| *count <= bits.remaining() / 2)?;
    let mut spans = Vec::new();
    for _ in 0..count {
        let length = u32::try_from(varbit::take_uint(bits)?).ok()?;
        let offset = i32::try_from(varbit::take_int(bits)?).ok()?;
        spans.push(Span { offset, length });
    }
    Some(spans)
}

/// One byte: 0 for zero, 1 to 254 for the powers of two from 2^-243 to 2^10, else 255 and 64 bits.
fn put_zero_threshold(bits: &mut BitWriter, out: &mut Vec<u8>, threshold: u64) {
    const MANTISSA_BITS: u32 = 52;
    let exponent = (threshold >> MANTISSA_BITS) as i64 - 1023;
    // Sign and mantissa of a power of two are zero.
    let is_power = threshold & ((1 << MANTISSA_BITS) - 1) == 0 && (-243..=10).contains(&exponent);
    if threshold == 0 {
        bits.put(out, 0, 8);
    } else if is_power {
        bits.put(out, (exponent + 244) as u64, 8);
    } else {
        bits.put(out, 255, 8);
        bits.put(out, threshold, 64);
    }
}

fn take_zero_threshold(bits: &mut BitReader<'_>) -> Option<u64> {
    match bits.take(8)? {
        0 => Some(0),
        255 => bits.take(64),
        byte => Some((byte + 1023 - 244) << 52),
    }
}

/// The largest bound in thousandths that four bytes hold.
const BOUND_THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// Whole thousandths plus one, or a zero bit and 64 bits.
fn put_bound(bits: &mut BitWriter, out: &mut Vec<u8>, bound: u64) {
    let value = f64::from_bits(bound);
    let thousandths = (value * 1000.0).round() as u64;
    let is_in_range = value >= 0.0 && value * 1000.0 <= BOUND_THOUSANDTHS_MAX;
    // Compared as bits, so that -0.0 keeps its sign.
    if is_in_range && (thousandths as f64 / 1000.0).to_bits() == bound {
        varbit::put_uint(bits, out, thousandths + 1);
    } else {
        bits.put(out, 0, 1);
        bits.put(out, bound, 64);
    }
}

fn take_bound(bits: &mut BitReader<'_>) -> Option<u64> {
    match varbit::take_uint(bits)? {
        0 => bits.take(64),
        number => Some(((number - 1) as f64 / 1000.0).to_bits()),
    }
}
