//! Counters and durations of each operation on the bucket: by our own names, and by those of Thanos, so that dashboards
//! made for it show this as well.

use std::future::Future;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
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

    /// Returns the name that Thanos has for it.
    fn thanos_label(self) -> OperationLabel {
        let operation = match self {
            Self::Create | Self::Put => "upload",
            Self::Get => "get",
            Self::GetRanges => "get_range",
            Self::Head => "attributes",
            Self::List => "iter",
            Self::Delete => "delete",
            Self::Lock => "lock",
            Self::Protection => "protection",
        };
        OperationLabel { operation }
    }

    /// Returns whether bytes of it come from the store.
    fn fetches(self) -> bool {
        matches!(self, Self::Get | Self::GetRanges)
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    status: String,
}

/// What kind of bucket it is, as labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AboutLabels {
    pub(super) provider: &'static str,
    pub(super) versioning: &'static str,
    pub(super) object_lock: &'static str,
    pub(super) storage_class: String,
}

type Counters = Family<OperationLabel, Counter>;
type Durations = Family<OperationLabel, Histogram, fn() -> Histogram>;

/// The metrics of one bucket.
#[derive(Debug, Clone)]
pub(super) struct Instruments {
    operations: Counters,
    failures: Counters,
    bytes: Counters,
    durations: Durations,
    requests: Family<RequestLabels, Counter>,
    retries: Counters,
    without_spare: Counter,
    hedges: Counters,
    hedge_wins: Counters,
    about: Family<AboutLabels, Gauge>,
    thanos: ThanosInstruments,
}

/// The same under Thanos' names.
#[derive(Debug, Clone)]
struct ThanosInstruments {
    operations: Counters,
    failures: Counters,
    durations: Durations,
    fetched: Counters,
    transferred: Durations,
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            failures: Family::default(),
            bytes: Family::default(),
            durations: Family::new_with_constructor(seconds),
            requests: Family::default(),
            retries: Family::default(),
            without_spare: Counter::default(),
            hedges: Family::default(),
            hedge_wins: Family::default(),
            about: Family::default(),
            thanos: ThanosInstruments {
                operations: Family::default(),
                failures: Family::default(),
                durations: Family::new_with_constructor(seconds),
                fetched: Family::default(),
                transferred: Family::new_with_constructor(sizes),
            },
        }
    }
}

/// 1 ms to about 65 s: a fsync on a local disk up to a large part on a slow line.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 9))
}

/// 1 KiB to 1 GiB.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1_024.0, 4.0, 11))
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
        metrics.register(
            "bucket_requests",
            "HTTP requests to object storage, each attempt by itself; a status of 0 is no answer.",
            new.requests.clone(),
        );
        metrics.register("bucket_retries", "Attempts after the first one.", new.retries.clone());
        metrics.register(
            "bucket_retries_spared",
            "Attempts that were left out because too many others were under way.",
            new.without_spare.clone(),
        );
        metrics.register("bucket_hedges", "Second requests of slow reads.", new.hedges.clone());
        metrics.register("bucket_hedge_wins", "Second requests that answered first.", new.hedge_wins.clone());
        metrics.register("bucket_info", "1, with what the bucket does for its objects.", new.about.clone());
        new.thanos.register(metrics);
        new
    }

    /// Runs an operation and records it. The futures of attempts and hedges are large: callers box them, so that those who
    /// wait for the bucket stay small.
    pub(super) async fn observe<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let started = Instant::now();
        let result = request.await;
        let label = operation.label();
        let thanos_label = operation.thanos_label();
        let seconds = started.elapsed().as_secs_f64();
        self.operations.get_or_create(&label).inc();
        self.durations.get_or_create(&label).observe(seconds);
        self.thanos.operations.get_or_create(&thanos_label).inc();
        let expected = match &result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => true,
            Err(object_store::Error::AlreadyExists { .. }) => operation == Operation::Create,
            Err(_) => false,
        };
        if expected {
            self.thanos.durations.get_or_create(&thanos_label).observe(seconds);
        } else {
            self.failures.get_or_create(&label).inc();
            self.thanos.failures.get_or_create(&thanos_label).inc();
        }
        result
    }

    /// Counts bytes that were moved.
    pub(super) fn count_bytes(&self, operation: Operation, bytes: u64) {
        self.bytes.get_or_create(&operation.label()).inc_by(bytes);
        let label = operation.thanos_label();
        if operation.fetches() {
            self.thanos.fetched.get_or_create(&label).inc_by(bytes);
        }
        self.thanos.transferred.get_or_create(&label).observe(bytes as f64);
    }

    /// Counts what went over the wire.
    pub(super) fn count_request(&self, method: &Method, status: Option<StatusCode>) {
        let status = status.map_or(0, |status| status.as_u16());
        let labels = RequestLabels { method: method.to_string(), status: status.to_string() };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts another attempt.
    pub(super) fn count_retry(&self, operation: Operation) {
        self.retries.get_or_create(&operation.label()).inc();
    }

    /// Counts an attempt that was not made because no spare one was left.
    pub(super) fn count_no_spare(&self) {
        self.without_spare.inc();
    }

    /// Counts a second request.
    pub(super) fn count_hedge(&self, operation: Operation) {
        self.hedges.get_or_create(&operation.label()).inc();
    }

    /// Counts a second request that answered first.
    pub(super) fn count_hedge_win(&self, operation: Operation) {
        self.hedge_wins.get_or_create(&operation.label()).inc();
    }

    /// Shows what the bucket does for its objects.
    pub(super) fn show(&self, about: &AboutLabels) {
        self.about.clear();
        self.about.get_or_create(about).set(1);
    }
}

impl ThanosInstruments {
    fn register(&self, metrics: &Metrics) {
        metrics.register_as(
            "objstore_bucket_operations",
            "Operations on object storage, as Thanos counts them.",
            self.operations.clone(),
        );
        metrics.register_as(
            "objstore_bucket_operation_failures",
            "Operations on object storage that failed, as Thanos counts them.",
            self.failures.clone(),
        );
        metrics.register_as(
            "objstore_bucket_operation_duration_seconds",
            "Duration of the operations that succeeded, as Thanos measures it.",
            self.durations.clone(),
        );
        metrics.register_as(
            "objstore_bucket_operation_fetched_bytes",
            "Bytes fetched from object storage, as Thanos counts them.",
            self.fetched.clone(),
        );
        metrics.register_as(
            "objstore_bucket_operation_transferred_bytes",
            "Bytes that each operation moved, as Thanos measures them.",
            self.transferred.clone(),
        );
    }
}
