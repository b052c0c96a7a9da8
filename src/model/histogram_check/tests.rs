use proptest::prelude::*;

use crate::model::tests::made::any_native_histogram;
use crate::model::*;

fn int() -> Histogram {
    Histogram {
        count: 6,
        zero_count: 1,
        sum: 1.5,
        positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 0, length: 1 }],
        positive_buckets: vec![1, 1, -1],
        negative_spans: vec![Span { offset: 4, length: 1 }],
        negative_buckets: vec![1],
        ..Histogram::default()
    }
}

fn custom() -> Histogram {
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3,
        sum: 1.0,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_buckets: vec![1, 1],
        custom_values: vec![0.5, 1.0],
        ..Histogram::default()
    }
}

fn refused(change: impl FnOnce(&mut Histogram), mut histogram: Histogram) -> HistogramError {
    change(&mut histogram);
    NativeHistogram::Int(Box::new(histogram)).check().unwrap_err()
}

#[test]
fn each_broken_rule_is_named() {
    assert_eq!(NativeHistogram::Int(Box::new(int())).check(), Ok(()));
    assert_eq!(NativeHistogram::Int(Box::new(custom())).check(), Ok(()));
    let spans = HistogramError::Spans { side: "positive", spanned: 4, buckets: 3 };
    assert_eq!(refused(|h| h.positive_spans[0].length = 3, int()), spans);
    let order = HistogramError::SpanOrder { side: "positive" };
    assert_eq!(refused(|h| h.positive_spans[1].offset = -1, int()), order);
    let count = HistogramError::Count { what: "a positive bucket" };
    assert_eq!(refused(|h| h.positive_buckets[1] = -2, int()), count);
    let huge = |h: &mut Histogram| h.positive_buckets = vec![i64::MAX, 0, 0];
    assert_eq!(refused(huge, int()), count);
    assert_eq!(refused(|h| h.count = 5, int()), HistogramError::Mismatch { buckets: 6, count: 5 });
    assert_eq!(refused(|h| h.count = 7, int()), HistogramError::Mismatch { buckets: 6, count: 7 });
    assert_eq!(refused(|h| h.schema = 9, int()), HistogramError::Schema { schema: 9 });
    assert_eq!(refused(|h| h.schema = -5, int()), HistogramError::Schema { schema: -5 });
    assert_eq!(refused(|h| h.custom_values = vec![1.0], int()), HistogramError::NotExponential);
    for bounds in [vec![1.0, 1.0], vec![2.0, 1.0], vec![1.0, f64::NAN], vec![1.0, f64::INFINITY]] {
        assert_eq!(refused(|h| h.custom_values = bounds, custom()), HistogramError::Bounds);
    }
    let beyond = HistogramError::BeyondBounds { buckets: 2 };
    assert_eq!(refused(|h| h.custom_values = vec![1.0], custom()), beyond);
    assert_eq!(refused(|h| h.positive_spans[0].offset = -1, custom()), order);
    let zero = HistogramError::NotCustom { what: "a zero bucket" };
    assert_eq!(refused(|h| h.zero_count = 1, custom()), zero);
    let negative = HistogramError::NotCustom { what: "negative buckets" };
    assert_eq!(refused(|h| h.negative_spans = vec![Span::default()], custom()), negative);
    let large = |h: &mut Histogram| h.positive_spans = vec![Span::default(); 1 << 17];
    assert!(matches!(refused(large, int()), HistogramError::TooLarge { .. }));
}

#[test]
fn observations_that_are_nan_are_counted_in_no_bucket() {
    let histogram = Histogram { sum: f64::NAN, count: 9, ..int() };
    assert_eq!(NativeHistogram::Int(Box::new(histogram)).check(), Ok(()));
    let mismatch = HistogramError::Mismatch { buckets: 6, count: 5 };
    assert_eq!(refused(|h| (h.sum, h.count) = (f64::NAN, 5), int()), mismatch);
}

#[test]
fn a_fractional_count_is_not_compared_but_must_not_be_negative() {
    let float = FloatHistogram {
        count: 99.0,
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![0.5],
        ..FloatHistogram::default()
    };
    let check = |h: FloatHistogram| NativeHistogram::Float(Box::new(h)).check();
    assert_eq!(check(float.clone()), Ok(()));
    for histogram in [
        FloatHistogram { count: -1.0, ..float.clone() },
        FloatHistogram { zero_count: -0.5, ..float.clone() },
        FloatHistogram { positive_buckets: vec![-1.0], ..float.clone() },
    ] {
        assert!(matches!(check(histogram), Err(HistogramError::Count { .. })));
    }
    let short = FloatHistogram { positive_buckets: Vec::new(), ..float };
    assert_eq!(NativeHistogram::Float(Box::new(short.clone())).check_layout(), check(short));
}

#[test]
fn the_stale_marker_without_buckets_is_taken() {
    let sum = f64::from_bits(STALE_MARKER_BITS);
    assert_eq!(NativeHistogram::Int(Box::new(Histogram { sum, ..Histogram::default() })).check(), Ok(()));
    let float = FloatHistogram { sum, ..FloatHistogram::default() };
    assert_eq!(NativeHistogram::Float(Box::new(float)).check(), Ok(()));
}

proptest! {
    #[test]
    fn what_the_tests_make_up_keeps_the_rules(histogram in any_native_histogram()) {
        prop_assert_eq!(histogram.check(), Ok(()));
        prop_assert_eq!(histogram.check_layout(), Ok(()));
    }
}
