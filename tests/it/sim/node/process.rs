//! How a process starts: the parts that a role has, put together as the program does it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::ObjectStore;
use tokio::time::{Instant, sleep, timeout};

use super::super::disk::SimFiles;
use super::super::gate::Gate;
use super::super::model::Receivers;
use super::super::world::SimClock;
use super::{LogChoice, Node, Pace, READ_TIMEOUT, REFRESH, Role, Serving};

use perennial::bucket::Bucket;
use perennial::catalog::{Catalogs, tenants};
use perennial::head::Heads;
use perennial::log::object::{ObjectLog, OwnEpoch};
use perennial::log::{DiskLog, Log};
use perennial::model::{ErrorKind, Labels, TenantId, error_chain};
use perennial::receive::*;
use perennial::runtime::{Clock, Cpu, Memory, Metrics, Random, Shutdown};
use perennial::select::{CatalogView, LocalBlocks, ReadCache, SelectLimits, Selector};
use perennial::wire::remote_write::Limits;

/// How long a start waits for the bucket.
const BUCKET_WAIT: Duration = Duration::from_secs(10);
/// So many starts of a receiver without a name of its own are told apart.
const STARTS_TOLD_APART: u64 = 40;

/// A log that is ready to be written, who turns it into blocks, and the epoch that it writes in the bucket.
type OpenedLog = (Log, Cutter, Recoverer, Option<OwnEpoch>);

impl Node {
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

    pub(super) async fn run_store(self: &Arc<Self>, gate: &Arc<Gate>) -> Result<(), String> {
        let base = self.base();
        let view = CatalogView::new(Arc::clone(&base.catalogs), &base.metrics);
        let refreshed = Some(self.refresh(&view, gate, false).await?);
        let selector = base.selector(None, Some(view));
        let (gate, stop, ready) = (Arc::clone(gate), Shutdown::new(), Instant::now());
        let (bit, own_epoch, write) = (0, None, None);
        self.serve(Serving { gate, ready, bit, own_epoch, write, selector, refreshed, stop });
        Ok(())
    }

    pub(super) async fn run_receiver(self: &Arc<Self>, gate: &Arc<Gate>, starts: u64) -> Result<(), String> {
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

    fn target(
        &self,
        base: &Base,
        (name, local): (&str, &Arc<LocalBlocks>),
        bucket_away: bool,
    ) -> BlockTarget {
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
            let reason = reason.replace(&self.disk.log_dir().display().to_string(), "log");
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
        let limits = (SelectLimits { series_max: 0, samples_max: 0, bytes_max: 0 }, ReadCache::in_memory(0));
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

    fn endpoint(
        &self,
        (heads, local): (&Arc<Heads>, &Arc<LocalBlocks>),
        commands: Commands,
    ) -> WriteEndpoint {
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
