//! A real Prometheus scrapes real exporters into Perennial, and everything that can read it back must agree with what
//! that Prometheus holds, bit for bit.

use std::time::{Duration, Instant};

use crate::support::{
    Answer, NodeExporter, Postgres, PostgresExporter, Prometheus, PrometheusConfig, Python, Redis,
    RedisExporter, SampleSet, Setup, installed, skip,
};

const TENANT: &str = "default-tenant";
const PROGRAMS: [&str; 5] = [
    "prometheus",
    "prometheus-node-exporter",
    "prometheus-redis-exporter",
    "redis-server",
    "prometheus-postgres-exporter",
];

struct Exporters {
    node: NodeExporter,
    redis_exporter: RedisExporter,
    _redis: Redis,
    postgres: Postgres,
    postgres_exporter: PostgresExporter,
}

impl Exporters {
    async fn start() -> Self {
        let redis = Redis::start();
        let postgres = Postgres::start().await;
        Self {
            node: NodeExporter::start().await,
            redis_exporter: RedisExporter::start(&redis).await,
            _redis: redis,
            postgres_exporter: PostgresExporter::start(&postgres).await,
            postgres,
        }
    }

    fn targets(&self) -> Vec<(String, u16)> {
        [
            ("node", self.node.port),
            ("redis", self.redis_exporter.port),
            ("postgres", self.postgres_exporter.port),
        ]
        .map(|(job, port)| (job.to_owned(), port))
        .to_vec()
    }
}

/// How long to scrape: two minutes, or `PERENNIAL_SCRAPE_SECONDS`.
fn scrape_time() -> Duration {
    let seconds = std::env::var("PERENNIAL_SCRAPE_SECONDS").map_or(120, |s| s.parse().unwrap());
    Duration::from_secs(seconds)
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraping_prometheus_arrives_whole_and_every_reader_agrees_bit_for_bit() {
    let test = "a_scraping_prometheus_arrives_whole_and_every_reader_agrees_bit_for_bit";
    if !installed(test, &PROGRAMS) {
        return;
    }
    if !Postgres::installed() {
        return skip(test, "postgresql");
    }
    let Some(python) = Python::find(test) else { return };

    let setup = Setup::standalone();
    let perennial = setup.start().await;
    let mut exporters = Exporters::start().await;
    let source = Prometheus::start(
        "prometheus (source)",
        &PrometheusConfig {
            scrape: exporters.targets(),
            scrape_itself: true,
            remote_write: Some(setup.write_url()),
            ..PrometheusConfig::default()
        },
    )
    .await;
    let start_ms = now_ms();

    // A cut in the middle spreads the answers over head and blocks; an exporter that is gone for a while ends its
    // series with stale markers.
    tokio::time::sleep(scrape_time() / 2).await;
    perennial.flush().await;
    let port = exporters.postgres_exporter.port;
    drop(exporters.postgres_exporter);
    tokio::time::sleep(Duration::from_secs(5)).await;
    exporters.postgres_exporter = PostgresExporter::start_on(&exporters.postgres, port).await;
    tokio::time::sleep(scrape_time() / 2).await;

    let end_ms = now_ms();
    wait_until_sent(&source, end_ms).await;
    assert_eq!(source.metric("prometheus_remote_storage_samples_failed_total").await, 0.0, "failed samples");
    assert_eq!(
        source.metric("prometheus_remote_storage_samples_dropped_total").await,
        0.0,
        "dropped samples"
    );

    let held = source.remote_read().all(start_ms, end_ms, Answer::Samples).await;
    assert!(held.series.len() > 500 && held.samples() > 10_000, "the exporters gave something to compare");
    let stale =
        held.series.values().flatten().filter(|(_, bits)| *bits == crate::support::STALE_BITS).count();
    assert!(stale > 0, "the exporter that was gone left stale markers");

    compare_protocols(&setup, &held, start_ms, end_ms).await;
    compare_promql(&setup, &source, start_ms, end_ms).await;

    // Everything into blocks, for those who read the bucket.
    perennial.flush().await;
    compare_protocols(&setup, &held, start_ms, end_ms).await;
    let views = python.duckdb_samples(&setup, TENANT);
    held.assert_same(&views.within(start_ms, end_ms), "DuckDB over sql-view");
    let files = python.parquet_samples(&setup.bucket_dir(), TENANT, setup.folder());
    held.assert_same(&files.within(start_ms, end_ms), "pyarrow over the catalog's files");
    perennial.stop();
}

/// Waits until the sender has sent what it scraped up to a time.
async fn wait_until_sent(source: &Prometheus, end_ms: i64) {
    let start = Instant::now();
    let end_s = f64::from(u32::try_from(end_ms / 1000).unwrap()) + 1.0;
    while source.metric("prometheus_remote_storage_queue_highest_sent_timestamp_seconds").await < end_s {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the sender does not catch up:\n{}",
            source.process.log()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    while source.metric("prometheus_remote_storage_samples_pending").await > 0.0
        && start.elapsed() < Duration::from_secs(10)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Shards run side by side: the highest timestamp of one says nothing of the others' last batch.
    tokio::time::sleep(Duration::from_secs(3)).await;
}

async fn compare_protocols(setup: &Setup, held: &SampleSet, start_ms: i64, end_ms: i64) {
    let reader = setup.remote_read();
    held.assert_same(&reader.all(start_ms, end_ms, Answer::Samples).await, "remote read, samples");
    held.assert_same(&reader.all(start_ms, end_ms, Answer::Streamed).await, "remote read, streamed chunks");
    let store = setup.store_api().await.all(start_ms, end_ms).await;
    held.assert_same(&store.without_labels(&["tenant_id"]), "StoreAPI");
}

/// A second Prometheus that holds nothing and asks us must answer as the first.
async fn compare_promql(setup: &Setup, source: &Prometheus, start_ms: i64, end_ms: i64) {
    let config = PrometheusConfig { remote_read: Some(setup.read_url()), ..PrometheusConfig::default() };
    let reader = Prometheus::start("prometheus (reader)", &config).await;
    let seconds = (end_ms - start_ms) / 1000;
    let everything = format!("{{__name__=~\".+\"}}[{seconds}s]");
    let expected = source.query(&everything, end_ms).await;
    assert!(expected.as_array().is_some_and(|rows| rows.len() > 500), "the first Prometheus answers");
    assert!(reader.query(&everything, end_ms).await == expected, "raw samples differ between the two");
    for expression in [
        "up",
        "sum by (job) (rate(scrape_samples_scraped[30s]))",
        "rate(node_cpu_seconds_total{mode!=\"idle\"}[20s])",
        "histogram_quantile(0.9, sum by (le, job) (rate(prometheus_http_request_duration_seconds_bucket[1m])))",
        "count by (__name__) ({job=~\"postgres|redis\"})",
        "absent(nothing_has_this_name)",
    ] {
        let (start, end) = (start_ms / 1000 + 1, end_ms / 1000 - 1);
        let expected = source.query_range(expression, start, end, 7).await;
        let got = reader.query_range(expression, start, end, 7).await;
        assert_eq!(got, expected, "{expression} over the range");
    }
}
