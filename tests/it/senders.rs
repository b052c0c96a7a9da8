//! Real senders with every kind of data: what a Prometheus and a vmagent scrape is what is read back.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Answer, LATENCY_METRIC, LabelPairs, PROBE_HELP, Probe, Process, Prometheus, PrometheusConfig,
    SCRAPES_METRIC, SampleSet, Setup, TsdbServer, get_json, installed, now_ms,
};

const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Waits until the probe was scraped so often.
async fn scraped(probe: &Probe, times: u64) {
    for _ in 0..600 {
        if probe.scrapes() >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the probe was scraped {} times in a minute", probe.scrapes());
}

async fn exemplars(url: &str, start_ms: i64, end_ms: i64) -> Value {
    let (start, end) = ((start_ms / 1000).to_string(), (end_ms / 1000 + 1).to_string());
    let query = [("query", SCRAPES_METRIC), ("start", &start), ("end", &end)];
    let answer = get_json(url, &query).await;
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_sends_histograms_exemplars_and_metadata_and_reads_the_same_back() {
    let test = "a_prometheus_sends_histograms_exemplars_and_metadata_and_reads_the_same_back";
    if !installed(test, &["prometheus"]) {
        return;
    }
    let setup = Setup::standalone();
    let perennial = setup.start().await;
    let probe = Probe::start().await;
    let source = Prometheus::start(
        "prometheus (source)",
        &PrometheusConfig {
            scrape: vec![("probe".to_owned(), probe.port)],
            remote_write: Some(setup.write_url()),
            send_everything: true,
            flags: vec!["--enable-feature=native-histograms,exemplar-storage".to_owned()],
            ..PrometheusConfig::default()
        },
    )
    .await;
    let start_ms = now_ms() - 5_000;
    scraped(&probe, 6).await;
    perennial.flush().await;
    scraped(&probe, 14).await;
    drop(probe);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let end_ms = now_ms();
    // What was scraped until then is sent within a second or two.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for metric in ["samples", "histograms", "exemplars"] {
        let failed = source.metric(&format!("prometheus_remote_storage_{metric}_failed_total")).await;
        assert_eq!(failed, 0.0, "failed {metric}");
    }
    for when in ["head and blocks", "blocks alone"] {
        compare(&setup, &source, (start_ms, end_ms), when).await;
        perennial.flush().await;
    }
    perennial.stop();
    compare_histograms(&setup, &source, (start_ms, end_ms)).await;
}

/// Prometheus 2.42 reads no histograms over remote read: it gets them as blocks of its own.
async fn compare_histograms(setup: &Setup, source: &Prometheus, (start_ms, end_ms): (i64, i64)) {
    let to = setup.folder().join("exported");
    setup.command(&["export", "tsdb", "--tenant=default-tenant", "--to", to.to_str().unwrap()]);
    let mut reader = TsdbServer::on(&to);
    reader.start().await;
    let seconds = (end_ms - start_ms) / 1000;
    for expression in [
        format!("{LATENCY_METRIC}[{seconds}s]"),
        format!("histogram_quantile(0.9, rate({LATENCY_METRIC}[5s]))"),
        format!("histogram_count({LATENCY_METRIC})"),
    ] {
        // Before the probe was gone.
        let time = format!("{}.{:03}", end_ms / 1000 - 8, end_ms % 1000);
        let query = [("query", expression.as_str()), ("time", &time)];
        let mut results = Vec::new();
        for url in [source.url("/api/v1/query"), reader.url("/api/v1/query")] {
            let answer = get_json(&url, &query).await;
            assert_eq!(answer["status"], "success", "{answer}");
            let mut result = answer["data"]["result"].clone();
            for row in result.as_array_mut().into_iter().flatten() {
                // The labels that the source adds to what it sends, and to nothing that it answers.
                let labels = row["metric"].as_object_mut().unwrap();
                labels.retain(|name, _| name != "cluster" && name != "replica");
            }
            results.push(result);
        }
        assert!(!results[0].as_array().unwrap().is_empty(), "{expression}: the source answers");
        assert_eq!(results[1], results[0], "{expression}");
    }
}

async fn compare(setup: &Setup, source: &Prometheus, (start_ms, end_ms): (i64, i64), when: &str) {
    let config = PrometheusConfig { remote_read: Some(setup.read_url()), ..PrometheusConfig::default() };
    let reader = Prometheus::start("prometheus (reader)", &config).await;
    let seconds = (end_ms - start_ms) / 1000;
    let raw = format!("{{__name__=~\".+\",__name__!=\"{LATENCY_METRIC}\"}}[{seconds}s]");
    let expected = source.query(&raw, end_ms).await;
    assert!(!expected.as_array().unwrap().is_empty(), "the source answers");
    assert_eq!(reader.query(&raw, end_ms).await, expected, "{when}: {raw}");
    let held = exemplars(&source.url("/api/v1/query_exemplars"), start_ms, end_ms).await;
    let kept = exemplars(&setup.url("/api/v1/query_exemplars"), start_ms, end_ms).await;
    let of_held = held[0]["exemplars"].as_array().unwrap();
    assert!(of_held.len() >= 10, "the source has exemplars: {held}");
    assert_eq!(kept[0]["exemplars"], held[0]["exemplars"], "{when}: exemplars");
    let metadata = get_json(&setup.url("/api/v1/metadata"), &[]).await;
    for (metric, kind) in [(SCRAPES_METRIC, "counter"), (LATENCY_METRIC, "histogram")] {
        let entry = &metadata["data"][metric][0];
        assert_eq!(
            (&entry["type"], &entry["help"]),
            (&kind.into(), &PROBE_HELP.into()),
            "{when}: {metadata}"
        );
    }
}

/// A vmagent that scrapes one port every second.
fn vmagent(port: u16, url: &str, folder: &Path) -> Process {
    let config = folder.join("scrape.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: probe\n    static_configs: \
         [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("vmagent");
    command
        .arg(format!("-promscrape.config={}", config.display()))
        .arg(format!("-remoteWrite.url={url}"))
        .arg(format!("-remoteWrite.tmpDataPath={}", folder.join("queue").display()))
        .arg("-remoteWrite.flushInterval=500ms")
        .arg(format!("-httpListenAddr=127.0.0.1:{}", crate::support::free_port()));
    Process::start("vmagent", &mut command, &folder.join("log"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scrape_of_a_vmagent_arrives_also_over_a_restart_of_the_receiver() {
    let test = "every_scrape_of_a_vmagent_arrives_also_over_a_restart_of_the_receiver";
    if !installed(test, &["vmagent"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::standalone();
    let perennial = setup.start().await;
    let probe = Probe::start().await;
    let start_ms = now_ms() - 5_000;
    let mut agent = vmagent(probe.port, &setup.write_url(), folder.path());
    scraped(&probe, 4).await;
    perennial.kill();
    scraped(&probe, 8).await;
    let perennial = setup.start().await;
    scraped(&probe, 12).await;
    // An orderly end sends what is left.
    assert!(agent.terminate(STOP_LIMIT).success(), "{}", agent.log_tail());
    let scrapes = probe.scrapes();
    let stored = setup.remote_read().all(start_ms, now_ms() + 5_000, Answer::Samples).await;
    let (ups, values) = (values_of(&stored, "up"), values_of(&stored, SCRAPES_METRIC));
    assert!(ups.len() + 2 >= usize::try_from(scrapes).unwrap(), "{} of {scrapes} scrapes", ups.len());
    let gap = ups.windows(2).find(|pair| pair[1].0 - pair[0].0 > 1_500);
    assert!(gap.is_none(), "a scrape a second, none is missing: {gap:?}");
    // An answer that came too late for the agent counts as a target that is down.
    let answered: Vec<i64> = ups.iter().filter(|(_, up)| *up == 1.0).map(|(ts_ms, _)| *ts_ms).collect();
    assert_eq!(values.iter().map(|(ts_ms, _)| *ts_ms).collect::<Vec<_>>(), answered);
    // The target counts its scrapes: none is missing but those that came too late.
    let late = |from_ms: i64, to_ms: i64| {
        let between = ups.iter().filter(|(ts_ms, up)| *up != 1.0 && from_ms < *ts_ms && *ts_ms < to_ms);
        between.count() as f64
    };
    let follows = |pair: &[(i64, f64)]| {
        let more = pair[1].1 - pair[0].1;
        more >= 1.0 && more <= 1.0 + late(pair[0].0, pair[1].0)
    };
    assert!(values.windows(2).all(follows), "{values:?}, {ups:?}");
    assert!(values.len() > 6, "most scrapes were answered: {values:?}");
    perennial.stop();
}

/// Returns the live samples of the only series of a metric.
fn values_of(stored: &SampleSet, metric: &str) -> Vec<(i64, f64)> {
    let named =
        |labels: &LabelPairs| labels.iter().any(|(name, value)| name == "__name__" && value == metric);
    let series = stored.series.iter().find(|(labels, _)| named(labels));
    let (_, samples) = series.unwrap_or_else(|| panic!("{metric} is stored"));
    let samples = samples.iter().map(|(ts_ms, bits)| (*ts_ms, f64::from_bits(*bits)));
    samples.filter(|(_, value)| !value.is_nan()).collect()
}
