//! Limits on what is asked and answered.

use http::StatusCode;
use tokio::sync::mpsc;

use super::fixture::settings;
use super::kinds::Kinds;
use super::metadata::answer;
use super::remote_read::send_to;
use super::store_api::{everything, frames, label_set};
use super::*;
use crate::block::{HistogramRun, SeriesRun};
use crate::store::series_list::{BATCH_SERIES, BatchReader, SeriesList};
use crate::wire::store_api::SeriesRequest;

fn one_sample(pairs: &[(&str, &str)]) -> SeriesRun {
    SeriesRun { labels: labels(pairs), samples: vec![Sample::new(ms(0), 1.0)] }
}

#[tokio::test]
async fn a_limit_of_a_whole_batch_keeps_both_replicas_of_the_last_series() {
    let mut series: Vec<SeriesRun> =
        (1..BATCH_SERIES).map(|i| one_sample(&[("__name__", "many"), ("i", &format!("{i:05}"))])).collect();
    series.extend(["a", "b"].map(|replica| one_sample(&[("__name__", "twice"), ("replica", replica)])));
    let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series };
    let fixture = Fixture::with(Place::Heads, vec![producer], settings()).await;
    for limit in [BATCH_SERIES as i64, BATCH_SERIES as i64 + 1] {
        let without_replica_labels = vec!["replica".to_owned()];
        let request = SeriesRequest { limit, without_replica_labels, ..everything() };
        let sent = frames(&fixture, request).await.unwrap().concat();
        let last: Vec<Labels> = sent.iter().rev().take(2).map(|s| label_set(&s.labels)).collect();
        let twice = labels(&[("__name__", "twice"), ("tenant_id", "team-a")]);
        assert_eq!((sent.len(), last), (BATCH_SERIES + 1, vec![twice.clone(), twice]), "limit {limit}");
    }
}

#[tokio::test]
async fn label_sets_beyond_the_limit_are_not_walked() {
    let series = (0..10_000).map(|i| one_sample(&[("__name__", "many"), ("i", &format!("{i:05}"))]));
    let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series: series.collect() };
    let fixture = Fixture::with(Place::Heads, vec![producer], settings()).await;
    let (sink, mut messages) = mpsc::channel(16);
    let request = SeriesRequest { limit: 1, skip_chunks: true, ..everything() };
    fixture.reads.0.answer_series(&request, &sink).await.unwrap();
    drop(sink);
    let mut frames = Vec::new();
    while let Some(message) = messages.recv().await {
        frames.push(message.unwrap().len());
    }
    assert_eq!(frames, [1]);
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_and_not_malformed() {
    let fixture = Fixture::new(Place::Heads, Vec::new()).await;
    let (status, _, body) = send_to(&fixture, "/api/v1/read", vec![0; 5 << 20], None).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(String::from_utf8(body).unwrap().contains("4194304 bytes"));
    let form = http::Request::post("/api/v1/series")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(axum::body::Body::from(vec![b'a'; 2 << 20]))
        .unwrap();
    let (status, body) = answer(&fixture, form).await;
    assert_eq!((status, body["errorType"].as_str()), (StatusCode::PAYLOAD_TOO_LARGE, Some("bad_data")));
}

/// Whole counts in 160 buckets, some of them one observation more than in the sample before.
fn histogram(series: i64, second: i64) -> HistogramSample {
    let deltas = (0..160).map(|bucket| (series * 31 + second * 7 + bucket) % 5 - 2);
    let histogram = Histogram {
        count: 1_000,
        positive_spans: vec![Span { offset: 0, length: 160 }],
        positive_buckets: deltas.collect(),
        ..Histogram::default()
    };
    HistogramSample { ts_ms: ms(second), start_ms: 0, histogram: NativeHistogram::Int(Box::new(histogram)) }
}

fn read_bytes(data: &SeriesData) -> usize {
    let histograms = data.histograms.iter().map(HistogramSample::memory_bytes);
    size_of_val(data.samples.as_slice()) + histograms.sum::<usize>()
}

#[tokio::test]
async fn batches_of_histograms_are_bounded_by_their_bytes_and_known_before_they_are_read() {
    let run = |series: i64| HistogramRun {
        labels: labels(&[("__name__", "latency"), ("i", &format!("{series:02}"))]),
        histograms: (0..200).map(|second| histogram(series, second)).collect(),
    };
    let kinds = Kinds { histograms: (0..60).map(run).collect(), ..Kinds::default() };
    let all_bytes: usize =
        kinds.histograms.iter().flat_map(|run| &run.histograms).map(HistogramSample::memory_bytes).sum();
    assert!(all_bytes > 16 << 20);
    for place in [Place::Heads, Place::Blocks] {
        let series = vec![one_sample(&[("__name__", "up")])];
        let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series };
        let fixture = Fixture::with_kinds(place, vec![producer], settings(), kinds.clone()).await;
        let shared = &fixture.reads.0;
        let budget = shared.budget(true);
        let found = shared.select_all(&[], TimeRange::ALL, &budget).await.unwrap();
        let list = Arc::new(SeriesList::new(found, &[], None, &shared.settings.memory));
        let mut reader = BatchReader::new(Arc::clone(&list), 0);
        let mut batches: Vec<usize> = Vec::new();
        while let Some(batch) = reader.read().await.unwrap() {
            batches.push(batch.iter().flat_map(|(_, parts)| parts).map(read_bytes).sum());
        }
        assert_eq!(batches.iter().sum::<usize>(), all_bytes + size_of::<Sample>(), "{place:?}");
        assert!(batches.iter().all(|bytes| *bytes <= 6 << 20), "{place:?} {batches:?}");
        let two = batches.windows(2).map(|two| two[0] + two[1]).max().unwrap() as u64;
        let told = list.two_batches_bytes_max(0);
        assert!((two..two * 5 / 4).contains(&told), "{place:?} {told} for {two}");
    }
}

#[tokio::test]
async fn one_long_series_takes_its_memory_before_it_is_read_or_is_refused() {
    let run = SeriesRun {
        labels: labels(&[("__name__", "long")]),
        samples: (0..400_000).map(|second| Sample::new(ms(second), 1.0)).collect(),
    };
    let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series: vec![run] };
    for (limit_bytes, is_enough) in [(12 << 20, false), (24 << 20, true)] {
        let memory = Memory::new(limit_bytes, &Metrics::new());
        let settings = StoreSettings { memory, ..settings() };
        let fixture = Fixture::with(Place::Heads, vec![producer.clone()], settings).await;
        let sent = frames(&fixture, everything()).await;
        match sent {
            Ok(sent) => assert!(is_enough && !sent.is_empty()),
            Err(status) => {
                assert!(!is_enough && status.code() == tonic::Code::ResourceExhausted, "{status}");
                assert!(status.message().contains("--memory-limit"), "{status}");
            }
        }
    }
}

#[tokio::test]
async fn a_query_that_finds_no_memory_begins_once_more_when_others_gave_theirs_back() {
    let run = SeriesRun {
        labels: labels(&[("__name__", "long")]),
        samples: (0..400_000).map(|second| Sample::new(ms(second), 1.0)).collect(),
    };
    let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series: vec![run] };
    let memory = Memory::new(24 << 20, &Metrics::new());
    let settings = StoreSettings { memory: memory.clone(), ..settings() };
    let fixture = Fixture::with(Place::Heads, vec![producer], settings).await;
    let others = memory.reserve(MemoryUse::Queries, 15 << 20).unwrap();
    let give_back = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(others);
    };
    let (sent, ()) = tokio::join!(frames(&fixture, everything()), give_back);
    assert!(!sent.unwrap().is_empty());
}
