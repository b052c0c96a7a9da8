use hashbrown::HashMap;
use prost::Message;

use super::compare::{Expected, RangeCheck, Tally};
use super::read::frames;
use crate::archive::DigestRow;
use crate::model::Labels;
use crate::tsdb::XorChunks;
use crate::wire::remote_read::messages::{Chunk, ChunkedReadResponse, ChunkedSeries, Label};

fn labels(n: u64) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", n.to_string().as_str())]).unwrap()
}

fn row(n: u64, times: &[i64]) -> DigestRow {
    let mut row = DigestRow { labels: labels(n).series_hash(), ..DigestRow::default() };
    times.iter().for_each(|t| row.add(*t, (*t as f64).to_bits()));
    row
}

fn check(expected: &[Expected], found: &[(u64, DigestRow)], deleted: bool) -> Tally {
    let expected: HashMap<u64, Expected> = expected.iter().map(|e| (e.row.labels, *e)).collect();
    let (mut check, mut tally) = (RangeCheck::new((0, 1_000), expected, deleted), Tally::default());
    found.iter().for_each(|(n, row)| check.see(&labels(*n), row, &mut tally));
    check.finish(&mut tally);
    tally
}

fn settled(row: DigestRow) -> Expected {
    Expected { row, unsettled: false }
}

#[test]
fn equal_series_are_counted_and_others_named() {
    let tally = check(
        &[settled(row(1, &[1, 2])), settled(row(2, &[1, 2])), settled(row(3, &[5]))],
        &[(1, row(1, &[1, 2])), (2, row(2, &[1, 3]))],
        false,
    );
    assert_eq!((tally.ranges, tally.equal_series, tally.equal_samples), (1, 1, 2));
    assert_eq!((tally.deleted_series, tally.late_series), (0, 0));
    let series: Vec<(&str, u32, u32)> =
        tally.differences.iter().map(|d| (d.series.as_str(), d.recorded, d.restored)).collect();
    assert!(series.contains(&("{__name__=\"m\", n=\"2\"}", 2, 2)), "{series:?}");
    assert!(series.iter().any(|(name, recorded, restored)| {
        name.contains("does not know") && (*recorded, *restored) == (1, 0)
    }));
    assert_eq!(series.len(), 2);
}

#[test]
fn deletes_explain_missing_samples_but_not_changed_ones() {
    let expected = [settled(row(1, &[1, 2])), settled(row(2, &[1, 2])), settled(row(3, &[1]))];
    let tally = check(&expected, &[(1, row(1, &[1])), (2, row(2, &[1, 3]))], true);
    assert_eq!((tally.deleted_series, tally.differences.len()), (2, 1));
}

#[test]
fn late_samples_explain_further_ones_and_doubles() {
    let late = DigestRow { late: 1, ..row(1, &[1, 2, 2]) };
    let unsettled = Expected { row: row(2, &[1]), unsettled: true };
    let lost = DigestRow { late: 1, ..row(3, &[1, 2, 3]) };
    let found = [(1, row(1, &[1, 2])), (2, row(2, &[1, 2])), (3, row(3, &[1])), (4, row(4, &[1]))];
    let tally = check(&[settled(late), unsettled, settled(lost)], &found, false);
    assert_eq!((tally.late_series, tally.differences.len()), (3, 1));
    assert_eq!((tally.differences[0].recorded, tally.differences[0].restored), (3, 1));
}

fn frame(times: &[i64]) -> Vec<u8> {
    let mut chunks = XorChunks::default();
    times.iter().for_each(|t| chunks.push(*t, *t as f64));
    chunks.finish();
    let chunks = chunks.iter().map(|chunk| Chunk {
        min_time_ms: chunk.min_time_ms,
        max_time_ms: chunk.max_time_ms,
        r#type: 1,
        data: bytes::Bytes::copy_from_slice(chunk.data),
    });
    let pairs = labels(1);
    let labels = pairs.iter().map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() });
    let series = ChunkedSeries { labels: labels.collect(), chunks: chunks.collect() };
    let body = ChunkedReadResponse { chunked_series: vec![series], query_index: 0 }.encode_to_vec();
    let mut out = Vec::new();
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    out.extend_from_slice(&body);
    out
}

#[test]
fn streamed_frames_add_up_to_rows_of_the_range_asked_for() {
    let times: Vec<i64> = (0..300).map(|i| i * 10).collect();
    let bytes = [frame(&times), frame(&[5])].concat();
    let found = frames::all(&bytes).unwrap();
    assert_eq!(found.len(), 2);
    let within: Vec<i64> = times.iter().copied().filter(|t| (100..2_000).contains(t)).collect();
    assert_eq!(frames::decode(&found[0], (100, 2_000)).unwrap(), vec![(labels(1), row(1, &within))]);
    assert_eq!(frames::all(&bytes[..bytes.len() - 1]).unwrap().len(), 1, "the last one is not whole yet");
    let mut broken = bytes;
    broken[20] ^= 1;
    assert!(frames::all(&broken).is_err());
    assert!(frames::all(&[0xff; 8]).is_err());
    assert!(frames::all(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0]).is_err(), "absurd lengths are refused");
}
