//! The StoreAPI contract, held for heads, blocks and both.

use futures::StreamExt;
use tonic::{Code, Request, Status};

use super::*;
use crate::block::SeriesRun;
use crate::select::SelectLimits;
use crate::store::grpc::StoreApi;
use crate::tsdb::XorDecoder;
use crate::wire::store_api::series_response::Result as Frame;
use crate::wire::store_api::store_server::Store;
use crate::wire::store_api::*;

const NAN_PAYLOAD: f64 = f64::from_bits(0x7ff8_0000_dead_beef);
const STALE: f64 = f64::from_bits(STALE_MARKER_BITS);

impl Fixture {
    pub(super) fn store(&self) -> StoreApi {
        StoreApi(Arc::clone(&self.reads.0))
    }
}

pub(super) fn run(
    pairs: &[(&str, &str)],
    seconds: std::ops::Range<i64>,
    value: impl Fn(i64) -> f64,
) -> SeriesRun {
    let samples = seconds.map(|s| Sample::new(ms(s), value(s))).collect();
    SeriesRun { labels: labels(pairs), samples }
}

/// Two tenants with series whose order changes once labels are added, odd values and an own `cluster` label.
pub(super) fn producers() -> Vec<Producer> {
    let external = labels(&[("cluster", "lab"), ("replica", "a")]);
    let odd = |s: i64| match s % 5 {
        0 => STALE,
        1 => NAN_PAYLOAD,
        2 => -0.0,
        3 => f64::NEG_INFINITY,
        _ => s as f64 / 10.0,
    };
    let a = vec![
        run(&[("__name__", "up")], 0..300, |_| 1.0),
        run(&[("__name__", "up"), ("instance", "x"), ("job", "node")], 0..300, |s| s as f64),
        run(&[("__name__", "up"), ("instance", "x"), ("zone", "z")], 10..20, odd),
        run(&[("__name__", "odd"), ("job", "node")], 0..250, odd),
        run(&[("Upper", "1"), ("__name__", "zz"), ("é.name", "ü")], 0..3, |s| s as f64 * 1e300),
        run(&[("__name__", "own"), ("cluster", "mine"), ("tenant_id", "me")], 0..130, |s| s as f64),
        run(&[("__name__", "replicated"), ("replica", "own")], 0..5, |s| s as f64),
    ];
    let b = vec![
        run(&[("__name__", "up"), ("instance", "x"), ("job", "node")], 0..300, |s| -(s as f64)),
        run(&[("__name__", "only_b")], 100..101, |_| 7.0),
    ];
    vec![
        Producer { tenant: team("team-a"), external: external.clone(), series: a },
        Producer { tenant: team("team-b"), external, series: b },
    ]
}

pub(super) fn matcher(kind: label_matcher::Type, name: &str, value: &str) -> LabelMatcher {
    LabelMatcher { r#type: kind.into(), name: name.to_owned(), value: value.to_owned() }
}

use label_matcher::Type::{Eq, Neq, Nre, Re};

pub(super) fn everything() -> SeriesRequest {
    SeriesRequest {
        min_time: i64::MIN,
        max_time: i64::MAX,
        matchers: vec![matcher(Nre, "__name__", "")],
        response_batch_size: 64,
        ..SeriesRequest::default()
    }
}

/// The frames of an answer, as (number of series, series).
pub(super) async fn frames(fixture: &Fixture, request: SeriesRequest) -> Result<Vec<Vec<Series>>, Status> {
    let mut stream = fixture.store().series(Request::new(request)).await?.into_inner();
    let mut frames = Vec::new();
    while let Some(frame) = stream.next().await {
        let series = match frame?.result.expect("a frame holds something") {
            Frame::Series(series) => vec![series],
            Frame::Batch(batch) => batch.series,
            other => panic!("unexpected frame {other:?}"),
        };
        frames.push(series.iter().map(|s| s.decode().unwrap()).collect());
    }
    Ok(frames)
}

pub(super) fn label_set(pairs: &[Label]) -> Labels {
    assert!(pairs.windows(2).all(|w| w[0].name < w[1].name), "labels are sorted and unique");
    Labels::from_pairs(pairs.iter().map(|l| (&l.name, &l.value))).unwrap()
}

/// Checks what every answer must hold and joins a series' frames.
pub(super) async fn series(fixture: &Fixture, request: SeriesRequest) -> Result<Answer, Status> {
    let mut answer = Answer::new();
    for series in frames(fixture, request).await?.into_iter().flatten() {
        let set = label_set(&series.labels);
        assert!(!series.chunks.is_empty(), "{set} has no chunks");
        let mut samples = Vec::new();
        for chunk in &series.chunks {
            let raw = chunk.raw.as_ref().expect("raw chunks only");
            assert_eq!(raw.hash, xxhash_rust::xxh64::xxh64(&raw.data, 0));
            let decoded: Vec<(i64, f64)> = XorDecoder::new(&raw.data).map(Result::unwrap).collect();
            assert!((1..=120).contains(&decoded.len()));
            assert_eq!(chunk.min_time, decoded[0].0);
            assert_eq!(chunk.max_time, decoded[decoded.len() - 1].0);
            samples.extend(decoded.into_iter().map(|(ts, value)| (ts, value.to_bits())));
        }
        match answer.last_mut() {
            Some((last, before)) if *last == set => before.extend(samples),
            Some((last, _)) => {
                assert!(*last < set, "{last} came before {set}");
                answer.push((set, samples));
            }
            None => answer.push((set, samples)),
        }
    }
    Ok(answer)
}

/// What a request must bring, worked out the long way.
fn expected(
    fixture: &Fixture,
    range: std::ops::RangeInclusive<i64>,
    keep: impl Fn(&Labels) -> bool,
    drop: &[String],
) -> Answer {
    let mut answer = Answer::new();
    for producer in &fixture.producers {
        let tenant = labels(&[("tenant_id", producer.tenant.as_str())]);
        let added = producer.external.with_external(&tenant, &[]);
        for run in &producer.series {
            let samples: Vec<Sample> =
                run.samples.iter().filter(|s| range.contains(&s.ts_ms)).copied().collect();
            if keep(&run.labels.with_external(&added, &[])) && !samples.is_empty() {
                answer.push((run.labels.with_external(&added, drop), bits(&samples)));
            }
        }
    }
    answer.sort_by(|a, b| a.0.cmp(&b.0));
    answer
}

#[tokio::test]
async fn series_carry_external_and_tenant_labels_and_are_sorted_by_the_final_set() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let answer = series(&fixture, everything()).await.unwrap();
        assert_eq!(answer, expected(&fixture, i64::MIN..=i64::MAX, |_| true, &[]), "{place:?}");
        assert_eq!(answer.len(), 9);
        let own = answer.iter().find(|(l, _)| l.metric_name() == "own").unwrap();
        assert_eq!((own.0.get("cluster"), own.0.get("tenant_id")), (Some("lab"), Some("team-a")));
    }
}

#[tokio::test]
async fn replica_labels_are_dropped_before_sorting_even_where_series_have_them_themselves() {
    let drop = vec!["replica".to_owned(), "instance".to_owned()];
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let request = SeriesRequest { without_replica_labels: drop.clone(), ..everything() };
        let answer = series(&fixture, request).await.unwrap();
        assert!(answer.iter().all(|(l, _)| l.get("replica").is_none() && l.get("instance").is_none()));
        assert_eq!(answer, expected(&fixture, i64::MIN..=i64::MAX, |_| true, &drop), "{place:?}");
    }
}

#[tokio::test]
async fn replicas_of_different_producers_come_out_side_by_side() {
    let replica = |name: &str, value: f64| Producer {
        tenant: team("team-a"),
        external: labels(&[("replica", name)]),
        series: vec![
            run(&[("__name__", "a")], 0..10, |_| value),
            run(&[("__name__", "b")], 0..10, |_| value),
        ],
    };
    let fixture = Fixture::new(Place::Blocks, vec![replica("r1", 1.0), replica("r2", 2.0)]).await;
    let drop = vec!["replica".to_owned()];
    let request = SeriesRequest { without_replica_labels: drop, ..everything() };
    let sets: Vec<Labels> = frames(&fixture, request.clone())
        .await
        .unwrap()
        .concat()
        .iter()
        .map(|s| label_set(&s.labels))
        .collect();
    let (a, b) = (
        labels(&[("__name__", "a"), ("tenant_id", "team-a")]),
        labels(&[("__name__", "b"), ("tenant_id", "team-a")]),
    );
    assert_eq!(sets, [a.clone(), a.clone(), b.clone(), b]);
    // Both halves of a set count once towards a limit, and neither is lost.
    let limited = SeriesRequest { limit: 1, ..request };
    let sets: Vec<Labels> =
        frames(&fixture, limited).await.unwrap().concat().iter().map(|s| label_set(&s.labels)).collect();
    assert_eq!(sets, [a.clone(), a]);
}

#[tokio::test]
async fn shards_partition_the_series_exactly() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let whole = series(&fixture, everything()).await.unwrap();
        for (by, names) in [(true, vec!["__name__"]), (false, vec!["tenant_id"]), (false, vec![])] {
            let mut parts = Answer::new();
            for shard_index in 0..3 {
                let labels = names.iter().map(|n| (*n).to_owned()).collect();
                let shard_info = Some(ShardInfo { shard_index, total_shards: 3, by, labels });
                parts.extend(series(&fixture, SeriesRequest { shard_info, ..everything() }).await.unwrap());
            }
            parts.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(parts, whole, "{place:?} by={by} {names:?}");
        }
    }
}

#[tokio::test]
async fn all_four_matcher_kinds_see_own_external_and_absent_labels() {
    let cases: &[(label_matcher::Type, &str, &str)] = &[
        (Eq, "job", "node"),
        (Eq, "job", ""),
        (Neq, "job", ""),
        (Neq, "job", "node"),
        (Re, "job", "no.*"),
        (Re, "job", "od"),
        (Re, "job", ".*"),
        (Nre, "job", "no.*|"),
        (Eq, "cluster", "lab"),
        (Eq, "cluster", "mine"),
        (Neq, "cluster", "mine"),
        (Eq, "tenant_id", "team-b"),
        (Re, "tenant_id", "team-(a|c)"),
        (Nre, "tenant_id", "team-.*"),
        (Eq, "replica", ""),
        (Eq, "nowhere", ""),
        (Neq, "nowhere", ""),
        (Re, "nowhere", "x?"),
        (Eq, "é.name", "ü"),
        (Re, "__name__", "up|odd"),
        (Eq, "__name__", "only_b"),
    ];
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        for (kind, name, value) in cases {
            let request = SeriesRequest { matchers: vec![matcher(*kind, name, value)], ..everything() };
            let model = &decode_matchers(&request.matchers).unwrap();
            let expected = expected(&fixture, i64::MIN..=i64::MAX, |l| match_labels(model, l), &[]);
            assert_eq!(
                series(&fixture, request).await.unwrap(),
                expected,
                "{place:?} {kind:?} {name} {value}"
            );
        }
    }
}

#[tokio::test]
async fn bounds_are_inclusive_and_saturate() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        for (min_time, max_time) in
            [(ms(15), ms(17)), (ms(100), ms(100)), (i64::MIN, ms(0)), (ms(299), i64::MAX), (ms(17), ms(15))]
        {
            let request = SeriesRequest { min_time, max_time, ..everything() };
            let expected = expected(&fixture, min_time..=max_time, |_| true, &[]);
            assert_eq!(series(&fixture, request).await.unwrap(), expected, "{place:?} {min_time} {max_time}");
        }
        let request = SeriesRequest { min_time: i64::MAX, max_time: i64::MIN, ..everything() };
        assert!(series(&fixture, request).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_series_without_samples_in_the_range_is_not_sent() {
    let gap = SeriesRun {
        labels: labels(&[("__name__", "gap")]),
        samples: vec![Sample::new(ms(0), 1.0), Sample::new(ms(100), 1.0)],
    };
    let producers = vec![Producer { tenant: team("team-a"), external: Labels::empty(), series: vec![gap] }];
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers.clone()).await;
        let request = SeriesRequest { min_time: ms(40), max_time: ms(60), ..everything() };
        assert_eq!(frames(&fixture, request).await.unwrap(), Vec::<Vec<Series>>::new(), "{place:?}");
    }
}

#[tokio::test]
async fn skip_chunks_sends_each_label_set_once_and_nothing_else() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let drop = vec!["replica".to_owned()];
        let request =
            SeriesRequest { skip_chunks: true, without_replica_labels: drop.clone(), ..everything() };
        let answer = frames(&fixture, request).await.unwrap().concat();
        assert!(answer.iter().all(|s| s.chunks.is_empty()));
        let sets: Vec<Labels> = answer.iter().map(|s| label_set(&s.labels)).collect();
        let expected = expected(&fixture, i64::MIN..=i64::MAX, |_| true, &drop);
        assert_eq!(sets, expected.into_iter().map(|(l, _)| l).collect::<Vec<_>>(), "{place:?}");
    }
}

#[tokio::test]
async fn a_limit_keeps_the_first_series() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let mut whole = series(&fixture, everything()).await.unwrap();
        for (limit, kept) in [(0, 9), (1, 1), (4, 4), (100, 9), (-1, 9)] {
            let limited = series(&fixture, SeriesRequest { limit, ..everything() }).await.unwrap();
            assert_eq!(limited, whole[..kept], "{place:?} {limit}");
        }
        whole.truncate(3);
        let request = SeriesRequest { limit: 3, skip_chunks: true, ..everything() };
        let sets: Vec<Labels> =
            frames(&fixture, request).await.unwrap().concat().iter().map(|s| label_set(&s.labels)).collect();
        assert_eq!(sets, whole.into_iter().map(|(l, _)| l).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn frames_hold_as_many_series_as_asked_for() {
    let fixture = Fixture::new(Place::Mixed, producers()).await;
    for (response_batch_size, sizes) in
        [(4, vec![4, 4, 1]), (64, vec![9]), (1, vec![1; 9]), (0, vec![1; 9]), (-5, vec![1; 9])]
    {
        let request = SeriesRequest { response_batch_size, ..everything() };
        let answer = frames(&fixture, request).await.unwrap();
        assert_eq!(answer.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
    }
    let request = SeriesRequest { response_batch_size: 1, ..everything() };
    let mut stream = fixture.store().series(Request::new(request)).await.unwrap().into_inner();
    let frame = stream.next().await.unwrap().unwrap();
    assert!(matches!(frame.result, Some(Frame::Series(_))), "single series are not batches");
}

#[tokio::test]
async fn requests_that_cannot_be_answered_say_why() {
    let limits = SelectLimits { series_max: 8, samples_max: 500, bytes_max: 0 };
    let settings = StoreSettings { limits, ..fixture::settings() };
    let fixture = Fixture::with(Place::Mixed, producers(), settings).await;
    let up = vec![matcher(Eq, "__name__", "up")];
    let cases = [
        (SeriesRequest { matchers: vec![], ..everything() }, Code::InvalidArgument, "matchers"),
        (
            SeriesRequest { matchers: vec![matcher(Re, "a", "(")], ..everything() },
            Code::InvalidArgument,
            "not valid RE2",
        ),
        (
            SeriesRequest { skip_chunks: true, ..everything() },
            Code::ResourceExhausted,
            "--store.limits.request-series",
        ),
        (
            SeriesRequest { matchers: up.clone(), ..everything() },
            Code::ResourceExhausted,
            "--store.limits.request-samples",
        ),
    ];
    for (request, code, text) in cases {
        let status = frames(&fixture, request).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(status.message().contains(text), "{}", status.message());
    }
    // Label sets alone are within the limit of samples.
    let request = SeriesRequest { matchers: up, skip_chunks: true, ..everything() };
    assert_eq!(frames(&fixture, request).await.unwrap().concat().len(), 4);
    // Label names are looked up without selecting series.
    fixture.store().label_names(Request::new(names_request(vec![]))).await.unwrap();
}

pub(super) fn names_request(matchers: Vec<LabelMatcher>) -> LabelNamesRequest {
    // The bounds that queriers send for "all time".
    let (start, end) = (-9_223_309_901_257_974_000, 9_223_309_901_257_974_000);
    LabelNamesRequest { matchers, start, end, ..LabelNamesRequest::default() }
}

pub(super) async fn names(fixture: &Fixture, request: LabelNamesRequest) -> Vec<String> {
    fixture.store().label_names(Request::new(request)).await.unwrap().into_inner().names
}

pub(super) async fn values(fixture: &Fixture, label: &str, request: LabelNamesRequest) -> Vec<String> {
    let request = LabelValuesRequest {
        label: label.to_owned(),
        matchers: request.matchers,
        start: request.start,
        end: request.end,
        without_replica_labels: request.without_replica_labels,
        limit: request.limit,
        ..LabelValuesRequest::default()
    };
    fixture.store().label_values(Request::new(request)).await.unwrap().into_inner().values
}

#[tokio::test]
async fn label_names_include_added_labels_and_omit_replica_labels() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let all =
            ["Upper", "__name__", "cluster", "instance", "job", "replica", "tenant_id", "zone", "é.name"];
        assert_eq!(names(&fixture, names_request(vec![])).await, all, "{place:?}");
        let matchers = vec![matcher(Eq, "tenant_id", "team-b")];
        let request = LabelNamesRequest {
            without_replica_labels: vec!["replica".to_owned()],
            ..names_request(matchers)
        };
        assert_eq!(names(&fixture, request).await, ["__name__", "cluster", "instance", "job", "tenant_id"]);
        let request = LabelNamesRequest { limit: 2, ..names_request(vec![]) };
        assert_eq!(names(&fixture, request).await, all[..2]);
        let late = LabelNamesRequest { start: ms(10_000), end: ms(20_000), ..names_request(vec![]) };
        assert_eq!(names(&fixture, late).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn label_values_follow_what_series_are_sent_with() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let all = || names_request(vec![]);
        assert_eq!(values(&fixture, "tenant_id", all()).await, ["team-a", "team-b"], "{place:?}");
        assert_eq!(values(&fixture, "cluster", all()).await, ["lab"]);
        assert_eq!(values(&fixture, "replica", all()).await, ["a"]);
        assert_eq!(
            values(&fixture, "__name__", all()).await,
            ["odd", "only_b", "own", "replicated", "up", "zz"]
        );
        assert_eq!(values(&fixture, "nowhere", all()).await, Vec::<String>::new());
        let of_b = names_request(vec![matcher(Re, "tenant_id", ".*-b")]);
        assert_eq!(values(&fixture, "__name__", of_b).await, ["only_b", "up"]);
        let limited = LabelNamesRequest { limit: 1, ..all() };
        assert_eq!(values(&fixture, "__name__", limited).await, ["odd"]);
        let without = LabelNamesRequest { without_replica_labels: vec!["replica".to_owned()], ..all() };
        assert_eq!(values(&fixture, "replica", without).await, Vec::<String>::new());
    }
    let fixture = Fixture::new(Place::Heads, producers()).await;
    let unnamed = fixture.store().label_values(Request::new(LabelValuesRequest::default())).await;
    assert_eq!(unnamed.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_long_series_goes_on_in_the_next_frame() {
    // Random bits do not compress: about ten bytes a sample.
    let random = random_from_seed(1);
    let noisy: Vec<Sample> =
        (0..150_000).map(|s| Sample::new(ms(s), f64::from_bits(random.next_u64() >> 2))).collect();
    let noisy = SeriesRun { labels: labels(&[("__name__", "noise")]), samples: noisy };
    let quiet = run(&[("__name__", "quiet")], 0..10, |_| 1.0);
    let producer = Producer { tenant: team("team-a"), external: Labels::empty(), series: vec![noisy, quiet] };
    let fixture = Fixture::new(Place::Blocks, vec![producer]).await;
    let sizes: Vec<usize> = {
        let mut stream = fixture.store().series(Request::new(everything())).await.unwrap().into_inner();
        let mut sizes = Vec::new();
        while let Some(frame) = stream.next().await {
            sizes.push(prost::Message::encoded_len(&frame.unwrap()));
        }
        sizes
    };
    assert!(sizes.len() > 1 && sizes.iter().all(|bytes| *bytes < 2 << 20), "{sizes:?}");
    let answer = series(&fixture, everything()).await.unwrap();
    assert_eq!(answer, expected(&fixture, i64::MIN..=i64::MAX, |_| true, &[]));
}

#[tokio::test]
async fn metrics_count_requests_series_and_samples() {
    let fixture = Fixture::new(Place::Heads, producers()).await;
    let up_b = vec![matcher(Eq, "__name__", "up"), matcher(Eq, "tenant_id", "team-b")];
    series(&fixture, SeriesRequest { matchers: up_b, ..everything() }).await.unwrap();
    frames(&fixture, SeriesRequest { matchers: vec![], ..everything() }).await.unwrap_err();
    let text = fixture.metrics.render();
    for line in [
        "perennial_read_requests_total{method=\"Series\",outcome=\"ok\"} 1",
        "perennial_read_requests_total{method=\"Series\",outcome=\"refused\"} 1",
        "perennial_read_series_total{method=\"Series\"} 1",
        "perennial_read_samples_total{method=\"Series\"} 300",
        "perennial_read_seconds_count{method=\"Series\"} 2",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
