//! Placeholder until merged.
use crate::{
    model::TenantId,
    runtime::{Clock, Metrics, Shutdown},
    select::Selector,
};
use std::{sync::Arc, time::Duration};
/// x
#[derive(Debug)]
pub struct StoreSettings {
    /** x */
    pub tenant_label: String,
    /** x */
    pub tenant_header: http::HeaderName,
    /** x */
    pub default_tenant: TenantId,
    /** x */
    pub query_timeout: Duration,
    /** x */
    pub head_max_age_ms: Option<i64>,
}
/// x
#[derive(Debug)]
pub struct Reads;
impl Reads {
    /// x
    pub fn new(
        _: Selector,
        _: StoreSettings,
        _: Arc<dyn Clock>,
        _: Arc<dyn Fn() -> bool + Send + Sync>,
        _: Shutdown,
        _: &Metrics,
    ) -> Self {
        Self
    }
    /// x
    pub fn http_routes(&self) -> axum::Router {
        axum::Router::new()
    }
    /// x
    pub fn grpc_routes(&self) -> tonic::service::Routes {
        tonic::service::Routes::default()
    }
}
