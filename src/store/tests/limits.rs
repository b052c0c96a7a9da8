//! Limits on what is asked and answered.

use http::StatusCode;
use tokio::sync::mpsc;

use super::fixture::settings;
use super::metadata::answer;
use super::remote_read::send_to;
use super::store_api::{everything, frames, label_set};
use super::*;
use crate::block::SeriesRun;
use crate::store::series_list::BATCH_SERIES;
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
