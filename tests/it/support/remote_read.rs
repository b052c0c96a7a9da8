//! A remote-read client with messages of its own.

use prost::Message;

use super::chunk::decode_xor;
use super::samples::{LabelMessage, LabelPairs, SampleSet, pairs_of};

/// Which form of answer to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Samples,
    Streamed,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MatcherMessage {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) value: String,
}

impl MatcherMessage {
    /// Kinds: 0 `=`, 1 `!=`, 2 `=~`, 3 `!~`.
    pub(super) fn new((kind, name, value): (i32, &str, &str)) -> Self {
        Self { kind, name: name.to_owned(), value: value.to_owned() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct QueryMessage {
    #[prost(int64, tag = "1")]
    start_ms: i64,
    #[prost(int64, tag = "2")]
    end_ms: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<MatcherMessage>,
}

/// A read request.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadMessage {
    #[prost(message, repeated, tag = "1")]
    queries: Vec<QueryMessage>,
    #[prost(int32, repeated, tag = "2")]
    accepted: Vec<i32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct SampleMessage {
    #[prost(fixed64, tag = "1")]
    bits: u64,
    #[prost(int64, tag = "2")]
    ts_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesMessage {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ResultMessage {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<SeriesMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct AnswerMessage {
    #[prost(message, repeated, tag = "1")]
    results: Vec<ResultMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkMessage {
    #[prost(int64, tag = "1")]
    min_ms: i64,
    #[prost(int64, tag = "2")]
    max_ms: i64,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ChunkedSeriesMessage {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<ChunkMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct FrameMessage {
    #[prost(message, repeated, tag = "1")]
    series: Vec<ChunkedSeriesMessage>,
    #[prost(int64, tag = "2")]
    query: i64,
}

/// A chunk as it came.
#[derive(Debug, Clone)]
pub(crate) struct RawChunk {
    pub(crate) labels: LabelPairs,
    /// As the protocol counts: StoreAPI from 0, remote read from 1.
    pub(crate) kind: i32,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    pub(crate) data: Vec<u8>,
}

/// A reader of one address.
#[derive(Debug, Clone)]
pub(crate) struct RemoteRead {
    client: reqwest::Client,
    url: String,
    tenant: Option<String>,
}

impl RemoteRead {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: super::client(), url: url.to_owned(), tenant: None }
    }

    /// Returns a reader that names a tenant.
    pub(crate) fn for_tenant(mut self, tenant: &str) -> Self {
        self.tenant = Some(tenant.to_owned());
        self
    }

    /// Returns every sample inside `[start, end]`.
    pub(crate) async fn all(&self, start_ms: i64, end_ms: i64, answer: Answer) -> SampleSet {
        self.matching(&[(2, "__name__", ".+")], start_ms, end_ms, answer).await
    }

    /// Returns the samples of the series that match, inside `[start, end]`.
    pub(crate) async fn matching(
        &self,
        matchers: &[(i32, &str, &str)],
        start_ms: i64,
        end_ms: i64,
        answer: Answer,
    ) -> SampleSet {
        let body = self.body(matchers, start_ms, end_ms, answer).await;
        match answer {
            Answer::Streamed => decode_frames(&body, start_ms, end_ms),
            Answer::Samples => decode_samples(&body),
        }
    }

    /// Returns every chunk of the series that match and reach into `[start, end]`.
    pub(crate) async fn chunks(
        &self,
        matchers: &[(i32, &str, &str)],
        start_ms: i64,
        end_ms: i64,
    ) -> Vec<RawChunk> {
        chunks_of(&self.body(matchers, start_ms, end_ms, Answer::Streamed).await)
    }

    /// Returns the body of an answer as it came.
    pub(crate) async fn body(
        &self,
        matchers: &[(i32, &str, &str)],
        start_ms: i64,
        end_ms: i64,
        answer: Answer,
    ) -> bytes::Bytes {
        let message = read_message(matchers, start_ms, end_ms, answer == Answer::Streamed);
        let mut request = self
            .client
            .post(&self.url)
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Read-Version", "0.1.0")
            .body(super::remote_write::compress(&message.encode_to_vec()));
        if let Some(tenant) = &self.tenant {
            request = request.header("THANOS-TENANT", tenant);
        }
        let response = request.send().await.unwrap_or_else(|e| panic!("remote read: {e:?}"));
        let status = response.status();
        let kind = response.headers().get("Content-Type").map(|v| v.to_str().unwrap().to_owned());
        let body = response.bytes().await.unwrap_or_else(|e| panic!("remote read: {e:?}"));
        assert!(status.is_success(), "remote read: {status} {}", String::from_utf8_lossy(&body));
        let streamed = kind.is_some_and(|k| k.starts_with("application/x-streamed-protobuf"));
        assert_eq!(streamed, answer == Answer::Streamed, "the answer has the form that was asked for");
        body
    }
}

/// Returns a read request with one query.
pub(crate) fn read_message(
    matchers: &[(i32, &str, &str)],
    start_ms: i64,
    end_ms: i64,
    streamed: bool,
) -> ReadMessage {
    let matchers = matchers.iter().copied().map(MatcherMessage::new).collect();
    let accepted = if streamed { vec![1, 0] } else { vec![0] };
    ReadMessage { queries: vec![QueryMessage { start_ms, end_ms, matchers }], accepted }
}

fn decode_samples(body: &[u8]) -> SampleSet {
    let message = snap::raw::Decoder::new().decompress_vec(body).unwrap();
    let answer = AnswerMessage::decode(message.as_slice()).unwrap();
    let mut set = SampleSet::default();
    for series in answer.results.into_iter().flat_map(|r| r.timeseries) {
        set.append(pairs_of(series.labels), series.samples.iter().map(|s| (s.ts_ms, s.bits)));
    }
    set
}

/// Frames are a length, a CRC-32C and a message.
fn chunks_of(mut body: &[u8]) -> Vec<RawChunk> {
    let mut chunks = Vec::new();
    while !body.is_empty() {
        let length = prost::decode_length_delimiter(body).unwrap();
        body = &body[prost::length_delimiter_len(length)..];
        let (sum, rest) = body.split_at(4);
        let (message, rest) = rest.split_at(length);
        assert_eq!(sum, crc32c::crc32c(message).to_be_bytes(), "the frame's checksum");
        body = rest;
        for series in FrameMessage::decode(message).unwrap().series {
            let labels = pairs_of(series.labels);
            chunks.extend(series.chunks.into_iter().map(|chunk| RawChunk {
                labels: labels.clone(),
                kind: chunk.kind,
                min_ms: chunk.min_ms,
                max_ms: chunk.max_ms,
                data: chunk.data,
            }));
        }
    }
    chunks
}

/// Chunks may reach beyond what was asked for.
fn decode_frames(body: &[u8], start_ms: i64, end_ms: i64) -> SampleSet {
    let mut set = SampleSet::default();
    for chunk in chunks_of(body) {
        assert_eq!(chunk.kind, 1, "an XOR chunk");
        let samples = decode_xor(&chunk.data);
        assert_eq!(samples.first().map(|s| s.0), Some(chunk.min_ms), "the chunk's least time");
        assert_eq!(samples.last().map(|s| s.0), Some(chunk.max_ms), "the chunk's greatest time");
        let inside = samples.into_iter().filter(|(ts, _)| (start_ms..=end_ms).contains(ts));
        set.append(chunk.labels, inside);
    }
    set.series.retain(|_, samples| !samples.is_empty());
    set
}
