//! What an unmodified querier relies on beyond the shape of single answers.

use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use tonic::{Code, Request};

use super::kinds::{Kinds, exemplar};
use super::store_api::{
    everything, frames, label_set, matcher, names, names_request, producers, run, values,
};
use super::*;
use crate::block::SeriesRun;
use crate::select::SelectLimits;
use crate::store::exemplars::ExemplarsApi;
use crate::wire::store_api::exemplars_server::Exemplars;
use crate::wire::store_api::label_matcher::Type;
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

/// Two replicas of two series, told apart by an external label; the second replica lacks `only_first`.
fn replicas() -> Vec<Producer> {
    let series = |names: &[&str]| {
        names.iter().map(|name| run(&[("__name__", *name)], 0..10, |s| s as f64)).collect::<Vec<_>>()
    };
    let replica = |name: &str, names: &[&str]| Producer {
        tenant: team("team-a"),
        external: labels(&[("replica", name)]),
        series: series(names),
    };
    vec![replica("r1", &["a", "b", "only_first"]), replica("r2", &["a", "b"])]
}

fn hiding_replicas() -> SeriesRequest {
    SeriesRequest { without_replica_labels: vec!["replica".to_owned()], ..everything() }
}

async fn names_sent(fixture: &Fixture, request: SeriesRequest) -> Vec<String> {
    let sent = frames(fixture, request).await.unwrap().concat();
    let sets = sent.iter().map(|series| label_set(&series.labels));
    sets.map(|set| {
        assert_eq!(set.get("replica"), None);
        set.metric_name().to_owned()
    })
    .collect()
}

#[tokio::test]
async fn a_matcher_on_a_replica_label_counts_though_the_label_is_dropped() {
    let fixture = Fixture::new(Place::Blocks, replicas()).await;
    let mut request = hiding_replicas();
    request.matchers.push(matcher(Type::Eq, "replica", "r2"));
    assert_eq!(names_sent(&fixture, request).await, ["a", "b"]);
    let mut request = hiding_replicas();
    request.matchers.push(matcher(Type::Neq, "replica", "r2"));
    assert_eq!(names_sent(&fixture, request).await, ["a", "b", "only_first"]);
}

#[tokio::test]
async fn label_sets_of_replicas_come_once_where_chunks_are_skipped() {
    let fixture = Fixture::new(Place::Blocks, replicas()).await;
    let request = SeriesRequest { skip_chunks: true, ..hiding_replicas() };
    assert_eq!(names_sent(&fixture, request).await, ["a", "b", "only_first"]);
    let request = SeriesRequest { skip_chunks: true, limit: 2, ..hiding_replicas() };
    assert_eq!(names_sent(&fixture, request).await, ["a", "b"]);
}

#[tokio::test]
async fn replicas_fall_into_one_shard_once_their_label_is_dropped() {
    // The hash runs over what is sent: with the label, or that of the producer left out, copies would part.
    let fixture = Fixture::new(Place::Blocks, replicas()).await;
    let mut all = Vec::new();
    for shard_index in 0..5 {
        let shard = ShardInfo { shard_index, total_shards: 5, by: false, labels: Vec::new() };
        let request = SeriesRequest { shard_info: Some(shard), ..hiding_replicas() };
        for set in frames(&fixture, request).await.unwrap().concat() {
            let set = label_set(&set.labels);
            let mut hashed = Vec::new();
            for (name, value) in set.iter() {
                hashed.extend([name.as_bytes(), &[0xFF], value.as_bytes(), &[0xFF]].concat());
            }
            assert_eq!(xxhash_rust::xxh64::xxh64(&hashed, 0) % 5, shard_index as u64, "{set}");
            all.push(set.metric_name().to_owned());
        }
    }
    all.sort();
    assert_eq!(all, ["a", "a", "b", "b", "only_first"]);
}

#[tokio::test]
async fn label_values_keep_to_their_time() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let within = |from, to| LabelNamesRequest { start: ms(from), end: ms(to), ..names_request(vec![]) };
        assert_eq!(values(&fixture, "__name__", within(0, 2)).await.len(), 5, "{place:?}");
        let late = values(&fixture, "__name__", within(260, 280)).await;
        assert_eq!(late, ["up"], "{place:?}");
        assert_eq!(values(&fixture, "tenant_id", within(100, 100)).await, ["team-a", "team-b"]);
        assert_eq!(values(&fixture, "zone", within(30, 280)).await, Vec::<String>::new());
        assert_eq!(values(&fixture, "cluster", within(10_000, 20_000)).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn each_limit_on_bytes_is_resource_exhausted_for_series_and_exemplars() {
    let random = random_from_seed(5);
    let noisy = (0..60_000).map(|s| Sample::new(ms(s) / 10, f64::from_bits(random.next_u64() >> 2)));
    let noisy = SeriesRun { labels: labels(&[("__name__", "noise")]), samples: noisy.collect() };
    let traces = (0..40_000).map(|s| {
        let trace = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
        exemplar(s / 10, &trace, 1.0)
    });
    let exemplars = vec![(labels(&[("__name__", "noise")]), traces.collect())];
    let kinds = Kinds { exemplars, ..Kinds::default() };
    let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series: vec![noisy] };
    for (bytes_max, code) in [(0, None), (20_000, Some(Code::ResourceExhausted))] {
        let limits = SelectLimits { bytes_max, ..SelectLimits::NONE };
        let settings = StoreSettings { limits, ..fixture::settings() };
        let (producers, kinds) = (vec![producer.clone()], kinds.clone());
        let fixture = Fixture::with_kinds(Place::Blocks, producers, settings, kinds).await;
        let refused = frames(&fixture, everything()).await.err();
        assert_eq!(refused.as_ref().map(tonic::Status::code), code, "{refused:?}");
        let api = ExemplarsApi(Arc::clone(&fixture.reads.0));
        let (start, end) = (i64::MIN, i64::MAX);
        let request = ExemplarsRequest { query: "noise".to_owned(), start, end, ..Default::default() };
        let refused = api.exemplars(Request::new(request)).await.err();
        assert_eq!(refused.as_ref().map(tonic::Status::code), code, "{refused:?}");
        for text in refused.iter().map(tonic::Status::message) {
            assert!(text.contains("--store.grpc.downloaded-bytes-limit"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_limit_on_series_holds_for_exemplars() {
    let of = |name: &str| (labels(&[("__name__", "x"), ("n", name)]), vec![exemplar(1, name, 1.0)]);
    let kinds = Kinds { exemplars: vec![of("1"), of("2"), of("3")], ..Kinds::default() };
    let settings =
        StoreSettings { limits: SelectLimits { series_max: 2, ..SelectLimits::NONE }, ..fixture::settings() };
    let fixture = Fixture::with_kinds(Place::Heads, replicas()[..1].to_vec(), settings, kinds).await;
    let api = ExemplarsApi(Arc::clone(&fixture.reads.0));
    for (query, code) in [("x", Some(Code::ResourceExhausted)), ("x{n!=\"3\"}", None)] {
        let (start, end) = (i64::MIN, i64::MAX);
        let request = ExemplarsRequest { query: query.to_owned(), start, end, ..Default::default() };
        let refused = api.exemplars(Request::new(request)).await.err();
        assert_eq!(refused.map(|status| status.code()), code, "{query}");
    }
}

#[tokio::test]
async fn what_a_damaged_or_missing_block_holds_is_never_left_out_in_silence() {
    for (gone, code) in [(false, Code::DataLoss), (true, Code::Unavailable)] {
        let fixture = Fixture::new(Place::Mixed, producers()).await;
        let blocks: Vec<_> =
            fixture.objects.list(None).map(|object| object.unwrap().location).collect().await;
        let block = blocks.iter().find(|path| path.as_ref().contains("team-b/blocks/")).unwrap();
        if gone {
            fixture.objects.delete(block).await.unwrap();
        } else {
            let whole = fixture.objects.get(block).await.unwrap().bytes().await.unwrap();
            fixture.objects.put(block, vec![7; whole.len()].into()).await.unwrap();
        }
        let refused = frames(&fixture, everything()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        let id = block.filename().unwrap().trim_end_matches(".parquet");
        assert!(refused.message().contains(id), "{refused}");
        let refused = fixture.store().label_names(Request::new(names_request(vec![]))).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        let mut whole = everything();
        whole.matchers.push(matcher(Type::Eq, "tenant_id", "team-a"));
        assert_eq!(frames(&fixture, whole).await.unwrap().concat().len(), 7, "other tenants are served");
    }
}
