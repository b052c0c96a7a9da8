//! The cut loop: ends heads, commits their blocks, lets the log go.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{mpsc, oneshot};
use ulid::Ulid;

use super::blocks::{BlockTarget, Columns, CutError};
use super::commit::{Commands, CommitError, CutPoint};
use super::pending::{PendingCut, PendingHead};
use super::positions::Positions;
use crate::catalog::{CatalogError, Snapshot};
use crate::head::Heads;
use crate::log::object::delete_entries;
use crate::model::{TenantId, error_chain};
use crate::runtime::{Metrics, Shutdown};

/// How long to wait after a failed attempt; it doubles up to the last one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);

/// What a cut has committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct CutReport {
    /// Blocks committed.
    pub blocks: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of them.
    pub bytes: u64,
}

type CutAnswer = Result<CutReport, Arc<CutError>>;

/// The way to ask for a cut; clones share it.
#[derive(Debug, Clone)]
pub struct CutterRequests(mpsc::Sender<oneshot::Sender<CutAnswer>>);

impl CutterRequests {
    /// Cuts now and answers after the commit.
    ///
    /// # Errors
    /// The attempt's failure; the cut goes on being tried.
    pub async fn cut(&self) -> CutAnswer {
        let (done, answer) = oneshot::channel();
        self.0.send(done).await.map_err(|_| CutError::Stopped)?;
        answer.await.unwrap_or_else(|_| Err(CutError::Stopped.into()))
    }
}

#[derive(Debug)]
struct CutMetrics {
    cuts: Counter,
    failures: Counter,
    blocks: Counter,
    block_bytes: Counter,
    block_samples: Counter,
    pending: Gauge,
}

/// When the cut loop acts.
#[derive(Debug, Clone, Copy)]
pub struct CutTiming {
    /// How often heads are cut.
    pub interval: Duration,
    /// How long readers elsewhere may still need a frozen head after its commit.
    pub hand_over: Duration,
}

/// Called with every version that this process commits, before the head is released.
pub type OnCommit = Arc<dyn Fn(&Arc<Snapshot>) + Send + Sync>;

/// Ends heads and turns them into committed blocks, one cut after the other.
pub struct Cutter {
    pub(super) target: BlockTarget,
    pub(super) heads: Arc<Heads>,
    positions: Positions,
    /// The label columns that each tenant's catalog had when it was last read: it never loses one.
    pub(super) label_columns: HashMap<TenantId, Vec<String>>,
    /// Epochs whose entries may still be in this receiver's log; catalogs may forget its other ones.
    logged_epochs: BTreeSet<Ulid>,
    /// Those of them that ended before this process.
    recovered_epochs: BTreeSet<Ulid>,
    pub(super) pending: VecDeque<PendingCut>,
    /// Whether the bucket was away in the last round of commits.
    pub(super) bucket_away: bool,
    /// Entries in the bucket that blocks hold, which are not deleted yet.
    garbage: Vec<(Ulid, RangeInclusive<u64>)>,
    /// See [`CutTiming::hand_over`]; zero until [`Cutter::run`], so that a long replay needs little memory.
    hand_over: Duration,
    on_commit: OnCommit,
    metrics: CutMetrics,
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cutter").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Cutter {
    /// Prepares the loop.
    #[must_use]
    pub fn new(target: BlockTarget, heads: Arc<Heads>, on_commit: OnCommit, metrics: &Metrics) -> Self {
        let metrics = CutMetrics {
            cuts: metrics.register("head_cuts", "Cuts of the head", Counter::default()),
            failures: metrics.register(
                "head_cut_failures",
                "Attempts to commit that failed",
                Counter::default(),
            ),
            blocks: metrics.register("blocks_committed", "Blocks committed", Counter::default()),
            block_bytes: metrics.register("blocks_committed_bytes", "Bytes of them", Counter::default()),
            block_samples: metrics.register(
                "blocks_committed_samples",
                "Samples in them",
                Counter::default(),
            ),
            pending: metrics.register(
                "head_cuts_pending",
                "Cuts that wait for their commit",
                Gauge::default(),
            ),
        };
        let (positions, pending) = (Positions::default(), VecDeque::new());
        Self {
            target,
            heads,
            positions,
            label_columns: HashMap::new(),
            logged_epochs: BTreeSet::new(),
            recovered_epochs: BTreeSet::new(),
            pending,
            bucket_away: false,
            garbage: Vec::new(),
            hand_over: Duration::ZERO,
            on_commit,
            metrics,
        }
    }

    pub(super) fn target(&self) -> &BlockTarget {
        &self.target
    }

    pub(super) fn positions(&mut self) -> &mut Positions {
        &mut self.positions
    }

    /// Says which epochs are in the log: those of earlier processes, and the one that goes on.
    pub(super) fn hold_epochs(&mut self, recovered: impl IntoIterator<Item = Ulid>, own: Ulid) {
        self.recovered_epochs.extend(recovered);
        self.logged_epochs.extend(self.recovered_epochs.iter().copied().chain([own]));
    }

    /// Cuts at its interval, on request and once more at shutdown, until then.
    ///
    /// # Errors
    /// The last cut's failure: what is not committed stays in the log. Also, before shutdown, the loss of a file that
    /// waited for its upload, which only a new start mends.
    pub async fn run(
        mut self,
        commands: Commands,
        CutTiming { interval, hand_over }: CutTiming,
        mut requests: CutRequestQueue,
        shutdown: Shutdown,
    ) -> Result<(), CutError> {
        self.hand_over = hand_over;
        let mut next_cut = tokio::time::Instant::now() + interval;
        let mut retry = RETRY_FIRST;
        loop {
            let retry_at = tokio::time::Instant::now() + retry;
            let mut asked = None;
            tokio::select! {
                biased;
                () = shutdown.wait() => break,
                Some(request) = requests.0.recv() => asked = Some(request),
                () = tokio::time::sleep_until(next_cut) => {}
                () = tokio::time::sleep_until(retry_at), if !self.pending.is_empty() => {}
            }
            let due = tokio::time::Instant::now() >= next_cut;
            if due || asked.is_some() {
                next_cut = tokio::time::Instant::now() + interval;
                self.cut(&commands).await?;
            }
            let outcome = self.commit_pending(&commands).await.map_err(Arc::new);
            retry = if outcome.is_ok() { RETRY_FIRST } else { (retry * 2).min(RETRY_LAST) };
            if let Err(error) = &outcome {
                tracing::error!(
                    error = error_chain(&**error),
                    retry_seconds = retry.as_secs(),
                    "a cut is not committed yet"
                );
            }
            let lost = outcome.as_ref().is_err_and(|error| matches!(**error, CutError::Restart(_)));
            if let Some(done) = asked {
                let _ = done.send(outcome);
            }
            if lost {
                break;
            }
        }
        self.cut(&commands).await?;
        self.commit_pending(&commands).await.map(|_| ())
    }

    async fn cut(&mut self, commands: &Commands) -> Result<(), CutError> {
        for point in commands.cut().await.map_err(|_| CutError::Stopped)? {
            self.take_over(point);
        }
        Ok(())
    }

    /// Queues the heads of a cut for their commit.
    pub(super) fn take_over(&mut self, point: CutPoint) {
        self.metrics.cuts.inc();
        let mut release = self.positions.take_recovered();
        release.retain(|(epoch, _)| *epoch != point.epoch);
        release.push((point.epoch, point.through_seq));
        let heads = point.heads.into_iter().map(|head| {
            let tenant = head.tenant().clone();
            let mut through = self.positions.take_replayed(&tenant);
            through.retain(|(epoch, _)| *epoch != point.epoch);
            through.push((point.epoch, point.through_seq));
            let positions = self.positions.take_over(&tenant, &through);
            PendingHead { tenant, head: Some(head), through, positions, built: None }
        });
        let heads = heads.collect();
        self.pending.push_back(PendingCut { heads, release });
    }

    /// Commits what waits, oldest first, and lets the log go.
    async fn commit_pending(&mut self, commands: &Commands) -> Result<CutReport, CutError> {
        let mut report = CutReport::default();
        let outcome = self.commit_all(commands, &mut report).await;
        self.metrics.pending.set(self.pending.len() as i64);
        if outcome.is_err() {
            self.metrics.failures.inc();
        }
        outcome.map(|()| report)
    }

    async fn commit_all(&mut self, commands: &Commands, report: &mut CutReport) -> Result<(), CutError> {
        let (release, outcome) = self.commit_heads(report).await;
        for (epoch, through_seq) in release {
            match commands.release(epoch, through_seq).await {
                Ok(released) => self.garbage.extend(released.map(|seqs| (epoch, seqs))),
                Err(CommitError::Stopped) => return Err(CutError::Stopped),
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), %epoch, "cannot let log segments go, the next cut tries again");
                    self.positions.recover(epoch, through_seq);
                }
            }
        }
        self.let_go_of_recovered_epochs();
        self.delete_garbage().await;
        outcome
    }

    /// Catalogs may forget a recovered epoch once no segment of it waits for a cut, a commit or another try.
    fn let_go_of_recovered_epochs(&mut self) {
        let Self { positions, pending, recovered_epochs, logged_epochs, .. } = self;
        recovered_epochs.retain(|epoch| {
            let mut releases = pending.iter().flat_map(|cut| &cut.release);
            let owed = positions.owe(*epoch) || releases.any(|(of, _)| of == epoch);
            if !owed {
                logged_epochs.remove(epoch);
            }
            owed
        });
    }

    /// Deletes entries in the bucket that blocks hold; what fails is tried again after the next cut.
    async fn delete_garbage(&mut self) {
        let bucket = self.target.catalogs.bucket();
        for (epoch, seqs) in std::mem::take(&mut self.garbage) {
            if let Err(error) = delete_entries(bucket, epoch, seqs.clone()).await {
                tracing::warn!(error = error_chain(&error), %epoch, "cannot delete log entries, the next cut tries again");
                self.garbage.push((epoch, seqs));
            }
        }
    }

    /// Commits one head. What it holds beyond the catalog is known only here where the catalog could not be read at
    /// the start: all was replayed then, and what a block has already is merged away.
    pub(super) async fn commit_head(
        &mut self,
        pending: &mut PendingHead,
        report: &mut CutReport,
    ) -> Result<(), CutError> {
        let tenant = pending.tenant.clone();
        let newest = self.target.catalogs.of(&tenant).newest(None).await?;
        self.learn_positions(pending, newest.as_deref());
        let known = newest.as_ref().map_or_else(Vec::new, |s| s.version().label_columns.clone());
        self.label_columns.insert(tenant.clone(), known.clone());
        let cover = self.positions.plan_cover(&tenant, &self.target.receiver, &pending.through);
        if cover.is_empty() {
            tracing::info!(%tenant, "what was replayed is in the catalog already");
            if let Some(newest) = &newest {
                (self.on_commit)(newest);
            }
            self.let_go(pending);
            return Ok(());
        }
        if pending.built.is_none() {
            let head = pending.head.as_ref().expect("a head goes only after its blocks are built");
            let positions = pending.positions.clone();
            pending.built = Some(self.target.build(head, positions, Columns::Extended(known)).await?);
        }
        let built = pending.built.as_ref().expect("built above");
        let forget = newest.map_or_else(Vec::new, |newest| self.forgettable(&newest));
        let committed = self.target.commit(&tenant, built, (cover.clone(), forget)).await;
        if let Err(CutError::Catalog(CatalogError::Fenced { .. })) = &committed
            && self.is_covered(pending).await?
        {
            self.let_go(pending);
            return Ok(());
        }
        let snapshot = committed?;
        (self.on_commit)(&snapshot);
        self.label_columns.insert(tenant.clone(), snapshot.version().label_columns.clone());
        self.positions.cover(&tenant, &cover);
        report.blocks += built.count() as u64;
        report.samples += built.samples();
        report.bytes += built.bytes();
        self.metrics.blocks.inc_by(built.count() as u64);
        self.metrics.block_samples.inc_by(built.samples());
        self.metrics.block_bytes.inc_by(built.bytes());
        tracing::info!(
            %tenant, blocks = built.count(), samples = built.samples(), bytes = built.bytes(), "committed a cut"
        );
        self.let_go(pending);
        Ok(())
    }

    /// Learns of the epochs of a head what is not known yet. One that the catalog has forgotten is covered from its start
    /// again: what comes into blocks twice is merged, what stays behind would wait for good.
    fn learn_positions(&mut self, pending: &PendingHead, newest: Option<&Snapshot>) {
        for (epoch, _) in &pending.through {
            let covered = newest.and_then(|newest| newest.version().covered.get(epoch));
            if covered.is_none() || self.positions.known(&pending.tenant, *epoch).is_none() {
                let through_seq = covered.map_or(0, |covered| covered.through_seq);
                self.positions.learn_covered(&pending.tenant, *epoch, through_seq);
            }
        }
    }

    /// Looks whether all that a head holds is committed: by another receiver, which happens to one that was taken for
    /// dead, or by this one, where the reply was lost.
    async fn is_covered(&mut self, pending: &PendingHead) -> Result<bool, CutError> {
        let tenant = &pending.tenant;
        let Some(newest) = self.target.catalogs.of(tenant).newest(None).await? else { return Ok(false) };
        let through = |(epoch, seq): &(Ulid, u64)| newest.version().covered_through(*epoch) >= *seq;
        if !pending.through.iter().all(through) {
            return Ok(false);
        }
        for (epoch, _) in &pending.through {
            self.positions.learn_covered(tenant, *epoch, newest.version().covered_through(*epoch));
        }
        tracing::info!(%tenant, "what a head holds is committed already");
        (self.on_commit)(&newest);
        Ok(true)
    }

    /// Returns the epochs of this receiver that a catalog fences although nothing of them is in the log.
    fn forgettable(&self, newest: &Snapshot) -> Vec<Ulid> {
        // A log in the bucket is forgotten by whoever removes it.
        if self.logged_epochs.is_empty() {
            return Vec::new();
        }
        let covered = newest.version().covered.iter();
        let own = covered.filter(|(_, covered)| covered.receiver == self.target.receiver);
        own.map(|(epoch, _)| *epoch).filter(|epoch| !self.logged_epochs.contains(epoch)).collect()
    }

    /// Lets go of a head, or its files, whose samples are committed, once every reader must have seen the version.
    /// Until then files serve them, which take no memory.
    fn let_go(&self, pending: &mut PendingHead) {
        let (tenant, head) = (pending.tenant.clone(), pending.head.take());
        let (local, hand_over) = (Arc::clone(&self.target.local), self.hand_over);
        let Some(built) = pending.built.take() else {
            if hand_over.is_zero() {
                return head.iter().for_each(|head| self.heads.release(head));
            }
            let heads = Arc::clone(&self.heads);
            tokio::spawn(async move {
                tokio::time::sleep(hand_over).await;
                head.iter().for_each(|head| heads.release(head));
            });
            return;
        };
        match &head {
            Some(head) if hand_over.is_zero() => self.heads.release(head),
            Some(head) => self.serve_from_files(&tenant, head, &built),
            None => {}
        }
        let remove = move || {
            local.remove(&tenant, &built.ids());
            built.discard();
        };
        if hand_over.is_zero() {
            return remove();
        }
        tokio::spawn(async move {
            tokio::time::sleep(hand_over).await;
            remove();
        });
    }
}

/// The cut requests that [`CutterRequests`] sends.
#[derive(Debug)]
pub struct CutRequestQueue(mpsc::Receiver<oneshot::Sender<CutAnswer>>);

impl CutterRequests {
    /// Makes a way to ask for cuts and its other end.
    #[must_use]
    pub fn channel() -> (Self, CutRequestQueue) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), CutRequestQueue(receiver))
    }
}
