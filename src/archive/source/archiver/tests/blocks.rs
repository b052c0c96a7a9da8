use futures::future::BoxFuture;

use super::rig::Rig;
use super::*;
use crate::archive::BlockState;
use crate::bucket::{ArchiveObject, FileOwner};

fn id(n: u128) -> Ulid {
    Ulid::from_parts(1_700_000_000_000, n)
}

fn state(base: &Base, n: u128) -> &BlockState {
    base.blocks.iter().find(|block| block.id == id(n)).unwrap()
}

fn stored(base: &Base, n: u128) -> Vec<Ulid> {
    state(base, n).stored.iter().map(|stored| stored.id).collect()
}

fn started(rig: &Rig) -> BoxFuture<'_, (Archiver, rig::Server)> {
    Box::pin(async {
        let mut server = rig.server();
        server.scrapes(2);
        let mut archiver = rig.archiver().await;
        rig.turns(&mut archiver, 2).await;
        (archiver, server)
    })
}

#[tokio::test]
async fn blocks_and_checkpoints_are_stored_once_and_make_bases() {
    let rig = Rig::new();
    let (mut archiver, mut server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    server.rotate();
    server.scrapes(1);
    server.rotate();
    server.scrapes(1);
    server.checkpoint(0);
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    let base = view.bases.last().unwrap();
    assert_eq!(stored(base, 1), [id(1)]);
    assert_eq!((base.checkpoint.as_ref().unwrap().number, base.first_segment), (0, 1));
    assert!(base.changed_ms <= base.seen.wall_ms && base.changed_ms > 0);
    let stored_block = &state(base, 1).stored[0];
    let key = stored_block.manifest_key(rig.archive().source());
    let manifest = rig.archive().read(&key, stored_block.manifest_sha256).await.unwrap();
    let manifest: crate::archive::Manifest = crate::archive::chain::decode(&key, &manifest).unwrap();
    let paths: Vec<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["meta.json", "index", "chunks/000001"]);
    for file in &manifest.files {
        let on_disk = std::fs::read(rig.dir.path().join(id(1).to_string()).join(&file.path)).unwrap();
        let key = file.part_key(rig.archive().source(), 0).unwrap();
        let part = rig.archive().read(&key, file.parts[0].stored_sha256).await.unwrap();
        let plain = if file.parts[0].compressed {
            crate::archive::decompress(&part, file.parts[0].plain_bytes).unwrap()
        } else {
            part
        };
        assert_eq!(plain, on_disk);
        assert_eq!(file.sha256, crate::archive::Sha256Hash::of(&on_disk));
    }
    let (uploads, bases) = (archiver.uploader.instruments.base_uploads.get(), view.bases.len());
    drop(archiver);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 3).await;
    assert_eq!(rig.view().await.bases.len(), bases, "the same base is not recorded again");
    assert_eq!((uploads, archiver.uploader.instruments.base_uploads.get()), (1, 0));
    assert!(!rig.dir.path().join("perennial-spool/base").exists());
}

#[tokio::test]
async fn a_compacted_block_whose_sources_hold_the_same_is_not_stored_again() {
    let rig = Rig::new();
    let (mut archiver, server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    server.block(id(2), 1, &[id(2)], 20);
    rig.turns(&mut archiver, 2).await;
    server.block(id(3), 2, &[id(1), id(2)], 30);
    server.remove_block(id(1));
    server.remove_block(id(2));
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    let base = view.bases.last().unwrap();
    assert_eq!(stored(base, 3), [id(1), id(2)]);
    assert_eq!(base.blocks.len(), 1);
    let replaced = view.events.iter().filter(|event| event.kind == EventKind::BlockReplaced).count();
    assert_eq!(replaced, 2);
    // Compacted again, and then something is deleted in it: now it is stored itself.
    server.block(id(4), 3, &[id(1), id(2)], 30);
    server.remove_block(id(3));
    rig.turns(&mut archiver, 2).await;
    assert_eq!(stored(rig.view().await.bases.last().unwrap(), 4), [id(1), id(2)]);
    server.tombstones(id(4), b"tombstones of the fourth block");
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    let base = view.bases.last().unwrap();
    assert_eq!(stored(base, 4), [id(4)]);
    assert!(state(base, 4).stored[0].tombstones.is_some());
    assert_eq!(archiver.uploader.instruments.base_uploads.get(), 3);
}

#[tokio::test]
async fn a_compacted_block_is_stored_where_its_sources_say_something_else() {
    let rig = Rig::new();
    let (mut archiver, server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    server.block(id(2), 1, &[id(2)], 20);
    server.block(id(5), 1, &[id(5)], 20);
    server.tombstones(id(5), b"something was deleted");
    rig.turns(&mut archiver, 2).await;
    server.block(id(3), 2, &[id(1), id(2)], 29);
    server.block(id(4), 2, &[id(2), id(9)], 20);
    server.block(id(6), 2, &[id(1), id(5)], 30);
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    for n in [3, 4, 6] {
        assert_eq!(stored(view.bases.last().unwrap(), n), [id(n)], "{n}");
    }
}

#[tokio::test]
async fn each_version_of_tombstones_is_kept_and_told() {
    let rig = Rig::new();
    let (mut archiver, server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    rig.turns(&mut archiver, 2).await;
    let mut versions = Vec::new();
    for content in [&b"tombstones one"[..], b"tombstones one and two"] {
        server.tombstones(id(1), content);
        rig.turns(&mut archiver, 2).await;
        let view = rig.view().await;
        let file = state(view.bases.last().unwrap(), 1).stored[0].tombstones.clone().unwrap();
        assert_eq!(file.size_bytes, content.len() as u64);
        versions.push(file.upload);
    }
    assert_ne!(versions[0], versions[1]);
    let view = rig.view().await;
    let deletes: Vec<&Event> = view.events.iter().filter(|event| event.kind == EventKind::Delete).collect();
    assert_eq!(deletes.len(), 2);
    assert_eq!(deletes[0].block, Some(id(1)));
    // Cleaned: the tombstones are gone with the block that had them.
    server.block(id(2), 1, &[id(1)], 5);
    server.remove_block(id(1));
    rig.turns(&mut archiver, 2).await;
    assert_eq!(stored(rig.view().await.bases.last().unwrap(), 2), [id(2)]);
}

#[tokio::test]
async fn a_block_that_cannot_be_read_is_told_and_left_out() {
    let rig = Rig::new();
    let (mut archiver, server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    server.block(id(2), 1, &[id(2)], 10);
    std::fs::remove_file(rig.dir.path().join(id(2).to_string()).join("meta.json")).unwrap();
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    assert_eq!(view.bases.last().unwrap().blocks.len(), 1);
    let told: Vec<&Event> = view.events.iter().filter(|e| e.kind == EventKind::BlockUnreadable).collect();
    assert_eq!((told.len(), told[0].block), (1, Some(id(2))));
    server.remove_block(id(1));
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    assert!(view.events.iter().any(|e| e.kind == EventKind::BlockGone && e.block == Some(id(1))));
}

#[tokio::test]
async fn a_block_that_is_deleted_before_it_is_stored_is_read_from_the_spool() {
    let rig = Rig::new();
    let (mut archiver, server) = started(&rig).await;
    rig.store.fail_at_random(random_from_seed(3), 100);
    server.block(id(1), 1, &[id(1)], 10);
    rig.clock.advance_ms(1_000);
    archiver.step().await.unwrap();
    server.remove_block(id(1));
    server.block(id(2), 1, &[id(2)], 10);
    rig.clock.advance_ms(1_000);
    archiver.step().await.unwrap();
    rig.store.stop_failing();
    rig.turns(&mut archiver, 4).await;
    let view = rig.view().await;
    let ids: Vec<Vec<Ulid>> =
        view.bases.iter().map(|base| base.blocks.iter().map(|block| block.id).collect()).collect();
    assert!(ids.contains(&vec![id(1)]), "{ids:?}");
    assert_eq!(ids.last().unwrap(), &vec![id(2)]);
    let part = ArchiveObject::FilePart {
        owner: FileOwner::Block(id(1)),
        upload: view.bases.iter().find(|b| b.blocks[..].iter().any(|b| b.id == id(1))).unwrap().blocks[0]
            .stored[0]
            .upload,
        file: "index".to_owned(),
        part: 0,
    };
    assert!(rig.bucket().head(&rig.archive().key(part)).await.unwrap().is_some());
}

async fn blocks_as_of(rig: &Rig, at_ms: i64) -> Vec<Ulid> {
    let view = rig.view().await;
    let found = rig.archive().resolve(&view, Target::AsOf(at_ms), None).await.unwrap();
    assert!(found.missing.is_empty(), "{:?}", found.missing);
    found.base.blocks.iter().map(|block| block.id).collect()
}

/// Two blocks from the hour before, archived.
fn two_old_blocks(rig: &Rig) -> BoxFuture<'_, (Archiver, rig::Server)> {
    Box::pin(async {
        let mut server = rig.server();
        for n in [1, 2] {
            server.block(id(n), 1, &[id(n)], 10);
            server.date_block(id(n), rig::START_MS - HOUR_MS);
        }
        server.scrapes(2);
        let mut archiver = rig.archiver().await;
        rig.turns(&mut archiver, 12).await;
        (archiver, server)
    })
}

#[tokio::test]
async fn a_block_that_was_removed_while_no_archiver_ran_is_there_at_every_time_before() {
    let rig = Rig::new();
    let (archiver, mut server) = two_old_blocks(&rig).await;
    let existed_ms = rig.view().await.last_made.wall_ms - 1;
    drop(archiver);
    rig.clock.advance_ms(600_000);
    server.remove_block(id(1));
    server.scrapes(1);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 3).await;
    assert_eq!(blocks_as_of(&rig, existed_ms).await, [id(1), id(2)]);
    let view = rig.view().await;
    assert_eq!(blocks_as_of(&rig, view.last_made.wall_ms).await, [id(2)]);
    let gone = view.events.iter().find(|event| event.kind == EventKind::BlockGone).unwrap();
    assert!(gone.at_ms >= existed_ms, "{gone:?}");
    // What says the same on a new timeline came about when it did.
    let changed_ms = view.bases.last().unwrap().changed_ms;
    server.crash();
    server.scrapes(1);
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    let base = view.bases.last().unwrap();
    assert_eq!((base.position.timeline, base.changed_ms), (2, changed_ms));
}

#[tokio::test]
async fn what_is_only_missing_came_about_between_the_looks() {
    let rig = Rig::new();
    let (mut archiver, server) = two_old_blocks(&rig).await;
    server.tombstones(id(2), b"something was deleted");
    server.date_block(id(2), rig::START_MS - HOUR_MS + 1);
    rig.turns(&mut archiver, 3).await;
    let existed_ms = rig.clock.now_ms();
    rig.clock.advance_ms(1);
    // As half of a removal leaves it, and as a folder that is cleaned by hand.
    std::fs::remove_file(rig.dir.path().join(id(1).to_string()).join("meta.json")).unwrap();
    std::fs::remove_file(rig.dir.path().join(id(2).to_string()).join("tombstones")).unwrap();
    rig.turns(&mut archiver, 12).await;
    assert_eq!(blocks_as_of(&rig, existed_ms - 1_500).await, [id(1), id(2)]);
    assert_eq!(blocks_as_of(&rig, existed_ms + 1_500).await, [id(2)]);
    let view = rig.view().await;
    let changed_ms = view.bases.last().unwrap().changed_ms;
    assert!((existed_ms - 1_500..=existed_ms + 1_000).contains(&changed_ms), "{changed_ms} {existed_ms}");
}

#[tokio::test]
async fn a_block_that_was_moved_in_is_not_there_before() {
    let rig = Rig::new();
    let (mut archiver, server) = two_old_blocks(&rig).await;
    let before_ms = rig.clock.now_ms() - 1_500;
    server.block(id(3), 1, &[id(3)], 10);
    server.date_block(id(3), rig::START_MS - HOUR_MS);
    rig.turns(&mut archiver, 3).await;
    assert_eq!(blocks_as_of(&rig, before_ms).await, [id(1), id(2)]);
    let newest_ms = rig.view().await.last_made.wall_ms;
    assert_eq!(blocks_as_of(&rig, newest_ms).await, [id(1), id(2), id(3)]);
}

#[tokio::test]
async fn a_block_that_is_removed_as_a_timeline_begins_is_there_before() {
    let rig = Rig::new();
    let (mut archiver, mut server) = two_old_blocks(&rig).await;
    let existed_ms = rig.clock.now_ms() - 1_500;
    server.crash();
    server.scrapes(1);
    server.remove_block(id(1));
    rig.turns(&mut archiver, 3).await;
    let view = rig.view().await;
    let base = view.bases.last().unwrap();
    assert_eq!((base.position.timeline, base.blocks.len()), (2, 1));
    assert!(base.changed_ms > existed_ms, "{} {existed_ms}", base.changed_ms);
}

/// Scans, lets a kept file vanish as if it could not be read, and makes the base.
async fn make_without(rig: &Rig, archiver: &mut Archiver, kept: &str) {
    rig.clock.advance_ms(1_000);
    archiver.scan().await.unwrap();
    let spool = rig.dir.path().join("perennial-spool/base");
    let found = std::fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
    let folder = if kept.starts_with("checkpoint") {
        found.into_iter().find(|path| path.to_string_lossy().contains("checkpoint.")).unwrap()
    } else {
        spool.join("blocks")
    };
    std::fs::remove_file(folder.join(kept.trim_start_matches("checkpoint/"))).unwrap();
    archiver.make_next();
    let made = ended(&mut archiver.making).await;
    archiver.made(made).await.unwrap();
}

#[tokio::test]
async fn a_block_whose_files_cannot_be_read_leaves_the_others_their_base() {
    let rig = Rig::new();
    let (mut archiver, server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    server.block(id(2), 1, &[id(2)], 10);
    make_without(&rig, &mut archiver, &format!("{}/index", id(1))).await;
    rig.turns(&mut archiver, 2).await;
    let view = rig.view().await;
    let ids: Vec<Ulid> = view.bases.last().unwrap().blocks.iter().map(|block| block.id).collect();
    assert_eq!(ids, [id(2)]);
    let told: Vec<&Event> = view.events.iter().filter(|e| e.kind == EventKind::BlockUnreadable).collect();
    assert_eq!((told.len(), told[0].block), (1, Some(id(1))));
    let bases = view.bases.len();
    rig.turns(&mut archiver, 8).await;
    let view = rig.view().await;
    let ids: Vec<Ulid> = view.bases.last().unwrap().blocks.iter().map(|block| block.id).collect();
    assert_eq!((ids, view.bases.len()), (vec![id(1), id(2)], bases + 1), "it is tried again");
    assert_eq!(archiver.uploader.instruments.base_uploads.get(), 2, "the other one is not stored again");
}

#[tokio::test]
async fn what_was_stored_for_a_base_that_failed_is_not_stored_again_and_the_next_try_waits() {
    let rig = Rig::new();
    let (mut archiver, mut server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    server.rotate();
    server.scrapes(1);
    server.checkpoint(0);
    rig.look(&mut archiver).await;
    make_without(&rig, &mut archiver, "checkpoint/00000000").await;
    let finished: Vec<_> =
        super::super::super::base::lock(&archiver.watch.finished).values().cloned().collect();
    assert_eq!(finished.len(), 1);
    rig.turns(&mut archiver, 3).await;
    assert!(rig.view().await.bases.last().unwrap().blocks.is_empty(), "it waits");
    rig.turns(&mut archiver, 4).await;
    let view = rig.view().await;
    assert_eq!(state(view.bases.last().unwrap(), 1).stored[0].upload, finished[0].upload);
    assert_eq!(view.bases.last().unwrap().checkpoint.as_ref().unwrap().number, 0);
}

#[tokio::test]
async fn files_of_blocks_that_the_archive_has_are_not_kept_again() {
    let rig = Rig::new();
    let (mut archiver, server) = started(&rig).await;
    server.block(id(1), 1, &[id(1)], 10);
    rig.turns(&mut archiver, 3).await;
    rig.store.fail_at_random(random_from_seed(3), 100);
    server.tombstones(id(1), b"tombstones of one");
    server.block(id(2), 1, &[id(2)], 10);
    rig.clock.advance_ms(1_000);
    archiver.step().await.unwrap();
    let kept = |n: u128| {
        let folder = rig.dir.path().join("perennial-spool/base/blocks").join(id(n).to_string());
        let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.map(|name| name.split('-').next().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(kept(1), ["tombstones"]);
    assert_eq!(kept(2), ["chunks", "index", "meta.json"]);
    rig.store.stop_failing();
    rig.turns(&mut archiver, 4).await;
    let view = rig.view().await;
    let base = view.bases.last().unwrap();
    assert!(state(base, 1).stored[0].tombstones.is_some());
    assert_eq!(stored(base, 2), [id(2)]);
}
