//! A StoreAPI client with messages of its own, as `thanos query` would ask.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use prost::Message;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;
use tower::ServiceExt;
use xxhash_rust::xxh64::xxh64;

use super::chunk::decode_xor;
use super::remote_read::{MatcherMessage, RawChunk};
use super::samples::{LabelMessage, LabelPairs, SampleSet, pairs_of};

// The batch size that Thanos Query 0.42 always asks for.
const BATCH: i64 = 64;

#[derive(Clone, PartialEq, Message)]
struct SeriesRequest {
    #[prost(int64, tag = "1")]
    min_ms: i64,
    #[prost(int64, tag = "2")]
    max_ms: i64,
    #[prost(message, repeated, tag = "3")]
    matchers: Vec<MatcherMessage>,
    #[prost(string, repeated, tag = "14")]
    without_replica_labels: Vec<String>,
    #[prost(int64, tag = "16")]
    batch: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Chunk {
    #[prost(int32, tag = "1")]
    encoding: i32,
    #[prost(bytes = "bytes", tag = "2")]
    data: bytes::Bytes,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

#[derive(Clone, PartialEq, Message)]
struct AggrChunk {
    #[prost(int64, tag = "1")]
    min_ms: i64,
    #[prost(int64, tag = "2")]
    max_ms: i64,
    #[prost(message, tag = "3")]
    raw: Option<Chunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    chunks: Vec<AggrChunk>,
}

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesResponse {
    #[prost(message, tag = "1")]
    series: Option<Series>,
    #[prost(string, tag = "2")]
    warning: String,
    #[prost(message, tag = "4")]
    batch: Option<Batch>,
}

#[derive(Clone, PartialEq, Message)]
struct InfoResponse {
    #[prost(message, repeated, tag = "1")]
    label_sets: Vec<LabelSet>,
    #[prost(string, tag = "2")]
    component: String,
}

#[derive(Clone, PartialEq, Message)]
struct LabelSet {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
}

/// What a Series answer held so far, checked as it comes.
#[derive(Debug, Default)]
struct Collected {
    set: SampleSet,
    previous: Option<LabelPairs>,
}

impl Collected {
    /// Takes a frame; of its samples those that `is_inside`.
    fn take(&mut self, frame: SeriesResponse, is_inside: impl Fn(i64) -> bool) {
        assert_eq!(frame.warning, "", "no warning");
        for series in frame.series.into_iter().chain(frame.batch.into_iter().flat_map(|b| b.series)) {
            let labels = pairs_of(series.labels);
            assert!(labels.is_sorted(), "labels are sorted: {labels:?}");
            let previous = self.previous.as_ref();
            assert!(previous.is_none_or(|p| *p <= labels), "{labels:?} came after {previous:?}");
            assert!(!series.chunks.is_empty(), "{labels:?} came without a chunk");
            for chunk in series.chunks {
                let inside = chunk_samples(&chunk).into_iter().filter(|(ts, _)| is_inside(*ts));
                self.set.append(labels.clone(), inside);
            }
            self.previous = Some(labels);
        }
    }

    fn finish(mut self) -> SampleSet {
        self.set.series.retain(|_, samples| !samples.is_empty());
        self.set
    }
}

/// A client of one process.
#[derive(Debug, Clone)]
pub(crate) struct StoreApi {
    channel: Channel,
}

impl StoreApi {
    pub(crate) async fn connect(port: u16) -> Self {
        Self::try_connect(port).await.unwrap_or_else(|e| panic!("gRPC port {port}: {e:?}"))
    }

    /// Connects to a process that may be away.
    pub(crate) async fn try_connect(port: u16) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        Ok(Self { channel: endpoint.connect().await? })
    }

    /// Returns every sample inside `[start, end]` of a process that may be away.
    pub(crate) async fn try_all(&self, start_ms: i64, end_ms: i64) -> Result<SampleSet, tonic::Status> {
        self.try_matching(&[(2, "__name__", ".+")], start_ms, end_ms, &[]).await
    }

    /// Returns every sample inside `[start, end]`, checking order, hashes and bounds of what comes.
    pub(crate) async fn all(&self, start_ms: i64, end_ms: i64) -> SampleSet {
        self.matching(&[(2, "__name__", ".+")], start_ms, end_ms, &[]).await
    }

    /// Returns the samples of the series that match, without the replica labels.
    pub(crate) async fn matching(
        &self,
        matchers: &[(i32, &str, &str)],
        start_ms: i64,
        end_ms: i64,
        without_replica_labels: &[&str],
    ) -> SampleSet {
        let matching = self.try_matching(matchers, start_ms, end_ms, without_replica_labels).await;
        matching.unwrap_or_else(|e| panic!("Series: {e:?}"))
    }

    /// As [`Self::matching`], of a process that may refuse.
    pub(crate) async fn try_matching(
        &self,
        matchers: &[(i32, &str, &str)],
        start_ms: i64,
        end_ms: i64,
        without_replica_labels: &[&str],
    ) -> Result<SampleSet, tonic::Status> {
        let request = SeriesRequest {
            min_ms: start_ms,
            max_ms: end_ms,
            matchers: matchers.iter().copied().map(MatcherMessage::new).collect(),
            without_replica_labels: without_replica_labels.iter().map(|l| (*l).to_owned()).collect(),
            batch: BATCH,
        };
        let mut collected = Collected::default();
        self.frames(request, |frame| collected.take(frame, |ts| (start_ms..=end_ms).contains(&ts))).await?;
        Ok(collected.finish())
    }

    /// Returns all series without some labels as they come: equal label sets may follow each other.
    pub(crate) async fn series_sent(
        &self,
        without_replica_labels: &[&str],
    ) -> Vec<(LabelPairs, Vec<(i64, u64)>)> {
        let without_replica_labels = without_replica_labels.iter().map(|l| (*l).to_owned()).collect();
        let request = SeriesRequest { without_replica_labels, ..everything(0, i64::MAX / 2) };
        let mut sent = Vec::new();
        self.frames(request, |frame| {
            for series in frame.series.into_iter().chain(frame.batch.into_iter().flat_map(|b| b.series)) {
                let samples = series.chunks.iter().flat_map(chunk_samples).collect();
                sent.push((pairs_of(series.labels), samples));
            }
        })
        .await
        .unwrap_or_else(|e| panic!("Series: {e:?}"));
        sent
    }

    /// Asks for everything, takes one frame and goes away.
    pub(crate) async fn leave_after_one_frame(&self) {
        let mut stream =
            self.series(everything(0, i64::MAX / 2)).await.unwrap_or_else(|e| panic!("Series: {e:?}"));
        assert!(stream.message().await.unwrap().is_some());
    }

    /// Asks for everything in a compressed message, and demands compressed ones; returns how many came too.
    pub(crate) async fn all_compressed(&self) -> (SampleSet, usize) {
        let question = everything(0, i64::MAX / 2).encode_to_vec();
        let body = bytes::Bytes::from(framed(1, &compress(&question)));
        let request = http::Request::post("http://in-process/thanos.Store/Series")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-encoding", "snappy")
            .body(tonic::body::Body::new(http_body_util::Full::new(body)))
            .unwrap();
        let answer = self.channel.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.headers()["grpc-encoding"], "snappy");
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        let bytes = collected.to_bytes();
        let (mut rest, mut found, mut messages) = (&bytes[..], Collected::default(), 0);
        while let Some((head, behind)) = rest.split_first_chunk::<5>() {
            assert_eq!(head[0], 1, "each message is compressed");
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let message = decompress(&behind[..length]);
            found.take(SeriesResponse::decode(&message[..]).unwrap(), |_| true);
            rest = &behind[length..];
            messages += 1;
        }
        (found.finish(), messages)
    }

    /// Returns every chunk that reaches into `[start, end]`, as it came: its series, encoding and bytes.
    pub(crate) async fn chunks(&self, start_ms: i64, end_ms: i64) -> BTreeSet<(LabelPairs, i32, Vec<u8>)> {
        self.chunks_without(&[], start_ms, end_ms).await
    }

    /// The same without the replica labels.
    pub(crate) async fn chunks_without(
        &self,
        hidden: &[&str],
        start_ms: i64,
        end_ms: i64,
    ) -> BTreeSet<(LabelPairs, i32, Vec<u8>)> {
        let chunks = self.raw_chunks(hidden, start_ms, end_ms).await.into_iter();
        chunks.map(|chunk| (chunk.labels, chunk.kind, chunk.data)).collect()
    }

    /// Returns the chunks without the replica labels, in the order in which they came.
    pub(crate) async fn raw_chunks(&self, hidden: &[&str], start_ms: i64, end_ms: i64) -> Vec<RawChunk> {
        let without_replica_labels = hidden.iter().map(|l| (*l).to_owned()).collect();
        let request = SeriesRequest { without_replica_labels, ..everything(start_ms, end_ms) };
        let mut chunks = Vec::new();
        self.frames(request, |frame| {
            for series in frame.series.into_iter().chain(frame.batch.into_iter().flat_map(|b| b.series)) {
                let labels = pairs_of(series.labels);
                for AggrChunk { min_ms, max_ms, raw } in series.chunks {
                    let raw = raw.expect("raw data answers with raw chunks");
                    let (labels, kind, data) = (labels.clone(), raw.encoding, raw.data.to_vec());
                    chunks.push(RawChunk { labels, kind, min_ms, max_ms, data });
                }
            }
        })
        .await
        .unwrap_or_else(|e| panic!("Series: {e:?}"));
        chunks
    }

    /// Returns the samples of an XOR chunk.
    pub(crate) fn decode(data: &[u8]) -> Vec<(i64, u64)> {
        decode_xor(data)
    }

    /// Asks for everything inside `[start, end]` and only counts the samples that the chunks say they hold.
    #[allow(dead_code, reason = "the bench uses it")]
    pub(crate) async fn count(&self, start_ms: i64, end_ms: i64) -> usize {
        let request = everything(start_ms, end_ms);
        let mut samples = 0;
        self.frames(request, |frame| {
            let series = frame.series.into_iter().chain(frame.batch.into_iter().flat_map(|b| b.series));
            for chunk in series.flat_map(|s| s.chunks).filter_map(|c| c.raw) {
                samples += usize::from(u16::from_be_bytes([chunk.data[0], chunk.data[1]]));
            }
        })
        .await
        .unwrap_or_else(|e| panic!("Series: {e:?}"));
        samples
    }

    /// Returns how many label sets the process tells of.
    #[allow(dead_code, reason = "the bench uses it")]
    pub(crate) async fn label_sets(&self) -> usize {
        self.info().await.1.len()
    }

    /// Returns what the process says that it is, and which labels its series have.
    pub(crate) async fn info(&self) -> (String, Vec<LabelPairs>) {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/thanos.info.Info/Info");
        let codec = ProstCodec::<(), InfoResponse>::default();
        let answer = grpc.unary(tonic::Request::new(()), path, codec).await;
        let answer = answer.unwrap_or_else(|e| panic!("Info: {e:?}")).into_inner();
        let sets = answer.label_sets.into_iter().map(|set| pairs_of(set.labels));
        (answer.component, sets.collect())
    }

    async fn series(&self, request: SeriesRequest) -> Result<Streaming<SeriesResponse>, tonic::Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<SeriesRequest, SeriesResponse>::default();
        let path = PathAndQuery::from_static("/thanos.Store/Series");
        let answer = grpc.server_streaming(tonic::Request::new(request), path, codec).await;
        Ok(answer?.into_inner())
    }

    async fn frames(
        &self,
        request: SeriesRequest,
        mut on_frame: impl FnMut(SeriesResponse),
    ) -> Result<(), tonic::Status> {
        let mut stream = self.series(request).await?;
        while let Some(frame) = stream.message().await? {
            on_frame(frame);
        }
        Ok(())
    }
}

fn everything(min_ms: i64, max_ms: i64) -> SeriesRequest {
    SeriesRequest {
        min_ms,
        max_ms,
        matchers: vec![MatcherMessage::new((2, "__name__", ".+"))],
        without_replica_labels: Vec::new(),
        batch: BATCH,
    }
}

/// A gRPC message with what stands before it.
fn framed(compressed: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[compressed], &length[..], message].concat()
}

fn compress(message: &[u8]) -> Vec<u8> {
    let mut out = snap::write::FrameEncoder::new(Vec::new());
    out.write_all(message).unwrap();
    out.into_inner().unwrap()
}

fn decompress(stream: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    snap::read::FrameDecoder::new(stream).read_to_end(&mut message).unwrap();
    message
}

fn chunk_samples(chunk: &AggrChunk) -> Vec<(i64, u64)> {
    let raw = chunk.raw.as_ref().expect("raw data answers with raw chunks");
    assert_eq!(raw.encoding, 0, "an XOR chunk");
    assert_eq!(raw.hash, xxh64(&raw.data, 0), "the chunk's hash");
    let samples = decode_xor(&raw.data);
    assert_eq!(samples.first().map(|s| s.0), Some(chunk.min_ms), "the chunk's least time");
    assert_eq!(samples.last().map(|s| s.0), Some(chunk.max_ms), "the chunk's greatest time");
    samples
}
