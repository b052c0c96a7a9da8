//! What is counted while a load is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::Clock;

/// Latencies fall into buckets whose bounds grow by a sixteenth of a power of two: 4 % wide.
const BUCKETS_A_DOUBLING: f64 = 16.0;

/// The outcome of a run. Latencies are those of acknowledged requests, at most 5 % above the true ones.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub(super) struct Report {
    pub(super) seconds: f64,
    pub(super) samples_acknowledged: u64,
    pub(super) samples_per_second: f64,
    pub(super) samples_refused: u64,
    pub(super) requests_acknowledged: u64,
    pub(super) requests_failed: u64,
    pub(super) bytes_sent: u64,
    pub(super) bytes_per_sample: f64,
    pub(super) latency_p50_ms: f64,
    pub(super) latency_p90_ms: f64,
    pub(super) latency_p99_ms: f64,
    pub(super) latency_max_ms: f64,
    pub(super) statuses: BTreeMap<String, u64>,
    pub(super) first_failure: Option<String>,
}

/// Counts of a run; shared by its senders.
#[derive(Debug)]
pub(super) struct Figures {
    clock: Arc<dyn Clock>,
    started_ms: i64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    report: Report,
    /// Acknowledged requests by latency.
    latencies: BTreeMap<u32, u64>,
    /// When the last answer came.
    ended_ms: i64,
}

/// What came of sending one request once.
#[derive(Debug)]
pub(super) enum Outcome {
    /// All samples are taken.
    Acknowledged,
    /// The request is not to be sent again; so many samples of it are lost.
    Refused(u64, String),
    /// The request is sent again.
    Failed(String),
}

impl Figures {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let started_ms = clock.monotonic_ms();
        Self { clock, started_ms, counts: Mutex::default() }
    }

    /// Counts one answer, or its absence, to a request with so many samples and bytes.
    pub(super) fn count(
        &self,
        status: &str,
        (samples, bytes): (u64, u64),
        latency_ms: f64,
        outcome: Outcome,
    ) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.ended_ms = self.clock.monotonic_ms();
        let report = &mut counts.report;
        *report.statuses.entry(status.to_owned()).or_default() += 1;
        report.bytes_sent += bytes;
        let failure = match outcome {
            Outcome::Acknowledged => {
                report.samples_acknowledged += samples;
                report.requests_acknowledged += 1;
                report.latency_max_ms = report.latency_max_ms.max(latency_ms);
                *counts.latencies.entry(bucket(latency_ms)).or_default() += 1;
                return;
            }
            Outcome::Refused(refused, reason) => {
                report.samples_refused += refused;
                report.samples_acknowledged += samples.saturating_sub(refused);
                reason
            }
            Outcome::Failed(reason) => {
                report.requests_failed += 1;
                reason
            }
        };
        report.first_failure.get_or_insert(failure);
    }

    /// Returns what is known so far.
    pub(super) fn report(&self) -> Report {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = counts.report.clone();
        let ended_ms = if counts.ended_ms == 0 { self.clock.monotonic_ms() } else { counts.ended_ms };
        report.seconds = (ended_ms - self.started_ms).max(1) as f64 / 1_000.0;
        report.samples_per_second = report.samples_acknowledged as f64 / report.seconds;
        report.bytes_per_sample = report.bytes_sent as f64 / report.samples_acknowledged.max(1) as f64;
        let percentile = |share| percentile(&counts.latencies, share).min(report.latency_max_ms);
        let [p50, p90, p99] = [0.5, 0.9, 0.99].map(percentile);
        (report.latency_p50_ms, report.latency_p90_ms, report.latency_p99_ms) = (p50, p90, p99);
        report
    }
}

fn bucket(latency_ms: f64) -> u32 {
    ((latency_ms * 1_000.0).max(1.0).log2() * BUCKETS_A_DOUBLING) as u32
}

/// Returns the upper bound of the bucket that a share of the requests stays within.
fn percentile(latencies: &BTreeMap<u32, u64>, share: f64) -> f64 {
    let wanted = (latencies.values().sum::<u64>() as f64 * share).ceil() as u64;
    let mut seen = 0;
    for (bucket, count) in latencies {
        seen += count;
        if seen >= wanted {
            return (f64::from(bucket + 1) / BUCKETS_A_DOUBLING).exp2() / 1_000.0;
        }
    }
    0.0
}
