//! An S3 server for tests (moto).

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::http::answers;
use super::{Process, Python, client, free_port};

const START_LIMIT: Duration = Duration::from_secs(60);
const BUCKET: &str = "perennial";

/// A running S3 server with one empty bucket.
#[derive(Debug)]
pub(crate) struct S3Server {
    port: u16,
    process: Process,
    _folder: TempDir,
}

impl S3Server {
    pub(crate) async fn start(python: &Python) -> Self {
        let folder = tempfile::Builder::new().prefix("s3-it-").tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(python.path());
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        let mut process = Process::start("moto", &mut command, &folder.path().join("log"));
        let root = format!("http://127.0.0.1:{port}/moto-api/data.json");
        process.wait_ready(START_LIMIT, async || answers(&root).await).await;
        let server = Self { port, process, _folder: folder };
        server.put(BUCKET, &[], "").await;
        server
    }

    /// Stops the server where it stands: connections are still taken, and nobody answers. Returns once it stands still.
    pub(crate) fn pause(&self) {
        self.process.signal("STOP");
        let started = Instant::now();
        while self.process.state() != 'T' {
            assert!(started.elapsed() < START_LIMIT, "the server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets it go on, with the requests that came meanwhile.
    pub(crate) fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Makes another bucket, with Object Lock.
    pub(crate) async fn make_locking_bucket(&self, bucket: &str) {
        self.put(bucket, &[("x-amz-bucket-object-lock-enabled", "true")], "").await;
    }

    /// Sends a PUT as it is; the server asks for no signature.
    pub(crate) async fn put(&self, path: &str, headers: &[(&str, &str)], body: &str) {
        let mut request = client().put(format!("http://{}/{path}", self.endpoint())).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "PUT {path}: {}", answer.status());
    }

    /// The server's address.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The bucket as Thanos would be told of it.
    pub(crate) fn objstore_config(&self) -> String {
        Self::objstore_config_of(&self.endpoint(), BUCKET)
    }

    /// The same for any bucket behind any address.
    pub(crate) fn objstore_config_of(endpoint: &str, bucket: &str) -> String {
        format!(
            "type: S3\nconfig:\n  bucket: {bucket}\n  endpoint: {endpoint}\n  region: us-east-1\n  insecure: true\n  \
             access_key: test\n  secret_key: test\n  part_size: 5242880\n"
        )
    }
}
