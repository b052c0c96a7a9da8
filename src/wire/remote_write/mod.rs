//! Remote-write requests, 1.0 and 2.0, walked in one pass over the decompressed body.
//!
//! The walk hands on one series after the other as slices: labels as the bytes that came, samples in a vector
//! that is used again for the next series. It allocates nothing per series, because it is the hot path of the
//! whole service. A body in canonical form, which is what Prometheus sends, has label bytes equal to those of
//! [`Labels`](crate::model::Labels), so that a known series is found with one look-up; only a series not found
//! so goes through [`canonical_labels`].
//!
//! Flow: [`Protocol::from_content_type`] → [`snappy::decode_into`](super::snappy::decode_into) → [`walk`] → per
//! series a look-up by `labels`, else [`canonical_labels`] and a second look-up.
//!
//! **Invariants**
//! - A [`WireError`] means that the request is malformed or too large as a whole. It may come after series were
//!   handed on, so nothing is kept before `walk` has returned `Ok`.
//! - A [`RefusedSeries`] is refused alone: the rest of the request stands (a partial write).
//! - Memory is bounded whatever the body: at most [`SAMPLES_MAX`] samples and, in 2.0, [`SYMBOLS_MAX`] symbols;
//!   the labels of a 2.0 series are checked before they are copied, and [`ASSEMBLED_BYTES_MAX`] bounds what the
//!   references of one request may unfold to.
//! - Fields that a message does not define are skipped, as protobuf wants. The fields of the other protocol are
//!   not: they are refused, as the request would be acknowledged with nothing read from it.
//!
//! **Where the specification leaves room**
//! - Absent timestamps and values are 0, the defaults of proto3; of a field sent twice the last stays.
//! - A 1.0 series without samples is handed on: it holds nothing to lose. In 2.0 the specification forbids it, so
//!   it is refused, unless it has histograms or exemplars.
//! - `created_timestamp` of a 2.0 series (drafts up to rc.3) stands for the start of its samples that have none.
//!
//! What it does not do: decode histograms, exemplars and metadata. They are counted.

mod encode;
mod labels;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use super::error::{Malformed, WireError};
use super::protobuf::Cursor;
use crate::model::Sample;

pub use encode::{SeriesToSend, encode_request};
pub use labels::{SeriesError, canonical_labels, describe_labels};

/// How many samples one request may have: more than 32 MiB hold of samples with a time and a value (18 bytes each),
/// far fewer than they hold of empty ones.
pub const SAMPLES_MAX: usize = 1 << 21;
/// How many symbols one 2.0 request may have.
pub const SYMBOLS_MAX: usize = 1 << 20;
/// How many bytes of labels the references of one 2.0 request may unfold to.
pub const ASSEMBLED_BYTES_MAX: usize = 256 << 20;

/// The version of remote write that a body is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// 1.0, `prometheus.WriteRequest`.
    V1,
    /// 2.0, `io.prometheus.write.v2.Request`.
    V2,
}

impl Protocol {
    /// Reads the version from a `Content-Type`. An empty one means 1.0, as for Prometheus.
    ///
    /// # Errors
    /// Another media type or another message (HTTP 415).
    pub fn from_content_type(content_type: &str) -> Result<Self, WireError> {
        let refused = || WireError::ContentType(content_type.chars().take(100).collect());
        let mut parts = content_type.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        if !media_type.is_empty() && !media_type.eq_ignore_ascii_case("application/x-protobuf") {
            return Err(refused());
        }
        let mut protocol = Self::V1;
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            if name.trim_end().eq_ignore_ascii_case("proto") {
                protocol = match value.trim().trim_matches('"') {
                    "prometheus.WriteRequest" => Self::V1,
                    "io.prometheus.write.v2.Request" => Self::V2,
                    _ => return Err(refused()),
                };
            }
        }
        Ok(protocol)
    }

    /// Returns the `Content-Type` of a request.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf;proto=prometheus.WriteRequest",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }
}

/// What the labels of a series may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Labels with a value, per series.
    pub labels_max: usize,
    /// Bytes of a label's name.
    pub name_bytes_max: usize,
    /// Bytes of a label's value.
    pub value_bytes_max: usize,
}

impl Default for Limits {
    /// 64 labels, names of 1 KiB, values of 2 KiB.
    fn default() -> Self {
        Self { labels_max: 64, name_bytes_max: 1 << 10, value_bytes_max: 2 << 10 }
    }
}

/// A series as sent.
#[derive(Debug, Clone, Copy)]
pub struct WrittenSeries<'a> {
    /// The label fields in the byte form of [`Labels`](crate::model::Labels), unchecked: unsorted, double, empty
    /// or malformed labels are found by [`canonical_labels`].
    pub labels: &'a [u8],
    /// The samples in the order sent.
    pub samples: &'a [Sample],
    /// How many histograms came with it.
    pub histograms: u64,
    /// How many exemplars came with it.
    pub exemplars: u64,
    /// How many metadata entries came with it (2.0 only).
    pub metadata: u64,
}

/// A series that is refused while the rest of its request stands.
#[derive(Debug)]
pub struct RefusedSeries<'a> {
    /// Why.
    pub reason: SeriesError,
    /// Its labels for a message, cut to a few hundred bytes.
    pub labels: &'a str,
    /// How many samples it had.
    pub samples: u64,
    /// How many histograms it had.
    pub histograms: u64,
    /// How many exemplars it had.
    pub exemplars: u64,
}

/// What a request held, refused series included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Series.
    pub series: u64,
    /// Float samples.
    pub samples: u64,
    /// Histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
    /// Metadata entries: those of the request in 1.0, those of its series in 2.0.
    pub metadata: u64,
}

/// Calls `visit` with each series of a decompressed body, in order.
///
/// # Errors
/// A body that is malformed or too large as a whole. Series may have been visited before: keep none of them.
pub fn walk<F>(protocol: Protocol, body: &[u8], limits: &Limits, visit: F) -> Result<Totals, WireError>
where
    F: FnMut(Result<WrittenSeries<'_>, RefusedSeries<'_>>),
{
    match protocol {
        Protocol::V1 => v1::walk(body, visit),
        Protocol::V2 => v2::walk(body, limits, visit),
    }
}

/// The samples of the series at hand, and how many more the request may have.
#[derive(Debug)]
struct SampleScratch {
    samples: Vec<Sample>,
    left: usize,
}

impl SampleScratch {
    const fn new() -> Self {
        Self { samples: Vec::new(), left: SAMPLES_MAX }
    }

    /// Reads one sample. Both protocols number its fields alike; the start timestamp came with 2.0.
    #[inline]
    fn read(&mut self, mut at: Cursor<'_>, protocol: Protocol) -> Result<(), WireError> {
        let mut sample = Sample::new(0, 0.0);
        while !at.is_done() {
            match at.tag()? {
                0x09 => sample.value = f64::from_bits(at.fixed64()?),
                0x10 => sample.ts_ms = at.varint()?.cast_signed(),
                0x18 if protocol == Protocol::V2 => sample.start_ms = at.varint()?.cast_signed(),
                tag => at.skip_unknown(tag, if protocol == Protocol::V1 { 2 } else { 3 })?,
            }
        }
        if self.left == 0 {
            return Err(WireError::TooMany { what: "samples", limit: SAMPLES_MAX });
        }
        self.left -= 1;
        self.samples.push(sample);
        Ok(())
    }
}

/// Refuses the other protocol's fields in a request, and skips what no protocol defines.
fn skip_request_field(at: &mut Cursor<'_>, tag: u32, foreign: &[u32]) -> Result<(), Malformed> {
    if foreign.contains(&(tag >> 3)) {
        return Err(at.refuse(
            "the body is in the other remote-write version: make the Content-Type's proto fit the message",
        ));
    }
    at.skip_unknown(tag, 0)
}
