//! The catalogs of all tenants of a bucket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::CatalogError;
use super::history::{CatalogSettings, TenantCatalog};
use crate::bucket::Bucket;
use crate::model::{TenantId, error_chain};
use crate::runtime::{Clock, Random};

/// Hands out one [`TenantCatalog`] per tenant, so that the commits of one process wait for each other.
#[derive(Debug)]
pub struct Catalogs {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    random: Random,
    settings: CatalogSettings,
    open: Mutex<HashMap<TenantId, Arc<TenantCatalog>>>,
}

impl Catalogs {
    /// Returns the catalogs of a bucket; nothing is read yet.
    #[must_use]
    pub fn new(bucket: Bucket, clock: Arc<dyn Clock>, random: Random, settings: CatalogSettings) -> Self {
        Self { bucket, clock, random, settings, open: Mutex::default() }
    }

    /// Returns the bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Returns a tenant's catalog.
    #[must_use]
    pub fn of(&self, tenant: &TenantId) -> Arc<TenantCatalog> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let catalog = open.entry(tenant.clone()).or_insert_with(|| {
            Arc::new(TenantCatalog::new(
                self.bucket.clone(),
                tenant.clone(),
                Arc::clone(&self.clock),
                self.random.clone(),
                self.settings.clone(),
            ))
        });
        Arc::clone(catalog)
    }

    /// Collects the garbage of all tenants, also where that of one fails.
    ///
    /// # Errors
    /// The first tenant's failure, after the others had their turn; that of listing them.
    pub async fn collect_garbage(&self) -> Result<(), CatalogError> {
        let mut outcome = Ok(());
        for tenant in super::tenants(&self.bucket).await? {
            match self.of(&tenant).collect_garbage().await {
                Ok(report) => tracing::debug!(%tenant, ?report, "looked for garbage"),
                Err(error) => {
                    tracing::warn!(error = error_chain(&error), %tenant, "cannot collect the garbage of a tenant");
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }
}
