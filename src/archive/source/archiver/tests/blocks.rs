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

async fn started(rig: &Rig) -> (Archiver, rig::Server) {
    let mut server = rig.server();
    server.scrapes(2);
    let mut archiver = rig.archiver().await;
    rig.turns(&mut archiver, 2).await;
    (archiver, server)
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
