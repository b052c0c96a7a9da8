use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::*;
use crate::model::ErrorKind;
use crate::runtime::{Cpu, Metrics, Shutdown};

const WAIT: Duration = Duration::from_secs(60);

async fn start(flush: Option<FlushCall>) -> (String, LateRoutes, Readiness, Shutdown) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (late, readiness, shutdown) = (LateRoutes::new(), Readiness::new(), Shutdown::new());
    let url = format!("http://{}", listener.address());
    let routes = late.clone().behind(admin_routes(Metrics::new(), readiness.clone(), flush));
    let (connections, stop) = (Connections::new(100, WAIT, &Metrics::new()), shutdown.clone());
    tokio::spawn(async move { serve_http((listener, "http"), routes, &connections, stop).await });
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
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let connections = Connections::new(100, WAIT, &Metrics::new());
        let services = (tonic::service::Routes::default(), descriptors);
        serve_grpc(listener, services, &connections, Cpu::start(1).unwrap(), stop).await
    });
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

/// A listener with the given bound on connections and requests, and a route each for a short and an endless answer.
async fn bounded(max: usize, request_wait: Duration) -> (SocketAddr, Metrics) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, metrics) = (listener.address(), Metrics::new());
    let connections = Connections::new(max, request_wait, &metrics);
    let endless = || async {
        let piece = || async { Ok::<_, std::io::Error>(bytes::Bytes::from(vec![7u8; 64 << 10])) };
        axum::body::Body::from_stream(futures::stream::repeat_with(piece).then(|piece| piece))
    };
    let routes = axum::Router::new()
        .route("/short", axum::routing::get(|| async { "yes" }))
        .route("/endless", axum::routing::get(endless));
    tokio::spawn(async move { serve_http((listener, "http"), routes, &connections, Shutdown::new()).await });
    (address, metrics)
}

/// Sends bytes and then only reads; returns what came, and after how many seconds the connection was closed.
async fn send_and_wait(address: SocketAddr, bytes: &[u8]) -> (String, u64) {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let (started, mut answer) = (Instant::now(), Vec::new());
    // A reset is an end as well.
    let _ = client.read_to_end(&mut answer).await;
    (String::from_utf8_lossy(&answer).into_owned(), started.elapsed().as_secs())
}

async fn cut_off(metrics: &Metrics, reason: &str) {
    let wanted = format!("connections_cut_off_total{{listener=\"http\",reason=\"{reason}\"}} 1");
    let none_open = "connections{listener=\"http\"} 0";
    for _ in 0..1_000 {
        let text = metrics.render();
        if text.contains(&wanted) && text.contains(none_open) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("no {wanted} and {none_open} in\n{}", metrics.render());
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_to_its_end_ends_the_connection() {
    let (address, metrics) = bounded(10, WAIT).await;
    let (answer, seconds) = send_and_wait(address, b"GET /short HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    assert!(answer.is_empty() && (10..20).contains(&seconds), "{answer:?} after {seconds} s");
    cut_off(&metrics, "slow_header").await;
}

#[tokio::test(start_paused = true)]
async fn a_header_that_comes_byte_by_byte_ends_the_connection_all_the_same() {
    let (address, metrics) = bounded(10, WAIT).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let started = Instant::now();
    while client.write_all(b"G").await.is_ok() && started.elapsed() < WAIT {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let text = metrics.render();
    assert!(text.contains("slow_header") || text.contains("connections{listener=\"http\"} 0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn connections_without_requests_end_before_or_after_the_first_one() {
    let (address, metrics) = bounded(10, WAIT).await;
    for request in ["", "GET /short HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let (answer, seconds) = send_and_wait(address, request.as_bytes()).await;
        assert_eq!(answer.ends_with("yes"), !request.is_empty(), "{answer}");
        assert!((115..135).contains(&seconds), "{seconds} s");
    }
    assert!(metrics.render().contains("reason=\"idle\"} 2"));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let (_, seconds) = send_and_wait(address, &preface[..20]).await;
    assert!(seconds < 135, "half a preface: {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_cut_off() {
    let (address, metrics) = bounded(10, Duration::from_secs(3_600)).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    cut_off(&metrics, "stalled_reader").await;
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn connections_beyond_the_bound_wait_for_their_turn() {
    let (address, metrics) = bounded(3, WAIT).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let started = Instant::now();
    let (answer, _) =
        send_and_wait(address, b"GET /short HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.ends_with("yes"), "{answer}");
    assert!(started.elapsed() > Duration::from_secs(100), "it waited: {:?}", started.elapsed());
    assert!(metrics.render().contains("reason=\"idle\"} 3"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_lasts_too_long_loses_its_connection() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (url, metrics) = (format!("http://{}", listener.address()), Metrics::new());
    let connections = Connections::new(10, Duration::from_secs(5), &metrics);
    tokio::spawn(async move {
        let routes = tonic::service::Routes::default();
        let services = (routes, crate::wire::store_api::STORE_API_DESCRIPTORS);
        serve_grpc(listener, services, &connections, Cpu::start(1).unwrap(), Shutdown::new()).await
    });
    let channel = tonic::transport::Endpoint::new(url).unwrap().connect().await.unwrap();
    let mut client = ServerReflectionClient::new(channel);
    let started = Instant::now();
    let mut answers = client.server_reflection_info(futures::stream::pending()).await.unwrap().into_inner();
    assert!(answers.message().await.is_err());
    assert!((5..15).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert!(metrics.render().contains("listener=\"grpc\",reason=\"long_request\"} 1"));
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_their_connection_and_no_other() {
    let (address, _) = bounded(10, WAIT).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    // :method GET, :scheme http, :path / from the static table; :authority a.
    let header = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
    for number in 0..10_000u32 {
        bytes.extend(frame(1, 0x05, 2 * number + 1, &header));
        bytes.extend(frame(3, 0, 2 * number + 1, &8u32.to_be_bytes()));
    }
    let (mut reading, mut writing) = client.split();
    // The server may close before all is sent.
    let sending = async { drop(writing.write_all(&bytes).await) };
    let mut answer = Vec::new();
    let receiving = async { drop(tokio::time::timeout(WAIT, reading.read_to_end(&mut answer)).await) };
    tokio::join!(sending, receiving);
    let went_away = answer.windows(9).any(|w| w[3] == 7 && w[4] == 0 && w[5..] == [0; 4]);
    assert!(went_away || answer.len() < 1_000, "no GOAWAY in {} bytes", answer.len());
    assert_eq!(status(format!("http://{address}/short")).await, 200);
}

#[tokio::test]
async fn a_client_that_probes_its_connection_all_the_time_keeps_it() {
    // Thanos Query probes every 10 s; servers of other make end connections that are probed too often.
    use tonic_health::pb::health_client::HealthClient;

    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (url, metrics) = (format!("http://{}", listener.address()), Metrics::new());
    let connections = Connections::new(1, WAIT, &metrics);
    tokio::spawn(async move {
        let services = (tonic::service::Routes::default(), crate::wire::store_api::STORE_API_DESCRIPTORS);
        serve_grpc(listener, services, &connections, Cpu::start(1).unwrap(), Shutdown::new()).await
    });
    let endpoint = tonic::transport::Endpoint::new(url).unwrap();
    let endpoint = endpoint
        .http2_keep_alive_interval(Duration::from_millis(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    // A lost connection would be made anew; it is seen by the number that were accepted.
    let made = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&made);
    let connector = tower::service_fn(move |uri: ::http::Uri| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            let stream = TcpStream::connect((uri.host().unwrap(), uri.port_u16().unwrap())).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let mut client = HealthClient::new(endpoint.connect_with_connector(connector).await.unwrap());
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    }
    assert_eq!(made.load(std::sync::atomic::Ordering::SeqCst), 1, "two hundred probes, one connection");
}

/// A gRPC body of one message.
fn grpc_message(compressed: bool, data: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::from(compressed)];
    body.extend_from_slice(&(data.len() as u32).to_be_bytes());
    body.extend_from_slice(data);
    body
}

#[tokio::test]
async fn messages_compressed_with_snappy_are_taken_and_answered_so() {
    use http_body_util::BodyExt;
    use prost::Message;
    use tower::ServiceExt;

    use crate::wire::snappy_stream;

    let (_, health) = tonic_health::server::health_reporter();
    let routes = tonic::service::Routes::new(health).prepare().into_axum_router();
    let routes = routes
        .layer(axum::middleware::from_fn_with_state(Cpu::start(1).unwrap(), crate::server::snappy::snappy));
    let ask = |encoding: Option<&'static str>, body: Vec<u8>| {
        let mut request = ::http::Request::post("/grpc.health.v1.Health/Check")
            .version(::http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let answer = routes.clone().oneshot(request.body(axum::body::Body::from(body)).unwrap());
        async move {
            let (parts, body) = answer.await.unwrap().into_parts();
            let collected = body.collect().await.unwrap();
            let trailers = collected.trailers().cloned().unwrap_or_default();
            let status = trailers.get("grpc-status").or_else(|| parts.headers.get("grpc-status")).cloned();
            (parts.headers, status.unwrap(), collected.to_bytes())
        }
    };
    let question = tonic_health::pb::HealthCheckRequest { service: String::new() }.encode_to_vec();
    let compressed = snappy_stream::encode(&question).unwrap();

    let (headers, status, body) = ask(Some("snappy"), grpc_message(true, &compressed)).await;
    assert_eq!((&headers["grpc-encoding"], status), (&"snappy".parse().unwrap(), "0".parse().unwrap()));
    assert_eq!(body[0], 1, "the answer is compressed");
    let plain = snappy_stream::decode(&body[5..], 1 << 20).unwrap();
    let answer = tonic_health::pb::HealthCheckResponse::decode(plain.as_slice()).unwrap();
    assert_eq!(answer.status, 1, "SERVING");

    // A message may stand uncompressed in a stream that is allowed to compress.
    let (_, status, _) = ask(Some("snappy"), grpc_message(false, &question)).await;
    assert_eq!(status, "0");
    let (headers, status, body) = ask(None, grpc_message(false, &question)).await;
    assert!(!headers.contains_key("grpc-encoding"));
    assert_eq!((status.to_str().unwrap(), body[0]), ("0", 0));
    let (_, status, _) = ask(Some("snappy"), grpc_message(true, b"no stream")).await;
    assert_eq!(status, "3", "INVALID_ARGUMENT");
    let (_, status, _) = ask(Some("snappy"), grpc_message(true, &[0; 2 << 20])).await;
    assert_eq!(status, "11", "OUT_OF_RANGE");
    let (_, status, _) = ask(Some("br"), grpc_message(true, &question)).await;
    assert_eq!(status, "12", "UNIMPLEMENTED");
}
