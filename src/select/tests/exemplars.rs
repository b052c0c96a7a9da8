//! Exemplars within the limits of a query, and what finding them costs.

use super::*;
use crate::block::write_exemplars;

const SERIES: usize = 270;
const PER_SERIES: usize = 1_000;

/// One block of three row groups, with trace ids that do not compress.
async fn exemplar_scene() -> (Scene, u64) {
    let store = Arc::new(CountingStore::default());
    let bucket = Bucket::from_store(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let clock: Arc<dyn Clock> = ManualClock::new(100 * DAY_MS);
    let random = random_from_seed(2);
    let settings = CatalogSettings::default();
    let catalogs = Arc::new(Catalogs::new(bucket.clone(), clock, random.clone(), settings));
    let series: Vec<(Labels, Vec<Exemplar>)> = (0..SERIES)
        .map(|i| {
            let pairs = [("__name__", format!("metric_{i:03}")), ("job", ["app", "db"][i % 2].to_owned())];
            let exemplar = |n: usize| Exemplar {
                labels: Labels::from_pairs([("trace_id", format!("{:016x}", random.next_u64()))]).unwrap(),
                value: f64::from_bits(random.next_u64() >> 2),
                ts_ms: n as i64 * 1_000,
            };
            (Labels::from_pairs(pairs).unwrap(), (0..PER_SERIES).map(exemplar).collect())
        })
        .collect();
    let columns = extend_label_columns(&[], series.iter().map(|(labels, _)| labels));
    let write = |out: &mut _, spec: &_| write_exemplars(out, spec, series);
    add_block(&catalogs, &random, (BlockKind::Exemplars, columns), write).await;
    let view = CatalogView::new(catalogs, &Metrics::new());
    view.refresh().await.unwrap();
    store.take();
    let size_bytes = view.snapshot(&tenant()).unwrap().blocks().await.unwrap()[0].size_bytes;
    (Scene { store, bucket, view, runs: Vec::new() }, size_bytes)
}

async fn find(selector: &Selector, matchers: &[Matcher]) -> Result<usize, SelectError> {
    let matchers_for = |_: &Labels| Some(matchers.to_vec());
    let found = selector.exemplars(&tenant(), TimeRange::ALL, &matchers_for).await?;
    Ok(found.iter().map(|series| series.exemplars.len()).sum())
}

#[tokio::test]
async fn exemplars_are_found_within_limits_and_cost_the_pages_of_their_rows() {
    let (scene, size_bytes) = exemplar_scene().await;
    assert!(size_bytes > 4 << 20);
    let cache = ReadCache::in_memory(64 << 20);
    let selector = scene.selector(Arc::clone(&cache));
    let limits = |series_max, samples_max, bytes_max| SelectLimits { series_max, samples_max, bytes_max };
    let all = [Matcher::new(MatchKind::Regex, "job", ".+").unwrap()];
    for (limits, flag) in [
        (limits(10, 0, 0), "--store.limits.request-series"),
        (limits(0, 10, 0), "--store.limits.request-samples"),
        (limits(0, 0, 64 << 10), "--store.grpc.downloaded-bytes-limit"),
    ] {
        let cold = scene.selector(ReadCache::in_memory(64 << 20)).within(&budget(limits, true));
        let error = find(&cold, &all).await.unwrap_err();
        assert!(error.kind() == ErrorKind::TooLarge && error.to_string().contains(flag), "{error}");
    }
    let memory = Memory::new(8 << 20, &Metrics::new());
    let poor = selector.within(&QueryBudget::new(SelectLimits::NONE, true, memory));
    assert_eq!(find(&poor, &all).await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(find(&selector, &all).await.unwrap(), SERIES * PER_SERIES);

    let one = [Matcher::equal("__name__", "metric_100"), Matcher::equal("job", "app")];
    scene.store.take();
    assert_eq!(find(&scene.selector(ReadCache::in_memory(64 << 20)), &one).await.unwrap(), PER_SERIES);
    let (_, bytes) = scene.store.take();
    assert!(bytes < size_bytes / 4, "{bytes} of {size_bytes}");
    // What a series is found by stays in the cache.
    let none = [Matcher::equal("__name__", "metric_100"), Matcher::equal("job", "db")];
    let selector = scene.selector(ReadCache::in_memory(64 << 20));
    assert_eq!(find(&selector, &none).await.unwrap(), 0);
    assert!(scene.store.take().0 > 0);
    assert_eq!(find(&selector, &none).await.unwrap(), 0);
    assert_eq!(scene.store.take().0, 0);
}
