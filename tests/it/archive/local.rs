//! What the archiver finds on the server's own disk: its spool damaged, and a mount that it may only read.

use std::process::Command;
use std::time::Duration;

use rand::Rng;

use crate::restore::scene::check_known;
use crate::support::{
    ArchiverSetup, Load, LocalBucket, TsdbOptions, TsdbServer, files_below, installed, now_ms, path_text,
    say_skipped, seeded, tree,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_damaged_or_gone_costs_nothing_that_the_server_still_has() {
    let test = "a_spool_that_is_damaged_or_gone_costs_nothing_that_the_server_still_has";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let mut random = seeded(test);
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::default());
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    let spool = server.data_dir().join("perennial-spool");
    for how in ["flip", "truncate", "delete", "all"] {
        let archiver = setup.start().await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        archiver.kill();
        for file in files_below(&spool) {
            // Links are the server's own files; only what the archiver wrote itself is damaged.
            let own = std::os::unix::fs::MetadataExt::nlink(&file.metadata().unwrap()) == 1;
            let linked =
                file.components().any(|part| ["wal", "wbl", "blocks"].iter().any(|n| part.as_os_str() == *n));
            let mut bytes = std::fs::read(&file).unwrap();
            if !own || linked || bytes.is_empty() {
                continue;
            }
            match how {
                "flip" => {
                    let at = random.random_range(0..bytes.len());
                    bytes[at] ^= 1 << random.random_range(0..8);
                    std::fs::write(&file, bytes).unwrap();
                }
                "truncate" => std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap(),
                _ => std::fs::remove_file(&file).unwrap(),
            }
        }
        if how == "all" {
            std::fs::remove_dir_all(&spool).unwrap();
        }
    }
    let archiver = setup.start().await;
    let book = load.stop().await;
    archiver.catch_up().await;
    let end_ms = now_ms();
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("data");
    setup.restore().as_of(end_ms, &to);
    let restored = TsdbServer::opened(&to).await.samples().await;
    check_known(&book, &restored, end_ms, "after damage of the spool");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_mount_is_archived_with_open_descriptors_and_stays_untouched() {
    let test = "a_read_only_mount_is_archived_with_open_descriptors_and_stays_untouched";
    if !installed(test, &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions { scrape_itself: false, ..TsdbOptions::short_blocks() });
    server.start().await;
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("view");
    std::fs::create_dir(&mount).unwrap();
    let bound = Command::new("mount")
        .args(["--bind", "-o", "ro", path_text(server.data_dir()), path_text(&mount)])
        .output()
        .is_ok_and(|output| output.status.success());
    if !bound {
        return say_skipped(test, "permission to mount read-only");
    }
    let setup = ArchiverSetup::new(&server, &bucket.config()).data_dir(&mount);
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 10, Duration::from_millis(200));
    tokio::time::sleep(Duration::from_secs(20)).await;
    archiver.catch_up().await;
    let end_ms = now_ms();
    let book = load.stop().await;
    archiver.catch_up().await;
    let log = archiver.process.log();
    archiver.stop();
    server.stop();
    let unmounted = Command::new("umount").arg(&mount).status().unwrap();
    assert!(unmounted.success(), "the archiver holds nothing any more");
    assert!(!server.data_dir().join("perennial-spool").exists(), "nothing is written");
    assert!(log.contains("held open"), "it says how it reads: {log}");
    let to = folder.path().join("data");
    setup.restore().as_of(end_ms, &to);
    assert!(!tree(&to).is_empty());
    let restored = TsdbServer::opened(&to).await.samples().await;
    check_known(&book, &restored, end_ms, "read through a read-only mount");
}
