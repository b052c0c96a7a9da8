use hashbrown::HashMap;
use prost::Message;

use super::compare::{RangeCheck, Tally};
use super::ranges::{Recorded, comparable};
use super::read::frames;
use super::{DrillReport, taken};
use crate::archive::{
    ArchiveView, DigestEntry, DigestRow, EventKind, LogPosition, Position, Resolved, Sha256Hash, Target,
};
use crate::bucket::LogKind;
use crate::model::{Labels, SourceName, Ulid};
use crate::restore::tests::rig::{Rig, floats, series};
use crate::tsdb::XorChunks;
use crate::tsdb::wal::{Record, TombstoneRecord};
use crate::wire::remote_read::messages::{Chunk, ChunkedReadResponse, ChunkedSeries, Label};

fn labels(n: u64) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("n", n.to_string().as_str())]).unwrap()
}

fn row(n: u64, times: &[i64]) -> DigestRow {
    let mut row = DigestRow { labels: labels(n).series_hash(), ..DigestRow::default() };
    times.iter().for_each(|t| row.add(*t, (*t as f64).to_bits()));
    row
}

/// What explains differences.
#[derive(Default)]
struct Known {
    unsettled: &'static [u64],
    deleted: bool,
    late: bool,
}

const NOTHING: Known = Known { unsettled: &[], deleted: false, late: false };

fn check(expected: &[DigestRow], found: &[(u64, DigestRow)], known: &Known) -> Tally {
    let expected: HashMap<u64, DigestRow> = expected.iter().map(|row| (row.labels, *row)).collect();
    let unsettled = known.unsettled.iter().map(|n| labels(*n).series_hash()).collect();
    let mut check = RangeCheck::new((0, 1_000), expected, unsettled, known.deleted);
    let mut tally = Tally::default();
    found.iter().for_each(|(n, row)| check.see(&labels(*n), row, &mut tally));
    check.end(&mut tally);
    check.finish(known.late, &mut tally);
    tally
}

#[test]
fn equal_series_are_counted_and_others_named() {
    let tally = check(
        &[row(1, &[1, 2]), row(2, &[1, 2]), row(3, &[5])],
        &[(1, row(1, &[1, 2])), (2, row(2, &[1, 3]))],
        &NOTHING,
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
    let expected = [row(1, &[1, 2]), row(2, &[1, 2]), row(3, &[1])];
    let found = [(1, row(1, &[1])), (2, row(2, &[1, 3]))];
    let tally = check(&expected, &found, &Known { deleted: true, ..NOTHING });
    assert_eq!((tally.deleted_series, tally.differences.len()), (2, 1));
}

#[test]
fn late_samples_explain_further_ones_and_doubles() {
    let late = DigestRow { late: 1, ..row(1, &[1, 2, 2]) };
    let lost = DigestRow { late: 1, ..row(3, &[1, 2, 3]) };
    let found = [(1, row(1, &[1, 2])), (2, row(2, &[1, 2])), (3, row(3, &[1])), (4, row(4, &[1]))];
    let known = Known { unsettled: &[2, 4], ..NOTHING };
    let tally = check(&[late, row(2, &[1]), lost], &found, &known);
    assert_eq!((tally.late_series, tally.differences.len()), (3, 1));
    assert_eq!((tally.differences[0].recorded, tally.differences[0].restored), (3, 1));
}

#[test]
fn further_samples_and_unknown_series_differ_unless_late_ones_came_unrecorded() {
    let expected = [row(1, &[1]), row(2, &[1])];
    let found = [(1, row(1, &[1, 2])), (2, row(2, &[1])), (3, row(3, &[1]))];
    let tally = check(&expected, &found, &NOTHING);
    let counts: Vec<(u32, u32)> = tally.differences.iter().map(|d| (d.recorded, d.restored)).collect();
    assert_eq!(counts, [(1, 2), (0, 1)]);
    assert_eq!((tally.late_series, tally.equal_series), (0, 1));
    let tally = check(&expected, &found, &Known { late: true, ..NOTHING });
    assert_eq!((tally.late_series, tally.differences.len()), (2, 0));
    let tally = check(&expected, &found, &Known { unsettled: &[1, 3], ..NOTHING });
    assert_eq!((tally.late_series, tally.differences.len()), (2, 0), "an addition tells of them");
}

#[test]
fn a_later_addition_explains_nothing_that_is_missing() {
    let known = Known { unsettled: &[1], late: true, ..NOTHING };
    let tally = check(&[row(1, &[1, 2])], &[(1, row(1, &[1]))], &known);
    assert_eq!((tally.late_series, tally.differences.len()), (0, 1));
}

#[test]
fn series_of_histograms_alone_are_not_compared() {
    let tally = check(&[row(1, &[1])], &[(1, row(1, &[1])), (2, row(2, &[]))], &NOTHING);
    assert_eq!((tally.equal_series, tally.late_series, tally.differences.len()), (1, 0, 0));
}

fn report(equal_series: u64) -> DrillReport {
    DrillReport {
        source: SourceName::new("prod-a").unwrap(),
        seed: 1,
        as_of_ms: 0,
        written_ms: 0,
        restore_seconds: 0.0,
        ready_seconds: 0.0,
        ranges: 1,
        equal_series,
        equal_samples: equal_series,
        deleted_series: 3,
        late_series: 0,
        differences: Vec::new(),
        omitted_differences: 0,
        repairs: Vec::new(),
    }
}

#[test]
fn a_drill_that_found_nothing_equal_is_no_success() {
    assert!(report(1).is_sound());
    assert!(!report(0).is_sound() && !report(0).is_damaged());
    assert!(!DrillReport { repairs: vec!["repair".to_owned()], ..report(1) }.is_sound());
}

fn digest(range: (i64, i64), position: Position) -> DigestEntry {
    DigestEntry {
        id: Ulid::nil(),
        min_time_ms: range.0,
        max_time_ms: range.1,
        position,
        series: 1,
        stored_bytes: 1,
        stored_sha256: Sha256Hash::of(&[]),
    }
}

async fn resolved(rig: &Rig, view: &ArchiveView, as_of_ms: i64) -> Resolved {
    rig.archive.resolve(view, Target::AsOf(as_of_ms), None).await.unwrap()
}

#[tokio::test]
async fn a_log_of_late_samples_that_has_none_yet_is_no_reason_to_compare_nothing() {
    let mut rig = Rig::new();
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_500, 1.0)])]).await;
    let mut view = rig.view().await;
    let found = resolved(&rig, &view, rig.now_ms).await;
    assert_eq!(found.position.wbl, None);
    let begun = Position { wbl: Some(LogPosition::default()), ..found.position };
    view.digests.push(digest((1_000_000, 1_001_000), begun));
    assert_eq!(comparable(&view, &found).len(), 1);
    rig.log(LogKind::Wbl, &[floats(&[(1, 1_000_400, 1.0)])]).await;
    let mut view = rig.view().await;
    let position = Position { wal: found.position.wal, ..view.newest_timeline().unwrap().end };
    view.digests.push(digest((1_000_000, 1_001_000), position));
    assert!(comparable(&view, &found).is_empty(), "its late samples are not restored");
}

#[tokio::test]
async fn only_what_was_deleted_or_lost_by_then_is_taken_and_only_in_its_times() {
    let mut rig = Rig::new();
    let old = rig.block(&[("a", &[(100, 1.0)])], (0, 1_000), false).await;
    let cut = rig.block(&[("a", &[(1_100, 1.0)])], (1_000, 2_000), false).await;
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_500, 1.0)])]).await;
    let before_ms = rig.now_ms;
    rig.now_ms += 10;
    rig.event(EventKind::BlockGone, Some(old)).await;
    rig.event(EventKind::BlockGone, Some(rig.ulid())).await;
    rig.event(EventKind::BlockUnreadable, Some(rig.ulid())).await;
    rig.event(EventKind::Delete, Some(cut)).await;
    rig.event(EventKind::Delete, None).await;
    let stone = TombstoneRecord { reference: 1, min_time_ms: 1_000_100, max_time_ms: 1_000_600 };
    rig.log(LogKind::Wal, &[Record::Tombstones(vec![stone])]).await;
    let (view, context) = (rig.view().await, rig.context());
    let found = resolved(&rig, &view, rig.now_ms).await;
    let times = taken::taken(&context, &view, &found, rig.now_ms).await.unwrap();
    assert_eq!(times, [(0, 999), (1_000, 1_999), (1_000_100, 1_000_600)]);
    let found = resolved(&rig, &view, before_ms).await;
    assert!(taken::taken(&context, &view, &found, before_ms).await.unwrap().is_empty(), "all came later");
}

#[tokio::test]
async fn a_delete_whose_record_is_no_longer_kept_may_have_been_of_all_that_is_older() {
    let mut rig = Rig::new();
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_500, 1.0)])]).await;
    rig.event(EventKind::Delete, None).await;
    let (view, context) = (rig.view().await, rig.context());
    let found = resolved(&rig, &view, rig.now_ms).await;
    let times = taken::taken(&context, &view, &found, rig.now_ms).await.unwrap();
    assert_eq!(times, [(i64::MIN, rig.now_ms)]);
}

#[tokio::test]
async fn samples_that_came_after_their_range_was_closed_are_found_in_the_logs() {
    let mut rig = Rig::new();
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_500, 1.0)])]).await;
    let closed = rig.view().await.newest_timeline().unwrap().end;
    rig.log(LogKind::Wal, &[floats(&[(1, 1_001_500, 1.0)])]).await;
    let (context, range) = (rig.context(), (1_000_000, 1_001_000));
    for (late, expected) in [(None, false), (Some(1_001_600), false), (Some(1_000_600), true)] {
        if let Some(at_ms) = late {
            rig.log(LogKind::Wbl, &[floats(&[(1, at_ms, 1.0)])]).await;
        }
        let view = rig.view().await;
        let found = resolved(&rig, &view, rig.now_ms).await;
        let recorded = Recorded { context: &context, view: &view, found: &found, taken: Vec::new() };
        assert_eq!(recorded.came_after(&closed, range).await.unwrap(), expected, "{late:?}");
    }
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
