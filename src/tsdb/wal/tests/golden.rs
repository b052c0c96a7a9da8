//! A log that Prometheus 2.42 wrote: five starts, each ended by a kill, with scrapes, remote writes of native
//! histograms, exemplars, odd values and late samples, and deletes. `dump.txt.zst` is what `promtool tsdb dump`,
//! sorted, said of `wal` and `wbl`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prometheus/wal").join(name)
}

fn segments(name: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn records(name: &str) -> Vec<Vec<u8>> {
    let segments = segments(name);
    let mut records = Vec::new();
    for segment in &segments {
        let (read, last) = read_all(segment, 0);
        assert!(matches!(last, Step::End { .. }), "{name}: {last:?}");
        records.extend(read.into_iter().map(|(_, _, data)| data));
    }
    records
}

#[test]
fn real_records_decode_and_encode_to_the_same_bytes() {
    let mut kinds = BTreeMap::new();
    for name in ["wal", "wbl", "checkpoint.00000002"] {
        for data in records(name) {
            let record = Record::decode(&data).unwrap();
            let mut again = Vec::new();
            record.encode(&mut again);
            assert_eq!(again, data, "{record:?}");
            let summary = summarize(&data).unwrap();
            *kinds.entry(summary.kind.to_string()).or_insert(0) += summary.count;
        }
    }
    let seen: Vec<_> = kinds.keys().map(String::as_str).collect();
    assert_eq!(
        seen,
        ["exemplars", "float histograms", "histograms", "mmap markers", "samples", "series", "tombstones"]
    );
    assert!(kinds["samples"] > 2_000 && kinds["histograms"] > 20, "{kinds:?}");
}

#[test]
fn our_writer_lays_real_segments_out_the_same() {
    for name in ["wal", "wbl", "checkpoint.00000002"] {
        for segment in segments(name) {
            let mut writer = SegmentWriter::new(Compression::Snappy);
            read_all(&segment, 0).0.iter().for_each(|(_, _, data)| writer.append(data));
            let bytes = writer.take();
            assert!(segment.starts_with(&bytes), "{name}");
            assert!(segment[bytes.len()..].iter().all(|byte| *byte == 0), "{name}");
        }
    }
}

type Samples = BTreeMap<i64, u64>;

/// Replays log and out-of-order log: in order from the one without what was deleted, late ones from the other.
fn replay() -> BTreeSet<(String, i64, u64)> {
    let mut labels: HashMap<u64, String> = HashMap::new();
    let mut samples: HashMap<u64, Samples> = HashMap::new();
    let mut deleted: Vec<TombstoneRecord> = Vec::new();
    for (late, name) in [(false, "wal"), (true, "wbl")] {
        for data in records(name) {
            match Record::decode(&data).unwrap() {
                Record::Series(rows) => labels.extend(
                    rows.iter().map(|row| (row.reference, row.labels.to_labels().unwrap().to_string())),
                ),
                Record::Samples(rows) => {
                    for row in rows {
                        let series = samples.entry(row.reference).or_default();
                        let newest = series.last_key_value().map(|(ts_ms, _)| *ts_ms);
                        if late || newest.is_none_or(|newest| newest < row.ts_ms) {
                            series.entry(row.ts_ms).or_insert(row.value_bits);
                        }
                    }
                }
                Record::Tombstones(rows) => deleted.extend(rows),
                _ => {}
            }
        }
        // Prometheus 2.42 does not hold tombstones of the head against its out-of-order samples.
        for row in deleted.drain(..) {
            if let Some(series) = samples.get_mut(&row.reference) {
                series.retain(|ts_ms, _| *ts_ms < row.min_time_ms || *ts_ms > row.max_time_ms);
            }
        }
    }
    let named = samples.iter().filter_map(|(reference, series)| Some((labels.get(reference)?, series)));
    let all = named.flat_map(|(labels, series)| {
        series.iter().map(|(ts_ms, bits)| (labels.clone(), *ts_ms, canonical(f64::from_bits(*bits))))
    });
    all.collect()
}

/// A dump says `NaN` for every NaN.
fn canonical(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

#[test]
fn a_replay_of_the_decoded_log_gives_what_promtool_dumps() {
    let dump = std::fs::read(folder("dump.txt.zst")).unwrap();
    let dump = String::from_utf8(zstd::decode_all(dump.as_slice()).unwrap()).unwrap();
    let dumped: BTreeSet<(String, i64, u64)> = dump
        .lines()
        .map(|line| {
            let (rest, ts_ms) = line.rsplit_once(' ').unwrap();
            let (labels, value) = rest.rsplit_once(' ').unwrap();
            (labels.to_owned(), ts_ms.parse().unwrap(), canonical(value.parse().unwrap()))
        })
        .collect();
    let replayed = replay();
    let missing: Vec<_> = dumped.difference(&replayed).take(3).collect();
    let more: Vec<_> = replayed.difference(&dumped).take(3).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing {missing:?}, more {more:?}");
    assert!(dumped.len() > 1_500);
}

#[test]
fn every_prefix_of_a_real_segment_reads_as_the_records_that_are_there() {
    let segment = &segments("wal")[2];
    let (all, _) = read_all(segment, 0);
    for cut in 0..=segment.len() {
        let (read, last) = read_all(&segment[..cut], 0);
        assert_eq!(read, all[..read.len()]);
        let next = all.get(read.len()).filter(|next| next.0 < cut as u64);
        assert_eq!(matches!(last, Step::Incomplete { .. }), next.is_some(), "{cut}: {last:?}");
    }
}
