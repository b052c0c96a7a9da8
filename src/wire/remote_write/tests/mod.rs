//! Bodies are built with messages of their own, declared in `messages`, so that the walk is held against another
//! implementation and not against the encoder beside it.

mod bombs;
mod edges;
mod messages;
mod properties;

use super::*;
use crate::model::Labels;

const LIMITS: Limits = Limits { labels_max: 64, name_bytes_max: 1 << 10, value_bytes_max: 2 << 10 };

/// A visited series: the label set or why there is none, samples, and what was counted.
#[derive(Debug, PartialEq)]
struct Seen {
    labels: Result<Labels, SeriesError>,
    samples: Vec<Sample>,
    counts: [u64; 3],
}

fn read(protocol: Protocol, body: &[u8]) -> Result<(Vec<Seen>, Totals), WireError> {
    let mut seen = Vec::new();
    let totals = walk(protocol, body, &LIMITS, |one| {
        seen.push(match one {
            Ok(one) => Seen {
                labels: canonical_labels(one.labels, &LIMITS),
                samples: one.samples.to_vec(),
                counts: [one.histograms, one.exemplars, one.metadata],
            },
            Err(refused) => {
                Seen { labels: Err(refused.reason), samples: Vec::new(), counts: [refused.samples, 0, 0] }
            }
        });
    })?;
    Ok((seen, totals))
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
