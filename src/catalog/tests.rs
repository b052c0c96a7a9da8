mod garbage;
mod planning;
mod rollback;
mod stored;
mod writers;

use std::sync::Arc;

use object_store::ObjectStore;

use super::version::{BlockEntry, UnknownFields};
use super::{CatalogSettings, TenantCatalog};
use crate::bucket::Bucket;
use crate::bucket::tests::failing::FailingStore;
use crate::model::{BlockKind, Labels, Resolution, TenantId, Ulid};
use crate::runtime::{ManualClock, random_from_seed};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A wall-clock time to start at.
const START_MS: i64 = 1_700_000_000_000;

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

/// A block that is like no other in any field.
fn block(n: u128) -> BlockEntry {
    let k = u64::try_from(n % 1_000).unwrap();
    let start = START_MS + i64::try_from(k).unwrap() * HOUR_MS;
    BlockEntry {
        id: Ulid(n),
        kind: BlockKind::Samples,
        resolution: Resolution::Raw,
        min_time_ms: start,
        max_time_ms: start + HOUR_MS,
        size_bytes: 1_000 + k,
        rows: 20 + k,
        series: 10 + k,
        samples: 4_000 + k,
        sha256: format!("{n:064x}"),
        metric_min: "go_gc".to_owned(),
        metric_max: "up".to_owned(),
        label_columns: Vec::new(),
        external_labels: Labels::from_pairs([("cluster", "eu"), ("zone", "ä")]).unwrap(),
        created_ms: start + 2 * HOUR_MS,
        unknown: UnknownFields::new(),
    }
}

/// A bucket whose store fails on demand, with a clock.
struct World {
    clock: Arc<ManualClock>,
    store: Arc<FailingStore>,
    bucket: Bucket,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(START_MS);
        let store = FailingStore::new(Arc::clone(&clock) as Arc<dyn crate::runtime::Clock>);
        let bucket = Bucket::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
        Self { clock, store, bucket }
    }

    fn catalog(&self, seed: u64) -> TenantCatalog {
        self.catalog_with(seed, CatalogSettings::default())
    }

    fn catalog_with(&self, seed: u64, settings: CatalogSettings) -> TenantCatalog {
        let clock = Arc::clone(&self.clock) as Arc<dyn crate::runtime::Clock>;
        TenantCatalog::new(self.bucket.clone(), tenant(), clock, random_from_seed(seed), settings)
    }
}
