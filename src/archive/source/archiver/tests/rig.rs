//! A data directory that grows as a server's does, and an archive in memory.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::*;
use crate::archive::{ArchiveView, LogPosition};
use crate::bucket::LogKind;
use crate::bucket::tests::failing::FailingStore;
use crate::model::Labels;
use crate::runtime::{ManualClock, Metrics};
use crate::tsdb::wal::{
    Compression, FloatSample, Record, SegmentReader, SegmentWriter, SeriesRecord, Step, TombstoneRecord,
};

pub(super) const START_MS: i64 = 1_700_000_000_000;

pub(super) struct Rig {
    pub(super) dir: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Arc<FailingStore>,
    pub(super) stop: Shutdown,
    cpu: Cpu,
}

impl Rig {
    pub(super) fn new() -> Self {
        let clock = ManualClock::new(START_MS);
        let store = FailingStore::new(Arc::<ManualClock>::clone(&clock));
        let cpu = Cpu::start(1).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), clock, store, stop: Shutdown::new(), cpu }
    }

    /// Another data directory with the same store and clock.
    pub(super) fn sharing(other: &Self) -> Self {
        let (clock, store) = (Arc::clone(&other.clock), Arc::clone(&other.store));
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock,
            store,
            stop: Shutdown::new(),
            cpu: other.cpu.clone(),
        }
    }

    pub(super) fn bucket(&self) -> Bucket {
        Bucket::from_store(Arc::<FailingStore>::clone(&self.store))
    }

    pub(super) fn archive(&self) -> Archive {
        Archive::new(self.bucket(), Envelope::none(), SourceName::new("prom").unwrap())
    }

    pub(super) fn settings(&self) -> ArchiverSettings {
        ArchiverSettings {
            source: SourceName::new("prom").unwrap(),
            data_dir: self.dir.path().to_owned(),
            prometheus_url: None,
            flush: Duration::from_secs(1),
            poll: Duration::from_millis(50),
            digest_range: Duration::from_secs(3_600),
            continue_plaintext: false,
        }
    }

    pub(super) fn parts(&self) -> ArchiverParts {
        ArchiverParts {
            bucket: self.bucket(),
            envelope: Envelope::none(),
            cpu: self.cpu.clone(),
            clock: Arc::<ManualClock>::clone(&self.clock),
            random: random_from_seed(u64::from(std::process::id()) ^ self.clock.monotonic_ms() as u64),
            metrics: ArchiverMetrics::registered(&Metrics::new()),
        }
    }

    pub(super) async fn archiver(&self) -> Archiver {
        self.open_at_once(self.opening().await).await
    }

    /// Gives an archiver its archive, which the store must have.
    pub(super) async fn open_at_once(&self, opening: Opening) -> Archiver {
        let known = opening::read(&self.archive(), false, &random_from_seed(3)).await.unwrap();
        opening.opened(known).await.unwrap()
    }

    pub(super) async fn opening(&self) -> Opening {
        Archiver::open(self.settings(), self.parts(), self.stop.clone()).await.unwrap()
    }

    pub(super) fn server(&self) -> Server {
        Server::new(self.dir.path())
    }

    pub(super) async fn look(&self, archiver: &mut Archiver) {
        self.clock.advance_ms(50);
        archiver.look(archiver.now(), false).await.unwrap();
    }

    /// Lets seconds pass, each with a step whose work is waited for, and with all that it leads to.
    pub(super) async fn turns(&self, archiver: &mut Archiver, seconds: usize) {
        for _ in 0..seconds {
            for _ in 0..4 {
                self.clock.advance_ms(250);
                archiver.step().await.unwrap();
                while archiver.publishing.is_some() || archiver.making.is_some() {
                    if archiver.publishing.is_some() {
                        let published = ended(&mut archiver.publishing).await.unwrap();
                        archiver.published(published).await.unwrap();
                    }
                    if archiver.making.is_some() {
                        let made = ended(&mut archiver.making).await;
                        archiver.made(made).await.unwrap();
                    }
                    archiver.step().await.unwrap();
                }
            }
        }
    }

    pub(super) async fn view(&self) -> ArchiveView {
        self.archive().load().await.unwrap()
    }

    /// Reads back the records that lead to the newest position, and checks that the way has no hole.
    pub(super) async fn archived(&self, view: &ArchiveView, log: LogKind) -> Vec<Vec<u8>> {
        let end = view.newest_timeline().unwrap().end;
        self.archived_to(view, log, &end).await
    }

    pub(super) async fn archived_to(
        &self,
        view: &ArchiveView,
        log: LogKind,
        end: &crate::archive::Position,
    ) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        for cut in view.pieces_to(log, 0, end).unwrap() {
            let piece = self.archive().read_piece(&cut.piece).await.unwrap();
            assert_eq!(piece.header().marks.last().map(|mark| mark.0), Some(cut.piece.end));
            records.extend(piece.records().filter(|r| r.end <= cut.until).map(|r| r.data.to_vec()));
        }
        records
    }

    /// Lists the segments in the spool, without their inodes.
    pub(super) fn spooled(&self) -> Vec<String> {
        let mut names = Vec::new();
        for log in ["wal", "wbl"] {
            let Ok(entries) = fs::read_dir(self.dir.path().join("perennial-spool").join(log)) else {
                continue;
            };
            for entry in entries {
                let name = entry.unwrap().file_name().into_string().unwrap();
                names.push(format!("{log}/{}", name.split('-').next().unwrap()));
            }
        }
        names.sort();
        names
    }
}

/// Writes logs as a server does.
pub(super) struct Server {
    dir: PathBuf,
    ts_ms: i64,
    wal: Log,
    wbl: Option<Log>,
}

struct Log {
    folder: PathBuf,
    segment: u32,
    writer: SegmentWriter,
    records: Vec<Vec<u8>>,
}

impl Log {
    fn begin(folder: PathBuf, segment: u32) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let log =
            Self { folder, segment, writer: SegmentWriter::new(Compression::Snappy), records: Vec::new() };
        log.write(&[]);
        log
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{:08}", self.segment))
    }

    fn write(&self, bytes: &[u8]) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn append(&mut self, record: &[u8]) {
        self.writer.append(record);
        let bytes = self.writer.take();
        self.write(&bytes);
        self.records.push(record.to_vec());
    }

    /// Begins the next segment; `close` fills the last page before.
    fn next(&mut self, close: bool) {
        let writer = std::mem::replace(&mut self.writer, SegmentWriter::new(Compression::Snappy));
        if close {
            let rest = writer.finish();
            self.write(&rest);
        }
        self.segment += 1;
        self.write(&[]);
    }
}

pub(super) fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

impl Server {
    /// Goes on in a new segment, as a server that starts does.
    pub(super) fn new(dir: &Path) -> Self {
        let wal = dir.join("wal");
        let segments = super::super::super::segments::list_segments(&wal).unwrap();
        let next = segments.keys().next_back().map_or(0, |last| last + 1);
        let mut server = Self { dir: dir.to_owned(), ts_ms: START_MS, wal: Log::begin(wal, next), wbl: None };
        if next == 0 {
            let series = |n: u64| {
                let pairs = [("__name__", "up".to_owned()), ("n", n.to_string())];
                SeriesRecord::new(
                    n,
                    &Labels::from_pairs(pairs.iter().map(|(k, v)| (*k, v.as_str()))).unwrap(),
                )
            };
            server.wal.append(&encoded(&Record::Series((1..=3).map(series).collect())));
        }
        server
    }

    pub(super) fn samples(ts_ms: i64) -> Record<'static> {
        let sample = |reference| FloatSample { reference, ts_ms, value_bits: ts_ms as u64, start_ms: 0 };
        Record::Samples((1..=3).map(sample).collect())
    }

    pub(super) fn scrapes(&mut self, count: usize) {
        for _ in 0..count {
            self.ts_ms += 1_000;
            self.wal.append(&encoded(&Self::samples(self.ts_ms)));
        }
    }

    pub(super) fn scrapes_at(&mut self, ts_ms: i64) {
        self.wal.append(&encoded(&Self::samples(ts_ms)));
    }

    /// Writes half of a record, and returns the other half.
    pub(super) fn half_a_scrape(&mut self) -> Vec<u8> {
        self.ts_ms += 1_000;
        let record = encoded(&Self::samples(self.ts_ms));
        self.wal.writer.append(&record);
        let mut bytes = self.wal.writer.take();
        let rest = bytes.split_off(bytes.len() / 2);
        self.wal.write(&bytes);
        self.wal.records.push(record);
        rest
    }

    pub(super) fn write_rest(&self, rest: &[u8]) {
        self.wal.write(rest);
    }

    /// Writes records that do not compress, up to a size.
    pub(super) fn bulk(&mut self, bytes: usize) {
        let random = random_from_seed(bytes as u64);
        let mut written = 0;
        while written < bytes {
            self.ts_ms += 1;
            let sample = |reference| FloatSample {
                reference,
                ts_ms: self.ts_ms,
                value_bits: random.next_u64(),
                start_ms: 0,
            };
            let record = encoded(&Record::Samples((1..=10_000).map(sample).collect()));
            written += record.len();
            self.wal.append(&record);
        }
    }

    /// Flips a bit in the newest segment, so many bytes before its end; returns what puts it right again.
    pub(super) fn damage(&self, before_end: u64) -> impl Fn() + use<> {
        let path = self.wal.path();
        let flip = move || {
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.len() - before_end as usize;
            bytes[at] ^= 1;
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[at..=at], at as u64).unwrap();
        };
        flip();
        flip
    }

    pub(super) fn late_sample(&mut self) {
        let wbl = self.wbl.get_or_insert_with(|| Log::begin(self.dir.join("wbl"), 0));
        wbl.append(&encoded(&Self::samples(self.ts_ms - 100_000)));
    }

    pub(super) fn delete(&mut self) {
        let tombstone =
            TombstoneRecord { reference: 1, min_time_ms: START_MS, max_time_ms: START_MS + 60_000 };
        self.wal.append(&encoded(&Record::Tombstones(vec![tombstone])));
    }

    pub(super) fn rotate(&mut self) {
        self.wal.next(true);
    }

    /// Ends without closing the segment, and starts again.
    pub(super) fn crash(&mut self) {
        self.wal.next(false);
    }

    pub(super) fn truncate_before(&self, segment: u32) {
        for number in 0..segment {
            let _ = fs::remove_file(self.dir.join("wal").join(format!("{number:08}")));
        }
    }

    pub(super) fn position(&self) -> LogPosition {
        LogPosition { segment: self.wal.segment, offset: self.wal.writer.len() }
    }

    /// Repairs its log: the segment is written again with its first records, later ones are removed, and the next
    /// segment is begun.
    pub(super) fn repair(&mut self, segment: u32, keep: usize) {
        let path = self.dir.join("wal").join(format!("{segment:08}"));
        let bytes = fs::read(&path).unwrap();
        let mut reader = SegmentReader::new(&bytes, 0);
        let mut writer = SegmentWriter::new(Compression::Snappy);
        for _ in 0..keep {
            let Step::Record(record) = reader.next_record() else { break };
            writer.append(&record.data);
        }
        // The old file stays until the new one is there, so that they differ in inode.
        let new = self.dir.join("wal").join("repaired.tmp");
        fs::write(&new, writer.take()).unwrap();
        fs::rename(new, &path).unwrap();
        for later in segment + 1..=self.wal.segment {
            let _ = fs::remove_file(self.dir.join("wal").join(format!("{later:08}")));
        }
        self.wal.segment = segment;
        self.wal.next(false);
    }

    /// Loses the end of the last segment, as a machine does whose power fails.
    pub(super) fn lose_tail(&mut self, bytes: u64) {
        let file = OpenOptions::new().write(true).open(self.wal.path()).unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(size - bytes).unwrap();
    }

    pub(super) fn written(&self, log: LogKind) -> Vec<Vec<u8>> {
        match log {
            LogKind::Wal => self.wal.records.clone(),
            LogKind::Wbl => self.wbl.as_ref().map_or_else(Vec::new, |log| log.records.clone()),
        }
    }

    /// Writes a block's files.
    pub(super) fn block(&self, id: Ulid, level: u32, sources: &[Ulid], samples: u64) {
        let dir = self.dir.join(id.to_string());
        fs::create_dir_all(dir.join("chunks")).unwrap();
        fs::write(dir.join("index"), format!("index of {id}")).unwrap();
        fs::write(dir.join("chunks/000001"), id.to_string().repeat(1_000)).unwrap();
        fs::write(dir.join("tombstones"), [0; 9]).unwrap();
        let meta = serde_json::json!({
            "ulid": id, "minTime": 0, "maxTime": 1_000, "version": 1,
            "stats": {"numSamples": samples, "numSeries": 3, "numChunks": 3},
            "compaction": {"level": level, "sources": sources},
        });
        fs::write(dir.join("meta.json"), meta.to_string()).unwrap();
    }

    /// Replaces a block's tombstones by rename.
    pub(super) fn tombstones(&self, id: Ulid, content: &[u8]) {
        let dir = self.dir.join(id.to_string());
        fs::write(dir.join("tombstones.tmp"), content).unwrap();
        fs::rename(dir.join("tombstones.tmp"), dir.join("tombstones")).unwrap();
    }

    /// Dates the files of a block.
    pub(super) fn date_block(&self, id: Ulid, at_ms: i64) {
        let at = std::time::UNIX_EPOCH + Duration::from_millis(at_ms as u64);
        for name in ["meta.json", "tombstones"] {
            let file = OpenOptions::new().append(true).open(self.dir.join(id.to_string()).join(name));
            file.unwrap().set_modified(at).unwrap();
        }
    }

    pub(super) fn remove_block(&self, id: Ulid) {
        fs::remove_dir_all(self.dir.join(id.to_string())).unwrap();
    }

    /// Writes a checkpoint and removes what it replaces.
    pub(super) fn checkpoint(&self, number: u32) {
        let dir = self.dir.join("wal").join(format!("checkpoint.{number:08}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("00000000"), format!("checkpoint {number}")).unwrap();
        self.truncate_before(number + 1);
    }
}
