//! A data directory, or a moment of an archive, served read-only, against the Prometheus that made it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Answer, ArchiverSetup, LOAD_METRIC, Load, LocalBucket, Process, RemoteRead, RestoreCommand, SampleSet,
    Series, Setup, StoreApi, TsdbOptions, TsdbServer, client, files_below, free_port, get_json, installed,
    label_pairs, now_ms, path_text, time_text, tree,
};

const START_MS: i64 = 1_704_095_820_000;

fn written() -> Vec<Series> {
    let series = (0..40).map(|number| Series {
        labels: label_pairs(&[("__name__", "served_total"), ("number", &format!("{number:02}"))]),
        samples: (0..900).map(|i| (START_MS + i * 15_000, (number * 1_000 + i) as u64)).collect(),
    });
    series.collect()
}

/// Starts a program and waits until its HTTP says that it is ready.
async fn started(name: &str, command: &mut Command, port: u16, folder: &Path) -> Process {
    let mut process = Process::start(name, command, &folder.join(format!("{name}.log")));
    let ready = format!("http://127.0.0.1:{port}/-/ready");
    let answers = async || client().get(&ready).send().await.is_ok_and(|answer| answer.status().is_success());
    process.wait_ready(Duration::from_secs(60), answers).await;
    process
}

/// Lets a real Prometheus delete some samples of the directory; returns what it then serves.
async fn delete_some(directory: &Path, folder: &Path) -> SampleSet {
    let port = free_port();
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "{}\n").unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.display()))
        .args(["--storage.tsdb.retention.time=100y", "--web.enable-admin-api"])
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut process = started("prometheus", &mut command, port, folder).await;
    let url = format!("http://127.0.0.1:{port}");
    for (selector, start_ms, end_ms) in [
        ("served_total{number=\"03\"}", 0, i64::MAX / 2_000_000 * 1_000),
        ("served_total{number=~\"1.\"}", START_MS + 600_000, START_MS + 9_000_000),
    ] {
        let (start, end) = ((start_ms / 1_000).to_string(), (end_ms / 1_000).to_string());
        let query = [("match[]", selector), ("start", &start), ("end", &end)];
        let delete = format!("{url}/api/v1/admin/tsdb/delete_series");
        let answer = client().post(delete).query(&query).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
    let read = RemoteRead::new(&format!("{url}/api/v1/read"));
    let left = read.all(0, i64::MAX / 2, Answer::Streamed).await;
    process.kill();
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_directory_answers_as_the_prometheus_that_wrote_it() {
    let test = "a_served_directory_answers_as_the_prometheus_that_wrote_it";
    if !installed(test, &["prometheus"]) {
        return;
    }
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]);
    let perennial = setup.start().await;
    let ack = setup.remote_write().send(&written()).await.unwrap();
    assert_eq!(ack.status, 204, "{}", ack.body);
    perennial.flush().await;
    perennial.stop();
    let directory = setup.folder().join("tsdb");
    let to = directory.to_str().unwrap();
    setup.command(&["export", "tsdb", "--tenant=default-tenant", "--to", to]);
    let left = delete_some(&directory, setup.folder()).await;
    assert!(left.series.len() == 39 && left.samples() < 39 * 900, "something was deleted");

    let before = files(&directory);
    let (http, grpc) = (free_port(), free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
    let elsewhere = tempfile::tempdir().unwrap();
    command.current_dir(elsewhere.path());
    command.args(["restore", "serve", "--dir", to, "--label=cluster=\"eu\""]);
    command.arg(format!("--http-address=127.0.0.1:{http}"));
    command.arg(format!("--grpc-address=127.0.0.1:{grpc}"));
    let mut serving = started("serve", &mut command, http, setup.folder()).await;
    let url = format!("http://127.0.0.1:{http}");
    let read = RemoteRead::new(&format!("{url}/api/v1/read"));
    left.assert_same(&read.all(0, i64::MAX / 2, Answer::Streamed).await, "remote read, streamed");
    left.assert_same(&read.all(0, i64::MAX / 2, Answer::Samples).await, "remote read, samples");
    let over_grpc = StoreApi::connect(grpc).await.all(0, i64::MAX / 2).await;
    assert!(over_grpc.series.keys().all(|l| l.contains(&("cluster".to_owned(), "eu".to_owned()))));
    left.assert_same(&over_grpc.without_labels(&["cluster", "tenant_id"]), "StoreAPI");
    let values = client().get(format!("{url}/api/v1/label/number/values")).send().await.unwrap();
    let values: serde_json::Value = serde_json::from_str(&values.text().await.unwrap()).unwrap();
    assert_eq!(values["data"].as_array().unwrap().len(), 39, "{values}");
    serving.kill();
    assert_eq!(files(&directory), before, "nothing in the directory is changed");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "no bucket is made");
}

fn files(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            let bytes = std::fs::read(&entry).unwrap();
            found.push((entry, bytes));
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_blocks_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial"));
    command.args(["restore", "serve", "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0", "--dir"]);
    let output = command.arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds no blocks"));
}

/// What a server says over HTTP of its labels and series, in an order of ours.
async fn label_answers(url: &str) -> Vec<Value> {
    let match_all = [("match[]", "{__name__=~\".+\"}")];
    let mut answers = Vec::new();
    for (path, query) in [
        ("labels", &[][..]),
        ("labels", &[("match[]", "late_total")]),
        ("label/__name__/values", &[]),
        ("label/number/values", &[]),
        ("label/number/values", &[("match[]", "late_total")]),
        ("series", &match_all),
    ] {
        let mut answer = get_json(&format!("{url}/api/v1/{path}"), query).await;
        let Value::Array(mut rows) = answer["data"].take() else { panic!("{path}: {answer}") };
        rows.sort_by_key(Value::to_string);
        answers.push(Value::Array(rows));
    }
    answers
}

/// Returns the end of the newest block in a data directory.
fn blocks_end_ms(data: &Path) -> i64 {
    let metas = files_below(data).into_iter().filter(|path| path.ends_with("meta.json"));
    let ends = metas.map(|path| {
        let meta: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        meta["maxTime"].as_i64().unwrap()
    });
    ends.max().expect("there is a block")
}

/// Folders that `restore serve` must leave as they were.
struct Surroundings {
    work: tempfile::TempDir,
    current: tempfile::TempDir,
}

impl Surroundings {
    fn new() -> Self {
        Self { work: tempfile::tempdir().unwrap(), current: tempfile::tempdir().unwrap() }
    }

    fn command(&self, restore: &RestoreCommand, time_ms: i64, http: u16, grpc: u16) -> Command {
        let at = time_text(time_ms);
        let arguments = ["--as-of", &at, "--work-dir", path_text(self.work.path())];
        let mut command = restore.command("serve", &arguments);
        command.arg(format!("--http-address=127.0.0.1:{http}"));
        command.arg(format!("--grpc-address=127.0.0.1:{grpc}"));
        command.current_dir(self.current.path()).env("TMPDIR", self.work.path());
        command
    }

    fn assert_clean(&self, when: &str) {
        for folder in [&self.work, &self.current] {
            let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
            assert!(left.is_empty(), "{when}: {left:?} is left behind");
        }
    }
}

/// Compares what is served with what the server said of the same moment.
async fn serves(url: &str, grpc: u16, held: &SampleSet, labels: &[Value]) {
    let read = RemoteRead::new(&format!("{url}/api/v1/read"));
    held.assert_same(&read.all(0, i64::MAX / 2, Answer::Streamed).await, "remote read, streamed");
    held.assert_same(&read.all(0, i64::MAX / 2, Answer::Samples).await, "remote read, samples");
    let over_grpc = StoreApi::connect(grpc).await.all(0, i64::MAX / 2).await;
    for (name, value) in [("cluster", "lab"), ("replica", "a")] {
        let label = (name.to_owned(), value.to_owned());
        assert!(over_grpc.series.keys().all(|labels| labels.contains(&label)), "{label:?} is everywhere");
    }
    held.assert_same(&over_grpc.without_labels(&["cluster", "replica", "tenant_id"]), "StoreAPI");
    assert_eq!(label_answers(url).await, labels, "label APIs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_before_a_delete_is_served_also_what_was_only_in_memory() {
    let test = "a_moment_before_a_delete_is_served_also_what_was_only_in_memory";
    if !installed(test, &["prometheus"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions { block_seconds: Some(5), ..TsdbOptions::default() });
    server.start().await;
    let setup = ArchiverSetup::new(&server, &bucket.config());
    let archiver = setup.start().await;
    let load = Load::start(server.remote_write(), 20, Duration::from_millis(100));
    server.wait_for_block().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.stop().await;
    archiver.catch_up().await;
    let (held, labels) = (server.samples().await, label_answers(&server.url("")).await);
    let memory_ms = blocks_end_ms(server.data_dir());
    let before_ms = now_ms();
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.delete_series(LOAD_METRIC).await;
    let load = Load::start(server.remote_write(), 3, Duration::from_millis(100));
    tokio::time::sleep(Duration::from_millis(500)).await;
    load.stop().await;
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    for (from_ms, to_ms, place) in [(0, memory_ms - 1, "blocks"), (memory_ms, i64::MAX, "memory")] {
        assert!(held.within(from_ms, to_ms).samples() > 100, "samples are in {place}, {memory_ms}");
    }

    let (stored, around) = (tree(bucket.path()), Surroundings::new());
    let (http, grpc) = (free_port(), free_port());
    let mut command = around.command(&setup.restore(), before_ms, http, grpc);
    let logs = tempfile::tempdir().unwrap();
    let mut serving = started("serve", &mut command, http, logs.path()).await;
    serves(&format!("http://127.0.0.1:{http}"), grpc, &held, &labels).await;
    let status = serving.terminate(Duration::from_secs(20));
    assert!(status.success(), "{status}: {}", serving.log());
    around.assert_clean("stopped while it serves");

    stops_while_it_restores(&setup.restore(), &around, before_ms, logs.path());
    assert_eq!(tree(bucket.path()), stored, "the bucket is as it was");
}

/// Stopped before it serves, it leaves as little.
fn stops_while_it_restores(restore: &RestoreCommand, around: &Surroundings, time_ms: i64, logs: &Path) {
    let mut command = around.command(restore, time_ms, free_port(), free_port());
    command.env("FAILPOINTS", "restore.before-build=sleep(2000)");
    let mut restoring = Process::start("restoring", &mut command, &logs.join("restoring"));
    for _ in 0..500 {
        if files_below(around.work.path()).iter().any(|path| path.ends_with("meta.json")) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = restoring.terminate(Duration::from_secs(20));
    assert!(status.success(), "{status}: {}", restoring.log());
    assert!(!restoring.log().contains("StoreAPI"), "it was stopped before: {}", restoring.log());
    around.assert_clean("stopped while it restores");
}
