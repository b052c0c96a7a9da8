//! Drills against a real Prometheus: what they prove, and that they say so where they prove nothing.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    ArchiverSetup, Load, LocalBucket, SOURCE, TsdbOptions, TsdbServer, assert_code, installed, now_ms,
    path_text, time_text,
};

/// Drills a time; returns what it came to.
fn drill(bucket: &LocalBucket, as_of_ms: i64, code: i32, what: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_perennial"))
        .args(["archive", "drill", SOURCE, "--as-of", &time_text(as_of_ms), "--to", path_text(folder.path())])
        .arg(format!("--objstore.config={}", bucket.config()))
        .args(["--output", "json"])
        .output()
        .unwrap();
    assert_code(&output, code, what);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Archives a server under load of samples in order; returns a time at which all of it was known.
async fn archive_a_while(
    server: &TsdbServer,
    bucket: &LocalBucket,
    digest_range: &str,
    load: Duration,
) -> i64 {
    let flag = format!("--digest.range={digest_range}");
    let archiver = ArchiverSetup::new(server, &bucket.config()).flags(&[&flag]).start().await;
    let writing = Load::start_in_order(server.remote_write(), 5, Duration::from_millis(100));
    tokio::time::sleep(load).await;
    writing.stop().await;
    archiver.catch_up().await;
    let at_ms = now_ms();
    archiver.catch_up().await;
    archiver.stop();
    at_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_without_anything_to_compare_is_no_success() {
    if !installed("a_drill_without_anything_to_compare_is_no_success", &["prometheus", "promtool"]) {
        return;
    }
    let bucket = LocalBucket::new();
    let mut server = TsdbServer::new(TsdbOptions::default());
    server.start().await;
    let early_ms = archive_a_while(&server, &bucket, "1h", Duration::from_secs(1)).await;
    assert_eq!(drill(&bucket, early_ms, 6, "no digests yet")["ranges"], 0);

    // The server takes late samples, and none has come.
    let whole_ms = archive_a_while(&server, &bucket, "2s", Duration::from_secs(12)).await;
    let proven = drill(&bucket, whole_ms, 0, "whole ranges");
    assert!(
        proven["ranges"].as_u64().unwrap() > 0 && proven["equal_samples"].as_u64().unwrap() > 0,
        "{proven}"
    );
    assert_eq!((&proven["late_series"], &proven["deleted_series"]), (&0.into(), &0.into()), "{proven}");

    let archiver = ArchiverSetup::new(&server, &bucket.config()).start().await;
    server.delete_series("{__name__=~\".+\"}").await;
    archiver.catch_up().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let deleted_ms = now_ms();
    archiver.catch_up().await;
    archiver.stop();
    server.stop();
    let deleted = drill(&bucket, deleted_ms, 6, "all was deleted");
    assert!(deleted["deleted_series"].as_u64().unwrap() > 0, "{deleted}");
    assert_eq!(deleted["differences"], Value::Array(Vec::new()), "{deleted}");
    drill(&bucket, whole_ms, 0, "before the delete");
}
