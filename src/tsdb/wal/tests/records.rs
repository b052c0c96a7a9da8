use proptest::prelude::*;

use super::*;
use crate::model::Labels;
use crate::model::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Span};

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), any::<f64>(), Just(-0.0)]
}

fn any_labels() -> impl Strategy<Value = WalLabels<'static>> {
    let text = prop::collection::vec(any::<u8>(), 0..200);
    prop::collection::vec((text.clone(), text), 0..4).prop_map(|pairs| {
        let mut bytes = vec![pairs.len() as u8];
        for (name, value) in &pairs {
            cursor::put_text(name, &mut bytes);
            cursor::put_text(value, &mut bytes);
        }
        let data = [&[1, 0, 0, 0, 0, 0, 0, 0, 0], &bytes[..]].concat();
        let Ok(Record::Series(rows)) = Record::decode(&data) else { panic!("no series") };
        rows[0].labels.clone().into_owned()
    })
}

fn any_reference() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..100_000, 1 => any::<u64>()]
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 1_700_000_000_000i64..1_700_000_100_000, 1 => any::<i64>()]
}

fn any_start() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0i64), 3 => 1_699_999_000_000i64..1_699_999_000_003, 1 => any::<i64>()]
}

fn any_spans() -> impl Strategy<Value = Vec<Span>> {
    let span = (any::<i32>(), any::<u32>()).prop_map(|(offset, length)| Span { offset, length });
    prop::collection::vec(span, 0..4)
}

fn any_schema() -> impl Strategy<Value = i32> {
    prop_oneof![3 => -4i32..9, 2 => Just(CUSTOM_BUCKETS_SCHEMA), 1 => any::<i32>()]
}

fn custom(schema: i32, values: Vec<f64>) -> Vec<f64> {
    if schema == CUSTOM_BUCKETS_SCHEMA { values } else { Vec::new() }
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let deltas = || prop::collection::vec(prop_oneof![-9i64..9, any::<i64>()], 0..6);
    let floats = prop::collection::vec(any_float(), 0..5);
    let head = (any::<u8>(), any_schema(), any_float(), any::<u64>(), any::<u64>(), any_float());
    let buckets = (any_spans(), any_spans(), deltas(), deltas(), floats);
    (head, buckets).prop_map(|((hint, schema, threshold, zero_count, count, sum), (ps, ns, pb, nb, cv))| {
        Histogram {
            counter_reset_hint: hint,
            schema,
            zero_threshold: threshold,
            zero_count,
            count,
            sum,
            positive_spans: ps,
            negative_spans: ns,
            positive_buckets: pb,
            negative_buckets: nb,
            custom_values: custom(schema, cv),
        }
    })
}

fn any_float_histogram() -> impl Strategy<Value = FloatHistogram> {
    let floats = || prop::collection::vec(any_float(), 0..5);
    let head = (any::<u8>(), any_schema(), any_float(), any_float(), any_float(), any_float());
    let buckets = (any_spans(), any_spans(), floats(), floats(), floats());
    (head, buckets).prop_map(|((hint, schema, threshold, zero_count, count, sum), (ps, ns, pb, nb, cv))| {
        FloatHistogram {
            counter_reset_hint: hint,
            schema,
            zero_threshold: threshold,
            zero_count,
            count,
            sum,
            positive_spans: ps,
            negative_spans: ns,
            positive_buckets: pb,
            negative_buckets: nb,
            custom_values: custom(schema, cv),
        }
    })
}

fn any_samples(start: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<FloatSample>> {
    let sample = (any_reference(), any_time(), any::<u64>(), start);
    let sample = sample.prop_map(|(reference, ts_ms, value_bits, start_ms)| FloatSample {
        reference,
        ts_ms,
        value_bits,
        start_ms,
    });
    prop::collection::vec(sample, 0..30)
}

fn any_histograms(start: impl Strategy<Value = i64>) -> impl Strategy<Value = Vec<HistogramSample>> {
    let sample = (any_reference(), any_time(), start, any_histogram());
    let sample = sample.prop_map(|(reference, ts_ms, start_ms, histogram)| HistogramSample {
        reference,
        ts_ms,
        start_ms,
        histogram,
    });
    prop::collection::vec(sample, 0..6)
}

fn any_float_histograms(
    start: impl Strategy<Value = i64>,
) -> impl Strategy<Value = Vec<FloatHistogramSample>> {
    let sample = (any_reference(), any_time(), start, any_float_histogram());
    let sample = sample.prop_map(|(reference, ts_ms, start_ms, histogram)| FloatHistogramSample {
        reference,
        ts_ms,
        start_ms,
        histogram,
    });
    prop::collection::vec(sample, 0..6)
}

fn any_listing() -> impl Strategy<Value = Record<'static>> {
    let series =
        (any_reference(), any_labels()).prop_map(|(reference, labels)| SeriesRecord { reference, labels });
    let tombstone =
        (any_reference(), any_time(), any_time()).prop_map(|(reference, min_time_ms, max_time_ms)| {
            TombstoneRecord { reference, min_time_ms, max_time_ms }
        });
    let exemplar = (any_reference(), any_time(), any::<u64>(), any_labels()).prop_map(
        |(reference, ts_ms, value_bits, labels)| ExemplarRecord { reference, ts_ms, value_bits, labels },
    );
    let marker =
        (any_reference(), any::<u64>()).prop_map(|(reference, chunk)| MmapMarker { reference, chunk });
    let text = || prop::collection::vec(any::<u8>(), 0..300);
    let metadata =
        (any_reference(), any::<u8>(), text(), text()).prop_map(|(reference, metric_type, unit, help)| {
            MetadataRecord { reference, metric_type, unit: unit.into(), help: help.into() }
        });
    prop_oneof![
        prop::collection::vec(series, 0..6).prop_map(Record::Series),
        prop::collection::vec(tombstone, 0..6).prop_map(Record::Tombstones),
        prop::collection::vec(exemplar, 0..6).prop_map(Record::Exemplars),
        prop::collection::vec(marker, 0..6).prop_map(Record::MmapMarkers),
        prop::collection::vec(metadata, 0..6).prop_map(Record::Metadata),
        any::<i64>().prop_map(Record::MinValidTime),
    ]
}

fn any_record() -> impl Strategy<Value = Record<'static>> {
    let none = || Just(0i64);
    prop_oneof![
        3 => any_listing(),
        1 => any_samples(none()).prop_map(Record::Samples),
        1 => any_samples(any_start()).prop_map(Record::SamplesV2),
        1 => (any::<bool>(), any_histograms(none()))
            .prop_map(|(custom_buckets, samples)| Record::Histograms { custom_buckets, samples }),
        1 => (any::<bool>(), any_float_histograms(none()))
            .prop_map(|(custom_buckets, samples)| Record::FloatHistograms { custom_buckets, samples }),
        1 => any_histograms(any_start()).prop_map(Record::HistogramsV2),
        1 => any_float_histograms(any_start()).prop_map(Record::FloatHistogramsV2),
    ]
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut data = Vec::new();
    record.encode(&mut data);
    data
}

proptest! {
    #[test]
    fn any_record_comes_back_and_to_the_same_bytes(record in any_record()) {
        let data = encode(&record);
        prop_assert_eq!(RecordKind::of(&data), record.kind());
        let again = Record::decode(&data).unwrap();
        prop_assert_eq!(&again, &record);
        prop_assert_eq!(encode(&again), data);
    }

    #[test]
    fn damaged_records_are_refused_or_read_but_never_panic(
        record in any_record(), cut in 0.0..1.0f64, flips in prop::collection::vec((any::<u16>(), 0u8..8), 0..4),
    ) {
        let mut data = encode(&record);
        fuzz_wal_record(&data);
        data.truncate((data.len() as f64 * cut) as usize + 1);
        for (at, bit) in flips {
            let at = usize::from(at) % data.len();
            data[at] ^= 1 << bit;
        }
        fuzz_wal_record(&data);
    }

    #[test]
    fn samples_and_summary_say_the_same_as_the_record(samples in any_samples(any_start())) {
        let data = encode(&Record::SamplesV2(samples.clone()));
        let mut visited = Vec::new();
        prop_assert_eq!(decode_samples(&data, |sample| visited.push(sample)), Ok(samples.len()));
        prop_assert_eq!(&visited, &samples);
        let times = samples.iter().map(|s| s.ts_ms);
        let summary = summarize(&data).unwrap();
        prop_assert_eq!(summary.count, samples.len());
        prop_assert_eq!(summary.times_ms, times.clone().min().zip(times.max()));
        prop_assert_eq!(summary.reference_max, samples.iter().map(|s| s.reference).max());
    }

    #[test]
    fn labels_of_ours_come_back(pairs in prop::collection::btree_map("[a-zé]{1,9}", ".{1,200}", 0..5)) {
        let labels = Labels::from_pairs(&pairs).unwrap();
        let data = encode(&Record::Series(vec![SeriesRecord::new(7, &labels)]));
        let Ok(Record::Series(rows)) = Record::decode(&data) else { panic!("no series") };
        prop_assert_eq!(rows[0].labels.to_labels().unwrap(), labels);
    }
}

#[test]
fn the_layout_is_that_of_the_reference() {
    let sample = |reference, ts_ms, value: f64, start_ms| FloatSample {
        reference,
        ts_ms,
        value_bits: value.to_bits(),
        start_ms,
    };
    let one = 1.0f64.to_be_bytes();
    let samples = vec![sample(5, 1_000, 1.0, 0), sample(4, 1_002, 1.0, 0)];
    let base = [&[2u8][..], &5u64.to_be_bytes(), &1_000u64.to_be_bytes()].concat();
    assert_eq!(encode(&Record::Samples(samples)), [&base[..], &[0, 0], &one, &[1, 4], &one].concat());
    // Base and zigzag: 5, 1000, 900; then +1 against the one before, times against the first.
    let chained = vec![
        sample(5, 1_000, 1.0, 900),
        sample(6, 1_001, 1.0, 900),
        sample(7, 1_002, 1.0, 0),
        sample(8, 1_003, 1.0, 901),
    ];
    let first = [&[11u8, 10, 0xd0, 0x0f, 0x88, 0x0e][..], &one].concat();
    let rest = [&[2u8, 2, 1][..], &one, &[2, 4, 0], &one, &[2, 6, 2, 2], &one].concat();
    assert_eq!(encode(&Record::SamplesV2(chained)), [first, rest].concat());
    let tombstone = TombstoneRecord { reference: 1, min_time_ms: i64::MIN, max_time_ms: i64::MAX };
    assert!(tombstone.is_whole_series());
    let mut expected = vec![3, 0, 0, 0, 0, 0, 0, 0, 1];
    expected.extend([0xff; 9]);
    expected.push(1);
    expected.push(0xfe);
    expected.extend([0xff; 8]);
    expected.push(1);
    assert_eq!(encode(&Record::Tombstones(vec![tombstone])), expected);
}

#[test]
fn start_times_are_dropped_into_the_kinds_that_old_versions_read() {
    let histogram = |schema| HistogramSample {
        reference: 1,
        ts_ms: 2,
        start_ms: 1,
        histogram: Histogram { schema, ..Histogram::default() },
    };
    let record = Record::HistogramsV2(vec![histogram(CUSTOM_BUCKETS_SCHEMA), histogram(0)]);
    let plain = record.without_start_times();
    assert_eq!(plain.iter().map(|r| r.kind().code()).collect::<Vec<_>>(), [7, 9]);
    for record in &plain {
        assert_eq!(Record::decode(&encode(record)).as_ref(), Ok(record));
    }
    let only_plain = Record::HistogramsV2(vec![histogram(0)]).without_start_times();
    assert_eq!(only_plain.len(), 1);
    let markers = Record::MmapMarkers(vec![MmapMarker { reference: 1, chunk: 2 }]);
    assert_eq!(markers.clone().without_start_times(), [markers]);
}

#[test]
fn unknown_kinds_are_kept_whole() {
    for data in [&b""[..], b"\0", b"\x0fabc", b"\xff"] {
        let record = Record::decode(data).unwrap();
        assert_eq!(record, Record::Unknown(data));
        assert_eq!(encode(&record), data);
        assert_eq!(summarize(data).unwrap().kind, RecordKind::Unknown);
    }
}

#[test]
fn counts_are_checked_before_anything_is_allocated() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let series = [&[1u8][..], &[0; 8], &huge].concat();
    assert_eq!(Record::decode(&series).unwrap_err().to_string(), "the series record is cut off at byte 19");
    let overlong = [&[1u8][..], &[0; 8], &[0xff; 11]].concat();
    assert!(matches!(Record::decode(&overlong), Err(RecordError::Number { .. })));
    assert!(matches!(decode_samples(&series, |_| {}), Err(RecordError::NoSamples { .. })));
}

#[test]
fn labels_that_are_none_of_ours_are_refused_but_kept() {
    let data = [&[1u8][..], &[0; 8], &[1, 1, 0xff, 1, b'x']].concat();
    let Ok(Record::Series(rows)) = Record::decode(&data) else { panic!("no series") };
    assert!(matches!(rows[0].labels.to_labels(), Err(RecordError::Labels(_))));
    assert_eq!(rows[0].labels.iter().collect::<Vec<_>>(), [(&[0xff][..], &b"x"[..])]);
    assert_eq!(encode(&Record::Series(rows)), data);
}
