//! Request bodies from series, for tests and for generating load: the other direction of the walk.

use std::collections::HashMap;

use prost::encoding::encode_varint;

use super::Protocol;
use crate::model::{
    Exemplar, FloatHistogram, Histogram, HistogramSample, Labels, Metadata, MetadataEntry, NativeHistogram,
    Sample, Span,
};

/// A series of floats to put into a request.
#[derive(Debug, Clone, Copy)]
pub struct SeriesToSend<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its samples; start timestamps are sent with 2.0 only, as 1.0 has no place for them.
    pub samples: &'a [Sample],
}

/// A series with all it may hold, to put into a request.
#[derive(Debug, Clone, Copy)]
pub struct FullSeriesToSend<'a> {
    /// Labels and float samples.
    pub floats: SeriesToSend<'a>,
    /// Its native histograms.
    pub histograms: &'a [HistogramSample],
    /// Its exemplars.
    pub exemplars: &'a [Exemplar],
    /// What is known about its family; sent with 2.0 only, as 1.0 sends that apart.
    pub metadata: Option<&'a Metadata>,
}

impl<'a> FullSeriesToSend<'a> {
    fn of_floats(floats: &SeriesToSend<'a>) -> Self {
        Self { floats: *floats, histograms: &[], exemplars: &[], metadata: None }
    }
}

/// Builds an uncompressed request body, written as Prometheus writes it: labels, then samples, in a 2.0 request
/// behind the symbols.
#[must_use]
pub fn encode_request(protocol: Protocol, series: &[SeriesToSend<'_>]) -> Vec<u8> {
    let full: Vec<_> = series.iter().map(FullSeriesToSend::of_floats).collect();
    encode_full_request(protocol, &full, &[])
}

/// Builds an uncompressed request body of every kind of data; `families` are sent with 1.0 only.
#[must_use]
pub fn encode_full_request(
    protocol: Protocol,
    series: &[FullSeriesToSend<'_>],
    families: &[MetadataEntry],
) -> Vec<u8> {
    let mut body = Vec::new();
    let mut message = Vec::new();
    let symbols = match protocol {
        Protocol::V1 => HashMap::new(),
        Protocol::V2 => put_symbols(series, &mut body),
    };
    for one in series {
        message.clear();
        match protocol {
            Protocol::V1 => message.extend_from_slice(one.floats.labels.as_bytes()),
            Protocol::V2 => put_references(one.floats.labels, &symbols, &mut message),
        }
        one.floats.samples.iter().for_each(|sample| put_sample(protocol, sample, &mut message));
        let (histograms, exemplars) = if protocol == Protocol::V1 { (0x22, 0x1A) } else { (0x1A, 0x22) };
        for exemplar in one.exemplars {
            put_bytes(exemplars, &exemplar_message(protocol, exemplar, &symbols), &mut message);
        }
        for sample in one.histograms {
            put_bytes(histograms, &histogram_message(protocol, sample), &mut message);
        }
        if let (Protocol::V2, Some(metadata)) = (protocol, one.metadata) {
            put_series_metadata(metadata, &symbols, &mut message);
        }
        put_bytes(if protocol == Protocol::V1 { 0x0A } else { 0x2A }, &message, &mut body);
    }
    if protocol == Protocol::V1 {
        families.iter().for_each(|entry| put_family(entry, &mut body));
    }
    body
}

/// Writes the table of symbols and returns the place of each.
fn put_symbols<'a>(series: &[FullSeriesToSend<'a>], out: &mut Vec<u8>) -> HashMap<&'a str, u64> {
    let mut places = HashMap::new();
    let labels = series.iter().flat_map(|one| {
        one.floats.labels.iter().chain(one.exemplars.iter().flat_map(|exemplar| exemplar.labels.iter()))
    });
    let metadata = series.iter().filter_map(|one| one.metadata);
    let texts = metadata.flat_map(|metadata| [metadata.help.as_str(), metadata.unit.as_str()]);
    for symbol in std::iter::once("").chain(labels.flat_map(|(name, value)| [name, value])).chain(texts) {
        let next = places.len() as u64;
        places.entry(symbol).or_insert_with(|| {
            put_bytes(0x22, symbol.as_bytes(), out);
            next
        });
    }
    places
}

fn put_references(labels: &Labels, symbols: &HashMap<&str, u64>, out: &mut Vec<u8>) {
    let mut packed = Vec::new();
    for symbol in labels.iter().flat_map(|(name, value)| [name, value]) {
        encode_varint(symbols[symbol], &mut packed);
    }
    put_bytes(0x0A, &packed, out);
}

/// Writes a sample. A value is left out only where its bits are zero, so that -0.0 arrives.
fn put_sample(protocol: Protocol, sample: &Sample, out: &mut Vec<u8>) {
    let mut message = Vec::with_capacity(32);
    put_float(0x09, sample.value, &mut message);
    let start_ms = if protocol == Protocol::V2 { sample.start_ms } else { 0 };
    put_number(0x10, sample.ts_ms.cast_unsigned(), &mut message);
    put_number(0x18, start_ms.cast_unsigned(), &mut message);
    put_bytes(0x12, &message, out);
}

fn exemplar_message(protocol: Protocol, exemplar: &Exemplar, symbols: &HashMap<&str, u64>) -> Vec<u8> {
    let mut message = Vec::new();
    match protocol {
        Protocol::V1 => message.extend_from_slice(exemplar.labels.as_bytes()),
        Protocol::V2 => put_references(&exemplar.labels, symbols, &mut message),
    }
    put_float(0x11, exemplar.value, &mut message);
    put_number(0x18, exemplar.ts_ms.cast_unsigned(), &mut message);
    message
}

fn histogram_message(protocol: Protocol, sample: &HistogramSample) -> Vec<u8> {
    let mut out = Vec::new();
    let hint = match &sample.histogram {
        NativeHistogram::Int(h) => put_int_histogram(h, &mut out),
        NativeHistogram::Float(h) => put_float_histogram(h, &mut out),
    };
    put_number(0x70, u64::from(hint), &mut out);
    put_number(0x78, sample.ts_ms.cast_unsigned(), &mut out);
    let custom_values = match &sample.histogram {
        NativeHistogram::Int(h) => &h.custom_values,
        NativeHistogram::Float(h) => &h.custom_values,
    };
    put_packed(0x82, custom_values, &mut out, put_bits);
    if protocol == Protocol::V2 {
        put_number(0x88, sample.start_ms.cast_unsigned(), &mut out);
    }
    out
}

fn put_int_histogram(h: &Histogram, out: &mut Vec<u8>) -> u8 {
    out.push(0x08);
    encode_varint(h.count, out);
    put_float(0x19, h.sum, out);
    put_number(0x20, fold(i64::from(h.schema)), out);
    put_float(0x29, h.zero_threshold, out);
    out.push(0x30);
    encode_varint(h.zero_count, out);
    let delta = |delta: &i64, out: &mut Vec<u8>| encode_varint(fold(*delta), out);
    put_spans(0x42, &h.negative_spans, out);
    put_packed(0x4A, &h.negative_buckets, out, delta);
    put_spans(0x5A, &h.positive_spans, out);
    put_packed(0x62, &h.positive_buckets, out, delta);
    h.counter_reset_hint
}

/// Counts are written also where they are zero: which of the two kinds is there tells the kind of the histogram.
fn put_float_histogram(h: &FloatHistogram, out: &mut Vec<u8>) -> u8 {
    out.push(0x11);
    put_bits(&h.count, out);
    put_float(0x19, h.sum, out);
    put_number(0x20, fold(i64::from(h.schema)), out);
    put_float(0x29, h.zero_threshold, out);
    out.push(0x39);
    put_bits(&h.zero_count, out);
    put_spans(0x42, &h.negative_spans, out);
    put_packed(0x52, &h.negative_buckets, out, put_bits);
    put_spans(0x5A, &h.positive_spans, out);
    put_packed(0x6A, &h.positive_buckets, out, put_bits);
    h.counter_reset_hint
}

fn put_spans(tag: u64, spans: &[Span], out: &mut Vec<u8>) {
    for span in spans {
        let mut message = Vec::new();
        put_number(0x08, fold(i64::from(span.offset)), &mut message);
        put_number(0x10, u64::from(span.length), &mut message);
        put_bytes(tag, &message, out);
    }
}

fn put_packed<T>(tag: u64, values: &[T], out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
    if !values.is_empty() {
        let mut packed = Vec::new();
        values.iter().for_each(|value| put(value, &mut packed));
        put_bytes(tag, &packed, out);
    }
}

fn put_series_metadata(metadata: &Metadata, symbols: &HashMap<&str, u64>, out: &mut Vec<u8>) {
    let mut message = Vec::new();
    put_number(0x08, u64::from(metadata.kind.number()), &mut message);
    put_number(0x18, symbols[metadata.help.as_str()], &mut message);
    put_number(0x20, symbols[metadata.unit.as_str()], &mut message);
    put_bytes(0x2A, &message, out);
}

fn put_family(entry: &MetadataEntry, out: &mut Vec<u8>) {
    let mut message = Vec::new();
    put_number(0x08, u64::from(entry.metadata.kind.number()), &mut message);
    for (tag, text) in [(0x12, &entry.family), (0x22, &entry.metadata.help), (0x2A, &entry.metadata.unit)] {
        put_bytes(tag, text.as_bytes(), &mut message);
    }
    put_bytes(0x1A, &message, out);
}

const fn fold(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn put_bits(value: &f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn put_float(tag: u64, value: f64, out: &mut Vec<u8>) {
    if value.to_bits() != 0 {
        encode_varint(tag, out);
        put_bits(&value, out);
    }
}

fn put_number(tag: u64, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_varint(tag, out);
        encode_varint(value, out);
    }
}

fn put_bytes(tag: u64, bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(tag, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
