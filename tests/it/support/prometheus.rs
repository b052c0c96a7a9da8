//! A real Prometheus.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::http::{answers, get_json, get_text};
use super::{Process, RemoteRead, free_port};

const START_LIMIT: Duration = Duration::from_secs(60);

/// What a Prometheus scrapes, where it writes and where it reads.
#[derive(Debug, Default, Clone)]
pub(crate) struct PrometheusConfig {
    /// `(job, port)` on the loopback address.
    pub(crate) scrape: Vec<(String, u16)>,
    pub(crate) scrape_itself: bool,
    pub(crate) remote_write: Option<String>,
    /// Sends native histograms, exemplars and, every two seconds, metadata too.
    pub(crate) send_everything: bool,
    pub(crate) remote_read: Option<String>,
    pub(crate) flags: Vec<String>,
}

impl PrometheusConfig {
    fn yaml(&self, own_port: u16) -> String {
        let mut text = String::from(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  external_labels: {cluster: lab, replica: a}\n",
        );
        text.push_str("scrape_configs:\n");
        let own = self.scrape_itself.then(|| ("prometheus".to_owned(), own_port));
        for (job, port) in self.scrape.iter().cloned().chain(own) {
            let _ = writeln!(
                text,
                "  - job_name: {job}\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]"
            );
        }
        if let Some(url) = &self.remote_write {
            let _ = writeln!(
                text,
                "remote_write:\n  - url: {url}\n    queue_config: {{batch_send_deadline: 1s, max_samples_per_send: 2000}}"
            );
            if self.send_everything {
                text.push_str(
                    "    send_exemplars: true\n    send_native_histograms: true\n    metadata_config: {send_interval: 2s}\n",
                );
            }
        }
        if let Some(url) = &self.remote_read {
            let _ = writeln!(text, "remote_read:\n  - url: {url}\n    read_recent: true");
        }
        text
    }
}

/// A running Prometheus.
#[derive(Debug)]
pub(crate) struct Prometheus {
    pub(crate) process: Process,
    pub(crate) port: u16,
    folder: TempDir,
}

impl Prometheus {
    pub(crate) async fn start(name: &str, config: &PrometheusConfig) -> Self {
        let folder = tempfile::Builder::new().prefix("prometheus-it-").tempdir().unwrap();
        let port = free_port();
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.yaml(port)).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .args(&config.flags);
        let mut process = Process::start(name, &mut command, &folder.path().join("log"));
        let ready = format!("http://127.0.0.1:{port}/-/ready");
        process.wait_ready(START_LIMIT, async || answers(&ready).await).await;
        Self { process, port, folder }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Its data directory.
    #[allow(dead_code, reason = "the bench uses it")]
    pub(crate) fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("tsdb")
    }

    /// A client of its remote read, which gives every bit of what it holds.
    pub(crate) fn remote_read(&self) -> RemoteRead {
        RemoteRead::new(&self.url("/api/v1/read"))
    }

    /// Returns the sum of one of its own metrics over all label sets, 0 where it is absent.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = get_text(&self.url("/metrics")).await;
        text.lines()
            .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Returns the result of an instant query, sorted.
    pub(crate) async fn query(&self, expression: &str, time_ms: i64) -> Value {
        let time = format!("{}.{:03}", time_ms / 1000, time_ms % 1000);
        self.sorted("/api/v1/query", &[("query", expression), ("time", &time)]).await
    }

    /// Returns the result of a range query, sorted.
    pub(crate) async fn query_range(&self, expression: &str, start_s: i64, end_s: i64, step_s: i64) -> Value {
        let (start, end, step) = (start_s.to_string(), end_s.to_string(), step_s.to_string());
        let query = [("query", expression), ("start", &start), ("end", &end), ("step", &step)];
        self.sorted("/api/v1/query_range", &query).await
    }

    async fn sorted(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut answer = get_json(&self.url(path), query).await;
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        assert!(answer.get("warnings").is_none(), "{query:?}: {}", answer["warnings"]);
        let mut result = answer["data"]["result"].take();
        if let Value::Array(rows) = &mut result {
            rows.sort_by_key(|row| row["metric"].to_string());
        }
        result
    }
}
