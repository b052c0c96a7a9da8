//! Remote read, both forms, over heads, blocks and both.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use prost::Message;
use tower::ServiceExt;

use super::store_api::producers;
use super::*;
use crate::tsdb::XorDecoder;
use crate::wire::remote_read::messages;
use crate::wire::snappy;

pub(super) fn query(kind: i32, name: &str, value: &str, range: (i64, i64)) -> messages::Query {
    messages::Query {
        start_timestamp_ms: range.0,
        end_timestamp_ms: range.1,
        matchers: vec![messages::LabelMatcher {
            r#type: kind,
            name: name.to_owned(),
            value: value.to_owned(),
        }],
        ..messages::Query::default()
    }
}

pub(super) const ALL_TIME: (i64, i64) = (i64::MIN, i64::MAX);

async fn send(
    fixture: &Fixture,
    body: Vec<u8>,
    tenant: Option<&str>,
) -> (StatusCode, http::HeaderMap, Vec<u8>) {
    send_to(fixture, "/api/v1/read", body, tenant).await
}

pub(super) async fn send_to(
    fixture: &Fixture,
    path: &str,
    body: Vec<u8>,
    tenant: Option<&str>,
) -> (StatusCode, http::HeaderMap, Vec<u8>) {
    let mut request = Request::post(path);
    if let Some(tenant) = tenant {
        request = request.header("THANOS-TENANT", tenant);
    }
    let request = request.body(Body::from(body)).unwrap();
    let response = fixture.reads.http_routes().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
}

pub(super) async fn ask(
    fixture: &Fixture,
    queries: Vec<messages::Query>,
    accepted: &[i32],
    tenant: Option<&str>,
) -> (http::HeaderMap, Vec<u8>) {
    let request = messages::ReadRequest { queries, accepted_response_types: accepted.to_vec() };
    let body = snappy::encode(&request.encode_to_vec()).unwrap();
    let (status, headers, body) = send(fixture, body, tenant).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    (headers, body)
}

pub(super) fn label_set(pairs: &[messages::Label]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|l| (&l.name, &l.value))).unwrap()
}

async fn samples(fixture: &Fixture, queries: Vec<messages::Query>, tenant: Option<&str>) -> Vec<Answer> {
    let (headers, body) = ask(fixture, queries, &[], tenant).await;
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert_eq!(headers["content-encoding"], "snappy");
    let mut decoded = Vec::new();
    snappy::decode_into(&body, 64 << 20, &mut decoded).unwrap();
    let response = messages::ReadResponse::decode(decoded.as_slice()).unwrap();
    let of_query = |result: &messages::QueryResult| {
        let series = result.timeseries.iter().map(|series| {
            let samples = series.samples.iter().map(|s| (s.timestamp, s.value.to_bits())).collect();
            (label_set(&series.labels), samples)
        });
        series.collect()
    };
    response.results.iter().map(of_query).collect()
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

async fn streamed(fixture: &Fixture, queries: Vec<messages::Query>, tenant: Option<&str>) -> Vec<Answer> {
    let mut answers = vec![Answer::new(); queries.len()];
    let (headers, body) = ask(fixture, queries, &[1, 0], tenant).await;
    assert_eq!(
        headers["content-type"],
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    );
    assert!(!headers.contains_key("content-encoding"));
    let mut rest = body.as_slice();
    while let Some(length) = take_varint(&mut rest) {
        let (checksum, tail) = rest.split_at(4);
        let (frame, tail) = tail.split_at(length as usize);
        assert_eq!(checksum, crc32c::crc32c(frame).to_be_bytes());
        rest = tail;
        let frame = messages::ChunkedReadResponse::decode(frame).unwrap();
        let answer = &mut answers[frame.query_index as usize];
        for series in frame.chunked_series {
            let set = label_set(&series.labels);
            let mut samples = Vec::new();
            for chunk in &series.chunks {
                assert_eq!(chunk.r#type(), messages::chunk::Encoding::Xor);
                let decoded = XorDecoder::new(&chunk.data).map(|s| s.map(|(ts, v)| (ts, v.to_bits())));
                let decoded: Vec<(i64, u64)> = decoded.collect::<Result<_, _>>().unwrap();
                assert_eq!(chunk.min_time_ms, decoded[0].0);
                assert_eq!(chunk.max_time_ms, decoded[decoded.len() - 1].0);
                samples.extend(decoded);
            }
            match answer.last_mut() {
                Some((last, before)) if *last == set => before.extend(samples),
                _ => answer.push((set, samples)),
            }
        }
    }
    answers
}

/// The series of a tenant, without added labels, sorted.
fn expected(
    fixture: &Fixture,
    tenant: &str,
    (min, max): (i64, i64),
    keep: impl Fn(&Labels) -> bool,
) -> Answer {
    let of_tenant = fixture.producers.iter().filter(|p| p.tenant.as_str() == tenant);
    let series = of_tenant.flat_map(|p| &p.series).filter(|run| keep(&run.labels));
    let inside = |run: &crate::block::SeriesRun| {
        let samples: Vec<Sample> =
            run.samples.iter().filter(|s| (min..=max).contains(&s.ts_ms)).copied().collect();
        bits(&samples)
    };
    let mut answer: Answer = series.map(|run| (run.labels.clone(), inside(run))).collect();
    answer.retain(|(_, samples)| !samples.is_empty());
    answer.sort_by(|a, b| a.0.cmp(&b.0));
    answer
}

#[tokio::test]
async fn both_forms_bring_every_bit_sorted_by_labels_and_without_added_ones() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let all = expected(&fixture, "team-a", ALL_TIME, |_| true);
        assert_eq!(all.len(), 7);
        let whole = vec![query(3, "__name__", "", ALL_TIME)];
        assert_eq!(samples(&fixture, whole.clone(), None).await[0], all, "{place:?}");
        assert_eq!(streamed(&fixture, whole.clone(), None).await, [all], "{place:?}");
        let b = expected(&fixture, "team-b", ALL_TIME, |_| true);
        assert_eq!(samples(&fixture, whole.clone(), Some("team-b")).await[0], b);
        assert_eq!(streamed(&fixture, whole.clone(), Some("team-b")).await, [b]);
        assert_eq!(samples(&fixture, whole, Some("nobody")).await, [Answer::new()]);
    }
}

#[tokio::test]
async fn every_query_has_its_own_matchers_and_inclusive_bounds() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let range = (ms(12), ms(15));
        let queries = vec![
            query(0, "__name__", "up", range),
            query(0, "job", "nothing", range),
            query(2, "__name__", "o.d|own", (ms(249), ms(249))),
            query(0, "__name__", "up", (ms(5), ms(4))),
        ];
        let answers = [
            expected(&fixture, "team-a", range, |l| l.metric_name() == "up"),
            Answer::new(),
            expected(&fixture, "team-a", (ms(249), ms(249)), |l| l.metric_name() == "odd"),
            Answer::new(),
        ];
        assert_eq!(samples(&fixture, queries.clone(), None).await, answers, "{place:?}");
        assert_eq!(streamed(&fixture, queries, None).await, answers, "{place:?}");
    }
}

#[tokio::test]
async fn equal_series_of_several_producers_are_one() {
    let producer = |replica: &str, seconds: std::ops::Range<i64>| Producer {
        tenant: team("team-a"),
        external: labels(&[("replica", replica)]),
        series: vec![crate::block::SeriesRun {
            labels: labels(&[("__name__", "up")]),
            samples: seconds.map(|s| Sample::new(ms(s), s as f64)).collect(),
        }],
    };
    let fixture = Fixture::new(Place::Blocks, vec![producer("a", 0..20), producer("b", 10..30)]).await;
    let all: Vec<(i64, u64)> = (0..30).map(|s| (ms(s), (s as f64).to_bits())).collect();
    let answer = [vec![(labels(&[("__name__", "up")]), all)]];
    let whole = vec![query(0, "__name__", "up", ALL_TIME)];
    assert_eq!(samples(&fixture, whole.clone(), None).await, answer);
    assert_eq!(streamed(&fixture, whole, None).await, answer);
}

#[tokio::test]
async fn a_client_that_wants_label_sets_gets_no_samples_but_chunks_where_it_streams() {
    let fixture = Fixture::new(Place::Mixed, producers()).await;
    let mut asked = query(0, "__name__", "up", ALL_TIME);
    asked.hints = Some(messages::ReadHints { func: "series".to_owned(), ..messages::ReadHints::default() });
    let whole = expected(&fixture, "team-a", ALL_TIME, |l| l.metric_name() == "up");
    let bare: Answer = whole.iter().map(|(set, _)| (set.clone(), Vec::new())).collect();
    assert_eq!(samples(&fixture, vec![asked.clone()], None).await, [bare]);
    assert_eq!(streamed(&fixture, vec![asked], None).await, [whole]);
}

#[tokio::test]
async fn what_is_not_a_read_request_is_refused_in_plain_text() {
    let fixture = Fixture::new(Place::Heads, producers()).await;
    let unknown = messages::ReadRequest { queries: vec![], accepted_response_types: vec![9] };
    let regex = messages::ReadRequest {
        queries: vec![query(2, "a", "(", ALL_TIME)],
        accepted_response_types: vec![],
    };
    let encoded = |m: &messages::ReadRequest| snappy::encode(&m.encode_to_vec()).unwrap();
    for (body, tenant, status, text) in [
        (vec![], None, StatusCode::BAD_REQUEST, "snappy"),
        (vec![0xFF; 20], None, StatusCode::BAD_REQUEST, "snappy"),
        (vec![0; 5 << 20], None, StatusCode::PAYLOAD_TOO_LARGE, "body"),
        (encoded(&unknown), None, StatusCode::UNSUPPORTED_MEDIA_TYPE, "STREAMED_XOR_CHUNKS"),
        (encoded(&regex), None, StatusCode::BAD_REQUEST, "RE2"),
        (encoded(&regex), Some("../x"), StatusCode::BAD_REQUEST, "tenant name"),
    ] {
        let (answered, _, body) = send(&fixture, body, tenant).await;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(answered, status, "{body}");
        assert!(body.contains(text), "{body}");
    }
}
