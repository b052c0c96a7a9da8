//! What an unmodified querier relies on beyond the shape of single answers.

use futures::StreamExt;
use tonic::{Code, Request};

use super::store_api::{everything, frames, names, names_request, producers};
use super::*;
use crate::select::SelectLimits;
use crate::wire::store_api::series_response::Result as Frame;
use crate::wire::store_api::store_server::Store;
use crate::wire::store_api::*;

#[tokio::test]
async fn endpoints_with_the_same_samples_answer_with_the_same_chunks() {
    // Queriers drop what they know by its hash, and retry elsewhere in the middle of an endpoint group.
    let mut answers = Vec::new();
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        answers.push(frames(&fixture, everything()).await.unwrap().concat());
    }
    assert_eq!(answers[0], answers[1], "heads and blocks");
    assert_eq!(answers[0], answers[2], "heads, and samples spread over both");
}

#[tokio::test]
async fn no_answer_carries_a_warning_whatever_the_strategy() {
    // Under ABORT a warning would fail the query.
    let fixture = Fixture::new(Place::Mixed, producers()).await;
    for strategy in [PartialResponseStrategy::Warn, PartialResponseStrategy::Abort] {
        let request = SeriesRequest { partial_response_strategy: strategy.into(), ..everything() };
        let mut stream = fixture.store().series(Request::new(request)).await.unwrap().into_inner();
        while let Some(frame) = stream.next().await {
            assert!(!matches!(frame.unwrap().result, Some(Frame::Warning(_)) | None));
        }
        let request = LabelNamesRequest {
            partial_response_strategy: strategy.into(),
            limit: 1,
            ..names_request(vec![])
        };
        let answer = fixture.store().label_names(Request::new(request)).await.unwrap().into_inner();
        assert!(answer.warnings.is_empty());
    }
}

#[tokio::test]
async fn a_limit_that_is_hit_is_resource_exhausted_before_any_series_is_sent() {
    let settings = StoreSettings {
        limits: SelectLimits { series_max: 2, samples_max: 0, bytes_max: 0 },
        ..fixture::settings()
    };
    let fixture = Fixture::with(Place::Blocks, producers(), settings).await;
    let mut stream = fixture.store().series(Request::new(everything())).await.unwrap().into_inner();
    let refused = stream.next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn hints_of_functions_and_coarser_resolutions_leave_raw_answers_as_they_are() {
    let fixture = Fixture::new(Place::Mixed, producers()).await;
    let plain = frames(&fixture, everything()).await.unwrap();
    let hints = QueryHints { projection_labels: vec!["job".to_owned()], ..QueryHints::default() };
    let request = SeriesRequest {
        max_resolution_window: 3_600_000,
        aggregates: vec![Aggr::Count.into(), Aggr::Sum.into()],
        query_hints: Some(hints),
        ..everything()
    };
    assert_eq!(frames(&fixture, request).await.unwrap(), plain);
}

#[tokio::test]
async fn the_tenant_of_the_call_does_not_narrow_it_and_a_matcher_does() {
    // Thanos Query names a tenant with every call and enforces tenancy with a matcher.
    let fixture = Fixture::new(Place::Mixed, producers()).await;
    let mut request = Request::new(names_request(vec![]));
    request.metadata_mut().insert("thanos-tenant", "team-b".parse().unwrap());
    let all = fixture.store().label_names(request).await.unwrap().into_inner().names;
    assert_eq!(all, names(&fixture, names_request(vec![])).await);
    let only = LabelMatcher { r#type: 0, name: "tenant_id".to_owned(), value: "team-b".to_owned() };
    assert!(names(&fixture, names_request(vec![only])).await.len() < all.len());
}
