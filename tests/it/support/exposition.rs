//! An exporter of the tests' own: every kind of metric, in text for anybody and in protobuf for who asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use prost::Message;

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Counter {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
    #[prost(message, optional, tag = "2")]
    exemplar: Option<ExemplarMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramMessage {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Pair>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Counter>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<HistogramMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

/// The counter that says how often the exporter was scraped: 1, 2, 3 and so on.
pub(crate) const SCRAPES_METRIC: &str = "probe_scrapes_total";

/// The native histogram, in protobuf only.
pub(crate) const LATENCY_METRIC: &str = "probe_latency_seconds";

/// The help text of both.
pub(crate) const PROBE_HELP: &str = "What the probe of the tests has seen";

/// A running exporter.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) port: u16,
    scrapes: Arc<AtomicU64>,
    serving: tokio::task::JoinHandle<()>,
}

impl Probe {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scrapes = Arc::new(AtomicU64::new(0));
        let routes = axum::Router::new()
            .route("/metrics", axum::routing::get(metrics))
            .with_state(Arc::clone(&scrapes));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { port, scrapes, serving }
    }

    /// Returns how often it was scraped.
    pub(crate) fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::SeqCst)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn metrics(State(scrapes): State<Arc<AtomicU64>>, headers: HeaderMap) -> Response {
    let scrape = scrapes.fetch_add(1, Ordering::SeqCst) + 1;
    let accepts = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if accepts.contains("application/vnd.google.protobuf") {
        return ([(header::CONTENT_TYPE, PROTOBUF)], families(scrape)).into_response();
    }
    let text = format!(
        "# HELP {SCRAPES_METRIC} {PROBE_HELP}\n# TYPE {SCRAPES_METRIC} counter\n{SCRAPES_METRIC}{{probe=\"a\"}} {scrape}\n"
    );
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn pair(name: &str, value: &str) -> Pair {
    Pair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

/// A histogram whose buckets grow by one, two and three observations a scrape, and which gets a fourth one later.
fn histogram(scrape: u64) -> HistogramMessage {
    let count = i64::try_from(scrape).unwrap();
    let (length, mut absolute) = (if scrape > 5 { 4 } else { 3 }, vec![count, 2 * count, 3 * count]);
    if scrape > 5 {
        absolute.push(count - 5);
    }
    let deltas = absolute.iter().scan(0, |last, now| {
        let delta = now - *last;
        *last = *now;
        Some(delta)
    });
    HistogramMessage {
        sample_count: Some(absolute.iter().sum::<i64>().unsigned_abs() + scrape),
        sample_sum: Some(scrape as f64 * 0.1 + 0.000_1),
        schema: Some(3),
        zero_threshold: Some(1e-9),
        zero_count: Some(scrape),
        positive_span: vec![Span { offset: Some(-2), length: Some(length) }],
        positive_delta: deltas.collect(),
    }
}

fn families(scrape: u64) -> Vec<u8> {
    let exemplar = ExemplarMessage {
        label: vec![pair("trace_id", &format!("trace-{scrape}"))],
        value: Some(scrape as f64 + 0.5),
    };
    let counter = Counter { value: Some(scrape as f64), exemplar: Some(exemplar) };
    let one = |name: &str, kind, counter, histogram| Family {
        name: Some(name.to_owned()),
        help: Some(PROBE_HELP.to_owned()),
        kind: Some(kind),
        metric: vec![Metric { label: vec![pair("probe", "a")], counter, histogram }],
    };
    let mut out = Vec::new();
    for family in
        [one(SCRAPES_METRIC, 0, Some(counter), None), one(LATENCY_METRIC, 4, None, Some(histogram(scrape)))]
    {
        family.encode_length_delimited(&mut out).unwrap();
    }
    out
}
