//! Counters and durations of each operation on the bucket.

use std::future::Future;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use tokio::time::Instant;

use crate::runtime::Metrics;

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Create,
    Put,
    Get,
    GetRanges,
    Head,
    List,
    Delete,
    Lock,
    Protection,
}

impl Operation {
    /// Returns the value of the metric label `operation`.
    fn label(self) -> OperationLabel {
        let operation = match self {
            Self::Create => "create",
            Self::Put => "put",
            Self::Get => "get",
            Self::GetRanges => "get_ranges",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Lock => "lock",
            Self::Protection => "protection",
        };
        OperationLabel { operation }
    }

    /// Returns the word that completes "cannot … the object".
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Put => "store",
            Self::Get | Self::GetRanges => "read",
            Self::Head => "look up",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Lock => "lock",
            Self::Protection => "look up the protection of",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

/// The metrics of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Instruments {
    operations: Family<OperationLabel, Counter>,
    failures: Family<OperationLabel, Counter>,
    bytes: Family<OperationLabel, Counter>,
    durations: Family<OperationLabel, Histogram>,
}

impl Default for Instruments {
    fn default() -> Self {
        // 1 ms to about 65 s: a fsync on a local disk up to a large part on a slow line.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 9));
        Self {
            operations: Family::default(),
            failures: Family::default(),
            bytes: Family::default(),
            durations: Family::new_with_constructor(histogram),
        }
    }
}

impl Instruments {
    /// Makes the metrics and shows them in the registry.
    pub(super) fn registered(metrics: &Metrics) -> Self {
        let new = Self::default();
        metrics.register("bucket_operations", "Requests to object storage.", new.operations.clone());
        metrics.register(
            "bucket_operation_failures",
            "Requests to object storage that failed; a missing object is no failure.",
            new.failures.clone(),
        );
        metrics.register("bucket_bytes", "Bytes moved to and from object storage.", new.bytes.clone());
        metrics.register(
            "bucket_operation_duration_seconds",
            "Duration of requests to object storage, retries included.",
            new.durations.clone(),
        );
        new
    }

    /// Runs an operation and records it.
    pub(super) async fn observe<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let started = Instant::now();
        let result = request.await;
        let label = operation.label();
        self.operations.get_or_create(&label).inc();
        self.durations.get_or_create(&label).observe(started.elapsed().as_secs_f64());
        let expected = match &result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => true,
            Err(object_store::Error::AlreadyExists { .. }) => operation == Operation::Create,
            Err(_) => false,
        };
        if !expected {
            self.failures.get_or_create(&label).inc();
        }
        result
    }

    /// Counts bytes that were moved.
    pub(super) fn count_bytes(&self, operation: Operation, bytes: u64) {
        self.bytes.get_or_create(&operation.label()).inc_by(bytes);
    }
}
