//! An hour of real exporters, recorded, through the whole path: once on the local folder and once on S3.

use std::path::Path;
use std::sync::Arc;

use crate::support::{Answer, Python, RemoteWrite, S3Server, SampleSet, Series, Setup, recording};

const TENANT: &str = "default-tenant";
const SLICE_MS: i64 = 60_000;
const SERIES_A_REQUEST: usize = 200;
const SENDERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn the_recording_comes_back_bit_for_bit_from_a_local_folder() {
    let test = "the_recording_comes_back_bit_for_bit_from_a_local_folder";
    let Some(python) = Python::find(test) else { return };
    let Some(held) = recording(test) else { return };
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]);
    through(&setup, held, &python, &setup.bucket_dir()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recording_comes_back_bit_for_bit_from_s3() {
    let test = "the_recording_comes_back_bit_for_bit_from_s3";
    let Some(python) = Python::find(test) else { return };
    let Some(held) = recording(test) else { return };
    let server = S3Server::start(&python).await;
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]).bucket(&server.objstore_config());
    let copy = setup.folder().join("copy");
    through_s3(&setup, held, &python, &server, &copy).await;
}

async fn through(setup: &Setup, held: SampleSet, python: &Python, bucket: &Path) {
    let held = Arc::new(held);
    let perennial = setup.start().await;
    send_all(setup, &held).await;
    perennial.flush().await;
    compare_served(setup, &held).await;
    perennial.stop();
    held.assert_same(&python.duckdb_samples(setup, TENANT), "DuckDB over sql-view");
    held.assert_same(&python.parquet_samples(bucket, TENANT, setup.folder()), "pyarrow");
}

async fn through_s3(setup: &Setup, held: SampleSet, python: &Python, server: &S3Server, copy: &Path) {
    let held = Arc::new(held);
    let perennial = setup.start().await;
    send_all(setup, &held).await;
    perennial.flush().await;
    compare_served(setup, &held).await;
    perennial.stop();
    // A new process has only the bucket to answer from.
    let perennial = setup.start().await;
    compare_served(setup, &held).await;
    perennial.stop();
    python.mirror(server, copy);
    held.assert_same(
        &python.parquet_samples(copy, TENANT, setup.folder()),
        "pyarrow over a copy of the S3 bucket",
    );
}

/// Sends everything in slices of time, as senders with several shards would.
async fn send_all(setup: &Setup, held: &Arc<SampleSet>) {
    let series: Arc<Vec<_>> = Arc::new(held.series.iter().map(|(l, s)| (l.clone(), s.clone())).collect());
    let first = series.iter().map(|(_, s)| s[0].0).min().unwrap();
    let last = series.iter().map(|(_, s)| s[s.len() - 1].0).max().unwrap();
    let senders = (0..SENDERS).map(|sender| {
        let (series, remote) = (Arc::clone(&series), setup.remote_write());
        tokio::spawn(async move {
            for start in (first..=last).step_by(usize::try_from(SLICE_MS).unwrap()) {
                let own = series.iter().skip(sender).step_by(SENDERS);
                let slices: Vec<Series> = own.filter_map(|(l, s)| slice(l, s, start)).collect();
                for request in slices.chunks(SERIES_A_REQUEST) {
                    send(&remote, request).await;
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

fn slice(labels: &[(String, String)], samples: &[(i64, u64)], start: i64) -> Option<Series> {
    let from = samples.partition_point(|s| s.0 < start);
    let to = samples.partition_point(|s| s.0 < start + SLICE_MS);
    (from < to).then(|| Series { labels: labels.to_vec(), samples: samples[from..to].to_vec() })
}

async fn send(remote: &RemoteWrite, request: &[Series]) {
    let ack = remote.send(request).await.unwrap();
    assert_eq!(ack.status, 204, "{}", ack.body);
    let sent: usize = request.iter().map(|s| s.samples.len()).sum();
    assert_eq!(ack.samples_written, Some(sent as u64), "the header counts what was written");
}

async fn compare_served(setup: &Setup, held: &SampleSet) {
    let read = setup.remote_read().all(i64::MIN / 2, i64::MAX / 2, Answer::Streamed).await;
    held.assert_same(&read, "remote read, streamed chunks");
    let store = setup.store_api().await.all(i64::MIN / 2, i64::MAX / 2).await;
    held.assert_same(&store.without_labels(&["tenant_id"]), "StoreAPI");
}
