//! Processes, put together as the program puts them together: receivers and stores.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use object_store::ObjectStore;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use super::disk::{SimDisk, SimFiles};
use super::gate::Gate;
use super::model::Receivers;
use super::store::{LIST_LAG_MS, Link, SimStore};
use super::world::{SimClock, World};
use perennial::bucket::Bucket;
use perennial::catalog::{CatalogSettings, Catalogs, tenants};
use perennial::head::Heads;
use perennial::log::object::{ObjectLog, ObjectLogSettings, OwnEpoch};
use perennial::log::{DiskLog, Log, LogSettings};
use perennial::model::{ErrorKind, Labels, Sample, TenantId, TimeRange, Ulid, error_chain};
use perennial::receive::*;
use perennial::runtime::{Clock, Cpu, Memory, Metrics, Random, Shutdown};
use perennial::select::{CatalogView, Grouping, LocalBlocks, ReadCache, SelectLimits, Selector};
use perennial::wire::remote_write::Limits;

/// How often stores look for new versions.
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// How long a read may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a writer waits for an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a start waits for the bucket.
const BUCKET_WAIT: Duration = Duration::from_secs(10);
/// So many starts of a receiver without a name of its own are told apart.
const STARTS_TOLD_APART: u64 = 40;

/// A log that is ready to be written, who turns it into blocks, and the epoch that it writes in the bucket.
type OpenedLog = (Log, Cutter, Recoverer, Option<OwnEpoch>);

/// What a process answered.
pub(super) struct NodeRead {
    pub(super) series: SeriesRead,
    /// When the last refresh began that its view rests on, where it has a view.
    refreshed: Option<Instant>,
}

impl NodeRead {
    /// Returns whether everything that was committed by then was known.
    pub(super) fn knows_commits_until(&self, moment: Instant) -> bool {
        self.refreshed.is_some_and(|began| began >= moment + Duration::from_millis(LIST_LAG_MS))
    }
}

/// A series' labels and samples, for every series that was found.
pub(super) type SeriesRead = Vec<(Labels, Vec<Sample>)>;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Takes writes, serves its heads.
    Receiver,
    /// Takes writes, serves its heads and all blocks.
    Standalone,
    /// Serves all blocks.
    Store,
}

/// Which log a receiver writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogChoice {
    Disk,
    Object,
    /// In the bucket, under a new name after each start, as a pod without identity has.
    ObjectUnnamed,
}

/// How a run's processes are set up.
#[derive(Debug, Clone)]
pub(super) struct NodeSettings {
    pub(super) catalog: CatalogSettings,
    pub(super) log: LogSettings,
    /// Whether requests are tried again and hedged.
    pub(super) patient: bool,
    /// Shared: the end of a run has another one.
    pub(super) pace: Arc<Mutex<Pace>>,
}

/// How often processes do what they do again and again.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    pub(super) refresh: Duration,
    pub(super) cut: Duration,
    pub(super) garbage: Duration,
    pub(super) recoverer: Duration,
    pub(super) object_log: ObjectLogSettings,
}

/// A machine with a process on it, which dies and is started again.
pub(super) struct Node {
    world: Arc<World>,
    pub(super) name: String,
    pub(super) role: Role,
    log: LogChoice,
    number: u32,
    settings: NodeSettings,
    pub(super) disk: Arc<SimDisk>,
    pub(super) link: Arc<Link>,
    off_by_ms: Arc<Mutex<i64>>,
    random: Random,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    gate: Option<Arc<Gate>>,
    serving: Option<Arc<Serving>>,
    starts: u64,
    stay_down: bool,
}

/// What a process does once it is ready.
pub(super) struct Serving {
    gate: Arc<Gate>,
    /// When it became ready.
    ready: Instant,
    /// What stands for it in [`Receivers`]: of a receiver that keeps its name, the same after each start, as a start
    /// brings back what earlier ones took; else one of its own.
    pub(super) bit: Receivers,
    own_epoch: Option<OwnEpoch>,
    write: Option<(axum::Router, CutterRequests)>,
    selector: Selector,
    /// When the last refresh of its view began that succeeded.
    refreshed: Option<Arc<Mutex<Option<Instant>>>>,
    stop: Shutdown,
}

impl Serving {
    /// Returns the epoch that it writes in the bucket.
    pub(super) fn own_epoch(&self) -> Option<Ulid> {
        self.own_epoch.as_ref().map(OwnEpoch::get)
    }

    pub(super) fn ready(&self) -> Instant {
        self.ready
    }
}

impl Node {
    pub(super) fn new(
        world: &Arc<World>,
        (number, role, log): (u32, Role, LogChoice),
        settings: &NodeSettings,
        (store, folder): (&Arc<SimStore>, &Path),
        disk_lies: bool,
    ) -> Arc<Self> {
        let name = match role {
            Role::Store => format!("store-{number}"),
            Role::Receiver | Role::Standalone => format!("receiver-{number}"),
        };
        Arc::new(Self {
            world: Arc::clone(world),
            role,
            log,
            number,
            settings: settings.clone(),
            disk: SimDisk::new(world, &name, &folder.join(&name), disk_lies),
            link: store.link(&name),
            off_by_ms: Arc::default(),
            random: world.fork_random(),
            current: Mutex::default(),
            name,
        })
    }

    /// Keeps the process running: starts it again some time after it died.
    pub(super) async fn supervise(self: Arc<Self>) {
        loop {
            let gate = self.start();
            gate.ended().await;
            self.current.lock().unwrap().serving = None;
            let mut pause = self.world.millis(100, 40_000);
            if self.world.chance(10) {
                pause *= 10;
            }
            sleep(pause).await;
            while self.current.lock().unwrap().stay_down {
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    fn start(self: &Arc<Self>) -> Arc<Gate> {
        let gate = Gate::new(&self.world, &self.name);
        let starts = {
            let mut current = self.current.lock().unwrap();
            current.starts += 1;
            current.gate = Some(Arc::clone(&gate));
            current.starts
        };
        self.world.note(&self.name, format_args!("start {starts}"));
        let (node, process) = (Arc::clone(self), Arc::clone(&gate));
        gate.spawn(async move {
            let started = match node.role {
                Role::Store => node.run_store(&process).await,
                Role::Receiver | Role::Standalone => Box::pin(node.run_receiver(&process, starts)).await,
            };
            if let Err(reason) = started {
                node.world.note(&node.name, format_args!("does not start: {reason}"));
                process.kill();
            }
        });
        gate
    }

    /// Returns the running process, once it is ready.
    pub(super) fn serving(&self) -> Option<Arc<Serving>> {
        self.current.lock().unwrap().serving.clone().filter(|serving| !serving.gate.is_dead())
    }

    pub(super) fn gate(&self) -> Option<Arc<Gate>> {
        self.current.lock().unwrap().gate.clone()
    }

    pub(super) fn set_stay_down(&self, down: bool) {
        self.current.lock().unwrap().stay_down = down;
    }

    pub(super) fn set_clock_off_by(&self, ms: i64) {
        self.world.note(&self.name, format_args!("the wall clock is off by {ms} ms"));
        *self.off_by_ms.lock().unwrap() = ms;
    }

    /// Runs something in the process and waits for its answer; nothing where the process dies or hangs.
    async fn call<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        serving: &Arc<Serving>,
        limit: Duration,
        work: impl FnOnce(Arc<Serving>) -> F,
    ) -> Option<T> {
        let (done, answer) = oneshot::channel();
        let work = work(Arc::clone(serving));
        serving.gate.spawn(async move {
            let _ = done.send(work.await);
        });
        timeout(limit, answer).await.ok()?.ok()
    }

    /// Sends a remote-write request; returns the status, or nothing where no answer came.
    pub(super) async fn write(
        &self,
        serving: &Arc<Serving>,
        tenant: &TenantId,
        content_type: &str,
        body: Vec<u8>,
    ) -> Option<u16> {
        let routes = serving.write.as_ref()?.0.clone();
        let request = Request::post("/api/v1/receive")
            .header("content-type", content_type)
            .header("content-encoding", "snappy")
            .header("content-length", body.len())
            .header("thanos-tenant", tenant.as_str())
            .body(Body::from(body))
            .unwrap();
        let send = async move { routes.oneshot(request).await.unwrap().status().as_u16() };
        self.call(serving, WRITE_TIMEOUT, |_| send).await
    }

    /// Asks for a cut; returns whether it was committed.
    pub(super) async fn cut(&self) -> bool {
        let Some(serving) = self.serving() else { return false };
        let Some((_, requests)) = serving.write.clone() else { return false };
        let cut = async move { requests.cut().await.is_ok() };
        self.call(&serving, Duration::from_secs(120), |_| cut).await.unwrap_or(false)
    }

    /// Asks the process to end in order.
    pub(super) fn stop(&self) {
        if let Some(serving) = self.serving() {
            serving.stop.start();
        }
    }

    /// Reads everything of a tenant that the process serves; `None` where it fails or does not answer.
    pub(super) async fn read(&self, serving: &Arc<Serving>, tenant: &TenantId) -> Option<NodeRead> {
        let (world, name, tenant) = (Arc::clone(&self.world), self.name.clone(), tenant.clone());
        let read = self.call(serving, READ_TIMEOUT, |serving| async move {
            let refreshed = serving.refreshed.as_ref().map(|at| *at.lock().unwrap());
            if refreshed == Some(None) {
                return None;
            }
            match read_all(&serving.selector, &tenant).await {
                Ok(series) => Some(NodeRead { series, refreshed: refreshed.flatten() }),
                Err(reason) => {
                    world.note(&name, format_args!("a read fails: {reason}"));
                    None
                }
            }
        });
        read.await.flatten()
    }

    fn base(self: &Arc<Self>) -> Base {
        let clock: Arc<dyn Clock> = SimClock::new(&self.world, &self.off_by_ms);
        let link: Arc<dyn ObjectStore> = Arc::clone(&self.link) as _;
        let bucket = match self.settings.patient {
            true => Bucket::from_remote_store(link, self.random.clone()),
            false => Bucket::from_store(link),
        };
        let (settings, random) = (self.settings.catalog.clone(), self.random.clone());
        let catalogs = Arc::new(Catalogs::new(bucket.clone(), Arc::clone(&clock), random, settings));
        Base { metrics: Metrics::new(), clock, cpu: Cpu::inline(), bucket, catalogs }
    }

    /// Reads all catalogs once, at once unless the bucket is away, and again and again from then on. Until the first
    /// time nothing is known, and reads have to wait.
    async fn refresh(
        self: &Arc<Self>,
        view: &Arc<CatalogView>,
        gate: &Arc<Gate>,
        bucket_away: bool,
    ) -> Result<Arc<Mutex<Option<Instant>>>, String> {
        let refreshed = Arc::new(Mutex::new(None));
        let began = Instant::now();
        if !bucket_away {
            view.refresh().await.map_err(|e| error_chain(&e))?;
            *refreshed.lock().unwrap() = Some(began);
        }
        let (view, at, node) = (Arc::clone(view), Arc::clone(&refreshed), Arc::clone(self));
        gate.spawn(async move {
            loop {
                sleep(node.pace().refresh).await;
                let began = Instant::now();
                if view.refresh().await.is_ok() {
                    *at.lock().unwrap() = Some(began);
                }
            }
        });
        Ok(refreshed)
    }

    async fn run_store(self: &Arc<Self>, gate: &Arc<Gate>) -> Result<(), String> {
        let base = self.base();
        let view = CatalogView::new(Arc::clone(&base.catalogs), &base.metrics);
        let refreshed = Some(self.refresh(&view, gate, false).await?);
        let selector = base.selector(None, Some(view));
        let (gate, stop, ready) = (Arc::clone(gate), Shutdown::new(), Instant::now());
        let (bit, own_epoch, write) = (0, None, None);
        self.serve(Serving { gate, ready, bit, own_epoch, write, selector, refreshed, stop });
        Ok(())
    }

    async fn run_receiver(self: &Arc<Self>, gate: &Arc<Gate>, starts: u64) -> Result<(), String> {
        let files = self.disk.start(gate);
        let base = self.base();
        let bucket_away = base.probe(&self.random).await?;
        let view = (self.role == Role::Standalone)
            .then(|| CatalogView::new(Arc::clone(&base.catalogs), &base.metrics));
        let refreshed = match &view {
            Some(view) => Some(self.refresh(view, gate, bucket_away).await?),
            None => None,
        };
        let (hand_over, on_commit): (Duration, OnCommit) = match view.clone() {
            Some(view) => (Duration::ZERO, Arc::new(move |snapshot| view.install(snapshot))),
            None => (REFRESH * 2 + READ_TIMEOUT, Arc::new(|_| {})),
        };
        let (heads, local) = (Heads::new(), LocalBlocks::new());
        let (name, bit) = self.identity(starts);
        let target = self.target(&base, (&name, &local), bucket_away);
        target.clear_pending().map_err(|e| error_chain(&e))?;
        let opened = match self.log {
            LogChoice::Disk => self.open_disk(&base, target, (files, &heads), on_commit, bucket_away).await?,
            _ => self.open_object(&base, target, &heads, on_commit).await?,
        };
        let (log, cutter, recoverer, own_epoch) = opened;
        gate.spawn(recoverer.run(Shutdown::new()));
        let figures = CommitterMetrics::new(&base.metrics);
        let committer = Committer::new(log, Arc::clone(&heads), Arc::clone(&base.clock), figures);
        let (commands, queue) = Commands::channel();
        let process = Arc::clone(gate);
        gate.spawn(async move {
            Box::pin(committer.run(queue)).await;
            process.kill();
        });
        let (requests, stop) = self.start_cutting(cutter, &commands, hand_over, gate);
        self.collect_garbage(&base, gate);
        let routes = base.endpoint((&heads, &local), commands).routes();
        let selector = base.selector(Some((heads, Labels::empty())), view).with_local_blocks(&local);
        let (gate, write, ready) = (Arc::clone(gate), Some((routes, requests)), Instant::now());
        self.serve(Serving { gate, ready, bit, own_epoch, write, selector, refreshed, stop });
        Ok(())
    }

    /// Returns the name of a receiver's process, and what stands for it among all.
    fn identity(&self, starts: u64) -> (String, Receivers) {
        match self.log {
            LogChoice::ObjectUnnamed => {
                let one = u32::try_from(starts.min(STARTS_TOLD_APART - 1)).unwrap();
                (format!("{}-{starts}", self.name), 1 << (self.number * STARTS_TOLD_APART as u32 + one))
            }
            _ => (self.name.clone(), 1 << (self.number * STARTS_TOLD_APART as u32)),
        }
    }

    fn target(&self, base: &Base, (name, local): (&str, &Arc<LocalBlocks>), bucket_away: bool) -> BlockTarget {
        BlockTarget {
            catalogs: Arc::clone(&base.catalogs),
            pending_dir: self.disk.pending_dir(),
            local: Arc::clone(local),
            probe: if bucket_away { CreateProbe::outstanding() } else { CreateProbe::passed() },
            external_labels: Labels::empty(),
            receiver: name.to_owned(),
            cpu: base.cpu.clone(),
            clock: Arc::clone(&base.clock),
            random: self.random.clone(),
            written_metadata: WrittenMetadata::default(),
        }
    }

    async fn open_disk(
        &self,
        base: &Base,
        target: BlockTarget,
        (files, heads): (SimFiles, &Arc<Heads>),
        on_commit: OnCommit,
        bucket_away: bool,
    ) -> Result<OpenedLog, String> {
        let (epoch, settings) = (self.random.ulid(base.clock.now_ms()), self.settings.log.clone());
        let dir = self.disk.log_dir();
        let opened = DiskLog::open(&dir, &self.name, epoch, settings, Arc::new(files));
        let (mut log, segments) = opened.map_err(|e| self.log_refused(&error_chain(&e)))?;
        let recoverer = self.recoverer(base, target.clone(), None, &on_commit);
        let mut cutter = Cutter::new(target, Arc::clone(heads), on_commit, &base.metrics);
        let settings = RecoverSettings { head_bytes_max: self.head_bytes_max(), bucket_away };
        let recovered = recover(segments, heads, &mut cutter, &mut log, settings).await;
        let recovered = recovered.map_err(|e| error_chain(&e))?;
        self.world.note(&self.name, format_args!("{recovered:?}, without the bucket: {bucket_away}"));
        Ok((Log::Disk(Box::new(log)), cutter, recoverer, None))
    }

    async fn open_object(
        &self,
        base: &Base,
        target: BlockTarget,
        heads: &Arc<Heads>,
        on_commit: OnCommit,
    ) -> Result<OpenedLog, String> {
        let sources = (Arc::clone(&base.clock), self.random.clone());
        let settings = self.pace().object_log;
        let log = ObjectLog::open(base.bucket.clone(), sources, &target.receiver, Labels::empty(), settings);
        let log = log.map_err(|e| error_chain(&e))?;
        let own_epoch = log.own_epoch();
        let mut recoverer = self.recoverer(base, target.clone(), Some(own_epoch.clone()), &on_commit);
        let cutter = Cutter::new(target, Arc::clone(heads), on_commit, &base.metrics);
        let recovered = recoverer.take_back().await.map_err(|e| error_chain(&e))?;
        self.world.note(&self.name, format_args!("epoch {}, {recovered:?}", log.epoch()));
        Ok((Log::Object(Box::new(log)), cutter, recoverer, Some(own_epoch)))
    }

    fn recoverer(
        &self,
        base: &Base,
        target: BlockTarget,
        own: Option<OwnEpoch>,
        on_commit: &OnCommit,
    ) -> Recoverer {
        let (interval, head_bytes_max) = (self.pace().recoverer, self.head_bytes_max());
        let settings = RecovererSettings { interval, head_bytes_max, skip_damaged: false };
        let metrics = RecovererMetrics::new(&base.metrics);
        Recoverer::new(target, own, Arc::clone(on_commit), settings, metrics)
    }

    /// At times so small that a replay cuts in between.
    fn head_bytes_max(&self) -> usize {
        if self.world.chance(30) { 1 } else { 1 << 30 }
    }

    fn start_cutting(
        &self,
        cutter: Cutter,
        commands: &Commands,
        hand_over: Duration,
        gate: &Arc<Gate>,
    ) -> (CutterRequests, Shutdown) {
        let timing = CutTiming { interval: self.pace().cut, hand_over };
        let ((requests, queue), stop) = (CutterRequests::channel(), Shutdown::new());
        let cutting = cutter.run(commands.clone(), timing, queue, stop.clone());
        let (world, name) = (Arc::clone(&self.world), self.name.clone());
        let (process, commands) = (Arc::clone(gate), commands.clone());
        gate.spawn(async move {
            let ended = Box::pin(cutting).await.map_err(|e| error_chain(&e));
            world.note(&name, format_args!("the cut loop ends: {ended:?}"));
            if ended.is_err() {
                return process.kill();
            }
            commands.stop().await;
        });
        (requests, stop)
    }

    fn pace(&self) -> Pace {
        self.settings.pace.lock().unwrap().clone()
    }

    /// A log that does not open after a crash has lost what was acknowledged.
    fn log_refused(&self, reason: &str) -> String {
        if !self.gate().is_some_and(|gate| gate.is_dead()) {
            self.world.violate(format_args!("the log of {} does not open: {reason}", self.name));
        }
        reason.to_owned()
    }

    fn serve(&self, serving: Serving) {
        self.world.note(&self.name, format_args!("is ready"));
        self.current.lock().unwrap().serving = Some(Arc::new(serving));
    }

    fn collect_garbage(self: &Arc<Self>, base: &Base, gate: &Arc<Gate>) {
        let (catalogs, node) = (Arc::clone(&base.catalogs), Arc::clone(self));
        gate.spawn(async move {
            loop {
                let pause = node.pace().garbage;
                sleep(pause + node.world.millis(0, 60_000)).await;
                let Ok(tenants) = tenants(catalogs.bucket()).await else { continue };
                for tenant in tenants {
                    let report = catalogs.of(&tenant).collect_garbage().await;
                    let report = report.map_err(|e| error_chain(&e));
                    node.world.note(&node.name, format_args!("garbage of {tenant}: {report:?}"));
                }
            }
        });
    }
}

/// What every process starts with.
struct Base {
    metrics: Metrics,
    clock: Arc<dyn Clock>,
    cpu: Cpu,
    bucket: Bucket,
    catalogs: Arc<Catalogs>,
}

impl Base {
    fn selector(&self, heads: Option<(Arc<Heads>, Labels)>, view: Option<Arc<CatalogView>>) -> Selector {
        // No room to keep blocks open: the cache tidies up when the machine's clock says so.
        let limits = (SelectLimits { series_max: 0, samples_max: 0 }, ReadCache::in_memory(0));
        Selector::new(heads, view, self.bucket.clone(), self.cpu.clone(), limits)
    }

    /// Checks that the store keeps writers apart; returns whether it is away.
    async fn probe(&self, random: &Random) -> Result<bool, String> {
        match timeout(BUCKET_WAIT, self.bucket.probe_conditional_create(random)).await {
            Ok(Ok(())) => Ok(false),
            Ok(Err(error)) if !error.is_outage() => Err(error_chain(&error)),
            _ => Ok(true),
        }
    }

    fn endpoint(&self, (heads, local): (&Arc<Heads>, &Arc<LocalBlocks>), commands: Commands) -> WriteEndpoint {
        let ingest = IngestSettings {
            max_age_ms: 7 * 86_400_000,
            max_future_ms: 86_400_000,
            body_bytes_max: 1 << 20,
            in_flight_bytes_max: 16 << 20,
            labels: Limits::default(),
        };
        let tenants = TenantSettings {
            header: http::HeaderName::from_static("thanos-tenant"),
            default_tenant: TenantId::new("nobody").unwrap(),
        };
        let (heads, clock) = (Arc::clone(heads), Arc::clone(&self.clock));
        let bound = GrowthBound { bytes_max: 0, refusal: ErrorKind::Overloaded };
        let growth = Growth::new(bound, Arc::clone(local), &self.metrics);
        let room = Room { memory: Memory::unlimited(), growth };
        WriteEndpoint::new((ingest, tenants, room), heads, commands, self.cpu.clone(), clock, &self.metrics)
    }
}

async fn read_all(selector: &Selector, tenant: &TenantId) -> Result<SeriesRead, String> {
    let all = |_: &Labels| Some(Vec::new());
    let selected = selector.select(tenant, TimeRange::ALL, &all, Grouping::Merged).await;
    let mut found: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for selection in selected.map_err(|e| error_chain(&e))? {
        let wanted: Vec<usize> = (0..selection.len()).collect();
        let read = selection.read(&wanted).await.map_err(|e| error_chain(&e))?;
        for (labels, data) in selection.labels().zip(read) {
            if found.insert(labels.clone(), data.samples).is_some() {
                return Err(format!("series {labels:?} is there twice"));
            }
        }
    }
    Ok(found.into_iter().collect())
}
