//! The logs of dead receivers in the bucket become blocks.
//!
//! Entries of another epoch go into heads of their own and from there into blocks at once, never into the heads that take
//! writes: where the catalog says that somebody else was faster, all of it is dropped and read again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use ulid::Ulid;

use super::blocks::{BlockTarget, Columns, CutError};
use super::cut::OnCommit;
use super::recover::{RecoverError, Recovered};
use super::replay::SegmentSeries;
use crate::block::LogPositions;
use crate::catalog::{CatalogError, CoverChange, tenants};
use crate::head::{Head, Heads};
use crate::log::object::{DeadEpochs, EpochReader, Judged, ObjectHeader, OwnEpoch, Seal, Verdict};
use crate::model::{ErrorKind, TenantId, error_chain};
use crate::runtime::{Metrics, Shutdown, crash_point};

/// How often an epoch is read again because somebody else commits it at the same time.
const ROUNDS_MAX: u32 = 8;

/// What can be set about the recovery of epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecovererSettings {
    /// How often other epochs are looked at.
    pub interval: Duration,
    /// Heads above this size become blocks between two generations, so that a long log needs no more memory.
    pub head_bytes_max: usize,
    /// Goes on where an entry is damaged or missing, with what can be read.
    pub skip_damaged: bool,
}

/// Figures of the recovery of epochs.
#[derive(Debug, Clone)]
pub struct RecovererMetrics {
    epochs: Counter,
    samples: Counter,
    failures: Counter,
}

impl RecovererMetrics {
    /// Registers the figures.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.register(name, help, Counter::default());
        Self {
            epochs: counter("log_epochs_recovered", "Epochs of dead receivers that this process recovered"),
            samples: counter("log_epochs_recovered_samples", "Samples in blocks again from such epochs"),
            failures: counter(
                "log_epochs_recover_failures",
                "Attempts to look after dead epochs that failed",
            ),
        }
    }
}

/// Looks after the epochs of all receivers on a bucket but this one's own.
#[derive(Debug)]
pub struct Recoverer {
    target: BlockTarget,
    epochs: DeadEpochs,
    own: Option<OwnEpoch>,
    on_commit: Committed,
    settings: RecovererSettings,
    metrics: RecovererMetrics,
    swept: BTreeSet<Ulid>,
}

struct Committed(OnCommit);

/// What is known while one epoch is read.
#[derive(Debug, Default)]
struct Replay {
    heads: Arc<Heads>,
    series: SegmentSeries,
    generation: u64,
    /// The last entry that each tenant's catalog covers, of all tenants that the epoch has.
    covered: BTreeMap<TenantId, u64>,
    samples: u64,
}

impl Recoverer {
    /// Prepares to look; `own` tells the epoch that this process writes, where it does.
    #[must_use]
    pub fn new(
        target: BlockTarget,
        own: Option<OwnEpoch>,
        on_commit: OnCommit,
        settings: RecovererSettings,
        metrics: RecovererMetrics,
    ) -> Self {
        let bucket = target.catalogs.bucket().clone();
        let epochs = DeadEpochs::new(bucket, target.random.clone(), target.receiver.clone());
        let (on_commit, swept) = (Committed(on_commit), BTreeSet::new());
        Self { target, epochs, own, on_commit, settings, metrics, swept }
    }

    /// Looks at its interval until shutdown. What fails is tried again.
    pub async fn run(mut self, shutdown: Shutdown) {
        loop {
            if let Err(error) = self.look(false).await {
                self.metrics.failures.inc();
                tracing::error!(
                    error = error_chain(&error),
                    "cannot look after the logs of other receivers yet"
                );
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(self.settings.interval) => {}
            }
        }
    }

    /// Recovers what earlier processes of this receiver's name logged, dead or not: they are known to be gone. Other epochs
    /// have to wait for [`Self::run`].
    ///
    /// # Errors
    /// A damaged log, or a bucket that fails; starting again repeats the whole.
    pub async fn take_back(&mut self) -> Result<Recovered, RecoverError> {
        self.look(true).await
    }

    /// Looks at all epochs once. One that fails does not keep the others.
    pub(super) async fn look(&mut self, ours: bool) -> Result<Recovered, RecoverError> {
        let own = self.own.as_ref().map(OwnEpoch::get);
        let mut recovered = Recovered::default();
        if self.epochs.look(own).await?.is_empty() {
            return Ok(recovered);
        }
        let now_ms = self.epochs.store_now_ms().await?;
        let mut outcome = Ok(());
        for (epoch, judged) in self.epochs.judge(now_ms, ours).await {
            let tended = match judged {
                Ok(judged) if ours && judged.newest.receiver != self.target.receiver => Ok(()),
                Ok(judged) => self.tend(judged, &mut recovered).await,
                // Whose it is cannot be told: it must not keep this receiver from starting.
                Err(error) if ours && error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(error = error_chain(&error), %epoch, "an epoch does not read");
                    Ok(())
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = tended {
                tracing::error!(error = error_chain(&error), %epoch, "an epoch is not looked after yet");
                outcome = outcome.and(Err(error));
            }
        }
        outcome.map(|()| recovered)
    }

    async fn tend(
        &mut self,
        Judged { verdict, newest }: Judged,
        recovered: &mut Recovered,
    ) -> Result<(), RecoverError> {
        match verdict {
            Verdict::Leave => Ok(()),
            Verdict::Recover => self.recover(newest, recovered).await,
            Verdict::Sweep if self.swept.contains(&newest.epoch) => Ok(()),
            Verdict::Sweep => {
                self.epochs.sweep(newest.epoch, newest.seq - 1).await?;
                self.swept.insert(newest.epoch);
                Ok(())
            }
            Verdict::Remove => self.remove(&newest).await,
        }
    }

    /// Ends an epoch, commits what blocks do not hold, and lets its entries go.
    async fn recover(&mut self, newest: ObjectHeader, recovered: &mut Recovered) -> Result<(), RecoverError> {
        let Some(seal) = self.epochs.seal(newest).await? else { return Ok(()) };
        tracing::info!(epoch = %seal.epoch, receiver = seal.receiver, seal = seal.seq, by = seal.by, "recovering an epoch");
        let mut rounds = 0;
        let samples = loop {
            rounds += 1;
            match self.replay(&seal).await {
                Err(RecoverError::Cut(CutError::Catalog(CatalogError::Fenced { .. })))
                    if rounds < ROUNDS_MAX =>
                {
                    tracing::info!(epoch = %seal.epoch, "another receiver commits the same epoch, reading it again");
                }
                // Entries go once all is committed: what is missing may have been taken care of meanwhile.
                Err(error)
                    if error.kind() == ErrorKind::Corrupt && self.epochs.is_released(&seal).await? =>
                {
                    tracing::info!(epoch = %seal.epoch, "another receiver has recovered the same epoch");
                    return Ok(());
                }
                replayed => break replayed?,
            }
        };
        crash_point("object_log.before_mark");
        self.epochs.mark_released(&seal).await?;
        self.swept.insert(seal.epoch);
        self.metrics.epochs.inc();
        self.metrics.samples.inc_by(samples);
        recovered.segments += 1;
        recovered.samples += samples;
        tracing::info!(epoch = %seal.epoch, receiver = seal.receiver, samples, "recovered an epoch");
        Ok(())
    }

    /// Reads an epoch and commits what the catalogs do not cover; returns the samples that are in blocks now.
    async fn replay(&self, seal: &Seal) -> Result<u64, RecoverError> {
        let bucket = self.target.catalogs.bucket().clone();
        let seqs = seal.released + 1..seal.seq;
        let mut reader = EpochReader::new(bucket, self.target.cpu.clone(), seal.epoch, seqs);
        let mut replay = Replay::default();
        while let Some(read) = reader.next().await {
            let read = match read {
                Ok(read) => read,
                Err(error) if self.settings.skip_damaged && error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(%error, "skipped a damaged log entry, acknowledged samples are lost");
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if read.header.generation != replay.generation {
                // Only here does nothing that follows refer to a series of the heads so far.
                if replay.heads.bytes() > self.settings.head_bytes_max {
                    self.commit_heads(seal, &mut replay, read.header.seq - 1).await?;
                }
                (replay.generation, replay.series) = (read.header.generation, SegmentSeries::default());
            }
            for entry in read.entry.tenants {
                let covered = self.covered(seal.epoch, &entry.tenant, &mut replay.covered).await?;
                if covered < read.entry.seq {
                    replay.samples += (entry.samples.len() + entry.histograms.len()) as u64;
                    replay.series.append(entry, &replay.heads);
                } else {
                    replay.series.declare(&entry, &replay.heads);
                }
            }
        }
        let last_seq = seal.seq - 1;
        self.commit_heads(seal, &mut replay, last_seq).await?;
        // The writer may still live and hold heads: it lets go of them once all is covered.
        for (tenant, covered) in replay.covered {
            if covered < last_seq {
                self.commit(seal, &tenant, None, (covered, last_seq)).await?;
            }
        }
        Ok(replay.samples)
    }

    async fn covered(
        &self,
        epoch: Ulid,
        tenant: &TenantId,
        known: &mut BTreeMap<TenantId, u64>,
    ) -> Result<u64, RecoverError> {
        if let Some(covered) = known.get(tenant) {
            return Ok(*covered);
        }
        let newest = self.target.catalogs.of(tenant).newest(None).await;
        let newest = newest.map_err(|source| RecoverError::Catalog { tenant: tenant.clone(), source })?;
        let covered = newest.map_or(0, |snapshot| snapshot.version().covered_through(epoch));
        known.insert(tenant.clone(), covered);
        Ok(covered)
    }

    async fn commit_heads(
        &self,
        seal: &Seal,
        replay: &mut Replay,
        through_seq: u64,
    ) -> Result<(), RecoverError> {
        for head in replay.heads.freeze() {
            let tenant = head.tenant();
            let after_seq = replay.covered.get(tenant).copied().unwrap_or(0);
            self.commit(seal, tenant, Some(&head), (after_seq, through_seq)).await?;
            replay.covered.insert(tenant.clone(), through_seq);
            replay.heads.release(&head);
            crash_point("object_log.after_tenant");
        }
        Ok(())
    }

    /// Commits a tenant's part of an epoch, or only that it has none.
    async fn commit(
        &self,
        seal: &Seal,
        tenant: &TenantId,
        head: Option<&Arc<Head>>,
        (after_seq, through_seq): (u64, u64),
    ) -> Result<(), CutError> {
        let cover =
            CoverChange { epoch: seal.epoch, receiver: seal.receiver.clone(), after_seq, through_seq };
        let catalog = self.target.catalogs.of(tenant);
        let Some(head) = head else {
            let mut change = catalog.new_change();
            change.covered = vec![cover];
            (self.on_commit.0)(&catalog.commit(&change).await?);
            return Ok(());
        };
        let target = BlockTarget { external_labels: seal.external_labels.clone(), ..self.target.clone() };
        let newest = catalog.newest(None).await?;
        let known = newest.map_or_else(Vec::new, |snapshot| snapshot.version().label_columns.clone());
        let positions = vec![LogPositions { epoch: seal.epoch, after_seq, through_seq }];
        let built = target.build(head, positions, Columns::Extended(known)).await?;
        let committed = target.commit(tenant, &built, (vec![cover], Vec::new())).await;
        built.discard();
        (self.on_commit.0)(&committed?);
        Ok(())
    }

    /// Lets an epoch go for good: no catalog needs its fence once nothing can be written to it any more.
    async fn remove(&self, newest: &ObjectHeader) -> Result<(), RecoverError> {
        let bucket = self.target.catalogs.bucket();
        for tenant in tenants(bucket).await.map_err(CutError::from)? {
            let failed = |source| RecoverError::Catalog { tenant: tenant.clone(), source };
            let catalog = self.target.catalogs.of(&tenant);
            let known = match catalog.newest(None).await {
                // Mended it may fence an epoch that is gone, which does no harm; the others must not wait for that.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(error = error_chain(&error), %tenant, "a catalog does not read and forgets no epoch");
                    continue;
                }
                known => known.map_err(failed)?,
            };
            if known.is_none_or(|snapshot| !snapshot.version().covered.contains_key(&newest.epoch)) {
                continue;
            }
            let mut change = catalog.new_change();
            change.forget_epochs = vec![newest.epoch];
            let snapshot = catalog.commit(&change).await.map_err(failed)?;
            (self.on_commit.0)(&snapshot);
        }
        self.epochs.remove(newest.epoch, newest.seq).await?;
        tracing::debug!(epoch = %newest.epoch, "removed a released epoch");
        Ok(())
    }
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Committed")
    }
}
