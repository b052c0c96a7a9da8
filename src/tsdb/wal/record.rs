//! Records as one type, decoded and encoded.

use std::fmt;

use super::cursor::{Cursor, put_be64};
use super::histograms::{FloatHistogramSample, HistogramSample};
use super::rows::{self, ExemplarRecord, MetadataRecord, MmapMarker, SeriesRecord, TombstoneRecord};
use super::samples::{FloatSample, Stamp, decode_samples, each_based, each_chained, put_based, put_chained};
use super::{RecordError, WalLabels};

/// The kind of a record: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// 1: series and their numbers.
    Series,
    /// 2: float samples.
    Samples,
    /// 3: deleted ranges.
    Tombstones,
    /// 4: exemplars.
    Exemplars,
    /// 5: which out-of-order chunks were written away.
    MmapMarkers,
    /// 6: type, unit and help.
    Metadata,
    /// 7: histograms with whole counts.
    Histograms,
    /// 8: histograms with fractional counts.
    FloatHistograms,
    /// 9: histograms with whole counts and custom buckets (3.2 and later).
    CustomHistograms,
    /// 10: histograms with fractional counts and custom buckets (3.2 and later).
    CustomFloatHistograms,
    /// 11: float samples with start times (3.11 and later, on request).
    SamplesV2,
    /// 12: histograms with whole counts and start times (3.12 and later, on request).
    HistogramsV2,
    /// 13: histograms with fractional counts and start times (3.12 and later, on request).
    FloatHistogramsV2,
    /// 14: the time before which a checkpoint has dropped samples (not in a release yet).
    MinValidTime,
    /// Any other byte, and a record without bytes. Prometheus passes over these.
    Unknown,
}

const KINDS: [(RecordKind, &str); 14] = [
    (RecordKind::Series, "series"),
    (RecordKind::Samples, "samples"),
    (RecordKind::Tombstones, "tombstones"),
    (RecordKind::Exemplars, "exemplars"),
    (RecordKind::MmapMarkers, "mmap markers"),
    (RecordKind::Metadata, "metadata"),
    (RecordKind::Histograms, "histograms"),
    (RecordKind::FloatHistograms, "float histograms"),
    (RecordKind::CustomHistograms, "custom-bucket histograms"),
    (RecordKind::CustomFloatHistograms, "custom-bucket float histograms"),
    (RecordKind::SamplesV2, "samples v2"),
    (RecordKind::HistogramsV2, "histograms v2"),
    (RecordKind::FloatHistogramsV2, "float histograms v2"),
    (RecordKind::MinValidTime, "minimum time"),
];

impl RecordKind {
    /// Returns the kind of a record.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        let code = data.first().map_or(0, |byte| usize::from(*byte));
        code.checked_sub(1).and_then(|index| KINDS.get(index)).map_or(Self::Unknown, |(kind, _)| *kind)
    }

    /// Returns the first byte of such records; 0 for unknown ones.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            kind => kind as u8 + 1,
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.get(*self as usize).map_or("unknown", |(_, name)| name))
    }
}

/// A decoded record. Labels and texts are borrowed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// Series and their numbers.
    Series(Vec<SeriesRecord<'a>>),
    /// Float samples.
    Samples(Vec<FloatSample>),
    /// Deleted ranges.
    Tombstones(Vec<TombstoneRecord>),
    /// Exemplars.
    Exemplars(Vec<ExemplarRecord<'a>>),
    /// Which out-of-order chunks were written away.
    MmapMarkers(Vec<MmapMarker>),
    /// Type, unit and help.
    Metadata(Vec<MetadataRecord<'a>>),
    /// Histograms with whole counts.
    Histograms {
        /// Whether it is the kind for custom buckets, which begins with 3.2.
        custom_buckets: bool,
        /// The histograms.
        samples: Vec<HistogramSample>,
    },
    /// Histograms with fractional counts.
    FloatHistograms {
        /// Whether it is the kind for custom buckets, which begins with 3.2.
        custom_buckets: bool,
        /// The histograms.
        samples: Vec<FloatHistogramSample>,
    },
    /// Float samples with start times.
    SamplesV2(Vec<FloatSample>),
    /// Histograms with whole counts and start times.
    HistogramsV2(Vec<HistogramSample>),
    /// Histograms with fractional counts and start times.
    FloatHistogramsV2(Vec<FloatHistogramSample>),
    /// The time before which a checkpoint has dropped samples.
    MinValidTime(i64),
    /// Something else, whole.
    Unknown(&'a [u8]),
}

impl<'a> Record<'a> {
    /// Decodes a record.
    ///
    /// # Errors
    /// Bytes that are cut off or damaged. A kind that is not known is none.
    pub fn decode(data: &'a [u8]) -> Result<Self, RecordError> {
        let kind = RecordKind::of(data);
        let cursor = &mut Cursor::new(kind, data);
        Ok(match kind {
            RecordKind::Series => Self::Series(rows::take_series(cursor)?),
            RecordKind::Samples => Self::Samples(take_samples(data)?),
            RecordKind::Tombstones => Self::Tombstones(rows::take_tombstones(cursor)?),
            RecordKind::Exemplars => Self::Exemplars(rows::take_exemplars(cursor)?),
            RecordKind::MmapMarkers => Self::MmapMarkers(rows::take_markers(cursor)?),
            RecordKind::Metadata => Self::Metadata(rows::take_metadata(cursor)?),
            RecordKind::Histograms | RecordKind::CustomHistograms => {
                let custom_buckets = kind == RecordKind::CustomHistograms;
                Self::Histograms { custom_buckets, samples: take_based(cursor, HistogramSample::take)? }
            }
            RecordKind::FloatHistograms | RecordKind::CustomFloatHistograms => {
                let custom_buckets = kind == RecordKind::CustomFloatHistograms;
                Self::FloatHistograms {
                    custom_buckets,
                    samples: take_based(cursor, FloatHistogramSample::take)?,
                }
            }
            RecordKind::SamplesV2 => Self::SamplesV2(take_samples(data)?),
            RecordKind::HistogramsV2 => Self::HistogramsV2(take_chained(cursor, HistogramSample::take)?),
            RecordKind::FloatHistogramsV2 => {
                Self::FloatHistogramsV2(take_chained(cursor, FloatHistogramSample::take)?)
            }
            RecordKind::MinValidTime => Self::MinValidTime(cursor.whole_time()?),
            RecordKind::Unknown => Self::Unknown(data),
        })
    }

    /// Returns the kind that the record is encoded as.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Series(_) => RecordKind::Series,
            Self::Samples(_) => RecordKind::Samples,
            Self::Tombstones(_) => RecordKind::Tombstones,
            Self::Exemplars(_) => RecordKind::Exemplars,
            Self::MmapMarkers(_) => RecordKind::MmapMarkers,
            Self::Metadata(_) => RecordKind::Metadata,
            Self::Histograms { custom_buckets: false, .. } => RecordKind::Histograms,
            Self::Histograms { .. } => RecordKind::CustomHistograms,
            Self::FloatHistograms { custom_buckets: false, .. } => RecordKind::FloatHistograms,
            Self::FloatHistograms { .. } => RecordKind::CustomFloatHistograms,
            Self::SamplesV2(_) => RecordKind::SamplesV2,
            Self::HistogramsV2(_) => RecordKind::HistogramsV2,
            Self::FloatHistogramsV2(_) => RecordKind::FloatHistogramsV2,
            Self::MinValidTime(_) => RecordKind::MinValidTime,
            Self::Unknown(_) => RecordKind::Unknown,
        }
    }

    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Self::Unknown(data) = self {
            out.extend_from_slice(data);
            return;
        }
        out.push(self.kind().code());
        match self {
            Self::Series(rows) => rows::put_series(rows, out),
            Self::Samples(samples) => put_based(samples, FloatSample::stamp, out, put_value),
            Self::Tombstones(rows) => rows::put_tombstones(rows, out),
            Self::Exemplars(rows) => rows::put_exemplars(rows, out),
            Self::MmapMarkers(rows) => rows::put_markers(rows, out),
            Self::Metadata(rows) => rows::put_metadata(rows, out),
            Self::Histograms { samples, .. } => {
                put_based(samples, HistogramSample::stamp, out, HistogramSample::put);
            }
            Self::FloatHistograms { samples, .. } => {
                put_based(samples, FloatHistogramSample::stamp, out, FloatHistogramSample::put);
            }
            Self::SamplesV2(samples) => put_chained(samples, FloatSample::stamp, out, put_value),
            Self::HistogramsV2(samples) => {
                put_chained(samples, HistogramSample::stamp, out, HistogramSample::put);
            }
            Self::FloatHistogramsV2(samples) => {
                put_chained(samples, FloatHistogramSample::stamp, out, FloatHistogramSample::put);
            }
            Self::MinValidTime(time) => put_be64(*time as u64, out),
            Self::Unknown(_) => {}
        }
    }

    /// Turns the record into ones that versions before start times read: kind 11 becomes 2, 12 becomes 7 and 9, 13
    /// becomes 8 and 10, each only if there is something in it. Start times are lost. Other records stay as they
    /// are; 9 and 10 are read from 3.2 on only.
    #[must_use]
    pub fn without_start_times(self) -> Vec<Self> {
        match self {
            Self::SamplesV2(mut samples) => {
                samples.iter_mut().for_each(|sample| sample.start_ms = 0);
                vec![Self::Samples(samples)]
            }
            Self::HistogramsV2(mut samples) => {
                samples.iter_mut().for_each(|sample| sample.start_ms = 0);
                let (custom, plain): (Vec<_>, Vec<_>) =
                    samples.into_iter().partition(|sample| sample.histogram.has_custom_buckets());
                let both = [(false, plain), (true, custom)].into_iter().filter(|(_, s)| !s.is_empty());
                both.map(|(custom_buckets, samples)| Self::Histograms { custom_buckets, samples }).collect()
            }
            Self::FloatHistogramsV2(mut samples) => {
                samples.iter_mut().for_each(|sample| sample.start_ms = 0);
                let (custom, plain): (Vec<_>, Vec<_>) =
                    samples.into_iter().partition(|sample| sample.histogram.has_custom_buckets());
                let both = [(false, plain), (true, custom)].into_iter().filter(|(_, s)| !s.is_empty());
                both.map(|(custom_buckets, samples)| Self::FloatHistograms { custom_buckets, samples })
                    .collect()
            }
            other => vec![other],
        }
    }
}

impl SeriesRecord<'static> {
    /// Makes a row for a series of ours.
    #[must_use]
    pub fn new(reference: u64, labels: &crate::model::Labels) -> Self {
        Self { reference, labels: WalLabels::from_labels(labels) }
    }
}

fn put_value(sample: &FloatSample, out: &mut Vec<u8>) {
    put_be64(sample.value_bits, out);
}

fn take_samples(data: &[u8]) -> Result<Vec<FloatSample>, RecordError> {
    let mut samples = Vec::with_capacity(data.len() / 10);
    decode_samples(data, |sample| samples.push(sample))?;
    Ok(samples)
}

fn take_based<'a, T>(
    cursor: &mut Cursor<'a>,
    take: impl Fn(&mut Cursor<'a>, Stamp) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let mut samples = Vec::new();
    each_based(cursor, |cursor, stamp| {
        samples.push(take(cursor, stamp)?);
        Ok(())
    })?;
    Ok(samples)
}

fn take_chained<'a, T>(
    cursor: &mut Cursor<'a>,
    take: impl Fn(&mut Cursor<'a>, Stamp) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let mut samples = Vec::new();
    each_chained(cursor, |cursor, stamp| {
        samples.push(take(cursor, stamp)?);
        Ok(())
    })?;
    Ok(samples)
}
