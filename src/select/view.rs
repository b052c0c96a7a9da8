//! The newest version of every tenant's catalog, as last seen.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use prometheus_client::metrics::counter::Counter;

use super::error::SelectError;
use crate::catalog::{CatalogError, Catalogs, Snapshot, tenants};
use crate::model::{ErrorKind, TenantId, error_chain};
use crate::runtime::{Metrics, Shutdown};

/// So many tenants are asked for their newest version at once.
const TENANTS_AT_ONCE: usize = 16;

/// The newest version of every tenant's catalog. It only goes forward.
#[derive(Debug)]
pub struct CatalogView {
    catalogs: Arc<Catalogs>,
    newest: RwLock<BTreeMap<TenantId, Arc<Snapshot>>>,
    /// Why no version of a tenant could be read yet: queries fail then instead of lacking its blocks.
    unreadable: RwLock<BTreeMap<TenantId, (String, ErrorKind)>>,
    failures: Counter,
}

impl CatalogView {
    /// Returns an empty view; nothing is read yet.
    #[must_use]
    pub fn new(catalogs: Arc<Catalogs>, metrics: &Metrics) -> Arc<Self> {
        let failures = Counter::default();
        let help = "Refreshes of the catalog view that failed";
        let failures = metrics.register("catalog_refresh_failures", help, failures);
        Arc::new(Self { catalogs, newest: RwLock::default(), unreadable: RwLock::default(), failures })
    }

    /// Returns the version seen last.
    #[must_use]
    pub fn snapshot(&self, tenant: &TenantId) -> Option<Arc<Snapshot>> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Returns the tenants that have a catalog, those that could not be read included.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let unreadable = self.unreadable.read().unwrap_or_else(PoisonError::into_inner);
        newest.keys().chain(unreadable.keys()).cloned().collect()
    }

    /// Returns whether there are tenants of whose catalogs nothing is known.
    pub(super) fn has_unreadable(&self) -> bool {
        !self.unreadable.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Returns why nothing is known of a tenant that has a catalog.
    pub(super) fn unreadable(&self, tenant: &TenantId) -> Option<SelectError> {
        let unreadable = self.unreadable.read().unwrap_or_else(PoisonError::into_inner);
        let (reason, kind) = unreadable.get(tenant)?.clone();
        Some(SelectError::Unreadable { tenant: tenant.clone(), reason, kind })
    }

    fn note_unreadable(&self, tenant: TenantId, error: &CatalogError) {
        if self.snapshot(&tenant).is_none() {
            let reason = (error_chain(error), error.kind());
            self.unreadable.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, reason);
        }
    }

    /// Takes in a version that this process has just committed.
    pub fn install(&self, snapshot: &Arc<Snapshot>) {
        let tenant = &snapshot.version().tenant;
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        self.unreadable.write().unwrap_or_else(PoisonError::into_inner).remove(tenant);
        if newest.get(tenant).is_none_or(|known| known.version().version < snapshot.version().version) {
            newest.insert(tenant.clone(), Arc::clone(snapshot));
        }
    }

    /// Looks for newer versions of all tenants, and for new tenants.
    ///
    /// # Errors
    /// The last failure; all else that was found is taken in.
    pub async fn refresh(&self) -> Result<(), CatalogError> {
        let tenants = tenants(self.catalogs.bucket()).await?;
        let look_ups = tenants.into_iter().map(|tenant| {
            let (catalog, known) = (self.catalogs.of(&tenant), self.snapshot(&tenant));
            async move { (tenant, catalog.newest(known).await) }
        });
        let mut found = futures::stream::iter(look_ups).buffer_unordered(TENANTS_AT_ONCE);
        let mut outcome = Ok(());
        while let Some((tenant, newest)) = found.next().await {
            match newest {
                Ok(Some(snapshot)) => self.install(&snapshot),
                Ok(None) => {}
                Err(error) => {
                    self.note_unreadable(tenant, &error);
                    outcome = Err(error);
                }
            }
        }
        outcome
    }

    /// Refreshes every `interval` until shutdown. A failure leaves the last known versions in place.
    pub async fn run(&self, interval: Duration, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(interval) => {}
            }
            if let Err(error) = self.refresh().await {
                self.failures.inc();
                tracing::warn!(
                    error = error_chain(&error),
                    "cannot refresh the catalogs, reads go on with the versions known"
                );
            }
        }
    }
}
