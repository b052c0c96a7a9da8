//! Real senders with every kind of data: what a Prometheus and a vmagent scrape is what is read back.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Answer, LATENCY_METRIC, PROBE_HELP, Probe, Process, Prometheus, PrometheusConfig, SCRAPES_METRIC, Setup,
    TsdbServer, get_json, installed, now_ms,
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
    tokio::time::sleep(Duration::from_secs(5)).await;
    let end_ms = now_ms();
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
            results.push(answer["data"]["result"].clone());
        }
        assert!(!results[0].as_array().unwrap().is_empty(), "{expression}: the source answers");
        assert_eq!(results[1], results[0], "{expression}");
    }
}

async fn compare(setup: &Setup, source: &Prometheus, (start_ms, end_ms): (i64, i64), when: &str) {
    let config = PrometheusConfig { remote_read: Some(setup.read_url()), ..PrometheusConfig::default() };
    let reader = Prometheus::start("prometheus (reader)", &config).await;
    let seconds = (end_ms - start_ms) / 1000;
    let raw = format!("{{__name__!=\"{LATENCY_METRIC}\"}}[{seconds}s]");
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
    let counter = stored
        .series
        .iter()
        .find(|(labels, _)| labels.iter().any(|(name, value)| name == "__name__" && value == SCRAPES_METRIC));
    let (_, samples) = counter.expect("the probe's counter is stored");
    let values: Vec<f64> =
        samples.iter().map(|(_, bits)| f64::from_bits(*bits)).filter(|v| !v.is_nan()).collect();
    let expected: Vec<f64> = (1..=scrapes).map(|scrape| scrape as f64).collect();
    // The agent may be asked to stop between a scrape and its taking the answer in.
    assert!(values == expected || values == expected[..expected.len() - 1], "{values:?} of {scrapes}");
    perennial.stop();
}
