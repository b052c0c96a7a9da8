//! The messages as prost reads and writes them. Values are optional, so that -0.0 is written.

use prost::Message;

use crate::model::{HistogramSample, NativeHistogram, Span};

#[derive(Clone, PartialEq, Message)]
pub(super) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<TimeSeries>,
    #[prost(message, repeated, tag = "3")]
    pub(super) metadata: Vec<WireMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<WireSample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) exemplars: Vec<WireExemplar>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<WireHistogram>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WireSample {
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
    #[prost(int64, tag = "3")]
    pub(super) start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WireExemplar {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WireExemplarV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) labels_refs: Vec<u32>,
    #[prost(double, optional, tag = "2")]
    pub(super) value: Option<f64>,
    #[prost(int64, tag = "3")]
    pub(super) timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WireMetadata {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) family: String,
    #[prost(string, tag = "4")]
    pub(super) help: String,
    #[prost(string, tag = "5")]
    pub(super) unit: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct WireSpan {
    #[prost(sint32, tag = "1")]
    pub(super) offset: i32,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WireHistogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) count_float: Option<f64>,
    #[prost(double, optional, tag = "3")]
    pub(super) sum: Option<f64>,
    #[prost(sint32, tag = "4")]
    pub(super) schema: i32,
    #[prost(double, optional, tag = "5")]
    pub(super) zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "6")]
    pub(super) zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    pub(super) zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    pub(super) negative_spans: Vec<WireSpan>,
    #[prost(sint64, repeated, tag = "9")]
    pub(super) negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    pub(super) negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    pub(super) positive_spans: Vec<WireSpan>,
    #[prost(sint64, repeated, tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    pub(super) positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    pub(super) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    pub(super) custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    pub(super) start_timestamp: i64,
}

/// Repeated numbers as proto2 would write them, one field each.
#[derive(Clone, PartialEq, Message)]
pub(super) struct UnpackedHistogram {
    #[prost(sint64, repeated, packed = "false", tag = "9")]
    pub(super) negative_deltas: Vec<i64>,
    #[prost(sint64, repeated, packed = "false", tag = "12")]
    pub(super) positive_deltas: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "13")]
    pub(super) positive_counts: Vec<f64>,
    #[prost(double, repeated, packed = "false", tag = "16")]
    pub(super) custom_values: Vec<f64>,
}

impl From<&HistogramSample> for WireHistogram {
    fn from(sample: &HistogramSample) -> Self {
        let spans = |spans: &[Span]| {
            spans.iter().map(|s| WireSpan { offset: s.offset, length: s.length }).collect::<Vec<_>>()
        };
        let stamped = Self { timestamp: sample.ts_ms, start_timestamp: sample.start_ms, ..Self::default() };
        match &sample.histogram {
            NativeHistogram::Int(h) => Self {
                count_int: Some(h.count),
                sum: Some(h.sum),
                schema: h.schema,
                zero_threshold: Some(h.zero_threshold),
                zero_count_int: Some(h.zero_count),
                negative_spans: spans(&h.negative_spans),
                negative_deltas: h.negative_buckets.clone(),
                positive_spans: spans(&h.positive_spans),
                positive_deltas: h.positive_buckets.clone(),
                reset_hint: i32::from(h.counter_reset_hint),
                custom_values: h.custom_values.clone(),
                ..stamped
            },
            NativeHistogram::Float(h) => Self {
                count_float: Some(h.count),
                sum: Some(h.sum),
                schema: h.schema,
                zero_threshold: Some(h.zero_threshold),
                zero_count_float: Some(h.zero_count),
                negative_spans: spans(&h.negative_spans),
                negative_counts: h.negative_buckets.clone(),
                positive_spans: spans(&h.positive_spans),
                positive_counts: h.positive_buckets.clone(),
                reset_hint: i32::from(h.counter_reset_hint),
                custom_values: h.custom_values.clone(),
                ..stamped
            },
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestV2 {
    #[prost(string, repeated, tag = "4")]
    pub(super) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) timeseries: Vec<TimeSeriesV2>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TimeSeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<WireSample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) histograms: Vec<WireHistogram>,
    #[prost(message, repeated, tag = "4")]
    pub(super) exemplars: Vec<WireExemplarV2>,
    #[prost(message, optional, tag = "5")]
    pub(super) metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    pub(super) created_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(uint32, tag = "3")]
    pub(super) help_ref: u32,
    #[prost(uint32, tag = "4")]
    pub(super) unit_ref: u32,
}

/// The references as proto2 would write them, one field each.
#[derive(Clone, PartialEq, Message)]
pub(super) struct UnpackedReferences {
    #[prost(uint32, repeated, packed = "false", tag = "1")]
    pub(super) labels_refs: Vec<u32>,
}
