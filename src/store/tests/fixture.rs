//! Heads and blocks with known content.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use super::kinds::Kinds;
use super::*;
use crate::block::{
    BlockError, BlockSpec, BlockStats, HashingWriter, SeriesRun, block_order, extend_label_columns,
    write_block,
};
use crate::bucket::{Bucket, ObjectKey};
use crate::catalog::{BlockEntry, BlockKind, CatalogSettings, Catalogs};
use crate::head::Heads;
use crate::select::{CatalogView, ReadCache, SelectLimits, Selector};

/// Where samples are when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Heads,
    Blocks,
    /// Every third sample in the head, every third in a block, every third in both.
    Mixed,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Heads, Self::Blocks, Self::Mixed];
}

/// What one producer has written for a tenant.
#[derive(Debug, Clone)]
pub(super) struct Producer {
    pub(super) tenant: TenantId,
    pub(super) external: Labels,
    pub(super) series: Vec<SeriesRun>,
}

pub(super) fn team(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// The start of the fixtures' time.
pub(super) const T0: i64 = 1_700_000_000_000;

pub(super) fn ms(seconds: i64) -> i64 {
    T0 + seconds * 1000
}

#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) reads: Reads,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: Metrics,
    pub(super) producers: Vec<Producer>,
    pub(super) heads: Arc<Heads>,
    pub(super) clock: Arc<ManualClock>,
    /// What is behind the bucket.
    pub(super) objects: Arc<InMemory>,
}

pub(super) fn settings() -> StoreSettings {
    StoreSettings {
        tenant_label: "tenant_id".to_owned(),
        tenant_header: http::HeaderName::from_static("thanos-tenant"),
        default_tenant: team("team-a"),
        replica_labels: vec!["replica".to_owned()],
        query_timeout: Duration::from_secs(60),
        query_concurrency: 4,
        limits: SelectLimits::NONE,
        memory: crate::runtime::Memory::unlimited(),
        head_max_age_ms: Some(7 * 86_400_000),
    }
}

impl Fixture {
    pub(super) async fn new(place: Place, producers: Vec<Producer>) -> Self {
        Self::with(place, producers, settings()).await
    }

    /// Heads have the external labels of the first producer: a process has one set.
    pub(super) async fn with(place: Place, producers: Vec<Producer>, settings: StoreSettings) -> Self {
        Self::with_kinds(place, producers, settings, Kinds::default()).await
    }

    /// What lies under the keys that `is_damaged` names does not read. The first producer has written the further kinds.
    pub(super) async fn damaged(
        producers: Vec<Producer>,
        kinds: Kinds,
        is_damaged: impl Fn(&str) -> bool,
    ) -> Self {
        let settings = StoreSettings { head_max_age_ms: None, ..settings() };
        Self::start((Place::Blocks, producers), settings, kinds, is_damaged).await
    }

    /// The first producer has written the further kinds too.
    pub(super) async fn with_kinds(
        place: Place,
        producers: Vec<Producer>,
        settings: StoreSettings,
        kinds: Kinds,
    ) -> Self {
        Self::start((place, producers), settings, kinds, |_| false).await
    }

    async fn start(
        (place, producers): (Place, Vec<Producer>),
        settings: StoreSettings,
        kinds: Kinds,
        is_damaged: impl Fn(&str) -> bool,
    ) -> Self {
        let (metrics, shutdown) = (Metrics::new(), Shutdown::new());
        let manual_clock = ManualClock::new(ms(3_600));
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&manual_clock);
        let objects = Arc::new(InMemory::new());
        let bucket = Bucket::from_store(Arc::<InMemory>::clone(&objects));
        let random = random_from_seed(7);
        // The oldest blocks stand in a part from the third on.
        let catalog_settings = CatalogSettings { recent_blocks_max: 2, ..CatalogSettings::default() };
        let new_catalogs = || {
            let (clock, random) = (Arc::clone(&clock), random.clone());
            Arc::new(Catalogs::new(bucket.clone(), clock, random, catalog_settings.clone()))
        };
        let catalogs = new_catalogs();
        let heads = Heads::new();
        let external = producers.first().map_or_else(Labels::empty, |p| p.external.clone());
        for producer in &producers {
            let (in_head, in_block) = split(place, &producer.series);
            assert!(in_head.is_empty() || producer.external == external);
            fill_head(&heads, &producer.tenant, &in_head);
            write_blocks(&catalogs, &random, producer, in_block).await;
        }
        if let Some(producer) = producers.first() {
            kinds.store(place, producer, &heads, (&catalogs, &random)).await;
        }
        let damaged = damage(&objects, is_damaged).await;
        let view = CatalogView::new(new_catalogs(), &metrics);
        assert!(view.refresh().await.is_ok() || damaged > 0);
        let (cpu, limits) = (Cpu::start(2).unwrap(), SelectLimits::NONE);
        let read_heads = (place != Place::Blocks).then(|| (Arc::clone(&heads), external));
        let view = (place != Place::Heads).then_some(view);
        let selector = Selector::new(read_heads, view, bucket, cpu, (limits, ReadCache::in_memory(64 << 20)));
        let ready = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&ready);
        let is_ready = Arc::new(move || asked.load(Ordering::SeqCst));
        let reads = Reads::new(selector, settings, clock, is_ready, shutdown.clone(), &metrics);
        Self { reads, ready, shutdown, metrics, producers, heads, clock: manual_clock, objects }
    }
}

/// Returns how many objects it damaged.
async fn damage(store: &InMemory, is_damaged: impl Fn(&str) -> bool) -> usize {
    let objects: Vec<object_store::ObjectMeta> = store.list(None).try_collect().await.unwrap();
    let damaged = objects.iter().filter(|object| is_damaged(object.location.as_ref()));
    let mut count = 0;
    for object in damaged {
        store.put(&object.location, "damaged".into()).await.unwrap();
        count += 1;
    }
    count
}

fn split(place: Place, series: &[SeriesRun]) -> (Vec<SeriesRun>, Vec<SeriesRun>) {
    let part = |keep: &dyn Fn(usize) -> bool| {
        let runs = series.iter().map(|run| SeriesRun {
            labels: run.labels.clone(),
            samples: run.samples.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, s)| *s).collect(),
        });
        runs.filter(|run| !run.samples.is_empty()).collect()
    };
    match place {
        Place::Heads => (part(&|_| true), Vec::new()),
        Place::Blocks => (Vec::new(), part(&|_| true)),
        Place::Mixed => (part(&|i| i % 3 != 0), part(&|i| i % 3 != 1)),
    }
}

fn fill_head(heads: &Heads, tenant: &TenantId, series: &[SeriesRun]) {
    if series.is_empty() {
        return;
    }
    let head = heads.active(tenant);
    let sets: Vec<Labels> = series.iter().map(|run| run.labels.clone()).collect();
    let numbers = head.resolve(&sets);
    // Newest first: order of arrival must not matter.
    for (number, run) in numbers.into_iter().zip(series) {
        head.append(run.samples.iter().rev().map(|s| (number, s)));
    }
}

/// Writes one block per raw window.
async fn write_blocks(catalogs: &Catalogs, random: &Random, producer: &Producer, series: Vec<SeriesRun>) {
    let mut windows: BTreeMap<i64, Vec<SeriesRun>> = BTreeMap::new();
    for run in series {
        for sample in run.samples {
            let window = windows.entry(TimeRange::raw_window(sample.ts_ms).start_ms).or_default();
            match window.last_mut() {
                Some(last) if last.labels == run.labels => last.samples.push(sample),
                _ => window.push(SeriesRun { labels: run.labels.clone(), samples: vec![sample] }),
            }
        }
    }
    for (start_ms, mut runs) in windows {
        runs.sort_by(|a, b| block_order(&a.labels, &b.labels));
        let range = TimeRange::raw_window(start_ms);
        let sets: Vec<Labels> = runs.iter().map(|run| run.labels.clone()).collect();
        let target = (catalogs, random, producer);
        store_block(target, BlockKind::Samples, (range, &sets), |out, spec| write_block(out, spec, runs))
            .await;
    }
}

type Out<'a> = &'a mut HashingWriter<Vec<u8>>;

/// Writes a block and commits it.
pub(super) async fn store_block(
    (catalogs, random, producer): (&Catalogs, &Random, &Producer),
    kind: BlockKind,
    (range, sets): (TimeRange, &[Labels]),
    write: impl FnOnce(Out<'_>, &BlockSpec) -> Result<BlockStats, BlockError>,
) {
    let catalog = catalogs.of(&producer.tenant);
    let newest = catalog.newest(None).await.unwrap();
    let known = newest.map_or_else(Vec::new, |snapshot| snapshot.version().label_columns.clone());
    let spec = BlockSpec {
        id: random.ulid(ms(3_600)),
        tenant: producer.tenant.clone(),
        resolution: Resolution::Raw,
        range,
        external_labels: producer.external.clone(),
        label_columns: extend_label_columns(&known, sets.iter()),
        positions: Vec::new(),
        sources: Vec::new(),
        zstd_level: 1,
    };
    let mut out = HashingWriter::new(Vec::new());
    let stats = write(&mut out, &spec).unwrap();
    let (file, size_bytes, sha256) = out.finish();
    let key = ObjectKey::block(&producer.tenant, spec.id);
    catalogs.bucket().put(&key, file.into()).await.unwrap();
    let mut change = catalog.new_change();
    change.label_columns = spec.label_columns.clone();
    change.add.push(BlockEntry::of_file((spec, kind), stats, (size_bytes, sha256), ms(3_600)));
    catalog.commit(&change).await.unwrap();
}
