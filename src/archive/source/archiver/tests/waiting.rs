use super::rig::{Rig, Server};
use super::*;

/// Lets an archiver keep what is there, once a second, without its archive.
async fn keep(rig: &Rig, opening: &mut Opening, seconds: usize) {
    for _ in 0..seconds * 4 {
        rig.clock.advance_ms(250);
        opening.keep().await.unwrap();
    }
}

fn archived_once(rig: &Rig) -> futures::future::BoxFuture<'_, Server> {
    Box::pin(async {
        let mut server = rig.server();
        server.scrapes(2);
        let mut archiver = rig.archiver().await;
        rig.turns(&mut archiver, 2).await;
        server
    })
}

#[tokio::test]
async fn an_archiver_without_a_store_keeps_the_log_and_the_times_at_which_it_was_written() {
    let rig = Rig::new();
    let mut server = archived_once(&rig).await;
    rig.store.fail_at_random(random_from_seed(1), 100);
    let mut opening = rig.opening().await;
    let mut moments = Vec::new();
    for _ in 0..4 {
        server.scrapes(2);
        server.late_sample();
        keep(&rig, &mut opening, 2).await;
        moments.push((rig.clock.now_ms(), server.written(LogKind::Wal).len()));
        server.rotate();
    }
    server.scrapes(1);
    keep(&rig, &mut opening, 1).await;
    assert!((8.0..10.0).contains(&opening.lag()), "{}", opening.lag());
    server.truncate_before(3);
    keep(&rig, &mut opening, 2).await;
    rig.store.stop_failing();
    let mut archiver = rig.open_at_once(opening).await;
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!(view.timelines.len(), 1, "{:?}", view.events);
    for log in [LogKind::Wal, LogKind::Wbl] {
        assert_eq!(rig.archived(&view, log).await, server.written(log));
    }
    for (at_ms, records) in moments {
        assert_eq!(records_as_of(&rig, at_ms).await, (1, records), "{at_ms}");
    }
}

#[tokio::test]
async fn an_archiver_whose_store_comes_back_opens_by_itself() {
    let rig = Rig::new();
    let mut server = archived_once(&rig).await;
    std::fs::remove_dir_all(rig.dir.path().join("perennial-spool")).unwrap();
    rig.store.fail_at_random(random_from_seed(1), 100);
    let opening = rig.opening().await;
    let (opened, is_open) = tokio::sync::oneshot::channel();
    let running = tokio::spawn(opening.run(|| opened.send(()).unwrap()));
    server.scrapes(1);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if !rig.spooled().is_empty() {
            break;
        }
    }
    assert_eq!(rig.spooled(), ["wal/00000000"]);
    rig.store.stop_failing();
    is_open.await.unwrap();
    rig.stop.start();
    running.await.unwrap().unwrap();
    let view = rig.view().await;
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
}

#[tokio::test]
async fn a_store_that_can_never_be_used_is_told_at_once() {
    let rig = Rig::new();
    rig.store.plan_puts(&[Fault::None, Fault::ConditionIgnored]);
    let failure = rig.opening().await.run(|| {}).await.unwrap_err();
    assert_eq!(failure.kind().exit_code(), 2, "{failure}");
}

#[tokio::test]
async fn a_log_that_was_rewritten_is_kept_while_what_was_before_cannot_be_read() {
    let rig = Rig::new();
    let mut server = rig.server();
    server.scrapes(3);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    let before = server.written(LogKind::Wal);
    // The store goes away, and the server repairs its log, goes on and truncates.
    rig.store.fail_at_random(random_from_seed(1), 100);
    server.scrapes(1);
    let step = async |archiver: &mut Archiver, seconds: usize| {
        for _ in 0..seconds {
            rig.clock.advance_ms(1_000);
            archiver.step().await.unwrap();
        }
    };
    step(&mut archiver, 3).await;
    let unread = server.written(LogKind::Wal);
    server.repair(0, before.len());
    for _ in 0..3 {
        server.scrapes(1);
        step(&mut archiver, 2).await;
        server.rotate();
    }
    step(&mut archiver, 2).await;
    server.truncate_before(3);
    step(&mut archiver, 3).await;
    rig.store.stop_failing();
    rig.turns(&mut archiver, 6).await;
    let view = rig.view().await;
    let reasons: Vec<ForkReason> = view.timelines.values().map(|timeline| timeline.fork.reason).collect();
    assert_eq!(reasons, [ForkReason::Start, ForkReason::Repair], "{:?}", view.events);
    assert_eq!(rig.archived_to(&view, LogKind::Wal, &view.timelines[&1].end).await, unread);
    let mut expected = before.clone();
    expected.extend(server.written(LogKind::Wal)[unread.len()..].iter().cloned());
    assert_eq!(rig.archived(&view, LogKind::Wal).await, expected);
}
