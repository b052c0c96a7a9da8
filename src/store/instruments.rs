//! What `/metrics` says about reads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::error::StoreError;
use crate::runtime::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Debug)]
pub(super) struct Instruments {
    requests: Family<Outcome, Counter>,
    series: Family<Method, Counter>,
    samples: Family<Method, Counter>,
    seconds: Family<Method, Histogram>,
}

fn seconds_histogram() -> Histogram {
    Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0])
}

impl Instruments {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let seconds = Family::new_with_constructor(seconds_histogram as fn() -> Histogram);
        Self {
            requests: metrics.register("read_requests", "Queries by method and outcome", Family::default()),
            series: metrics.register("read_series", "Series served", Family::default()),
            samples: metrics.register("read_samples", "Samples served", Family::default()),
            seconds: metrics.register("read_seconds", "Time that queries took, answers included", seconds),
        }
    }

    /// Counts what a query was answered with so far.
    pub(super) fn served(&self, method: &'static str, series: u64, samples: u64) {
        self.series.get_or_create(&Method { method }).inc_by(series);
        self.samples.get_or_create(&Method { method }).inc_by(samples);
    }

    /// Counts a query that has ended; failures that are ours are logged.
    pub(super) fn ended(&self, method: &'static str, took_ms: i64, failure: Option<&StoreError>) {
        let outcome = failure.map_or("ok", |error| match error.kind().http_status() {
            _ if matches!(error, StoreError::Deadline(_)) => "deadline",
            500.. => "failed",
            _ => "refused",
        });
        self.requests.get_or_create(&Outcome { method, outcome }).inc();
        self.seconds.get_or_create(&Method { method }).observe(took_ms as f64 / 1000.0);
        if let Some(error) = failure
            && error.kind().http_status() >= 500
        {
            tracing::warn!(method, %error, took_ms, "a query was not answered");
        }
    }

    /// Counts a query whose client went away.
    pub(super) fn abandoned(&self, method: &'static str) {
        self.requests.get_or_create(&Outcome { method, outcome: "abandoned" }).inc();
    }
}
