use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};

use super::*;
use crate::block::{
    BlockError, BlockSpec, BlockStats, HashingWriter, SeriesRun, block_order, extend_label_columns,
    write_block,
};
use crate::bucket::{Bucket, ObjectKey};
use crate::catalog::{BlockEntry, BlockKind, CatalogSettings, Catalogs};
use crate::model::*;
use crate::runtime::{Clock, Cpu, ManualClock, Memory, MemoryUse, Metrics, Random, random_from_seed};

mod exemplars;

const DAY_MS: i64 = 86_400_000;

/// A store in memory that counts what is read of blocks.
#[derive(Debug, Default)]
struct CountingStore {
    inner: InMemory,
    requests: AtomicU64,
    bytes: AtomicU64,
    running: AtomicU64,
    /// The most requests that ran at once.
    running_max: AtomicU64,
}

impl CountingStore {
    fn count(&self, ranges: &[Range<u64>]) {
        self.requests.fetch_add(ranges.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(ranges.iter().map(|r| r.end - r.start).sum(), Ordering::Relaxed);
    }

    /// Returns requests and bytes since the last call.
    fn take(&self) -> (u64, u64) {
        (self.requests.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counting")
    }
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.inner.put_opts(at, bytes, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> StoreResult<GetResult> {
        if let Some(object_store::GetRange::Bounded(range)) = &options.range {
            self.count(std::slice::from_ref(range));
        }
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.running_max.fetch_max(running, Ordering::Relaxed);
        // Whoever wants to ask beside this one can.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let got = self.inner.get_opts(at, options).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        got
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.count(ranges);
        self.inner.get_ranges(at, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn tenant() -> TenantId {
    TenantId::new("team-a").unwrap()
}

struct Scene {
    store: Arc<CountingStore>,
    bucket: Bucket,
    view: Arc<CatalogView>,
    runs: Vec<SeriesRun>,
}

/// Writes a block and commits it.
async fn add_block(
    catalogs: &Catalogs,
    random: &Random,
    (kind, label_columns): (BlockKind, Vec<String>),
    write: impl FnOnce(&mut HashingWriter<Vec<u8>>, &BlockSpec) -> Result<BlockStats, BlockError>,
) {
    let spec = BlockSpec {
        id: random.ulid(100 * DAY_MS),
        tenant: tenant(),
        resolution: Resolution::Raw,
        range: TimeRange::ALL,
        external_labels: Labels::from_pairs([("cluster", "lab")]).unwrap(),
        label_columns,
        positions: Vec::new(),
        sources: Vec::new(),
        zstd_level: 1,
    };
    let mut out = HashingWriter::new(Vec::new());
    let stats = write(&mut out, &spec).unwrap();
    let (file, size_bytes, sha256) = out.finish();
    catalogs.bucket().put(&ObjectKey::block(&tenant(), spec.id), file.into()).await.unwrap();
    let catalog = catalogs.of(&tenant());
    let mut change = catalog.new_change();
    change.label_columns = spec.label_columns.clone();
    change.add.push(BlockEntry::of_file((spec, kind), stats, (size_bytes, sha256), 100 * DAY_MS));
    catalog.commit(&change).await.unwrap();
}

/// One block a day.
async fn scene(days: Vec<Vec<SeriesRun>>) -> Scene {
    let store = Arc::new(CountingStore::default());
    let bucket = Bucket::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let clock: Arc<dyn Clock> = ManualClock::new(100 * DAY_MS);
    let random = random_from_seed(1);
    let settings = CatalogSettings::default();
    let catalogs = Arc::new(Catalogs::new(bucket.clone(), clock, random.clone(), settings));
    let mut all = Vec::new();
    for mut runs in days {
        runs.sort_by(|a, b| block_order(&a.labels, &b.labels));
        let columns = extend_label_columns(&[], runs.iter().map(|run| &run.labels));
        let write = |out: &mut _, spec: &_| write_block(out, spec, runs.iter().cloned());
        add_block(&catalogs, &random, (BlockKind::Samples, columns), write).await;
        all.extend(runs);
    }
    let view = CatalogView::new(catalogs, &Metrics::new());
    view.refresh().await.unwrap();
    store.take();
    Scene { store, bucket, view, runs: all }
}

impl Scene {
    fn selector(&self, cache: Arc<ReadCache>) -> Selector {
        let (view, cpu) = (Some(Arc::clone(&self.view)), Cpu::start(2).unwrap());
        Selector::new(None, view, self.bucket.clone(), cpu, (SelectLimits::NONE, cache))
    }
}

async fn read(
    selector: &Selector,
    matchers: &[Matcher],
    range: TimeRange,
) -> Result<Vec<(Labels, SeriesData)>, SelectError> {
    let matchers_for = |_: &Labels| Some(matchers.to_vec());
    let selections = selector.select(&tenant(), range, &matchers_for, Grouping::Merged).await?;
    let mut series = Vec::new();
    for selection in selections {
        let wanted: Vec<usize> = (0..selection.len()).collect();
        let read = selection.read(&wanted).await?;
        series.extend(selection.labels().cloned().zip(read));
    }
    Ok(series)
}

fn day(number: i64) -> TimeRange {
    TimeRange { start_ms: number * DAY_MS, end_ms: (number + 1) * DAY_MS }
}

/// A day of many series of several metrics: counters, decimals, and noise that does not compress.
fn busy_day(number: i64, series: usize, step_ms: i64) -> Vec<SeriesRun> {
    let random = random_from_seed(number as u64);
    let run = |i: usize| {
        let pairs = [
            ("__name__", format!("metric_{:02}", i / 100)),
            ("instance", format!("10.0.{}.{}:9100", i % 100 / 10, i % 10)),
            ("job", ["node", "app", "db"][i % 3].to_owned()),
            ("pod", format!("pod-{:08x}", (i as u32 % 100).wrapping_mul(0x9e37_79b9))),
        ];
        let value = |t: i64| match i / 100 % 3 {
            0 => (t / step_ms * (1 + i as i64 % 7)) as f64,
            1 => (random.next_u64() % 10_000) as f64 / 100.0,
            _ => f64::from_bits(random.next_u64() >> 12 | 0x3ff0 << 48),
        };
        let times = (number * DAY_MS..(number + 1) * DAY_MS).step_by(step_ms as usize);
        SeriesRun {
            labels: Labels::from_pairs(pairs).unwrap(),
            samples: times.map(|t| Sample::new(t, value(t))).collect(),
        }
    };
    (0..series).map(run).collect()
}

fn one_series(metric: usize, instance: &str) -> Vec<Matcher> {
    vec![Matcher::equal("__name__", format!("metric_{metric:02}")), Matcher::equal("instance", instance)]
}

#[tokio::test]
async fn one_series_of_a_day_costs_few_requests_and_bytes() {
    let scene =
        scene(vec![busy_day(0, 50, 60_000), busy_day(1, 1_500, 30_000), busy_day(2, 50, 60_000)]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings =
        CacheSettings { memory_bytes_max: 64 << 20, folder: Some((folder.path().to_owned(), 64 << 20)) };
    let cache = ReadCache::open(&settings, &Metrics::new()).unwrap();
    let selector = scene.selector(Arc::clone(&cache));
    for (metric, warm_bytes) in [(7, 400_000), (12, 400_000), (8, 2_200_000)] {
        let matchers = one_series(metric, "10.0.3.4:9100");
        let cold = scene.selector(ReadCache::in_memory(64 << 20));
        let expected = read(&cold, &matchers, day(1)).await.unwrap();
        assert_eq!((expected.len(), expected[0].1.samples.len()), (1, 2_880));
        let (requests, bytes) = scene.store.take();
        assert!((3..=5).contains(&requests), "cold: {requests} requests");
        assert!(bytes < warm_bytes + 400_000, "cold: {bytes} bytes");
        read(&selector, &matchers, day(1)).await.unwrap();
        scene.store.take();
        assert_eq!(read(&selector, &matchers, day(1)).await.unwrap(), expected);
        let (requests, bytes) = scene.store.take();
        assert!((1..=2).contains(&requests), "warm: {requests} requests");
        assert!(bytes < warm_bytes, "warm: {bytes} bytes");
    }
    // A new process with the same folder reads nothing but samples.
    drop((selector, cache));
    let cache = ReadCache::open(&settings, &Metrics::new()).unwrap();
    let matchers = one_series(7, "10.0.3.4:9100");
    assert_eq!(read(&scene.selector(cache), &matchers, day(1)).await.unwrap().len(), 1);
    let (requests, _) = scene.store.take();
    assert!((1..=2).contains(&requests), "{requests} requests");
}

#[tokio::test]
async fn a_small_block_is_one_request_for_good() {
    let scene = scene(vec![busy_day(0, 20, 3_600_000)]).await;
    let selector = scene.selector(ReadCache::in_memory(64 << 20));
    assert_eq!(read(&selector, &[], day(0)).await.unwrap().len(), 20);
    assert_eq!(scene.store.take().0, 1);
    assert_eq!(read(&selector, &one_series(0, "10.0.1.1:9100"), day(0)).await.unwrap().len(), 1);
    assert_eq!(scene.store.take().0, 0);
}

#[tokio::test]
async fn a_query_over_many_blocks_asks_for_few_of_them_at_once() {
    let scene = scene((0..60).map(|number| busy_day(number, 1, DAY_MS)).collect()).await;
    let selector = scene.selector(ReadCache::in_memory(0));
    let all_days = TimeRange { start_ms: 0, end_ms: 60 * DAY_MS };
    let found = read(&selector, &[], all_days).await.unwrap();
    assert_eq!((found.len(), found[0].1.samples.len()), (1, 60));
    let running_max = scene.store.running_max.load(Ordering::Relaxed);
    assert!((2..=selection::SOURCES_AT_ONCE as u64).contains(&running_max), "{running_max} requests");
}

async fn answers(selector: &Selector, runs: &[SeriesRun]) -> usize {
    let mut compared = 0;
    for matchers in [
        vec![],
        one_series(3, "10.0.3.4:9100"),
        vec![Matcher::new(MatchKind::Regex, "job", "n.*|db").unwrap()],
        vec![Matcher::new(MatchKind::NotEqual, "pod", "pod-00000000").unwrap()],
    ] {
        for range in [day(0), day(1), TimeRange { start_ms: DAY_MS - 60_000, end_ms: DAY_MS + 60_000 }] {
            let found = read(selector, &matchers, range).await.unwrap();
            let mut expected: BTreeMap<&Labels, Vec<Sample>> = BTreeMap::new();
            for run in runs.iter().filter(|run| match_labels(&matchers, &run.labels)) {
                let samples = run.samples.iter().filter(|sample| range.contains(sample.ts_ms));
                expected.entry(&run.labels).or_default().extend(samples);
            }
            expected.retain(|_, samples| !samples.is_empty());
            let found: BTreeMap<&Labels, Vec<Sample>> =
                found.iter().filter(|(_, d)| !d.is_empty()).map(|(l, d)| (l, d.samples.clone())).collect();
            assert!(found == expected, "{matchers:?} {range:?}");
            let own: Vec<Labels> = expected.into_keys().cloned().collect();
            for name in ["__name__", "job", "cluster"] {
                let values =
                    own.iter().filter_map(|l| l.get(name)).map(str::to_owned).collect::<BTreeSet<_>>();
                let query = LabelQuery::Values(name.to_owned());
                let found = selector.look_up_own(&tenant(), range, &matchers, &query).await.unwrap();
                assert_eq!(found, values, "{name}");
            }
            compared += 1;
        }
    }
    compared
}

#[tokio::test]
async fn answers_do_not_depend_on_what_is_cached() {
    let scene = scene(vec![busy_day(0, 400, 600_000), busy_day(1, 500, 600_000)]).await;
    let folder = |path: &FilePath| Some((path.to_owned(), 50_000));
    let tiny = tempfile::tempdir().unwrap();
    for (memory_bytes_max, folder) in
        [(0, None), (64 << 20, None), (20_000, folder(tiny.path())), (0, folder(tiny.path()))]
    {
        let settings = CacheSettings { memory_bytes_max, folder };
        let cache = ReadCache::open(&settings, &Metrics::new()).unwrap();
        let selector = scene.selector(cache);
        for _ in 0..2 {
            assert_eq!(answers(&selector, &scene.runs).await, 12);
        }
    }
}

#[tokio::test]
async fn files_that_break_in_the_cache_change_no_answer() {
    let scene = scene(vec![busy_day(0, 400, 600_000)]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = CacheSettings { memory_bytes_max: 0, folder: Some((folder.path().to_owned(), 1 << 30)) };
    let cache = ReadCache::open(&settings, &Metrics::new()).unwrap();
    let selector = scene.selector(cache);
    let random = random_from_seed(9);
    for _ in 0..4 {
        answers(&selector, &scene.runs).await;
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let path = file.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            let at = random.next_u64() as usize % bytes.len();
            match random.next_u64() % 3 {
                0 => bytes[at] ^= 1 << (random.next_u64() % 8),
                1 => bytes.truncate(at),
                _ => continue,
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

fn budget(limits: SelectLimits, reads_samples: bool) -> Arc<QueryBudget> {
    QueryBudget::new(limits, reads_samples, Memory::unlimited())
}

#[tokio::test]
async fn a_query_takes_memory_for_what_it_finds_while_it_finds_it() {
    let scene = scene(vec![busy_day(0, 2_000, 3_600_000), busy_day(1, 2_000, 3_600_000)]).await;
    let days = TimeRange { start_ms: 0, end_ms: 2 * DAY_MS };
    for (limit_bytes, is_enough) in [(1_000_000, false), (8 << 20, true)] {
        let memory = Memory::new(limit_bytes, &Metrics::new());
        let budget = QueryBudget::new(SelectLimits::NONE, true, memory.clone());
        let selector = scene.selector(ReadCache::in_memory(64 << 20)).within(&budget);
        let any = |_: &Labels| Some(Vec::new());
        let found = selector.select(&tenant(), days, &any, Grouping::Merged).await;
        let all_again = |memory: &Memory| memory.reserve(MemoryUse::Queries, limit_bytes / 100 * 94);
        match found {
            Ok(found) => assert!(is_enough && found[0].len() == 2_000 && all_again(&memory).is_err()),
            Err(error) => assert!(!is_enough && error.kind() == ErrorKind::Overloaded, "{error}"),
        }
        drop((selector, budget));
        assert!(all_again(&memory).is_ok(), "it is given back");
    }
}

#[tokio::test]
async fn a_query_ends_while_it_goes_beyond_its_limits() {
    let scene = scene(vec![busy_day(0, 2_000, 600_000), busy_day(1, 2_000, 600_000)]).await;
    let limits = |series_max, samples_max, bytes_max| SelectLimits { series_max, samples_max, bytes_max };
    let all = [Matcher::new(MatchKind::Regex, "job", ".+").unwrap()];
    let days = TimeRange { start_ms: 0, end_ms: 2 * DAY_MS };
    for (limits, flag) in [
        (limits(100, 0, 0), "--store.limits.request-series"),
        (limits(0, 10_000, 0), "--store.limits.request-samples"),
        (limits(0, 0, 50_000), "--store.grpc.downloaded-bytes-limit"),
    ] {
        let cache = ReadCache::in_memory(64 << 20);
        let selector = scene.selector(cache).within(&budget(limits, true));
        let error = read(&selector, &all, days).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains(flag), "{error}");
    }
    // The series of several blocks are the same ones, and what they are found by is not read as samples.
    for (limits, reads_samples) in [(limits(2_000, 576_000, 0), true), (limits(2_000, 10, 0), false)] {
        let budget = budget(limits, reads_samples);
        let selector = scene.selector(ReadCache::in_memory(64 << 20)).within(&budget);
        let matchers_for = |_: &Labels| Some(all.to_vec());
        let found = selector.select(&tenant(), days, &matchers_for, Grouping::Merged).await.unwrap();
        assert_eq!(found[0].len(), 2_000);
    }
    scene.store.take();
    let selector = scene.selector(ReadCache::in_memory(64 << 20));
    let budget = budget(limits(0, 0, 3_000_000), true);
    assert_eq!(
        read(&selector.within(&budget), &one_series(1, "10.0.3.4:9100"), days).await.unwrap().len(),
        1
    );
    assert!(scene.store.take().1 < 3_000_000);
}

#[tokio::test]
async fn external_labels_stand_above_own_ones_in_look_ups() {
    let scene = scene(vec![busy_day(0, 50, 3_600_000)]).await;
    let selector = scene.selector(ReadCache::in_memory(1 << 20));
    let any = |_: &Labels| Some(Vec::new());
    let ask =
        async |query: LabelQuery, range| selector.look_up(&tenant(), range, &any, &query).await.unwrap();
    let names = ask(LabelQuery::Names, day(0)).await;
    let external = Labels::from_pairs([("cluster", "lab")]).unwrap();
    assert_eq!(names[&external], BTreeSet::from(["__name__", "instance", "job", "pod"].map(str::to_owned)));
    let values = ask(LabelQuery::Values("job".to_owned()), day(0)).await;
    assert_eq!(values[&external], BTreeSet::from(["app", "db", "node"].map(str::to_owned)));
    let clusters = ask(LabelQuery::Values("cluster".to_owned()), day(0)).await;
    assert!(!clusters[&external].is_empty(), "it says that there are series with the external label");
    assert!(ask(LabelQuery::Names, day(3)).await.is_empty());
}
