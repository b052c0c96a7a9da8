//! The persisted forms: golden files that must keep opening, and the published schema.

use std::path::PathBuf;

use crate::archive::chain::{decode, encode};
use crate::archive::collect::Mark;
use crate::archive::*;
use crate::bucket::{FileOwner, LogKind};
use crate::model::{SourceName, Ulid};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/archive").join(name)
}

fn stamp(n: i64) -> Stamp {
    Stamp { wall_ms: 1_800_000_000_000 + n, monotonic_ms: n }
}

fn file(path: &str, owner: FileOwner) -> StoredFile {
    let stored_sha256 = Sha256Hash::of(path.as_bytes());
    let part = StoredPart { plain_bytes: 9, compressed: true, stored_bytes: 7, stored_sha256 };
    let (path, sha256) = (path.to_owned(), Sha256Hash::of(b"whole"));
    StoredFile { path, owner, upload: Ulid(5), size_bytes: 9, sha256, parts: vec![part] }
}

fn base() -> Base {
    let id = Ulid(0x0190_0000_0000_0000_0000_0000_0000_0001);
    let stored = StoredBlock {
        id,
        upload: Ulid(6),
        min_time_ms: 0,
        max_time_ms: 7_200_000,
        samples: 100,
        plain_bytes: 1_000,
        stored_bytes: 900,
        manifest_sha256: Sha256Hash::of(b"manifest"),
        tombstones: Some(file("tombstones", FileOwner::Block(id))),
    };
    let block = BlockState {
        id,
        min_time_ms: 0,
        max_time_ms: 7_200_000,
        samples: 100,
        series: 10,
        level: 1,
        out_of_order: true,
        stored: vec![stored],
    };
    let owner = FileOwner::Checkpoint { timeline: 2, number: 3 };
    Base {
        seen: stamp(30),
        changed_ms: stamp(20).wall_ms,
        position: position(),
        checkpoint: Some(CheckpointEntry { timeline: 2, number: 3, files: vec![file("00000000", owner)] }),
        first_segment: 4,
        wbl_first_segment: Some(1),
        blocks: vec![block],
    }
}

fn position() -> Position {
    let wbl = Some(LogPosition { segment: 1, offset: 44 });
    Position { timeline: 2, wal: LogPosition { segment: 5, offset: 1_234 }, wbl }
}

fn piece() -> (PieceEntry, Vec<u8>) {
    let start = LogPosition { segment: 5, offset: 1_000 };
    let mut builder = PieceBuilder::new(2, LogKind::Wal, start, stamp(0).wall_ms);
    builder.push(1_100, b"\x01one");
    builder.mark(stamp(10).wall_ms);
    builder.push(1_234, b"\x02two");
    builder.mark(stamp(20).wall_ms);
    let plain = builder.finish();
    let stored = compress(&plain, 3);
    let entry = PieceEntry {
        id: Ulid(7),
        timeline: 2,
        log: LogKind::Wal,
        segment: 5,
        start: 1_000,
        end: 1_234,
        follows: start,
        after_ms: stamp(0).wall_ms,
        seen: stamp(20),
        sample_times_ms: Some((1, 2)),
        series_ref_max: 9,
        counts: [("samples".to_owned(), 12)].into(),
        plain_bytes: plain.len() as u64,
        plain_sha256: Sha256Hash::of(&plain),
        stored_bytes: stored.len() as u64,
        stored_sha256: Sha256Hash::of(&stored),
    };
    (entry, stored)
}

/// An entry with something in every field.
fn full_entry() -> Entry {
    let (noticed, detail) = (stamp(1), "segment 5 was rewritten".to_owned());
    let labels = [("cluster".to_owned(), "eu-1".to_owned())].into();
    let digest = DigestEntry {
        id: Ulid(8),
        min_time_ms: 0,
        max_time_ms: 3_600_000,
        position: position(),
        series: 10,
        stored_bytes: 99,
        stored_sha256: Sha256Hash::of(b"digest"),
    };
    let event = Event {
        kind: EventKind::Delete,
        at_ms: stamp(15).wall_ms,
        position: position(),
        block: Some(Ulid(9)),
        detail: "3 series".to_owned(),
    };
    Entry {
        format: ENTRY_FORMAT,
        source: SourceName::new("prom-a").unwrap(),
        seq: 42,
        previous_sha256: Some(Sha256Hash::of(b"before")),
        id: Ulid(10),
        archiver: Ulid(11),
        made: stamp(40),
        position: position(),
        fork: Some(Fork {
            parent: Some(1),
            at: Some(position()),
            reason: ForkReason::Repair,
            noticed,
            detail,
        }),
        pieces: vec![piece().0],
        base: Some(base()),
        events: vec![event],
        server: Some(ServerFacts {
            version: Some("2.42.0".to_owned()),
            external_labels: labels,
            flags: [("storage.tsdb.retention.time".to_owned(), "15d".to_owned())].into(),
            started_ms: Some(stamp(0).wall_ms),
        }),
        digests: vec![digest],
        unknown: [("future".to_owned(), serde_json::json!({"kept": true}))].into_iter().collect(),
    }
}

fn full_chapter() -> Chapter {
    Chapter {
        format: ENTRY_FORMAT,
        source: SourceName::new("prom-a").unwrap(),
        first_seq: 40,
        last_seq: 42,
        previous_sha256: None,
        last_sha256: Sha256Hash::of(b"last"),
        id: Ulid(12),
        made: (stamp(0), stamp(40)),
        entries: vec![full_entry()],
    }
}

/// Writes the current fixture where that was asked for; otherwise it must be there.
fn bless(name: &str, bytes: &[u8]) {
    if std::env::var_os("PERENNIAL_BLESS").is_some() {
        std::fs::create_dir_all(fixture("")).unwrap();
        std::fs::write(fixture(name), bytes).unwrap();
    }
}

#[test]
fn golden_entries_and_chapters_keep_opening() {
    bless("entry.v1.zst", &encode(&full_entry()));
    bless("chapter.v1.zst", &encode(&full_chapter()));
    let entry: Entry = decode(&"entry", &std::fs::read(fixture("entry.v1.zst")).unwrap()).unwrap();
    assert_eq!(entry, full_entry());
    let chapter: Chapter = decode(&"chapter", &std::fs::read(fixture("chapter.v1.zst")).unwrap()).unwrap();
    assert_eq!(chapter, full_chapter());
}

#[test]
fn a_golden_piece_keeps_opening() {
    let (entry, stored) = piece();
    bless("piece.v1.zst", &stored);
    let stored = std::fs::read(fixture("piece.v1.zst")).unwrap();
    let piece = Piece::decompress(&stored, entry.plain_bytes).unwrap();
    assert_eq!(piece.header().marks, [Mark(1_100, stamp(10).wall_ms), Mark(1_234, stamp(20).wall_ms)]);
    let records: Vec<(u64, &[u8])> = piece.records().map(|r| (r.end, r.data)).collect();
    assert_eq!(records, [(1_100, &b"\x01one"[..]), (1_234, &b"\x02two"[..])]);
}

#[test]
fn golden_manifests_holds_and_marks_keep_opening() {
    let block = base().blocks[0].id;
    let owner = FileOwner::Block(block);
    let files = vec![file("meta.json", owner), file("chunks/000001", owner)];
    let manifest = Manifest { format: ENTRY_FORMAT, block, files };
    let what = Held::Range { from_ms: stamp(0).wall_ms, to_ms: stamp(40).wall_ms };
    let reason = "incident 4711".to_owned();
    let hold = Hold { format: ENTRY_FORMAT, id: Ulid(13), made_ms: stamp(50).wall_ms, reason, what };
    let released = Held::Release { hold: hold.id };
    let release = Hold { id: Ulid(14), made_ms: stamp(60).wall_ms, what: released, ..hold.clone() };
    let mark: Mark = serde_json::from_value(serde_json::json!({
        "format": ENTRY_FORMAT, "id": Ulid(15), "made_ms": stamp(70).wall_ms,
        "sweep_after_ms": stamp(80).wall_ms, "keys": ["archive/prom-a/x"],
    }))
    .unwrap();
    opens_as("manifest.v1.zst", &manifest);
    opens_as("hold.v1.zst", &hold);
    opens_as("release.v1.zst", &release);
    opens_as("mark.v1.zst", &mark);
}

fn opens_as<T>(name: &str, expected: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    bless(name, &encode(expected));
    assert_eq!(&decode::<T>(&name, &std::fs::read(fixture(name)).unwrap()).unwrap(), expected);
}

#[test]
fn a_golden_digest_keeps_opening() {
    let row = |labels| DigestRow { labels, count: 300, late: 1, sum: 0xABCD_EF01, hash: labels ^ u64::MAX };
    let (min_time_ms, max_time_ms) = (stamp(0).wall_ms, stamp(3_600_000).wall_ms);
    let rows = vec![row(7), row(u64::MAX / 3), row(u64::MAX)];
    let digest = Digest { is_whole: true, min_time_ms, max_time_ms, undeclared: 5, rows };
    bless("digest.v1.zst", &digest.encode());
    assert_eq!(Digest::decode(&std::fs::read(fixture("digest.v1.zst")).unwrap()), Ok(digest));
}

#[test]
fn a_piece_that_is_larger_than_promised_is_refused_before_it_is_unpacked() {
    let bomb = compress(&vec![0; 8 << 20], 3);
    assert!(Piece::decompress(&bomb, 1_000).unwrap_err().contains("more than 1000 bytes"));
}

#[test]
fn what_is_written_follows_the_published_schema() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas/json/archive-catalog.schema.json");
    let schema: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for document in
        [serde_json::to_value(full_entry()).unwrap(), serde_json::to_value(full_chapter()).unwrap()]
    {
        let errors: Vec<String> =
            validator.iter_errors(&document).map(|e| format!("{e} at {}", e.instance_path)).collect();
        assert_eq!(errors, Vec::<String>::new());
    }
    let mut wrong = serde_json::to_value(full_entry()).unwrap();
    wrong["pieces"][0]["stored_sha256"] = "x".into();
    assert!(!validator.is_valid(&wrong), "the schema does refuse what is wrong");
}

#[test]
fn an_entry_of_a_newer_format_asks_for_a_newer_program() {
    let mut entry = serde_json::to_value(full_entry()).unwrap();
    entry["format"] = 2.into();
    let error = decode::<Entry>(&"catalog/1", &encode(&entry)).unwrap_err();
    assert!(matches!(error, ArchiveError::NewerFormat { found: 2, known: 1, .. }), "{error}");
}
