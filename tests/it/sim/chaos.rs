//! What happens in a run: who is there, what goes wrong, and what is checked when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use super::audit::Auditor;
use super::cluster::{Cluster, Strictness};
use super::disk::{Death, DiskFault};
use super::node::{LogChoice, Node, NodeSettings, Pace, REFRESH, Role};
use super::store::{Faults, SimStore, StoreDefect};
use super::world::{Fingerprint, World};
use super::writer::Writer;
use perennial::catalog::CatalogSettings;
use perennial::log::LogSettings;
use perennial::log::object::ObjectLogSettings;
use perennial::model::TenantId;
use perennial::runtime::Shutdown;

/// Steps of a run before it calms down.
const STEPS: u64 = 32;

const HISTORY_MS: i64 = 86_400_000;
const DOOMED_DELAY_MS: i64 = 3_600_000;

/// What is planted in a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    /// Fsyncs do nothing.
    pub(super) disks_lie: bool,
    pub(super) store: StoreDefect,
    /// Only receivers whose log is in the bucket, which are paused and killed much of the time.
    pub(super) zombies: bool,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) fingerprint: Fingerprint,
    pub(super) promised: usize,
}

/// Runs one seed; the error says what was violated and how to see it again.
pub(super) fn run_seed(seed: u64, options: &Options) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(Box::pin(async {
        let world = World::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::new(&world, folder.path(), options);
        if let Err(reason) = run.go().await {
            world.violate(format_args!("{reason}"));
        }
        match world.report() {
            Some(report) => Err(report),
            None => {
                let promised = run.cluster.model().promised();
                Ok(Outcome { fingerprint: world.fingerprint(), promised })
            }
        }
    }))
}

struct Run {
    world: Arc<World>,
    cluster: Arc<Cluster>,
    store: Arc<SimStore>,
    auditor: Auditor,
    settings: NodeSettings,
    stop_writers: Shutdown,
    zombies: bool,
}

impl Run {
    fn new(world: &Arc<World>, folder: &std::path::Path, options: &Options) -> Self {
        let store = SimStore::new(world, options.store);
        let settings = NodeSettings {
            catalog: CatalogSettings {
                history_ms: HISTORY_MS,
                doomed_delay_ms: DOOMED_DELAY_MS,
                recent_blocks_max: 4 + usize::try_from(world.below(30)).unwrap(),
            },
            log: LogSettings { segment_bytes_max: 2_000 + world.below(40_000), skip_damaged: false },
            patient: world.chance(50),
            pace: Arc::new(Mutex::new(Pace {
                refresh: REFRESH,
                cut: world.millis(300_000, 1_500_000),
                garbage: Duration::from_secs(2_400),
                recoverer: Duration::from_secs(30),
                object_log: ObjectLogSettings::default(),
            })),
        };
        let node = |number, role, log| {
            Node::new(world, (number, role, log), &settings, (&store, folder), options.disks_lie)
        };
        let role = || if world.chance(50) { Role::Receiver } else { Role::Standalone };
        let log = || match world.below(10) {
            0..4 if !options.zombies => LogChoice::Disk,
            0..8 => LogChoice::Object,
            _ => LogChoice::ObjectUnnamed,
        };
        let receivers = 0..=u32::from(options.zombies) + u32::try_from(world.below(3)).unwrap();
        let receivers = receivers.map(|number| node(number, role(), log())).collect();
        let stores = 0..=u32::try_from(world.below(2)).unwrap();
        let stores = stores.map(|number| node(number, Role::Store, LogChoice::Disk)).collect();
        let cluster = Cluster::new(world, receivers, stores);
        let stop_writers = Shutdown::new();
        let (world, auditor, zombies) = (Arc::clone(world), Auditor::new(&store), options.zombies);
        Self { world, cluster, store, auditor, settings, stop_writers, zombies }
    }

    async fn go(&mut self) -> Result<(), String> {
        for node in self.cluster.nodes() {
            tokio::spawn(Arc::clone(node).supervise());
        }
        for number in 0..=self.world.below(3) {
            let tenant = TenantId::new(if self.world.chance(60) { "a" } else { "b" }).unwrap();
            let writer = Writer::new(number, tenant, self.cluster.any_receiver());
            tokio::spawn(writer.run(Arc::clone(&self.cluster), self.stop_writers.clone()));
        }
        for step in 1..=STEPS {
            let pause = match self.world.below(40) {
                0 => self.world.millis(1_800_000, 5_400_000),
                1..15 => self.world.millis(60_000, 300_000),
                _ => self.world.millis(100, 30_000),
            };
            sleep(pause).await;
            self.world.note("step", format_args!("{step}"));
            self.misfortune();
            self.check(Strictness::UnderFaults).await?;
        }
        self.end().await
    }

    async fn check(&mut self, strictness: Strictness) -> Result<(), String> {
        self.auditor.check().await?;
        self.cluster.check_reads(strictness).await?;
        if self.world.violated() { Err("see above".to_owned()) } else { Ok(()) }
    }

    fn any<'a>(&self, nodes: &'a [Arc<Node>]) -> &'a Arc<Node> {
        &nodes[usize::try_from(self.world.below(nodes.len() as u64)).unwrap()]
    }

    /// Lets one thing go wrong, or right again.
    fn misfortune(&self) {
        let world = &self.world;
        let nodes: Vec<Arc<Node>> = self.cluster.nodes().cloned().collect();
        let (node, receiver) = (self.any(&nodes), self.any(&self.cluster.receivers));
        if self.zombies && world.chance(60) {
            match world.below(2) {
                0 => pause(receiver, world, world.millis(70_000, 250_000)),
                _ => receiver.disk.end(Death::Kill),
            }
            return;
        }
        match world.below(14) {
            0 => node.disk.end(Death::Kill),
            1 => receiver.disk.end(Death::PowerCut),
            2 => {
                if let Some(gate) = node.gate() {
                    gate.kill_after_polls(1 + world.below(200));
                }
            }
            3 => receiver.disk.plan(world.below(20), DiskFault::Error),
            4 => receiver.disk.plan(world.below(40), DiskFault::Death(Death::PowerCut)),
            5 => receiver.disk.plan(world.below(40), DiskFault::Death(Death::Kill)),
            6 => fill_disk(receiver, world.millis(1_000, 200_000)),
            7 if world.chance(30) => pause(node, world, world.millis(60_000, 4_000_000)),
            7 => pause(node, world, world.millis(100, 60_000)),
            8 => {
                let most = if world.chance(20) { 6 * 3_600_000 } else { 120_000 };
                node.set_clock_off_by(
                    i64::try_from(world.below(2 * most)).unwrap() - i64::try_from(most).unwrap(),
                );
            }
            9 => node.link.cut_off_for(world.millis(1_000, 400_000)),
            10 => nodes.iter().for_each(|node| node.link.cut_off_for(Duration::from_secs(200))),
            11 | 12 => {
                let percent = [0, 2, 10, 30][usize::try_from(world.below(4)).unwrap()];
                let travel_ms = if world.chance(20) { 3_000 } else { 5 + world.below(200) };
                node.link.set_faults(Faults { percent, travel_ms, away_until: None });
            }
            _ => {
                let receiver = Arc::clone(receiver);
                tokio::spawn(async move { receiver.cut().await });
            }
        }
    }

    /// Calms everything down and checks that all is there, and nothing else.
    async fn end(&mut self) -> Result<(), String> {
        self.world.note("step", format_args!("calm"));
        self.stop_writers.start();
        for node in self.cluster.nodes() {
            node.link.set_faults(Faults::NONE);
            node.disk.calm();
            node.set_clock_off_by(0);
            if let Some(gate) = node.gate() {
                gate.pause(false);
                gate.kill_after_polls(0);
            }
        }
        sleep(Duration::from_secs(1_200)).await;
        self.check(Strictness::Settled).await?;
        for receiver in &self.cluster.receivers {
            if self.world.chance(50) {
                receiver.set_stay_down(true);
                receiver.stop();
            } else if !receiver.cut().await {
                return Err(format!("{} cannot cut although all is calm", receiver.name));
            }
        }
        sleep(REFRESH * 4).await;
        self.check(Strictness::Committed).await?;
        self.check_leftovers().await?;
        for node in self.cluster.nodes() {
            node.set_stay_down(false);
            node.disk.end(Death::Kill);
        }
        sleep(Duration::from_secs(1_200)).await;
        self.check(Strictness::Settled).await
    }

    /// Lets a day pass with one receiver, which must leave nothing behind that nobody needs.
    async fn check_leftovers(&mut self) -> Result<(), String> {
        let (slow_ms, round_ms) = (8 * 3_600_000, 3_600_000);
        self.set_pace(slow_ms);
        for node in self.cluster.nodes() {
            node.set_stay_down(node.role != Role::Store);
            node.disk.end(Death::Kill);
        }
        let last = &self.cluster.receivers[0];
        last.set_stay_down(false);
        sleep(Duration::from_millis(HISTORY_MS as u64 + slow_ms)).await;
        self.set_pace(round_ms);
        last.disk.end(Death::Kill);
        sleep(Duration::from_millis(2 * DOOMED_DELAY_MS as u64 + 6 * round_ms)).await;
        self.auditor.check().await?;
        let round_ms = i64::try_from(round_ms).unwrap();
        self.auditor.check_garbage(2 * DOOMED_DELAY_MS + 3 * round_ms, HISTORY_MS).await?;
        let own = last.serving().and_then(|serving| serving.own_epoch());
        let before_ms = self.store.now_ms() - HISTORY_MS - 3 * round_ms;
        let epochs = self.auditor.epochs().await;
        match epochs.iter().find(|(epoch, newest_ms)| Some(**epoch) != own && **newest_ms < before_ms) {
            Some((epoch, _)) => Err(format!("the log of epoch {epoch} is left behind")),
            None => Ok(()),
        }
    }

    fn set_pace(&self, interval_ms: u64) {
        let interval = Duration::from_millis(interval_ms);
        let mut pace = self.settings.pace.lock().unwrap();
        (pace.refresh, pace.cut, pace.garbage, pace.recoverer) = (interval, interval, interval, interval);
        pace.object_log.heartbeat = interval;
        pace.object_log.silence_ms_max = i64::MAX;
    }
}

fn fill_disk(receiver: &Arc<Node>, time: Duration) {
    receiver.disk.set_full(true);
    let receiver = Arc::clone(receiver);
    tokio::spawn(async move {
        sleep(time).await;
        receiver.disk.set_full(false);
    });
}

/// Stops the polling of a process for a while; its peers and the store go on.
fn pause(node: &Arc<Node>, world: &Arc<World>, time: Duration) {
    let Some(gate) = node.gate() else { return };
    world.note(&node.name, format_args!("is paused for {} ms", time.as_millis()));
    gate.pause(true);
    tokio::spawn(async move {
        sleep(time).await;
        gate.pause(false);
    });
}
