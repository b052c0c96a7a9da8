//! Going back to a kept version: what would change, and the commit that does it.
//!
//! A rollback is an ordinary change with the difference of two versions in it, so everything that guards a commit
//! guards it too. It makes a new version; nothing is taken out of the history, so it can be rolled back itself for
//! as long as the history reaches.
//!
//! What does not go back:
//! - *Positions covered.* A receiver lets its log go once its entries are covered, and says in every commit which
//!   entry it starts after. Older positions would make it replay what it still has, which brings dropped samples back,
//!   and would fence off the commits of one whose log is gone already. With the newest positions its next commit fits
//!   on the new version as it would have on the one before.
//! - *Label columns.* They only grow: blocks that receivers write at this moment use them.
//! - *Doomed objects, leases and quarantine.* They tell of the bucket and of work under way as they are now.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::bucket::ObjectKey;
use crate::model::{ErrorKind, TenantId, Ulid, format_time_ms};

use super::CatalogError;
use super::history::TenantCatalog;
use super::plan::TombstoneChange;
use super::snapshot::{Moment, Snapshot};
use super::version::BlockEntry;

/// How old a plan may be. Blocks that are there when it is made are then there when it is committed: what is doomed
/// afterwards is kept for longer than this.
const PLAN_AGE_MAX_MS: i64 = 1_800_000;

/// How often the search for a version starts again because versions expired under it.
const ROUNDS: u32 = 3;

/// Why a tenant was not rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// A catalog could not be read or written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The tenant has no catalog.
    #[error("tenant {tenant} has no catalog in this bucket: check the tenant's name and the bucket")]
    NoCatalog {
        /// The tenant asked for.
        tenant: TenantId,
    },
    /// The time lies before the kept history.
    #[error(
        "no catalog version of {asked} is kept for tenant {tenant}: the nearest possible time is {nearest}, that of \
         version {version}",
        asked = format_time_ms(*at_ms), nearest = format_time_ms(*nearest_ms)
    )]
    BeforeHistory {
        /// Whose catalog.
        tenant: TenantId,
        /// The time asked for.
        at_ms: i64,
        /// The time of the oldest version that is kept.
        nearest_ms: i64,
        /// That version.
        version: u64,
    },
    /// The time has not come yet.
    #[error(
        "{asked} has not come yet: the nearest possible time is {nearest}",
        asked = format_time_ms(*at_ms), nearest = format_time_ms(*nearest_ms)
    )]
    Ahead {
        /// The time asked for.
        at_ms: i64,
        /// The latest possible time.
        nearest_ms: i64,
    },
    /// Blocks of the version are not there any more.
    #[error(
        "version {version} cannot come back whole, {count} of its blocks cannot be named again; first {key}: {why}"
    )]
    BlocksLost {
        /// The version asked for.
        version: u64,
        /// How many blocks.
        count: usize,
        /// The key of the first.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The plan is too old to be sure of what it saw.
    #[error("the plan is more than half an hour old: make a new one")]
    PlanTooOld,
}

impl RollbackError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::NoCatalog { .. } => ErrorKind::NotFound,
            Self::BeforeHistory { .. } | Self::Ahead { .. } => ErrorKind::OutOfRange,
            Self::BlocksLost { .. } => ErrorKind::Incomplete,
            Self::PlanTooOld => ErrorKind::Conflict,
        }
    }
}

/// A block of the kept version that cannot be named again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBlock {
    /// The block.
    pub id: Ulid,
    /// Its object's key.
    pub key: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What a rollback would do.
#[derive(Debug)]
pub struct RollbackPlan {
    /// The version that is the newest now.
    pub newest: Arc<Snapshot>,
    /// The kept version to go back to.
    pub target: Arc<Snapshot>,
    /// Blocks of the kept version that the newest has not.
    pub back: Vec<Arc<BlockEntry>>,
    /// Blocks of the newest version that the kept one has not.
    pub gone: Vec<Arc<BlockEntry>>,
    /// How many blocks both have.
    pub stays: usize,
    /// Blocks of the kept version that cannot be named again.
    pub lost: Vec<LostBlock>,
    planned_at: Moment,
}

impl RollbackPlan {
    /// Returns whether the newest version has the kept one's content already.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.back.is_empty() && self.gone.is_empty() && !self.changes_tombstones()
    }

    /// Returns whether the two versions have different tombstones.
    #[must_use]
    pub fn changes_tombstones(&self) -> bool {
        self.newest.version().tombstones != self.target.version().tombstones
    }

    /// Refuses a plan that would name blocks which are gone.
    ///
    /// # Errors
    /// [`RollbackError::BlocksLost`].
    pub fn check_whole(&self) -> Result<(), RollbackError> {
        match self.lost.first() {
            None => Ok(()),
            Some(first) => Err(RollbackError::BlocksLost {
                version: self.target.version().version,
                count: self.lost.len(),
                key: first.key.clone(),
                why: first.why,
            }),
        }
    }
}

impl TenantCatalog {
    /// Compares the version that was in force at a time with the newest one, and looks whether its blocks are there.
    ///
    /// # Errors
    /// A time without a kept version, or a catalog that cannot be read.
    pub async fn plan_rollback(&self, at_ms: i64) -> Result<RollbackPlan, RollbackError> {
        let planned_at = Moment::now(&*self.clock);
        let newest = self.newest(None).await?;
        let newest = newest.ok_or_else(|| RollbackError::NoCatalog { tenant: self.tenant.clone() })?;
        // A writer's clock may be ahead of this one.
        let nearest_ms = self.clock.now_ms().max(newest.version().written_at_ms);
        if at_ms > nearest_ms {
            return Err(RollbackError::Ahead { at_ms, nearest_ms });
        }
        let target = self.in_force(at_ms, &newest).await?;
        let (now, then) = (newest.blocks().await?, target.blocks().await?);
        let ids = |blocks: &[Arc<BlockEntry>]| blocks.iter().map(|block| block.id).collect::<HashSet<Ulid>>();
        let (now_ids, then_ids) = (ids(&now), ids(&then));
        let lost = self.lost(&then, &newest).await?;
        let gone: Vec<_> = now.into_iter().filter(|block| !then_ids.contains(&block.id)).collect();
        let back: Vec<_> = then.into_iter().filter(|block| !now_ids.contains(&block.id)).collect();
        let stays = then_ids.len() - back.len();
        Ok(RollbackPlan { newest, target, back, gone, stays, lost, planned_at })
    }

    /// Carries a plan out: the new version has the content of the kept one, and what others have committed since the
    /// plan was made.
    ///
    /// # Errors
    /// Blocks that are lost, a plan too old, or a commit that does not fit any more because others removed or brought
    /// back the same blocks (kind `Conflict`).
    pub async fn roll_back(&self, plan: &RollbackPlan) -> Result<Arc<Snapshot>, RollbackError> {
        plan.check_whole()?;
        if plan.planned_at.age_ms(&*self.clock) > PLAN_AGE_MAX_MS {
            return Err(RollbackError::PlanTooOld);
        }
        let mut change = self.new_change();
        change.add = plan.back.iter().map(|block| block.as_ref().clone()).collect();
        change.remove = plan.gone.iter().map(|block| block.id).collect();
        change.tombstones = plan.changes_tombstones().then(|| TombstoneChange {
            from: plan.newest.version().tombstones.clone(),
            to: plan.target.version().tombstones.clone(),
        });
        Ok(self.commit(&change).await?)
    }

    /// Finds the last version made at a time or before; times grow with the numbers.
    async fn in_force(&self, at_ms: i64, newest: &Arc<Snapshot>) -> Result<Arc<Snapshot>, RollbackError> {
        if newest.version().written_at_ms <= at_ms {
            return Ok(Arc::clone(newest));
        }
        for _ in 0..ROUNDS {
            let first = self.versions().await?.first().map_or(newest.version().version, |info| info.version);
            match self.search(at_ms, first, newest.version().version).await {
                // It has expired since it was listed.
                Err(RollbackError::Catalog(CatalogError::NoSuchVersion { .. })) => {}
                found => return found,
            }
        }
        Err(CatalogError::Contended { tenant: self.tenant.clone(), attempts: ROUNDS }.into())
    }

    async fn search(&self, at_ms: i64, first: u64, newest: u64) -> Result<Arc<Snapshot>, RollbackError> {
        let mut found = self.at(first).await?;
        let nearest_ms = found.version().written_at_ms;
        if nearest_ms > at_ms {
            let tenant = self.tenant.clone();
            return Err(RollbackError::BeforeHistory { tenant, at_ms, nearest_ms, version: first });
        }
        let mut after = newest;
        while after - found.version().version > 1 {
            let middle = self.at(u64::midpoint(found.version().version, after)).await?;
            if middle.version().written_at_ms <= at_ms {
                found = middle;
            } else {
                after = middle.version().version;
            }
        }
        Ok(found)
    }

    /// Returns the blocks whose objects are not there as they were, or are about to be deleted.
    async fn lost(
        &self,
        blocks: &[Arc<BlockEntry>],
        newest: &Snapshot,
    ) -> Result<Vec<LostBlock>, CatalogError> {
        let listing = self.bucket.list(&ObjectKey::blocks_folder(&self.tenant)).await?;
        let sizes: HashMap<&str, u64> = listing.iter().map(|o| (o.key.as_str(), o.size_bytes)).collect();
        let doomed: HashSet<&str> = newest.version().doomed.iter().map(|d| d.key.as_str()).collect();
        let lost = blocks.iter().filter_map(|block| {
            let key = ObjectKey::block(&self.tenant, block.id).to_string();
            let why = match sizes.get(key.as_str()) {
                None => "its object is gone",
                Some(_) if doomed.contains(key.as_str()) => "its object is listed for deletion",
                Some(size) if *size != block.size_bytes => "its object has another size than it had",
                Some(_) => return None,
            };
            Some(LostBlock { id: block.id, key, why })
        });
        Ok(lost.collect())
    }
}
