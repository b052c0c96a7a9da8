//! What the write endpoint allows.

use super::growth::Growth;
use crate::model::TenantId;
use crate::runtime::Memory;
use crate::wire::remote_write::Limits;

/// Limits on what comes in. Every one is checked before memory is taken for it.
#[derive(Debug, Clone)]
pub struct IngestSettings {
    /// How far back a sample may lie, in milliseconds.
    pub max_age_ms: i64,
    /// How far ahead a sample may lie, in milliseconds.
    pub max_future_ms: i64,
    /// The largest request body after decompression, in bytes.
    pub body_bytes_max: usize,
    /// What all requests in flight may hold together, compressed and decoded each, in bytes.
    pub in_flight_bytes_max: usize,
    /// Limits on label sets.
    pub labels: Limits,
}

/// What has to have room for a request.
#[derive(Debug, Clone)]
pub struct Room {
    /// The memory budget of the process.
    pub memory: Memory,
    /// What waits on disk.
    pub growth: Growth,
}

/// How a request names its tenant.
#[derive(Debug, Clone)]
pub struct TenantSettings {
    /// The HTTP header that carries the tenant.
    pub header: http::HeaderName,
    /// The tenant of requests without that header.
    pub default_tenant: TenantId,
}

impl TenantSettings {
    /// Returns the tenant that a request's headers name.
    ///
    /// # Errors
    /// A header that is not a tenant name.
    pub fn tenant(&self, headers: &http::HeaderMap) -> Result<TenantId, crate::model::TenantError> {
        let value = headers.get(&self.header).map(http::HeaderValue::as_bytes);
        TenantId::from_header(value, &self.default_tenant)
    }
}
