//! Bytes kept for an hour of real exporters.

use super::servers::{VictoriaMetrics, bytes_below};
use super::support::recording::recordings;
use super::support::{RemoteWrite, SampleSet, Series, Setup, client, recording};
use super::table::{Table, verdict};

const SLICE_MS: i64 = 60_000;
const CUT_MS: i64 = 30 * 60_000;
const SERIES_A_REQUEST: usize = 500;
const ONE_FLUSH_MAX: f64 = 0.30;
const THINNED_MAX: f64 = 0.80;
const THINNED_EVERY: usize = 15;

pub(crate) async fn measure(table: &mut Table) {
    let Some(held) = recording("bytes kept") else { return };
    let figure = "recording-1, B/sample";

    let kept = perennial_bytes(&held, i64::MAX).await;
    table.add(figure, "Perennial, one flush", format!("{kept:.4}"), verdict(kept <= ONE_FLUSH_MAX, "0.30"));
    if let Some(server) = VictoriaMetrics::start().await {
        send(&held, i64::MIN, i64::MAX, &RemoteWrite::new(&server.url("/api/v1/write"))).await;
        let merged = client().get(server.url("/internal/force_flush")).send().await.unwrap();
        assert!(merged.status().is_success());
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        client().get(server.url("/internal/force_merge")).send().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(15)).await;
        let kept = bytes_below(&server.data_dir()) as f64 / held.samples() as f64;
        table.add(figure, "VictoriaMetrics, merged, with index", format!("{kept:.4}"), String::new());
    }
    let blocks = bytes_below(&recordings().join("recording-1/tsdb")) as f64 / held.samples() as f64;
    table.add(figure, "Prometheus' blocks", format!("{blocks:.4}"), String::new());

    let thinned = thinned(&held);
    let kept = perennial_bytes(&thinned, CUT_MS).await;
    table.add(
        "recording-1 thinned to 15 s, cut every 30 m, B/sample",
        "Perennial",
        format!("{kept:.4}"),
        verdict(kept <= THINNED_MAX, "0.80"),
    );
}

fn thinned(held: &SampleSet) -> SampleSet {
    let mut kept = SampleSet::default();
    for (labels, samples) in &held.series {
        kept.append(labels.clone(), samples.iter().step_by(THINNED_EVERY).copied());
    }
    kept
}

fn bounds(held: &SampleSet) -> (i64, i64) {
    let times = || held.series.values().flatten().map(|s| s.0);
    (times().min().unwrap(), times().max().unwrap())
}

/// Writes everything with a cut after every `cut_ms` of it and returns the bytes in the bucket per sample.
async fn perennial_bytes(held: &SampleSet, cut_ms: i64) -> f64 {
    let setup = Setup::standalone().flags(&["--ingest.max-age=100y"]);
    let perennial = setup.start().await;
    let (first, last) = bounds(held);
    let mut start = first;
    while start <= last {
        let end = start.saturating_add(cut_ms);
        send(held, start, end, &setup.remote_write()).await;
        perennial.flush().await;
        start = end;
    }
    let bytes = bytes_below(&setup.bucket_dir());
    perennial.stop();
    bytes as f64 / held.samples() as f64
}

/// Sends the samples of `[start, end)` a minute at a time.
pub(crate) async fn send(held: &SampleSet, start: i64, end: i64, remote: &RemoteWrite) {
    send_slices(held, (start, end), SLICE_MS, remote).await;
}

/// Sends all samples, as many milliseconds of them at a time.
pub(crate) async fn send_every(held: &SampleSet, slice_ms: i64, remote: &RemoteWrite) {
    send_slices(held, (i64::MIN, i64::MAX), slice_ms, remote).await;
}

async fn send_slices(held: &SampleSet, (start, end): (i64, i64), slice_ms: i64, remote: &RemoteWrite) {
    let (first, last) = bounds(held);
    let mut slice = first.max(start);
    while slice <= last && slice < end {
        let until = (slice + slice_ms).min(end);
        let series: Vec<Series> = held
            .series
            .iter()
            .filter_map(|(labels, samples)| {
                let from = samples.partition_point(|s| s.0 < slice);
                let to = samples.partition_point(|s| s.0 < until);
                (from < to).then(|| Series { labels: labels.clone(), samples: samples[from..to].to_vec() })
            })
            .collect();
        for request in series.chunks(SERIES_A_REQUEST) {
            let ack = remote.send(request).await.unwrap();
            assert!(ack.status < 300, "{} {}", ack.status, ack.body);
        }
        slice = until;
    }
}
