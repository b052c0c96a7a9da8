//! The gRPC listener.

use std::time::Duration;

use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use super::http::Listener;
use super::snappy::SnappyLayer;
use crate::runtime::{Cpu, Shutdown};

/// Idle connections are probed this often, so that vanished clients do not hold streams.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long streams may still run after shutdown began.
const GRACE: Duration = Duration::from_secs(10);

/// Serves StoreAPI services together with gRPC health (`""` is serving) and reflection over `descriptors`. Messages may
/// come compressed with snappy, and are answered so.
///
/// # Errors
/// A descriptor set that does not read, or the transport's failure.
pub async fn serve_grpc(
    listener: Listener,
    services: Routes,
    descriptors: &'static [u8],
    cpu: Cpu,
    shutdown: Shutdown,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = services
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let address = listener.address();
    let signal = shutdown.clone();
    let serve = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .tcp_nodelay(true)
        .layer(SnappyLayer(cpu))
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener.inner), async move {
            signal.wait().await;
        });
    tokio::pin!(serve);
    tokio::select! {
        ended = &mut serve => return Ok(ended?),
        () = shutdown.wait() => {}
    }
    if tokio::time::timeout(GRACE, serve).await.is_err() {
        tracing::warn!(%address, "streams did not end in time and were cut off");
    }
    Ok(())
}
