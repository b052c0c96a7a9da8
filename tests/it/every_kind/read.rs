//! Everything back, over every protocol, into the terms of the model.

use std::collections::BTreeMap;

use perennial::model::{FloatHistogram, Histogram as Whole, Span as WholeSpan};
use perennial::tsdb::chunk::{Encoding, SampleValue, decode_chunk};
use prost::Message;
use serde_json::Value;

use super::model::{ANY_NAN, Exemplars, Point, Points};
use super::wire::{Exemplar, Histogram, Metadata, Sample, Span};
use crate::support::{Answer, LabelMessage, LabelPairs, RawChunk, Setup, get_json, pairs_of};

const ALL: (i64, i64) = (i64::MIN / 2, i64::MAX / 2);
const EVERY_NAME: (i32, &str, &str) = (2, "__name__", ".+");

/// The names of the types, in the order of their numbers.
const TYPES: [&str; 8] =
    ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

#[derive(Clone, PartialEq, Message)]
struct Series {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelMessage>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct QueryResult {
    #[prost(message, repeated, tag = "1")]
    series: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
struct ReadResponse {
    #[prost(message, repeated, tag = "1")]
    results: Vec<QueryResult>,
}

/// Takes a sample in; one that comes twice is a failure.
fn put(points: &mut Points, labels: &LabelPairs, ts_ms: i64, point: Point) {
    let twice = points.entry(labels.clone()).or_default().insert(ts_ms, point);
    assert!(twice.is_none(), "{labels:?} at {ts_ms} came twice");
}

/// Reads everything over remote read in the form of samples.
pub(super) async fn samples(setup: &Setup) -> Points {
    let body = setup.remote_read().body(&[EVERY_NAME], ALL.0, ALL.1, Answer::Samples).await;
    let message = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
    let mut points = Points::new();
    for series in ReadResponse::decode(message.as_slice()).unwrap().results.into_iter().flat_map(|r| r.series)
    {
        let labels = pairs_of(series.labels);
        assert!(
            series.samples.is_sorted_by_key(|s| s.ts_ms) && series.histograms.is_sorted_by_key(|h| h.ts_ms)
        );
        for sample in series.samples {
            put(&mut points, &labels, sample.ts_ms, Point::Float(sample.bits));
        }
        for histogram in series.histograms {
            put(&mut points, &labels, histogram.ts_ms, Point::of_histogram(&histogram));
        }
    }
    points
}

/// Reads everything over remote read in the form of chunks.
pub(super) async fn streamed(setup: &Setup) -> Points {
    of_chunks(setup.remote_read().chunks(&[EVERY_NAME], ALL.0, ALL.1).await)
}

/// Reads everything over StoreAPI.
pub(super) async fn store_api(setup: &Setup) -> Points {
    let mut chunks = setup.store_api().await.raw_chunks(&[], ALL.0, ALL.1).await;
    for chunk in &mut chunks {
        chunk.labels.retain(|(name, _)| name != "tenant_id");
        // StoreAPI counts from 0, remote read from 1.
        chunk.kind += 1;
    }
    of_chunks(chunks)
}

fn of_chunks(chunks: Vec<RawChunk>) -> Points {
    let mut points = Points::new();
    for chunk in chunks {
        let encoding = Encoding::from_byte(u8::try_from(chunk.kind).unwrap()).unwrap();
        assert!(matches!(encoding, Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram));
        let mut times = Vec::new();
        for sample in decode_chunk(encoding, &chunk.data).map(Result::unwrap) {
            times.push(sample.t_ms);
            let point = match sample.value {
                SampleValue::Float(bits) => Point::Float(bits),
                SampleValue::Histogram(whole) => Point::Histogram(Box::new(of_whole(&whole))),
                SampleValue::FloatHistogram(float) => Point::Histogram(Box::new(of_float(&float))),
            };
            put(&mut points, &chunk.labels, sample.t_ms, point.in_chunks());
        }
        assert!(times.is_sorted(), "a chunk is in order of time");
        assert_eq!((times.first(), times.last()), (Some(&chunk.min_ms), Some(&chunk.max_ms)), "its bounds");
    }
    points
}

fn spans(spans: &[WholeSpan]) -> Vec<Span> {
    spans.iter().map(|span| Span { offset: span.offset, length: span.length }).collect()
}

fn all_bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn of_whole(whole: &Whole) -> Histogram {
    Histogram {
        count_int: Some(whole.count),
        zero_count_int: Some(whole.zero_count),
        sum: whole.sum.to_bits(),
        schema: whole.schema,
        zero_threshold: whole.zero_threshold.to_bits(),
        negative_spans: spans(&whole.negative_spans),
        negative_deltas: whole.negative_buckets.clone(),
        positive_spans: spans(&whole.positive_spans),
        positive_deltas: whole.positive_buckets.clone(),
        reset_hint: whole.counter_reset_hint.into(),
        custom_values: all_bits(&whole.custom_values),
        ..Histogram::default()
    }
}

fn of_float(float: &FloatHistogram) -> Histogram {
    Histogram {
        count_float: Some(float.count.to_bits()),
        zero_count_float: Some(float.zero_count.to_bits()),
        sum: float.sum.to_bits(),
        schema: float.schema,
        zero_threshold: float.zero_threshold.to_bits(),
        negative_spans: spans(&float.negative_spans),
        negative_counts: all_bits(&float.negative_buckets),
        positive_spans: spans(&float.positive_spans),
        positive_counts: all_bits(&float.positive_buckets),
        reset_hint: float.counter_reset_hint.into(),
        custom_values: all_bits(&float.custom_values),
        ..Histogram::default()
    }
}

fn pairs(object: &Value) -> LabelPairs {
    let pairs = object.as_object().unwrap().iter();
    let mut pairs: LabelPairs =
        pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    pairs.sort();
    pairs
}

/// Returns the bits of a number in a text; all NaNs are one.
pub(super) fn text_bits(text: &str) -> u64 {
    let value: f64 = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    if value.is_nan() { ANY_NAN } else { value.to_bits() }
}

async fn data(setup: &Setup, path: &str, query: &[(&str, &str)]) -> Value {
    let answer = get_json(&setup.url(path), query).await;
    assert_eq!(answer["status"], "success", "{answer}");
    answer["data"].clone()
}

/// Reads all exemplars over `/api/v1/query_exemplars`.
pub(super) async fn exemplars(setup: &Setup) -> Exemplars {
    let found = data(setup, "/api/v1/query_exemplars", &[("query", "{__name__=~\".+\"}")]).await;
    let mut all = Exemplars::new();
    for series in found.as_array().unwrap() {
        let one = |one: &Value| Exemplar {
            ts_ms: (one["timestamp"].as_f64().unwrap() * 1_000.0).round() as i64,
            labels: pairs(&one["labels"]),
            bits: text_bits(one["value"].as_str().unwrap()),
        };
        let mut exemplars: Vec<_> = series["exemplars"].as_array().unwrap().iter().map(one).collect();
        exemplars.sort();
        assert!(all.insert(pairs(&series["seriesLabels"]), exemplars).is_none(), "a series came twice");
    }
    all
}

/// Returns metadata of its type's name.
pub(super) fn said(kind: &str, help: &str, unit: &str) -> Metadata {
    let kind = TYPES.iter().position(|name| *name == kind).unwrap_or_else(|| panic!("type {kind:?}"));
    Metadata { kind: i32::try_from(kind).unwrap(), help: help.to_owned(), unit: unit.to_owned() }
}

/// Reads the history of all metadata over `/api/v1/metadata`, the oldest first.
pub(super) async fn metadata(setup: &Setup) -> BTreeMap<String, Vec<Metadata>> {
    let found = data(setup, "/api/v1/metadata", &[("history", "true")]).await;
    let newest = data(setup, "/api/v1/metadata", &[]).await;
    let mut all = BTreeMap::new();
    for (family, entries) in found.as_object().unwrap() {
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
        let one = |entry: &Value| said(&text(entry, "type"), &text(entry, "help"), &text(entry, "unit"));
        let entries = entries.as_array().unwrap();
        let since = entries.iter().map(|entry| entry["since"].as_f64().unwrap());
        assert!(since.collect::<Vec<_>>().is_sorted_by(|newer, older| newer > older), "{entries:?}");
        let mut history: Vec<_> = entries.iter().map(one).collect();
        let plain: Vec<_> = newest[family].as_array().unwrap().iter().map(one).collect();
        assert_eq!(plain, history, "{family}: nothing was said twice");
        history.reverse();
        all.insert(family.clone(), history);
    }
    all
}
