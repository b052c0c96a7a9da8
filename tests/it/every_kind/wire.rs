//! Messages of the tests' own for every kind of data. A float is `fixed64` here: `double` on the wire, and every bit is
//! kept, also of -0.0, which prost would leave out as a default.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use crate::support::{Ack, LabelMessage, LabelPairs, RemoteWrite, compress, label_messages};

const V1: &str = "application/x-protobuf";
const V2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Span {
    #[prost(sint32, tag = "1")]
    pub(crate) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(crate) length: u32,
}

/// A native histogram; both versions of remote write and remote read number its fields alike.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(crate) count_int: Option<u64>,
    #[prost(fixed64, optional, tag = "2")]
    pub(crate) count_float: Option<u64>,
    #[prost(fixed64, tag = "3")]
    pub(crate) sum: u64,
    #[prost(sint32, tag = "4")]
    pub(crate) schema: i32,
    #[prost(fixed64, tag = "5")]
    pub(crate) zero_threshold: u64,
    #[prost(uint64, optional, tag = "6")]
    pub(crate) zero_count_int: Option<u64>,
    #[prost(fixed64, optional, tag = "7")]
    pub(crate) zero_count_float: Option<u64>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    pub(crate) negative_deltas: Vec<i64>,
    #[prost(fixed64, repeated, tag = "10")]
    pub(crate) negative_counts: Vec<u64>,
    #[prost(message, repeated, tag = "11")]
    pub(crate) positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    pub(crate) positive_deltas: Vec<i64>,
    #[prost(fixed64, repeated, tag = "13")]
    pub(crate) positive_counts: Vec<u64>,
    /// 0 unknown, 1 reset, 2 no reset, 3 gauge.
    #[prost(int32, tag = "14")]
    pub(crate) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(crate) ts_ms: i64,
    #[prost(fixed64, repeated, tag = "16")]
    pub(crate) custom_values: Vec<u64>,
    /// 2.0 alone has it.
    #[prost(int64, tag = "17")]
    pub(crate) start_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Sample {
    #[prost(fixed64, tag = "1")]
    pub(crate) bits: u64,
    #[prost(int64, tag = "2")]
    pub(crate) ts_ms: i64,
    /// 2.0 alone has it.
    #[prost(int64, tag = "3")]
    pub(crate) start_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(fixed64, tag = "2")]
    bits: u64,
    #[prost(int64, tag = "3")]
    ts_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(fixed64, tag = "2")]
    bits: u64,
    #[prost(int64, tag = "3")]
    ts_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV1 {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    exemplars: Vec<ExemplarV1>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Family {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct WriteV1 {
    #[prost(message, repeated, tag = "1")]
    series: Vec<SeriesV1>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Family>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataV2 {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "3")]
    help: u32,
    #[prost(uint32, tag = "4")]
    unit: u32,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    labels: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<ExemplarV2>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<MetadataV2>,
}

#[derive(Clone, PartialEq, Message)]
struct WriteV2 {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<SeriesV2>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exemplar {
    pub(crate) ts_ms: i64,
    pub(crate) labels: LabelPairs,
    pub(crate) bits: u64,
}

/// What is said about a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// The number that both versions have.
    pub(crate) kind: i32,
    pub(crate) help: String,
    pub(crate) unit: String,
}

/// A series with all it may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct FullSeries {
    pub(crate) labels: LabelPairs,
    pub(crate) samples: Vec<Sample>,
    pub(crate) histograms: Vec<Histogram>,
    pub(crate) exemplars: Vec<Exemplar>,
    /// Of the family with the name of the series.
    pub(crate) metadata: Option<Metadata>,
}

impl FullSeries {
    pub(crate) fn family(&self) -> &str {
        &self.labels.iter().find(|(name, _)| name == "__name__").unwrap().1
    }

    /// Returns it as 1.0 can say it: without start timestamps.
    pub(crate) fn without_starts(&self) -> Self {
        let mut plain = self.clone();
        plain.samples.iter_mut().for_each(|sample| sample.start_ms = 0);
        plain.histograms.iter_mut().for_each(|histogram| histogram.start_ms = 0);
        plain
    }
}

fn encode_v1(request: &[FullSeries]) -> Vec<u8> {
    let mut message = WriteV1::default();
    let mut families = BTreeMap::new();
    for one in request.iter().map(FullSeries::without_starts) {
        families.extend(one.metadata.clone().map(|metadata| (one.family().to_owned(), metadata)));
        let exemplars = one.exemplars.iter().map(|exemplar| ExemplarV1 {
            labels: label_messages(&exemplar.labels),
            bits: exemplar.bits,
            ts_ms: exemplar.ts_ms,
        });
        message.series.push(SeriesV1 {
            labels: label_messages(&one.labels),
            exemplars: exemplars.collect(),
            samples: one.samples,
            histograms: one.histograms,
        });
    }
    let family =
        |(name, said): (String, Metadata)| Family { kind: said.kind, name, help: said.help, unit: said.unit };
    message.metadata = families.into_iter().map(family).collect();
    message.encode_to_vec()
}

fn encode_v2(request: &[FullSeries]) -> Vec<u8> {
    let mut places = HashMap::from([(String::new(), 0u32)]);
    let mut symbols = vec![String::new()];
    let mut refer = |text: &str| {
        *places.entry(text.to_owned()).or_insert_with(|| {
            symbols.push(text.to_owned());
            u32::try_from(symbols.len() - 1).unwrap()
        })
    };
    let mut series = Vec::new();
    for one in request {
        let mut refer_all =
            |pairs: &LabelPairs| pairs.iter().flat_map(|(n, v)| [refer(n), refer(v)]).collect::<Vec<_>>();
        let labels = refer_all(&one.labels);
        let exemplar = |exemplar: &Exemplar| ExemplarV2 {
            labels: refer_all(&exemplar.labels),
            bits: exemplar.bits,
            ts_ms: exemplar.ts_ms,
        };
        let exemplars = one.exemplars.iter().map(exemplar).collect();
        let metadata = one.metadata.as_ref().map(|said| MetadataV2 {
            kind: said.kind,
            help: refer(&said.help),
            unit: refer(&said.unit),
        });
        let (samples, histograms) = (one.samples.clone(), one.histograms.clone());
        series.push(SeriesV2 { labels, samples, histograms, exemplars, metadata });
    }
    WriteV2 { symbols, series }.encode_to_vec()
}

/// Sends a request in version 1.0 or 2.0.
pub(crate) async fn send(
    remote: &RemoteWrite,
    request: &[FullSeries],
    v2: bool,
) -> Result<Ack, reqwest::Error> {
    let (body, content_type) = encode(request, v2);
    remote.send_body(compress(&body), content_type).await
}

/// Returns the body of a request, not compressed, and its content type.
pub(crate) fn encode(request: &[FullSeries], v2: bool) -> (Vec<u8>, &'static str) {
    if v2 { (encode_v2(request), V2) } else { (encode_v1(request), V1) }
}
