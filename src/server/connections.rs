//! Accepting connections, serving them, and cutting off those whose clients are gone or stalling.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::activity::{Activity, AnswerBody, Watched};
use super::http::Listener;
use crate::runtime::{Metrics, Shutdown};

/// How often a connection is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The pause after a connection could not be accepted, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Requests of one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 256;

/// Streams that a client opened and reset before they were taken: beyond that many the connection ends.
const RESET_STREAMS_MAX: usize = 20;

/// HTTP/2 connections are probed this often, and end when the answer takes as long as [`PROBE_WAIT`].
const PROBE_INTERVAL: Duration = Duration::from_secs(30);
const PROBE_WAIT: Duration = Duration::from_secs(20);

/// Plain HTTP has calls that wait for a cut of the head.
const HTTP_REQUEST_WAIT_MIN: Duration = Duration::from_secs(600);

/// Headers of one request together.
const HEADER_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutOff {
    listener: &'static str,
    reason: &'static str,
}

/// What a listener allows its clients; clones share the figures.
#[derive(Debug, Clone)]
pub struct Connections {
    /// Connections of one listener at once; more wait until one ends.
    max: usize,
    /// A request that takes longer, answer included, loses its connection.
    request_wait: Duration,
    open: Family<ListenerLabel, Gauge>,
    cut_off: Family<CutOff, Counter>,
}

impl Connections {
    /// Prepares the limits and figures of a process's listeners.
    #[must_use]
    pub fn new(max: usize, request_wait: Duration, metrics: &Metrics) -> Self {
        let open =
            metrics.register("connections", "Connections that are open, by listener", Family::default());
        let cut_off = metrics.register(
            "connections_cut_off",
            "Connections that were cut off because of their client",
            Family::default(),
        );
        Self { max: max.clamp(1, Semaphore::MAX_PERMITS), request_wait, open, cut_off }
    }
}

/// Which protocols a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP/1.1, and HTTP/2 for clients that begin with it.
    Http,
    /// HTTP/2 only.
    Grpc,
}

/// Serves until shutdown; then connections end with the requests under way, or after `grace`.
pub(super) async fn serve(
    (listener, name): (Listener, &'static str),
    routes: Router,
    (connections, speaks): (&Connections, Speaks),
    (shutdown, grace): (Shutdown, Duration),
) {
    let places = Arc::new(Semaphore::new(connections.max));
    let open = connections.open.get_or_create_owned(&ListenerLabel { listener: name });
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        // Answers are written in few large pieces: waiting to fill a packet only delays the last one.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            listener: name,
            routes: routes.clone(),
            limits: connections.clone(),
            speaks,
            shutdown: shutdown.clone(),
        };
        let open = open.clone();
        open.inc();
        tasks.spawn(async move {
            connection.serve(stream).await;
            open.dec();
            drop(place);
        });
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, ended).await.is_err() {
        tracing::warn!(address = %listener.address(), "requests did not end in time and were cut off");
    }
}

async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.inner.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, address = %listener.address(), "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Connection {
    listener: &'static str,
    routes: Router,
    limits: Connections,
    speaks: Speaks,
    shutdown: Shutdown,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        let activity = Activity::new();
        let (routes, requests) = (self.routes.clone(), activity.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (routes, guard) = (routes.clone(), requests.begin_request());
            async move {
                let answer: Result<Response<Body>, std::convert::Infallible> =
                    routes.oneshot(request.map(Body::new)).await;
                answer.map(|answer| answer.map(|body| AnswerBody::new(body, guard)))
            }
        });
        let builder = self.builder();
        let io = TokioIo::new(Watched::new(stream, activity.clone()));
        let serving = builder.serve_connection(io, service);
        tokio::pin!(serving);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = false;
        loop {
            tokio::select! {
                // A broken connection is the client's business.
                _ = &mut serving => return,
                () = self.shutdown.wait(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
                _ = looks.tick() => {
                    if let Some(expired) = activity.expired(self.request_wait()) {
                        let label = CutOff { listener: self.listener, reason: expired.name() };
                        self.limits.cut_off.get_or_create(&label).inc();
                        tracing::debug!(listener = self.listener, reason = expired.name(), "cut a connection off");
                        return;
                    }
                }
            }
        }
    }

    fn request_wait(&self) -> Duration {
        match self.speaks {
            Speaks::Http => self.limits.request_wait.max(HTTP_REQUEST_WAIT_MIN),
            Speaks::Grpc => self.limits.request_wait,
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEADER_BYTES_MAX * 8);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PROBE_INTERVAL)
            .keep_alive_timeout(PROBE_WAIT)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX));
        match self.speaks {
            Speaks::Http => builder,
            Speaks::Grpc => builder.http2_only(),
        }
    }
}
