//! The archiver as a process, and the restore commands on the same bucket.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::http::{answers, get_text};
use super::load::now_ms;
use super::{Process, TsdbServer, free_port};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// The source's name in all tests.
pub(crate) const SOURCE: &str = "lab";

/// A bucket that is a local folder.
#[derive(Debug)]
pub(crate) struct LocalBucket {
    folder: TempDir,
}

impl LocalBucket {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("bucket-it-").tempdir().unwrap() }
    }

    /// A bucket that begins as a copy of a folder.
    pub(crate) fn copy_of(other: &Path) -> Self {
        let bucket = Self::new();
        std::fs::remove_dir(bucket.path()).unwrap();
        super::copy_folder(other, bucket.path());
        bucket
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config(&self) -> String {
        local_bucket_config(self.path())
    }
}

/// Names a folder as a bucket, as Thanos would be told of it.
pub(crate) fn local_bucket_config(folder: &Path) -> String {
    format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", folder.display())
}

/// What stays the same over restarts of an archiver.
#[derive(Debug)]
pub(crate) struct ArchiverSetup {
    // The log of a process outlives its setup.
    folder: Arc<TempDir>,
    data: PathBuf,
    url: Option<String>,
    /// Name, data directory and address of further servers.
    others: Vec<(String, PathBuf, String)>,
    bucket: String,
    http: u16,
    flags: Vec<String>,
    failpoints: Option<String>,
}

impl ArchiverSetup {
    /// An archiver of a server into a bucket.
    pub(crate) fn new(server: &TsdbServer, bucket: &str) -> Self {
        Self {
            folder: Arc::new(tempfile::Builder::new().prefix("archiver-it-").tempdir().unwrap()),
            data: server.data_dir().to_owned(),
            url: Some(server.url("")),
            others: Vec::new(),
            bucket: bucket.to_owned(),
            http: free_port(),
            flags: Vec::new(),
            failpoints: None,
        }
    }

    /// Adds flags.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    /// Archives a further server in the same process.
    pub(crate) fn also(mut self, source: &str, server: &TsdbServer) -> Self {
        self.others.push((source.to_owned(), server.data_dir().to_owned(), server.url("")));
        self
    }

    /// Reads another data directory, such as a read-only view of the server's.
    pub(crate) fn data_dir(mut self, data: &Path) -> Self {
        self.data = data.to_owned();
        self
    }

    /// Sets or clears the crash points of the next start.
    pub(crate) fn set_failpoints(&mut self, points: Option<&str>) {
        self.failpoints = points.map(str::to_owned);
    }

    pub(crate) async fn start(&self) -> Archiver {
        let mut archiver = self.launch();
        let ready = format!("http://127.0.0.1:{}/-/ready", self.http);
        archiver.process.wait_ready(START_LIMIT, async || answers(&ready).await).await;
        archiver
    }

    /// Starts the process without waiting.
    pub(crate) fn launch(&self) -> Archiver {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
        command
            .args(["archive", "run", "--source", SOURCE])
            .arg(format!("--prometheus.data-dir={}", self.data.display()))
            .args(self.url.iter().map(|url| format!("--prometheus.url={url}")))
            .arg(format!("--http-address=127.0.0.1:{}", self.http))
            .arg(format!("--objstore.config={}", self.bucket))
            .args(&self.flags)
            .env_remove("FAILPOINTS");
        for (name, data, url) in &self.others {
            let data = data.display();
            command.arg(format!(
                "--sources={{name: {name}, prometheus.data-dir: {data}, prometheus.url: '{url}'}}"
            ));
        }
        command.envs(self.failpoints.iter().map(|points| ("FAILPOINTS", points)));
        let process = Process::start("archiver", &mut command, &self.folder.path().join("log"));
        let metrics = format!("http://127.0.0.1:{}/metrics", self.http);
        let sources = std::iter::once(SOURCE).chain(self.others.iter().map(|(name, ..)| name.as_str()));
        let sources = sources.map(str::to_owned).collect();
        Archiver { process, metrics, sources, _folder: Arc::clone(&self.folder) }
    }

    /// The restore commands on the same bucket.
    pub(crate) fn restore(&self) -> RestoreCommand {
        RestoreCommand::new(&self.bucket)
    }
}

/// A running archiver.
#[derive(Debug)]
pub(crate) struct Archiver {
    pub(crate) process: Process,
    metrics: String,
    sources: Vec<String>,
    _folder: Arc<TempDir>,
}

impl Archiver {
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// Stops it as an operator would, and expects success.
    pub(crate) fn stop(mut self) {
        let status = self.process.terminate(STOP_LIMIT);
        assert!(status.success(), "an orderly stop ends with {status}:\n{}", self.process.log_tail());
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Returns the sum of a metric over all label sets, 0 where it is absent.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = get_text(&self.metrics).await;
        text.lines()
            .filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until everything that the servers wrote before this call can be restored.
    pub(crate) async fn catch_up(&self) {
        let (asked_s, start) = (now_ms() as f64 / 1e3, Instant::now());
        for source in &self.sources {
            let own = |metric: &str| format!("perennial_archive_{metric}{{source=\"{source}\"}}");
            loop {
                let success = self.metric(&own("last_success_timestamp_seconds")).await;
                let lag = self.metric(&own("lag_seconds")).await;
                // Without a base nothing can be restored.
                let window_start = self.metric(&own("recoverable_window_start_timestamp_seconds")).await;
                let archived = success > asked_s && (lag == 0.0 || success - lag > asked_s);
                if archived && window_start > 0.0 {
                    break;
                }
                assert!(
                    start.elapsed() < CATCH_UP_LIMIT,
                    "{source}: last success {success}, lag {lag}, window {window_start}, asked at {asked_s}:\n{}",
                    self.process.log_tail()
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The restore commands.
#[derive(Debug, Clone)]
pub(crate) struct RestoreCommand {
    bucket: String,
    source: String,
    flags: Vec<String>,
}

impl RestoreCommand {
    pub(crate) fn new(bucket: &str) -> Self {
        Self { bucket: bucket.to_owned(), source: SOURCE.to_owned(), flags: Vec::new() }
    }

    /// Restores another source than [`SOURCE`].
    pub(crate) fn of(mut self, source: &str) -> Self {
        self.source = source.to_owned();
        self
    }

    /// Adds flags to every command.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    /// Runs `perennial restore VERB SOURCE …`.
    pub(crate) fn output(&self, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb, arguments).output().expect("the program starts")
    }

    /// Runs it with crash points set.
    pub(crate) fn crashing(&self, points: &str, verb: &str, arguments: &[&str]) -> Output {
        self.command(verb, arguments).env("FAILPOINTS", points).output().expect("the program starts")
    }

    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
        command.args(["restore", verb, &self.source]).args(arguments).args(&self.flags);
        command.arg(format!("--objstore.config={}", self.bucket)).env_remove("FAILPOINTS");
        command
    }

    /// Runs a verb that must succeed and returns its JSON.
    pub(crate) fn json(&self, verb: &str, arguments: &[&str]) -> Value {
        let output = self.output(verb, &[arguments, &["--output", "json"]].concat());
        assert_code(&output, 0, &format!("restore {verb} {arguments:?}"));
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("restore {verb}: {e}: {text}"))
    }

    /// Restores what the server knew at a time.
    pub(crate) fn as_of(&self, time_ms: i64, to: &Path) {
        self.run(&["--as-of", &time_text(time_ms)], to);
    }

    /// Restores all that is known, up to a sample time.
    pub(crate) fn until(&self, time_ms: i64, to: &Path) {
        self.run(&["--until", &time_text(time_ms)], to);
    }

    /// Restores into a fresh directory and expects that nothing was missing.
    pub(crate) fn run(&self, target: &[&str], to: &Path) {
        let output = self.output("run", &[target, &["--to", path_text(to), "--yes"]].concat());
        assert_code(&output, 0, &format!("restore run {target:?}"));
    }
}

/// Returns a time as a person writes it: RFC 3339 with milliseconds.
pub(crate) fn time_text(time_ms: i64) -> String {
    perennial::model::format_time_ms(time_ms)
}

/// Panics with what a command printed where it ended with another code.
pub(crate) fn assert_code(output: &Output, code: i32, what: &str) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{what}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns a path as an argument.
pub(crate) fn path_text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}
