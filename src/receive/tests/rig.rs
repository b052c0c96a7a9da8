//! A receiver in this process, over a bucket in memory and a log on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures::stream::BoxStream;
use http::Request;
use http_body_util::BodyExt;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tower::ServiceExt;

use crate::bucket::Bucket;
use crate::bucket::tests::failing::FailingStore;
use crate::catalog::{CatalogSettings, Catalogs};
use crate::head::Heads;
use crate::log::object::{ObjectLog, ObjectLogSettings};
use crate::log::{DiskLog, Log, LogSettings, OsFiles};
use crate::model::{
    ErrorKind, Exemplar, HistogramSample, Labels, Metadata, MetadataEntry, Sample, SeriesData, TenantId,
    TimeRange, normalize_exemplars,
};
use crate::receive::*;
use crate::runtime::{Cpu, ManualClock, Memory, Metrics, Random, Shutdown, random_from_seed};
use crate::select::{CatalogView, Grouping, LocalBlocks, ReadCache, SelectLimits, Selector};
use crate::wire::remote_write::{
    FullSeriesToSend, Limits, Protocol, SeriesToSend, encode_full_request, encode_request,
};
use crate::wire::snappy;

pub(super) const NOW_MS: i64 = 1_700_000_000_000;
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

pub(super) fn series(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// A store that can be switched off.
#[derive(Debug)]
struct Switched {
    inner: Arc<FailingStore>,
    away: AtomicBool,
    /// Whether it goes away with the reply to the next catalog version.
    goes_away: AtomicBool,
}

impl fmt::Display for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switched")
    }
}

impl Switched {
    fn check(&self) -> object_store::Result<()> {
        if self.away.load(Ordering::SeqCst) {
            return Err(object_store::Error::Generic { store: "test", source: "switched off".into() });
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl ObjectStore for Switched {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, o: PutOptions) -> object_store::Result<PutResult> {
        self.check()?;
        let commits = o.mode == PutMode::Create && at.as_ref().contains("/catalog/");
        let stored = self.inner.put_opts(at, bytes, o).await;
        if commits && self.goes_away.swap(false, Ordering::SeqCst) {
            self.away.store(true, Ordering::SeqCst);
            self.check()?;
        }
        stored
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        o: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.check()?;
        self.inner.put_multipart_opts(at, o).await
    }

    async fn get_opts(&self, at: &Path, o: GetOptions) -> object_store::Result<GetResult> {
        self.check()?;
        self.inner.get_opts(at, o).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> object_store::Result<()> {
        self.check()?;
        self.inner.copy_opts(from, to, o).await
    }
}

/// What outlives a process: disk, bucket, time.
pub(super) struct Rig {
    dir: tempfile::TempDir,
    store: Arc<Switched>,
    clock: Arc<ManualClock>,
    random: Random,
    tenant: TenantId,
    /// See [`Rig::hand_over`].
    hand_over: Duration,
    local_bytes_max: u64,
    /// So small that replay cuts between any two segments, unless a test keeps the heads.
    head_bytes_max: usize,
}

/// A running receiver.
pub(super) struct Node {
    routes: axum::Router,
    requests: CutterRequests,
    selector: Selector,
    heads: Arc<Heads>,
    local: Arc<LocalBlocks>,
    pending_dir: std::path::PathBuf,
    view: Arc<CatalogView>,
    tenant: TenantId,
    log_dir: std::path::PathBuf,
    stop: Shutdown,
    cutter: tokio::task::JoinHandle<Result<(), CutError>>,
    committer: std::thread::JoinHandle<()>,
    commands: Commands,
    recoverer: Option<Recoverer>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) samples_written: u64,
    pub(super) histograms_written: u64,
    pub(super) exemplars_written: u64,
    pub(super) text: String,
    pub(super) retry_after: Option<String>,
}

/// A series with all it may hold.
#[derive(Debug, Clone)]
pub(super) struct FullSeries {
    pub(super) labels: Labels,
    pub(super) samples: Vec<Sample>,
    pub(super) histograms: Vec<HistogramSample>,
    pub(super) exemplars: Vec<Exemplar>,
    pub(super) metadata: Option<Metadata>,
}

/// What the heads of a receiver hold.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Held {
    pub(super) series: BTreeMap<Labels, SeriesData>,
    pub(super) exemplars: BTreeMap<Labels, Vec<Exemplar>>,
    pub(super) metadata: BTreeSet<(String, Metadata)>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let clock = ManualClock::new(NOW_MS);
        let inner = FailingStore::new(Arc::clone(&clock) as _);
        Self {
            dir: tempfile::tempdir().unwrap(),
            store: Arc::new(Switched {
                inner,
                away: AtomicBool::new(false),
                goes_away: AtomicBool::new(false),
            }),
            clock,
            random: random_from_seed(1),
            tenant: TenantId::new("t").unwrap(),
            hand_over: Duration::ZERO,
            local_bytes_max: 0,
            head_bytes_max: 1,
        }
    }

    /// A rig whose receivers bring all of the log back into their heads.
    pub(super) fn keeping_heads() -> Self {
        Self { head_bytes_max: usize::MAX, ..Self::new() }
    }

    /// Replay cuts from now on where the heads pass this size between two segments.
    pub(super) fn set_head_bytes_max(&mut self, head_bytes_max: usize) {
        self.head_bytes_max = head_bytes_max;
    }

    pub(super) fn set_bucket_away(&self, away: bool) {
        self.store.away.store(away, Ordering::SeqCst);
    }

    /// Lets the next catalog version land; its reply is lost, and the bucket is away from then on.
    pub(super) fn lose_reply_of_next_commit(&self) {
        self.store.goes_away.store(true, Ordering::SeqCst);
    }

    /// Readers elsewhere need what a head held for so long after its commit.
    pub(super) fn hand_over(self, hand_over: Duration) -> Self {
        Self { hand_over, ..self }
    }

    /// No more than this may lie in log and waiting blocks.
    pub(super) fn local_bytes_max(self, local_bytes_max: u64) -> Self {
        Self { local_bytes_max, ..self }
    }

    /// Returns the files of the log.
    pub(super) fn copy_log(&self) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let epochs = std::fs::read_dir(self.dir.path().join("log")).unwrap().map(|e| e.unwrap().path());
        let folders = epochs.filter(|path| path.is_dir());
        let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()));
        files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Brings those files back in place of what is there now.
    pub(super) fn put_log_back(&self, files: Vec<(std::path::PathBuf, Vec<u8>)>) {
        std::fs::remove_dir_all(self.dir.path().join("log")).unwrap();
        for (path, bytes) in files {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// Starts a receiver with its log on disk.
    pub(super) async fn start(&self) -> Node {
        self.start_with(None).await
    }

    /// Starts a receiver of this name with its log in the bucket, and with nothing of its own on disk.
    pub(super) async fn start_object(&self, name: &str) -> Node {
        self.start_with(Some(name)).await
    }

    /// Lets time go by, also the store's.
    pub(super) fn advance_ms(&self, ms: i64) {
        self.clock.advance_ms(ms);
    }

    /// Returns the bucket as everybody sees it.
    pub(super) fn bucket(&self) -> Bucket {
        Bucket::from_store(Arc::clone(&self.store) as Arc<dyn ObjectStore>)
    }

    /// Returns the tenant's catalog as another process sees it.
    pub(super) fn catalog(&self) -> Arc<crate::catalog::TenantCatalog> {
        let (clock, random) = (Arc::clone(&self.clock) as _, self.random.clone());
        Catalogs::new(self.bucket(), clock, random, CatalogSettings::default()).of(&self.tenant)
    }

    /// Returns the newest version of the tenant's catalog.
    pub(super) async fn newest(&self) -> Arc<crate::catalog::Snapshot> {
        self.catalog().newest(None).await.unwrap().unwrap()
    }

    async fn start_with(&self, name: Option<&str>) -> Node {
        let store: Arc<dyn ObjectStore> = Arc::clone(&self.store) as _;
        let (bucket, cpu, metrics) = (Bucket::from_store(store), Cpu::start(1).unwrap(), Metrics::new());
        let catalogs = Arc::new(Catalogs::new(
            bucket.clone(),
            Arc::clone(&self.clock) as _,
            self.random.clone(),
            CatalogSettings::default(),
        ));
        let view = CatalogView::new(Arc::clone(&catalogs), &metrics);
        if !self.store.away.load(Ordering::SeqCst) {
            view.refresh().await.unwrap();
        }
        let (heads, local) = (Heads::new(), LocalBlocks::new());
        let log_dir = self.dir.path().join("log");
        self.clock.advance_ms(1);
        let receiver = name.unwrap_or("r").to_owned();
        let pending_dir = self.dir.path().join(name.map_or("pending".to_owned(), |n| format!("pending-{n}")));
        let target = BlockTarget {
            catalogs,
            pending_dir: pending_dir.clone(),
            local: Arc::clone(&local),
            probe: CreateProbe::outstanding(),
            external_labels: name.map_or(Labels::empty(), |name| series(&[("receiver", name)])),
            receiver,
            cpu: cpu.clone(),
            clock: Arc::clone(&self.clock) as _,
            random: self.random.clone(),
            written_metadata: WrittenMetadata::default(),
        };
        target.clear_pending().unwrap();
        let installed = Arc::clone(&view);
        let on_commit: OnCommit = Arc::new(move |snapshot| installed.install(snapshot));
        let mut cutter = Cutter::new(target.clone(), Arc::clone(&heads), Arc::clone(&on_commit), &metrics);
        let (log, recoverer) = match name {
            Some(_) => self.open_object(target, on_commit, &metrics).await,
            None => (self.open_disk(&log_dir, &heads, &mut cutter).await, None),
        };
        let figures = CommitterMetrics::new(&metrics);
        let committer = Committer::new(log, Arc::clone(&heads), Arc::clone(&self.clock) as _, figures);
        let (commands, committer) = committer.start().unwrap();
        let timing = CutTiming { interval: Duration::from_secs(3_600), hand_over: self.hand_over };
        let ((requests, queue), stop) = (CutterRequests::channel(), Shutdown::new());
        let cutting = cutter.run(commands.clone(), timing, queue, stop.clone());
        let parts = (Arc::clone(&heads), Arc::clone(&local), stop.clone());
        let endpoint = self.endpoint(parts, &commands, &cpu, &metrics);
        let limits = (SelectLimits::NONE, ReadCache::in_memory(1 << 20));
        let view_of_reads = Some(Arc::clone(&view));
        let heads_of_node = Arc::clone(&heads);
        let selector = Selector::new(Some((heads, Labels::empty())), view_of_reads, bucket, cpu, limits);
        Node {
            routes: endpoint.routes(),
            requests,
            selector: selector.with_local_blocks(&local),
            heads: heads_of_node,
            local,
            pending_dir,
            view,
            tenant: self.tenant.clone(),
            log_dir,
            stop,
            cutter: tokio::spawn(cutting),
            committer,
            commands,
            recoverer,
        }
    }

    fn endpoint(
        &self,
        (heads, local, stop): (Arc<Heads>, Arc<LocalBlocks>, Shutdown),
        commands: &Commands,
        cpu: &Cpu,
        metrics: &Metrics,
    ) -> WriteEndpoint {
        let ingest = IngestSettings {
            max_age_ms: 7 * 86_400_000,
            max_future_ms: 600_000,
            body_bytes_max: BODY_BYTES_MAX,
            in_flight_bytes_max: 16 << 20,
            labels: Limits::default(),
        };
        let tenants = TenantSettings {
            header: http::HeaderName::from_static("thanos-tenant"),
            default_tenant: self.tenant.clone(),
        };
        let bound = GrowthBound { bytes_max: self.local_bytes_max, refusal: ErrorKind::Overloaded };
        let growth = Growth::new(bound, local, metrics);
        tokio::spawn(growth.clone().watch(commands.clone(), stop));
        let room = Room { memory: Memory::unlimited(), growth };
        let clock = Arc::clone(&self.clock) as _;
        WriteEndpoint::new((ingest, tenants, room), heads, commands.clone(), cpu.clone(), clock, metrics)
    }

    async fn open_disk(&self, dir: &std::path::Path, heads: &Arc<Heads>, cutter: &mut Cutter) -> Log {
        let epoch = self.random.ulid(NOW_MS);
        let (mut log, segments) =
            DiskLog::open(dir, "r", epoch, LogSettings::default(), Arc::new(OsFiles)).unwrap();
        let bucket_away = self.store.away.load(Ordering::SeqCst);
        let settings = RecoverSettings { head_bytes_max: self.head_bytes_max, bucket_away };
        recover(segments, heads, cutter, &mut log, settings).await.unwrap();
        Log::Disk(Box::new(log))
    }

    async fn open_object(
        &self,
        target: BlockTarget,
        on_commit: OnCommit,
        metrics: &Metrics,
    ) -> (Log, Option<Recoverer>) {
        let sources = (Arc::clone(&self.clock) as _, self.random.clone());
        let settings = ObjectLogSettings { flush_interval: Duration::ZERO, ..ObjectLogSettings::default() };
        let labels = target.external_labels.clone();
        let log = ObjectLog::open(self.bucket(), sources, &target.receiver, labels, settings).unwrap();
        let settings = RecovererSettings {
            interval: Duration::from_secs(3_600),
            head_bytes_max: self.head_bytes_max,
            skip_damaged: false,
        };
        let figures = RecovererMetrics::new(metrics);
        let mut recoverer = Recoverer::new(target, Some(log.own_epoch()), on_commit, settings, figures);
        recoverer.take_back().await.unwrap();
        (Log::Object(Box::new(log)), Some(recoverer))
    }
}

impl Node {
    pub(super) async fn post(
        &self,
        content_type: &str,
        encoding: &str,
        tenant: &str,
        body: Vec<u8>,
    ) -> Answer {
        let request = Request::post("/api/v1/receive")
            .header("content-type", content_type)
            .header("content-encoding", encoding)
            .header("content-length", body.len())
            .header("thanos-tenant", tenant)
            .body(Body::from(body))
            .unwrap();
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let written = ["samples", "histograms", "exemplars"].map(|kind| {
            let header = format!("x-prometheus-remote-write-{kind}-written");
            response.headers()[&header].to_str().unwrap().parse().unwrap()
        });
        let [samples_written, histograms_written, exemplars_written] = written;
        let retry_after = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status, samples_written, histograms_written, exemplars_written, text, retry_after }
    }

    /// Sends all kinds, metadata beside the series in 1.0.
    pub(super) async fn write_full(&self, protocol: Protocol, batch: &[FullSeries]) -> Answer {
        let one = |one: &FullSeries| -> Option<MetadataEntry> {
            let family = one.labels.metric_name().to_owned();
            Some(MetadataEntry { family, since_ms: 0, metadata: one.metadata.clone()? })
        };
        let families: Vec<_> = batch.iter().filter_map(one).collect();
        let series = batch.iter().map(|one| FullSeriesToSend {
            floats: SeriesToSend { labels: &one.labels, samples: &one.samples },
            histograms: &one.histograms,
            exemplars: &one.exemplars,
            metadata: one.metadata.as_ref(),
        });
        let body = encode_full_request(protocol, &series.collect::<Vec<_>>(), &families);
        self.post(protocol.content_type(), "snappy", "t", snappy::encode(&body).unwrap()).await
    }

    /// Returns what the heads hold, of all kinds.
    pub(super) fn held(&self) -> Held {
        let mut held = Held::default();
        for head in self.heads.of_tenant(&self.tenant) {
            for one in head.select(&[], TimeRange::ALL) {
                let read = head.read(&[one.series], TimeRange::ALL).remove(0);
                let known = held.series.entry(one.labels).or_default();
                *known = SeriesData::merge(vec![std::mem::take(known), read]);
            }
            for (labels, exemplars) in head.exemplars(&[], TimeRange::ALL) {
                let known = held.exemplars.entry(labels).or_default();
                known.extend(exemplars);
                normalize_exemplars(known);
            }
            held.metadata.extend(head.metadata().into_iter().map(|entry| (entry.family, entry.metadata)));
        }
        held
    }

    /// Returns what can be read of heads and blocks.
    pub(super) async fn readable(&self) -> Held {
        let all = |_: &Labels| Some(Vec::new());
        let mut held = Held::default();
        let selections =
            self.selector.select(&self.tenant, TimeRange::ALL, &all, Grouping::Merged).await.unwrap();
        for selection in selections {
            let wanted: Vec<usize> = (0..selection.len()).collect();
            held.series.extend(selection.labels().cloned().zip(selection.read(&wanted).await.unwrap()));
        }
        for found in self.selector.exemplars(&self.tenant, TimeRange::ALL, &all).await.unwrap() {
            let known = held.exemplars.entry(found.labels).or_default();
            known.extend(found.exemplars);
            normalize_exemplars(known);
        }
        let said = self.metadata().await.into_iter();
        held.metadata.extend(said.map(|entry| (entry.family, entry.metadata)));
        held
    }

    /// Returns the history of all metadata, of heads and blocks.
    pub(super) async fn metadata(&self) -> Vec<MetadataEntry> {
        self.selector.metadata(&self.tenant, None).await.unwrap()
    }

    /// Returns the bytes of the log's segments.
    pub(super) fn log_bytes(&self) -> u64 {
        let epochs = std::fs::read_dir(&self.log_dir).unwrap().map(|e| e.unwrap().path());
        let files = epochs.filter(|path| path.is_dir()).flat_map(|path| std::fs::read_dir(path).unwrap());
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    pub(super) async fn write(&self, protocol: Protocol, batch: &[(Labels, Vec<Sample>)]) -> Answer {
        let series: Vec<_> = batch.iter().map(|(labels, samples)| SeriesToSend { labels, samples }).collect();
        let body = snappy::encode(&encode_request(protocol, &series)).unwrap();
        self.post(protocol.content_type(), "snappy", "t", body).await
    }

    /// Sends a request whose last bytes are cut off.
    pub(super) async fn write_damaged(&self, batch: &[(Labels, Vec<Sample>)]) -> Answer {
        let series: Vec<_> = batch.iter().map(|(labels, samples)| SeriesToSend { labels, samples }).collect();
        let mut body = encode_request(Protocol::V1, &series);
        body.extend_from_slice(&[0x0A, 0x7F, 0x00]);
        self.write_body(&body).await
    }

    /// Sends the bytes of a 1.0 message.
    pub(super) async fn write_body(&self, body: &[u8]) -> Answer {
        let body = snappy::encode(body).unwrap();
        self.post(Protocol::V1.content_type(), "snappy", "t", body).await
    }

    pub(super) async fn flush(&self) -> Result<CutReport, Arc<CutError>> {
        self.requests.cut().await
    }

    pub(super) async fn read_all(&self) -> Vec<(Labels, Vec<Sample>)> {
        let all = |_: &Labels| Some(Vec::new());
        let selections =
            self.selector.select(&self.tenant, TimeRange::ALL, &all, Grouping::Merged).await.unwrap();
        let mut found = Vec::new();
        for selection in selections {
            let wanted: Vec<usize> = (0..selection.len()).collect();
            let samples = selection.read(&wanted).await.unwrap().into_iter().map(|data| data.samples);
            found.extend(selection.labels().cloned().zip(samples));
        }
        found
    }

    /// Looks after the logs of other receivers.
    pub(super) async fn look(&mut self) -> Result<Recovered, RecoverError> {
        self.recoverer.as_mut().unwrap().look(false).await
    }

    /// Returns the bytes of all heads.
    pub(super) fn head_bytes(&self) -> usize {
        self.heads.bytes()
    }

    /// Returns how many block files lie on this machine, and how many bytes of them are served.
    pub(super) fn waiting(&self) -> (usize, u64) {
        (std::fs::read_dir(&self.pending_dir).unwrap().count(), self.local.bytes())
    }

    /// Looks for new catalog versions.
    pub(super) async fn read_catalogs(&self) {
        self.view.refresh().await.unwrap();
    }

    /// Flips a bit in each file that waits.
    pub(super) fn damage_waiting_files(&self) {
        for file in std::fs::read_dir(&self.pending_dir).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[10] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }

    pub(super) fn remove_pending_dir(&self) {
        std::fs::remove_dir_all(&self.pending_dir).unwrap();
    }

    pub(super) fn make_pending_dir(&self) {
        std::fs::create_dir(&self.pending_dir).unwrap();
    }

    /// Waits a while for the cut loop to end by itself.
    pub(super) async fn cutter_ended(&self) -> bool {
        for _ in 0..100 {
            if self.cutter.is_finished() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Writes one sample and returns the status.
    pub(super) async fn write_one(&self, metric: &str, ts_ms: i64) -> u16 {
        let batch = [(series(&[("__name__", metric)]), vec![Sample::new(ts_ms, 1.0)])];
        self.write(Protocol::V1, &batch).await.status
    }

    /// Waits until no block waits in a file any more.
    pub(super) async fn all_committed(&self) -> bool {
        for _ in 0..500 {
            if self.waiting().0 == 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    pub(super) fn covered_epochs(&self) -> usize {
        self.view.snapshot(&self.tenant).unwrap().version().covered.len()
    }

    /// Counts the segments that the log has on disk.
    pub(super) fn log_segments(&self) -> usize {
        let epochs = std::fs::read_dir(&self.log_dir).unwrap().map(|e| e.unwrap().path());
        let folders = epochs.filter(|path| path.is_dir() && !path.ends_with("damaged"));
        folders.map(|folder| std::fs::read_dir(folder).unwrap().count()).sum()
    }

    /// Ends without a last cut, as a kill would.
    pub(super) async fn crash(self) {
        self.cutter.abort();
        let _ = self.cutter.await;
        self.stop.start();
        drop((self.routes, self.requests, self.selector, self.commands));
        self.committer.join().unwrap();
    }

    /// Ends gracefully.
    pub(super) async fn stop(self) {
        drop(self.routes);
        self.stop.start();
        self.cutter.await.unwrap().unwrap();
        self.commands.stop().await;
        self.committer.join().unwrap();
    }
}
