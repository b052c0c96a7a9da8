//! Disks that run full: the store's, and the one that is restored to.

use std::path::PathBuf;
use std::time::Duration;

use crate::restore::scene::{check_known, scene};
use crate::support::{
    ArchiverSetup, Load, SmallDisk, TsdbOptions, TsdbServer, installed, local_bucket_config, now_ms,
    path_text, time_text,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_runs_full_delays_the_archive_and_loses_nothing() {
    let test = "a_store_that_runs_full_delays_the_archive_and_loses_nothing";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let Some(disk) = SmallDisk::mount(test, 64) else { return };
    let mut server = TsdbServer::new(TsdbOptions { scrape_itself: true, ..TsdbOptions::default() });
    server.start().await;
    let setup = ArchiverSetup::new(&server, &local_bucket_config(disk.path()));
    let mut archiver = setup.launch();
    let load = Load::start(server.remote_write(), 100, Duration::from_millis(100));
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(archiver.ended().is_none(), "a full disk is no end:\n{}", archiver.process.log_tail());
    disk.resize(64 << 10);
    archiver.catch_up().await;
    let end_ms = now_ms();
    let book = load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    let folder = tempfile::tempdir().unwrap();
    let to: PathBuf = folder.path().join("data");
    setup.restore().as_of(end_ms, &to);
    let restored = TsdbServer::opened(&to).await.samples().await;
    check_known(&book, &restored, end_ms, "after the store was full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_room_is_refused_or_left_clean_and_resumes_with_more() {
    let test = "a_target_without_room_is_refused_or_left_clean_and_resumes_with_more";
    let Some(scene) = scene(test).await else { return };
    let Some(disk) = SmallDisk::mount(test, 192) else { return };
    let (to, time_ms) = (disk.path().join("data"), scene.window_ms.1);
    let at = time_text(time_ms);
    let output = scene.restore().output("run", &["--as-of", &at, "--to", path_text(&to), "--yes"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some_and(|code| code != 0 && code != 1), "{}: {said}", output.status);
    assert!(!to.exists(), "no directory appears");
    assert!(said.contains("disk") || said.contains("space") || said.contains("free"), "{said}");
    disk.resize(256 << 10);
    scene.restore().as_of(time_ms, &to);
    scene.check_as_of(&to, time_ms).await;
}
