//! L3: everything is opened and decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest as _, Sha256};

use super::VerifyReport;
use super::inventory::Inventory;
use super::reading::{Decoded, READS_AT_ONCE, Reader};
use crate::archive::{
    Archive, ArchiveError, DigestEntry, Piece, PieceEntry, PieceHeader, Sha256Hash, StoredFile, decompress,
};
use crate::bucket::{ArchiveObject, ObjectKey};
use crate::tsdb::block::decode_tombstones;
use crate::tsdb::wal::{Record, RecordKind, SegmentReader, Step, summarize};

impl Reader<'_> {
    /// Reads and decodes all objects.
    pub(super) async fn decode_all(
        &self,
        inventory: Inventory,
        report: &mut VerifyReport,
    ) -> Result<(), ArchiveError> {
        self.progress.plan(inventory.objects(self.source()).filter_map(|object| object.bytes).sum());
        let Inventory { pieces, checkpoints, tombstones, digests, blocks, .. } = inventory;
        let work = pieces.into_iter().map(Work::Piece);
        let work = work.chain(checkpoints.into_iter().map(Work::Checkpoint));
        let work = work.chain(tombstones.into_iter().map(Work::Tombstones));
        let work = work.chain(digests.into_iter().map(Work::Digest));
        let small = work.map(|work| self.decode(work));
        let mut decoded = futures::stream::iter(small).buffer_unordered(READS_AT_ONCE);
        while let Some(decoded) = decoded.next().await {
            decoded.into_report(report)?;
        }
        for block in &blocks {
            self.block(block).await.into_report(report)?;
        }
        Ok(())
    }

    async fn decode(&self, work: Work) -> Decoded {
        match work {
            Work::Piece(entry) => self.piece(entry).await,
            Work::Checkpoint(file) => self.file(file, checkpoint_segment).await,
            Work::Tombstones(file) => self.file(file, tombstones_file).await,
            Work::Digest(entry) => self.digest(entry).await,
        }
    }

    async fn piece(&self, expected: PieceEntry) -> Decoded {
        let key = expected.key(self.source());
        let _room = self.reserve(expected.stored_bytes.saturating_add(expected.plain_bytes)).await;
        let (archive, named) = (self.archive.clone(), key.clone());
        self.object(&key, expected.stored_sha256, move |stored, decoded| {
            let opened = archive.open(&named, stored)?;
            let damaged = |reason| ArchiveError::Damaged { key: named.to_string(), reason };
            let plain = decompress(&opened, expected.plain_bytes).map_err(damaged)?;
            if Sha256Hash::of(&plain) != expected.plain_sha256 {
                decoded.add(&named, "the SHA-256 of its content is not the one that was recorded");
            }
            let piece = Piece::decode(plain).map_err(damaged)?;
            check_piece(&named, &piece, &expected, decoded);
            Ok(())
        })
        .await
    }

    async fn digest(&self, expected: DigestEntry) -> Decoded {
        let key = self.archive.key(ArchiveObject::Digest { id: expected.id });
        let _room = self.reserve(expected.stored_bytes.saturating_mul(3)).await;
        let (archive, named) = (self.archive.clone(), key.clone());
        self.object(&key, expected.stored_sha256, move |stored, decoded| {
            let opened = archive.open(&named, stored)?;
            let digest = crate::archive::Digest::decode(&opened)
                .map_err(|reason| ArchiveError::Damaged { key: named.to_string(), reason })?;
            let range = (digest.min_time_ms, digest.max_time_ms);
            if range != (expected.min_time_ms, expected.max_time_ms) {
                decoded.add(&named, "its range is not the one that was recorded");
            }
            if digest.rows.len() as u64 != expected.series {
                decoded
                    .add(&named, format!("it has {} series and not {}", digest.rows.len(), expected.series));
            }
            Ok(())
        })
        .await
    }

    /// Reads one object, checks its hash and decodes it on a compute thread.
    async fn object(
        &self,
        key: &ObjectKey,
        sha256: Sha256Hash,
        decode: impl FnOnce(Bytes, &mut Decoded) -> Result<(), ArchiveError> + Send + 'static,
    ) -> Decoded {
        let read = async {
            let stored = self.stored(key, sha256).await?;
            let bytes = stored.len() as u64;
            let decode = move || {
                let mut decoded = Decoded { read_objects: 1, read_bytes: bytes, ..Decoded::default() };
                let outcome = decode(stored, &mut decoded);
                (decoded, outcome)
            };
            Ok::<_, ArchiveError>(self.cpu.run(decode).await?)
        };
        match read.await {
            Ok((mut decoded, outcome)) => {
                decoded.errors.extend(outcome.err().map(|error| (key.to_string(), error)));
                decoded
            }
            // Found by the listing already.
            Err(ArchiveError::Missing { .. }) => Decoded::default(),
            Err(error) => Decoded { errors: vec![(key.to_string(), error)], ..Decoded::default() },
        }
    }

    /// Reads a file that is held whole, and checks it.
    async fn file(&self, file: StoredFile, check: CheckFile) -> Decoded {
        let _room = self.reserve(file.size_bytes.saturating_add(file.stored_bytes())).await;
        let mut decoded = Decoded::default();
        let Some(first) = file.part_key(self.source(), 0) else { return decoded };
        let mut parts = Vec::new();
        for (number, part) in file.parts.iter().enumerate() {
            let number = number as u32;
            let Some(key) = file.part_key(self.source(), number) else { return decoded };
            match self.stored(&key, part.stored_sha256).await {
                Ok(stored) => {
                    decoded.read_objects += 1;
                    decoded.read_bytes += stored.len() as u64;
                    parts.push(stored);
                }
                Err(ArchiveError::Missing { .. }) => return decoded,
                Err(error) => {
                    decoded.errors.push((key.to_string(), error));
                    return decoded;
                }
            }
        }
        let (archive, owned, key) = (self.archive.clone(), file, first.to_string());
        let work = move || match whole_file(&archive, &owned, parts) {
            Ok(bytes) => check(&key, &bytes, decoded),
            Err(error) => {
                decoded.errors.push((key, error));
                decoded
            }
        };
        match self.cpu.run(work).await {
            Ok(decoded) => decoded,
            Err(error) => Decoded { errors: vec![(first.to_string(), error.into())], ..Decoded::default() },
        }
    }
}

/// Something to decode.
#[derive(Debug)]
enum Work {
    Piece(PieceEntry),
    Checkpoint(StoredFile),
    Tombstones(StoredFile),
    Digest(DigestEntry),
}

/// Checks the bytes of a file that is stored under a key.
type CheckFile = fn(&str, &[u8], Decoded) -> Decoded;

fn whole_file(archive: &Archive, file: &StoredFile, parts: Vec<Bytes>) -> Result<Vec<u8>, ArchiveError> {
    let (mut bytes, mut hash) = (Vec::new(), Sha256::new());
    for (number, stored) in parts.into_iter().enumerate() {
        let plain = archive.open_part(file, number as u32, stored)?;
        hash.update(&plain);
        bytes.extend_from_slice(&plain);
    }
    check_file_hash(archive, file, bytes.len() as u64, hash)?;
    Ok(bytes)
}

/// Holds size and hash of a whole file against what was recorded.
pub(super) fn check_file_hash(
    archive: &Archive,
    file: &StoredFile,
    bytes: u64,
    hash: Sha256,
) -> Result<(), ArchiveError> {
    let reason = if bytes != file.size_bytes {
        format!("the file {} has {bytes} bytes and not {}", file.path, file.size_bytes)
    } else if Sha256Hash::finish(hash) != file.sha256 {
        format!("the SHA-256 of the file {} is not the one that was recorded", file.path)
    } else {
        return Ok(());
    };
    let key = file.part_key(archive.source(), 0).map(|key| key.to_string()).unwrap_or_default();
    Err(ArchiveError::Damaged { key, reason })
}

fn tombstones_file(key: &str, bytes: &[u8], mut decoded: Decoded) -> Decoded {
    if let Err(error) = decode_tombstones(bytes) {
        decoded.add(key, crate::model::error_chain(&error));
    }
    decoded
}

fn checkpoint_segment(key: &str, bytes: &[u8], mut decoded: Decoded) -> Decoded {
    let mut reader = SegmentReader::new(bytes, 0);
    loop {
        match reader.next_record() {
            Step::Record(record) => check_record(key, record.end, &record.data, &mut decoded),
            Step::End { .. } => return decoded,
            Step::Incomplete { offset } => {
                decoded.add(key, format!("the record at offset {offset} is not whole"));
                return decoded;
            }
            Step::Damaged(damage) => {
                decoded.add(key, damage.to_string());
                return decoded;
            }
        }
    }
}

fn check_record(key: &str, end: u64, data: &[u8], decoded: &mut Decoded) {
    decoded.records += 1;
    match Record::decode(data) {
        Ok(Record::Samples(samples) | Record::SamplesV2(samples)) => decoded.samples += samples.len() as u64,
        Ok(Record::Histograms { samples, .. } | Record::HistogramsV2(samples)) => {
            decoded.samples += samples.len() as u64;
        }
        Ok(Record::FloatHistograms { samples, .. } | Record::FloatHistogramsV2(samples)) => {
            decoded.samples += samples.len() as u64;
        }
        Ok(_) => {}
        Err(error) => decoded.add(key, format!("the record that ends at {end}: {error}")),
    }
}

fn check_piece(key: &ObjectKey, piece: &Piece, entry: &PieceEntry, decoded: &mut Decoded) {
    let PieceHeader { timeline, log, segment, start, end, marks, .. } = piece.header();
    if (*timeline, *log, *segment, *start, *end)
        != (entry.timeline, entry.log, entry.segment, entry.start, entry.end)
    {
        decoded.add(key, "it holds another part of the log than its entry says");
    }
    let ordered = marks.windows(2).all(|pair| pair[0].0 <= pair[1].0);
    if !ordered || marks.last().is_none_or(|mark| mark.0 != *end) {
        decoded.add(key, "its marks do not lead to its end");
    }
    let name = key.to_string();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut times, mut reference_max) = (None, 0);
    for record in piece.records() {
        check_record(&name, record.end, record.data, decoded);
        let Ok(summary) = summarize(record.data) else { continue };
        *counts.entry(summary.kind.to_string()).or_default() += summary.count as u64;
        reference_max = reference_max.max(summary.reference_max.unwrap_or(0));
        if let Some((min, max)) = summary.times_ms {
            times = Some(times.map_or((min, max), |(a, b): (i64, i64)| (a.min(min), b.max(max))));
        }
    }
    let unknown = RecordKind::Unknown.to_string();
    let mut said = entry.counts.clone();
    [&mut counts, &mut said].into_iter().for_each(|counts| {
        counts.remove(&unknown);
        counts.retain(|_, count| *count > 0);
    });
    let comparisons = [
        ("counts", counts != said),
        ("times of samples", times != entry.sample_times_ms),
        ("greatest series number", reference_max != entry.series_ref_max),
    ];
    for (what, _) in comparisons.iter().filter(|(_, differs)| *differs) {
        decoded.add(key, format!("its {what} are not those that its entry says"));
    }
}

/// Shares what the parts of a block are read with.
pub(super) type SharedFile = Arc<StoredFile>;
