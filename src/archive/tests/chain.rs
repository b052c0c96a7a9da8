use super::rig::Rig;
use crate::archive::{ArchiveError, ChainEnd, Target};
use crate::bucket::{ArchiveObject, ObjectKey};
use crate::model::ErrorKind;

const START_MS: i64 = 1_800_000_000_000;

async fn short(seed: u64) -> Rig {
    let mut rig = Rig::new(seed, START_MS);
    rig.live(6).await;
    rig
}

#[tokio::test]
async fn an_archive_that_is_not_there_is_named() {
    let rig = Rig::new(1, START_MS);
    let error = rig.archive.load().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("prom-a"), "{error}");
    assert_eq!(rig.archive.chain_end().await.unwrap(), ChainEnd::default());
}

#[tokio::test]
async fn a_second_archiver_is_stopped_by_the_number_of_its_first_entry() {
    let mut rig = short(2).await;
    let end = rig.archive.chain_end().await.unwrap();
    rig.flush(false).await;
    let mut other = Rig::new(3, START_MS);
    other.archive = rig.archive.clone();
    let mut entry = match rig.archive.links().await.unwrap().pop().unwrap() {
        crate::archive::Link::Entry { entry, .. } => *entry,
        crate::archive::Link::Chapter(_) => unreachable!("nothing was rolled up"),
    };
    entry.id = other.random.ulid(START_MS);
    let error = rig.archive.append(end, &mut entry).await.unwrap_err();
    assert!(matches!(error, ArchiveError::TwoArchivers { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn the_same_entry_can_be_appended_again_after_a_lost_reply() {
    let rig = short(4).await;
    let links = rig.archive.links().await.unwrap();
    let (before, last) = (&links[links.len() - 2], &links[links.len() - 1]);
    let crate::archive::Link::Entry { entry, sha256 } = last else { unreachable!("nothing was rolled up") };
    let end = rig.archive.append(before.end(), &mut entry.clone()).await.unwrap();
    assert_eq!(end.sha256, Some(*sha256));
}

#[tokio::test]
async fn a_missing_or_exchanged_entry_breaks_the_chain_by_number() {
    let rig = short(5).await;
    let key = |seq| rig.archive.key(ArchiveObject::Entry { seq });
    let third = rig.archive.read_stored(&key(3)).await.unwrap();
    rig.archive.bucket().delete(&key(3)).await.unwrap();
    let error = rig.archive.load().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Chain { seq: 3, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    rig.archive.bucket().put(&key(3), rig.archive.read_stored(&key(2)).await.unwrap()).await.unwrap();
    assert_eq!(rig.archive.load().await.unwrap_err().kind(), ErrorKind::Corrupt);
    rig.archive.bucket().put(&key(3), third).await.unwrap();
    rig.archive.load().await.unwrap();
}

#[tokio::test]
async fn each_flipped_bit_of_an_entry_is_found() {
    let rig = short(6).await;
    let key = rig.archive.key(ArchiveObject::Entry { seq: 2 });
    let stored = rig.archive.read_stored(&key).await.unwrap();
    for bit in 0..stored.len() * 8 {
        let mut damaged = stored.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        rig.archive.bucket().put(&key, damaged.into()).await.unwrap();
        assert!(rig.archive.load().await.is_err(), "bit {bit} was not noticed");
    }
}

#[tokio::test]
async fn times_outside_of_the_window_are_refused_with_the_nearest() {
    let rig = short(7).await;
    let view = rig.archive.load().await.unwrap();
    let (first, last) = view.window_ms().unwrap();
    for (wrong, nearest) in [(first - 1, first), (last + 1, last)] {
        let error = rig.archive.resolve(&view, Target::AsOf(wrong), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfRange);
        assert!(error.to_string().contains(&crate::model::format_time_ms(nearest)), "{error}");
        rig.archive.resolve(&view, Target::AsOf(nearest), None).await.unwrap();
    }
}

#[test]
fn archive_keys_are_read_as_they_are_written_and_nothing_else_is() {
    let id = crate::model::Ulid::from_parts(1, 2);
    let source = crate::model::SourceName::new("prom-a").unwrap();
    let objects = [
        ArchiveObject::Entry { seq: 7 },
        ArchiveObject::Chapter { first_seq: 1, last_seq: 7, id },
        ArchiveObject::Piece {
            timeline: 1,
            log: crate::bucket::LogKind::Wbl,
            segment: 2,
            start: 3,
            end: 4,
            id,
        },
        ArchiveObject::Manifest { block: id, upload: id },
        ArchiveObject::FilePart {
            owner: crate::bucket::FileOwner::Block(id),
            upload: id,
            file: "chunks-000001".to_owned(),
            part: 3,
        },
        ArchiveObject::FilePart {
            owner: crate::bucket::FileOwner::Checkpoint { timeline: 1, number: 9 },
            upload: id,
            file: "00000000".to_owned(),
            part: 0,
        },
        ArchiveObject::Digest { id },
        ArchiveObject::Hold { id },
        ArchiveObject::Mark { id },
    ];
    for object in objects {
        let key = ObjectKey::archive(&source, object);
        assert_eq!(ObjectKey::parse(&key.to_string()), Some(key.clone()), "{key}");
        assert_eq!(ObjectKey::parse(&format!("{key}x")), None, "{key}x");
    }
    for hostile in ["chunks/../../etc", "../index", "/index", "chunks/1", "index/..", "", "chunks-000001"] {
        assert_eq!(crate::bucket::file_name(hostile), None, "{hostile:?}");
    }
}
