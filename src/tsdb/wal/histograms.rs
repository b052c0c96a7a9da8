//! Native histograms in records: kinds 7 to 10, 12 and 13.

use super::cursor::{Cursor, put_be64, put_uvarint, put_varint};
use super::samples::Stamp;
use super::{RecordError, RecordKind};
use crate::model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, NativeHistogram, Span};

/// A histogram with whole counts, of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramSample {
    /// The series, by the number that a series record gives it.
    pub reference: u64,
    /// When, in milliseconds.
    pub ts_ms: i64,
    /// When the counter started; 0 where nothing is known. Kinds 7 and 9 cannot hold it.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: Histogram,
}

/// A histogram with fractional counts, of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FloatHistogramSample {
    /// The series, by the number that a series record gives it.
    pub reference: u64,
    /// When, in milliseconds.
    pub ts_ms: i64,
    /// When the counter started; 0 where nothing is known. Kinds 8 and 10 cannot hold it.
    pub start_ms: i64,
    /// The histogram.
    pub histogram: FloatHistogram,
}

impl HistogramSample {
    pub(super) fn take(cursor: &mut Cursor<'_>, stamp: Stamp) -> Result<Self, RecordError> {
        let Stamp { reference, ts_ms, start_ms } = stamp;
        Ok(Self { reference, ts_ms, start_ms, histogram: take_histogram(cursor)? })
    }

    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { reference: self.reference, ts_ms: self.ts_ms, start_ms: self.start_ms }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_histogram(&self.histogram, out);
    }
}

impl FloatHistogramSample {
    pub(super) fn take(cursor: &mut Cursor<'_>, stamp: Stamp) -> Result<Self, RecordError> {
        let Stamp { reference, ts_ms, start_ms } = stamp;
        Ok(Self { reference, ts_ms, start_ms, histogram: take_float_histogram(cursor)? })
    }

    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { reference: self.reference, ts_ms: self.ts_ms, start_ms: self.start_ms }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_float_histogram(&self.histogram, out);
    }
}

/// Appends a histogram of either kind as a record has it, behind the code of the record kind that would hold it.
pub fn encode_histogram(histogram: &NativeHistogram, out: &mut Vec<u8>) {
    match histogram {
        NativeHistogram::Int(histogram) => {
            out.push(RecordKind::HistogramsV2.code());
            put_histogram(histogram, out);
        }
        NativeHistogram::Float(histogram) => {
            out.push(RecordKind::FloatHistogramsV2.code());
            put_float_histogram(histogram, out);
        }
    }
}

/// Reads a histogram that [`encode_histogram`] wrote from the front of some bytes; returns how many it took.
///
/// # Errors
/// Damaged bytes, or the code of another kind of record.
pub fn decode_histogram(data: &[u8]) -> Result<(NativeHistogram, usize), RecordError> {
    let kind = RecordKind::of(data);
    let mut cursor = Cursor::new(kind, data);
    let histogram = match kind {
        RecordKind::HistogramsV2 => NativeHistogram::Int(Box::new(take_histogram(&mut cursor)?)),
        RecordKind::FloatHistogramsV2 => NativeHistogram::Float(Box::new(take_float_histogram(&mut cursor)?)),
        _ => return Err(RecordError::NoSamples { kind }),
    };
    Ok((histogram, data.len() - cursor.rest().len()))
}

fn put_histogram(h: &Histogram, out: &mut Vec<u8>) {
    out.push(h.counter_reset_hint);
    put_varint(i64::from(h.schema), out);
    put_be64(h.zero_threshold.to_bits(), out);
    put_uvarint(h.zero_count, out);
    put_uvarint(h.count, out);
    put_be64(h.sum.to_bits(), out);
    put_spans(&h.positive_spans, out);
    put_spans(&h.negative_spans, out);
    for buckets in [&h.positive_buckets, &h.negative_buckets] {
        put_uvarint(buckets.len() as u64, out);
        buckets.iter().for_each(|delta| put_varint(*delta, out));
    }
    if h.has_custom_buckets() {
        put_floats(&h.custom_values, out);
    }
}

fn put_float_histogram(h: &FloatHistogram, out: &mut Vec<u8>) {
    out.push(h.counter_reset_hint);
    put_varint(i64::from(h.schema), out);
    for value in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        put_be64(value.to_bits(), out);
    }
    put_spans(&h.positive_spans, out);
    put_spans(&h.negative_spans, out);
    put_floats(&h.positive_buckets, out);
    put_floats(&h.negative_buckets, out);
    if h.has_custom_buckets() {
        put_floats(&h.custom_values, out);
    }
}

// Fields are read in the order in which they are stored.
fn take_histogram(cursor: &mut Cursor<'_>) -> Result<Histogram, RecordError> {
    let mut histogram = Histogram {
        counter_reset_hint: cursor.byte()?,
        schema: cursor.varint32()?,
        zero_threshold: cursor.float()?,
        zero_count: cursor.uvarint()?,
        count: cursor.uvarint()?,
        sum: cursor.float()?,
        positive_spans: take_spans(cursor)?,
        negative_spans: take_spans(cursor)?,
        positive_buckets: take_deltas(cursor)?,
        negative_buckets: take_deltas(cursor)?,
        custom_values: Vec::new(),
    };
    if histogram.has_custom_buckets() {
        histogram.custom_values = take_floats(cursor)?;
    }
    Ok(histogram)
}

fn take_float_histogram(cursor: &mut Cursor<'_>) -> Result<FloatHistogram, RecordError> {
    let mut histogram = FloatHistogram {
        counter_reset_hint: cursor.byte()?,
        schema: cursor.varint32()?,
        zero_threshold: cursor.float()?,
        zero_count: cursor.float()?,
        count: cursor.float()?,
        sum: cursor.float()?,
        positive_spans: take_spans(cursor)?,
        negative_spans: take_spans(cursor)?,
        positive_buckets: take_floats(cursor)?,
        negative_buckets: take_floats(cursor)?,
        custom_values: Vec::new(),
    };
    if histogram.has_custom_buckets() {
        histogram.custom_values = take_floats(cursor)?;
    }
    Ok(histogram)
}

/// Passes over a histogram with whole counts.
pub(super) fn skip_histogram(cursor: &mut Cursor<'_>) -> Result<(), RecordError> {
    cursor.byte()?;
    let schema = cursor.varint32()?;
    cursor.be64()?;
    cursor.uvarint()?;
    cursor.uvarint()?;
    cursor.be64()?;
    skip_spans(cursor)?;
    skip_spans(cursor)?;
    for _ in 0..2 {
        for _ in 0..cursor.count(1)? {
            cursor.uvarint()?;
        }
    }
    if schema == CUSTOM_BUCKETS_SCHEMA {
        skip_floats(cursor)?;
    }
    Ok(())
}

/// Passes over a histogram with fractional counts.
pub(super) fn skip_float_histogram(cursor: &mut Cursor<'_>) -> Result<(), RecordError> {
    cursor.byte()?;
    let schema = cursor.varint32()?;
    cursor.skip(4 * size_of::<f64>())?;
    skip_spans(cursor)?;
    skip_spans(cursor)?;
    skip_floats(cursor)?;
    skip_floats(cursor)?;
    if schema == CUSTOM_BUCKETS_SCHEMA {
        skip_floats(cursor)?;
    }
    Ok(())
}

fn skip_spans(cursor: &mut Cursor<'_>) -> Result<(), RecordError> {
    for _ in 0..cursor.count(2)? {
        cursor.varint32()?;
        cursor.uvarint32()?;
    }
    Ok(())
}

fn skip_floats(cursor: &mut Cursor<'_>) -> Result<(), RecordError> {
    let count = cursor.count(size_of::<f64>())?;
    cursor.skip(count * size_of::<f64>()).map(drop)
}

fn take_spans(cursor: &mut Cursor<'_>) -> Result<Vec<Span>, RecordError> {
    let count = cursor.count(2)?;
    let spans = (0..count).map(|_| Ok(Span { offset: cursor.varint32()?, length: cursor.uvarint32()? }));
    spans.collect()
}

fn take_deltas(cursor: &mut Cursor<'_>) -> Result<Vec<i64>, RecordError> {
    let count = cursor.count(1)?;
    (0..count).map(|_| cursor.varint()).collect()
}

fn take_floats(cursor: &mut Cursor<'_>) -> Result<Vec<f64>, RecordError> {
    let count = cursor.count(size_of::<f64>())?;
    (0..count).map(|_| cursor.float()).collect()
}

fn put_spans(spans: &[Span], out: &mut Vec<u8>) {
    put_uvarint(spans.len() as u64, out);
    for span in spans {
        put_varint(i64::from(span.offset), out);
        put_uvarint(u64::from(span.length), out);
    }
}

fn put_floats(values: &[f64], out: &mut Vec<u8>) {
    put_uvarint(values.len() as u64, out);
    values.iter().for_each(|value| put_be64(value.to_bits(), out));
}
