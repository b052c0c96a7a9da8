//! Restores that stopped in the middle, and restores onto what is there.

use std::os::unix::fs::MetadataExt;

use object_store::ObjectStoreExt;
use rig::{Rig, floats, series, tree};

use super::rig;
use crate::archive::Target;
use crate::bucket::LogKind;
use crate::model::ErrorKind;
use crate::restore::*;

async fn some_blocks() -> Rig {
    let mut rig = Rig::new();
    for start in [700_000, 800_000, 900_000] {
        let samples: Vec<(i64, f64)> = (0..50).map(|i| (start + i * 1_000, i as f64)).collect();
        rig.block(&[("a", &samples), ("b", &samples)], (start, start + 100_000), false).await;
    }
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_100, 1.0)])]).await;
    rig.log(LogKind::Wal, &[floats(&[(1, 1_001_100, 2.0)])]).await;
    rig
}

#[tokio::test]
async fn a_restore_that_stops_at_any_object_goes_on_with_the_same_bytes() {
    let rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let whole = RestoreRequest { to: rig.dir.path().join("whole"), ..request.clone() };
    rig.run(&whole).await.unwrap();
    let expected = tree(&whole.to);
    let mut keys = rig.objects("blocks/").await;
    keys.extend(rig.objects("/wal/").await);
    for key in keys {
        let bytes = rig.store.get(&key).await.unwrap().bytes().await.unwrap();
        rig.store.delete(&key).await.unwrap();
        let error = rig.run(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{key}: {error}");
        assert!(!rig.to().exists());
        rig.store.put(&key, bytes.into()).await.unwrap();
        rig.run(&request).await.unwrap();
        assert_eq!(tree(&rig.to()), expected, "{key}");
        std::fs::remove_dir_all(rig.to()).unwrap();
    }
    assert!(!rig.dir.path().join("restored.restore").exists());
}

#[tokio::test]
async fn what_was_fetched_and_then_spoilt_is_fetched_again() {
    let rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let last = rig.objects("/wal/").await.pop().unwrap();
    let bytes = rig.store.get(&last).await.unwrap().bytes().await.unwrap();
    rig.store.delete(&last).await.unwrap();
    rig.run(&request).await.unwrap_err();
    rig.store.put(&last, bytes.into()).await.unwrap();
    let work = rig.dir.path().join("restored.restore");
    for (path, _) in tree(&work) {
        if path.starts_with("data") || path.starts_with("stage") {
            let mut bytes = std::fs::read(work.join(&path)).unwrap();
            bytes[0] ^= 1;
            std::fs::write(work.join(&path), bytes).unwrap();
        }
    }
    rig.run(&request).await.unwrap();
    let whole = RestoreRequest { to: rig.dir.path().join("whole"), ..request };
    rig.run(&whole).await.unwrap();
    assert_eq!(tree(&rig.to()), tree(&whole.to));
}

#[tokio::test]
async fn an_unfinished_restore_of_something_else_is_kept_unless_told_otherwise() {
    let rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let last = rig.objects("/wal/").await.pop().unwrap();
    let bytes = rig.store.get(&last).await.unwrap().bytes().await.unwrap();
    rig.store.delete(&last).await.unwrap();
    rig.run(&request).await.unwrap_err();
    rig.store.put(&last, bytes.into()).await.unwrap();
    let other = RestoreRequest { target: Target::Until(950_000), ..request };
    let error = rig.run(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("--restart"), "{error}");
    rig.run(&RestoreRequest { restart: true, ..other }).await.unwrap();
}

#[tokio::test]
async fn delta_keeps_files_that_are_right_and_fetches_the_others() {
    let rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    rig.run(&request).await.unwrap();
    let expected = tree(&rig.to());
    let kept = rig.to().join(rig.blocks[0].id.to_string()).join("index");
    let inode = std::fs::metadata(&kept).unwrap().ino();
    let spoilt = rig.to().join(rig.blocks[1].id.to_string()).join("index");
    let mut bytes = std::fs::read(&spoilt).unwrap();
    bytes[9] ^= 4;
    std::fs::write(&spoilt, &bytes).unwrap();
    std::fs::remove_file(rig.to().join(rig.blocks[2].id.to_string()).join("meta.json")).unwrap();
    let delta = RestoreRequest { delta: true, confirmed: true, ..request };
    let plan = rig.plan(&delta).await.unwrap();
    assert!(plan.fetch.local_bytes > 0 && plan.fetch.objects == 2 + 2 + 2, "{:?}", plan.fetch);
    let report = rig.run(&delta).await.unwrap();
    assert_eq!(tree(&rig.to()), expected);
    assert_eq!(std::fs::metadata(&kept).unwrap().ino(), inode);
    let replaced = report.replaced.unwrap();
    assert_eq!(std::fs::read(replaced.join(spoilt.strip_prefix(rig.to()).unwrap())).unwrap(), bytes);
}

#[tokio::test]
async fn two_restores_to_one_place_do_not_mix() {
    let rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let place = crate::restore::workplace::Workplace::open(&rig.to()).unwrap();
    let error = rig.run(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    drop(place);
    rig.run(&request).await.unwrap();
}

#[tokio::test]
async fn what_appeared_in_the_place_since_the_plan_is_not_moved_away() {
    let rig = some_blocks().await;
    let (context, view) = (rig.context(), rig.view().await);
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let fresh = plan(&context, &view, &request).await.unwrap();
    let unconfirmed = RestoreRequest { delta: true, ..request.clone() };
    let unconfirmed = plan(&context, &view, &unconfirmed).await.unwrap();
    std::fs::create_dir(rig.to()).unwrap();
    std::fs::write(rig.to().join("mine"), "x").unwrap();
    let error = run(&context, &view, fresh).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = run(&context, &view, unconfirmed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsConfirmation, "{error}");

    let request = RestoreRequest { delta: true, confirmed: true, ..request };
    let delta = plan(&context, &view, &request).await.unwrap();
    let lock = std::fs::File::create(rig.to().join("lock")).unwrap();
    lock.lock().unwrap();
    let error = run(&context, &view, delta).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked, "a server was started meanwhile: {error}");
    assert_eq!(std::fs::read(rig.to().join("mine")).unwrap(), b"x");
    drop(lock);
    let report = rig.run(&request).await.unwrap();
    assert!(report.replaced.unwrap().join("mine").exists());
}

/// Restores, and puts the work directory back as a kill right after the last rename leaves it.
async fn killed_after_the_rename(rig: &Rig, request: &RestoreRequest) -> std::path::PathBuf {
    let (context, view) = (rig.context(), rig.view().await);
    let plan = plan(&context, &view, request).await.unwrap();
    let subject = plan.subject(&context);
    let mut report = run(&context, &view, plan).await.unwrap();
    let work = rig.dir.path().join("restored.restore");
    std::fs::create_dir_all(work.join("stage")).unwrap();
    std::fs::write(work.join("lock"), "").unwrap();
    report.missing.push("something".to_owned());
    crate::restore::finish::Finished::note(&work, &request.to, subject, report).unwrap();
    work
}

#[tokio::test]
async fn a_restore_that_was_complete_reports_what_it_was_and_no_other() {
    let rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let work = killed_after_the_rename(&rig, &request).await;
    let report = complete_interrupted(&rig.context(), &request).unwrap().unwrap();
    assert!(report.was_complete && !work.exists());
    assert_eq!(report.shortcoming(), Some(ErrorKind::Incomplete), "what was missing still is");
    assert!(complete_interrupted(&rig.context(), &request).unwrap().is_none());

    std::fs::remove_dir_all(rig.to()).unwrap();
    killed_after_the_rename(&rig, &request).await;
    let other = RestoreRequest { target: Target::Until(950_000), ..request };
    assert!(complete_interrupted(&rig.context(), &other).unwrap().is_none(), "that one was never run");
    let error = rig.run(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "the place is taken: {error}");
    let other = RestoreRequest { delta: true, confirmed: true, ..other };
    rig.run(&other).await.unwrap();
}

#[tokio::test]
async fn what_was_replaced_survives_a_kill_right_after_the_exchange() {
    let rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    for resumed_by_cli in [true, false] {
        let work = killed_after_the_rename(&rig, &request).await;
        std::fs::create_dir(work.join("data")).unwrap();
        std::fs::write(work.join("data/mine"), "x").unwrap();
        if resumed_by_cli {
            let report = complete_interrupted(&rig.context(), &request).unwrap().unwrap();
            assert!(report.replaced.unwrap().join("mine").exists());
        } else {
            let delta = RestoreRequest { delta: true, confirmed: true, ..request.clone() };
            rig.run(&delta).await.unwrap();
            assert!(rig.dir.path().join("restored.replaced/mine").exists());
        }
        assert!(!work.exists());
        std::fs::remove_dir_all(rig.to()).unwrap();
        std::fs::remove_dir_all(rig.dir.path().join("restored.replaced")).unwrap();
    }
}

#[tokio::test]
async fn a_relative_time_goes_on_with_what_was_begun() {
    let mut rig = some_blocks().await;
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let last = rig.objects("/wal/").await.pop().unwrap();
    let bytes = rig.store.get(&last).await.unwrap().bytes().await.unwrap();
    rig.store.delete(&last).await.unwrap();
    rig.run(&request).await.unwrap_err();
    rig.store.put(&last, bytes.into()).await.unwrap();
    rig.log(LogKind::Wal, &[floats(&[(1, 1_003_100, 3.0)])]).await;
    let later = RestoreRequest { target: Target::AsOf(rig.now_ms), ..request.clone() };
    assert_eq!(rig.run(&later).await.unwrap_err().kind(), ErrorKind::Conflict);
    let until = RestoreRequest { target: Target::Until(950_000), target_moves: true, ..request.clone() };
    assert_eq!(rig.run(&until).await.unwrap_err().kind(), ErrorKind::Conflict);
    let later = RestoreRequest { target_moves: true, ..later };
    let report = rig.run(&later).await.unwrap();
    assert_eq!(
        report.target_text,
        rig.plan(&RestoreRequest { to: "x".into(), ..request }).await.unwrap().target_text
    );
    assert!(report.warnings.iter().any(|warning| warning.contains("--restart")), "{:?}", report.warnings);
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_left_alone() {
    let rig = some_blocks().await;
    let work = rig.dir.path().join("restored.restore");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("journal"), "{\"Subject\":{\"format\":2}}\n").unwrap();
    let request = RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to());
    let error = rig.run(&request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    rig.run(&RestoreRequest { restart: true, ..request }).await.unwrap();
}
