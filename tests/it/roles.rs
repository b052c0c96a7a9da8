//! The roles apart on one bucket, and what an operator meets: refusals, exit codes, damage.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Answer, Perennial, SampleSet, Series, Setup, label_pairs};

const NOW_FLAGS: [&str; 1] = ["--ingest.max-age=100y"];
const AT_MS: i64 = 1_704_095_400_000;

fn series(number: i64) -> Series {
    let number_text = number.to_string();
    Series {
        labels: label_pairs(&[("__name__", "roles_total"), ("number", &number_text)]),
        samples: (0..50).map(|i| (AT_MS + i * 1000, (number * 1000 + i) as u64)).collect(),
    }
}

fn set_of(written: &[Series]) -> SampleSet {
    let mut set = SampleSet::default();
    written.iter().for_each(|s| set.append(s.labels.clone(), s.samples.iter().copied()));
    set
}

async fn write(setup: &Setup, written: &[Series]) {
    let ack = setup.remote_write().send(written).await.unwrap();
    assert_eq!(ack.status, 204, "{}", ack.body);
}

async fn over_store_api(setup: &Setup) -> SampleSet {
    setup.store_api().await.all(0, i64::MAX / 2).await.without_labels(&["tenant_id", "receiver"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_and_a_store_on_one_bucket_leave_no_gap_at_a_cut() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = format!("{{type: FILESYSTEM, config: {{directory: {}}}}}", folder.path().display());
    let receiver =
        Setup::role("receive").bucket(&bucket).flags(&NOW_FLAGS).flags(&["--label=receiver=\"0\""]);
    let store = Setup::role("store").bucket(&bucket).flags(&["--catalog.refresh=200ms"]);
    let (receiving, storing) = (receiver.start().await, store.start().await);
    let written = [series(1), series(2)];
    write(&receiver, &written).await;
    set_of(&written).assert_same(&over_store_api(&receiver).await, "the receiver before the cut");
    assert_eq!(over_store_api(&store).await.samples(), 0, "nothing is in the bucket yet");

    receiving.flush().await;
    set_of(&written)
        .assert_same(&over_store_api(&receiver).await, "the receiver keeps what stores may not see yet");
    let seen = async || over_store_api(&store).await;
    for _ in 0..100 {
        if seen().await.samples() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    set_of(&written).assert_same(&seen().await, "the store after its refresh");
    let raw = store.store_api().await.all(0, i64::MAX / 2).await;
    assert!(
        raw.series.keys().all(|l| l.contains(&("receiver".to_owned(), "0".to_owned()))),
        "external labels are on every series"
    );
    let over_http = store.remote_read().all(0, i64::MAX / 2, Answer::Samples).await;
    set_of(&written).assert_same(&over_http, "remote read of the store, without added labels");
    receiving.stop();
    storing.stop();
}

/// Starts a process that must end by itself; returns its exit code and its log.
async fn refused(setup: &Setup) -> (i32, String) {
    let mut perennial: Perennial = setup.launch();
    for _ in 0..600 {
        if let Some(status) = perennial.ended() {
            return (status.code().unwrap_or(-1), perennial.process.log());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    perennial.kill();
    panic!("the process should have refused to start");
}

fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![data_dir.join("log")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "log") {
                files.push(entry);
            }
        }
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_refused_with_exit_code_5_and_skipped_only_when_told() {
    let setup = Setup::standalone().flags(&NOW_FLAGS);
    let perennial = setup.start().await;
    let written = [series(1), series(2), series(3)];
    for one in &written {
        write(&setup, std::slice::from_ref(one)).await;
    }
    perennial.kill();
    let segment = segments(&setup.data_dir()).remove(0);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&segment, bytes).unwrap();

    let (code, log) = refused(&setup).await;
    assert_eq!(code, 5, "{log}");
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(log.contains(name) && log.contains("--log.skip-damaged"), "{log}");

    let skipping = setup.flags(&["--log.skip-damaged"]);
    let perennial = skipping.start().await;
    let left = skipping.remote_read().all(0, i64::MAX / 2, Answer::Streamed).await;
    let wanted = set_of(&written);
    assert!(left.series.len() < written.len(), "the damaged entry is gone");
    for (labels, samples) in &left.series {
        assert_eq!(wanted.series.get(labels), Some(samples), "what is left is what was written");
    }
    perennial.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_belongs_to_one_process_and_a_taken_port_is_told() {
    let setup = Setup::standalone();
    let perennial = setup.start().await;
    let (code, log) = refused(&setup).await;
    assert_eq!(code, 4, "{log}");
    assert!(log.contains("--http-address"), "{log}");
    let free_ports =
        ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0", "--remote-write.address=127.0.0.1:0"];
    let output = setup.output(&[&["standalone"], &free_ports[..]].concat());
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    perennial.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_is_there_and_what_is_not() {
    let setup = Setup::standalone().flags(&NOW_FLAGS);
    assert_eq!(setup.output(&["blocks", "ls"]).status.code(), Some(3), "no bucket is made by looking");
    let perennial = setup.start().await;
    write(&setup, &[series(1)]).await;
    perennial.flush().await;
    let listed: serde_json::Value =
        serde_json::from_str(&setup.command(&["blocks", "ls", "--output", "json"])).unwrap();
    let block = &listed[0];
    assert_eq!((block["samples"].as_i64(), block["series"].as_i64()), (Some(50), Some(1)), "{listed}");
    let id = block["id"].as_str().unwrap();
    assert!(setup.command(&["blocks", "ls"]).contains(id));
    let shown: serde_json::Value =
        serde_json::from_str(&setup.command(&["blocks", "inspect", id, "--output", "json"])).unwrap();
    assert_eq!(shown["sha256"].as_str().map(str::len), Some(64), "{shown}");
    let absent = setup.output(&["blocks", "inspect", "01M81CS08PS78Y0A1MAFVX1ZS4"]);
    assert_eq!(absent.status.code(), Some(3));
    let no_tenant = setup.output(&["sql-view", "--engine", "duckdb", "--tenant", "nobody"]);
    assert_eq!(no_tenant.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&no_tenant.stderr).contains("nobody"));
    perennial.stop();
}
