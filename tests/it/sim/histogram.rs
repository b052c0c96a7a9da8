//! The histograms of a run. Each stands for a number: of two with one timestamp the one with more observations stays,
//! which is the greater number, as of two floats. So the model knows them as samples with that number.

use crate::every_kind::wire;
use perennial::model::{Histogram, HistogramSample, Labels, NativeHistogram, Sample, Span};

/// The metric whose series are histograms.
pub(super) const METRIC: &str = "h";

/// The greatest number that a histogram stands for.
pub(super) const NUMBER_MAX: u64 = 1_000;

pub(super) fn is_of_histograms(labels: &Labels) -> bool {
    labels.get("__name__") == Some(METRIC)
}

/// Returns the histogram that stands for a number; the layout of its buckets changes with the number.
fn histogram(number: u64) -> Histogram {
    let zero_count = number % 3;
    let first = (number - zero_count) / 2;
    let second = number - zero_count - first;
    Histogram {
        counter_reset_hint: 0,
        schema: i32::try_from(number % 4).unwrap(),
        zero_threshold: 1e-128,
        zero_count,
        count: number,
        sum: number as f64 * 0.7,
        positive_spans: vec![Span { offset: i32::try_from(number % 5).unwrap() - 2, length: 2 }],
        positive_buckets: vec![first.cast_signed(), second.cast_signed() - first.cast_signed()],
        ..Histogram::default()
    }
}

/// Returns a sample of the model as it is sent.
pub(super) fn to_send(sample: &Sample) -> wire::Histogram {
    let histogram = histogram(sample.value as u64);
    let span = |span: &Span| wire::Span { offset: span.offset, length: span.length };
    wire::Histogram {
        count_int: Some(histogram.count),
        sum: histogram.sum.to_bits(),
        schema: histogram.schema,
        zero_threshold: histogram.zero_threshold.to_bits(),
        zero_count_int: Some(histogram.zero_count),
        positive_spans: histogram.positive_spans.iter().map(span).collect(),
        positive_deltas: histogram.positive_buckets,
        ts_ms: sample.ts_ms,
        start_ms: sample.start_ms,
        ..wire::Histogram::default()
    }
}

/// Returns what was read as the model knows it.
pub(super) fn number(read: &HistogramSample) -> Result<Sample, String> {
    let HistogramSample { ts_ms, start_ms, histogram: NativeHistogram::Int(found) } = read else {
        return Err(format!("{read:?} has fractional counts"));
    };
    if **found != histogram(found.count) {
        return Err(format!("{read:?} was never written"));
    }
    Ok(Sample { ts_ms: *ts_ms, value: found.count as f64, start_ms: *start_ms })
}
