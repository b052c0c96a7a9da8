//! Whatever happens to the catalog, a time leads to the same place.

use super::rig::{POLL_MS, Rig};
use crate::archive::piece::{Piece, PieceBuilder, compress};
use crate::archive::{
    Archive, ArchiveError, ArchiveView, LogPosition, Position, Retention, RetentionPolicy, RollUp,
    RollUpSettings, Target, cut_in_piece,
};
use crate::bucket::{LogKind, ObjectKey};
use crate::runtime::Cpu;
use crate::tsdb::wal::{FloatSample, Record, TombstoneRecord};

/// In the future, so that objects stored now are older than any delay.
const START_MS: i64 = 4_000_000_000_000;

/// Returns where a time leads, after checking it against what was written.
async fn checked(rig: &Rig, view: &ArchiveView, at_ms: i64) -> Position {
    let found = rig.archive.resolve(view, Target::AsOf(at_ms), None).await;
    let found = found.unwrap_or_else(|error| panic!("{at_ms}: {error}; {:?}", view.holes(LogKind::Wal)));
    assert!(found.missing.is_empty(), "records are missing for {at_ms}: {:?}", found.missing);
    let position = found.position;
    if let Some(surely) = rig.known_at(at_ms - POLL_MS) {
        assert!(
            view.is_before(&surely, &position) || surely.timeline < position.timeline,
            "{surely:?} {position:?}"
        );
    }
    if let Some(newest) = rig.known_at(at_ms + POLL_MS) {
        // A timeline that has begun and has no record yet is where its parent was left.
        let not_later = position.timeline < newest.timeline || position.wal <= newest.wal;
        assert!(not_later, "a record from after {at_ms} is in: {position:?} {newest:?}");
    }
    read_all(&rig.archive, &found.wal).await;
    position
}

/// Reads all pieces, as a restore would.
async fn read_all(archive: &Archive, cuts: &[crate::archive::PieceCut]) {
    for cut in cuts {
        let piece = archive.read_piece(&cut.piece).await.unwrap();
        assert_eq!((piece.header().start, piece.header().end), (cut.piece.start, cut.piece.end));
        let ends = piece.records().map(|r| r.end).any(|end| end == cut.until);
        assert!(ends, "a cut lies between records");
    }
}

fn times(rig: &Rig, from_ms: i64, to_ms: i64) -> Vec<i64> {
    let span = u64::try_from(to_ms - from_ms).unwrap().max(1);
    let mut times: Vec<i64> = (0..40).map(|_| from_ms + i64::try_from(rig.below(span)).unwrap()).collect();
    times.extend([from_ms, to_ms]);
    times
}

#[tokio::test]
async fn any_time_leads_to_what_was_written_by_then() {
    for seed in 0..20 {
        let mut rig = Rig::new(seed, START_MS);
        rig.live(40).await;
        let view = rig.archive.load().await.unwrap();
        let (first, last) = view.window_ms().unwrap();
        for at_ms in times(&rig, first, last) {
            checked(&rig, &view, at_ms).await;
        }
    }
}

#[tokio::test]
async fn roll_up_changes_no_position() {
    let cpu = Cpu::start(1).unwrap();
    for seed in 100..110 {
        let mut rig = Rig::new(seed, START_MS);
        rig.live(60).await;
        let view = rig.archive.load().await.unwrap();
        let (first, last) = view.window_ms().unwrap();
        let asked = times(&rig, first, last);
        let mut before = Vec::new();
        for at_ms in &asked {
            before.push(checked(&rig, &view, *at_ms).await);
        }
        for chapter_ms in [3_000, 10_000, 1_000_000] {
            let roll_up =
                RollUp { archive: &rig.archive, cpu: &cpu, random: &rig.random, now_ms: rig.now_ms };
            let report = roll_up.run(RollUpSettings { settled_ms: 2_000, chapter_ms }).await.unwrap();
            assert!(report.chapters > 0 && report.replaced_pieces > report.pieces, "seed {seed}: {report:?}");
            let view = rig.archive.load().await.unwrap();
            for (at_ms, before) in asked.iter().zip(&before) {
                assert_eq!(checked(&rig, &view, *at_ms).await, *before, "seed {seed}, {at_ms}");
            }
        }
        rig.flush(true).await;
        rig.archive.load().await.unwrap();
    }
}

#[tokio::test]
async fn after_retention_every_time_in_the_window_and_every_kept_point_and_hold_restores() {
    let cpu = Cpu::start(1).unwrap();
    for seed in 200..215 {
        let mut rig = Rig::new(seed, START_MS);
        rig.live(30).await;
        let held_ms = rig.now_ms - 5_000;
        let hold =
            rig.archive.hold((held_ms, held_ms + 1_000), "a test", &rig.random, rig.now_ms).await.unwrap();
        rig.live(60).await;
        let window_ms = 15_000;
        let policy = RetentionPolicy { window_ms, hourly: 1, daily: 1, weekly: 0, monthly: 0, yearly: 0 };
        let (mut deleted, mut dropped) = (0, 0);
        for round in 0..4 {
            if round % 2 == 1 {
                let roll_up =
                    RollUp { archive: &rig.archive, cpu: &cpu, random: &rig.random, now_ms: rig.now_ms };
                roll_up.run(RollUpSettings { settled_ms: 2_000, chapter_ms: 20_000 }).await.unwrap();
            }
            let now_ms = rig.now_ms + round;
            let (archive, random) = (&rig.archive, &rig.random);
            let run = Retention { archive, policy: &policy, delay_ms: 0, random, now_ms };
            let report = run.run().await.unwrap();
            deleted += report.deleted_objects;
            dropped += report.dropped_pieces;
            let view = rig.archive.load().await.unwrap();
            let last = view.last_made.wall_ms;
            for at_ms in times(&rig, last - window_ms, last) {
                checked(&rig, &view, at_ms).await;
            }
            for at_ms in times(&rig, held_ms, held_ms + 1_000) {
                checked(&rig, &view, at_ms).await;
            }
            for point in &report.points {
                checked(&rig, &view, point.at_ms).await;
            }
        }
        assert!(deleted > 0 && dropped > 0, "seed {seed}: nothing was deleted");
        rig.archive.release(hold.id, "done", &rig.random, rig.now_ms).await.unwrap();
        assert!(rig.archive.holds().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_an_archiver_is_storing_is_not_marked_before_the_delay() {
    let mut rig = Rig::new(300, START_MS);
    rig.live(5).await;
    let orphan = ObjectKey::archive(
        rig.archive.source(),
        crate::bucket::ArchiveObject::Piece {
            timeline: 1,
            log: LogKind::Wal,
            segment: 0,
            start: 0,
            end: 9,
            id: rig.random.ulid(START_MS),
        },
    );
    rig.archive.bucket().put(&orphan, "orphan".into()).await.unwrap();
    let policy = RetentionPolicy::default();
    let stored_ms = rig.archive.bucket().head(&orphan).await.unwrap().unwrap().last_modified_ms;
    let mut run = Retention {
        archive: &rig.archive,
        policy: &policy,
        delay_ms: 1_000,
        random: &rig.random,
        now_ms: stored_ms + 999,
    };
    assert_eq!(run.run().await.unwrap().marked_objects, 0);
    run.now_ms = stored_ms + 1_000;
    assert_eq!(run.run().await.unwrap().marked_objects, 1);
    assert_eq!(run.run().await.unwrap().deleted_objects, 0, "it was marked just now");
    run.now_ms = i64::MAX / 2;
    assert_eq!(run.run().await.unwrap().deleted_objects, 1);
    assert!(rig.archive.bucket().head(&orphan).await.unwrap().is_none());
    rig.archive.load().await.unwrap();
}

#[tokio::test]
async fn an_empty_policy_is_refused_and_a_long_pause_deletes_nothing() {
    let mut rig = Rig::new(301, START_MS);
    rig.live(20).await;
    let run = |policy, now_ms| {
        let (archive, random) = (&rig.archive, &rig.random);
        Retention { archive, policy, delay_ms: 0, random, now_ms }
    };
    let empty = RetentionPolicy { window_ms: 0, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    assert_eq!(run(&empty, rig.now_ms).run().await.unwrap_err().kind(), crate::model::ErrorKind::Invalid);
    let policy = RetentionPolicy { window_ms: 3_600_000, ..empty };
    let report = run(&policy, rig.now_ms + 40 * 86_400_000).run().await.unwrap();
    assert_eq!((report.dropped_bases, report.dropped_pieces, report.marked_objects), (0, 0, 0));
}

#[tokio::test]
async fn times_between_restore_points_are_refused_with_the_nearest_and_cannot_be_held() {
    let mut rig = Rig::new(302, START_MS);
    rig.live(60).await;
    let policy = RetentionPolicy { window_ms: 10_000, hourly: 1, daily: 1, weekly: 0, monthly: 0, yearly: 0 };
    let held_ms = rig.now_ms - 40_000;
    let range = (held_ms, held_ms + 2_000);
    rig.archive.hold(range, "a test", &rig.random, rig.now_ms).await.unwrap();
    let (archive, random, now_ms) = (&rig.archive, &rig.random, rig.now_ms);
    Retention { archive, policy: &policy, delay_ms: 0, random, now_ms }.run().await.unwrap();
    let view = archive.load().await.unwrap();
    let holes = view.holes(LogKind::Wal);
    let dark =
        holes.iter().map(|hole| (hole.from_ms, hole.to_ms)).find(|(from, to)| to - from > 1_000).unwrap();
    assert!(dark.0 >= range.1 || dark.1 <= range.0, "{dark:?} is held: {range:?}");
    assert!(view.continuous_since_ms().unwrap() >= dark.1);
    let middle = dark.0.midpoint(dark.1);
    let refused = archive.resolve(&view, Target::AsOf(middle), None).await.unwrap_err();
    assert!(matches!(refused, ArchiveError::OutsideWindow { .. }), "{refused}");
    checked(&rig, &view, dark.0).await;
    let after = dark.1.max(holes[0].piece.seen.wall_ms);
    assert!(archive.resolve(&view, Target::AsOf(after), None).await.is_ok());
    for range in [(middle, middle), (dark.0 - 10, dark.1 + 10), (middle, rig.now_ms - 1_000)] {
        let refused = archive.hold(range, "too late", random, now_ms).await.unwrap_err();
        assert!(matches!(refused, ArchiveError::OutsideWindow { .. }), "{refused}");
    }
}

/// A piece as it is first read after a pause of half an hour: one look before, one after.
fn piece_after_a_pause(log: LogKind, records: &[Record]) -> Piece {
    let mut builder = PieceBuilder::new(1, log, LogPosition::default(), START_MS);
    for (i, record) in records.iter().enumerate() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        builder.push(i as u64 + 1, &bytes);
    }
    builder.mark(START_MS + 30 * MINUTE_MS);
    let plain = builder.finish();
    Piece::decompress(&compress(&plain, 1), plain.len() as u64).unwrap()
}

const MINUTE_MS: i64 = 60_000;

fn sample_at(minute: i64) -> Record<'static> {
    let ts_ms = START_MS + minute * MINUTE_MS;
    Record::Samples(vec![FloatSample { reference: 1, ts_ms, value_bits: 1, start_ms: 0 }])
}

#[test]
fn in_a_pause_samples_decide_and_a_delete_is_no_later_than_the_next_scrape() {
    let deleted = Record::Tombstones(vec![TombstoneRecord { reference: 1, min_time_ms: 0, max_time_ms: 9 }]);
    let records = [sample_at(1), sample_at(4), deleted, sample_at(6), sample_at(20), sample_at(29)];
    let piece = piece_after_a_pause(LogKind::Wal, &records);
    let kept = |minute: i64| cut_in_piece(&piece, START_MS + minute * MINUTE_MS).map_or(0, |(end, _)| end);
    assert_eq!([0, 1, 5, 6, 20, 28, 29].map(kept), [0, 1, 2, 4, 5, 5, 6]);
    let late = piece_after_a_pause(LogKind::Wbl, &[sample_at(-90), sample_at(-80)]);
    assert_eq!(cut_in_piece(&late, START_MS + 29 * MINUTE_MS), None, "nobody knows when they came");
}

#[tokio::test]
async fn a_damaged_piece_keeps_its_neighbours_from_being_rolled_up_and_nothing_else() {
    let cpu = Cpu::start(1).unwrap();
    let mut rig = Rig::new(303, START_MS);
    rig.live(60).await;
    let view = rig.archive.load().await.unwrap();
    let pieces = &view.timelines.values().next().unwrap().wal;
    let key = pieces[pieces.len() / 2].key(rig.archive.source());
    rig.archive.bucket().put(&key, "not a piece".into()).await.unwrap();
    let (archive, random, now_ms) = (&rig.archive, &rig.random, rig.now_ms);
    let roll_up = RollUp { archive, cpu: &cpu, random, now_ms };
    let settings = RollUpSettings { settled_ms: 2_000, chapter_ms: 1_000_000 };
    let report = roll_up.run(settings).await.unwrap();
    assert_eq!(report.damaged_groups, 1);
    assert!(report.chapters > 0 && report.replaced_pieces > report.pieces, "{report:?}");
    let after = archive.load().await.unwrap();
    assert!(after.holes(LogKind::Wal).is_empty());
    assert!(archive.links().await.unwrap().len() < 10, "the entries are rolled up");
}
