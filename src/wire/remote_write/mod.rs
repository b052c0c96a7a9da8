//! Remote-write requests, 1.0 and 2.0, walked in one pass over the decompressed body.
//!
//! The walk hands on one series after the other as slices: labels as the bytes that came, samples in a vector
//! that is used again for the next series. It allocates nothing per series of floats, because it is the hot path of
//! the whole service. A 1.0 body in canonical form, which is what Prometheus sends, has label bytes equal to those of
//! [`Labels`], so that a known series is found with one look-up. A 2.0 series is handed on as references to symbols,
//! so that a receiver can look each symbol up once a request. Only a series not found so goes through
//! [`SentLabels::canonical`].
//!
//! Flow: [`Protocol::from_content_type`] → [`snappy::decode_into`](super::snappy::decode_into) → [`walk`] → per
//! series a look-up by [`SentLabels`], else [`SentLabels::canonical`] and a second look-up.
//!
//! **Invariants**
//! - A [`WireError`] means that the request is malformed or too large as a whole. It may come after series were
//!   handed on, so nothing is kept before `walk` has returned `Ok`.
//! - A [`RefusedSeries`] is refused alone: the rest of the request stands (a partial write).
//! - Memory is bounded whatever the body: at most [`SAMPLES_MAX`] samples, [`HISTOGRAMS_MAX`] histograms with
//!   [`BUCKETS_MAX`] buckets, spans and bounds in all, and so on; the labels of a 2.0 series are checked before they are
//!   copied, and [`UNFOLDED_BYTES_MAX`] bounds what the references of one request may unfold to.
//! - Fields that a message does not define are skipped, as protobuf wants. The fields of the other protocol are
//!   not: they are refused, as the request would be acknowledged with nothing read from it.
//!
//! **Where the specification leaves room**
//! - Absent timestamps and values are 0, the defaults of proto3; of a field sent twice the last stays.
//! - A 1.0 series without samples is handed on: it holds nothing to lose. In 2.0 the specification forbids it, so
//!   it is refused, unless it has histograms or exemplars.
//! - `created_timestamp` of a 2.0 series (drafts up to rc.3) stands for the start of its samples that have none.
//!
//! - A histogram must be one that Prometheus would take (`NativeHistogram::check`); one that is not, an exemplar whose
//!   labels are no label set, and metadata without a family are left out of their series and told with the reason.
//! - Metadata of a 2.0 series is that of its family: the metric's name without `_bucket`, `_sum` or `_count` for the types
//!   that have such series. It is handed on once a request for each name.
//!
//! What it does not do: decide which timestamps are taken, and look series up.

mod encode;
mod histograms;
mod labels;
mod metadata;
mod parts;
mod symbols;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use super::error::{Malformed, WireError};
use super::protobuf::Cursor;
use crate::model::{Exemplar, HistogramSample, Labels, Sample};
use parts::Scratch;

pub use encode::{FullSeriesToSend, SeriesToSend, encode_full_request, encode_request};
pub use labels::SeriesError;
pub use metadata::WrittenMetadata;
pub use parts::{PartError, RefusedParts};
pub use symbols::SymbolLabels;

/// How many samples one request may have: more than 32 MiB hold of samples with a time and a value (18 bytes each),
/// far fewer than they hold of empty ones.
pub const SAMPLES_MAX: usize = 1 << 21;
/// How many symbols one 2.0 request may have.
pub const SYMBOLS_MAX: usize = 1 << 20;
/// How many bytes of labels and metadata the references of one 2.0 request may unfold to.
pub const UNFOLDED_BYTES_MAX: usize = 256 << 20;
/// How many histograms one request may have.
pub const HISTOGRAMS_MAX: usize = 1 << 18;
/// How many counts, spans and bounds the histograms of one request may have in all.
pub const BUCKETS_MAX: usize = 1 << 22;
/// How many exemplars one request may have.
pub const EXEMPLARS_MAX: usize = 1 << 18;
/// How many metadata entries a 1.0 request may have.
pub const METADATA_MAX: usize = 1 << 18;
/// How many bytes a name, help text or unit of metadata may have.
pub const METADATA_BYTES_MAX: usize = 64 << 10;

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

/// The labels of a series as sent.
#[derive(Debug, Clone, Copy)]
pub enum SentLabels<'a> {
    /// The label fields of a 1.0 series, in the byte form of [`Labels`] and unchecked: unsorted, double, empty or
    /// malformed labels are found by [`Self::canonical`].
    Encoded(&'a [u8]),
    /// The references of a 2.0 series.
    Symbols(SymbolLabels<'a>),
}

impl SentLabels<'_> {
    /// Builds the label set: sorted, without the labels that have no value.
    ///
    /// # Errors
    /// Labels over a limit, empty, double or non-UTF-8 names, a set without any value, malformed bytes.
    pub fn canonical(&self, limits: &Limits) -> Result<Labels, SeriesError> {
        match self {
            Self::Encoded(bytes) => labels::canonical_labels(bytes, limits),
            Self::Symbols(labels) => labels.canonical(limits),
        }
    }

    /// Writes them for a message: `{a="1", b="2"}`, cut after about 200 bytes, whatever they hold.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Encoded(bytes) => labels::describe_labels(bytes),
            Self::Symbols(labels) => labels.describe(),
        }
    }
}

/// A series as sent.
#[derive(Debug, Clone, Copy)]
pub struct WrittenSeries<'a> {
    /// Its labels.
    pub labels: SentLabels<'a>,
    /// The float samples in the order sent.
    pub samples: &'a [Sample],
    /// The native histograms in the order sent.
    pub histograms: &'a [HistogramSample],
    /// The exemplars in the order sent.
    pub exemplars: &'a [Exemplar],
    /// What a 2.0 series says about its family, where this request has not said it before.
    pub metadata: Option<WrittenMetadata<'a>>,
    /// What was left out of it.
    pub refused: Option<&'a RefusedParts>,
}

impl<'a> WrittenSeries<'a> {
    #[inline]
    fn of(labels: SentLabels<'a>, scratch: &'a Scratch, metadata: Option<WrittenMetadata<'a>>) -> Self {
        Self {
            labels,
            samples: &scratch.samples,
            histograms: &scratch.histograms.read,
            exemplars: &scratch.exemplars,
            metadata,
            refused: scratch.refused.as_ref(),
        }
    }
}

/// A series that is refused for what it is, while the rest of its request stands.
#[derive(Debug)]
pub struct RefusedSeries<'a> {
    /// Why.
    pub reason: SeriesError,
    /// Its labels for a message, cut to a few hundred bytes.
    pub labels: &'a str,
}

/// What a walk comes across.
#[derive(Debug)]
pub enum Part<'a> {
    /// A series.
    Series(WrittenSeries<'a>),
    /// A series that holds nothing to write, which 2.0 forbids.
    Refused(RefusedSeries<'a>),
    /// A metadata entry of a 1.0 request, or why it is refused.
    Metadata(Result<WrittenMetadata<'a>, PartError>),
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

impl Totals {
    #[inline]
    fn count(&mut self, scratch: &Scratch) {
        let (histograms, exemplars) = scratch.came();
        self.series += 1;
        self.samples += scratch.samples.len() as u64;
        self.histograms += histograms;
        self.exemplars += exemplars;
    }
}

/// Calls `visit` with each part of a decompressed body, in order.
///
/// # Errors
/// A body that is malformed or too large as a whole. Parts may have been visited before: keep none of them.
pub fn walk<F>(protocol: Protocol, body: &[u8], limits: &Limits, visit: F) -> Result<Totals, WireError>
where
    F: FnMut(Part<'_>),
{
    match protocol {
        Protocol::V1 => v1::walk(body, limits, visit),
        Protocol::V2 => v2::walk(body, limits, visit),
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
