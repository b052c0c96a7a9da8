//! The peers, started for one measurement each.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::support::{Process, Prometheus, PrometheusConfig, client, free_port, program};

/// A running VictoriaMetrics.
#[derive(Debug)]
pub(crate) struct VictoriaMetrics {
    pub(crate) process: Process,
    port: u16,
    folder: TempDir,
}

impl VictoriaMetrics {
    /// Starts it, where it is installed.
    pub(crate) async fn start() -> Option<Self> {
        program("victoria-metrics")?;
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new("victoria-metrics");
        command
            .arg(format!("-storageDataPath={}", folder.path().join("data").display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .arg("-retentionPeriod=100y");
        let mut process = Process::start("victoria-metrics", &mut command, &folder.path().join("log"));
        let health = format!("http://127.0.0.1:{port}/health");
        let ready = async || client().get(&health).send().await.is_ok_and(|a| a.status().is_success());
        process.wait_ready(Duration::from_secs(60), ready).await;
        Some(Self { process, port, folder })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// Starts a Prometheus that takes remote write, where it is installed.
pub(crate) async fn receiving_prometheus() -> Option<Prometheus> {
    program("prometheus")?;
    let config = PrometheusConfig {
        flags: vec!["--web.enable-remote-write-receiver".to_owned()],
        ..PrometheusConfig::default()
    };
    Some(Prometheus::start("prometheus", &config).await)
}

/// Returns the size of all files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let sizes = entries.map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { bytes_below(&path) } else { path.metadata().map_or(0, |m| m.len()) }
    });
    sizes.sum()
}
