//! A real Prometheus that keeps its data directory over restarts: what the archive tests archive and restore.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::http::{answers, get_json};
use super::{Answer, Process, RemoteRead, RemoteWrite, SampleSet, client, files_below, free_port};

const START_LIMIT: Duration = Duration::from_secs(90);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const TRUNCATION_LIMIT: Duration = Duration::from_secs(180);

/// Out-of-order samples are taken this far back.
pub(crate) const LATE_WINDOW: &str = "30m";

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub(crate) struct TsdbOptions {
    /// Length of the smallest block; the server's own two hours where none is given.
    pub(crate) block_seconds: Option<u32>,
    /// Whether it scrapes itself every second.
    pub(crate) scrape_itself: bool,
    /// `(job, port)` on the loopback address, scraped every second.
    pub(crate) scrape: Vec<(String, u16)>,
    /// Its value of the external label `replica`; `a` where none is given.
    pub(crate) replica: Option<&'static str>,
    pub(crate) flags: Vec<String>,
}

impl TsdbOptions {
    /// Blocks of ten seconds, so that compactions, checkpoints and truncations happen within a minute.
    pub(crate) fn short_blocks() -> Self {
        Self { block_seconds: Some(10), scrape_itself: true, ..Self::default() }
    }

    fn yaml(&self, own_port: u16) -> String {
        let replica = self.replica.unwrap_or("a");
        let mut text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{cluster: lab, replica: {replica}}}}}\n\
             storage: {{tsdb: {{out_of_order_time_window: {LATE_WINDOW}}}, exemplars: {{max_exemplars: 100000}}}}\n\
             scrape_configs:\n"
        );
        let own = self.scrape_itself.then(|| ("prometheus".to_owned(), own_port));
        for (job, port) in self.scrape.iter().cloned().chain(own) {
            let _ = writeln!(
                text,
                "  - {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}"
            );
        }
        text
    }
}

/// A Prometheus with its data directory; it runs after [`TsdbServer::start`].
#[derive(Debug)]
pub(crate) struct TsdbServer {
    folder: TempDir,
    data: PathBuf,
    port: u16,
    options: TsdbOptions,
    process: Option<Process>,
}

impl TsdbServer {
    /// A server with an empty data directory of its own.
    pub(crate) fn new(options: TsdbOptions) -> Self {
        let folder = tempfile::Builder::new().prefix("tsdb-it-").tempdir().unwrap();
        let data = folder.path().join("data");
        Self { folder, data, port: free_port(), options, process: None }
    }

    /// A server on a data directory that is there already, which scrapes nothing.
    pub(crate) fn on(data: &Path) -> Self {
        Self { data: data.to_owned(), ..Self::new(TsdbOptions::default()) }
    }

    /// Opens a data directory for reading and demands that the server finds nothing to complain of: no repair, no
    /// skipped block, no warning.
    pub(crate) async fn opened(data: &Path) -> Self {
        let mut server = Self::on(data);
        server.start().await;
        server.assert_quiet();
        server
    }

    /// Returns every sample in a copy of a data directory.
    pub(crate) async fn on_copy(data: &Path) -> SampleSet {
        let scratch = tempfile::Builder::new().prefix("copy-it-").tempdir().unwrap();
        let copy = scratch.path().join("data");
        super::copy_folder(data, &copy);
        let mut server = Self::on(&copy);
        server.start().await;
        server.samples().await
    }

    pub(crate) async fn start(&mut self) {
        let config = self.folder.path().join("prometheus.yml");
        std::fs::write(&config, self.options.yaml(self.port)).unwrap();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", self.data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .args(["--web.enable-admin-api", "--web.enable-remote-write-receiver"])
            .args(["--enable-feature=exemplar-storage", "--storage.tsdb.wal-segment-size=10MB"]);
        if let Some(seconds) = self.options.block_seconds {
            command.arg(format!("--storage.tsdb.min-block-duration={seconds}s"));
            command.arg(format!("--storage.tsdb.max-block-duration={}s", seconds * 9));
        }
        command.args(&self.options.flags);
        let mut process = Process::start("prometheus", &mut command, &self.log_file());
        let ready = self.url("/-/ready");
        process.wait_ready(START_LIMIT, async || answers(&ready).await).await;
        self.process = Some(process);
    }

    /// Ends it as a power cut would, but for what the kernel still writes.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("the server runs").kill();
    }

    /// Stops it in an orderly way.
    pub(crate) fn stop(&mut self) {
        self.process.take().expect("the server runs").terminate(STOP_LIMIT);
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Returns all that it printed over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Panics where the server warned of anything.
    pub(crate) fn assert_quiet(&self) {
        let log = self.log();
        let told = log.lines().filter(|line| {
            line.contains("level=warn")
                || line.contains("level=error")
                || line.contains("repair corrupted")
                || line.contains("Skipping")
        });
        // Blocks that overlap are legal, and the server merges them.
        let told: Vec<&str> = told.filter(|line| !line.contains("verlapping blocks")).collect();
        assert!(told.is_empty(), "{}: the server complains:\n{}", self.data.display(), told.join("\n"));
    }

    /// Returns the segment of its WAL that it writes to.
    pub(crate) fn newest_segment(&self) -> PathBuf {
        let names = std::fs::read_dir(self.data.join("wal")).unwrap().map(|e| e.unwrap().path());
        let is_segment =
            |path: &PathBuf| path.file_name().unwrap().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        names.filter(is_segment).max().expect("a server has a segment")
    }

    /// Waits until it has deleted the segment that it writes to now: with short blocks that takes four of them.
    pub(crate) async fn wait_for_truncation(&self) {
        let (segment, asked) = (self.newest_segment(), Instant::now());
        while segment.exists() {
            assert!(asked.elapsed() < TRUNCATION_LIMIT, "the server drops no segment:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until it has written a block, which a minute and a half is enough for.
    pub(crate) async fn wait_for_block(&self) {
        for _ in 0..900 {
            let found = files_below(&self.data)
                .iter()
                .any(|path| path.ends_with("meta.json") && !path.to_string_lossy().contains(".tmp"));
            if found {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the server wrote no block:\n{}", self.log());
    }

    /// A sender into it.
    pub(crate) fn remote_write(&self) -> RemoteWrite {
        RemoteWrite::new(&self.url("/api/v1/write"))
    }

    /// Returns every sample that it holds, bit for bit, without its external labels.
    pub(crate) async fn samples(&self) -> SampleSet {
        let read = RemoteRead::new(&self.url("/api/v1/read"));
        read.all(0, i64::MAX / 2, Answer::Streamed).await.without_labels(&["cluster", "replica"])
    }

    /// Deletes what a selector matches, at all times, as an operator may by mistake.
    pub(crate) async fn delete_series(&self, selector: &str) {
        let url = self.url("/api/v1/admin/tsdb/delete_series");
        let answer = client().post(url).query(&[("match[]", selector)]).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 204, "{}", answer.text().await.unwrap());
    }

    /// Removes deleted samples from the disk.
    pub(crate) async fn clean_tombstones(&self) {
        let url = self.url("/api/v1/admin/tsdb/clean_tombstones");
        let answer = client().post(url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 204, "{}", answer.text().await.unwrap());
    }

    /// Returns the exemplars of a metric, as the server tells them.
    pub(crate) async fn exemplars(&self, metric: &str) -> Value {
        let query = [("query", metric), ("start", "0"), ("end", "4000000000")];
        let mut answer = get_json(&self.url("/api/v1/query_exemplars"), &query).await;
        assert_eq!(answer["status"], "success", "{answer}");
        let mut data = answer["data"].take();
        if let Value::Array(rows) = &mut data {
            rows.sort_by_key(|row| row["seriesLabels"].to_string());
        }
        data
    }
}
