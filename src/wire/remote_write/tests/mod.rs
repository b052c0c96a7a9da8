//! Bodies are built with messages of their own, declared in `messages`, so that the walk is held against another
//! implementation and not against the encoder beside it.

mod bombs;
mod edges;
mod kinds;
mod messages;
mod properties;

use super::labels::{canonical_labels, describe_labels};
use super::*;
use crate::model::MetadataEntry;

const LIMITS: Limits = Limits { labels_max: 64, name_bytes_max: 1 << 10, value_bytes_max: 2 << 10 };

/// A visited series: the label set or why there is none, and its parts.
#[derive(Debug, PartialEq)]
struct Seen {
    labels: Result<Labels, SeriesError>,
    samples: Vec<Sample>,
    histograms: Vec<HistogramSample>,
    exemplars: Vec<Exemplar>,
    metadata: Option<MetadataEntry>,
    refused: Option<RefusedParts>,
}

impl Seen {
    fn refused(reason: SeriesError) -> Self {
        Self {
            labels: Err(reason),
            samples: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            metadata: None,
            refused: None,
        }
    }
}

/// What a whole request said.
#[derive(Debug, Default)]
struct SeenRequest {
    series: Vec<Seen>,
    families: Vec<Result<MetadataEntry, PartError>>,
    totals: Totals,
}

fn read_all(protocol: Protocol, body: &[u8]) -> Result<SeenRequest, WireError> {
    let mut seen = SeenRequest::default();
    seen.totals = walk(protocol, body, &LIMITS, |part| match part {
        Part::Series(one) => seen.series.push(Seen {
            labels: one.labels.canonical(&LIMITS),
            samples: one.samples.to_vec(),
            histograms: one.histograms.to_vec(),
            exemplars: one.exemplars.to_vec(),
            metadata: one.metadata.map(|metadata| metadata.entry(0)),
            refused: one.refused.cloned(),
        }),
        Part::Refused(refused) => seen.series.push(Seen::refused(refused.reason)),
        Part::Metadata(metadata) => seen.families.push(metadata.map(|metadata| metadata.entry(0))),
    })?;
    Ok(seen)
}

fn read(protocol: Protocol, body: &[u8]) -> Result<(Vec<Seen>, Totals), WireError> {
    read_all(protocol, body).map(|seen| (seen.series, seen.totals))
}

fn malformed(protocol: Protocol, body: &[u8]) -> &'static str {
    match read(protocol, body) {
        Err(WireError::Malformed(malformed)) => malformed.what,
        other => panic!("{body:02x?} gave {other:?}"),
    }
}

/// One length-delimited field.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut out);
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn label(name: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat())
}

/// A sample with value 1.0.
fn sample(ts_ms: u8) -> Vec<u8> {
    field(2, &[&[0x09, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, 0x10], [ts_ms].as_slice()].concat())
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}
