//! What `/metrics` says about the caches.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Kind;
use crate::runtime::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Found {
    kind: &'static str,
    tier: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tier {
    tier: &'static str,
}

/// The metrics of one cache.
#[derive(Debug, Clone, Default)]
pub(super) struct Instruments {
    hits: Family<Found, Counter>,
    misses: Family<Requested, Counter>,
    bytes: Family<Tier, Gauge<i64, AtomicI64>>,
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Footer => "footer",
        Kind::Labels => "labels",
    }
}

impl Instruments {
    /// Makes the metrics and shows them in the registry.
    pub(super) fn registered(metrics: &Metrics) -> Self {
        let new = Self::default();
        let hits = "Ranges of footers and label columns that the read cache had";
        metrics.register("read_cache_hits", hits, new.hits.clone());
        let misses = "Ranges of footers and label columns that were fetched from the bucket";
        metrics.register("read_cache_misses", misses, new.misses.clone());
        metrics.register("read_cache_bytes", "Bytes of extents in the read cache", new.bytes.clone());
        new
    }

    pub(super) fn memory_hit(&self, kind: Kind) {
        self.hits.get_or_create(&Found { kind: label(kind), tier: "memory" }).inc();
    }

    pub(super) fn disk_hit(&self, kind: Kind) {
        self.hits.get_or_create(&Found { kind: label(kind), tier: "disk" }).inc();
    }

    pub(super) fn miss(&self, kind: Kind) {
        self.misses.get_or_create(&Requested { kind: label(kind) }).inc();
    }

    pub(super) fn set_memory_bytes(&self, bytes: u64) {
        self.set_bytes("memory", bytes);
    }

    pub(super) fn set_disk_bytes(&self, bytes: u64) {
        self.set_bytes("disk", bytes);
    }

    fn set_bytes(&self, tier: &'static str, bytes: u64) {
        self.bytes.get_or_create(&Tier { tier }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
