//! Damage, and archives that want to do harm.

use std::os::unix::fs::symlink;

use object_store::ObjectStoreExt;
use rig::{Rig, floats, series, tree};

use super::rig;
use crate::archive::{EventKind, Target};
use crate::bucket::{FileOwner, LogKind};
use crate::model::ErrorKind;
use crate::restore::*;

async fn small() -> Rig {
    let mut rig = Rig::new();
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_100, 1.0)])]).await;
    rig.block(&[("a", &[(1_000_100, 1.0)])], (1_000_000, 1_000_500), false).await;
    rig.base().await;
    rig.log(LogKind::Wal, &[floats(&[(1, 1_001_100, 2.0)])]).await;
    rig
}

fn request(rig: &Rig) -> RestoreRequest {
    RestoreRequest::new(Target::AsOf(rig.now_ms), rig.to())
}

#[tokio::test]
async fn a_flipped_bit_or_a_missing_object_leads_another_way_or_to_a_stop() {
    let parts = ["manifest", "index.00000000", "index.00000001", "meta.json.0", "chunks-000001", "/wal/"];
    for part in parts {
        for missing in [false, true] {
            let rig = small().await;
            let key = rig.objects(part).await.pop().unwrap();
            if missing {
                rig.store.delete(&key).await.unwrap();
            } else {
                rig.flip(&key).await;
            }
            let outcome = rig.run(&request(&rig)).await;
            if part == "/wal/" {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{part}: {error}");
                assert!(!rig.to().exists(), "{part}");
                continue;
            }
            let report = outcome.unwrap();
            assert_eq!(report.avoided.len(), 1, "{part} {missing}");
            assert_eq!(rig::all_samples(&rig.to(), i64::MIN).len(), 2, "{part} {missing}");
        }
    }
}

#[tokio::test]
async fn another_way_that_would_bring_deleted_samples_back_is_confirmed_first() {
    let mut rig = small().await;
    let id = rig.blocks[0].id;
    rig.hide(1_000_100, 1_000_100, &[2]).await;
    rig.event(EventKind::Delete, Some(id)).await;
    rig.base().await;
    let key = rig.objects("index.00000000").await.pop().unwrap();
    rig.flip(&key).await;
    let error = rig.run(&request(&rig)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsConfirmation, "{error}");
    let report = rig.run(&RestoreRequest { confirmed: true, ..request(&rig) }).await.unwrap();
    assert_eq!(report.shortcoming(), Some(ErrorKind::Incomplete));
}

#[tokio::test]
async fn a_damaged_checkpoint_is_avoided_by_a_longer_log() {
    let mut rig = Rig::new();
    rig.base().await;
    rig.log(LogKind::Wal, &[series(&[(1, "a")]), floats(&[(1, 1_000_100, 1.0)])]).await;
    rig.next_segment();
    rig.put_checkpoint(0, &[series(&[(1, "a")]), floats(&[(1, 1_000_100, 1.0)])]).await;
    rig.base().await;
    rig.log(LogKind::Wal, &[floats(&[(1, 1_001_100, 2.0)])]).await;
    let key = rig.objects("checkpoints").await.pop().unwrap();
    rig.flip(&key).await;
    let report = rig.run(&request(&rig)).await.unwrap();
    assert_eq!(report.avoided.len(), 1);
    assert_eq!(rig::all_samples(&rig.to(), i64::MIN).len(), 2);
}

#[tokio::test]
async fn names_and_sizes_that_no_archiver_writes_are_refused_before_anything_is_written() {
    let huge = 1_u64 << 62;
    for path in [
        "../../escaped",
        "/tmp/escaped",
        "chunks/../../escaped",
        "chunks/1",
        "00000000",
        "index\0",
        "tombstones/x",
    ] {
        let error = refused(|file| file.path = path.to_owned()).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{path}: {error}");
    }
    let error = refused(|file| file.size_bytes = huge).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let error = refused(|file| {
        file.size_bytes = huge;
        file.parts[0].plain_bytes = huge;
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let error = refused(|file| file.owner = FileOwner::Checkpoint { timeline: 1, number: 1 }).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let error = refused(|file| file.path = "meta.json".to_owned()).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt, "twice: {error}");
}

/// Restores a block one of whose files was changed in a manifest with a right hash.
async fn refused(change: impl Fn(&mut crate::archive::StoredFile)) -> RestoreError {
    let mut rig = Rig::new();
    let id = rig.block(&[("a", &[(1_000_100, 1.0)])], (1_000_000, 1_000_500), false).await;
    let block = rig.blocks[0].stored[0].clone();
    let mut files = rig.archive.read_manifest(&block).await.unwrap().files;
    let index = files.iter_mut().find(|file| file.path == "index").unwrap();
    change(index);
    let (manifest_sha256, _) = rig.put_manifest(id, block.upload, files).await;
    rig.blocks[0].stored[0].manifest_sha256 = manifest_sha256;
    rig.base().await;
    let error = rig.run(&request(&rig)).await.unwrap_err();
    assert_eq!(tree(rig.dir.path()), std::collections::BTreeMap::new(), "nothing was written");
    error
}

#[tokio::test]
async fn a_part_that_unpacks_to_more_than_it_says_stops_the_restore() {
    let mut rig = Rig::new();
    let id = rig.block(&[("a", &[(1_000_100, 1.0)])], (1_000_000, 1_000_500), false).await;
    let block = rig.blocks[0].stored[0].clone();
    let mut files = rig.archive.read_manifest(&block).await.unwrap().files;
    let bomb = crate::archive::compress(&vec![0; 8 << 20], 1);
    let upload = rig.ulid();
    let mut file = rig.put_file(FileOwner::Block(id), upload, "chunks/000002", &bomb).await;
    file.parts.truncate(1);
    file.parts[0].compressed = true;
    file.size_bytes = file.parts[0].plain_bytes;
    files.push(file);
    let (manifest_sha256, _) = rig.put_manifest(id, block.upload, files).await;
    rig.blocks[0].stored[0].manifest_sha256 = manifest_sha256;
    rig.base().await;
    let error = rig.run(&request(&rig)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!rig.to().exists());
}

#[tokio::test]
async fn links_in_the_place_of_target_or_work_directory_are_refused() {
    let rig = small().await;
    let elsewhere = tempfile::tempdir().unwrap();
    for link in [rig.to(), rig.dir.path().join("restored.restore")] {
        symlink(elsewhere.path(), &link).unwrap();
        let error = rig.run(&request(&rig)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        std::fs::remove_file(&link).unwrap();
    }
    // Inside of a work directory that was there before, links are removed and not followed.
    let stage = rig.dir.path().join("restored.restore/stage");
    let data = rig.dir.path().join("restored.restore/data");
    std::fs::create_dir_all(&stage).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    symlink(elsewhere.path(), data.join(rig.blocks[0].id.to_string())).unwrap();
    let piece = rig.objects("/wal/").await.pop().unwrap();
    let name = piece.filename().unwrap().rsplit('-').next().unwrap().to_owned();
    symlink(elsewhere.path().join("file"), stage.join(name)).unwrap();
    rig.run(&request(&rig)).await.unwrap();
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_target_that_is_in_use_is_left_alone() {
    let rig = small().await;
    std::fs::create_dir_all(rig.to()).unwrap();
    std::fs::write(rig.to().join("mine"), "x").unwrap();
    let error = rig.run(&request(&rig)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let delta = RestoreRequest { delta: true, ..request(&rig) };
    assert_eq!(rig.run(&delta).await.unwrap_err().kind(), ErrorKind::NeedsConfirmation);
    let lock = std::fs::File::create(rig.to().join("lock")).unwrap();
    lock.lock().unwrap();
    let confirmed = RestoreRequest { confirmed: true, ..delta.clone() };
    assert_eq!(rig.run(&confirmed).await.unwrap_err().kind(), ErrorKind::Locked);
    drop(lock);
    let report = rig.run(&confirmed).await.unwrap();
    assert!(report.replaced.unwrap().join("mine").exists());
    assert!(!rig.to().join("mine").exists());
}

#[tokio::test]
async fn a_disk_without_room_is_noticed_before_anything_is_fetched() {
    let mut rig = Rig::new();
    rig.block(&[("a", &[(1_000_100, 1.0)])], (1_000_000, 1_000_500), false).await;
    let block = rig.blocks[0].stored[0].clone();
    let mut files = rig.archive.read_manifest(&block).await.unwrap().files;
    // A million parts of 256 MiB each: allowed, and more than any disk of these tests has.
    let index = files.iter_mut().find(|file| file.path == "index").unwrap();
    let part = crate::archive::StoredPart { plain_bytes: 256 << 20, ..index.parts[0].clone() };
    index.parts = vec![part; 1 << 16];
    index.size_bytes = (256 << 20) << 16;
    let (manifest_sha256, _) = rig.put_manifest(block.id, block.upload, files).await;
    rig.blocks[0].stored[0].manifest_sha256 = manifest_sha256;
    rig.base().await;
    let plan = rig.plan(&request(&rig)).await.unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains("make room")), "{:?}", plan.warnings);
    let error = rig.run(&request(&rig)).await.unwrap_err();
    assert!(matches!(error, RestoreError::Space { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
