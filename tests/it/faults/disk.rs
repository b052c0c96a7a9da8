//! Disks that are full, and disks that fail.

use std::path::PathBuf;
use std::time::Duration;

use super::book::Book;
use crate::support::{Setup, SmallDisk, Strace, local_bucket_config};

/// Returns the files of the log, in order.
fn segments(setup: &Setup) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = crate::support::files_below(&setup.data_dir().join("log"));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_volume_answers_503_loses_nothing_and_takes_writes_again_once_there_is_room() {
    let test = "a_full_log_volume_answers_503_loses_nothing_and_takes_writes_again_once_there_is_room";
    let Some(disk) = SmallDisk::mount(test, 64 << 10) else { return };
    let setup = Setup::standalone().data_dir_at(&disk.path().join("data"));
    let bucket = setup.folder().join("bucket");
    let setup = setup.bucket(&local_bucket_config(&bucket)).flags(&["--head.cut-interval=1h"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 50);
    book.send_well(10).await;
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0u8; 60 << 20]).unwrap();

    let refused = book.send_until(503, 200, Duration::from_secs(120)).await;
    assert_eq!(refused.retry_after.as_deref(), Some("5"), "{}", refused.body);
    assert!(refused.body.contains("log"), "{}", refused.body);
    for _ in 0..5 {
        let again = book.send(200).await.unwrap();
        assert_eq!(again.status, 503, "the disk is still full: {}", again.body);
    }
    assert_ne!(perennial.try_flush().await.unwrap().0, 200, "there is no room for a block either");
    book.check(&setup, "while the disk is full").await;

    std::fs::remove_file(&ballast).unwrap();
    book.send_well(10).await;
    book.send_well(10).await;
    perennial.kill();
    let perennial = setup.start().await;
    book.check(&setup, "after a kill").await;
    perennial.flush().await;
    book.check(&setup, "from blocks").await;
    perennial.stop();
    assert!(segments(&setup).is_empty(), "the log is let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_folder_that_runs_full_delays_blocks_and_neither_loses_nor_stops_anything() {
    let test = "a_bucket_folder_that_runs_full_delays_blocks_and_neither_loses_nor_stops_anything";
    let Some(disk) = SmallDisk::mount(test, 1 << 10) else { return };
    let setup = Setup::standalone().bucket(&local_bucket_config(&disk.path().join("bucket")));
    let setup = setup.flags(&["--head.cut-interval=1h"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 100);
    book.send_well(20).await;
    perennial.flush().await;
    let ballast = disk.path().join("ballast");
    // All but a few pages: catalog versions fail as blocks do.
    let free = || std::fs::write(&ballast, vec![0u8; 1 << 20]);
    assert!(free().is_err(), "the ballast fills the disk");
    book.send_well(500).await;
    let (status, answer) = perennial.try_flush().await.unwrap();
    assert_eq!(status, 503, "{answer}");
    book.send_well(10).await;
    book.check(&setup, "while the bucket's disk is full").await;

    perennial.kill();
    let perennial = setup.start().await;
    book.send_well(10).await;
    disk.resize(64 << 10);
    perennial.flush().await;
    book.check(&setup, "with room").await;
    perennial.stop();
    assert!(segments(&setup).is_empty(), "the log is let go");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_fsync_the_file_takes_no_further_acknowledgement() {
    let test = "after_a_failed_fsync_the_file_takes_no_further_acknowledgement";
    let setup = Setup::standalone().flags(&["--head.cut-interval=1h"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 20);
    book.send_well(10).await;
    let before = segments(&setup);
    let inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"];
    let Some(strace) = Strace::attach(test, perennial.process.pid(), &inject) else { return };
    let refused = book.send(10).await.unwrap();
    assert_eq!((refused.status, refused.retry_after.as_deref()), (503, Some("5")), "{}", refused.body);
    assert_eq!(book.send(10).await.unwrap().status, 503, "nor does a new file while its fsync fails");
    drop(strace);
    book.send_well(10).await;
    let after = segments(&setup);
    assert_eq!(
        after.len(),
        before.len() + 1,
        "{before:?} {after:?}: what came later is in a file of its own"
    );
    book.check(&setup, "after failed fsyncs").await;
    perennial.kill();
    let perennial = setup.start().await;
    book.check(&setup, "after failed fsyncs and a kill").await;
    perennial.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_finds_no_space_ends_its_file_and_the_next_one_goes_on() {
    let test = "a_write_that_finds_no_space_ends_its_file_and_the_next_one_goes_on";
    let setup = Setup::standalone().flags(&["--head.cut-interval=1h"]);
    let perennial = setup.start().await;
    let mut book = Book::new(&setup, 20);
    book.send_well(10).await;
    let before = segments(&setup);
    let path = before.last().unwrap().to_str().unwrap().to_owned();
    let inject = ["-P", &path, "-e", "trace=write", "-e", "inject=write:error=ENOSPC"];
    let Some(strace) = Strace::attach(test, perennial.process.pid(), &inject) else { return };
    let refused = book.send(10).await.unwrap();
    assert_eq!((refused.status, refused.retry_after.as_deref()), (503, Some("5")), "{}", refused.body);
    book.send_well(10).await;
    drop(strace);
    book.send_well(10).await;
    assert_eq!(segments(&setup).len(), before.len() + 1);
    perennial.kill();
    let perennial = setup.start().await;
    book.check(&setup, "after a write without space and a kill").await;
    perennial.stop();
}
