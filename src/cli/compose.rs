//! The parts that long-running roles share, put together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};

use super::Failure;
use super::flags::{CatalogArgs, CommonArgs, IngestArgs, LogKind, MemoryArgs, QueryArgs, TenantArgs};
use super::write_log::{self, OpenedLog};
use crate::bucket::Bucket;
use crate::catalog::{CatalogSettings, Catalogs};
use crate::head::Heads;
use crate::model::{ErrorKind, Labels, error_chain};
use crate::receive::{
    Commands, Committer, CommitterMetrics, CutError, CutRequestQueue, CutTiming, CutterRequests, Growth,
    OnCommit, Room, WriteEndpoint,
};
use crate::runtime::{Clock, Cpu, Memory, Metrics, Random, Shutdown, SystemClock};
use crate::select::{CatalogView, LocalBlocks, ReadCache, SelectLimits, Selector};
use crate::server::{
    Connections, FlushCall, LateRoutes, Listener, Readiness, admin_routes, serve_grpc, serve_http,
};
use crate::store::Reads;
use crate::wire::store_api::STORE_API_DESCRIPTORS;

/// The share of the memory budget that open blocks may take.
const READER_PERCENT: u64 = 12;

/// How long a bucket may take to answer at the start before it counts as away.
const BUCKET_WAIT: Duration = Duration::from_secs(15);

/// A client that has not taken the end of an answer so long after the query's time is cut off.
const ANSWER_GRACE: Duration = Duration::from_secs(30);

/// How often garbage is looked for. Each look reads every kept version: some 340 GETs a tenant with 30-minute cuts.
const GARBAGE_INTERVAL: Duration = Duration::from_secs(6 * 3_600);

/// What every long-running process has, with a bucket or without.
pub(super) struct Process {
    pub(super) metrics: Metrics,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Random,
    pub(super) cpu: Cpu,
    pub(super) readiness: Readiness,
    /// Ends listeners and readers.
    pub(super) shutdown: Shutdown,
}

impl Process {
    pub(super) fn start() -> Result<Self, Failure> {
        Ok(Self {
            metrics: Metrics::new(),
            clock: SystemClock::new(),
            random: Random::from_os(),
            cpu: Cpu::start(compute_threads())?,
            readiness: Readiness::new(),
            shutdown: Shutdown::new(),
        })
    }

    /// Prepares what the listeners of the process allow; queries may take `query_timeout`. Once a process.
    pub(super) fn connections(&self, max: usize, query_timeout: Duration) -> Connections {
        Connections::new(max, query_timeout + ANSWER_GRACE, &self.metrics)
    }
}

/// What every role on a bucket starts with: a process, the bucket and its catalogs.
pub(super) struct Base {
    process: Process,
    pub(super) bucket: Bucket,
    pub(super) catalogs: Arc<Catalogs>,
}

impl std::ops::Deref for Base {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Base {
    /// Opens the bucket; where the role writes, a store without conditional create is refused.
    pub(super) async fn start(
        common: &CommonArgs,
        settings: CatalogSettings,
        writes: bool,
    ) -> Result<Self, Failure> {
        let config = common.bucket_config()?;
        let process = Process::start()?;
        let bucket = Bucket::open(&config, &process.metrics)?;
        if writes {
            bucket.probe_conditional_create(&process.random).await?;
        }
        let (clock, random) = (Arc::clone(&process.clock), process.random.clone());
        let catalogs = Arc::new(Catalogs::new(bucket.clone(), clock, random, settings));
        Ok(Self { process, bucket, catalogs })
    }

    /// Opens the bucket of a role that takes writes, and tells whether it is away: where the log is on disk, commits
    /// can wait. A store without conditional create is refused as soon as that is known.
    pub(super) async fn start_writer(
        common: &CommonArgs,
        settings: CatalogSettings,
        log: LogKind,
    ) -> Result<(Self, bool), Failure> {
        let base = Self::start(common, settings, false).await?;
        let probe = Box::pin(base.bucket.probe_conditional_create(&base.random));
        match tokio::time::timeout(BUCKET_WAIT, probe).await {
            Ok(Ok(())) => Ok((base, false)),
            Ok(Err(error)) if !error.is_outage() => Err(error.into()),
            failed => {
                let reason = match failed {
                    Ok(Err(error)) => error_chain(&error),
                    _ => format!("no answer within {} s", BUCKET_WAIT.as_secs()),
                };
                if log == LogKind::Object {
                    let message =
                        format!("the bucket is away and the log is there (--log.kind=object): {reason}");
                    return Err(Failure::new(ErrorKind::Unavailable, message));
                }
                tracing::error!(
                    bucket = base.bucket.location(),
                    reason,
                    "the bucket is away, starting without it: writes are taken, blocks wait on this machine"
                );
                Ok((base, true))
            }
        }
    }

    /// Sets the memory budget up and goes on watching it. Once a process.
    pub(super) fn memory(&self, args: &MemoryArgs) -> Memory {
        let memory = Memory::new(args.limit_bytes(), &self.metrics);
        tokio::spawn(memory.clone().watch(self.shutdown.clone()));
        memory
    }

    /// Opens the bucket of a command that only looks; a local one that does not exist is not made.
    pub(super) async fn inspect(common: &CommonArgs) -> Result<Self, Failure> {
        common.check_local_bucket()?;
        Self::start(common, CatalogSettings::default(), false).await
    }

    /// Says in the log and in a metric what the bucket does for its objects, as soon as it tells.
    pub(super) fn announce_bucket(&self) {
        let bucket = self.bucket.clone();
        tokio::spawn(async move { bucket.announce().await });
    }

    /// Makes the selector over heads, blocks or both.
    pub(super) fn selector(
        &self,
        heads: Option<(Arc<Heads>, Labels)>,
        view: Option<Arc<CatalogView>>,
        (common, query, memory): (&CommonArgs, &QueryArgs, &Memory),
    ) -> Result<Selector, Failure> {
        // Samples count only where a query reads them, which the read APIs know.
        let limits = SelectLimits { samples_max: 0, ..query.limits() };
        let (bucket, cpu) = (self.bucket.clone(), self.cpu.clone());
        let cache = query.cache(common, &bucket, |bytes| memory.at_most(bytes, READER_PERCENT));
        let cache = ReadCache::open(&cache, &self.metrics)?;
        Ok(Selector::new(heads, view, bucket, cpu, (limits, cache)))
    }

    /// Reads all catalogs once and goes on refreshing them.
    pub(super) async fn view(&self, args: &CatalogArgs) -> Result<Arc<CatalogView>, Failure> {
        let view = self.unread_view();
        self.read_view(&view, args).await?;
        Ok(view)
    }

    /// Returns a view that has seen nothing yet: reads must wait for [`Self::read_view`].
    pub(super) fn unread_view(&self) -> Arc<CatalogView> {
        CatalogView::new(Arc::clone(&self.catalogs), &self.metrics)
    }

    /// Reads all catalogs once and goes on refreshing them.
    pub(super) async fn read_view(&self, view: &Arc<CatalogView>, args: &CatalogArgs) -> Result<(), Failure> {
        if let Err(error) = view.refresh().await {
            if view.tenants().is_empty() {
                return Err(error.into());
            }
            // One damaged catalog must not keep the others from being served; its own queries say why they fail.
            tracing::error!(error = error_chain(&error), "a catalog does not read");
        }
        let (refreshed, interval, shutdown) = (Arc::clone(view), args.refresh, self.shutdown.clone());
        tokio::spawn(async move { refreshed.run(interval, shutdown).await });
        Ok(())
    }

    /// Reads all catalogs as soon as the bucket is back.
    pub(super) async fn read_view_later(&self, view: &Arc<CatalogView>, args: &CatalogArgs) {
        while let Err(failure) = self.read_view(view, args).await {
            tracing::warn!(reason = failure.message, "cannot read the catalogs, queries have to wait");
            tokio::time::sleep(args.refresh).await;
        }
    }

    /// Looks for garbage of all tenants until shutdown.
    pub(super) fn collect_garbage(&self) {
        let (catalogs, shutdown) = (Arc::clone(&self.catalogs), self.shutdown.clone());
        // Processes that start together do not look together, and one that never lives for long looks at times.
        let mut pause = Duration::from_secs(self.random.next_u64() % GARBAGE_INTERVAL.as_secs());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = GARBAGE_INTERVAL;
                if let Err(error) = catalogs.collect_garbage().await {
                    tracing::warn!(
                        error = error_chain(&error),
                        "not all garbage is collected, it is tried again later"
                    );
                }
            }
        });
    }
}

/// One thread a core, and never one alone: a block that is being built must not hold up writes.
fn compute_threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

/// Takes a port; one that is taken is found before anything else starts.
pub(super) async fn bind(flag: &str, address: SocketAddr) -> Result<Listener, Failure> {
    Listener::bind(address).await.map_err(|e| {
        let message = format!("--{flag} {address}: cannot listen there: {e}; choose another address or port");
        let taken = e.kind() == std::io::ErrorKind::AddrInUse;
        Failure::new(if taken { ErrorKind::Locked } else { ErrorKind::Invalid }, message)
    })
}

/// The writing side: recovery, the committing thread, the cut loop and the endpoint.
pub(super) struct WriteSide {
    endpoint: WriteEndpoint,
    commands: Commands,
    committer: std::thread::JoinHandle<()>,
    cutter: JoinHandle<Result<(), CutError>>,
    /// Ends the cut loop, after the last write.
    stop_cutting: Shutdown,
}

/// What the writing side needs beside the base.
pub(super) struct WriteParts<'a> {
    pub(super) common: &'a CommonArgs,
    pub(super) ingest: &'a IngestArgs,
    pub(super) tenants: &'a TenantArgs,
    pub(super) external_labels: Labels,
    pub(super) heads: Arc<Heads>,
    pub(super) local: Arc<LocalBlocks>,
    pub(super) memory: Memory,
    /// Whether the bucket was away when the process started.
    pub(super) bucket_away: bool,
    /// How long readers elsewhere may need what a head held after its commit.
    pub(super) hand_over: Duration,
    pub(super) on_commit: OnCommit,
}

impl WriteSide {
    /// Brings the log back and starts taking writes; `asking` are the two ends for cuts.
    pub(super) async fn start(
        base: &Base,
        parts: WriteParts<'_>,
        (requests, queue): (CutterRequests, CutRequestQueue),
    ) -> Result<Self, Failure> {
        let WriteParts { ingest, heads, memory, .. } = &parts;
        let (heads, memory) = (Arc::clone(heads), memory.clone());
        let growth = Growth::new(ingest.growth_bound(), Arc::clone(&parts.local), &base.metrics);
        let settings = (ingest.settings(), parts.tenants.settings(), Room { memory, growth });
        let timing = CutTiming { interval: ingest.cut_interval, hand_over: parts.hand_over };
        let OpenedLog { log, cutter, recoverer } = write_log::open(base, &parts).await?;
        tokio::spawn(recoverer.run(base.shutdown.clone()));
        register_head_metrics(&base.metrics, &heads);
        let metrics = CommitterMetrics::new(&base.metrics);
        let committer = Committer::new(log, Arc::clone(&heads), Arc::clone(&base.clock), metrics);
        let (commands, committer) = committer.start().map_err(|e| {
            Failure::new(ErrorKind::Unavailable, format!("cannot start the committing thread: {e}"))
        })?;
        let stop_cutting = Shutdown::new();
        let cutting = cutter.run(commands.clone(), timing, queue, stop_cutting.clone());
        let Room { memory, growth } = settings.2.clone();
        tokio::spawn(growth.watch(commands.clone(), stop_cutting.clone()));
        tokio::spawn(requests.relieve(memory, stop_cutting.clone()));
        let endpoint = WriteEndpoint::new(
            settings,
            heads,
            commands.clone(),
            base.cpu.clone(),
            Arc::clone(&base.clock),
            &base.metrics,
        );
        Ok(Self { endpoint, commands, committer, cutter: tokio::spawn(cutting), stop_cutting })
    }

    /// Serves remote write until `stop`, then cuts and commits what is left.
    ///
    /// # Errors
    /// The last cut's failure, and at once the end of a part that should have gone on.
    pub(super) async fn serve(
        mut self,
        listener: Listener,
        connections: Connections,
        stop: Shutdown,
    ) -> Result<(), Failure> {
        let ended =
            |what: &str| Failure::new(ErrorKind::Internal, format!("{what} has ended; restart the process"));
        tokio::select! {
            () = serve_http((listener, "remote_write"), self.endpoint.routes(), &connections, stop) => {}
            cut = &mut self.cutter => match cut {
                Ok(Err(error)) => return Err(error.into()),
                _ => return Err(ended("the cut loop")),
            },
            () = self.commands.ended() => return Err(ended("the committing thread")),
        }
        self.stop_cutting.start();
        let committed = self.cutter.await;
        self.commands.stop().await;
        if self.committer.join().is_err() {
            tracing::error!("the committing thread panicked");
        }
        match committed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(
                    error = error_chain(&error),
                    "the last cut is not committed, its samples stay in the log"
                );
                Err(error.into())
            }
            Err(panicked) => Err(Failure::new(ErrorKind::Internal, panicked)),
        }
    }
}

fn register_head_metrics(metrics: &Metrics, heads: &Arc<Heads>) {
    let (series, bytes) = (Gauge::default(), Gauge::default());
    let series: Gauge = metrics.register("head_series", "Series in active heads", series);
    let bytes: Gauge = metrics.register("head_bytes", "Memory of all heads, estimated", bytes);
    let heads = Arc::downgrade(heads);
    tokio::spawn(async move {
        while let Some(heads) = heads.upgrade() {
            series.set(i64::try_from(heads.active_series()).unwrap_or(i64::MAX));
            bytes.set(i64::try_from(heads.bytes()).unwrap_or(i64::MAX));
            drop(heads);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
}

/// The reading side: HTTP from the first moment, queries and gRPC once the process is ready.
pub(super) struct ReadSide {
    late: LateRoutes,
    grpc: Option<Listener>,
    connections: Connections,
    tasks: JoinSet<Result<(), Failure>>,
}

impl ReadSide {
    /// Starts answering probes and metrics.
    pub(super) fn start(
        process: &Process,
        (http, grpc): (Listener, Listener),
        connections: &Connections,
        flush: Option<FlushCall>,
    ) -> Self {
        let late = LateRoutes::new();
        let admin = admin_routes(process.metrics.clone(), process.readiness.clone(), flush);
        let (routes, shutdown) = (late.clone().behind(admin), process.shutdown.clone());
        let (mut tasks, limits) = (JoinSet::new(), connections.clone());
        tasks.spawn(async move {
            serve_http((http, "http"), routes, &limits, shutdown).await;
            Ok(())
        });
        Self { late, grpc: Some(grpc), connections: connections.clone(), tasks }
    }

    /// Opens the query routes and gRPC, and says that the process is ready.
    pub(super) fn open(&mut self, process: &Process, reads: &Reads) {
        self.late.open(reads.http_routes());
        if let Some(listener) = self.grpc.take() {
            let (routes, limits) = (reads.grpc_routes(), self.connections.clone());
            let (cpu, shutdown) = (process.cpu.clone(), process.shutdown.clone());
            self.tasks.spawn(async move {
                serve_grpc(listener, (routes, STORE_API_DESCRIPTORS), &limits, cpu, shutdown)
                    .await
                    .map_err(|e| Failure::new(ErrorKind::Unavailable, format!("the gRPC listener: {e}")))
            });
        }
        process.readiness.set(true);
    }

    /// Waits for the first listener to end; before shutdown that is a failure.
    pub(super) async fn first_end(&mut self) -> Result<(), Failure> {
        match self.tasks.join_next().await {
            Some(Ok(Ok(()))) => {
                Err(Failure::new(ErrorKind::Internal, "a listener has ended; restart the process"))
            }
            Some(Ok(failed)) => failed,
            Some(Err(panicked)) => Err(Failure::new(ErrorKind::Internal, panicked)),
            None => std::future::pending().await,
        }
    }

    /// Waits until every listener has ended.
    pub(super) async fn ended(mut self) -> Result<(), Failure> {
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|e| Failure::new(ErrorKind::Internal, e))??;
        }
        Ok(())
    }
}

/// Returns what `POST /-/flush` does.
pub(super) fn flush_call(requests: CutterRequests, readiness: Readiness) -> FlushCall {
    Arc::new(move || {
        let (requests, ready) = (requests.clone(), readiness.is_ready());
        Box::pin(async move {
            if !ready {
                return Err((
                    ErrorKind::Unavailable,
                    "starting or stopping: nothing to flush now".to_owned(),
                ));
            }
            match requests.cut().await {
                Ok(report) => Ok(serde_json::json!(report).to_string()),
                Err(error) => Err((
                    error.kind(),
                    format!("not committed yet, it is tried again: {}", error_chain(&*error)),
                )),
            }
        })
    })
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn stop_signal() -> Result<(), Failure> {
    let failed = |e| Failure::new(ErrorKind::Internal, format!("cannot wait for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: what is under way is ended in order, a second signal ends it at once");
    // A second signal ends the process at once; the log keeps what is not committed.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(i32::from(ErrorKind::Cancelled.exit_code()));
    });
    Ok(())
}
