//! The gRPC listener.

use std::time::Duration;

use axum::middleware::from_fn_with_state;
use tonic::service::Routes;

use super::connections::{Connections, Speaks, serve};
use super::http::Listener;
use super::snappy::snappy;
use crate::runtime::{Cpu, Shutdown};

/// How long streams may still run after shutdown began.
const GRACE: Duration = Duration::from_secs(10);

/// Serves StoreAPI services together with gRPC health (`""` is serving) and reflection over `descriptors`. Messages may
/// come compressed with snappy, and are answered so.
///
/// # Errors
/// A descriptor set that does not read.
pub async fn serve_grpc(
    listener: Listener,
    (services, descriptors): (Routes, &'static [u8]),
    connections: &Connections,
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
    serve(
        (listener, "grpc"),
        routes.prepare().into_axum_router().layer(from_fn_with_state(cpu, snappy)),
        (connections, Speaks::Grpc),
        (shutdown, GRACE),
    )
    .await;
    Ok(())
}
