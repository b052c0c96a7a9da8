//! Queries end with their client, their deadline and the process.

use futures::StreamExt;
use tonic::{Code, Request};

use super::store_api::everything;
use super::*;
use crate::block::SeriesRun;
use crate::store::grpc::client_waits;
use crate::wire::store_api::store_server::Store;
use crate::wire::store_api::{LabelNamesRequest, SeriesRequest};

/// More label sets than the messages hold that may wait for a client.
async fn many(query_concurrency: usize, query_timeout: Duration) -> Fixture {
    let series = (0..20_000).map(|i| SeriesRun {
        labels: Labels::from_pairs([("__name__", "many".to_owned()), ("i", format!("{i:05}"))]).unwrap(),
        samples: vec![Sample::new(ms(0), 1.0)],
    });
    let external = Labels::empty();
    let producer = Producer { tenant: team("team-a"), external, series: series.collect() };
    let settings = StoreSettings { query_concurrency, query_timeout, ..fixture::settings() };
    Fixture::with(Place::Heads, vec![producer], settings).await
}

/// A message of 4,096 label sets has 64 frames of 64.
const fn frames_of(label_sets: usize) -> usize {
    label_sets.div_ceil(64)
}

fn label_sets() -> SeriesRequest {
    SeriesRequest { skip_chunks: true, ..everything() }
}

fn with_timeout<T>(message: T, text: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("grpc-timeout", text.parse().unwrap());
    request
}

#[tokio::test]
async fn a_client_that_goes_frees_its_place() {
    let fixture = many(1, Duration::from_secs(60)).await;
    let mut stalled = fixture.store().series(Request::new(label_sets())).await.unwrap().into_inner();
    stalled.next().await.unwrap().unwrap();
    // Nobody reads on, so the only place stays taken.
    let waiting = fixture.store().label_names(with_timeout(LabelNamesRequest::default(), "50m")).await;
    assert_eq!(waiting.unwrap_err().code(), Code::DeadlineExceeded);
    drop(stalled);
    let mut next = fixture.store().series(Request::new(label_sets())).await.unwrap().into_inner();
    let mut frames = 0;
    while let Some(frame) = next.next().await {
        frame.unwrap();
        frames += 1;
    }
    assert_eq!(frames, frames_of(20_000));
    assert!(fixture.metrics.render().contains("outcome=\"abandoned\"} 1"));
}

#[tokio::test]
async fn the_clients_deadline_and_the_query_timeout_end_a_query() {
    let fixture = many(4, Duration::from_secs(60)).await;
    let mut stream = fixture.store().series(with_timeout(label_sets(), "1S")).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut last = None;
    while let Some(frame) = stream.next().await {
        last = Some(frame);
    }
    let status = last.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("1000 ms"), "{}", status.message());

    let impatient = many(4, Duration::ZERO).await;
    let refused = impatient.store().label_names(Request::new(LabelNamesRequest::default())).await;
    assert_eq!(refused.unwrap_err().code(), Code::DeadlineExceeded);
    let mut stream = impatient.store().series(Request::new(label_sets())).await.unwrap().into_inner();
    assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stopping_process_ends_its_queries() {
    let fixture = many(4, Duration::from_secs(60)).await;
    let mut stream = fixture.store().series(Request::new(label_sets())).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    fixture.shutdown.start();
    let mut last = None;
    while let Some(frame) = stream.next().await {
        last = Some(frame);
    }
    assert_eq!(last.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[test]
fn every_unit_of_a_grpc_timeout_is_understood() {
    for (text, waits) in [
        ("2H", Some(Duration::from_secs(7_200))),
        ("3M", Some(Duration::from_secs(180))),
        ("120S", Some(Duration::from_secs(120))),
        ("99999999m", Some(Duration::from_millis(99_999_999))),
        ("5u", Some(Duration::from_micros(5))),
        ("7n", Some(Duration::from_nanos(7))),
        ("7x", None),
        ("n", None),
        ("-1S", None),
    ] {
        assert_eq!(client_waits(&with_timeout((), text)), waits, "{text}");
    }
    assert_eq!(client_waits(&Request::new(())), None);
}
