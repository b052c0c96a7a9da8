//! Prometheus' metadata APIs.

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::store_api::producers;
use super::*;

pub(super) async fn answer(fixture: &Fixture, request: Request<Body>) -> (StatusCode, Value) {
    let response = fixture.reads.http_routes().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

pub(super) async fn get(fixture: &Fixture, path: &str) -> (StatusCode, Value) {
    answer(fixture, Request::get(path).body(Body::empty()).unwrap()).await
}

pub(super) async fn data(fixture: &Fixture, path: &str) -> Value {
    let (status, body) = get(fixture, path).await;
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("success")), "{body}");
    body["data"].clone()
}

#[tokio::test]
async fn series_are_the_tenants_own_label_sets_over_all_time() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let found = data(&fixture, "/api/v1/series?match[]=up%7Binstance%3D%22x%22%7D").await;
        let expected = json!([
            {"__name__": "up", "instance": "x", "job": "node"},
            {"__name__": "up", "instance": "x", "zone": "z"},
        ]);
        assert_eq!(found, expected, "{place:?}");
        let two =
            "/api/v1/series?match[]=up%7Bzone%3D%22z%22%7D&match[]=own&match[]=%7B__name__%3D%22own%22%7D";
        let expected = json!([
            {"__name__": "own", "cluster": "mine", "tenant_id": "me"},
            {"__name__": "up", "instance": "x", "zone": "z"},
        ]);
        assert_eq!(data(&fixture, two).await, expected);
        let later = "/api/v1/series?match[]=up&start=1700000290";
        assert_eq!(data(&fixture, later).await.as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn the_header_names_the_tenant() {
    let fixture = Fixture::new(Place::Mixed, producers()).await;
    let ask = |tenant: &str| {
        let request = Request::get("/api/v1/label/__name__/values").header("THANOS-TENANT", tenant);
        answer(&fixture, request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask("team-b").await.1["data"], json!(["only_b", "up"]));
    assert_eq!(ask("nobody").await.1["data"], json!([]));
    let (status, body) = ask("no/body").await;
    assert_eq!((status, &body["errorType"]), (StatusCode::BAD_REQUEST, &json!("bad_data")));
}

#[tokio::test]
async fn label_names_and_values_need_no_selector() {
    for place in Place::ALL {
        let fixture = Fixture::new(place, producers()).await;
        let names =
            ["Upper", "__name__", "cluster", "instance", "job", "replica", "tenant_id", "zone", "é.name"];
        assert_eq!(data(&fixture, "/api/v1/labels").await, json!(names), "{place:?}");
        assert_eq!(data(&fixture, "/api/v1/labels?match[]=odd").await, json!(["__name__", "job"]));
        assert_eq!(data(&fixture, "/api/v1/label/job/values").await, json!(["node"]));
        assert_eq!(data(&fixture, "/api/v1/label/job/values?match[]=own").await, json!([]));
        assert_eq!(data(&fixture, "/api/v1/label/cluster/values").await, json!(["mine"]));
        for name in ["U__e9_.name", "U___e9__2e_name", "%C3%A9.name"] {
            let path = format!("/api/v1/label/{name}/values");
            let expected = if name == "U__e9_.name" { json!([]) } else { json!(["ü"]) };
            assert_eq!(data(&fixture, &path).await, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_limit_cuts_off_with_a_warning() {
    let fixture = Fixture::new(Place::Mixed, producers()).await;
    for (path, kept) in [
        ("/api/v1/series?match[]=up&limit=2", 2),
        ("/api/v1/labels?limit=3", 3),
        ("/api/v1/label/__name__/values?limit=1", 1),
    ] {
        let (_, body) = get(&fixture, path).await;
        assert_eq!(body["data"].as_array().unwrap().len(), kept);
        assert_eq!(body["warnings"], json!(["results truncated due to limit"]));
    }
    let (_, body) = get(&fixture, "/api/v1/series?match[]=up&limit=0").await;
    assert_eq!(body["data"].as_array().unwrap().len(), 3);
    assert_eq!(body.get("warnings"), None);
}

#[tokio::test]
async fn forms_are_read_like_query_strings() {
    let fixture = Fixture::new(Place::Blocks, producers()).await;
    for path in ["/api/v1/series?limit=1", "/api/v1/series"] {
        let request = Request::post(path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("match%5B%5D=%7Bjob%3D~%22no.%2B%22%7D&limit=1&unknown=1"))
            .unwrap();
        let (status, body) = answer(&fixture, request).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!(body["data"], json!([{"__name__": "odd", "job": "node"}]));
    }
}

#[tokio::test]
async fn refusals_have_prometheus_form_and_status() {
    let limits = crate::select::SelectLimits { series_max: 2, ..Default::default() };
    let settings = StoreSettings { limits, ..fixture::settings() };
    let fixture = Fixture::with(Place::Heads, producers(), settings).await;
    for (path, status, kind, text) in [
        ("/api/v1/series", 400, "bad_data", "no match[] parameter provided"),
        ("/api/v1/series?match[]=%7B%7D", 400, "bad_data", "at least one non-empty matcher"),
        ("/api/v1/series?match[]=%7Ba%3D~%22.*%22%7D", 400, "bad_data", "at least one non-empty matcher"),
        ("/api/v1/labels?match[]=%7Ba!%3D%22b%22%7D", 400, "bad_data", "at least one non-empty matcher"),
        ("/api/v1/series?match[]=up%7B", 400, "bad_data", "byte 3"),
        ("/api/v1/labels?start=yesterday", 400, "bad_data", "\"start\": \"yesterday\""),
        ("/api/v1/labels?end=NaN", 400, "bad_data", "RFC 3339"),
        ("/api/v1/labels?limit=-1", 400, "bad_data", "limit"),
        ("/api/v1/series?match[]=up", 422, "execution", "--store.limits.request-series"),
    ] {
        let (answered, body) = get(&fixture, path).await;
        assert_eq!((answered.as_u16(), &body["errorType"]), (status, &json!(kind)), "{path}: {body}");
        assert_eq!(body["status"], "error");
        assert!(body["error"].as_str().unwrap().contains(text), "{path}: {body}");
    }
    fixture.shutdown.start();
    let (status, body) = get(&fixture, "/api/v1/labels").await;
    assert_eq!((status.as_u16(), &body["errorType"]), (503, &json!("unavailable")));
}

#[tokio::test]
async fn build_info_names_the_version() {
    let fixture = Fixture::new(Place::Heads, Vec::new()).await;
    let info = data(&fixture, "/api/v1/status/buildinfo").await;
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
}
