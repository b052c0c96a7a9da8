//! Native histograms, exemplars and metadata, out of heads, blocks and both.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use prost::Message;
use serde_json::json;
use tonic::Request;

use super::fixture::{Fixture, Place, Producer, ms, settings, store_block, team};
use super::metadata::{data, get};
use super::remote_read::{ALL_TIME, ask, query};
use super::store_api::{everything, frames, run};
use super::*;
use crate::block::{HistogramRun, block_order, write_exemplars, write_histograms, write_metadata};
use crate::catalog::{BlockKind, Catalogs};
use crate::head::Heads;
use crate::store::exemplars::ExemplarsApi;
use crate::store::metric_metadata::MetadataApi;
use crate::tsdb::chunk::{Encoding, SampleValue, decode_chunk};
use crate::wire::remote_read::messages;
use crate::wire::snappy;
use crate::wire::store_api::exemplars_server::Exemplars;
use crate::wire::store_api::metadata_server::Metadata as _;
use crate::wire::store_api::{self as wire, ExemplarsRequest, MetricMetadataRequest};

/// What a producer has written beside floats; all within one raw window.
#[derive(Debug, Clone, Default)]
pub(super) struct Kinds {
    pub(super) histograms: Vec<HistogramRun>,
    pub(super) exemplars: Vec<(Labels, Vec<Exemplar>)>,
    pub(super) metadata: Vec<MetadataEntry>,
}

impl Kinds {
    /// Puts every kind into a head, a block, or, where mixed, both.
    pub(super) async fn store(
        self,
        place: Place,
        producer: &Producer,
        heads: &Heads,
        (catalogs, random): (&Catalogs, &Random),
    ) {
        if place != Place::Blocks {
            self.fill_head(&heads.active(&producer.tenant));
        }
        if place == Place::Heads {
            return;
        }
        let target = (catalogs, random, producer);
        let range = TimeRange::raw_window(ms(0));
        let Self { mut histograms, mut exemplars, mut metadata } = self;
        if !histograms.is_empty() {
            histograms.sort_by(|a, b| block_order(&a.labels, &b.labels));
            let sets: Vec<Labels> = histograms.iter().map(|run| run.labels.clone()).collect();
            let write = |out: &mut _, spec: &_| write_histograms(out, spec, histograms);
            store_block(target, BlockKind::Histograms, (range, &sets), write).await;
        }
        if !exemplars.is_empty() {
            exemplars.sort_by(|a, b| block_order(&a.0, &b.0));
            exemplars.iter_mut().for_each(|(_, exemplars)| normalize_exemplars(exemplars));
            let sets: Vec<Labels> = exemplars.iter().map(|(labels, _)| labels.clone()).collect();
            let write = |out: &mut _, spec: &_| write_exemplars(out, spec, exemplars);
            store_block(target, BlockKind::Exemplars, (range, &sets), write).await;
        }
        if !metadata.is_empty() {
            normalize_metadata(&mut metadata);
            let write = |out: &mut _, spec: &_| write_metadata(out, spec, &metadata);
            store_block(target, BlockKind::Metadata, (range, &[]), write).await;
        }
    }

    fn fill_head(&self, head: &crate::head::Head) {
        let number = |labels: &Labels| head.resolve(std::slice::from_ref(labels))[0];
        for run in &self.histograms {
            let number = number(&run.labels);
            head.append_histograms(run.histograms.iter().rev().map(|sample| (number, sample)));
        }
        for (labels, exemplars) in &self.exemplars {
            let number = number(labels);
            head.append_exemplars(exemplars.iter().rev().map(|exemplar| (number, exemplar.clone())));
        }
        head.append_metadata(self.metadata.iter().cloned());
    }
}

pub(super) fn whole(count: u64) -> Histogram {
    Histogram {
        schema: 3,
        zero_threshold: 1e-10,
        zero_count: count,
        count: count * 3,
        sum: count as f64 / 3.0,
        positive_spans: vec![Span { offset: -2, length: 1 }, Span { offset: 3, length: 1 }],
        positive_buckets: vec![count as i64, 0],
        ..Histogram::default()
    }
}

fn stale() -> Histogram {
    Histogram { sum: f64::from_bits(STALE_MARKER_BITS), ..Histogram::default() }
}

pub(super) fn custom(count: u64) -> Histogram {
    Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        zero_threshold: 0.0,
        zero_count: 0,
        count: count * 2,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![count as i64, 0],
        custom_values: vec![0.1, 2.5],
        ..whole(count)
    }
}

fn fractional(count: u64) -> FloatHistogram {
    FloatHistogram {
        schema: 0,
        count: count as f64 + 0.5,
        zero_count: count as f64 + 0.5,
        sum: -0.0,
        ..FloatHistogram::default()
    }
}

pub(super) fn samples(from_s: i64, values: Vec<NativeHistogram>) -> Vec<HistogramSample> {
    let sample =
        |(i, histogram)| HistogramSample { ts_ms: ms(from_s + i as i64), start_ms: ms(0), histogram };
    values.into_iter().enumerate().map(sample).collect()
}

pub(super) fn ints(values: impl IntoIterator<Item = Histogram>) -> Vec<NativeHistogram> {
    values.into_iter().map(|value| NativeHistogram::Int(Box::new(value))).collect()
}

/// One series that turns from floats to histograms and back, and series of each kind alone.
fn histograms() -> (Vec<Producer>, Kinds) {
    let series =
        [run(&[("__name__", "mixed")], 0..5, |s| s as f64), run(&[("__name__", "mixed")], 400..403, |_| 7.0)];
    let mut joined = series[0].clone();
    joined.samples.extend(series[1].samples.iter().copied());
    let producers = vec![Producer {
        tenant: team("team-a"),
        external: labels(&[("cluster", "lab")]),
        series: vec![joined],
    }];
    let mut growing: Vec<Histogram> = (1..300).map(whole).collect();
    growing.extend([stale(), whole(5)]);
    let gauge = |count| Histogram { counter_reset_hint: 3, ..whole(count) };
    let floats = (1..4).map(|count| NativeHistogram::Float(Box::new(fractional(count))));
    let of = |name: &str, histograms| HistogramRun { labels: labels(&[("__name__", name)]), histograms };
    let histograms = vec![
        of("mixed", samples(10, ints(growing))),
        of("gauges", samples(0, ints([gauge(5), gauge(3), gauge(9)]))),
        of("custom", samples(0, ints([custom(1), custom(2)]))),
        of("fractional", samples(0, floats.collect())),
        of("only_stale", samples(0, ints([stale()]))),
    ];
    (producers, Kinds { histograms, ..Kinds::default() })
}

fn without_hint(value: NativeHistogram) -> NativeHistogram {
    match value {
        NativeHistogram::Int(mut value) => {
            value.counter_reset_hint = 0;
            NativeHistogram::Int(value)
        }
        NativeHistogram::Float(mut value) => {
            value.counter_reset_hint = 0;
            NativeHistogram::Float(value)
        }
    }
}

type Points = Vec<(i64, Result<u64, NativeHistogram>)>;

/// What a series must bring: floats by their bits, histograms without their hints.
fn expected_points(producers: &[Producer], kinds: &Kinds, name: &str) -> Points {
    let runs = producers.iter().flat_map(|p| &p.series).filter(|run| run.labels.metric_name() == name);
    let floats = runs.flat_map(|run| run.samples.iter().map(|s| (s.ts_ms, Ok(s.value.to_bits()))));
    let runs = kinds.histograms.iter().filter(|run| run.labels.metric_name() == name);
    let native = runs.flat_map(|run| &run.histograms);
    let native = native.map(|sample| (sample.ts_ms, Err(without_hint(sample.histogram.clone()))));
    let mut points: Points = floats.chain(native).collect();
    points.sort_by_key(|(ts_ms, _)| *ts_ms);
    points
}

fn decoded(encoding: Encoding, data: &[u8]) -> Points {
    let point = |value| match value {
        SampleValue::Float(bits) => Ok(bits),
        SampleValue::Histogram(value) => Err(without_hint(NativeHistogram::Int(value))),
        SampleValue::FloatHistogram(value) => Err(without_hint(NativeHistogram::Float(value))),
    };
    decode_chunk(encoding, data).map(Result::unwrap).map(|s| (s.t_ms, point(s.value))).collect()
}

#[tokio::test]
async fn chunks_of_every_kind_come_in_order_of_time_with_their_hashes() {
    for place in Place::ALL {
        let (producers, kinds) = histograms();
        let fixture = Fixture::with_kinds(place, producers.clone(), settings(), kinds.clone()).await;
        let answer = frames(&fixture, everything()).await.unwrap().concat();
        assert_eq!(answer.len(), 5, "{place:?}");
        let mut encodings = BTreeSet::new();
        for series in answer {
            let name = &series.labels.iter().find(|l| l.name == "__name__").unwrap().value;
            let mut points = Points::new();
            for chunk in &series.chunks {
                let raw = chunk.raw.as_ref().unwrap();
                assert_eq!(raw.hash, xxhash_rust::xxh64::xxh64(&raw.data, 0));
                encodings.insert(raw.r#type);
                let encoding = Encoding::from_byte(raw.r#type as u8 + 1).unwrap();
                let inside = decoded(encoding, &raw.data);
                assert!((1..=120).contains(&inside.len()));
                assert_eq!((chunk.min_time, chunk.max_time), (inside[0].0, inside[inside.len() - 1].0));
                points.extend(inside);
            }
            assert_eq!(points, expected_points(&producers, &kinds, name), "{place:?} {name}");
        }
        assert_eq!(encodings, BTreeSet::from([0, 1, 2]));
    }
}

#[tokio::test]
async fn remote_read_brings_histograms_in_both_forms() {
    for place in Place::ALL {
        let (producers, kinds) = histograms();
        let fixture = Fixture::with_kinds(place, producers.clone(), settings(), kinds.clone()).await;
        let whole = vec![query(2, "__name__", ".+", ALL_TIME)];
        let (_, body) = ask(&fixture, whole.clone(), &[], None).await;
        let mut decoded_body = Vec::new();
        snappy::decode_into(&body, 64 << 20, &mut decoded_body).unwrap();
        let response = messages::ReadResponse::decode(decoded_body.as_slice()).unwrap();
        let series = &response.results[0].timeseries;
        assert_eq!(series.len(), 5);
        for series in series {
            let name = &series.labels[0].value;
            let expected = expected_points(&producers, &kinds, name);
            let floats: Vec<i64> = series.samples.iter().map(|s| s.timestamp).collect();
            let native: Vec<(i64, u64)> =
                series.histograms.iter().map(|h| (h.timestamp, h.sum.to_bits())).collect();
            let expected_floats: Vec<i64> = expected.iter().filter(|p| p.1.is_ok()).map(|p| p.0).collect();
            let sums = expected.iter().filter_map(|p| Some((p.0, p.1.as_ref().err()?.sum().to_bits())));
            assert_eq!((floats, native), (expected_floats, sums.collect()), "{place:?} {name}");
        }

        let (_, body) = ask(&fixture, whole, &[1], None).await;
        let mut rest = body.as_slice();
        let mut kinds_seen = BTreeSet::new();
        while !rest.is_empty() {
            let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
            let frame = messages::ChunkedReadResponse::decode(&rest[4..4 + length]).unwrap();
            rest = &rest[4 + length..];
            for series in frame.chunked_series {
                let name = &series.labels[0].value;
                let mut points = Points::new();
                for chunk in &series.chunks {
                    kinds_seen.insert(chunk.r#type);
                    points.extend(decoded(Encoding::from_byte(chunk.r#type as u8).unwrap(), &chunk.data));
                }
                assert_eq!(points, expected_points(&producers, &kinds, name), "{place:?} {name}");
            }
        }
        assert_eq!(kinds_seen, BTreeSet::from([1, 2, 3]));
    }
}

pub(super) fn exemplar(seconds: i64, trace: &str, value: f64) -> Exemplar {
    Exemplar { labels: labels(&[("trace_id", trace)]), value, ts_ms: ms(seconds) }
}

pub(super) fn with_exemplars() -> (Vec<Producer>, Kinds) {
    let series = vec![run(&[("__name__", "up")], 0..3, |_| 1.0)];
    let external = labels(&[("cluster", "lab"), ("replica", "a")]);
    let exemplars = vec![
        (
            labels(&[("__name__", "latency"), ("path", "/b")]),
            vec![exemplar(10, "t2", 0.25), exemplar(5, "t1", f64::INFINITY)],
        ),
        (
            labels(&[("__name__", "latency"), ("path", "/a"), ("replica", "own")]),
            vec![exemplar(7, "t3", 1e-7)],
        ),
        (labels(&[("__name__", "other")]), vec![exemplar(7, "t4", f64::NAN)]),
    ];
    let producers = vec![Producer { tenant: team("team-a"), external, series }];
    (producers, Kinds { exemplars, ..Kinds::default() })
}

async fn exemplars(fixture: &Fixture, query: &str, range: (i64, i64)) -> Vec<(Labels, Vec<(i64, String)>)> {
    let request =
        ExemplarsRequest { query: query.to_owned(), start: range.0, end: range.1, ..Default::default() };
    let api = ExemplarsApi(Arc::clone(&fixture.reads.0));
    let stream = api.exemplars(Request::new(request)).await.unwrap().into_inner();
    let answers: Vec<wire::ExemplarsResponse> = stream.try_collect().await.unwrap();
    let of =
        |set: wire::LabelSet| Labels::from_pairs(set.labels.iter().map(|l| (&l.name, &l.value))).unwrap();
    let data = answers.into_iter().map(|answer| match answer.result.unwrap() {
        wire::exemplars_response::Result::Data(data) => data,
        other => panic!("{other:?}"),
    });
    data.map(|data| {
        let found = data.exemplars.into_iter().map(|e| (e.timestamp, of(e.labels.unwrap()).to_string()));
        (of(data.series_labels.unwrap()), found.collect())
    })
    .collect()
}

#[tokio::test]
async fn exemplars_come_sorted_with_added_labels_and_matchers_on_them_are_evaluated() {
    for place in Place::ALL {
        let (producers, kinds) = with_exemplars();
        let fixture = Fixture::with_kinds(place, producers, settings(), kinds).await;
        let set = |path: &str| {
            let pairs = [
                ("__name__", "latency"),
                ("cluster", "lab"),
                ("path", path),
                ("replica", "a"),
                ("tenant_id", "team-a"),
            ];
            labels(&pairs)
        };
        let trace = |seconds, trace: &str| (ms(seconds), labels(&[("trace_id", trace)]).to_string());
        let both =
            vec![(set("/a"), vec![trace(7, "t3")]), (set("/b"), vec![trace(5, "t1"), trace(10, "t2")])];
        for query in [
            "latency",
            "{__name__=\"latency\", cluster=~\"l.+\", tenant_id=\"team-a\", replica!=\"b\"}",
            "rate(latency{path=\"/a\"}[5m]) + latency{path=\"/b\"} + latency{path=~\"/.\"}",
        ] {
            assert_eq!(exemplars(&fixture, query, (i64::MIN, i64::MAX)).await, both, "{place:?} {query}");
        }
        for query in ["latency{cluster=\"mine\"}", "latency{tenant_id=\"team-b\"}", "1 + 2", "nothing"] {
            assert!(exemplars(&fixture, query, (i64::MIN, i64::MAX)).await.is_empty(), "{place:?} {query}");
        }
        let bounded = exemplars(&fixture, "latency", (ms(5), ms(7))).await;
        assert_eq!(bounded, [(set("/a"), vec![trace(7, "t3")]), (set("/b"), vec![trace(5, "t1")])]);
    }
}

#[tokio::test]
async fn an_exemplar_query_that_asks_for_everything_or_makes_no_sense_is_refused() {
    let (producers, kinds) = with_exemplars();
    let fixture = Fixture::with_kinds(Place::Heads, producers, settings(), kinds).await;
    let api = ExemplarsApi(Arc::clone(&fixture.reads.0));
    for query in ["{}", "{a=~\".*\"}", "up{", ""] {
        let request = ExemplarsRequest { query: query.to_owned(), ..Default::default() };
        let refused = api.exemplars(Request::new(request)).await.map(|_| ()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{query}");
    }
}

#[tokio::test]
async fn exemplars_over_http_have_prometheus_form() {
    for place in Place::ALL {
        let (producers, kinds) = with_exemplars();
        let fixture = Fixture::with_kinds(place, producers, settings(), kinds).await;
        let found =
            data(&fixture, "/api/v1/query_exemplars?query=latency%7Bpath%3D%22/b%22%7D%2Bother").await;
        let expected = json!([
            {
                "seriesLabels": {"__name__": "latency", "path": "/b"},
                "exemplars": [
                    {"labels": {"trace_id": "t1"}, "value": "+Inf", "timestamp": 1_700_000_005.0},
                    {"labels": {"trace_id": "t2"}, "value": "0.25", "timestamp": 1_700_000_010.0},
                ],
            },
            {
                "seriesLabels": {"__name__": "other"},
                "exemplars": [{"labels": {"trace_id": "t4"}, "value": "NaN", "timestamp": 1_700_000_007.0}],
            },
        ]);
        assert_eq!(found, expected, "{place:?}");
        let path = "/api/v1/query_exemplars?query=latency&dedup=true&start=1700000006&end=1700000007";
        let expected = json!([{
            "seriesLabels": {"__name__": "latency", "path": "/a"},
            "exemplars": [{"labels": {"trace_id": "t3"}, "value": "1e-7", "timestamp": 1_700_000_007.0}],
        }]);
        assert_eq!(data(&fixture, path).await, expected, "{place:?}");
    }
    let fixture = Fixture::new(Place::Heads, Vec::new()).await;
    for (path, text) in [
        ("/api/v1/query_exemplars", "\"query\""),
        ("/api/v1/query_exemplars?query=a&start=9&end=5", "\"end\""),
        ("/api/v1/query_exemplars?query=%7B%7D", "non-empty matcher"),
    ] {
        let (status, body) = get(&fixture, path).await;
        assert_eq!((status.as_u16(), &body["errorType"]), (400, &json!("bad_data")), "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(text), "{path}: {body}");
    }
}

fn entry(family: &str, seconds: i64, kind: MetricType, help: &str) -> MetadataEntry {
    let metadata = Metadata { kind, help: help.to_owned(), unit: String::new() };
    MetadataEntry { family: family.to_owned(), since_ms: ms(seconds), metadata }
}

pub(super) fn with_metadata() -> (Vec<Producer>, Kinds) {
    let metadata = vec![
        entry("up", 0, MetricType::Gauge, "old"),
        entry("up", 60, MetricType::Gauge, "new"),
        entry("requests", 30, MetricType::Counter, "all"),
    ];
    let series = vec![run(&[("__name__", "up")], 0..3, |_| 1.0)];
    let producers = vec![Producer { tenant: team("team-a"), external: Labels::empty(), series }];
    (producers, Kinds { metadata, ..Kinds::default() })
}

#[tokio::test]
async fn metadata_has_the_newest_entry_first_and_its_history_on_demand() {
    for place in Place::ALL {
        let (producers, kinds) = with_metadata();
        let fixture = Fixture::with_kinds(place, producers, settings(), kinds).await;
        let of = |kind: &str, help: &str| json!({"type": kind, "help": help, "unit": ""});
        let all = json!({
            "requests": [of("counter", "all")],
            "up": [of("gauge", "new"), of("gauge", "old")],
        });
        assert_eq!(data(&fixture, "/api/v1/metadata").await, all, "{place:?}");
        let up = json!({"up": [of("gauge", "new"), of("gauge", "old")]});
        assert_eq!(data(&fixture, "/api/v1/metadata?metric=up").await, up);
        let newest = json!({"up": [of("gauge", "new")]});
        assert_eq!(data(&fixture, "/api/v1/metadata?metric=up&limit_per_metric=1").await, newest);
        let first = json!({"requests": [of("counter", "all")]});
        assert_eq!(data(&fixture, "/api/v1/metadata?limit=1").await, first);
        // As in Prometheus, 0 families are none, and below 0 is no limit.
        assert_eq!(data(&fixture, "/api/v1/metadata?limit=0").await, json!({}));
        assert_eq!(data(&fixture, "/api/v1/metadata?limit=-1&limit_per_metric=0").await, all);
        assert_eq!(data(&fixture, "/api/v1/metadata?metric=nothing").await, json!({}));
        let history = data(&fixture, "/api/v1/metadata?metric=up&history=true").await;
        let since: Vec<f64> =
            history["up"].as_array().unwrap().iter().map(|e| e["since"].as_f64().unwrap()).collect();
        assert_eq!(since, [1_700_000_060.0, 1_700_000_000.0]);
        let (status, _) = get(&fixture, "/api/v1/metadata?limit=many").await;
        assert_eq!(status.as_u16(), 400);
    }
}

#[tokio::test]
async fn metadata_over_grpc_is_that_of_all_tenants() {
    for place in Place::ALL {
        let (producers, kinds) = with_metadata();
        let fixture = Fixture::with_kinds(place, producers, settings(), kinds).await;
        let ask = |metric: &str, limit: i32| {
            let api = MetadataApi(Arc::clone(&fixture.reads.0));
            let request = MetricMetadataRequest { metric: metric.to_owned(), limit, ..Default::default() };
            async move {
                let stream = api.metric_metadata(Request::new(request)).await.unwrap().into_inner();
                let answers: Vec<wire::MetricMetadataResponse> = stream.try_collect().await.unwrap();
                let [answer] = <[_; 1]>::try_from(answers).unwrap();
                let Some(wire::metric_metadata_response::Result::Metadata(found)) = answer.result else {
                    panic!("no metadata");
                };
                let mut families: Vec<(String, Vec<(String, String)>)> = found
                    .metadata
                    .into_iter()
                    .map(|(name, entry)| {
                        (name, entry.metas.into_iter().map(|m| (m.r#type, m.help)).collect())
                    })
                    .collect();
                families.sort();
                families
            }
        };
        let of = |kind: &str, help: &str| (kind.to_owned(), help.to_owned());
        let up = ("up".to_owned(), vec![of("gauge", "new"), of("gauge", "old")]);
        let requests = ("requests".to_owned(), vec![of("counter", "all")]);
        assert_eq!(ask("", -1).await, [requests.clone(), up.clone()], "{place:?}");
        assert_eq!(ask("", 1).await, [requests]);
        assert_eq!(ask("up", -1).await, [up]);
    }
}
