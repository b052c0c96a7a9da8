//! A made-up archive in memory, and what a restored directory holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::archive::{
    Archive, ArchiveView, Base, BlockState, ChainEnd, CheckpointEntry, ENTRY_FORMAT, Entry, Event, EventKind,
    Fork, ForkReason, LogPosition, Manifest, PieceBuilder, PieceEntry, Position, ServerFacts, Sha256Hash,
    Stamp, StoredBlock, StoredFile, StoredPart, compress,
};
use crate::bucket::{ArchiveObject, Bucket, FileOwner, LogKind};
use crate::envelope::Envelope;
use crate::model::{Labels, SourceName, Ulid};
use crate::restore::tombstones::FileAt;
use crate::restore::*;
use crate::runtime::{Cpu, Random, SystemClock, random_from_seed};
use crate::tsdb::block::{
    BlockBuilder, BlockChunks, BlockFile, BlockFiles, BlockMeta, BlockOptions, HINT_FROM_OUT_OF_ORDER,
    IndexReader, SeriesChunks, Tombstone, decode_tombstones, encode_tombstones,
};
use crate::tsdb::chunk::{SampleValue, decode_chunk};
use crate::tsdb::wal::{
    Compression, FloatSample, Record, SegmentReader, SegmentWriter, SeriesRecord, Step, TombstoneRecord,
};

/// Series, time and bits of samples.
pub(crate) type Samples = BTreeSet<(String, i64, u64)>;

pub(crate) struct Rig {
    pub(crate) store: Arc<InMemory>,
    pub(crate) archive: Archive,
    pub(crate) random: Random,
    pub(crate) now_ms: i64,
    pub(crate) dir: tempfile::TempDir,
    end: ChainEnd,
    /// Where each log is read up to.
    places: BTreeMap<LogKind, LogPosition>,
    next_segment: bool,
    pub(crate) blocks: Vec<BlockState>,
    pub(crate) checkpoint: Option<CheckpointEntry>,
    pub(crate) first_segment: u32,
    fork: Option<Fork>,
    pub(crate) server: Option<ServerFacts>,
    pub(crate) events: Vec<Event>,
}

/// The files of a block, in memory.
#[derive(Debug, Default)]
struct Memory(BTreeMap<BlockFile, Vec<u8>>);

impl BlockFiles for Memory {
    type File = Vec<u8>;

    fn create(&mut self, _: BlockFile) -> std::io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn close(&mut self, file: BlockFile, written: Vec<u8>) -> std::io::Result<()> {
        self.0.insert(file, written);
        Ok(())
    }
}

pub(crate) fn labels(text: &str) -> Labels {
    Labels::from_pairs([("__name__", "m"), ("s", text)]).unwrap()
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::of("prom-a")
    }

    pub(crate) fn of(source: &str) -> Self {
        let store = Arc::new(InMemory::new());
        let dynamic: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
        let archive =
            Archive::new(Bucket::from_store(dynamic), Envelope::none(), SourceName::new(source).unwrap());
        let now_ms = 1_000_000;
        let noticed = Stamp { wall_ms: now_ms, monotonic_ms: 0 };
        let fork = Fork { parent: None, at: None, reason: ForkReason::Start, noticed, detail: String::new() };
        Self {
            store,
            archive,
            random: random_from_seed(7),
            now_ms,
            dir: tempfile::tempdir().unwrap(),
            end: ChainEnd::default(),
            places: BTreeMap::new(),
            next_segment: false,
            blocks: Vec::new(),
            checkpoint: None,
            first_segment: 0,
            fork: Some(fork),
            server: None,
            events: Vec::new(),
        }
    }

    pub(crate) fn to(&self) -> PathBuf {
        self.dir.path().join("restored")
    }

    fn stamp(&self) -> Stamp {
        Stamp { wall_ms: self.now_ms, monotonic_ms: self.now_ms }
    }

    fn position(&self) -> Position {
        let wal = self.places.get(&LogKind::Wal).copied().unwrap_or_default();
        Position { timeline: 1, wal, wbl: self.places.get(&LogKind::Wbl).copied() }
    }

    fn entry(&mut self) -> Entry {
        Entry {
            format: ENTRY_FORMAT,
            source: self.archive.source().clone(),
            seq: 0,
            previous_sha256: None,
            id: self.random.ulid(self.now_ms),
            archiver: Ulid::nil(),
            made: self.stamp(),
            position: self.position(),
            fork: self.fork.take(),
            pieces: Vec::new(),
            base: None,
            events: std::mem::take(&mut self.events),
            server: self.server.take(),
            digests: Vec::new(),
            unknown: serde_json::Map::new(),
        }
    }

    /// Records the blocks and the checkpoint as they are now.
    pub(crate) async fn base(&mut self) {
        self.now_ms += 10;
        let mut entry = self.entry();
        entry.base = Some(Base {
            seen: self.stamp(),
            changed_ms: self.now_ms,
            position: self.position(),
            checkpoint: self.checkpoint.clone(),
            first_segment: self.first_segment,
            wbl_first_segment: self.places.contains_key(&LogKind::Wbl).then_some(0),
            blocks: self.blocks.clone(),
        });
        self.append(entry).await;
    }

    async fn append(&mut self, mut entry: Entry) {
        self.end = self.archive.append(self.end, &mut entry).await.unwrap();
    }

    pub(crate) async fn event(&mut self, kind: EventKind, block: Option<Ulid>) {
        let (at_ms, position) = (self.now_ms, self.position());
        self.events.push(Event { kind, at_ms, position, block, detail: String::new() });
        let entry = self.entry();
        self.append(entry).await;
    }

    /// Lets a second pass and archives records that came in it.
    pub(crate) async fn log(&mut self, log: LogKind, records: &[Record<'_>]) {
        let follows = self.places.get(&log).copied().unwrap_or_default();
        let begins = if log == LogKind::Wal && std::mem::take(&mut self.next_segment) {
            LogPosition { segment: follows.segment + 1, offset: 0 }
        } else {
            follows
        };
        let mut builder = PieceBuilder::new(1, log, begins, self.now_ms);
        let (mut at, mut times, mut samples) = (begins, None, 0);
        for record in records {
            let mut data = Vec::new();
            record.encode(&mut data);
            at.offset += 7 + data.len() as u64;
            builder.push(at.offset, &data);
            let summary = crate::tsdb::wal::summarize(&data).unwrap();
            if let Some((min, max)) = summary.times_ms {
                let (a, b) = times.unwrap_or((min, max));
                times = Some((min.min(a), max.max(b)));
                samples += summary.count as u64;
            }
        }
        self.now_ms += 1_000;
        builder.mark(self.now_ms);
        let plain = builder.finish();
        let stored = compress(&plain, 1);
        let piece = PieceEntry {
            id: self.random.ulid(self.now_ms),
            timeline: 1,
            log,
            segment: begins.segment,
            start: begins.offset,
            end: at.offset,
            follows,
            after_ms: self.now_ms - 1_000,
            seen: self.stamp(),
            sample_times_ms: times,
            series_ref_max: 9,
            counts: BTreeMap::from([("samples".to_owned(), samples)]),
            plain_bytes: plain.len() as u64,
            plain_sha256: Sha256Hash::of(&plain),
            stored_bytes: stored.len() as u64,
            stored_sha256: Sha256Hash::of(&stored),
        };
        let key = piece.key(self.archive.source());
        self.archive.bucket().create(&key, Bytes::from(stored)).await.unwrap();
        self.places.insert(log, at);
        let mut entry = self.entry();
        entry.pieces.push(piece);
        self.append(entry).await;
    }

    pub(crate) fn ulid(&self) -> Ulid {
        self.random.ulid(self.now_ms)
    }

    pub(crate) async fn put_file(
        &self,
        owner: FileOwner,
        upload: Ulid,
        path: &str,
        bytes: &[u8],
    ) -> StoredFile {
        let mut file = StoredFile {
            path: path.to_owned(),
            owner,
            upload,
            size_bytes: bytes.len() as u64,
            sha256: Sha256Hash::of(bytes),
            parts: Vec::new(),
        };
        // Two parts where there is room, one as it is and one compressed.
        let half = bytes.len().div_ceil(2);
        for (part, plain) in (0..).zip(bytes.chunks(half.max(1))) {
            let compressed = part == 1;
            let stored = if compressed { compress(plain, 1) } else { plain.to_vec() };
            file.parts.push(StoredPart {
                plain_bytes: plain.len() as u64,
                compressed,
                stored_bytes: stored.len() as u64,
                stored_sha256: Sha256Hash::of(&stored),
            });
            let key = file.part_key(self.archive.source(), part).unwrap();
            self.archive.bucket().create(&key, Bytes::from(stored)).await.unwrap();
        }
        file
    }

    /// Stores a block with samples of series, by name.
    pub(crate) async fn block(
        &mut self,
        series: &[(&str, &[(i64, f64)])],
        range: (i64, i64),
        late: bool,
    ) -> Ulid {
        let id = self.ulid();
        let hints = if late { vec![HINT_FROM_OUT_OF_ORDER.to_owned()] } else { vec![] };
        let time_range = Some(crate::model::TimeRange { start_ms: range.0, end_ms: range.1 });
        let options = BlockOptions { hints, time_range, ..BlockOptions::level_one(id) };
        let mut builder = BlockBuilder::new(Memory::default(), options);
        for (name, samples) in series {
            let mut chunks = SeriesChunks::new();
            samples.iter().for_each(|(ts_ms, value)| chunks.push_float(*ts_ms, value.to_bits()));
            builder.add(&labels(name), &mut chunks).unwrap();
        }
        let (files, meta) = builder.finish().unwrap();
        self.put_block(id, files.0, &meta).await;
        id
    }

    async fn put_block(&mut self, id: Ulid, files: BTreeMap<BlockFile, Vec<u8>>, meta: &BlockMeta) {
        let (upload, owner) = (self.ulid(), FileOwner::Block(id));
        let mut stored = Vec::new();
        for (file, bytes) in &files {
            if *file != BlockFile::Tombstones {
                stored.push(self.put_file(owner, upload, &file.to_string(), bytes).await);
            }
        }
        let plain_bytes = stored.iter().map(|file| file.size_bytes).sum();
        let (manifest_sha256, stored_bytes) = self.put_manifest(id, upload, stored).await;
        let block = StoredBlock {
            id,
            upload,
            min_time_ms: meta.min_time_ms,
            max_time_ms: meta.max_time_ms,
            samples: meta.stats.num_samples,
            plain_bytes,
            stored_bytes,
            manifest_sha256,
            tombstones: None,
        };
        self.blocks.push(BlockState {
            id,
            min_time_ms: meta.min_time_ms,
            max_time_ms: meta.max_time_ms,
            samples: meta.stats.num_samples,
            series: meta.stats.num_series,
            level: 1,
            out_of_order: meta.is_out_of_order(),
            stored: vec![block],
        });
    }

    pub(crate) async fn put_manifest(
        &self,
        block: Ulid,
        upload: Ulid,
        files: Vec<StoredFile>,
    ) -> (Sha256Hash, u64) {
        let stored_bytes = files.iter().map(StoredFile::stored_bytes).sum();
        let manifest = Manifest { format: ENTRY_FORMAT, block, files };
        let bytes = compress(&serde_json::to_vec(&manifest).unwrap(), 1);
        let key = self.archive.key(ArchiveObject::Manifest { block, upload });
        self.archive.bucket().put(&key, Bytes::from(bytes.clone())).await.unwrap();
        (Sha256Hash::of(&bytes), stored_bytes)
    }

    /// Hides a range of all series of the newest block.
    pub(crate) async fn hide(&mut self, first_ms: i64, last_ms: i64, references: &[u64]) {
        let stones: Vec<Tombstone> = references
            .iter()
            .map(|reference| Tombstone { reference: *reference, min_time_ms: first_ms, max_time_ms: last_ms })
            .collect();
        let id = self.blocks.last().unwrap().id;
        let bytes = encode_tombstones(&stones);
        let upload = self.ulid();
        let file = self.put_file(FileOwner::Block(id), upload, "tombstones", &bytes).await;
        self.blocks.last_mut().unwrap().stored[0].tombstones = Some(file);
    }

    /// Stores a checkpoint with records.
    pub(crate) async fn put_checkpoint(&mut self, number: u32, records: &[Record<'_>]) {
        let mut writer = SegmentWriter::new(Compression::Snappy);
        for record in records {
            let mut data = Vec::new();
            record.encode(&mut data);
            writer.append(&data);
        }
        let owner = FileOwner::Checkpoint { timeline: 1, number };
        let (upload, bytes) = (self.ulid(), writer.finish());
        let files = vec![self.put_file(owner, upload, "00000000", &bytes).await];
        self.checkpoint = Some(CheckpointEntry { timeline: 1, number, files });
    }

    /// Goes on in another segment.
    pub(crate) fn next_segment(&mut self) {
        self.next_segment = true;
        self.first_segment = self.places.get(&LogKind::Wal).map_or(1, |at| at.segment + 1);
    }

    pub(crate) fn context(&self) -> RestoreContext {
        RestoreContext::new(self.archive.clone(), Cpu::start(2).unwrap(), 2, SystemClock::new())
    }

    pub(crate) async fn view(&self) -> ArchiveView {
        self.archive.load().await.unwrap()
    }

    pub(crate) async fn plan(&self, request: &RestoreRequest) -> Result<RestorePlan, RestoreError> {
        plan(&self.context(), &self.view().await, request).await
    }

    pub(crate) async fn run(&self, request: &RestoreRequest) -> Result<RestoreReport, RestoreError> {
        let (context, view) = (self.context(), self.view().await);
        let plan = plan(&context, &view, request).await?;
        run(&context, &view, plan).await
    }

    /// Returns the objects whose keys contain a text.
    pub(crate) async fn objects(&self, part: &str) -> Vec<StorePath> {
        use futures::TryStreamExt;
        let all: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let mut keys: Vec<StorePath> = all.into_iter().map(|meta| meta.location).collect();
        keys.retain(|key| key.as_ref().contains(part));
        keys.sort();
        keys
    }

    pub(crate) async fn flip(&self, key: &StorePath) {
        let mut bytes = self.store.get(key).await.unwrap().bytes().await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.store.put(key, bytes.into()).await.unwrap();
    }
}

pub(crate) fn series(rows: &[(u64, &str)]) -> Record<'static> {
    Record::Series(
        rows.iter().map(|(reference, name)| SeriesRecord::new(*reference, &labels(name))).collect(),
    )
}

pub(crate) fn floats(rows: &[(u64, i64, f64)]) -> Record<'static> {
    let sample = |(reference, ts_ms, value): &(u64, i64, f64)| FloatSample {
        reference: *reference,
        ts_ms: *ts_ms,
        value_bits: value.to_bits(),
        start_ms: 0,
    };
    Record::Samples(rows.iter().map(sample).collect())
}

pub(crate) fn deleted(reference: u64, min_time_ms: i64, max_time_ms: i64) -> Record<'static> {
    Record::Tombstones(vec![TombstoneRecord { reference, min_time_ms, max_time_ms }])
}

/// Returns the samples of a data directory's blocks, without those that tombstones hide.
pub(crate) fn block_samples(dir: &Path) -> Samples {
    let mut found = Samples::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let folder = entry.unwrap().path();
        if !folder.join("meta.json").exists() {
            continue;
        }
        let index = IndexReader::open(FileAt::open(&folder.join("index")).unwrap()).unwrap();
        let chunks = vec![FileAt::open(&folder.join("chunks/000001")).unwrap()];
        let mut chunks = BlockChunks::open(&chunks).unwrap();
        let stones = decode_tombstones(&std::fs::read(folder.join("tombstones")).unwrap()).unwrap();
        for series in index.series() {
            let series = series.unwrap();
            let hidden = |ts_ms: i64| {
                let mut own = stones.iter().filter(|stone| stone.reference == u64::from(series.reference));
                own.any(|stone| (stone.min_time_ms..=stone.max_time_ms).contains(&ts_ms))
            };
            for chunk in &series.chunks {
                let stored = chunks.read(chunk.reference).unwrap();
                for sample in decode_chunk(stored.encoding, stored.data) {
                    let sample = sample.unwrap();
                    let SampleValue::Float(bits) = sample.value else { continue };
                    if !hidden(sample.t_ms) {
                        found.insert((series.labels.get("s").unwrap().to_owned(), sample.t_ms, bits));
                    }
                }
            }
        }
    }
    found
}

/// Returns the records of a log of a data directory.
pub(crate) fn log_records(dir: &Path, log: &str) -> Vec<Vec<u8>> {
    let mut names: Vec<PathBuf> = match std::fs::read_dir(dir.join(log)) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    names.sort();
    let mut records = Vec::new();
    for path in names {
        let bytes = std::fs::read(path).unwrap();
        let mut reader = SegmentReader::new(&bytes, 0);
        loop {
            match reader.next_record() {
                Step::Record(record) => records.push(record.data.into_owned()),
                Step::End { .. } => break,
                other => panic!("{other:?}"),
            }
        }
    }
    records
}

/// Returns the samples that Prometheus would replay out of a directory's WAL, written once more and plainly.
pub(crate) fn replayed(dir: &Path, cut_off_ms: i64) -> Samples {
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    let mut hidden: Vec<(String, i64, i64)> = Vec::new();
    let mut found = Samples::new();
    for data in log_records(dir, "wal") {
        match Record::decode(&data).unwrap() {
            Record::Series(rows) => {
                for row in rows {
                    let labels = row.labels.to_labels().unwrap();
                    names.insert(row.reference, labels.get("s").unwrap().to_owned());
                }
            }
            Record::Samples(rows) => {
                for row in rows {
                    let Some(name) = names.get(&row.reference) else { continue };
                    let newest = last.entry(name.clone()).or_insert(i64::MIN);
                    if row.ts_ms >= cut_off_ms && row.ts_ms > *newest {
                        *newest = row.ts_ms;
                        found.insert((name.clone(), row.ts_ms, row.value_bits));
                    }
                }
            }
            Record::Tombstones(rows) => hidden
                .extend(rows.iter().map(|r| (names[&r.reference].clone(), r.min_time_ms, r.max_time_ms))),
            _ => {}
        }
    }
    found.retain(|(name, ts_ms, _)| {
        !hidden.iter().any(|(of, first, last)| of == name && (*first..=*last).contains(ts_ms))
    });
    for data in log_records(dir, "wbl") {
        let Record::Samples(rows) = Record::decode(&data).unwrap() else { continue };
        found.extend(rows.iter().map(|r| (names[&r.reference].clone(), r.ts_ms, r.value_bits)));
    }
    found
}

/// Returns everything that a restored directory answers with.
pub(crate) fn all_samples(dir: &Path, cut_off_ms: i64) -> Samples {
    block_samples(dir).union(&replayed(dir, cut_off_ms)).cloned().collect()
}

/// Returns the paths and hashes of all files.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let hash = format!("{:x}", Sha256::digest(std::fs::read(&path).unwrap()));
                found.insert(path.strip_prefix(root).unwrap().to_owned(), hash);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found
}
