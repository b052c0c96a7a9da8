//! The bound on what a receiver keeps on its own disk while the bucket takes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

use super::commit::Commands;
use super::cut::CutterRequests;
use crate::head::Heads;
use crate::model::ErrorKind;
use crate::runtime::{HoldsMemory, Memory, Metrics, Shutdown};
use crate::select::LocalBlocks;

/// How often sizes are looked at; the bounds are passed by what comes in within this time.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const PRESSURE_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The pause after a cut for memory's sake; it doubles while cuts free too little.
const RELIEF_PAUSE_FIRST: Duration = Duration::from_secs(1);
const RELIEF_PAUSE_LAST: Duration = Duration::from_secs(60);

/// How much may lie on disk, and what writes are told beyond it.
#[derive(Debug, Clone, Copy)]
pub struct GrowthBound {
    /// Bytes of log and waiting blocks; 0 for no bound.
    pub bytes_max: u64,
    /// [`ErrorKind::Overloaded`] or [`ErrorKind::Unavailable`].
    pub refusal: ErrorKind,
}

/// Why a write is not taken: the disk holds all it may.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "{} wait on this machine for object storage, which is all that --receive.local-bytes-max allows: send again once it takes them",
    bytesize::ByteSize(*bytes)
)]
pub(super) struct GrowthFull {
    bytes: u64,
    kind: ErrorKind,
}

impl GrowthFull {
    pub(super) const fn kind(self) -> ErrorKind {
        self.kind
    }
}

/// What log and waiting blocks take on disk, against a bound; clones share it.
#[derive(Debug, Clone)]
pub struct Growth {
    bound: GrowthBound,
    /// As of the last look.
    bytes: Arc<AtomicU64>,
    local: Arc<LocalBlocks>,
    figures: GrowthFigures,
}

#[derive(Debug, Clone)]
struct GrowthFigures {
    log_bytes: Gauge,
    pending_bytes: Gauge,
}

impl Growth {
    /// Starts counting; until [`Growth::watch`] runs nothing counts.
    #[must_use]
    pub fn new(bound: GrowthBound, local: Arc<LocalBlocks>, metrics: &Metrics) -> Self {
        let limit: Gauge = metrics.register(
            "local_bytes_max",
            "What log and waiting blocks may take on disk; 0 for no bound",
            Gauge::default(),
        );
        limit.set(i64::try_from(bound.bytes_max).unwrap_or(i64::MAX));
        let figures = GrowthFigures {
            log_bytes: metrics.register("log_bytes", "Bytes of the log on disk", Gauge::default()),
            pending_bytes: metrics.register(
                "pending_bytes",
                "Bytes of blocks that wait in files for their commit, or for readers to know of it",
                Gauge::default(),
            ),
        };
        Self { bound, bytes: Arc::default(), local, figures }
    }

    /// Refuses writes while the bound is reached.
    pub(super) fn check(&self) -> Result<(), GrowthFull> {
        let GrowthBound { bytes_max, refusal } = self.bound;
        let bytes = self.bytes.load(Ordering::Relaxed);
        if bytes_max > 0 && bytes >= bytes_max { Err(GrowthFull { bytes, kind: refusal }) } else { Ok(()) }
    }

    /// Follows the log's size until shutdown.
    pub async fn watch(self, commands: Commands, shutdown: Shutdown) {
        let mut was_full = false;
        loop {
            if let Ok(log) = commands.log_bytes().await {
                let pending = self.local.bytes();
                self.bytes.store(log.saturating_add(pending), Ordering::Relaxed);
                self.figures.log_bytes.set(i64::try_from(log).unwrap_or(i64::MAX));
                self.figures.pending_bytes.set(i64::try_from(pending).unwrap_or(i64::MAX));
                let is_full = self.check().is_err();
                match (was_full, is_full) {
                    (false, true) => tracing::error!(
                        log_bytes = log,
                        pending_bytes = pending,
                        "what waits on this machine has reached --receive.local-bytes-max, writes are refused"
                    ),
                    (true, false) => tracing::info!("writes are taken again"),
                    _ => {}
                }
                was_full = is_full;
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }
}

impl HoldsMemory for Heads {
    fn held_bytes(&self) -> u64 {
        self.bytes() as u64
    }
}

impl CutterRequests {
    /// Cuts heads when memory runs short, until shutdown.
    pub async fn relieve(self, memory: Memory, shutdown: Shutdown) {
        let mut pause = RELIEF_PAUSE_FIRST;
        while !shutdown.started() {
            let mut wait = PRESSURE_LOOK_INTERVAL;
            if memory.wants_a_cut() {
                tracing::info!(
                    head_bytes = memory.head_bytes(),
                    limit_bytes = memory.limit_bytes(),
                    "cutting early, memory runs short"
                );
                tokio::select! {
                    () = shutdown.wait() => return,
                    _ = self.cut() => {}
                }
                pause = if memory.wants_a_cut() {
                    (pause * 2).min(RELIEF_PAUSE_LAST)
                } else {
                    RELIEF_PAUSE_FIRST
                };
                wait = pause;
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
