//! What `/metrics` tells about jobs.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::record::{JobRecord, RunResult};
use crate::runtime::Metrics;

/// A turn that was not taken because the job was running.
pub(super) const OVERLAPPED: &str = "overlapped";
/// A slot that passed and is left out.
pub(super) const MISSED: &str = "missed";

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JobLabel {
    job: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    job: String,
    result: &'static str,
}

/// The metrics of all jobs.
#[derive(Debug, Clone)]
pub(super) struct Instruments {
    last_success: Family<JobLabel, Seconds>,
    last_run: Family<JobLabel, Seconds>,
    last_result: Family<JobLabel, Gauge>,
    next_run: Family<JobLabel, Seconds>,
    durations: Family<JobLabel, Histogram>,
    runs: Family<ResultLabels, Counter>,
}

impl Instruments {
    pub(super) fn new(metrics: &Metrics) -> Self {
        // 0.1 s to about 7 h.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.1, 4.0, 10));
        Self {
            last_success: metrics.register(
                "job_last_success_timestamp_seconds",
                "When the job last did its work; 0 for never",
                Family::default(),
            ),
            last_run: metrics.register(
                "job_last_run_timestamp_seconds",
                "When the last run of the job began; 0 for never",
                Family::default(),
            ),
            last_result: metrics.register(
                "job_last_result",
                "1 where the last run of the job that ended did its work, else 0",
                Family::default(),
            ),
            next_run: metrics.register(
                "job_next_run_timestamp_seconds",
                "When the job is due next; 0 for never",
                Family::default(),
            ),
            durations: metrics.register(
                "job_duration_seconds",
                "How long runs of the job took, all attempts and the waits between them",
                Family::new_with_constructor(histogram),
            ),
            runs: metrics.register(
                "job_runs",
                "Runs of the job by what they came to, and turns that were left out",
                Family::default(),
            ),
        }
    }

    /// Shows a job's record.
    pub(super) fn show(&self, job: &str, record: &JobRecord) {
        let label = JobLabel { job: job.to_owned() };
        self.last_success.get_or_create(&label).set(seconds(record.last_success_ms));
        self.last_run.get_or_create(&label).set(seconds(record.last_run.as_ref().map(|run| run.started_ms)));
        let result = self.last_result.get_or_create(&label);
        if let Some(ended) = record.last_run.as_ref().and_then(|run| run.result) {
            result.set(i64::from(ended == RunResult::Ok));
        }
    }

    pub(super) fn due(&self, job: &str, due_ms: Option<i64>) {
        self.next_run.get_or_create(&JobLabel { job: job.to_owned() }).set(seconds(due_ms));
    }

    pub(super) fn ended(&self, job: &str, result: RunResult, elapsed_ms: i64) {
        self.durations.get_or_create(&JobLabel { job: job.to_owned() }).observe(elapsed_ms as f64 / 1_000.0);
        self.count(job, result.word());
    }

    /// Counts a run, or a turn that was not taken.
    pub(super) fn count(&self, job: &str, result: &'static str) {
        self.runs.get_or_create(&ResultLabels { job: job.to_owned(), result }).inc();
    }
}

fn seconds(ms: Option<i64>) -> f64 {
    ms.unwrap_or(0) as f64 / 1_000.0
}
