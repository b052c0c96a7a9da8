//! All processes of a run, and what every reader of them must find.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use tokio::time::Instant;

use super::model::{Expected, Model, Receivers};
use super::node::{Node, NodeRead, READ_TIMEOUT, REFRESH, Role, SeriesRead, Serving};
use super::world::World;
use perennial::model::{Labels, Sample, TenantId, merge_samples};

/// The processes, and what was written to them.
pub(super) struct Cluster {
    pub(super) world: Arc<World>,
    pub(super) receivers: Vec<Arc<Node>>,
    pub(super) stores: Vec<Arc<Node>>,
    model: Mutex<Model>,
}

/// How strict a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Processes may be down and reads may fail; those that succeed must be right.
    UnderFaults,
    /// Everybody must answer, and together with everything.
    Settled,
    /// Everything is in blocks: the stores alone must have it.
    Committed,
}

/// A process's part of a query that it answered.
struct Answer {
    node: Arc<Node>,
    serving: Arc<Serving>,
    read: NodeRead,
}

impl Answer {
    /// Returns whether it serves all that it took, by itself.
    fn has_own_blocks(&self) -> bool {
        self.node.role == Role::Standalone && self.read.knows_commits_until(self.serving.ready())
    }
}

impl Cluster {
    pub(super) fn new(world: &Arc<World>, receivers: Vec<Arc<Node>>, stores: Vec<Arc<Node>>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), receivers, stores, model: Mutex::default() })
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.receivers.iter().chain(&self.stores)
    }

    pub(super) fn any_receiver(&self) -> usize {
        usize::try_from(self.world.below(self.receivers.len() as u64)).unwrap()
    }

    /// Reads everything through every reader: each process by itself, and all together as Thanos Query does.
    pub(super) async fn check_reads(&self, strictness: Strictness) -> Result<(), String> {
        let tenants = self.model().tenants();
        for tenant in tenants {
            let checked = self.check_tenant(&tenant, strictness).await;
            checked.map_err(|reason| format!("tenant {tenant}, {reason}"))?;
        }
        Ok(())
    }

    async fn check_tenant(&self, tenant: &TenantId, strictness: Strictness) -> Result<(), String> {
        // What is promised is taken before the reads; who can keep it is known after them.
        let promises = self.model().promises(tenant);
        let answers = self.ask(tenant, strictness).await;
        let asked = match strictness {
            Strictness::UnderFaults => 0,
            Strictness::Settled => self.nodes().count(),
            Strictness::Committed => self.stores.len(),
        };
        if answers.len() < asked {
            return Err(format!("{} of {asked} processes answer", answers.len()));
        }
        for answer in &answers {
            let own =
                if answer.has_own_blocks() { promises.kept_by(answer.serving.bit) } else { Expected::new() };
            self.compare(tenant, &own, &answer.read.series, &answer.node.name)?;
        }
        let keepers = match strictness {
            Strictness::UnderFaults => keepers(&answers),
            Strictness::Settled | Strictness::Committed => Receivers::MAX,
        };
        let expected = promises.kept_by(keepers);
        let count: usize = expected.values().map(BTreeMap::len).sum();
        self.world.note("query", format_args!("{tenant}: {} answer, {count} must be there", answers.len()));
        self.compare(tenant, &expected, &together(answers), "all together")
    }

    fn compare(
        &self,
        tenant: &TenantId,
        expected: &Expected,
        read: &SeriesRead,
        reader: &str,
    ) -> Result<(), String> {
        let compared = self.model().check(tenant, expected, read);
        compared.map_err(|reason| format!("read from {reader}: {reason}"))
    }

    /// Asks all receivers and, unless all of them must answer, one of the stores.
    async fn ask(&self, tenant: &TenantId, strictness: Strictness) -> Vec<Answer> {
        let only = self.world.below(self.stores.len() as u64);
        let stores =
            (0..).zip(&self.stores).filter(|(i, _)| strictness != Strictness::UnderFaults || *i == only);
        let asked = self.receivers.iter().chain(stores.map(|(_, store)| store)).map(|node| async move {
            let serving = node.serving()?;
            let read = node.read(&serving, tenant).await?;
            Some(Answer { node: Arc::clone(node), serving, read })
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// Returns the receivers whose acknowledged samples must be in the answers: in their heads or, where those were let
/// go, in blocks that a store among them knows.
fn keepers(answers: &[Answer]) -> Receivers {
    let handed_over = Instant::now().checked_sub(REFRESH * 2 + READ_TIMEOUT);
    let mut bits = 0;
    for answer in answers.iter().filter(|answer| answer.node.role != Role::Store) {
        let knows_all = |store: &Answer| {
            let since_ready = store.read.knows_commits_until(answer.serving.ready());
            since_ready && handed_over.is_none_or(|moment| store.read.knows_commits_until(moment))
        };
        if answer.has_own_blocks()
            || answers.iter().any(|other| other.node.role == Role::Store && knows_all(other))
        {
            bits |= answer.serving.bit;
        }
    }
    bits
}

/// Joins equal series of all answers, as Thanos Query does.
fn together(answers: Vec<Answer>) -> SeriesRead {
    let mut series: BTreeMap<Labels, Vec<Vec<Sample>>> = BTreeMap::new();
    for (labels, samples) in answers.into_iter().flat_map(|answer| answer.read.series) {
        series.entry(labels).or_default().push(samples);
    }
    series.into_iter().map(|(labels, runs)| (labels, merge_samples(runs))).collect()
}
