//! Made-up data that keeps the rules, for the property tests of all modules.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::*;

/// Any float, with those often that something is special about.
pub(crate) fn any_float() -> impl Strategy<Value = f64> {
    let special = [STALE_MARKER_BITS, (-0.0f64).to_bits(), 0, f64::INFINITY.to_bits(), 0xfff8_dead_beef_0001];
    prop_oneof![any::<u64>(), proptest::sample::select(special.to_vec())].prop_map(f64::from_bits)
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (0..9i32, 0..5u32).prop_map(|(offset, length)| Span { offset, length });
    (vec(span, 0..4), -9..9i32).prop_map(|(mut spans, first)| {
        if let Some(span) = spans.first_mut() {
            span.offset = first;
        }
        spans
    })
}

fn buckets(spans: &[Span]) -> usize {
    spans.iter().map(|span| span.length as usize).sum()
}

/// Returns the counts as differences, and their sum.
fn deltas(counts: &[u32]) -> (Vec<i64>, u64) {
    let mut before = 0;
    let deltas = counts.iter().map(|count| {
        let delta = i64::from(*count) - before;
        before = i64::from(*count);
        delta
    });
    (deltas.collect(), counts.iter().map(|count| u64::from(*count)).sum())
}

fn int_histogram() -> impl Strategy<Value = Histogram> {
    let sides = (spans(), spans()).prop_flat_map(|(positive, negative)| {
        let counts = (vec(any::<u32>(), buckets(&positive)), vec(any::<u32>(), buckets(&negative)));
        (Just(positive), Just(negative), counts)
    });
    (sides, 0u8..4, -4i32..9, any_float(), any::<u32>(), any_float()).prop_map(
        |(
            (positive_spans, negative_spans, counts),
            counter_reset_hint,
            schema,
            zero_threshold,
            zero,
            sum,
        )| {
            let (positive_buckets, positive) = deltas(&counts.0);
            let (negative_buckets, negative) = deltas(&counts.1);
            Histogram {
                counter_reset_hint,
                schema,
                zero_threshold,
                zero_count: u64::from(zero),
                count: u64::from(zero) + positive + negative,
                sum,
                positive_spans,
                negative_spans,
                positive_buckets,
                negative_buckets,
                custom_values: Vec::new(),
            }
        },
    )
}

/// Turns a histogram into one with custom buckets.
fn customized(mut histogram: Histogram) -> Histogram {
    histogram.schema = CUSTOM_BUCKETS_SCHEMA;
    (histogram.zero_count, histogram.zero_threshold) = (0, 0.0);
    (histogram.negative_spans, histogram.negative_buckets) = (Vec::new(), Vec::new());
    if let Some(first) = histogram.positive_spans.first_mut() {
        first.offset = first.offset.abs();
    }
    let reached = histogram.positive_spans.iter().map(|span| span.offset + span.length as i32).sum::<i32>();
    histogram.custom_values = (0..reached).map(|bound| f64::from(bound) * 0.25 - 1.0).collect();
    let mut count = 0;
    histogram.count = histogram.positive_buckets.iter().fold(0, |sum, delta| {
        count += delta;
        sum + count.unsigned_abs()
    });
    histogram
}

/// The same with fractional counts.
fn fractional(histogram: &Histogram, count: f64) -> FloatHistogram {
    let counts = |buckets: &[i64]| buckets.iter().map(|delta| delta.unsigned_abs() as f64 / 3.0).collect();
    let Histogram { counter_reset_hint, schema, zero_threshold, sum, .. } = *histogram;
    FloatHistogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count: histogram.zero_count as f64 / 7.0,
        count,
        sum,
        positive_spans: histogram.positive_spans.clone(),
        negative_spans: histogram.negative_spans.clone(),
        positive_buckets: counts(&histogram.positive_buckets),
        negative_buckets: counts(&histogram.negative_buckets),
        custom_values: histogram.custom_values.clone(),
    }
}

/// A native histogram that Prometheus would take.
pub(crate) fn any_native_histogram() -> impl Strategy<Value = NativeHistogram> {
    (int_histogram(), any::<bool>(), proptest::option::of(any::<u32>())).prop_map(
        |(made, custom, fraction)| {
            let made = if custom { customized(made) } else { made };
            match fraction {
                Some(count) => NativeHistogram::Float(Box::new(fractional(&made, f64::from(count) / 11.0))),
                None => NativeHistogram::Int(Box::new(made)),
            }
        },
    )
}

/// A histogram sample at one of these times.
pub(crate) fn any_histogram(times: impl Strategy<Value = i64>) -> impl Strategy<Value = HistogramSample> {
    let start = prop_oneof![Just(0), any::<i64>()];
    (times, start, any_native_histogram()).prop_map(|(ts_ms, start_ms, histogram)| HistogramSample {
        ts_ms,
        start_ms,
        histogram,
    })
}

/// An exemplar at one of these times.
pub(crate) fn any_exemplar(times: impl Strategy<Value = i64>) -> impl Strategy<Value = Exemplar> {
    let labels = prop_oneof![
        "[0-9a-f]{16}".prop_map(|id| vec![("trace_id".to_owned(), id)]),
        Just(Vec::new()),
        ("\\PC{1,9}", "\\PC{0,9}")
            .prop_map(|(name, value)| vec![(name, value), ("trace_id".into(), "1".into())]),
    ];
    let labels = labels.prop_filter_map("a name twice", |pairs| Labels::from_pairs(pairs).ok());
    (labels, any_float(), times).prop_map(|(labels, value, ts_ms)| Exemplar { labels, value, ts_ms })
}

/// What may be said about a family.
pub(crate) fn any_metadata() -> impl Strategy<Value = Metadata> {
    let text = || prop_oneof![Just(String::new()), "\\PC{1,20}"];
    (0i64..8, text(), text()).prop_map(|(kind, help, unit)| Metadata {
        kind: MetricType::from_number(kind),
        help,
        unit,
    })
}
