//! The program under test as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::http::answers;
use super::{Process, RemoteRead, RemoteWrite, StoreApi, free_port};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// What stays the same over restarts: folder, ports and flags.
#[derive(Debug)]
pub(crate) struct Setup {
    role: &'static str,
    folder: TempDir,
    http: u16,
    grpc: u16,
    write: u16,
    flags: Vec<String>,
    bucket: Option<String>,
    data_dir: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// One process with everything, on a folder of its own.
    pub(crate) fn standalone() -> Self {
        Self::role("standalone")
    }

    /// A process of one role.
    pub(crate) fn role(role: &'static str) -> Self {
        Self {
            role,
            folder: tempfile::Builder::new().prefix("perennial-it-").tempdir().unwrap(),
            http: free_port(),
            grpc: free_port(),
            write: free_port(),
            flags: Vec::new(),
            bucket: None,
            data_dir: None,
            environment: Vec::new(),
        }
    }

    /// Adds flags.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|f| (*f).to_owned()));
        self
    }

    /// Keeps blocks where a Thanos objstore configuration (YAML) says.
    pub(crate) fn bucket(mut self, config: &str) -> Self {
        self.bucket = Some(config.to_owned());
        self
    }

    /// Keeps local state somewhere else.
    pub(crate) fn data_dir_at(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Sets or clears the crash points of the next start (the `fail` crate's syntax).
    pub(crate) fn set_failpoints(&mut self, points: Option<&str>) {
        self.environment.retain(|(n, _)| n != "FAILPOINTS");
        self.environment.extend(points.map(|p| ("FAILPOINTS".to_owned(), p.to_owned())));
    }

    /// The data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// The local folder that is the bucket when none is configured.
    pub(crate) fn bucket_dir(&self) -> PathBuf {
        self.data_dir().join("bucket")
    }

    /// A folder for files of the test.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A sender to this process.
    pub(crate) fn remote_write(&self) -> RemoteWrite {
        RemoteWrite::new(&self.write_url())
    }

    /// The port of remote write.
    pub(crate) fn write_port(&self) -> u16 {
        self.write
    }

    /// The address remote write goes to.
    pub(crate) fn write_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/receive", self.write)
    }

    /// The address remote read asks.
    pub(crate) fn read_url(&self) -> String {
        self.url("/api/v1/read")
    }

    /// A remote-read client of this process.
    pub(crate) fn remote_read(&self) -> RemoteRead {
        RemoteRead::new(&self.read_url())
    }

    /// A StoreAPI client of this process.
    pub(crate) async fn store_api(&self) -> StoreApi {
        StoreApi::connect(self.grpc).await
    }

    /// A StoreAPI client of this process, which may be away.
    pub(crate) async fn try_store_api(&self) -> Result<StoreApi, tonic::transport::Error> {
        StoreApi::try_connect(self.grpc).await
    }

    /// A URL on the HTTP port.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// Starts the process and waits until it is ready.
    pub(crate) async fn start(&self) -> Perennial {
        let mut perennial = self.launch();
        let ready = self.url("/-/ready");
        perennial.process.wait_ready(START_LIMIT, async || answers(&ready).await).await;
        perennial
    }

    /// Starts the process without waiting.
    pub(crate) fn launch(&self) -> Perennial {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
        command
            .arg(self.role)
            .args([format!("--http-address=127.0.0.1:{}", self.http)])
            .args([format!("--grpc-address=127.0.0.1:{}", self.grpc)])
            .args(self.bucket_flags());
        if self.role != "store" {
            command.arg(format!("--remote-write.address=127.0.0.1:{}", self.write));
        }
        command.args(&self.flags).env_remove("FAILPOINTS");
        command.envs(self.environment.iter().map(|(n, v)| (n, v)));
        let log = self.folder.path().join("perennial.log");
        Perennial { process: Process::start("perennial", &mut command, &log), flush: self.url("/-/flush") }
    }

    /// Runs a short command (`blocks ls`, `sql-view`) on the same bucket and returns what it printed.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "perennial {arguments:?}: {}\n{error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a short command on the same bucket.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_perennial"))
            .args(arguments)
            .args(self.bucket_flags())
            .output()
            .expect("the program starts")
    }

    fn bucket_flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--data-dir={}", self.data_dir().display())];
        flags.extend(self.bucket.iter().map(|config| format!("--objstore.config={config}")));
        flags
    }
}

/// A running process under test.
#[derive(Debug)]
pub(crate) struct Perennial {
    pub(crate) process: Process,
    flush: String,
}

impl Perennial {
    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }

    /// Stops it as an operator would and expects success.
    pub(crate) fn stop(mut self) {
        let status = self.process.terminate(STOP_LIMIT);
        assert!(status.success(), "a graceful stop ends with {status}:\n{}", self.process.log_tail());
    }

    /// Returns how it ended, or nothing while it runs.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Cuts the head into blocks; returns after the commit.
    pub(crate) async fn flush(&self) {
        let answer = self.try_flush().await.unwrap_or_else(|e| panic!("flush: {e:?}"));
        assert!(answer.0 < 300, "flush: {} {}\n{}", answer.0, answer.1, self.process.log_tail());
    }

    /// Asks for a cut; an error is a lost connection.
    pub(crate) async fn try_flush(&self) -> Result<(u16, String), reqwest::Error> {
        let answer = super::client().post(&self.flush).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}
