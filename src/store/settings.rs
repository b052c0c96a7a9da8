//! What the read APIs allow and how they name tenants.

use std::time::Duration;

use crate::model::TenantId;
use crate::runtime::Memory;
use crate::select::SelectLimits;

/// How queries are served.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The label that carries the tenant in StoreAPI answers.
    pub tenant_label: String,
    /// The HTTP header that carries the tenant.
    pub tenant_header: http::HeaderName,
    /// The tenant of HTTP requests without that header.
    pub default_tenant: TenantId,
    /// The labels that tell HA replicas apart; HTTP hides them on demand.
    pub replica_labels: Vec<String>,
    /// How long one query may take, its answer included.
    pub query_timeout: Duration,
    /// How many queries are served at once; further ones wait within their own time.
    pub query_concurrency: usize,
    /// What one query may select over all tenants. Samples count only where a query reads them, so the selector
    /// itself must not limit them.
    pub limits: SelectLimits,
    /// The memory budget of the process.
    pub memory: Memory,
    /// How far back new samples may lie, where this process serves heads; none where it serves blocks only.
    pub head_max_age_ms: Option<i64>,
}

impl StoreSettings {
    /// Returns the tenant that an HTTP request's headers name.
    pub(super) fn tenant(&self, headers: &http::HeaderMap) -> Result<TenantId, crate::model::TenantError> {
        let value = headers.get(&self.tenant_header).map(http::HeaderValue::as_bytes);
        TenantId::from_header(value, &self.default_tenant)
    }
}
