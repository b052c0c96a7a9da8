//! What a record holds, without building it.

use super::cursor::Cursor;
use super::histograms::{skip_float_histogram, skip_histogram};
use super::labels::skip_labels;
use super::samples::{Stamp, decode_samples, each_based, each_chained};
use super::{RecordError, RecordKind};

/// Counts, times and series of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSummary {
    /// The kind.
    pub kind: RecordKind,
    /// How many series, samples, tombstones or others it lists; 0 for unknown kinds.
    pub count: usize,
    /// First and last time of its samples and histograms. Exemplars and tombstones have times of other meanings
    /// and leave it empty.
    pub times_ms: Option<(i64, i64)>,
    /// The highest series number in it.
    pub reference_max: Option<u64>,
}

impl RecordSummary {
    fn see(&mut self, reference: u64) {
        self.reference_max = self.reference_max.max(Some(reference));
        self.count += 1;
    }

    fn see_sample(&mut self, reference: u64, ts_ms: i64) {
        let (min, max) = self.times_ms.unwrap_or((ts_ms, ts_ms));
        self.times_ms = Some((min.min(ts_ms), max.max(ts_ms)));
        self.see(reference);
    }
}

/// Walks a record and returns what it holds. Nothing is allocated; what is damaged is found as in decoding.
///
/// # Errors
/// Bytes that are cut off or damaged.
pub fn summarize(data: &[u8]) -> Result<RecordSummary, RecordError> {
    let kind = RecordKind::of(data);
    let mut summary = RecordSummary { kind, count: 0, times_ms: None, reference_max: None };
    let cursor = &mut Cursor::new(kind, data);
    match kind {
        RecordKind::Samples | RecordKind::SamplesV2 => {
            decode_samples(data, |sample| summary.see_sample(sample.reference, sample.ts_ms))?;
        }
        RecordKind::Exemplars => {
            each_based(cursor, |cursor, stamp| {
                cursor.be64()?;
                skip_labels(cursor)?;
                summary.see(stamp.reference);
                Ok(())
            })?;
        }
        RecordKind::Histograms
        | RecordKind::FloatHistograms
        | RecordKind::CustomHistograms
        | RecordKind::CustomFloatHistograms
        | RecordKind::HistogramsV2
        | RecordKind::FloatHistogramsV2 => histograms(cursor, &mut summary)?,
        RecordKind::Series | RecordKind::Tombstones | RecordKind::MmapMarkers | RecordKind::Metadata => {
            rows(cursor, &mut summary)?
        }
        RecordKind::MinValidTime => {
            cursor.whole_time()?;
            summary.count = 1;
        }
        RecordKind::Unknown => {}
    }
    Ok(summary)
}

fn histograms(cursor: &mut Cursor<'_>, summary: &mut RecordSummary) -> Result<(), RecordError> {
    let kind = cursor.kind();
    let float = matches!(
        kind,
        RecordKind::FloatHistograms | RecordKind::CustomFloatHistograms | RecordKind::FloatHistogramsV2
    );
    let see = |cursor: &mut Cursor<'_>, Stamp { reference, ts_ms, .. }| {
        if float { skip_float_histogram(cursor) } else { skip_histogram(cursor) }?;
        summary.see_sample(reference, ts_ms);
        Ok(())
    };
    match kind {
        RecordKind::HistogramsV2 | RecordKind::FloatHistogramsV2 => each_chained(cursor, see)?,
        _ => each_based(cursor, see)?,
    };
    Ok(())
}

fn rows(cursor: &mut Cursor<'_>, summary: &mut RecordSummary) -> Result<(), RecordError> {
    while !cursor.is_empty() {
        match cursor.kind() {
            RecordKind::Metadata => {
                let reference = cursor.uvarint()?;
                cursor.byte()?;
                skip_labels(cursor)?;
                summary.see(reference);
            }
            kind => {
                let reference = cursor.be64()?;
                match kind {
                    RecordKind::Series => skip_labels(cursor)?,
                    RecordKind::Tombstones => {
                        cursor.varint()?;
                        cursor.varint()?;
                    }
                    _ => cursor.be64().map(drop)?,
                }
                summary.see(reference);
            }
        }
    }
    Ok(())
}
