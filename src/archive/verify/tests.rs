//! Sound archives have no findings, whatever happened to them; and each thing that goes wrong is found.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::archive::tests::rig::Rig;
use crate::archive::{
    BlockState, CheckpointEntry, Digest, DigestRow, ENTRY_FORMAT, LogPosition, Manifest, PieceBuilder,
    Retention, RetentionPolicy, RollUp, RollUpSettings, Sha256Hash, StoredBlock, StoredFile, StoredPart,
    compress,
};
use crate::bucket::{ArchiveObject, FileOwner, LogKind, ObjectKey};
use crate::envelope::{AgeKeys, Envelope};
use crate::model::{Labels, Ulid};
use crate::tsdb::block::{
    BlockBuilder, BlockFile, BlockFiles, BlockMeta, BlockOptions, SeriesChunks, Tombstone, encode_tombstones,
};
use crate::tsdb::wal::{Compression, FloatSample, Record, SegmentWriter, SeriesRecord};

const START_MS: i64 = 4_000_000_000_000;

const EVERYTHING: VerifySettings =
    VerifySettings { level: VerifyLevel::L3, share: 1, turn: 0, window_ms: None };

#[derive(Debug, Default)]
struct InMemory(Vec<(BlockFile, Vec<u8>)>);

impl BlockFiles for InMemory {
    type File = Vec<u8>;

    fn create(&mut self, _: BlockFile) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn close(&mut self, file: BlockFile, written: Vec<u8>) -> io::Result<()> {
        self.0.push((file, written));
        Ok(())
    }
}

/// Builds a block of a few series with more than one chunk each.
fn block(id: Ulid) -> (Vec<(BlockFile, Vec<u8>)>, BlockMeta) {
    let mut builder = BlockBuilder::new(InMemory::default(), BlockOptions::level_one(id));
    let mut chunks = SeriesChunks::new();
    for n in 0..20 {
        chunks.clear();
        (0..300)
            .for_each(|i| chunks.push_float(START_MS + i * 15_000, (i as f64 * 1.5 + n as f64).to_bits()));
        let labels = Labels::from_pairs([("__name__", "m"), ("n", format!("{n:02}").as_str())]).unwrap();
        builder.add(&labels, &mut chunks).unwrap();
    }
    let (files, meta) = builder.finish().unwrap();
    (files.0, meta)
}

/// Stores a file in two parts, as an archiver does.
async fn store_file(rig: &Rig, (owner, upload): (FileOwner, Ulid), path: &str, bytes: &[u8]) -> StoredFile {
    let mut file = StoredFile {
        path: path.to_owned(),
        owner,
        upload,
        size_bytes: bytes.len() as u64,
        sha256: Sha256Hash::finish(Sha256::new_with_prefix(bytes)),
        parts: Vec::new(),
    };
    let chunks: Vec<&[u8]> = bytes.chunks(bytes.len().div_ceil(2).max(1)).collect();
    for (i, plain) in chunks.into_iter().enumerate() {
        let key = file.part_key(rig.archive.source(), i as u32).unwrap();
        let compressed = i % 2 == 0;
        let content = if compressed { compress(plain, 1) } else { plain.to_vec() };
        let stored = rig.archive.seal(&key.to_string(), content.into(), &rig.random).unwrap();
        let (stored_bytes, stored_sha256) = (stored.len() as u64, Sha256Hash::of(&stored));
        file.parts.push(StoredPart {
            plain_bytes: plain.len() as u64,
            compressed,
            stored_bytes,
            stored_sha256,
        });
        rig.archive.bucket().create(&key, stored).await.unwrap();
    }
    file
}

async fn store_block(rig: &Rig) -> BlockState {
    let id = rig.random.ulid(rig.now_ms);
    let (files, meta) = block(id);
    // Parts of one upload share its id.
    let upload = rig.random.ulid(rig.now_ms);
    let mut stored = Vec::new();
    for (file, bytes) in files.iter().filter(|(file, _)| *file != BlockFile::Tombstones) {
        stored.push(store_file(rig, (FileOwner::Block(id), upload), &file.to_string(), bytes).await);
    }
    let manifest = Manifest { format: ENTRY_FORMAT, block: id, files: stored };
    let key = rig.archive.key(ArchiveObject::Manifest { block: id, upload });
    let plain = crate::archive::chain::encode(&manifest);
    let bytes = rig.archive.seal(&key.to_string(), plain, &rig.random).unwrap();
    let manifest_sha256 = Sha256Hash::of(&bytes);
    rig.archive.bucket().create(&key, bytes).await.unwrap();
    let hidden = Tombstone { reference: 9, min_time_ms: START_MS, max_time_ms: START_MS + 5 };
    let owner = (FileOwner::Block(id), rig.random.ulid(rig.now_ms));
    let tombstones = store_file(rig, owner, "tombstones", &encode_tombstones(&[hidden])).await;
    let block = StoredBlock {
        id,
        upload,
        min_time_ms: meta.min_time_ms,
        max_time_ms: meta.max_time_ms,
        samples: meta.stats.num_samples,
        plain_bytes: 0,
        stored_bytes: 0,
        manifest_sha256,
        tombstones: Some(tombstones),
    };
    BlockState {
        id,
        min_time_ms: meta.min_time_ms,
        max_time_ms: meta.max_time_ms,
        samples: meta.stats.num_samples,
        series: meta.stats.num_series,
        level: 1,
        out_of_order: false,
        stored: vec![block],
    }
}

async fn store_checkpoint(rig: &Rig) -> CheckpointEntry {
    let mut writer = SegmentWriter::new(Compression::Snappy);
    let labels = Labels::from_pairs([("__name__", "m")]).unwrap();
    let samples = (0..900).map(|i| FloatSample { reference: 1, ts_ms: i, value_bits: 7, start_ms: 0 });
    for record in [Record::Series(vec![SeriesRecord::new(1, &labels)]), Record::Samples(samples.collect())] {
        let mut data = Vec::new();
        record.encode(&mut data);
        writer.append(&data);
    }
    let (timeline, number) = (1, 0);
    let owner = (FileOwner::Checkpoint { timeline, number }, rig.random.ulid(rig.now_ms));
    let files = vec![store_file(rig, owner, "00000000", &writer.finish()).await];
    CheckpointEntry { timeline, number, files }
}

/// An archive with every kind of object.
async fn whole_archive(mut rig: Rig) -> Rig {
    rig.flush(true).await;
    rig.next_segment();
    rig.flush(false).await;
    rig.flush(false).await;
    let mut entry = rig.entry();
    let mut base = rig.base();
    base.blocks = vec![store_block(&rig).await];
    base.checkpoint = Some(store_checkpoint(&rig).await);
    entry.base = Some(base);
    let rows = (1..9).map(|labels| DigestRow { labels, count: 1, ..DigestRow::default() }).collect();
    let digest = Digest { is_whole: true, min_time_ms: 0, max_time_ms: 9, undeclared: 0, rows };
    let position = entry.position;
    let sealed = digest.seal(&rig.archive, position, rig.random.ulid(rig.now_ms), &rig.random).unwrap();
    rig.archive.bucket().create(&sealed.key, sealed.stored).await.unwrap();
    entry.digests = vec![sealed.entry];
    rig.append(entry).await;
    rig.flush(false).await;
    rig
}

async fn verify(rig: &Rig, settings: VerifySettings) -> Result<VerifyReport, ArchiveError> {
    let (cpu, progress) = (Cpu::start(2).unwrap(), VerifyProgress::default());
    let run = Verify { archive: &rig.archive, cpu: &cpu, progress: &progress };
    run.run(settings).await
}

async fn keys(rig: &Rig) -> Vec<String> {
    let objects = rig.archive.bucket().list("archives").await.unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

fn level(level: VerifyLevel) -> VerifySettings {
    VerifySettings { level, ..EVERYTHING }
}

fn named(report: &VerifyReport, key: &str) -> bool {
    let upload = key.rsplit_once('/').map_or(key, |(folder, _)| folder);
    report.findings.iter().any(|finding| finding.key == key || finding.key.starts_with(upload))
}

#[tokio::test]
async fn a_sound_archive_has_no_findings_at_any_level() {
    let rig = whole_archive(Rig::new(1, START_MS)).await;
    for checked in [VerifyLevel::L1, VerifyLevel::L2, VerifyLevel::L3] {
        let report = verify(&rig, level(checked)).await.unwrap();
        assert!(report.is_sound(), "{report:#?}");
        assert_eq!((report.missing_objects, report.unnamed_objects, report.sealed_manifests), (0, 0, 0));
        assert!(report.continuous_since_ms.is_some());
        if checked != VerifyLevel::L1 {
            assert!(report.read_objects >= report.objects - 1, "{report:#?}");
        }
    }
    let report = verify(&rig, EVERYTHING).await.unwrap();
    assert_eq!(report.blocks, 1);
    assert!(report.samples > 6_900 && report.records > 3, "{report:#?}");
}

#[tokio::test]
async fn roll_up_retention_and_holds_leave_an_archive_sound() {
    let cpu = Cpu::start(1).unwrap();
    for seed in 400..412 {
        let mut rig = Rig::new(seed, START_MS);
        rig.live(50).await;
        let held_ms = rig.now_ms - 4_000;
        rig.archive.hold((held_ms, held_ms + 1_000), "a test", &rig.random, rig.now_ms).await.unwrap();
        rig.live(40).await;
        let window_ms = 10_000;
        let policy = RetentionPolicy { window_ms, hourly: 1, daily: 1, weekly: 0, monthly: 0, yearly: 0 };
        for round in 0..4 {
            let report =
                verify(&rig, VerifySettings { window_ms: Some(window_ms), ..EVERYTHING }).await.unwrap();
            assert!(report.is_sound(), "seed {seed}, round {round}: {report:#?}");
            let (archive, random, now_ms) = (&rig.archive, &rig.random, rig.now_ms + round);
            if round % 2 == 1 {
                let roll_up = RollUp { archive, cpu: &cpu, random, now_ms };
                roll_up.run(RollUpSettings { settled_ms: 2_000, chapter_ms: 20_000 }).await.unwrap();
            }
            let delay_ms = 0;
            Retention { archive, policy: &policy, delay_ms, random, now_ms }.run().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_missing_object_of_any_kind_is_found_by_listing() {
    let count = keys(&whole_archive(Rig::new(2, START_MS)).await).await.len();
    for i in 0..count {
        let rig = whole_archive(Rig::new(2, START_MS)).await;
        let key = keys(&rig).await.swap_remove(i);
        let parsed = ObjectKey::parse(&key).unwrap();
        rig.archive.bucket().delete(&parsed).await.unwrap();
        let newest = matches!(parsed, ObjectKey::Archive { object: ArchiveObject::Entry { seq: 5 }, .. });
        for checked in [VerifyLevel::L1, VerifyLevel::L3] {
            let report = verify(&rig, level(checked)).await.unwrap();
            // Nothing names the last entry.
            assert_eq!(report.is_sound(), newest, "{key}: {report:#?}");
            assert!(newest || named(&report, &key), "{key} is not named: {report:#?}");
            assert!(newest || report.missing_objects == 1, "{key}: {report:#?}");
        }
    }
}

#[tokio::test]
async fn one_changed_bit_of_any_object_is_found_by_hashing_and_by_decoding() {
    let rig = whole_archive(Rig::new(3, START_MS)).await;
    for key in keys(&rig).await {
        let parsed = ObjectKey::parse(&key).unwrap();
        let sound = rig.archive.bucket().get(&parsed).await.unwrap();
        let mut changed = sound.to_vec();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        rig.archive.bucket().put(&parsed, changed.into()).await.unwrap();
        for checked in [VerifyLevel::L2, VerifyLevel::L3] {
            let report = verify(&rig, level(checked)).await.unwrap();
            assert!(named(&report, &key), "{key} at {checked}: {report:#?}");
        }
        rig.archive.bucket().put(&parsed, sound.slice(..sound.len() - 1)).await.unwrap();
        let report = verify(&rig, level(VerifyLevel::L1)).await.unwrap();
        assert!(named(&report, &key), "{key} cut: {report:#?}");
        rig.archive.bucket().put(&parsed, sound).await.unwrap();
    }
    assert!(verify(&rig, EVERYTHING).await.unwrap().is_sound());
}

#[tokio::test]
async fn contents_that_do_not_decode_are_found_although_their_hashes_agree() {
    let mut rig = Rig::new(4, START_MS);
    rig.flush(true).await;
    let mut entry = rig.entry();
    let start = rig.base().position.wal;
    let mut builder = PieceBuilder::new(1, LogKind::Wal, start, rig.now_ms);
    builder.push(start.offset + 20, &[2, 1, 1, 1]);
    builder.mark(rig.now_ms);
    let mut piece = rig.put(builder, start, None).await;
    piece.counts.insert("samples".to_owned(), 3);
    entry.pieces = vec![piece];
    rig.append(entry).await;
    let whats: Vec<String> =
        verify(&rig, EVERYTHING).await.unwrap().findings.into_iter().map(|f| f.what).collect();
    assert!(whats.iter().any(|what| what.contains("counts")), "{whats:?}");
    assert!(whats.iter().any(|what| what.contains("the record that ends at")), "{whats:?}");
    assert!(verify(&rig, level(VerifyLevel::L2)).await.unwrap().is_sound());
}

#[tokio::test]
async fn records_that_are_missing_are_found() {
    let mut rig = Rig::new(5, START_MS);
    rig.flush(true).await;
    let mut entry = rig.entry();
    let end = rig.base().position.wal;
    let start = LogPosition { offset: end.offset + 100, ..end };
    let mut builder = PieceBuilder::new(1, LogKind::Wal, start, rig.now_ms);
    let mut record = Vec::new();
    Record::Samples(vec![]).encode(&mut record);
    builder.push(start.offset + 20, &record);
    builder.mark(rig.now_ms);
    entry.pieces = vec![rig.put(builder, start, None).await];
    entry.position.wal = LogPosition { offset: start.offset + 20, ..start };
    rig.append(entry).await;
    let report = verify(&rig, level(VerifyLevel::L1)).await.unwrap();
    let whats: Vec<&str> = report.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert!(whats.iter().any(|what| what.contains("records before it are missing")), "{whats:?}");
    assert!(whats.iter().any(|what| what.contains("the end of timeline 1 cannot be restored")), "{whats:?}");
}

#[tokio::test]
async fn a_window_that_the_archive_does_not_hold_is_a_finding() {
    let cpu = Cpu::start(1).unwrap();
    let mut rig = Rig::new(6, START_MS);
    rig.live(80).await;
    let policy = RetentionPolicy { window_ms: 5_000, hourly: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    let (archive, random, now_ms) = (&rig.archive, &rig.random, rig.now_ms);
    let roll_up = RollUp { archive, cpu: &cpu, random, now_ms };
    roll_up.run(RollUpSettings { settled_ms: 2_000, chapter_ms: 2_000 }).await.unwrap();
    Retention { archive, policy: &policy, delay_ms: 0, random, now_ms }.run().await.unwrap();
    let asked = |window_ms| VerifySettings { window_ms: Some(window_ms), ..level(VerifyLevel::L1) };
    assert!(verify(&rig, asked(5_000)).await.unwrap().is_sound());
    let report = verify(&rig, asked(25_000)).await.unwrap();
    assert!(
        report.findings.iter().any(|finding| finding.what.contains("as the window asks for")),
        "{report:#?}"
    );
}

#[tokio::test]
async fn a_mark_on_what_is_needed_is_a_finding() {
    let rig = whole_archive(Rig::new(7, START_MS)).await;
    let doomed = keys(&rig).await.swap_remove(0);
    let id = rig.random.ulid(rig.now_ms);
    let mark = serde_json::json!({
        "format": ENTRY_FORMAT, "id": id, "made_ms": 1, "sweep_after_ms": 2, "keys": [doomed],
    });
    let key = rig.archive.key(ArchiveObject::Mark { id });
    rig.archive.bucket().create(&key, crate::archive::chain::encode(&mark)).await.unwrap();
    let report = verify(&rig, level(VerifyLevel::L1)).await.unwrap();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].key, doomed);
}

#[tokio::test]
async fn what_retention_drops_and_marks_meanwhile_is_no_finding() {
    let mut rig = Rig::new(8, START_MS);
    rig.live(60).await;
    let (cpu, progress) = (Cpu::start(1).unwrap(), VerifyProgress::default());
    let run = Verify { archive: &rig.archive, cpu: &cpu, progress: &progress };
    let mut report = VerifyReport::new(rig.archive.source().clone(), VerifyLevel::L1);
    let (links, _) = run.catalog(&mut report).await.unwrap();
    let inventory = Inventory::of(&links);
    let policy = RetentionPolicy { window_ms: 3_000, hourly: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    let (archive, random, now_ms) = (&rig.archive, &rig.random, rig.now_ms);
    let retention = Retention { archive, policy: &policy, delay_ms: 0, random, now_ms };
    assert!(retention.run().await.unwrap().marked_objects > 0);
    let listing = run.hold_against_listing(&inventory, &mut report).await.unwrap();
    run.check_marks(&inventory, &links, &listing, &mut report).await.unwrap();
    assert!(report.is_sound(), "{report:#?}");
}

#[tokio::test]
async fn what_was_told_late_stays_whole_after_retention() {
    let mut rig = Rig::new(9, START_MS);
    rig.flush(true).await;
    let mut bases = Vec::new();
    for _ in 0..12 {
        rig.next_segment();
        rig.checkpoint();
        rig.flush(false).await;
        bases.push(rig.base());
    }
    // The store was away, and what the server had by then is told only now.
    rig.now_ms += 60_000;
    let mut made_ms = Vec::new();
    for base in bases {
        rig.now_ms += 1_000;
        made_ms.push(rig.now_ms);
        let mut entry = rig.entry();
        entry.base = Some(base);
        rig.append(entry).await;
    }
    let window_ms = rig.now_ms - made_ms[6];
    let policy = RetentionPolicy { window_ms, hourly: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    let (archive, random, now_ms) = (&rig.archive, &rig.random, rig.now_ms);
    let report = Retention { archive, policy: &policy, delay_ms: 0, random, now_ms }.run().await.unwrap();
    assert!(report.dropped_pieces > 0, "{report:?}");
    let report = verify(&rig, level(VerifyLevel::L1)).await.unwrap();
    assert!(report.is_sound(), "{report:#?}");
}

#[tokio::test]
async fn the_parts_of_all_turns_cover_every_object_once() {
    let rig = whole_archive(Rig::new(8, START_MS)).await;
    let objects = verify(&rig, level(VerifyLevel::L1)).await.unwrap().objects;
    let mut read = 0;
    for turn in 3..8 {
        let settings = VerifySettings { share: 5, turn, ..level(VerifyLevel::L2) };
        let report = verify(&rig, settings).await.unwrap();
        assert_eq!(report.part, Some((turn % 5 + 1, 5)));
        read += report.read_objects;
    }
    assert_eq!(read, objects);
}

#[tokio::test]
async fn without_keys_an_encrypted_archive_is_hashed_but_not_decoded() {
    let public = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    io::Write::write_all(&mut file, public.as_bytes()).unwrap();
    let keys_of = AgeKeys::from_files(Some(file.path()), &[]).unwrap();
    let rig = whole_archive(Rig::sealed(9, START_MS, Envelope::encrypting(Arc::new(keys_of)))).await;
    for checked in [VerifyLevel::L1, VerifyLevel::L2] {
        let report = verify(&rig, level(checked)).await.unwrap();
        assert!(report.is_sound(), "{report:#?}");
        assert_eq!(report.sealed_manifests, 1);
    }
    let error = verify(&rig, EVERYTHING).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Envelope { .. }), "{error}");
    for key in keys(&rig).await.into_iter().filter(|key| key.contains("/wal/") || key.contains("/digests/")) {
        let parsed = ObjectKey::parse(&key).unwrap();
        let sound = rig.archive.bucket().get(&parsed).await.unwrap();
        rig.archive.bucket().put(&parsed, Bytes::from(vec![0; sound.len()])).await.unwrap();
        assert!(named(&verify(&rig, level(VerifyLevel::L2)).await.unwrap(), &key));
    }
}
