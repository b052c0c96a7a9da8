//! The field's own terms: labels, samples, matchers, time ranges, tenants and block ids.
//!
//! Everything above speaks in these types. No I/O, no async and no clock live here, so that every rule can be
//! tested as a plain function.
//!
//! **Invariants**
//! - [`Labels`] are sorted by name, unique, without empty values, and kept as the bytes that remote write,
//!   remote read and StoreAPI share.
//! - Times are milliseconds since the Unix epoch. A [`TimeRange`] is half-open; request bounds, which are
//!   inclusive on the wire, are turned into one at the edge.
//! - A sample's value is a bit pattern. It is moved and compared as bits, never through arithmetic.

mod block_kind;
mod duration;
mod error;
mod exemplar;
mod histogram;
mod histogram_check;
mod instant;
mod labels;
mod matcher;
mod metadata;
mod re2;
mod sample;
mod series_data;
mod source;
mod tenant;
mod time;

#[cfg(test)]
pub(crate) mod tests;

pub use block_kind::BlockKind;
pub use duration::{DurationError, format_duration_ms, parse_duration_ms};
pub use error::{ErrorKind, error_chain};
pub use exemplar::{Exemplar, normalize_exemplars};
pub use histogram::{
    CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Histogram, HistogramSample, NativeHistogram, Span,
    normalize_histograms,
};
pub use histogram_check::HistogramError;
pub use instant::{InstantError, parse_instant_ms};
pub use labels::{LabelError, Labels, LabelsIter, METRIC_NAME, encode_label};
pub use matcher::{MatchKind, Matcher, MatcherError, match_labels};
pub use metadata::{Metadata, MetadataEntry, MetricType, normalize_metadata};
pub use sample::{STALE_MARKER_BITS, Sample, is_stale, merge_samples, normalize_samples};
pub use series_data::SeriesData;
pub use source::{SourceName, SourceNameError};
pub use tenant::{TenantError, TenantId};
pub use time::{RAW_WINDOW_MS, Resolution, TimeRange, format_time_ms};
pub use ulid::Ulid;
