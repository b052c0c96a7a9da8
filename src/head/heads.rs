//! All heads of a process.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::series::Head;
use crate::model::TenantId;

#[derive(Debug, Default)]
struct TenantHeads {
    active: Option<Arc<Head>>,
    frozen: Vec<Arc<Head>>,
}

/// The heads of all tenants: the active one of each and those that a cut froze.
#[derive(Debug, Default)]
pub struct Heads(RwLock<BTreeMap<TenantId, TenantHeads>>);

impl Heads {
    /// Returns an empty set.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Returns the head that takes a tenant's samples, made if missing.
    #[must_use]
    pub fn active(&self, tenant: &TenantId) -> Arc<Head> {
        if let Some(head) = self.read(|map| map.get(tenant)?.active.clone()) {
            return head;
        }
        self.write(|map| {
            let heads = map.entry(tenant.clone()).or_default();
            let head = heads.active.get_or_insert_with(|| Arc::new(Head::new(tenant.clone())));
            Arc::clone(head)
        })
    }

    /// Returns every head that holds samples of a tenant, oldest first.
    #[must_use]
    pub fn of_tenant(&self, tenant: &TenantId) -> Vec<Arc<Head>> {
        self.read(|map| {
            let heads = map.get(tenant);
            heads.into_iter().flat_map(|h| h.frozen.iter().chain(&h.active)).cloned().collect()
        })
    }

    /// Returns the tenants that have a head.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.read(|map| map.keys().cloned().collect())
    }

    /// Ends every active head and returns those that hold anything.
    #[must_use]
    pub fn freeze(&self) -> Vec<Arc<Head>> {
        self.write(|map| {
            let mut ended = Vec::new();
            for heads in map.values_mut() {
                let Some(head) = heads.active.take() else { continue };
                head.freeze();
                if !head.is_empty() {
                    heads.frozen.push(Arc::clone(&head));
                    ended.push(head);
                }
            }
            ended
        })
    }

    /// Forgets a frozen head, once every reader finds its samples in blocks.
    pub fn release(&self, head: &Arc<Head>) {
        self.write(|map| {
            if let Some(heads) = map.get_mut(head.tenant()) {
                heads.frozen.retain(|h| !Arc::ptr_eq(h, head));
            }
            map.retain(|_, heads| heads.active.is_some() || !heads.frozen.is_empty());
        });
    }

    /// Estimates the memory held by all heads, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.read(|map| map.values().flat_map(|h| h.frozen.iter().chain(&h.active)).map(|h| h.bytes()).sum())
    }

    /// Returns the time of the earliest sample or exemplar in all heads.
    #[must_use]
    pub fn min_time_ms(&self) -> Option<i64> {
        self.read(|map| {
            map.values().flat_map(|h| h.frozen.iter().chain(&h.active)).filter_map(|h| h.min_time_ms()).min()
        })
    }

    /// Returns the number of series in active heads.
    #[must_use]
    pub fn active_series(&self) -> usize {
        self.read(|map| map.values().filter_map(|h| h.active.as_ref()).map(|h| h.series_count()).sum())
    }

    // Nothing under the lock can be half done: a poisoned map is whole.
    fn read<T>(&self, work: impl FnOnce(&BTreeMap<TenantId, TenantHeads>) -> T) -> T {
        work(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, work: impl FnOnce(&mut BTreeMap<TenantId, TenantHeads>) -> T) -> T {
        work(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
