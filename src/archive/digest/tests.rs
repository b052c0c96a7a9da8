use super::*;
use crate::archive::digest::builder::DigestBuilder;
use crate::bucket::LogKind;
use crate::model::Labels;
use crate::tsdb::wal::{FloatSample, Record, SeriesRecord};

const HOUR_MS: i64 = 3_600_000;
/// An aligned hour, well after the builder's beginning.
const T0: i64 = 500_000 * HOUR_MS;

fn labels(n: u64) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", n.to_string().as_str())]).unwrap()
}

fn series(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut out = Vec::new();
    Record::Series(numbers.into_iter().map(|n| SeriesRecord::new(n, &labels(n))).collect()).encode(&mut out);
    out
}

fn samples(samples: &[(u64, i64, f64)]) -> Vec<u8> {
    let sample = |(reference, ts_ms, value): &(u64, i64, f64)| FloatSample {
        reference: *reference,
        ts_ms: *ts_ms,
        value_bits: value.to_bits(),
        start_ms: 0,
    };
    let mut out = Vec::new();
    Record::Samples(samples.iter().map(sample).collect()).encode(&mut out);
    out
}

fn row(n: u64, samples: &[(i64, f64)]) -> DigestRow {
    let mut row = DigestRow { labels: labels(n).series_hash(), ..DigestRow::default() };
    samples.iter().for_each(|(ts_ms, value)| row.add(*ts_ms, value.to_bits()));
    row
}

fn builder(numbers: std::ops::Range<u64>) -> DigestBuilder {
    let mut builder = DigestBuilder::new(HOUR_MS, T0 - HOUR_MS - HOUR_MS / 2);
    builder.declare(&series(numbers));
    builder
}

fn sorted(mut rows: Vec<DigestRow>) -> Vec<DigestRow> {
    rows.sort_by_key(|row| row.labels);
    rows
}

#[test]
fn a_range_is_closed_when_samples_are_past_its_end() {
    let mut builder = builder(1..3);
    builder.record(LogKind::Wal, &samples(&[(1, T0, 1.0), (2, T0 + 5, 2.0), (1, T0 + 9, 3.0)]));
    builder.record(LogKind::Wal, &samples(&[(1, T0 + HOUR_MS, 4.0)]));
    let later = T0 + 2 * HOUR_MS;
    assert!(builder.closed(later).is_empty(), "samples of the first hour may still come");
    builder.record(LogKind::Wal, &samples(&[(2, T0 + HOUR_MS - 1, 9.0), (1, T0 + HOUR_MS + 300_000, 4.0)]));
    let closed = builder.closed(later);
    let expected =
        sorted(vec![row(1, &[(T0, 1.0), (T0 + 9, 3.0)]), row(2, &[(T0 + 5, 2.0), (T0 + HOUR_MS - 1, 9.0)])]);
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].min_time_ms, closed[0].max_time_ms), (T0, T0 + HOUR_MS));
    assert!(closed[0].is_whole);
    assert_eq!(closed[0].rows, expected);
    assert!(builder.closed(later).is_empty());
}

#[test]
fn what_the_server_refuses_does_not_count() {
    let mut builder = builder(1..2);
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 10, 1.0), (1, T0 + 10, 2.0), (1, T0 + 3, 3.0)]));
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 2 * HOUR_MS, 1.0), (7, T0 + 4, 4.0)]));
    let closed = builder.closed(T0 + 9 * HOUR_MS);
    assert_eq!(closed[0].rows, vec![row(1, &[(T0 + 10, 1.0)])]);
    assert_eq!(closed[0].undeclared, 1);
}

#[test]
fn late_samples_count_and_make_an_addition_to_a_closed_range() {
    let mut builder = builder(1..3);
    let late = |ts_ms| DigestRow { late: 1, ..row(1, &[(ts_ms, 5.0)]) };
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 10, 1.0), (1, T0 + 2 * HOUR_MS, 1.0)]));
    builder.record(LogKind::Wbl, &samples(&[(1, T0 + 4, 5.0)]));
    let mut first = row(1, &[(T0 + 10, 1.0)]);
    first.merge(&late(T0 + 4));
    assert_eq!(builder.closed(T0 + 9 * HOUR_MS)[0].rows, vec![first]);
    builder.record(LogKind::Wbl, &samples(&[(1, T0 + 6, 5.0)]));
    builder.record(LogKind::Wal, &samples(&[(2, T0 + 7, 6.0)]));
    assert!(builder.closed(T0 + 9 * HOUR_MS).is_empty(), "additions come with the next range");
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 4 * HOUR_MS, 1.0)]));
    let closed = builder.closed(T0 + 9 * HOUR_MS);
    assert_eq!((closed[0].min_time_ms, closed[0].is_whole), (T0, false));
    assert_eq!(closed[0].rows, sorted(vec![late(T0 + 6), row(2, &[(T0 + 7, 6.0)])]));
    assert_eq!((closed[1].min_time_ms, closed[1].is_whole), (T0 + 2 * HOUR_MS, true));
}

#[test]
fn a_range_whose_beginning_was_not_seen_has_no_digest() {
    let mut builder = DigestBuilder::new(HOUR_MS, T0 + 5);
    builder.declare(&series(1..2));
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 10, 1.0), (1, T0 + HOUR_MS, 2.0)]));
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 3 * HOUR_MS, 1.0)]));
    let closed = builder.closed(T0 + 9 * HOUR_MS);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].min_time_ms, T0 + HOUR_MS);
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 4 * HOUR_MS, 1.0)]));
    builder.forget_open(T0 + 4 * HOUR_MS);
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 5 * HOUR_MS, 1.0), (1, T0 + 7 * HOUR_MS, 1.0)]));
    let closed = builder.closed(T0 + 9 * HOUR_MS);
    assert_eq!(closed.iter().map(|digest| digest.min_time_ms).collect::<Vec<_>>(), [T0 + 5 * HOUR_MS]);
}

#[test]
fn a_sample_from_far_ahead_closes_nothing_early() {
    let mut builder = builder(1..3);
    builder.record(LogKind::Wal, &samples(&[(2, T0 + 1_000 * HOUR_MS, 1.0), (1, T0 + 1, 1.0)]));
    assert!(builder.closed(T0 + 2).is_empty());
    builder.record(LogKind::Wal, &samples(&[(1, T0 + 2, 1.0)]));
    let closed = builder.closed(T0 + HOUR_MS + 300_000);
    assert_eq!(closed[0].rows, vec![row(1, &[(T0 + 1, 1.0), (T0 + 2, 1.0)])]);
    assert!(closed[0].is_whole);
}

#[test]
fn two_numbers_of_one_series_make_one_row() {
    let mut builder = builder(1..2);
    let mut again = Vec::new();
    Record::Series(vec![SeriesRecord::new(5_000, &labels(1))]).encode(&mut again);
    builder.record(LogKind::Wal, &again);
    builder.record(LogKind::Wal, &samples(&[(1, T0, 1.0), (5_000, T0 + 1, 2.0), (1, T0 + 2 * HOUR_MS, 0.0)]));
    assert_eq!(builder.closed(T0 + 9 * HOUR_MS)[0].rows, vec![row(1, &[(T0, 1.0), (T0 + 1, 2.0)])]);
}

#[test]
fn absurd_series_numbers_take_no_memory() {
    let mut builder = builder(1..2);
    for reference in [u64::MAX, 1 << 40] {
        let mut record = Vec::new();
        Record::Series(vec![SeriesRecord::new(reference, &labels(1))]).encode(&mut record);
        builder.record(LogKind::Wal, &record);
        builder.record(LogKind::Wal, &samples(&[(reference, T0, 1.0)]));
        builder.record(LogKind::Wbl, &samples(&[(reference, T0, 1.0)]));
    }
    assert!(builder.closed(i64::MAX).is_empty());
}

#[test]
fn a_digest_comes_back_and_damage_is_refused() {
    let rows = sorted((0..300).map(|n| row(n, &[(T0 + n as i64, n as f64)])).collect());
    let digest = Digest { is_whole: true, min_time_ms: T0, max_time_ms: T0 + HOUR_MS, undeclared: 3, rows };
    let bytes = digest.encode();
    assert_eq!(Digest::decode(&bytes), Ok(digest.clone()));
    let plain = decompress(&bytes, 1 << 20).unwrap();
    for length in 0..plain.len() {
        assert!(Digest::decode(&compress(&plain[..length], 1)).is_err(), "cut at {length}");
    }
    let mut twice = digest;
    twice.rows[1].labels = twice.rows[0].labels;
    assert!(Digest::decode(&twice.encode()).is_err());
}
