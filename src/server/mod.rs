//! Listeners: plain HTTP for writes, HTTP for everything else, gRPC; probes, metrics and the admin call.
//!
//! **Flow**: [`Listener::bind`] takes the ports before anything slow happens, so that a taken port is found at once.
//! HTTP answers from the first moment: `/-/healthy` and `/metrics` work, everything else says 503 until
//! [`LateRoutes::open`] puts the real routes in. gRPC accepts connections once the log is replayed.
//!
//! **Invariants**
//! - Readiness and routes change together: nothing answers from a head that is not replayed yet.
//! - On shutdown a listener stops accepting, lets what is under way end, and is gone after the grace at the latest.
//! - A client holds a connection only while it does something with it: headers, idle time, the reading of answers and
//!   requests as a whole have bounds, and so has the number of connections of a listener.
//!
//! It knows neither samples nor tenants; routes and services are handed in.

mod activity;
mod admin;
mod connections;
mod grpc;
mod http;
mod snappy;

#[cfg(test)]
mod tests;

pub use admin::{FlushAnswer, FlushCall, Readiness, admin_routes};
pub use connections::Connections;
pub use grpc::serve_grpc;
pub use http::{LateRoutes, Listener, serve_http};
