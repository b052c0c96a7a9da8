use std::sync::Arc;

use super::*;
use crate::model::ErrorKind;
use crate::runtime::{Cpu, Metrics, Shutdown};

async fn start(flush: Option<FlushCall>) -> (String, LateRoutes, Readiness, Shutdown) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (late, readiness, shutdown) = (LateRoutes::new(), Readiness::new(), Shutdown::new());
    let url = format!("http://{}", listener.address());
    let routes = late.clone().behind(admin_routes(Metrics::new(), readiness.clone(), flush));
    tokio::spawn(serve_http(listener, routes, shutdown.clone()));
    (url, late, readiness, shutdown)
}

async fn status(url: String) -> u16 {
    reqwest::get(url).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn until_it_is_ready_a_process_is_healthy_and_answers_nothing_else() {
    let (url, late, readiness, shutdown) = start(None).await;
    assert_eq!(status(format!("{url}/-/healthy")).await, 200);
    assert_eq!(status(format!("{url}/metrics")).await, 200);
    assert_eq!(status(format!("{url}/-/ready")).await, 503);
    assert_eq!(status(format!("{url}/api")).await, 503);
    late.open(axum::Router::new().route("/api", axum::routing::get(|| async { "yes" })));
    readiness.set(true);
    assert_eq!(status(format!("{url}/-/ready")).await, 200);
    assert_eq!(status(format!("{url}/api")).await, 200);
    assert_eq!(status(format!("{url}/other")).await, 404);
    shutdown.start();
}

#[tokio::test]
async fn a_flush_is_a_post_and_says_why_it_failed() {
    let call: FlushCall =
        Arc::new(|| Box::pin(async { Err((ErrorKind::Unavailable, "the bucket is away".to_owned())) }));
    let (url, _, _, shutdown) = start(Some(call)).await;
    assert_eq!(status(format!("{url}/-/flush")).await, 405);
    let answer = reqwest::Client::new().post(format!("{url}/-/flush")).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    assert!(answer.text().await.unwrap().contains("the bucket is away"));
    shutdown.start();
}

#[tokio::test]
async fn a_taken_port_is_found_when_binding() {
    let first = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    assert!(Listener::bind(first.address()).await.is_err());
}

#[tokio::test]
async fn grpc_says_that_it_serves_and_what() {
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (url, shutdown) = (format!("http://{}", listener.address()), Shutdown::new());
    let descriptors = crate::wire::store_api::STORE_API_DESCRIPTORS;
    tokio::spawn(serve_grpc(
        listener,
        tonic::service::Routes::default(),
        descriptors,
        Cpu::start(1).unwrap(),
        shutdown.clone(),
    ));
    let channel = tonic::transport::Endpoint::new(url).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1, "SERVING");
    let ask = tonic_reflection::pb::v1::ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("no list of services: {answer:?}");
    };
    let names: Vec<String> = services.service.into_iter().map(|s| s.name).collect();
    for name in ["thanos.Store", "thanos.info.Info", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|n| n == name), "{name} is in {names:?}");
    }
    shutdown.start();
}
