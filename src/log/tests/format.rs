//! The bytes: what versions 1 and 2 are, and decoders against bytes of any kind.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::columns::LABELS_BYTES_MAX;
use super::super::decode::decode_segment;
use super::super::frame::{BODY_BYTES_MAX, ENTRY_BYTES_MAX, FRAME_BYTES};
use super::super::segment::{SegmentHeader, SegmentLink, decode_header};
use super::*;
use crate::model::{
    CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, Metadata, MetricType, NativeHistogram,
    STALE_MARKER_BITS, Span,
};
use crate::runtime::random_from_seed;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log").join(name)
}

fn write_example(dir: &std::path::Path) -> PathBuf {
    let (mut log, _) = open(dir, 1_700_000_000_000, LogSettings::default());
    append(&mut log, &[sample(0, 1, 1.0)]).unwrap();
    drop(log);
    let (mut log, _) = open(dir, 1_700_000_001_000, LogSettings::default());
    let (a, b) = (TenantId::new("team-a").unwrap(), TenantId::new("team-b").unwrap());
    let counter =
        |ts_ms, value, start_ms| LoggedSample { series: 70_000, sample: Sample { ts_ms, value, start_ms } };
    let first = [
        sample(3, 1_700_000_001_000, 0.1),
        sample(3, 1_700_000_002_000, -0.0),
        sample(1, i64::MIN, f64::INFINITY),
    ];
    let second = [counter(1_700_000_001_000, 5.0, 1_699_999_999_000), counter(1_700_000_002_000, 6.0, 0)];
    let (histograms, exemplars, metadata) = (example_histograms(), example_exemplars(), example_metadata());
    let third = [
        sample(1, i64::MAX, f64::from_bits(STALE_MARKER_BITS)),
        sample(4, 0, f64::from_bits(0xfff8_dead_beef_0001)),
    ];
    log.append(&[
        floats(&a, &first, &labels),
        TenantWrite {
            histograms: &histograms,
            exemplars: &exemplars,
            metadata: &metadata,
            ..floats(&b, &second, &labels)
        },
    ])
    .unwrap();
    append(&mut log, &third).unwrap();
    let path = dir.join(log.epoch().to_string()).join(format!("{:020}.log", 1));
    drop(log);
    path
}

fn example_histograms() -> Vec<LoggedHistogram> {
    let histogram = Histogram {
        counter_reset_hint: 3,
        schema: -2,
        zero_threshold: 0.001,
        zero_count: 4,
        count: 11,
        sum: -0.0,
        positive_spans: vec![Span { offset: -3, length: 2 }, Span { offset: 1, length: 1 }],
        negative_spans: vec![Span { offset: 7, length: 1 }],
        positive_buckets: vec![1, 1, -1],
        negative_buckets: vec![3],
        custom_values: Vec::new(),
    };
    let custom = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 1.5,
        sum: f64::from_bits(STALE_MARKER_BITS),
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![1.5],
        custom_values: vec![0.25, 0.5],
        ..FloatHistogram::default()
    };
    let at = |series, ts_ms, start_ms, histogram| LoggedHistogram {
        series,
        sample: HistogramSample { ts_ms, start_ms, histogram },
    };
    vec![
        at(9, 1_700_000_001_000, 1_699_999_999_000, NativeHistogram::Int(Box::new(histogram))),
        at(3, 1_700_000_000_000, 0, NativeHistogram::Float(Box::new(custom))),
    ]
}

fn example_exemplars() -> Vec<LoggedExemplar> {
    let traced = |pairs: &[(&str, &str)], value| LoggedExemplar {
        series: 9,
        exemplar: Exemplar {
            labels: Labels::from_pairs(pairs.iter().copied()).unwrap(),
            value,
            ts_ms: 1_700_000_001_001,
        },
    };
    vec![traced(&[("trace_id", "4bf92f3577b34da6")], 0.5), traced(&[], f64::NEG_INFINITY)]
}

fn example_metadata() -> Vec<MetadataEntry> {
    let said = |family: &str, kind, help: &str, unit: &str| MetadataEntry {
        family: family.to_owned(),
        since_ms: 1_700_000_001_002,
        metadata: Metadata { kind, help: help.to_owned(), unit: unit.to_owned() },
    };
    vec![
        said("rpc_seconds", MetricType::Histogram, "Duration of calls, in größe", "seconds"),
        said("up", MetricType::Unknown, "", ""),
    ]
}

fn as_json(bytes: &[u8]) -> Value {
    let header = decode_header(bytes).unwrap().header;
    let segment = decode_segment(bytes).unwrap();
    assert_eq!((segment.good, segment.rest), (bytes.len(), None));
    let sample = |s: &LoggedSample| {
        let bits = format!("{:016x}", s.sample.value.to_bits());
        json!({"series": s.series, "ts_ms": s.sample.ts_ms, "value_bits": bits, "start_ms": s.sample.start_ms})
    };
    let histogram = |h: &LoggedHistogram| {
        // Debug prints a float as the shortest text that is the same number; the sum may be a NaN.
        json!({
            "series": h.series, "ts_ms": h.sample.ts_ms, "start_ms": h.sample.start_ms,
            "sum_bits": format!("{:016x}", h.sample.histogram.sum().to_bits()),
            "histogram": format!("{:?}", h.sample.histogram),
        })
    };
    let exemplar = |e: &LoggedExemplar| {
        json!({
            "series": e.series, "ts_ms": e.exemplar.ts_ms, "labels": e.exemplar.labels.to_string(),
            "value_bits": format!("{:016x}", e.exemplar.value.to_bits()),
        })
    };
    let said = |m: &MetadataEntry| {
        json!([m.family, m.since_ms, m.metadata.kind.name(), m.metadata.help, m.metadata.unit])
    };
    let tenant = |t: &TenantEntry| {
        let mut told = json!({
            "tenant": t.tenant.as_str(),
            "declared": t.declared.iter().map(|(n, l)| json!([n, l.to_string()])).collect::<Vec<_>>(),
            "samples": t.samples.iter().map(sample).collect::<Vec<_>>(),
        });
        let others = [
            ("histograms", t.histograms.iter().map(histogram).collect::<Vec<_>>()),
            ("exemplars", t.exemplars.iter().map(exemplar).collect()),
            ("metadata", t.metadata.iter().map(said).collect()),
        ];
        for (kind, rows) in others.into_iter().filter(|(_, rows)| !rows.is_empty()) {
            told[kind] = rows.into();
        }
        told
    };
    let entry =
        |e: &Entry| json!({"seq": e.seq, "tenants": e.tenants.iter().map(tenant).collect::<Vec<_>>()});
    json!({
        "epoch": header.epoch.to_string(),
        "receiver": header.receiver,
        "first_seq": header.first_seq,
        "previous": header.previous.map(|p| json!({
            "epoch": p.epoch.to_string(), "first_seq": p.first_seq, "last_seq": p.last_seq, "length": p.length,
        })),
        "entries": segment.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

#[test]
fn version_1_still_reads_as_it_was_written() {
    let kept = fs::read(fixture("v1.log")).unwrap();
    let expected: Value = serde_json::from_slice(&fs::read(fixture("v1.expected.json")).unwrap()).unwrap();
    assert_eq!(as_json(&kept), expected, "version 1 no longer reads as it did");
    assert_eq!(decode_header(&kept).unwrap().start.version, 1);
}

#[test]
fn a_log_of_version_1_is_opened_replayed_and_gone_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let kept = fs::read(fixture("v1.log")).unwrap();
    let header = decode_header(&kept).unwrap().header;
    let folder = dir.path().join(header.epoch.to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{:020}.log", 1)), &kept).unwrap();
    for epoch in [1_700_000_002_000, 1_700_000_003_000] {
        let (mut log, segments) = open(dir.path(), epoch, LogSettings::default());
        assert_eq!(segments[0].entries().unwrap().map(|entry| entry.unwrap().samples()).sum::<usize>(), 7);
        append(&mut log, &[sample(0, 1, 1.0)]).unwrap();
    }
}

#[test]
fn version_2_reads_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let written = fs::read(write_example(dir.path())).unwrap();
    if std::env::var_os("PERENNIAL_BLESS").is_some() {
        fs::create_dir_all(fixture("")).unwrap();
        fs::write(fixture("v2.log"), &written).unwrap();
        let text = serde_json::to_string_pretty(&as_json(&written)).unwrap();
        fs::write(fixture("v2.expected.json"), text + "\n").unwrap();
    }
    let kept = fs::read(fixture("v2.log")).unwrap();
    let expected: Value = serde_json::from_slice(&fs::read(fixture("v2.expected.json")).unwrap()).unwrap();
    assert_eq!(as_json(&kept), expected, "version 2 no longer reads as it did");
    assert_eq!(as_json(&written), expected, "the writer no longer writes what version 2 holds");
    let header = decode_header(&kept).unwrap().start;
    assert_eq!((header.version, &written[..header.offset]), (2, &kept[..header.offset]));
}

#[test]
fn a_later_version_is_told_from_damage() {
    let mut bytes = fs::read(fixture("v2.log")).unwrap();
    bytes[8] = 3;
    let dir = tempfile::tempdir().unwrap();
    let path = write_example(dir.path());
    fs::write(&path, bytes).unwrap();
    let settings = LogSettings { skip_damaged: true, ..LogSettings::default() };
    let error = try_open(dir.path(), 1_700_000_002_000, settings, Arc::new(OsFiles)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn headers_come_back_with_and_without_a_predecessor() {
    let link = SegmentLink { epoch: Ulid(77), first_seq: 5, last_seq: 4, length: u64::MAX };
    for previous in [None, Some(link)] {
        for receiver in ["", "r", &"x".repeat(255)] {
            let header = SegmentHeader {
                epoch: Ulid(u128::MAX),
                receiver: receiver.to_owned(),
                first_seq: 9,
                previous,
            };
            let (bytes, seed) = header.encode();
            let decoded = decode_header(&bytes).unwrap();
            assert_eq!((decoded.start.offset, decoded.start.seed), (bytes.len(), seed));
            assert_eq!(decoded.header, header);
        }
    }
}

#[test]
fn the_largest_body_fits_an_entry() {
    let bound = zstd::zstd_safe::compress_bound(BODY_BYTES_MAX);
    assert!(FRAME_BYTES + bound <= ENTRY_BYTES_MAX);
    const { assert!((4 << 20) + 2 * LABELS_BYTES_MAX <= BODY_BYTES_MAX) };
}

#[test]
fn decoders_survive_mutations_of_a_segment() {
    let corpus = [fs::read(fixture("v1.log")).unwrap(), fs::read(fixture("v2.log")).unwrap(), plain_body()];
    let random = random_from_seed(20_240_817);
    for round in 0..20_000 {
        let mut bytes = corpus[round % corpus.len()].clone();
        for _ in 0..=random.next_u64() % 4 {
            let at = random.next_u64() as usize % bytes.len();
            match random.next_u64() % 4 {
                0 => bytes[at] ^= 1 << (random.next_u64() % 8),
                1 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.next_u64() as usize % 5],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.next_u64() as u8),
            }
        }
        fuzz_log(&bytes);
    }
    fuzz_log(&[]);
}

/// A body as it is before compression, which mutations of a segment never reach past the checksum.
fn plain_body() -> Vec<u8> {
    let tenant = TenantId::new("team-a").unwrap();
    let samples: Vec<_> = (0..20u32)
        .map(|n| LoggedSample {
            series: n * 40,
            sample: Sample { ts_ms: i64::from(n), value: f64::from(n), start_ms: i64::from(n % 3) },
        })
        .collect();
    let histogram = |count: i64| Histogram {
        count: 6,
        positive_spans: vec![Span { offset: 1, length: 3 }],
        positive_buckets: vec![count, 1, -1],
        ..Histogram::default()
    };
    let histograms: Vec<_> = (1..4)
        .map(|n| LoggedHistogram {
            series: n,
            sample: HistogramSample {
                ts_ms: 5,
                start_ms: 2,
                histogram: NativeHistogram::Int(Box::new(histogram(i64::from(n)))),
            },
        })
        .collect();
    let exemplar = Exemplar { labels: labels(3), value: 1.5, ts_ms: 9 };
    let metadata = Metadata { kind: MetricType::Counter, help: "Help.".to_owned(), unit: String::new() };
    let write = TenantWrite {
        histograms: &histograms,
        exemplars: &[LoggedExemplar { series: 4, exemplar }],
        metadata: &[MetadataEntry { family: "up".to_owned(), since_ms: 3, metadata }],
        ..floats(&tenant, &samples, &labels)
    };
    let mut body = Vec::new();
    let mut declared = super::super::columns::Declared::default();
    let rest = super::super::columns::encode_group(&write, &mut declared, 1 << 20, &mut body).unwrap();
    assert!(rest.is_empty());
    body
}

fn decode(body: &[u8]) -> Result<Entry, super::super::error::CodecError> {
    let mut declared = super::super::columns::Declared::default();
    super::super::columns::decode_body((1, 2), body, &mut declared)
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_they_are_allocated() {
    let body = plain_body();
    let whole = decode(&body).unwrap();
    assert_eq!(whole.samples(), 23);
    assert_eq!((whole.tenants[0].exemplars.len(), whole.tenants[0].metadata.len()), (1, 1));
    let declared_at = 1 + "team-a".len();
    let mut huge = body.clone();
    huge[declared_at..declared_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode(&huge).is_err());
    for cut in 1..body.len() {
        assert!(decode(&body[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn histograms_whose_spans_do_not_fit_are_refused() {
    let histogram = Histogram { positive_buckets: vec![1], ..Histogram::default() };
    let sample =
        HistogramSample { ts_ms: 1, start_ms: 0, histogram: NativeHistogram::Int(Box::new(histogram)) };
    let tenant = TenantId::new("a").unwrap();
    let histograms = [LoggedHistogram { series: 1, sample }];
    let write = TenantWrite { histograms: &histograms, ..floats(&tenant, &[], &labels) };
    let mut body = Vec::new();
    let mut declared = super::super::columns::Declared::default();
    super::super::columns::encode_group(&write, &mut declared, 1 << 20, &mut body).unwrap();
    assert!(decode(&body).is_err());
}
