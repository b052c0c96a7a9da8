//! Histograms, exemplars and metadata at their edges.

use prost::Message;

use super::messages::*;
use super::*;
use crate::model::{Histogram, HistogramError, MetricType, NativeHistogram, Span};

fn histogram() -> HistogramSample {
    let histogram = Histogram {
        count: 3,
        sum: 0.5,
        positive_spans: vec![Span { offset: -2, length: 2 }],
        positive_buckets: vec![1, 1],
        ..Histogram::default()
    };
    HistogramSample { ts_ms: 7, start_ms: 0, histogram: NativeHistogram::Int(Box::new(histogram)) }
}

fn v1_series(histograms: &[WireHistogram], exemplars: &[&[u8]]) -> Vec<u8> {
    let histograms = histograms.iter().flat_map(|h| field(4, &h.encode_to_vec()));
    let exemplars = exemplars.iter().flat_map(|e| field(3, e));
    let parts: Vec<u8> =
        label("a", "1").into_iter().chain(sample(1)).chain(histograms).chain(exemplars).collect();
    field(1, &parts)
}

#[test]
fn a_bad_histogram_is_left_out_and_the_rest_of_its_series_stands() {
    let good = WireHistogram::from(&histogram());
    let bad = WireHistogram { count_int: Some(4), ..good.clone() };
    let worse = WireHistogram { schema: 20, ..good.clone() };
    let (seen, totals) = read(Protocol::V1, &v1_series(&[bad, good, worse], &[])).unwrap();
    assert_eq!(seen[0].histograms, [histogram()]);
    assert_eq!(seen[0].samples.len(), 1);
    let refused = seen[0].refused.as_ref().unwrap();
    let first = PartError::Histogram(HistogramError::Mismatch { buckets: 3, count: 4 });
    assert_eq!((refused.histograms, &refused.first), (2, &first));
    assert_eq!(totals.histograms, 3);
}

#[test]
fn whole_and_fractional_counts_are_not_mixed() {
    let good = WireHistogram::from(&histogram());
    let mixed = [
        WireHistogram { zero_count_float: Some(1.0), zero_count_int: None, ..good.clone() },
        WireHistogram { count_int: None, count_float: Some(3.0), zero_count_int: None, ..good.clone() },
        WireHistogram { positive_counts: vec![1.0], ..good.clone() },
    ];
    for message in mixed {
        let (seen, _) = read(Protocol::V1, &v1_series(&[message], &[])).unwrap();
        let first = &seen[0].refused.as_ref().unwrap().first;
        assert_eq!(*first, PartError::Histogram(HistogramError::MixedCounts));
    }
    let counts_left_out = WireHistogram { zero_count_int: None, ..good };
    let (seen, _) = read(Protocol::V1, &v1_series(&[counts_left_out], &[])).unwrap();
    assert_eq!(seen[0].histograms, [histogram()], "an absent count is zero");
}

#[test]
fn repeated_numbers_may_come_one_field_each() {
    let packed = WireHistogram::from(&histogram());
    let rest = WireHistogram { positive_deltas: Vec::new(), ..packed }.encode_to_vec();
    let deltas = UnpackedHistogram { positive_deltas: vec![1, 1], ..UnpackedHistogram::default() };
    let message = [deltas.encode_to_vec(), rest].concat();
    let body = field(1, &[label("a", "1"), field(4, &message)].concat());
    assert_eq!(read(Protocol::V1, &body).unwrap().0[0].histograms, [histogram()]);
}

#[test]
fn a_reset_hint_that_nobody_defined_means_unknown() {
    let message = WireHistogram { reset_hint: 77, ..WireHistogram::from(&histogram()) };
    assert_eq!(read(Protocol::V1, &v1_series(&[message], &[])).unwrap().0[0].histograms, [histogram()]);
}

#[test]
fn the_start_timestamp_of_a_histogram_is_a_field_of_2_0_only() {
    let message = WireHistogram { start_timestamp: 5, ..WireHistogram::from(&histogram()) };
    assert_eq!(
        read(Protocol::V1, &v1_series(std::slice::from_ref(&message), &[])).unwrap().0[0].histograms,
        [histogram()]
    );
    let table = [field(4, b""), field(4, b"a"), field(4, b"1")].concat();
    let series = |parts: Vec<u8>| [table.clone(), field(5, &[field(1, &[1, 2]), parts].concat())].concat();
    let own = series(field(3, &message.encode_to_vec()));
    assert_eq!(read(Protocol::V2, &own).unwrap().0[0].histograms[0].start_ms, 5);
    let absent = WireHistogram { start_timestamp: 0, ..message };
    let created = series([field(3, &absent.encode_to_vec()), vec![0x30, 3]].concat());
    assert_eq!(read(Protocol::V2, &created).unwrap().0[0].histograms[0].start_ms, 3);
}

#[test]
fn an_exemplar_with_bad_labels_is_left_out_alone() {
    let double = [label("id", "1"), label("id", "2")].concat();
    let not_utf8 = field(1, &field(1, b"\xff"));
    let good = [label("id", "1"), vec![0x18, 9]].concat();
    let long = label("id", &"x".repeat(3_000));
    let (seen, totals) =
        read(Protocol::V1, &v1_series(&[], &[&double, &not_utf8, &good, &[], &long])).unwrap();
    let found: Vec<_> = seen[0].exemplars.iter().map(|e| (e.labels.to_string(), e.ts_ms)).collect();
    assert_eq!(found, [("{id=\"1\"}".to_owned(), 9), ("{}".to_owned(), 0)]);
    assert_eq!((seen[0].refused.as_ref().unwrap().exemplars, totals.exemplars), (3, 5));
}

#[test]
fn metadata_of_2_0_is_handed_on_once_for_each_name_until_it_changes() {
    let symbols =
        ["", "__name__", "up", "help", "other", "x_bucket", "a"].map(|s| field(4, s.as_bytes())).concat();
    let series = |refs: &[u8], said: &[u8]| field(5, &[field(1, refs), sample(1), field(5, said)].concat());
    let body = [
        symbols,
        series(&[1, 2], &[0x08, 1, 0x18, 3]),
        series(&[1, 2, 6, 6], &[0x08, 1, 0x18, 3]),
        series(&[1, 2], &[0x08, 1, 0x18, 4]),
        series(&[1, 5], &[0x08, 3]),
        series(&[1, 5, 6, 6], &[]),
        series(&[6, 6], &[0x08, 3]),
    ]
    .concat();
    let (seen, totals) = read(Protocol::V2, &body).unwrap();
    let said = |entry: &Option<MetadataEntry>| {
        entry.as_ref().map(|e| (e.family.clone(), e.metadata.kind, e.metadata.help.clone()))
    };
    let found: Vec<_> = seen.iter().map(|one| said(&one.metadata)).collect();
    let counter = |help: &str| Some(("up".to_owned(), MetricType::Counter, help.to_owned()));
    let classic = Some(("x".to_owned(), MetricType::Histogram, String::new()));
    assert_eq!(found, [counter("help"), None, counter("other"), classic, None, None]);
    assert_eq!(totals.metadata, 5);
}

#[test]
fn families_lose_the_ending_of_their_type_only() {
    let symbols = ["", "__name__"].map(|s| field(4, s.as_bytes())).concat();
    for (name, kind, family) in [
        ("x_bucket", 3, "x"),
        ("x_sum", 3, "x"),
        ("x_count", 4, "x"),
        ("x_gsum", 4, "x"),
        ("x_gcount", 4, "x"),
        ("x_sum", 5, "x"),
        ("x_bucket", 5, "x_bucket"),
        ("x_total", 1, "x_total"),
        ("x_count", 2, "x_count"),
        ("_count", 3, "_count"),
    ] {
        let series = field(5, &[field(1, &[1, 2]), sample(1), field(5, &[0x08, kind])].concat());
        let body = [symbols.clone(), field(4, name.as_bytes()), series].concat();
        let seen = read(Protocol::V2, &body).unwrap().0;
        assert_eq!(seen[0].metadata.as_ref().unwrap().family, family, "{name} of type {kind}");
    }
}

#[test]
fn metadata_that_names_nothing_or_is_no_text_is_refused_alone() {
    let entries = [
        field(3, &[0x08, 1]),
        field(3, &field(2, b"\xff")),
        field(3, &[field(2, b"up"), field(4, &[b'h'; 70_000])].concat()),
        field(3, &[field(2, b"up"), field(3, b"reserved"), vec![0x08, 99]].concat()),
    ];
    let seen = read_all(Protocol::V1, &entries.concat()).unwrap();
    let text = PartError::TextTooLong { what: "help", bytes: 70_000, limit: METADATA_BYTES_MAX };
    assert_eq!(seen.families[..3], [Err(PartError::NoFamily), Err(PartError::NotUtf8), Err(text)]);
    let known = seen.families[3].as_ref().unwrap();
    assert_eq!((known.family.as_str(), known.metadata.kind), ("up", MetricType::Unknown));
}
