//! Labels of replicas, hidden over HTTP on demand.

use http::StatusCode;
use prost::Message;
use serde_json::json;

use super::metadata::{data, get};
use super::remote_read::{ALL_TIME, label_set, query, send_to};
use super::store_api::run;
use super::*;
use crate::wire::remote_read::messages;
use crate::wire::snappy;

/// Two replicas whose label came with their series, each with samples that the other lacks.
fn pair() -> Vec<Producer> {
    let series = vec![
        run(&[("__name__", "up"), ("replica", "a")], 0..20, |s| s as f64),
        run(&[("__name__", "up"), ("replica", "b")], 10..30, |s| s as f64),
        run(&[("__name__", "up"), ("rack", "r")], 0..2, |_| 1.0),
    ];
    vec![Producer { tenant: team("team-a"), external: Labels::empty(), series }]
}

#[tokio::test]
async fn series_labels_and_values_hide_what_tells_replicas_apart() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, pair()).await;
        let series = data(&fixture, "/api/v1/series?match[]=up&dedup=true").await;
        assert_eq!(series, json!([{"__name__": "up"}, {"__name__": "up", "rack": "r"}]), "{place:?}");
        let all = data(&fixture, "/api/v1/series?match[]=up").await;
        assert_eq!(all.as_array().unwrap().len(), 3, "without dedup nothing is hidden");
        let other = data(&fixture, "/api/v1/series?match[]=up&dedup=true&replicaLabels[]=rack").await;
        assert_eq!(other[0], json!({"__name__": "up"}));
        assert_eq!(other.as_array().unwrap().len(), 3);
        assert_eq!(data(&fixture, "/api/v1/labels?dedup=true").await, json!(["__name__", "rack"]));
        assert_eq!(data(&fixture, "/api/v1/labels").await, json!(["__name__", "rack", "replica"]));
        assert_eq!(data(&fixture, "/api/v1/label/replica/values?dedup=1").await, json!([]));
        assert_eq!(data(&fixture, "/api/v1/label/replica/values").await, json!(["a", "b"]));
        let (status, body) = get(&fixture, "/api/v1/labels?dedup=maybe").await;
        assert_eq!((status, &body["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")));
    }
}

async fn read(fixture: &Fixture, path: &str, accepted: &[i32]) -> (StatusCode, Vec<u8>) {
    let queries = vec![query(0, "__name__", "up", ALL_TIME)];
    let request = messages::ReadRequest { queries, accepted_response_types: accepted.to_vec() };
    let body = snappy::encode(&request.encode_to_vec()).unwrap();
    let (status, _, body) = send_to(fixture, path, body, None).await;
    (status, body)
}

#[tokio::test]
async fn remote_read_makes_one_series_of_both_replicas() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, pair()).await;
        let (_, body) = read(&fixture, "/api/v1/read?dedup=true", &[]).await;
        let mut decoded = Vec::new();
        snappy::decode_into(&body, 64 << 20, &mut decoded).unwrap();
        let response = messages::ReadResponse::decode(decoded.as_slice()).unwrap();
        let series = &response.results[0].timeseries;
        let sets: Vec<Labels> = series.iter().map(|s| label_set(&s.labels)).collect();
        assert_eq!(sets, [labels(&[("__name__", "up")]), labels(&[("__name__", "up"), ("rack", "r")])]);
        let times: Vec<i64> = series[0].samples.iter().map(|s| s.timestamp).collect();
        assert_eq!(times, (0..30).map(ms).collect::<Vec<_>>(), "{place:?}: each time once");

        let (_, body) = read(&fixture, "/api/v1/read?dedup=true", &[1]).await;
        let mut rest = body.as_slice();
        let mut series = 0;
        while !rest.is_empty() {
            let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
            series +=
                messages::ChunkedReadResponse::decode(&rest[4..4 + length]).unwrap().chunked_series.len();
            rest = &rest[4 + length..];
        }
        assert_eq!(series, 2, "{place:?}");
        let (status, _) = read(&fixture, "/api/v1/read?dedup=maybe", &[]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}
