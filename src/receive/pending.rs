//! Heads on their way into blocks, and the files that take their place while the bucket is away.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::OnceCell;
use ulid::Ulid;

use super::blocks::{Columns, CutError, PendingBlocks};
use super::cut::{CutReport, Cutter};
use crate::block::LogPositions;
use crate::bucket::Bucket;
use crate::catalog::CatalogError;
use crate::head::Head;
use crate::model::{ErrorKind, TenantId, error_chain};
use crate::runtime::Random;

/// So many tenants in a row find the bucket away before the others only write their files in this round: each attempt
/// may take as long as the bucket's retries.
const AWAY_MAX: u32 = 2;

/// A head on its way into blocks.
#[derive(Debug)]
pub(super) struct PendingHead {
    pub(super) tenant: TenantId,
    /// Gone once its blocks are served from their files.
    pub(super) head: Option<Arc<Head>>,
    /// The last entries whose samples it holds, per epoch.
    pub(super) through: Vec<(Ulid, u64)>,
    /// The entries whose samples it holds, as its blocks say.
    pub(super) positions: Vec<LogPositions>,
    pub(super) built: Option<PendingBlocks>,
}

/// Heads that one cut ended, and the log entries that may go once all are committed.
#[derive(Debug)]
pub(super) struct PendingCut {
    pub(super) heads: VecDeque<PendingHead>,
    pub(super) release: Vec<(Ulid, u64)>,
}

/// Whether the bucket was seen to refuse a second create of a key, which commits rest on. Clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct CreateProbe(Arc<OnceCell<()>>);

impl CreateProbe {
    /// Returns a probe that is still to be made, before the first commit.
    #[must_use]
    pub fn outstanding() -> Self {
        Self::default()
    }

    /// Returns a probe that was made.
    #[must_use]
    pub fn passed() -> Self {
        Self(Arc::new(OnceCell::new_with(Some(()))))
    }

    pub(super) async fn pass(&self, bucket: &Bucket, random: &Random) -> Result<(), CutError> {
        self.0.get_or_try_init(|| bucket.probe_conditional_create(random)).await?;
        Ok(())
    }
}

/// What one round of commits has met.
#[derive(Default)]
struct Round {
    /// Tenants whose later heads have to wait.
    failed: BTreeSet<TenantId>,
    away_in_a_row: u32,
}

impl Cutter {
    /// Commits the heads of all cuts, oldest first. A tenant that fails waits with its later heads; the others go
    /// on. Heads that wait are written to files and served from there, which frees their memory. Returns the log
    /// entries that may go: those of cuts that are committed whole, up to the first that is not.
    pub(super) async fn commit_heads(
        &mut self,
        report: &mut CutReport,
    ) -> (Vec<(Ulid, u64)>, Result<(), CutError>) {
        let (mut round, mut outcome) = (Round::default(), Ok(()));
        if self.bucket_away {
            // Memory must not wait for the bucket's retries, and one attempt shows whether it is back.
            outcome = self.spill_heads().await;
            round.away_in_a_row = AWAY_MAX - 1;
        }
        for mut cut in std::mem::take(&mut self.pending) {
            // Who was not tried in this round goes first in the next.
            let (mut untried, mut tried) = (VecDeque::new(), VecDeque::new());
            for mut pending in std::mem::take(&mut cut.heads) {
                if round.away_in_a_row >= AWAY_MAX || round.failed.contains(&pending.tenant) {
                    outcome = outcome.and(self.spill(&mut pending).await);
                    round.failed.insert(pending.tenant.clone());
                    untried.push_back(pending);
                    continue;
                }
                let committed = self.commit_head(&mut pending, report).await;
                match committed {
                    Ok(()) => round.away_in_a_row = 0,
                    Err(error) => {
                        tracing::warn!(error = error_chain(&error), tenant = %pending.tenant, "a head is not committed");
                        round.note(&pending.tenant, &error);
                        outcome = outcome.and(self.after_failure(&mut pending, error).await);
                        tried.push_back(pending);
                    }
                }
            }
            cut.heads = untried;
            cut.heads.append(&mut tried);
            self.pending.push_back(cut);
        }
        self.bucket_away = round.away_in_a_row > 0;
        let mut release = Vec::new();
        while self.pending.front().is_some_and(|cut| cut.heads.is_empty()) {
            release.extend(self.pending.pop_front().into_iter().flat_map(|cut| cut.release));
        }
        (release, outcome)
    }

    /// Writes what waits to files without asking the bucket.
    ///
    /// # Errors
    /// Files that cannot be written: those heads stay in memory.
    pub(super) async fn spill_heads(&mut self) -> Result<(), CutError> {
        let mut outcome = Ok(());
        for mut cut in std::mem::take(&mut self.pending) {
            for pending in &mut cut.heads {
                outcome = outcome.and(self.spill(pending).await);
            }
            self.pending.push_back(cut);
        }
        outcome
    }

    /// Decides what becomes of a head that was not committed; returns what the round fails with.
    async fn after_failure(&mut self, pending: &mut PendingHead, error: CutError) -> Result<(), CutError> {
        match &error {
            _ if error.wants_new_blocks() => {
                if pending.head.is_none() {
                    // The log still has the samples, and the next start replays them.
                    return Err(CutError::Restart(Box::new(error)));
                }
                if let Some(built) = pending.built.take() {
                    built.discard();
                }
            }
            CutError::Bucket(_) | CutError::Catalog(_) => {
                if let Err(unwritten) = self.spill(pending).await {
                    tracing::warn!(
                        error = error_chain(&unwritten),
                        tenant = %pending.tenant,
                        "a head that waits stays in memory"
                    );
                }
            }
            // There is no file to serve from.
            _ => {}
        }
        Err(error)
    }

    /// Serves a head's blocks from their files from now on and lets its memory go.
    async fn spill(&mut self, pending: &mut PendingHead) -> Result<(), CutError> {
        let Some(head) = &pending.head else { return Ok(()) };
        if pending.built.is_none() {
            // Without the newest catalog only columns that it surely has: the files must fit whatever it has become.
            let known = self.label_columns.get(&pending.tenant).cloned().unwrap_or_default();
            let positions = pending.positions.clone();
            pending.built = Some(self.target.build(head, positions, Columns::Only(known)).await?);
        }
        let built = pending.built.as_ref().expect("built above");
        tracing::info!(
            tenant = %pending.tenant, blocks = built.count(), bytes = built.bytes(), "blocks wait in files for the bucket"
        );
        self.serve_from_files(&pending.tenant, head, built);
        pending.head = None;
        Ok(())
    }

    /// The files first, then the head goes: in between both are read, and merged.
    pub(super) fn serve_from_files(&self, tenant: &TenantId, head: &Arc<Head>, built: &PendingBlocks) {
        self.target.local.add(tenant, built.files());
        self.heads.release(head);
    }
}

impl Round {
    fn note(&mut self, tenant: &TenantId, error: &CutError) {
        self.failed.insert(tenant.clone());
        if error.is_of_absent_bucket() {
            self.away_in_a_row += 1;
        }
    }
}

impl CutError {
    /// Returns whether the bucket cannot be reached or does not take anything.
    pub(super) fn is_of_absent_bucket(&self) -> bool {
        let of_bucket = matches!(self, Self::Bucket(_) | Self::Catalog(CatalogError::Bucket(_)));
        of_bucket && self.kind() == ErrorKind::Unavailable
    }

    /// Returns whether these blocks can never be committed under their names or columns, or are damaged.
    fn wants_new_blocks(&self) -> bool {
        match self {
            Self::Changed(_)
            | Self::Catalog(CatalogError::DoomedKey { .. } | CatalogError::LabelColumn { .. }) => true,
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }
}
