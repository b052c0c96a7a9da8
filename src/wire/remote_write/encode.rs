//! Request bodies from series, for tests and for generating load: the other direction of the walk.

use std::collections::HashMap;

use prost::encoding::encode_varint;

use super::Protocol;
use crate::model::{Labels, Sample};

/// A series to put into a request.
#[derive(Debug, Clone, Copy)]
pub struct SeriesToSend<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its samples; start timestamps are sent with 2.0 only, as 1.0 has no place for them.
    pub samples: &'a [Sample],
}

/// Builds an uncompressed request body, written as Prometheus writes it: labels, then samples, in a 2.0 request
/// behind the symbols.
#[must_use]
pub fn encode_request(protocol: Protocol, series: &[SeriesToSend<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut message = Vec::new();
    let symbols = match protocol {
        Protocol::V1 => HashMap::new(),
        Protocol::V2 => put_symbols(series, &mut body),
    };
    for one in series {
        message.clear();
        match protocol {
            Protocol::V1 => message.extend_from_slice(one.labels.as_bytes()),
            Protocol::V2 => put_references(one.labels, &symbols, &mut message),
        }
        for sample in one.samples {
            put_sample(protocol, sample, &mut message);
        }
        put_bytes(if protocol == Protocol::V1 { 0x0A } else { 0x2A }, &message, &mut body);
    }
    body
}

/// Writes the table of symbols and returns the place of each.
fn put_symbols<'a>(series: &[SeriesToSend<'a>], out: &mut Vec<u8>) -> HashMap<&'a str, u64> {
    let mut places = HashMap::new();
    let labels = series.iter().flat_map(|one| one.labels.iter());
    for symbol in std::iter::once("").chain(labels.flat_map(|(name, value)| [name, value])) {
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
    if sample.value.to_bits() != 0 {
        message.push(0x09);
        message.extend_from_slice(&sample.value.to_bits().to_le_bytes());
    }
    let start_ms = if protocol == Protocol::V2 { sample.start_ms } else { 0 };
    for (tag, time_ms) in [(0x10, sample.ts_ms), (0x18, start_ms)] {
        if time_ms != 0 {
            message.push(tag);
            encode_varint(time_ms.cast_unsigned(), &mut message);
        }
    }
    put_bytes(0x12, &message, out);
}

fn put_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
