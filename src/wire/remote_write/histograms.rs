//! `Histogram`, which both protocols number alike: read within bounds, then held against Prometheus' rules.

use super::{BUCKETS_MAX, HISTOGRAMS_MAX, Protocol};
use crate::model::{FloatHistogram, Histogram, HistogramError, HistogramSample, NativeHistogram, Span};
use crate::wire::error::{Malformed, WireError};
use crate::wire::protobuf::Cursor;

const GAUGE_HINT: u64 = 3;

/// The histograms of the series at hand, and how many more the request may have.
#[derive(Debug)]
pub(super) struct HistogramScratch {
    pub(super) read: Vec<HistogramSample>,
    left: usize,
    buckets_left: usize,
}

impl HistogramScratch {
    pub(super) const fn new() -> Self {
        Self { read: Vec::new(), left: HISTOGRAMS_MAX, buckets_left: BUCKETS_MAX }
    }

    /// Reads one histogram; one that breaks a rule is told, and the request goes on.
    pub(super) fn read(
        &mut self,
        at: Cursor<'_>,
        protocol: Protocol,
    ) -> Result<Result<(), HistogramError>, WireError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(WireError::TooMany { what: "histograms", limit: HISTOGRAMS_MAX });
        };
        self.left = left;
        let mut parts = Parts::default();
        parts.read(at, protocol, &mut self.buckets_left)?;
        Ok(parts.finish().map(|sample| self.read.push(sample)))
    }
}

/// A count of either kind.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(u64),
    Fraction(f64),
}

/// Spans and counts of one side.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// The fields of the message as they come.
#[derive(Debug, Default)]
struct Parts {
    count: Option<Number>,
    zero_count: Option<Number>,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
    reset_hint: u64,
    ts_ms: i64,
    start_ms: i64,
    custom_values: Vec<f64>,
}

impl Parts {
    fn read(
        &mut self,
        mut at: Cursor<'_>,
        protocol: Protocol,
        buckets_left: &mut usize,
    ) -> Result<(), WireError> {
        while !at.is_done() {
            match at.tag()? {
                0x08 => self.count = Some(Number::Whole(at.varint()?)),
                0x11 => self.count = Some(Number::Fraction(float(&mut at)?)),
                0x19 => self.sum = float(&mut at)?,
                0x20 => self.schema = at.zigzag()?,
                0x29 => self.zero_threshold = float(&mut at)?,
                0x30 => self.zero_count = Some(Number::Whole(at.varint()?)),
                0x39 => self.zero_count = Some(Number::Fraction(float(&mut at)?)),
                tag @ (0x42 | 0x48 | 0x4A | 0x51 | 0x52) => {
                    self.negative.read(tag - 0x40, &mut at, buckets_left)?;
                }
                tag @ (0x5A | 0x60 | 0x62 | 0x69 | 0x6A) => {
                    self.positive.read(tag - 0x58, &mut at, buckets_left)?;
                }
                0x70 => self.reset_hint = at.varint()?,
                0x78 => self.ts_ms = at.varint()?.cast_signed(),
                tag @ (0x81 | 0x82) => {
                    each(&mut at, tag == 0x82, buckets_left, |at| {
                        self.custom_values.push(float(at)?);
                        Ok(())
                    })?;
                }
                0x88 if protocol == Protocol::V2 => self.start_ms = at.varint()?.cast_signed(),
                tag => at.skip_unknown(tag, if protocol == Protocol::V1 { 16 } else { 17 })?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<HistogramSample, HistogramError> {
        let counter_reset_hint = if self.reset_hint > GAUGE_HINT { 0 } else { self.reset_hint as u8 };
        let schema = self.schema.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        let Self { positive, negative, sum, zero_threshold, custom_values, .. } = self;
        let histogram = match (self.count, self.zero_count) {
            (Some(Number::Fraction(count)), None | Some(Number::Fraction(_))) => {
                let zero_count = match self.zero_count {
                    Some(Number::Fraction(zero_count)) => zero_count,
                    _ => 0.0,
                };
                let (positive_spans, positive_buckets) = positive.fractions()?;
                let (negative_spans, negative_buckets) = negative.fractions()?;
                NativeHistogram::Float(Box::new(FloatHistogram {
                    counter_reset_hint,
                    schema,
                    zero_threshold,
                    zero_count,
                    count,
                    sum,
                    positive_spans,
                    negative_spans,
                    positive_buckets,
                    negative_buckets,
                    custom_values,
                }))
            }
            (None | Some(Number::Whole(_)), None | Some(Number::Whole(_))) => {
                let whole = |number| match number {
                    Some(Number::Whole(count)) => count,
                    _ => 0,
                };
                let (positive_spans, positive_buckets) = positive.whole()?;
                let (negative_spans, negative_buckets) = negative.whole()?;
                NativeHistogram::Int(Box::new(Histogram {
                    counter_reset_hint,
                    schema,
                    zero_threshold,
                    zero_count: whole(self.zero_count),
                    count: whole(self.count),
                    sum,
                    positive_spans,
                    negative_spans,
                    positive_buckets,
                    negative_buckets,
                    custom_values,
                }))
            }
            _ => return Err(HistogramError::MixedCounts),
        };
        histogram.check()?;
        Ok(HistogramSample { ts_ms: self.ts_ms, start_ms: self.start_ms, histogram })
    }
}

impl Side {
    /// Reads a field of this side; `tag` is counted from the field of the spans on.
    fn read(&mut self, tag: u32, at: &mut Cursor<'_>, buckets_left: &mut usize) -> Result<(), WireError> {
        match tag {
            0x02 => {
                take(buckets_left)?;
                self.spans.push(read_span(at.message()?)?);
                Ok(())
            }
            0x08 | 0x0A => each(at, tag == 0x0A, buckets_left, |at| {
                self.deltas.push(at.zigzag()?);
                Ok(())
            }),
            _ => each(at, tag == 0x12, buckets_left, |at| {
                self.counts.push(float(at)?);
                Ok(())
            }),
        }
    }

    fn whole(self) -> Result<(Vec<Span>, Vec<i64>), HistogramError> {
        if self.counts.is_empty() { Ok((self.spans, self.deltas)) } else { Err(HistogramError::MixedCounts) }
    }

    fn fractions(self) -> Result<(Vec<Span>, Vec<f64>), HistogramError> {
        if self.deltas.is_empty() { Ok((self.spans, self.counts)) } else { Err(HistogramError::MixedCounts) }
    }
}

/// Reads the elements of a repeated field: all of a packed one, else the one that stands here.
fn each<'a>(
    at: &mut Cursor<'a>,
    packed: bool,
    left: &mut usize,
    mut one: impl FnMut(&mut Cursor<'a>) -> Result<(), Malformed>,
) -> Result<(), WireError> {
    if !packed {
        take(left)?;
        return Ok(one(at)?);
    }
    let mut inner = at.message()?;
    while !inner.is_done() {
        take(left)?;
        one(&mut inner)?;
    }
    Ok(())
}

fn take(left: &mut usize) -> Result<(), WireError> {
    let rest = left.checked_sub(1);
    *left = rest.ok_or(WireError::TooMany { what: "histogram buckets", limit: BUCKETS_MAX })?;
    Ok(())
}

fn float(at: &mut Cursor<'_>) -> Result<f64, Malformed> {
    at.fixed64().map(f64::from_bits)
}

fn read_span(mut at: Cursor<'_>) -> Result<Span, Malformed> {
    let mut span = Span::default();
    while !at.is_done() {
        match at.tag()? {
            0x08 => {
                let offset = at.zigzag()?;
                span.offset =
                    i32::try_from(offset).map_err(|_| at.refuse("a span's offset is over 32 bits"))?;
            }
            0x10 => {
                let length = at.varint()?;
                span.length =
                    u32::try_from(length).map_err(|_| at.refuse("a span's length is over 32 bits"))?;
            }
            tag => at.skip_unknown(tag, 2)?,
        }
    }
    Ok(span)
}
