mod blind;
mod blocks;
mod digests;
mod divergence;
mod rig;
mod waiting;

use rig::{Rig, Server};

use super::*;
use crate::archive::source::waiting::Waiting;
use crate::archive::{Archive, DigestBuilder, EventKind, RollUp, RollUpSettings, Target};
use crate::bucket::LogKind;
use crate::bucket::tests::failing::Fault;
use crate::runtime::random_from_seed;

#[tokio::test]
async fn every_record_is_in_one_piece_with_the_time_at_which_it_was_seen() {
    let rig = Rig::new();
    let mut archiver = rig.archiver().await;
    let mut server = rig.server();
    server.scrapes(3);
    rig.turns(&mut archiver, 2).await;
    server.scrapes(2);
    server.late_sample();
    rig.turns(&mut archiver, 1).await;
    let view = rig.view().await;
    let timeline = view.newest_timeline().unwrap();
    assert_eq!((timeline.number, timeline.fork.reason), (1, ForkReason::Start));
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
    assert_eq!(rig.archived(&view, LogKind::Wbl).await, server.written(LogKind::Wbl));
    assert_eq!(timeline.end.wal, timeline.wal.last().unwrap().end_position());
    let (first, last) = (&timeline.wal[0], timeline.wal.last().unwrap());
    assert!(first.seen.wall_ms < last.seen.wall_ms);
    assert!(first.seen.wall_ms <= last.after_ms && last.after_ms < last.seen.wall_ms, "{last:?}");
    assert_eq!(first.counts["series"], 3);
    assert_eq!(first.counts["samples"], 9);
    assert_eq!(first.series_ref_max, 3);
    assert!(first.sample_times_ms.is_some());
}

#[tokio::test]
async fn a_quiet_server_costs_an_entry_every_ten_seconds() {
    let rig = Rig::new();
    let mut archiver = rig.archiver().await;
    rig.server().scrapes(1);
    rig.turns(&mut archiver, 3).await;
    let before = rig.view().await.end.seq;
    rig.turns(&mut archiver, 30).await;
    let beats = rig.view().await.end.seq - before;
    assert!((2..=4).contains(&beats), "{beats}");
}

#[tokio::test]
async fn half_a_record_is_no_news_until_its_other_half_comes() {
    let rig = Rig::new();
    let mut archiver = rig.archiver().await;
    let mut server = rig.server();
    server.scrapes(2);
    rig.turns(&mut archiver, 3).await;
    let before = rig.view().await.end.seq;
    let rest = server.half_a_scrape();
    rig.turns(&mut archiver, 4).await;
    assert_eq!(rig.view().await.end.seq, before, "nothing was said");
    assert_eq!(archiver.uploader.instruments.lag.get(), 0.0);
    server.write_rest(&rest);
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
}

#[tokio::test]
async fn an_archiver_that_was_away_goes_on_where_the_last_one_ended() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    drop(archiver);
    server.scrapes(2);
    server.rotate();
    server.scrapes(2);
    server.rotate();
    server.scrapes(1);
    // The segment that the archiver was in is truncated meanwhile; its link stays.
    server.truncate_before(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert_eq!(view.timelines.len(), 1, "{:?}", view.events);
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
    assert_eq!(rig.spooled(), ["wal/00000001", "wal/00000002"], "truncated segments are let go");
    drop(archiver);
    let starts = view.events.iter().filter(|event| event.kind == EventKind::ArchiverStart).count();
    assert_eq!(starts, 2);
}

#[tokio::test]
async fn the_stop_stores_what_is_left_and_says_so() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 1).await;
    server.scrapes(2);
    rig.stop.start();
    archiver.run().await.unwrap();
    let view = rig.view().await;
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
    assert_eq!(view.events.last().unwrap().kind, EventKind::ArchiverStop);
}

#[tokio::test]
async fn catching_up_reads_bounded_batches() {
    let rig = Rig::new();
    let mut server = rig.server();
    for _ in 0..3 {
        server.bulk(12 << 20);
        server.rotate();
    }
    server.scrapes(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 12).await;
    let view = rig.view().await;
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
    let pieces = &view.newest_timeline().unwrap().wal;
    assert!(pieces.len() >= 9, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| piece.plain_bytes < 6 << 20));
    assert!(pieces.iter().all(|piece| piece.after_ms == 0 || piece.segment == 3), "none is dated too late");
}

#[tokio::test]
async fn an_outage_of_the_store_loses_neither_records_nor_their_times() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    rig.store.fail_at_random(random_from_seed(1), 100);
    for _ in 0..20 {
        server.scrapes(1);
        rig.clock.advance_ms(1_000);
        archiver.step().await.unwrap();
    }
    server.rotate();
    server.scrapes(1);
    server.truncate_before(1);
    rig.clock.advance_ms(1_000);
    archiver.step().await.unwrap();
    let lag = archiver.uploader.instruments.lag.get();
    assert!((20.0..23.0).contains(&lag), "{lag}");
    rig.store.stop_failing();
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!(view.timelines.len(), 1);
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
    let piece = view.newest_timeline().unwrap().wal.iter().find(|p| p.end - p.start > 500).unwrap();
    let archive = rig.archive();
    let piece = archive.read_piece(piece).await.unwrap();
    assert!(piece.header().marks.len() >= 15, "{:?}", piece.header());
    assert_eq!(archiver.uploader.instruments.lag.get(), 0.0);
}

#[tokio::test]
async fn lost_replies_of_the_store_leave_one_chain() {
    let rig = Rig::new();
    let mut server = rig.server();
    let mut archiver = rig.archiver().await;
    for round in 0..12 {
        let faults = [Fault::ReplyLost, Fault::Lost, Fault::None, Fault::FalseConflict];
        rig.store.plan_puts(&[faults[round % 4], faults[(round / 2) % 4]]);
        server.scrapes(1);
        rig.turns(&mut archiver, 1).await;
    }
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
}

#[tokio::test]
async fn a_second_archiver_of_a_source_is_refused() {
    let rig = Rig::new();
    rig.server().scrapes(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let failure = Archiver::open(rig.settings(), rig.parts(), rig.stop.clone()).await.unwrap_err();
    assert!(matches!(failure, ArchiveError::Locked(_)), "{failure}");
    // One with a data directory of its own, under the same name.
    let other = Rig::sharing(&rig);
    other.server().scrapes(1);
    let mut second = other.archiver().await;
    other.turns(&mut second, 2).await;
    rig.server().scrapes(1);
    rig.clock.advance_ms(20_000);
    archiver.step().await.unwrap();
    let published = archiver.publishing.take().unwrap().await.unwrap();
    let failure = published.unwrap_err();
    assert!(matches!(failure, ArchiveError::TwoArchivers { .. }), "{failure}");
    assert_eq!(failure.kind().exit_code(), 4);
}

const HOUR_MS: i64 = 3_600_000;

/// Writes and archives a scrape a second; returns how many records there were at each second's end, by the wall clock.
async fn scrapes(rig: &Rig, archiver: &mut Archiver, server: &mut Server, count: usize) -> Vec<(i64, usize)> {
    let mut written = Vec::new();
    for _ in 0..count {
        server.scrapes_at(rig.clock.now_ms());
        rig.turns(archiver, 1).await;
        written.push((rig.clock.now_ms() - 1, server.written(LogKind::Wal).len()));
    }
    written
}

async fn records_as_of(rig: &Rig, at_ms: i64) -> (u32, usize) {
    let view = rig.view().await;
    let found = rig.archive().resolve(&view, Target::AsOf(at_ms), None).await.unwrap();
    let records = rig.archived_to(&view, LogKind::Wal, &found.position).await;
    (found.position.timeline, records.len())
}

#[tokio::test]
async fn a_late_sample_came_after_the_last_look_that_did_not_find_it() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let mut moments = Vec::new();
    for late in 1..=30 {
        let before_ms = rig.clock.now_ms() - 1;
        server.late_sample();
        rig.look(&mut archiver).await;
        moments.extend([(before_ms, late - 1), (rig.clock.now_ms(), late)]);
        // Nothing comes for less than a second; now and then what there is gets stored meanwhile.
        if late % 3 == 0 {
            rig.turns(&mut archiver, 1).await;
        }
        for _ in 0..16 {
            rig.look(&mut archiver).await;
        }
    }
    rig.turns(&mut archiver, 2).await;
    for rolled in [false, true] {
        if rolled {
            rolled_up(&rig).await;
        }
        let view = rig.view().await;
        for (at_ms, expected) in &moments {
            let found = rig.archive().resolve(&view, Target::AsOf(*at_ms), None).await.unwrap();
            let records = rig.archived_to(&view, LogKind::Wbl, &found.position).await;
            assert_eq!(records.len(), *expected, "{at_ms}, rolled up: {rolled}");
        }
    }
}

async fn rolled_up(rig: &Rig) {
    let (archive, cpu, random) = (rig.archive(), Cpu::start(1).unwrap(), random_from_seed(9));
    let now_ms = rig.clock.now_ms() + 24 * HOUR_MS;
    let roll_up = RollUp { archive: &archive, cpu: &cpu, random: &random, now_ms };
    let report = roll_up.run(RollUpSettings::default()).await.unwrap();
    assert!(report.replaced_pieces > report.pieces, "{report:?}");
}

#[tokio::test]
async fn a_clock_set_back_by_an_hour_begins_a_timeline_and_both_sides_restore() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    let before = scrapes(&rig, &mut archiver, &mut server, 6).await;
    rig.clock.step_ms(-HOUR_MS);
    let after = scrapes(&rig, &mut archiver, &mut server, 6).await;
    for rolled in [false, true] {
        if rolled {
            rolled_up(&rig).await;
        }
        let view = rig.view().await;
        let step = view.events.iter().find(|event| event.kind == EventKind::ClockStep).unwrap();
        assert!(step.detail.contains("3600000"), "{step:?}");
        assert_eq!(view.newest_timeline().unwrap().fork.reason, ForkReason::ClockStep);
        for (timeline, moments) in [(1, &before[1..5]), (2, &after[..5])] {
            for (at_ms, records) in moments {
                assert_eq!(records_as_of(&rig, *at_ms).await, (timeline, *records), "{at_ms}");
            }
        }
    }
    // The hour comes again: the later one is meant then, and the older one is told of.
    rig.clock.step_ms(HOUR_MS - 8_000);
    let again = scrapes(&rig, &mut archiver, &mut server, 6).await;
    let (at_ms, view) = (before[4].0, rig.view().await);
    assert!(again.iter().any(|(came_ms, _)| *came_ms >= at_ms));
    assert_eq!(records_as_of(&rig, at_ms).await.0, 3);
    assert_eq!(view.also_on(at_ms, 3), Some(1));
    assert!(view.came_back_to(at_ms, 1) && !view.came_back_to(at_ms, 3));
    let older = rig.archive().resolve(&view, Target::AsOf(at_ms), Some(1)).await.unwrap();
    assert_eq!(rig.archived_to(&view, LogKind::Wal, &older.position).await.len(), before[4].1);
}

#[tokio::test]
async fn a_clock_set_forward_by_an_hour_and_back_again_misleads_no_later_time() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    let before = scrapes(&rig, &mut archiver, &mut server, 6).await;
    rig.clock.step_ms(HOUR_MS);
    let wrong = scrapes(&rig, &mut archiver, &mut server, 6).await;
    rig.clock.step_ms(-HOUR_MS);
    let after = scrapes(&rig, &mut archiver, &mut server, 6).await;
    for rolled in [false, true] {
        if rolled {
            rolled_up(&rig).await;
        }
        for (timeline, moments) in [(1, &before[1..5]), (2, &wrong[..5]), (3, &after[..])] {
            for (at_ms, records) in moments {
                assert_eq!(records_as_of(&rig, *at_ms).await, (timeline, *records), "{at_ms}");
            }
        }
    }
}

#[tokio::test]
async fn what_was_seen_before_a_clock_was_set_in_an_outage_stays_on_its_timeline() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    scrapes(&rig, &mut archiver, &mut server, 4).await;
    rig.store.fail_at_random(random_from_seed(1), 100);
    let mut moments = Vec::new();
    for step_ms in [0, -HOUR_MS] {
        rig.clock.step_ms(step_ms);
        for _ in 0..10 {
            server.scrapes_at(rig.clock.now_ms());
            rig.clock.advance_ms(1_000);
            archiver.step().await.unwrap();
            moments.push((rig.clock.now_ms() - 1, server.written(LogKind::Wal).len()));
        }
    }
    rig.store.stop_failing();
    rig.turns(&mut archiver, 4).await;
    let view = rig.view().await;
    let (old, new) = (&view.timelines[&1], &view.timelines[&2]);
    assert_eq!((new.fork.reason, view.timelines.len()), (ForkReason::ClockStep, 2));
    assert_eq!(rig.archived_to(&view, LogKind::Wal, &old.end).await.len(), moments[9].1);
    assert!(old.last_made.wall_ms > rig::START_MS, "{old:?}");
    assert!(new.wal.iter().all(|piece| piece.seen.wall_ms < rig::START_MS), "{new:?}");
    for (i, (at_ms, records)) in moments.iter().enumerate() {
        let timeline = if i < 10 { 1 } else { 2 };
        // Right before it was noticed, the new clock had not been looked at.
        if i != 10 {
            assert_eq!(records_as_of(&rig, *at_ms).await, (timeline, *records), "{i}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_was_set_back_while_no_archiver_ran_begins_a_timeline() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    let before = scrapes(&rig, &mut archiver, &mut server, 6).await;
    drop(archiver);
    rig.clock.step_ms(-HOUR_MS);
    let mut archiver = rig.archiver().await;
    assert_eq!(archiver.uploader.instruments.clock_steps.get(), 1);
    let after = scrapes(&rig, &mut archiver, &mut server, 6).await;
    let view = rig.view().await;
    assert_eq!(view.newest_timeline().unwrap().fork.reason, ForkReason::ClockStep);
    for (timeline, moments) in [(1, &before[1..5]), (2, &after[..5])] {
        for (at_ms, records) in moments {
            assert_eq!(records_as_of(&rig, *at_ms).await, (timeline, *records), "{at_ms}");
        }
    }
    drop(archiver);
    rig.clock.advance_ms(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    assert_eq!(rig.view().await.timelines.len(), 2, "once");
}

#[tokio::test]
async fn the_start_of_the_window_is_read_again_every_hour() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    scrapes(&rig, &mut archiver, &mut server, 3).await;
    let since_ms = rig.view().await.continuous_since_ms().unwrap();
    let gauge = archiver.uploader.instruments.window_start.clone();
    assert_eq!(gauge.get(), seconds(since_ms));
    gauge.set(1.0);
    scrapes(&rig, &mut archiver, &mut server, 3).await;
    assert_eq!(gauge.get(), 1.0);
    rig.clock.advance_ms(HOUR_MS);
    scrapes(&rig, &mut archiver, &mut server, 3).await;
    assert_eq!(gauge.get(), seconds(since_ms));
}

#[tokio::test]
async fn files_are_held_open_where_nothing_may_be_written() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(1);
    let spool = Arc::new(Spool::descriptors(rig.dir.path()));
    let random = random_from_seed(5);
    let digests = Arc::new(Mutex::new(DigestBuilder::new(3_600_000, rig::START_MS)));
    let waiting = Waiting::open(rig.dir.path(), &spool).unwrap();
    let mut tailer = Tailer::new(rig.archive(), random, Arc::clone(&spool), waiting, None, digests);
    let at = |ms: i64| Stamp { wall_ms: rig::START_MS + ms, monotonic_ms: ms };
    tailer.look(at(0), true).unwrap();
    server.rotate();
    server.scrapes(1);
    tailer.look(at(50), false).unwrap();
    server.truncate_before(1);
    tailer.look(at(1_000), true).unwrap();
    let batch = tailer.read(at(1_000)).unwrap();
    let ends: Vec<u32> = batch.pieces.iter().map(|piece| piece.entry.segment).collect();
    assert_eq!(ends, [0, 1]);
    assert!(spool.bytes() > 0, "the deleted segment is still held");
    tailer.release(&batch.position).unwrap();
    assert_eq!(spool.bytes(), 0);
    assert!(!rig.dir.path().join("perennial-spool").exists());
}
