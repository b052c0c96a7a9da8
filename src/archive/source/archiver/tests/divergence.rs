use super::rig::{Rig, Server};
use super::*;
use crate::archive::{ArchiveView, LogPosition, Timeline};

fn newest(view: &ArchiveView) -> &Timeline {
    view.newest_timeline().unwrap()
}

#[tokio::test]
async fn a_segment_that_was_not_closed_tells_of_a_restart() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let at = server.position();
    server.crash();
    server.scrapes(2);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    let timeline = newest(&view);
    assert_eq!((timeline.number, timeline.fork.reason), (2, ForkReason::Restart));
    assert_eq!((timeline.fork.parent, timeline.fork.at.unwrap().wal), (Some(1), at));
    assert!(timeline.wal.iter().all(|piece| piece.segment == 1));
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
    assert!(view.events.iter().any(|event| event.kind == EventKind::Restart));
    assert_eq!(view.bases.last().unwrap().position.timeline, 2, "the new timeline has a base");
}

#[tokio::test]
async fn a_closed_segment_begins_no_timeline() {
    let rig = Rig::new();
    let mut server = rig.server();
    let mut archiver = rig.archiver().await;
    for _ in 0..3 {
        server.scrapes(2);
        server.rotate();
        rig.turns(&mut archiver, 1).await;
    }
    assert_eq!(rig.view().await.timelines.len(), 1);
}

#[tokio::test]
async fn after_a_repair_both_timelines_are_there() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(5);
    server.rotate();
    server.scrapes(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let before = rig.view().await;
    let all = server.written(LogKind::Wal);
    // Four of six records of segment 0 stay, segment 1 is gone, and what was not read yet is only in the spool.
    server.scrapes(1);
    rig.look(&mut archiver).await;
    let unread = server.written(LogKind::Wal).last().cloned();
    server.repair(0, 4);
    server.scrapes(2);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!(newest(&view).fork.reason, ForkReason::Repair, "{:?}", view.events);
    let at = newest(&view).fork.at.unwrap().wal;
    assert_eq!(at.segment, 0);
    let mut expected = all[..4].to_vec();
    expected.extend(server.written(LogKind::Wal)[all.len() + 1..].iter().cloned());
    assert_eq!(rig.archived(&view, LogKind::Wal).await, expected);
    let parent = &view.timelines[&1];
    assert!(parent.end.wal > before.timelines[&1].end.wal, "the unread record was archived");
    let mut whole = all;
    whole.extend(unread);
    assert_eq!(rig.archived_to(&view, LogKind::Wal, &parent.end).await, whole);
}

#[tokio::test]
async fn a_repair_while_no_archiver_ran_is_found_at_the_start() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(5);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    drop(archiver);
    let all = server.written(LogKind::Wal);
    server.repair(0, 3);
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!(newest(&view).fork.reason, ForkReason::Repair);
    let mut expected = all[..3].to_vec();
    expected.extend(server.written(LogKind::Wal)[all.len()..].iter().cloned());
    assert_eq!(rig.archived(&view, LogKind::Wal).await, expected);
    assert_eq!(rig.archived_to(&view, LogKind::Wal, &view.timelines[&1].end).await, all);
}

#[tokio::test]
async fn a_lost_tail_stays_on_the_old_timeline() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(5);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let all = server.written(LogKind::Wal);
    drop(archiver);
    server.lose_tail(9);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 1).await;
    // The server starts, and repairs the torn record.
    server.repair(0, 5);
    server.scrapes(1);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    let mut expected = all[..5].to_vec();
    expected.extend(server.written(LogKind::Wal)[all.len()..].iter().cloned());
    assert_eq!(rig.archived(&view, LogKind::Wal).await, expected);
    assert_eq!(rig.archived_to(&view, LogKind::Wal, &view.timelines[&1].end).await, all);
    let fork = &view.timelines[&2].fork;
    assert_eq!(fork.reason, ForkReason::Repair);
    assert!(fork.at.unwrap().wal.offset > 0, "what is left is not read again");
}

#[tokio::test]
async fn a_segment_with_other_records_is_read_again() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(5);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    drop(archiver);
    // Another log is put in its place, as when a copy is restored.
    let other = Rig::new();
    let mut copy = other.server();
    copy.delete();
    copy.scrapes(7);
    let (from, to) = (other.dir.path().join("wal/00000000"), rig.dir.path().join("wal/00000000"));
    std::fs::copy(from, rig.dir.path().join("copy")).unwrap();
    std::fs::rename(rig.dir.path().join("copy"), to).unwrap();
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert_eq!(newest(&view).fork.reason, ForkReason::Rewritten, "{:?}", view.events);
    assert_eq!(rig.archived(&view, LogKind::Wal).await, copy.written(LogKind::Wal));
}

#[tokio::test]
async fn without_a_spool_the_newest_piece_tells_other_records() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(5);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    drop(archiver);
    std::fs::remove_dir_all(rig.dir.path().join("perennial-spool")).unwrap();
    let mut archiver = rig.archiver().await;
    server.scrapes(1);
    rig.turns(&mut archiver, 2).await;
    assert_eq!(rig.view().await.timelines.len(), 1, "the same records go on");
    drop(archiver);
    std::fs::remove_dir_all(rig.dir.path().join("perennial-spool")).unwrap();
    std::fs::remove_dir_all(rig.dir.path().join("wal")).unwrap();
    let mut other = rig.server();
    other.delete();
    other.scrapes(12);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert_eq!(newest(&view).fork.reason, ForkReason::Rewritten);
    assert_eq!(rig.archived(&view, LogKind::Wal).await, other.written(LogKind::Wal));
}

/// Archives three segments and puts the log of another server in their place, which parts from it in a segment.
async fn replaced_log(parts_in: u32) -> (Rig, ArchiveView, Vec<Vec<u8>>) {
    let (rig, other) = (Rig::new(), Rig::new());
    let (mut server, mut copy) = (rig.server(), other.server());
    for segment in 0..3 {
        server.scrapes(2);
        if segment >= parts_in {
            copy.delete();
            copy.scrapes(12);
        }
        copy.scrapes(2);
        if segment < 2 {
            server.rotate();
            copy.rotate();
        }
    }
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    drop(archiver);
    let wal = rig.dir.path().join("wal");
    std::fs::remove_dir_all(rig.dir.path().join("perennial-spool")).unwrap();
    std::fs::remove_dir_all(&wal).unwrap();
    std::fs::create_dir(&wal).unwrap();
    for n in 0..3 {
        let name = format!("{n:08}");
        std::fs::copy(other.dir.path().join("wal").join(&name), wal.join(&name)).unwrap();
    }
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    (rig, view, copy.written(LogKind::Wal))
}

#[tokio::test]
async fn a_log_that_was_replaced_while_no_archiver_ran_is_read_again_from_its_first_segment() {
    for parts_in in 0..3 {
        let (rig, view, written) = Box::pin(replaced_log(parts_in)).await;
        let timeline = newest(&view);
        assert_eq!((timeline.number, timeline.fork.reason), (2, ForkReason::Rewritten), "{:?}", view.events);
        let at = timeline.fork.at.unwrap().wal;
        assert_eq!(at, LogPosition::default(), "{parts_in}");
        assert_eq!(rig.archived(&view, LogKind::Wal).await, written, "{parts_in}");
    }
}

#[tokio::test]
async fn records_that_nobody_kept_are_a_gap() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(3);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    drop(archiver);
    std::fs::remove_dir_all(rig.dir.path().join("perennial-spool")).unwrap();
    let end = server.position();
    server.scrapes(1);
    server.rotate();
    server.scrapes(1);
    server.rotate();
    rig.clock.advance_ms(600_000);
    server.scrapes_at(rig.clock.now_ms() - 100_000);
    server.checkpoint(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    let timeline = newest(&view);
    assert_eq!((timeline.fork.reason, timeline.fork.at.unwrap().wal), (ForkReason::Gap, end));
    assert_eq!(timeline.wal[0].start_position(), LogPosition { segment: 2, offset: 0 });
    assert_eq!(timeline.wal[0].after_ms, 0);
    let base = view.bases.last().unwrap();
    assert_eq!(base.position.timeline, timeline.number);
    assert_eq!(base.checkpoint.as_ref().unwrap().number, 1);
    let cuts = view.pieces_to(LogKind::Wal, 2, &timeline.end).unwrap();
    assert_eq!(cuts.last().unwrap().piece.end_position(), timeline.end.wal);
    let missing = archiver.uploader.instruments.gaps.get();
    assert!((495.0..=505.0).contains(&missing), "up to the first sample: {missing}");
}

#[tokio::test]
async fn a_log_that_was_removed_and_begun_again_shares_only_what_is_the_same() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(2);
    server.rotate();
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    std::fs::remove_dir_all(rig.dir.path().join("wal")).unwrap();
    let mut again = rig.server();
    again.scrapes(4);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    let at = newest(&view).fork.at.unwrap().wal;
    assert!(at.segment == 0 && at.offset < 200, "the series are the same: {:?}", view.events);
    assert_eq!(rig.archived(&view, LogKind::Wal).await, again.written(LogKind::Wal));
}

/// Archives three segments of both logs.
async fn three_segments() -> Rig {
    let rig = Rig::new();
    let mut server = rig.server();
    for segment in 0..3 {
        server.scrapes(6);
        server.late_sample();
        if segment < 2 {
            server.rotate();
        }
    }
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    rig
}

/// Removes all that is in the data directory, the spool as well.
fn remove_all(rig: &Rig) {
    for entry in std::fs::read_dir(rig.dir.path()).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}

/// Puts the beginning of a log in its place, without a spool, and a server that goes on from there in a new segment.
fn brought_back(rig: &Rig, scrapes: usize) -> Server {
    remove_all(rig);
    let mut again = rig.server();
    again.scrapes(scrapes);
    again.crash();
    again
}

#[tokio::test]
async fn a_directory_that_was_brought_back_to_an_earlier_time_is_read_whole() {
    // The newest segment is shorter than what is archived of that number, or has a smaller number.
    for (scrapes, rotations) in [(1, 0), (8, 0), (1, 1), (8, 1), (1, 2), (1, 4)] {
        let rig = Box::pin(three_segments()).await;
        let mut again = brought_back(&rig, scrapes);
        let mut opening = rig.opening().await;
        for rotation in 0..=rotations {
            again.scrapes(2);
            again.late_sample();
            rig.clock.advance_ms(1_000);
            opening.keep().await.unwrap();
            if rotation < rotations {
                again.rotate();
            }
        }
        // What was kept meanwhile counts although the server has truncated it.
        if rotations > 1 {
            again.truncate_before(2);
            rig.clock.advance_ms(1_000);
            opening.keep().await.unwrap();
        }
        let mut archiver = rig.open_at_once(opening).await;
        rig.turns(&mut archiver, 2).await;
        again.scrapes(2);
        again.late_sample();
        rig.turns(&mut archiver, 2).await;
        let view = rig.view().await;
        let what = format!("{scrapes} scrapes, {rotations} rotations: {:?}", view.events);
        assert_eq!((newest(&view).number, newest(&view).fork.reason), (2, ForkReason::Rewritten), "{what}");
        for log in [LogKind::Wal, LogKind::Wbl] {
            assert_eq!(rig.archived(&view, log).await, again.written(log), "{log:?}, {what}");
        }
    }
}

#[tokio::test]
async fn a_log_that_begins_anew_after_the_archiver_is_read_whole() {
    for with_late in [false, true] {
        let rig = Box::pin(three_segments()).await;
        remove_all(&rig);
        let mut archiver = rig.archiver().await;
        rig.clock.advance_ms(50);
        archiver.look(archiver.now(), true).await.unwrap();
        let mut again = rig.server();
        again.scrapes(1);
        if with_late {
            again.late_sample();
        }
        rig.turns(&mut archiver, 2).await;
        again.scrapes(3);
        again.late_sample();
        rig.turns(&mut archiver, 2).await;
        let view = rig.view().await;
        for log in [LogKind::Wal, LogKind::Wbl] {
            assert_eq!(rig.archived(&view, log).await, again.written(log), "{log:?}: {:?}", view.events);
        }
    }
}

#[tokio::test]
async fn a_timeline_may_leave_its_parent_before_that_left_its_own() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(5);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    server.crash();
    rig.turns(&mut archiver, 2).await;
    assert_eq!(newest(&rig.view().await).fork.reason, ForkReason::Restart);
    let all = server.written(LogKind::Wal);
    server.repair(0, 3);
    server.scrapes(2);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!((newest(&view).number, newest(&view).fork.parent), (3, Some(2)), "{:?}", view.events);
    let mut expected = all[..3].to_vec();
    expected.extend(server.written(LogKind::Wal)[all.len()..].iter().cloned());
    assert_eq!(rig.archived(&view, LogKind::Wal).await, expected);
    assert_eq!(view.holes(LogKind::Wal).len(), 0, "{:?}", view.holes(LogKind::Wal));
}

#[tokio::test]
async fn a_delete_in_the_log_is_an_event_before_its_record() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let before = server.position();
    server.delete();
    server.scrapes(1);
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    let event = view.events.iter().find(|event| event.kind == EventKind::Delete).unwrap();
    assert_eq!(event.position.wal, before);
    assert!(event.detail.contains("1 series"), "{event:?}");
    assert!(event.at_ms > rig::START_MS);
}

#[tokio::test]
async fn damage_in_a_segment_that_the_server_left_is_a_gap() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    server.scrapes(2);
    rig.turns(&mut archiver, 2).await;
    let end = server.position();
    server.scrapes(3);
    let _damaged = server.damage(5);
    server.rotate();
    server.scrapes(2);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!(newest(&view).fork.reason, ForkReason::Gap, "{:?}", view.events);
    assert!(newest(&view).fork.at.unwrap().wal > end, "what could be read is archived");
    assert_eq!(newest(&view).wal[0].start_position(), LogPosition { segment: 1, offset: 0 });
    let event = view.events.iter().find(|event| event.kind == EventKind::Gap).unwrap();
    assert!(event.detail.contains("segment 0 of the Wal is damaged"), "{event:?}");
    assert_eq!(archiver.uploader.instruments.lag.get(), 0.0);
}

#[tokio::test]
async fn damage_at_the_end_of_the_log_waits_for_what_the_server_makes_of_it() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    server.scrapes(2);
    rig.turns(&mut archiver, 2).await;
    let before = rig.view().await;
    server.scrapes(3);
    let put_right = server.damage(5);
    rig.turns(&mut archiver, 20).await;
    let lag = archiver.uploader.instruments.lag.get();
    assert!((19.0..21.0).contains(&lag), "{lag}");
    assert!(rig.view().await.last_made.wall_ms <= before.last_made.wall_ms + 2_000);
    put_right();
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert_eq!(view.timelines.len(), 1);
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
    assert_eq!(archiver.uploader.instruments.lag.get(), 0.0);
}

#[tokio::test]
async fn damage_at_the_end_of_the_log_that_the_server_repairs_forks() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    server.scrapes(2);
    rig.turns(&mut archiver, 2).await;
    server.scrapes(3);
    let _damaged = server.damage(5);
    rig.turns(&mut archiver, 3).await;
    let all = server.written(LogKind::Wal);
    server.repair(0, 5);
    server.scrapes(1);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!(newest(&view).fork.reason, ForkReason::Repair, "{:?}", view.events);
    let mut expected = all[..5].to_vec();
    expected.extend(server.written(LogKind::Wal)[all.len()..].iter().cloned());
    assert_eq!(rig.archived(&view, LogKind::Wal).await, expected);
    assert_eq!(archiver.uploader.instruments.lag.get(), 0.0);
}
