//! Real exporters and what they watch.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::http::answers;
use super::{Process, free_port};

const START_LIMIT: Duration = Duration::from_secs(60);

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("peer-it-").tempdir().unwrap()
}

async fn exporter(name: &str, command: &mut Command, port: u16, folder: &TempDir) -> Process {
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut process = Process::start(name, command, &folder.path().join("log"));
    let metrics = format!("http://127.0.0.1:{port}/metrics");
    process.wait_ready(START_LIMIT, async || answers(&metrics).await).await;
    process
}

/// `node_exporter`.
#[derive(Debug)]
pub(crate) struct NodeExporter {
    pub(crate) port: u16,
    _process: Process,
    _folder: TempDir,
}

impl NodeExporter {
    pub(crate) async fn start() -> Self {
        let (port, folder) = (free_port(), folder());
        let mut command = Command::new("prometheus-node-exporter");
        let process = exporter("node_exporter", &mut command, port, &folder).await;
        Self { port, _process: process, _folder: folder }
    }
}

/// A Redis server.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    _process: Process,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let (port, folder) = (free_port(), folder());
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()]);
        command.arg("--dir").arg(folder.path());
        let process = Process::start("redis", &mut command, &folder.path().join("log"));
        Self { port, _process: process, _folder: folder }
    }
}

/// `redis_exporter`.
#[derive(Debug)]
pub(crate) struct RedisExporter {
    pub(crate) port: u16,
    _process: Process,
    _folder: TempDir,
}

impl RedisExporter {
    pub(crate) async fn start(redis: &Redis) -> Self {
        let (port, folder) = (free_port(), folder());
        let mut command = Command::new("prometheus-redis-exporter");
        command.arg(format!("--redis.addr=redis://127.0.0.1:{}", redis.port));
        let process = exporter("redis_exporter", &mut command, port, &folder).await;
        Self { port, _process: process, _folder: folder }
    }
}

/// A PostgreSQL server; it refuses to run as root, so root hands it to the package's user.
#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) port: u16,
    user: &'static str,
    _process: Process,
    _folder: TempDir,
}

impl Postgres {
    pub(crate) async fn start() -> Self {
        let (port, folder) = (free_port(), folder());
        let root =
            std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap() == 0;
        if root {
            let status = Command::new("chown").arg("postgres").arg(folder.path()).status().unwrap();
            assert!(status.success(), "chown of the database's folder");
        }
        let data = folder.path().join("data");
        let mut initdb = Self::command("initdb", root);
        initdb.args(["--auth=trust", "--no-sync", "--username=postgres", "-D"]).arg(&data);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = Self::command("postgres", root);
        server.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        server.arg("-k").arg(folder.path());
        let mut process = Process::start("postgres", &mut server, &folder.path().join("log"));
        process
            .wait_ready(START_LIMIT, async || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
            .await;
        Self { port, user: "postgres", _process: process, _folder: folder }
    }

    /// Returns whether the server programs are there.
    pub(crate) fn installed() -> bool {
        Self::programs().is_some()
    }

    fn programs() -> Option<PathBuf> {
        let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
        versions.flatten().map(|v| v.path().join("bin")).find(|bin| bin.join("initdb").is_file())
    }

    fn command(program: &str, root: bool) -> Command {
        let path = Self::programs().expect("checked before the start").join(program);
        let mut command = if root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir("/");
        command
    }
}

/// `postgres_exporter`.
#[derive(Debug)]
pub(crate) struct PostgresExporter {
    pub(crate) port: u16,
    _process: Process,
    _folder: TempDir,
}

impl PostgresExporter {
    pub(crate) async fn start(postgres: &Postgres) -> Self {
        Self::start_on(postgres, free_port()).await
    }

    /// Starts on a given port, so that it can come back where it was.
    pub(crate) async fn start_on(postgres: &Postgres, port: u16) -> Self {
        let folder = folder();
        let mut command = Command::new("prometheus-postgres-exporter");
        let source =
            format!("postgresql://{}@127.0.0.1:{}/postgres?sslmode=disable", postgres.user, postgres.port);
        command.env("DATA_SOURCE_NAME", source);
        let process = exporter("postgres_exporter", &mut command, port, &folder).await;
        Self { port, _process: process, _folder: folder }
    }
}
