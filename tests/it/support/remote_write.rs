//! A remote-write sender of its own: no code shared with the receiver.

use prost::Message;

use super::samples::{LabelMessage, LabelPairs, label_messages};

/// One series to send.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) labels: LabelPairs,
    /// `(ms, bits of the value)`.
    pub(crate) samples: Vec<(i64, u64)>,
}

// `fixed64` is `double` on the wire and keeps every bit, also of -0.0, which prost would leave out as a default.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct SampleMessage {
    #[prost(fixed64, tag = "1")]
    bits: u64,
    #[prost(int64, tag = "2")]
    ts_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(int64, tag = "3")]
    ts_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesMessage {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<ExemplarMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct WriteMessage {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<SeriesMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesMessageV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct WriteMessageV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<SeriesMessageV2>,
}

/// What the receiver answered.
#[derive(Debug)]
pub(crate) struct Ack {
    pub(crate) status: u16,
    /// `X-Prometheus-Remote-Write-Samples-Written`, where it came.
    pub(crate) samples_written: Option<u64>,
    /// `Retry-After`, where it came.
    pub(crate) retry_after: Option<String>,
    pub(crate) body: String,
}

/// A sender to one address.
#[derive(Debug, Clone)]
pub(crate) struct RemoteWrite {
    client: reqwest::Client,
    url: String,
    tenant: Option<String>,
}

impl RemoteWrite {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: super::client(), url: url.to_owned(), tenant: None }
    }

    /// Returns a sender that names a tenant.
    pub(crate) fn for_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Returns the snappy body of a 1.0 request.
    pub(crate) fn encode(series: &[Series]) -> Vec<u8> {
        compress(&Self::message(series))
    }

    /// Returns the message of a 1.0 request.
    pub(crate) fn message(series: &[Series]) -> Vec<u8> {
        let timeseries = series
            .iter()
            .map(|s| SeriesMessage {
                labels: label_messages(&s.labels),
                samples: sample_messages(s),
                exemplars: Vec::new(),
            })
            .collect();
        WriteMessage { timeseries }.encode_to_vec()
    }

    /// Sends one series whose every sample has an exemplar with a trace id of its own.
    pub(crate) async fn send_with_exemplars(&self, series: &Series) -> Result<Ack, reqwest::Error> {
        let exemplar = |(ts_ms, bits): &(i64, u64)| {
            let labels = label_messages(&vec![("trace_id".to_owned(), format!("trace-{ts_ms}"))]);
            ExemplarMessage { labels, value: f64::from_bits(*bits), ts_ms: *ts_ms }
        };
        let message = SeriesMessage {
            labels: label_messages(&series.labels),
            samples: sample_messages(series),
            exemplars: series.samples.iter().map(exemplar).collect(),
        };
        let body = compress(&WriteMessage { timeseries: vec![message] }.encode_to_vec());
        self.send_body(body, "application/x-protobuf").await
    }

    /// Returns the snappy body of a 2.0 request.
    pub(crate) fn encode_v2(series: &[Series]) -> Vec<u8> {
        compress(&Self::message_v2(series))
    }

    /// Returns the message of a 2.0 request.
    pub(crate) fn message_v2(series: &[Series]) -> Vec<u8> {
        let mut numbers = std::collections::HashMap::from([(String::new(), 0u32)]);
        let mut symbols = vec![String::new()];
        let mut refer = |text: &str| {
            *numbers.entry(text.to_owned()).or_insert_with(|| {
                symbols.push(text.to_owned());
                u32::try_from(symbols.len() - 1).unwrap()
            })
        };
        let timeseries = series
            .iter()
            .map(|s| SeriesMessageV2 {
                labels_refs: s.labels.iter().flat_map(|(n, v)| [refer(n), refer(v)]).collect(),
                samples: sample_messages(s),
            })
            .collect();
        WriteMessageV2 { symbols, timeseries }.encode_to_vec()
    }

    /// Sends one 1.0 request; an error is a lost connection, where the outcome is unknown.
    pub(crate) async fn send(&self, series: &[Series]) -> Result<Ack, reqwest::Error> {
        self.send_body(Self::encode(series), "application/x-protobuf").await
    }

    /// Sends one 2.0 request.
    pub(crate) async fn send_v2(&self, series: &[Series]) -> Result<Ack, reqwest::Error> {
        let kind = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
        self.send_body(Self::encode_v2(series), kind).await
    }

    /// Sends a compressed body as it is.
    pub(crate) async fn send_body(&self, body: Vec<u8>, content_type: &str) -> Result<Ack, reqwest::Error> {
        let version = if content_type.contains("v2") { "2.0.0" } else { "0.1.0" };
        let mut request = self
            .client
            .post(&self.url)
            .header("Content-Type", content_type)
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", version)
            .body(body);
        if let Some(tenant) = &self.tenant {
            request = request.header("THANOS-TENANT", tenant);
        }
        let answer = request.send().await?;
        let written = answer.headers().get("X-Prometheus-Remote-Write-Samples-Written");
        let samples_written = written.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let retry_after =
            answer.headers().get("Retry-After").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let status = answer.status().as_u16();
        Ok(Ack { status, samples_written, retry_after, body: answer.text().await? })
    }
}

fn sample_messages(series: &Series) -> Vec<SampleMessage> {
    series.samples.iter().map(|(ts_ms, bits)| SampleMessage { bits: *bits, ts_ms: *ts_ms }).collect()
}

/// Compresses as remote write wants it: snappy's block format.
pub(crate) fn compress(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(message).unwrap()
}
