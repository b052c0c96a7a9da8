//! Sending a load: requests in the order of their timestamps, again where the endpoint says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header;

use super::figures::{Figures, Outcome};
use crate::cli::Failure;
use crate::load::{Load, LoadRequest};
use crate::model::ErrorKind;
use crate::runtime::Clock;
use crate::wire::remote_write::Protocol;

/// How long one request may take; Prometheus waits as long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before a request is sent again; it doubles up to the last one, as in Prometheus.
const BACKOFF_FIRST: Duration = Duration::from_millis(30);
const BACKOFF_LAST: Duration = Duration::from_secs(5);

/// The longest text of an answer that is quoted.
const QUOTED_CHARS_MAX: usize = 200;

/// Where requests go.
#[derive(Debug)]
pub(super) struct Target {
    http: reqwest::Client,
    url: reqwest::Url,
    protocol: Protocol,
    headers: http::HeaderMap,
}

impl Target {
    pub(super) fn new(
        url: reqwest::Url,
        protocol: Protocol,
        mut headers: http::HeaderMap,
    ) -> Result<Self, reqwest::Error> {
        headers.insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("snappy"));
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(protocol.content_type()));
        let version = if protocol == Protocol::V1 { "0.1.0" } else { "2.0.0" };
        headers.insert("x-prometheus-remote-write-version", http::HeaderValue::from_static(version));
        let http = reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build()?;
        Ok(Self { http, url, protocol, headers })
    }
}

/// When samples go out, and what their timestamps are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The timestamps of the first pass.
    pub(super) first_ms: i64,
    /// The time between two passes, in their timestamps.
    pub(super) interval_ms: i64,
    /// Nothing for as fast as it goes.
    pub(super) samples_per_second: Option<f64>,
    pub(super) request_samples: usize,
    /// When the run began, on the monotonic clock.
    pub(super) started_ms: i64,
    pub(super) duration_ms: i64,
}

/// Hands out requests to the tasks that share it, and sends them.
#[derive(Debug)]
pub(super) struct Sender {
    target: Target,
    load: Arc<Load>,
    pace: Pace,
    figures: Arc<Figures>,
    clock: Arc<dyn Clock>,
    next: AtomicU64,
}

impl Sender {
    pub(super) fn new(
        target: Target,
        load: Arc<Load>,
        pace: Pace,
        figures: Arc<Figures>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { target, load, pace, figures, clock, next: AtomicU64::new(0) }
    }

    /// Sends until the time is over or timestamps have reached the present.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        while let Some(request) = self.next_request().await? {
            self.send(request).await;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.clock.monotonic_ms() - self.pace.started_ms >= self.pace.duration_ms
    }

    /// Waits until the next request is due and builds it.
    async fn next_request(&self) -> Result<Option<LoadRequest>, Failure> {
        let per_pass = self.load.series().div_ceil(self.pace.request_samples) as u64;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (step, within) = (number / per_pass, number % per_pass);
        let step_ms = i64::try_from(step).unwrap_or(i64::MAX);
        let ts_ms = self.pace.first_ms.saturating_add(step_ms.saturating_mul(self.pace.interval_ms));
        let first = usize::try_from(within).unwrap_or(0) * self.pace.request_samples;
        if let Some(per_second) = self.pace.samples_per_second {
            let sent = step as f64 * self.load.series() as f64 + first as f64;
            let due_ms = self.pace.started_ms + (sent * 1_000.0 / per_second) as i64;
            let end_ms = self.pace.started_ms.saturating_add(self.pace.duration_ms);
            let wait_ms = due_ms.min(end_ms) - self.clock.monotonic_ms();
            tokio::time::sleep(Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0))).await;
        }
        if self.is_over() || ts_ms > self.clock.now_ms() {
            return Ok(None);
        }
        let series = first..self.load.series().min(first + self.pace.request_samples);
        let request = self.load.request(self.target.protocol, series, (step, ts_ms));
        request.map(Some).map_err(|e| Failure::new(ErrorKind::Invalid, format!("--samples-per-request: {e}")))
    }

    /// Sends a request until it is answered for good, or the time is over.
    async fn send(&self, request: LoadRequest) {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let wait = self.send_once(&request).await;
            let Some(asked) = wait else { return };
            if self.is_over() {
                return;
            }
            tokio::time::sleep(asked.unwrap_or(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }

    /// Sends a request; returns whether to send it again, and after which time where the endpoint says so.
    async fn send_once(&self, request: &LoadRequest) -> Option<Option<Duration>> {
        let sizes = (request.samples, request.body.len() as u64);
        let started = tokio::time::Instant::now();
        let call = self.target.http.post(self.target.url.clone());
        let answer = call.headers(self.target.headers.clone()).body(request.body.clone()).send().await;
        let latency_ms = started.elapsed().as_secs_f64() * 1_000.0;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let reason = crate::model::error_chain(&error);
                self.figures.count("none", sizes, latency_ms, Outcome::Failed(reason));
                return Some(None);
            }
        };
        let status = answer.status();
        let name = status.as_u16().to_string();
        if status.is_success() {
            self.figures.count(&name, sizes, latency_ms, Outcome::Acknowledged);
            return None;
        }
        let seconds = |value: &http::HeaderValue| value.to_str().ok()?.parse::<u64>().ok();
        let asked = answer.headers().get(header::RETRY_AFTER).and_then(seconds).map(Duration::from_secs);
        let written = answer.headers().get("x-prometheus-remote-write-samples-written").and_then(seconds);
        let text: String = answer.text().await.unwrap_or_default().chars().take(QUOTED_CHARS_MAX).collect();
        let reason = format!("{status}: {}", text.trim());
        let again = status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS;
        let refused = request.samples.saturating_sub(written.unwrap_or(0));
        let outcome = if again { Outcome::Failed(reason) } else { Outcome::Refused(refused, reason) };
        self.figures.count(&name, sizes, latency_ms, outcome);
        again.then_some(asked)
    }
}
