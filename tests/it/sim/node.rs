//! Processes, put together as the program puts them together: receivers and stores.

mod process;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

use super::disk::SimDisk;
use super::gate::Gate;
use super::histogram;
use super::model::Receivers;
use super::store::{LIST_LAG_MS, Link, SimStore};
use super::world::World;
use perennial::catalog::CatalogSettings;
use perennial::log::LogSettings;
use perennial::log::object::{ObjectLogSettings, OwnEpoch};
use perennial::model::{Labels, Sample, TenantId, TimeRange, Ulid, error_chain};
use perennial::receive::CutterRequests;
use perennial::runtime::{Random, Shutdown};
use perennial::select::{Grouping, Selector};

/// How often stores look for new versions.
pub(super) const REFRESH: Duration = Duration::from_secs(30);
/// How long a read may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a writer waits for an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

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
            match read_all(&world, &serving.selector, &tenant).await {
                Ok(series) => Some(NodeRead { series, refreshed: refreshed.flatten() }),
                Err(reason) => {
                    world.note(&name, format_args!("a read fails: {reason}"));
                    None
                }
            }
        });
        read.await.flatten()
    }
}

async fn read_all(world: &World, selector: &Selector, tenant: &TenantId) -> Result<SeriesRead, String> {
    let all = |_: &Labels| Some(Vec::new());
    let selected = selector.select(tenant, TimeRange::ALL, &all, Grouping::Merged).await;
    let mut found: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for selection in selected.map_err(|e| error_chain(&e))? {
        let wanted: Vec<usize> = (0..selection.len()).collect();
        let read = selection.read(&wanted).await.map_err(|e| error_chain(&e))?;
        for (labels, data) in selection.labels().zip(read) {
            let mut samples = data.samples;
            for one in &data.histograms {
                match histogram::number(one) {
                    Ok(sample) => samples.push(sample),
                    Err(reason) => world.violate(format_args!("{labels:?}: {reason}")),
                }
            }
            if found.insert(labels.clone(), samples).is_some() {
                world.violate(format_args!("series {labels:?} is there twice"));
            }
        }
    }
    Ok(found.into_iter().collect())
}
