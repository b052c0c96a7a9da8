//! A data directory served read-only, against the Prometheus that made it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{
    Answer, Process, RemoteRead, SampleSet, Series, Setup, StoreApi, client, free_port, installed,
    label_pairs,
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
