//! Metrics of archivers.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::spool::SpoolMode;
use crate::archive::ForkReason;
use crate::model::SourceName;
use crate::runtime::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForkLabels {
    source: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    source: String,
    form: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabels {
    source: String,
    mode: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;
type SecondsTotal = Counter<f64, AtomicU64>;

/// The metrics of all archivers of a process.
#[derive(Debug, Clone, Default)]
pub struct ArchiverMetrics {
    lag: Family<SourceLabel, Seconds>,
    last_success: Family<SourceLabel, Seconds>,
    gaps: Family<SourceLabel, SecondsTotal>,
    forks: Family<ForkLabels, Counter>,
    window_start: Family<SourceLabel, Seconds>,
    pieces: Family<SourceLabel, Counter>,
    piece_bytes: Family<BytesLabels, Counter>,
    spool_bytes: Family<SourceLabel, Gauge>,
    base_uploads: Family<SourceLabel, Counter>,
    upload_failures: Family<SourceLabel, Counter>,
    clock_steps: Family<SourceLabel, Counter>,
    spool_mode: Family<ModeLabels, Gauge>,
    running: Family<SourceLabel, Gauge>,
}

impl ArchiverMetrics {
    /// Makes the metrics and shows them in the registry.
    #[must_use]
    pub fn registered(metrics: &Metrics) -> Self {
        let new = Self::default();
        let name = |name: &str| format!("archive_{name}");
        metrics.register(
            &name("lag_seconds"),
            "Age of the oldest record of the server's log that cannot be restored yet; 0 when there is none",
            new.lag.clone(),
        );
        metrics.register(
            &name("last_success_timestamp_seconds"),
            "When the newest entry of the archive catalog was made",
            new.last_success.clone(),
        );
        metrics.register(&name("gap_seconds"), "Time of which records are missing", new.gaps.clone());
        metrics.register(&name("timeline_forks"), "Timelines that began, by reason", new.forks.clone());
        metrics.register(
            &name("recoverable_window_start_timestamp_seconds"),
            "Since when every second can be restored; 0 before there is anything to restore",
            new.window_start.clone(),
        );
        metrics.register(&name("pieces"), "Pieces stored", new.pieces.clone());
        metrics.register(
            &name("piece_bytes"),
            "Bytes of pieces, plain and as stored",
            new.piece_bytes.clone(),
        );
        metrics.register(
            &name("spool_bytes"),
            "Bytes that the server has deleted and only the spool still holds",
            new.spool_bytes.clone(),
        );
        metrics.register(&name("base_uploads"), "Blocks stored", new.base_uploads.clone());
        metrics.register(
            &name("upload_failures"),
            "Attempts to store an object that failed",
            new.upload_failures.clone(),
        );
        metrics.register(
            &name("clock_steps"),
            "Times that the wall clock was set by more than two seconds",
            new.clock_steps.clone(),
        );
        metrics.register(
            &name("spool_mode"),
            "1 for how the archiver keeps files: links, or descriptors where it may not link",
            new.spool_mode.clone(),
        );
        metrics.register(
            &name("running"),
            "1 while the source is archived, also before the store answers; 0 once that failed for good",
            new.running.clone(),
        );
        new
    }

    /// Shows whether a source is archived.
    pub fn show_running(&self, source: &SourceName, running: bool) {
        let label = SourceLabel { source: source.to_string() };
        self.running.get_or_create(&label).set(i64::from(running));
    }

    /// Returns the metrics of one source.
    pub(super) fn of(&self, source: &SourceName) -> Instruments {
        let source = source.to_string();
        let label = SourceLabel { source: source.clone() };
        let bytes = |form| {
            let labels = BytesLabels { source: source.clone(), form };
            self.piece_bytes.get_or_create(&labels).clone()
        };
        Instruments {
            lag: self.lag.get_or_create(&label).clone(),
            last_success: self.last_success.get_or_create(&label).clone(),
            gaps: self.gaps.get_or_create(&label).clone(),
            window_start: self.window_start.get_or_create(&label).clone(),
            pieces: self.pieces.get_or_create(&label).clone(),
            plain_bytes: bytes("plain"),
            stored_bytes: bytes("stored"),
            spool_bytes: self.spool_bytes.get_or_create(&label).clone(),
            base_uploads: self.base_uploads.get_or_create(&label).clone(),
            upload_failures: self.upload_failures.get_or_create(&label).clone(),
            clock_steps: self.clock_steps.get_or_create(&label).clone(),
            all: self.clone(),
            source,
        }
    }
}

/// The metrics of one source.
#[derive(Debug, Clone)]
pub(super) struct Instruments {
    pub(super) lag: Seconds,
    pub(super) last_success: Seconds,
    pub(super) gaps: SecondsTotal,
    pub(super) window_start: Seconds,
    pub(super) pieces: Counter,
    pub(super) plain_bytes: Counter,
    pub(super) stored_bytes: Counter,
    pub(super) spool_bytes: Gauge,
    pub(super) base_uploads: Counter,
    pub(super) upload_failures: Counter,
    pub(super) clock_steps: Counter,
    all: ArchiverMetrics,
    source: String,
}

impl Instruments {
    pub(super) fn count_fork(&self, reason: ForkReason) {
        let labels = ForkLabels { source: self.source.clone(), reason: reason.name() };
        self.all.forks.get_or_create(&labels).inc();
    }

    pub(super) fn show_mode(&self, mode: SpoolMode) {
        for (of, name) in [(SpoolMode::Links, "links"), (SpoolMode::Descriptors, "descriptors")] {
            let labels = ModeLabels { source: self.source.clone(), mode: name };
            self.all.spool_mode.get_or_create(&labels).set(i64::from(of == mode));
        }
    }
}

/// Turns milliseconds into the seconds of a metric.
pub(super) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
