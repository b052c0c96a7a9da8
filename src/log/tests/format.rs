//! The bytes: what version 1 is, and decoders against bytes of any kind.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::columns::LABELS_BYTES_MAX;
use super::super::decode::decode_segment;
use super::super::frame::{BODY_BYTES_MAX, ENTRY_BYTES_MAX, FRAME_BYTES};
use super::super::segment::{SegmentHeader, SegmentLink, decode_header};
use super::*;
use crate::model::STALE_MARKER_BITS;
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
    let third = [
        sample(1, i64::MAX, f64::from_bits(STALE_MARKER_BITS)),
        sample(4, 0, f64::from_bits(0xfff8_dead_beef_0001)),
    ];
    log.append(&[
        TenantWrite { tenant: &a, samples: &first, labels: &labels },
        TenantWrite { tenant: &b, samples: &second, labels: &labels },
    ])
    .unwrap();
    append(&mut log, &third).unwrap();
    let path = dir.join(log.epoch().to_string()).join(format!("{:020}.log", 1));
    drop(log);
    path
}

fn as_json(bytes: &[u8]) -> Value {
    let header = decode_header(bytes).unwrap().header;
    let segment = decode_segment(bytes).unwrap();
    assert_eq!((segment.good, segment.rest), (bytes.len(), None));
    let sample = |s: &LoggedSample| {
        let bits = format!("{:016x}", s.sample.value.to_bits());
        json!({"series": s.series, "ts_ms": s.sample.ts_ms, "value_bits": bits, "start_ms": s.sample.start_ms})
    };
    let tenant = |t: &TenantEntry| {
        json!({
            "tenant": t.tenant.as_str(),
            "declared": t.declared.iter().map(|(n, l)| json!([n, l.to_string()])).collect::<Vec<_>>(),
            "samples": t.samples.iter().map(sample).collect::<Vec<_>>(),
        })
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
fn version_1_reads_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let written = fs::read(write_example(dir.path())).unwrap();
    if std::env::var_os("PERENNIAL_BLESS").is_some() {
        fs::create_dir_all(fixture("")).unwrap();
        fs::write(fixture("v1.log"), &written).unwrap();
        let text = serde_json::to_string_pretty(&as_json(&written)).unwrap();
        fs::write(fixture("v1.expected.json"), text + "\n").unwrap();
    }
    let kept = fs::read(fixture("v1.log")).unwrap();
    let expected: Value = serde_json::from_slice(&fs::read(fixture("v1.expected.json")).unwrap()).unwrap();
    assert_eq!(as_json(&kept), expected, "version 1 no longer reads as it did");
    assert_eq!(as_json(&written), expected, "the writer no longer writes what version 1 holds");
    let header = decode_header(&kept).unwrap().bytes;
    assert_eq!(written[..header], kept[..header]);
}

#[test]
fn a_later_version_is_told_from_damage() {
    let mut bytes = fs::read(fixture("v1.log")).unwrap();
    bytes[8] = 2;
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
            assert_eq!((decoded.header, decoded.bytes, decoded.seed), (header, bytes.len(), seed));
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
    let corpus = [fs::read(fixture("v1.log")).unwrap(), plain_body()];
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
    let write = TenantWrite { tenant: &tenant, samples: &samples, labels: &labels };
    let mut body = Vec::new();
    let mut declared = super::super::columns::Declared::default();
    super::super::columns::encode_group(&write, &samples, &mut declared, 1 << 20, &mut body).unwrap();
    body
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_they_are_allocated() {
    let body = plain_body();
    let decode = |body: &[u8]| {
        let mut declared = super::super::columns::Declared::default();
        super::super::columns::decode_body(1, body, &mut declared)
    };
    assert_eq!(decode(&body).unwrap().samples(), 20);
    let declared_at = 1 + "team-a".len();
    let mut huge = body.clone();
    huge[declared_at..declared_at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(decode(&huge).is_err());
    for cut in 1..body.len() {
        assert!(decode(&body[..cut]).is_err(), "{cut}");
    }
}
