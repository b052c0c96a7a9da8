use std::fs;

use super::rig::Rig;
use super::*;

async fn look_away(rig: &Rig, archiver: &mut Archiver, hide: impl FnOnce(), show: impl FnOnce()) {
    let (before, success) = (rig.view().await, archiver.uploader.instruments.last_success.get());
    hide();
    rig.turns(archiver, 30).await;
    let instruments = &archiver.uploader.instruments;
    assert!((29.0..32.0).contains(&instruments.lag.get()), "{}", instruments.lag.get());
    assert_eq!(instruments.last_success.get(), success);
    let blind = rig.view().await;
    assert_eq!((blind.end.seq, blind.last_made), (before.end.seq, before.last_made), "nothing is claimed");
    // What is told meanwhile says nothing of the time that was not seen.
    archiver.tailer().tell(EventKind::ArchiverStop, rig.clock.now_ms(), String::new());
    rig.turns(archiver, 2).await;
    let told = rig.view().await;
    assert!(told.end.seq > before.end.seq);
    assert!(told.last_made.wall_ms <= before.last_made.wall_ms + 1_000, "{:?}", told.last_made);
    show();
    rig.turns(archiver, 12).await;
    assert_eq!(archiver.uploader.instruments.lag.get(), 0.0);
    assert!(rig.view().await.last_made.wall_ms > told.last_made.wall_ms + 30_000);
}

#[tokio::test]
async fn a_log_that_is_gone_shows_as_lag_and_stops_the_heartbeat() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    server.scrapes(2);
    rig.turns(&mut archiver, 2).await;
    let (wal, away) = (rig.dir.path().join("wal"), rig.dir.path().join("away"));
    let (hide, show) = (|| fs::rename(&wal, &away).unwrap(), || fs::rename(&away, &wal).unwrap());
    look_away(&rig, &mut archiver, hide, show).await;
    server.scrapes(1);
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert_eq!(view.timelines.len(), 1);
    assert_eq!(rig.archived(&view, LogKind::Wal).await, server.written(LogKind::Wal));
}

#[tokio::test]
async fn a_log_that_cannot_be_listed_shows_as_lag_and_stops_the_heartbeat() {
    let rig = Rig::new();
    let (mut server, mut archiver) = (rig.server(), rig.archiver().await);
    server.scrapes(2);
    rig.turns(&mut archiver, 2).await;
    let wbl = rig.dir.path().join("wbl");
    let (hide, show) = (|| fs::write(&wbl, "no folder").unwrap(), || fs::remove_file(&wbl).unwrap());
    look_away(&rig, &mut archiver, hide, show).await;
}

#[tokio::test]
async fn a_server_that_was_not_started_yet_is_no_failure() {
    let rig = Rig::new();
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 30).await;
    assert_eq!(archiver.uploader.instruments.lag.get(), 0.0);
}
