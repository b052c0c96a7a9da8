//! A real Prometheus on a restored directory.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::restore::context::RestoreContext;
use crate::restore::error::RestoreError;

const CONFIG: &str = "global: {scrape_interval: 1h}\n";

/// How often the server is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Longer than any replay of what a restore leaves to it.
const READY_WITHIN_MS: i64 = 3_600_000;

/// How long an answer may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Another process may take the port in between.
const PORTS_MAX: usize = 3;

/// What the server writes when it finds something wrong with its data.
const REPAIR_WORDS: [&str; 5] =
    ["repair", "corrupt", "Deleting all segments newer", "invalid magic", "out of order"];

/// So much of its log is quoted.
const LOG_LINES: usize = 5;

/// A server that ends when this is dropped.
#[derive(Debug)]
pub(super) struct DrillServer {
    child: Child,
    http: reqwest::Client,
    url: String,
    log: PathBuf,
    ready_seconds: f64,
}

impl DrillServer {
    /// Starts the program on `<folder>/data` and waits until it is ready.
    pub(super) async fn start(
        program: &Path,
        folder: &Path,
        context: &RestoreContext,
    ) -> Result<Self, RestoreError> {
        let config = folder.join("prometheus.yml");
        fs::write(&config, CONFIG).map_err(RestoreError::file(&config))?;
        // Another part of the process may have chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().read_timeout(READ_TIMEOUT).build();
        let http = http.map_err(RestoreError::Server)?;
        let mut attempt = 1;
        loop {
            let mut server = Self::spawn(program, folder, &config, http.clone())?;
            match server.wait_ready(context).await {
                Ok(()) => return Ok(server),
                Err(_) if attempt < PORTS_MAX && server.lost_its_port() => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn spawn(
        program: &Path,
        folder: &Path,
        config: &Path,
        http: reqwest::Client,
    ) -> Result<Self, RestoreError> {
        let log = folder.join("prometheus.log");
        let output = File::create(&log).map_err(RestoreError::file(&log))?;
        let output = || output.try_clone().map(Stdio::from).map_err(RestoreError::file(&log));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = port.map_err(RestoreError::file(Path::new("127.0.0.1:0")))?;
        let child = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--storage.tsdb.retention.time=100y")
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .spawn()
            .map_err(|e| {
                let program = program.display();
                RestoreError::Invalid(format!(
                    "cannot start {program}: {e}; name the program with --prometheus"
                ))
            })?;
        Ok(Self { child, http, url: format!("http://{address}"), log, ready_seconds: 0.0 })
    }

    async fn wait_ready(&mut self, context: &RestoreContext) -> Result<(), RestoreError> {
        let begun_ms = context.clock.monotonic_ms();
        loop {
            let ended = self.child.try_wait().map_err(RestoreError::file(&self.log))?;
            let waited_ms = context.clock.monotonic_ms().saturating_sub(begun_ms);
            if ended.is_some() || waited_ms > READY_WITHIN_MS {
                let what = "what was restored".to_owned();
                let reason = format!("Prometheus does not start on it: {}", self.last_lines());
                return Err(RestoreError::Damaged { what, reason });
            }
            let ready = self.http.get(format!("{}/-/ready", self.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                self.ready_seconds = context.clock.monotonic_ms().saturating_sub(begun_ms) as f64 / 1_000.0;
                return Ok(());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn lost_its_port(&self) -> bool {
        self.log_text().contains("address already in use")
    }

    fn log_text(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn last_lines(&self) -> String {
        let text = self.log_text();
        let mut lines: Vec<&str> = text.lines().rev().take(LOG_LINES).collect();
        lines.reverse();
        lines.join(" | ")
    }

    /// Returns how long it took until the server was ready.
    pub(super) const fn ready_seconds(&self) -> f64 {
        self.ready_seconds
    }

    /// Returns the lines of its log that tell of something wrong with the data.
    pub(super) fn repairs(&self) -> Vec<String> {
        let text = self.log_text();
        let wrong = |line: &&str| {
            let grave = ["level=warn", "level=error", "level=WARN", "level=ERROR"];
            grave.iter().any(|level| line.contains(level))
                && REPAIR_WORDS.iter().any(|word| line.contains(word))
        };
        text.lines().filter(wrong).map(str::to_owned).collect()
    }

    /// Sends a body of protocol buffers, compressed, and returns the answer.
    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<reqwest::Response, RestoreError> {
        let request = self
            .http
            .post(format!("{}/{path}", self.url))
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-read-version", "0.1.0")
            .body(body);
        let answer = request.send().await.map_err(RestoreError::Server)?;
        answer.error_for_status().map_err(RestoreError::Server)
    }
}

impl Drop for DrillServer {
    /// Its data is thrown away, so there is nothing to end in an orderly way.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
