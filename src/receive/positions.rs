//! What each tenant's catalog is known to cover of each epoch.

use std::collections::{BTreeMap, HashMap};

use ulid::Ulid;

use crate::block::LogPositions;
use crate::catalog::CoverChange;
use crate::model::TenantId;

/// The writer's own belief of what is covered: the fence of every commit.
///
/// A commit says "entries after what I believe covered, up to here"; the catalog refuses it where it disagrees.
#[derive(Debug, Default)]
pub(super) struct Positions {
    covered: HashMap<TenantId, BTreeMap<Ulid, u64>>,
    replayed: HashMap<TenantId, BTreeMap<Ulid, u64>>,
    recovered: BTreeMap<Ulid, u64>,
    /// The last entries that cuts have taken over, committed or not.
    taken: HashMap<TenantId, BTreeMap<Ulid, u64>>,
}

impl Positions {
    /// Records what the catalog says at recovery.
    pub(super) fn learn_covered(&mut self, tenant: &TenantId, epoch: Ulid, through_seq: u64) {
        self.covered.entry(tenant.clone()).or_default().insert(epoch, through_seq);
    }

    /// Returns the last entry of an epoch that is covered, where that is known.
    pub(super) fn known(&self, tenant: &TenantId, epoch: Ulid) -> Option<u64> {
        self.covered.get(tenant)?.get(&epoch).copied()
    }

    /// Records that an entry of an earlier epoch was replayed into a tenant's head.
    pub(super) fn replay(&mut self, tenant: &TenantId, epoch: Ulid, seq: u64) {
        match self.replayed.get_mut(tenant) {
            Some(epochs) => epochs.insert(epoch, seq),
            None => self.replayed.entry(tenant.clone()).or_default().insert(epoch, seq),
        };
    }

    /// Returns and forgets what was replayed into a tenant's head: the last entry per epoch.
    pub(super) fn take_replayed(&mut self, tenant: &TenantId) -> Vec<(Ulid, u64)> {
        self.replayed.remove(tenant).into_iter().flatten().collect()
    }

    /// Records that all entries of an earlier epoch up to `seq` are in blocks or heads.
    pub(super) fn recover(&mut self, epoch: Ulid, seq: u64) {
        self.recovered.insert(epoch, seq);
    }

    /// Returns and forgets the earlier epochs that the next cut lets go.
    pub(super) fn take_recovered(&mut self) -> Vec<(Ulid, u64)> {
        std::mem::take(&mut self.recovered).into_iter().collect()
    }

    /// Returns whether a later cut covers entries of an earlier epoch, or lets them go.
    pub(super) fn owe(&self, epoch: Ulid) -> bool {
        self.recovered.contains_key(&epoch)
            || self.replayed.values().any(|epochs| epochs.contains_key(&epoch))
    }

    /// Returns the entries that a cut takes over, from where the tenant's cut before it ended.
    pub(super) fn take_over(&mut self, tenant: &TenantId, through: &[(Ulid, u64)]) -> Vec<LogPositions> {
        let mut positions = Vec::new();
        for (epoch, through_seq) in through {
            let covered = self.known(tenant, *epoch).unwrap_or(0);
            let taken = self.taken.entry(tenant.clone()).or_default().entry(*epoch).or_default();
            let after_seq = covered.max(*taken);
            *taken = (*taken).max(*through_seq);
            if *through_seq > after_seq {
                positions.push(LogPositions { epoch: *epoch, after_seq, through_seq: *through_seq });
            }
        }
        positions
    }

    /// Returns the change that covers a tenant's entries up to `through`.
    pub(super) fn plan_cover(
        &self,
        tenant: &TenantId,
        receiver: &str,
        through: &[(Ulid, u64)],
    ) -> Vec<CoverChange> {
        let change = |(epoch, through_seq): &(Ulid, u64)| CoverChange {
            epoch: *epoch,
            receiver: receiver.to_owned(),
            after_seq: self.known(tenant, *epoch).unwrap_or(0),
            through_seq: *through_seq,
        };
        through.iter().map(change).filter(|c| c.through_seq > c.after_seq).collect()
    }

    /// Records a commit.
    pub(super) fn cover(&mut self, tenant: &TenantId, committed: &[CoverChange]) {
        for change in committed {
            self.learn_covered(tenant, change.epoch, change.through_seq);
        }
    }
}
