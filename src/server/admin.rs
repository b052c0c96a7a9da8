//! Probes, metrics and the flush call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::future::BoxFuture;
use http::{StatusCode, header};

use crate::model::ErrorKind;
use crate::runtime::Metrics;

/// Whether the process answers queries and writes; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Returns "not ready".
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the process is ready.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Returns whether the process is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The answer of a flush: JSON, or why it failed.
pub type FlushAnswer = Result<String, (ErrorKind, String)>;

/// What `POST /-/flush` does; it answers after the commit.
pub type FlushCall = Arc<dyn Fn() -> BoxFuture<'static, FlushAnswer> + Send + Sync>;

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    readiness: Readiness,
}

/// Returns `/metrics`, `/-/healthy`, `/-/ready` and, where there is something to flush, `POST /-/flush`.
pub fn admin_routes(metrics: Metrics, readiness: Readiness, flush: Option<FlushCall>) -> Router {
    let router = Router::new()
        .route("/metrics", get(render_metrics))
        .route("/-/healthy", get(|| async { "perennial is healthy\n" }))
        .route("/-/ready", get(ready))
        .with_state(Admin { metrics, readiness });
    match flush {
        Some(call) => router.route("/-/flush", post(run_flush).with_state(call)),
        None => router,
    }
}

async fn render_metrics(State(admin): State<Admin>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], admin.metrics.render())
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.readiness.is_ready() {
        "perennial is ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "perennial is not ready\n").into_response()
    }
}

async fn run_flush(State(flush): State<FlushCall>) -> Response {
    match flush().await {
        Ok(report) => ([(header::CONTENT_TYPE, "application/json")], report + "\n").into_response(),
        Err((kind, reason)) => {
            let status =
                StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, reason + "\n").into_response()
        }
    }
}
