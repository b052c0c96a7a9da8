//! Native histograms as messages of remote read.

use prost::Message as _;

use super::messages::{BucketSpan, Histogram as Message, histogram};
use crate::model::{FloatHistogram, Histogram, HistogramSample, NativeHistogram, Span};

/// Returns the encoded message of a sample. Its start timestamp has no field there.
pub(super) fn encode(sample: &HistogramSample) -> Vec<u8> {
    let message = match &sample.histogram {
        NativeHistogram::Int(value) => whole(sample.ts_ms, value),
        NativeHistogram::Float(value) => fractional(sample.ts_ms, value),
    };
    let mut out = message.encode_to_vec();
    // The encoder takes -0.0 for a default and leaves it out.
    for (tag, value) in [(0x19, message.sum), (0x29, message.zero_threshold)] {
        if value.to_bits() == (-0.0f64).to_bits() {
            out.push(tag);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
    out
}

fn spans(spans: &[Span]) -> Vec<BucketSpan> {
    spans.iter().map(|span| BucketSpan { offset: span.offset, length: span.length }).collect()
}

fn whole(timestamp: i64, value: &Histogram) -> Message {
    Message {
        count: Some(histogram::Count::CountInt(value.count)),
        sum: value.sum,
        schema: value.schema,
        zero_threshold: value.zero_threshold,
        zero_count: Some(histogram::ZeroCount::ZeroCountInt(value.zero_count)),
        negative_spans: spans(&value.negative_spans),
        negative_deltas: value.negative_buckets.clone(),
        negative_counts: Vec::new(),
        positive_spans: spans(&value.positive_spans),
        positive_deltas: value.positive_buckets.clone(),
        positive_counts: Vec::new(),
        reset_hint: value.counter_reset_hint.into(),
        timestamp,
        custom_values: value.custom_values.clone(),
    }
}

fn fractional(timestamp: i64, value: &FloatHistogram) -> Message {
    Message {
        count: Some(histogram::Count::CountFloat(value.count)),
        sum: value.sum,
        schema: value.schema,
        zero_threshold: value.zero_threshold,
        zero_count: Some(histogram::ZeroCount::ZeroCountFloat(value.zero_count)),
        negative_spans: spans(&value.negative_spans),
        negative_deltas: Vec::new(),
        negative_counts: value.negative_buckets.clone(),
        positive_spans: spans(&value.positive_spans),
        positive_deltas: Vec::new(),
        positive_counts: value.positive_buckets.clone(),
        reset_hint: value.counter_reset_hint.into(),
        timestamp,
        custom_values: value.custom_values.clone(),
    }
}
