use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use super::*;

fn open(folder: &Path) -> DurableFiles {
    DurableFiles::open(folder).unwrap()
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

async fn listed(files: &DurableFiles) -> Vec<String> {
    let objects: Vec<ObjectMeta> = files.list(None).try_collect().await.unwrap();
    objects.into_iter().map(|meta| meta.location.to_string()).collect()
}

#[tokio::test]
async fn a_second_create_is_refused_and_leaves_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(&folder.path().join("new/bucket"));
    let path = StorePath::from("a/b/c");
    files.put_opts(&path, "one".into(), create()).await.unwrap();
    let second = files.put_opts(&path, "two".into(), create()).await;
    assert!(matches!(second, Err(Error::AlreadyExists { .. })));
    assert_eq!(files.get(&path).await.unwrap().bytes().await.unwrap(), "one");
    files.put_opts(&path, "three".into(), PutOptions::default()).await.unwrap();
    assert_eq!(files.get(&path).await.unwrap().bytes().await.unwrap(), "three");
    let names: Vec<_> = std::fs::read_dir(files.root().join("a/b")).unwrap().collect();
    assert_eq!(names.len(), 1, "no staging file stays: {names:?}");
}

#[tokio::test]
async fn an_unfinished_upload_is_neither_listed_nor_read() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(folder.path());
    let path = StorePath::from("blocks/x");
    let mut upload = files.put_multipart_opts(&path, PutMultipartOptions::default()).await.unwrap();
    let (first, second) = (upload.put_part("first ".into()), upload.put_part("second".into()));
    // Parts may be sent in any order.
    second.await.unwrap();
    assert_eq!(listed(&files).await, Vec::<String>::new());
    assert!(matches!(files.get(&path).await, Err(Error::NotFound { .. })));
    assert!(files.list_with_delimiter(Some(&StorePath::from("blocks"))).await.unwrap().objects.is_empty());
    first.await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(listed(&files).await, ["blocks/x"]);
    assert_eq!(files.get(&path).await.unwrap().bytes().await.unwrap(), "first second");
}

#[tokio::test]
async fn what_a_dead_process_left_is_removed_when_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(folder.path());
    files.put_opts(&StorePath::from("t/real"), "x".into(), create()).await.unwrap();
    let (old, young) = (folder.path().join("t/real#100000001"), folder.path().join("t/real#200000002"));
    for path in [&old, &young] {
        std::fs::write(path, b"half").unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "the file system has its own clock")]
    let two_hours_ago = SystemTime::now() - Duration::from_secs(7200);
    for path in [&old, &folder.path().join("t/real")] {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(two_hours_ago).unwrap();
    }
    let files = open(folder.path());
    assert!(!old.exists() && young.exists());
    assert_eq!(listed(&files).await, ["t/real"]);
}

#[tokio::test]
async fn a_staging_name_that_is_taken_is_stepped_over() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(folder.path());
    let taken = folder.path().join(format!("x#{}00000000", std::process::id()));
    std::fs::write(&taken, b"another process's").unwrap();
    files.put_opts(&StorePath::from("x"), "mine".into(), create()).await.unwrap();
    assert_eq!(std::fs::read(&taken).unwrap(), b"another process's");
    assert_eq!(files.get(&StorePath::from("x")).await.unwrap().bytes().await.unwrap(), "mine");
}

#[tokio::test]
async fn after_a_failed_fsync_a_folder_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(folder.path());
    let (inside, outside) = (StorePath::from("bad/x"), StorePath::from("good/x"));
    files.put_opts(&inside, "1".into(), create()).await.unwrap();
    files.0.known().failed.insert(files.root().join("bad"));
    for path in ["bad/y", "bad/deeper/y"] {
        let refused = files.put_opts(&StorePath::from(path), "2".into(), create()).await.unwrap_err();
        assert!(refused.to_string().contains("restarted"), "{refused}");
    }
    assert!(files.confirm(&inside).await.is_err());
    assert_eq!(listed(&files).await, ["bad/x"]);
    files.put_opts(&outside, "3".into(), create()).await.unwrap();
    assert!(files.confirm(&outside).await.is_ok());
}

#[tokio::test]
async fn a_folder_that_did_not_open_for_its_fsync_takes_more_later() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(folder.path());
    let path = StorePath::from("t/x");
    assert!(files.confirm(&path).await.is_err(), "nothing there could be synced");
    files.put_opts(&path, "1".into(), create()).await.unwrap();
    files.confirm(&path).await.unwrap();
}

#[tokio::test]
async fn folders_removed_meanwhile_are_made_and_synced_again() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(folder.path());
    let path = StorePath::from("t/u/x");
    files.put_opts(&path, "1".into(), create()).await.unwrap();
    assert!(files.0.known().entered.contains(&files.root().join("t/u")));
    std::fs::remove_dir_all(folder.path().join("t")).unwrap();
    files.put_opts(&path, "2".into(), create()).await.unwrap();
    assert_eq!(files.get(&path).await.unwrap().bytes().await.unwrap(), "2");
}
