//! An object store that fails in every way, in front of a real one.

use std::time::Duration;

use crate::restore::scene::check_known;
use crate::support::{
    ArchiverSetup, Fault, FaultProxy, Load, Python, S3Server, TsdbOptions, TsdbServer, installed, now_ms,
    path_text, time_text,
};

const FAULTS: [(Fault, &str); 5] = [
    (Fault::Unavailable, "503"),
    (Fault::Refused, "refused connections"),
    (Fault::ReplyLost, "lost replies"),
    (Fault::ReplyCut, "cut replies"),
    (Fault::Slow(Duration::from_millis(1_500)), "slow answers"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_fails_in_every_way_costs_time_but_no_data() {
    let test = "an_object_store_that_fails_in_every_way_costs_time_but_no_data";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let Some(python) = Python::find(test) else { return };
    let store = S3Server::start(&python).await;
    let proxy = FaultProxy::start(&store.endpoint()).await;
    let config = store.objstore_config().replace(&store.endpoint(), &proxy.endpoint());
    let mut server = TsdbServer::new(TsdbOptions { scrape_itself: false, ..TsdbOptions::short_blocks() });
    server.start().await;
    let setup = ArchiverSetup::new(&server, &config);
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    archiver.catch_up().await;
    for (fault, name) in FAULTS {
        let before = proxy.hit();
        proxy.set(fault);
        tokio::time::sleep(Duration::from_secs(4)).await;
        if fault == Fault::Unavailable {
            let lag = archiver.metric("perennial_archive_lag_seconds").await;
            assert!(lag > 1.0, "an outage shows as lag: {lag}");
        }
        proxy.set(Fault::None);
        assert!(proxy.hit() > before, "{name} was met");
        archiver.catch_up().await;
    }
    let end_ms = now_ms();
    let book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    // The same faults on the way back: a restore either waits and succeeds, or stops cleanly and is run again.
    let folder = tempfile::tempdir().unwrap();
    for (number, (fault, name)) in FAULTS.into_iter().enumerate() {
        let to = folder.path().join(format!("data-{number}"));
        let at = time_text(end_ms);
        let mut child = setup
            .restore()
            .command("run", &["--as-of", &at, "--to", path_text(&to), "--yes"])
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.set(fault);
        tokio::time::sleep(Duration::from_millis(700)).await;
        proxy.set(Fault::None);
        let status = child.wait().unwrap();
        if !status.success() {
            assert_eq!(status.code(), Some(6), "{name}: unavailable, try again");
            assert!(!to.exists(), "{name}");
            setup.restore().as_of(end_ms, &to);
        }
        if number == 0 {
            let restored = TsdbServer::opened(&to).await.samples().await;
            check_known(&book, &restored, end_ms, name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archiver_started_while_the_store_is_away_links_at_once_and_loses_nothing() {
    let test = "an_archiver_started_while_the_store_is_away_links_at_once_and_loses_nothing";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let Some(python) = Python::find(test) else { return };
    let store = S3Server::start(&python).await;
    let proxy = FaultProxy::start(&store.endpoint()).await;
    let config = store.objstore_config().replace(&store.endpoint(), &proxy.endpoint());
    let mut server = TsdbServer::new(TsdbOptions { scrape_itself: false, ..TsdbOptions::short_blocks() });
    server.start().await;
    let setup = ArchiverSetup::new(&server, &config);
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    let archiver = setup.start().await;
    archiver.catch_up().await;
    archiver.stop();
    // Nothing is kept from before: what is truncated from now on is lost unless the archiver links it.
    let spool = server.data_dir().join("perennial-spool");
    std::fs::remove_dir_all(&spool).unwrap();
    proxy.set(Fault::Refused);
    let mut archiver = setup.launch();
    server.wait_for_truncation().await;
    assert!(archiver.ended().is_none(), "it goes on without a store:\n{}", archiver.process.log_tail());
    let linked = std::fs::read_dir(spool.join("wal")).unwrap().count();
    assert!(linked > 1, "{linked}");
    let lag = archiver.metric("perennial_archive_lag_seconds").await;
    assert!(lag > 5.0, "{lag}");
    let away_ms = now_ms() - 2_000;
    proxy.set(Fault::None);
    archiver.catch_up().await;
    let end_ms = now_ms();
    let book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    let folder = tempfile::tempdir().unwrap();
    for (time_ms, name) in [(away_ms, "while the store was away"), (end_ms, "after it came back")] {
        let to = folder.path().join(time_ms.to_string());
        setup.restore().as_of(time_ms, &to);
        let restored = TsdbServer::opened(&to).await.samples().await;
        check_known(&book, &restored, time_ms, name);
    }
}
