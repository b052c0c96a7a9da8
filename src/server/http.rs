//! HTTP listeners.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use tokio::net::TcpListener;
use tower::ServiceExt;

use super::connections::{Connections, Speaks, serve};
use crate::runtime::Shutdown;

/// How long requests may still run after shutdown began.
const GRACE: Duration = Duration::from_secs(30);

/// A bound port that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    pub(super) inner: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// A port that is taken, or an address that is not this machine's.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let inner = TcpListener::bind(address).await?;
        let address = inner.local_addr()?;
        Ok(Self { inner, address })
    }

    /// Returns the address, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Routes that are put in once the process is ready; until then they answer 503.
#[derive(Debug, Clone, Default)]
pub struct LateRoutes(Arc<OnceLock<Router>>);

impl LateRoutes {
    /// Returns closed routes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the routes in. A second call changes nothing.
    pub fn open(&self, routes: Router) {
        let _ = self.0.set(routes);
    }

    /// Adds these routes behind those of `router`.
    pub fn behind(self, router: Router) -> Router {
        router.fallback_service(Router::new().fallback(forward).with_state(self))
    }
}

async fn forward(State(late): State<LateRoutes>, request: Request<Body>) -> Response {
    match late.0.get() {
        Some(routes) => match routes.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not served yet: the log is being replayed, or the catalogs could not be read so far\n",
        )
            .into_response(),
    }
}

/// Serves until shutdown and then lets requests end. `name` stands in the listener's metrics.
pub async fn serve_http(
    (listener, name): (Listener, &'static str),
    routes: Router,
    connections: &Connections,
    shutdown: Shutdown,
) {
    serve((listener, name), routes, (connections, Speaks::Http), (shutdown, GRACE)).await;
}
