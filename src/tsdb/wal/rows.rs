//! What a record lists beside samples and histograms.

use std::borrow::Cow;

use super::cursor::{Cursor, put_be64, put_text, put_uvarint, put_varint};
use super::samples::{Stamp, each_based, put_based};
use super::{RecordError, WalLabels};

const UNIT: &[u8] = b"UNIT";
const HELP: &[u8] = b"HELP";

/// A series and the number by which samples name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesRecord<'a> {
    /// The number; never used for another series within one log.
    pub reference: u64,
    /// Its labels.
    pub labels: WalLabels<'a>,
}

/// A range of one series that was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneRecord {
    /// The series.
    pub reference: u64,
    /// The first deleted time in milliseconds.
    pub min_time_ms: i64,
    /// The last deleted time in milliseconds.
    pub max_time_ms: i64,
}

impl TombstoneRecord {
    /// Says whether the series as a whole was given up (3.10 and later): the same labels come back as a new series.
    #[must_use]
    pub const fn is_whole_series(&self) -> bool {
        self.min_time_ms == i64::MIN && self.max_time_ms == i64::MAX
    }
}

/// An exemplar of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExemplarRecord<'a> {
    /// The series.
    pub reference: u64,
    /// When, in milliseconds.
    pub ts_ms: i64,
    /// The value's bit pattern.
    pub value_bits: u64,
    /// Its labels, which may be none.
    pub labels: WalLabels<'a>,
}

/// Out-of-order log only: the series' samples up to here are in a chunk of the head's chunk files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmapMarker {
    /// The series.
    pub reference: u64,
    /// File and offset of the chunk; 0 says that another chunk was begun.
    pub chunk: u64,
}

/// Type, unit and help of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataRecord<'a> {
    /// The series.
    pub reference: u64,
    /// 0 unknown, 1 counter, 2 gauge, 3 histogram, 4 gauge histogram, 5 summary, 6 info, 7 state set.
    pub metric_type: u8,
    /// The unit; Prometheus does not hold it against UTF-8.
    pub unit: Cow<'a, [u8]>,
    /// The help text; Prometheus does not hold it against UTF-8.
    pub help: Cow<'a, [u8]>,
}

pub(super) fn take_series<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<SeriesRecord<'a>>, RecordError> {
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        rows.push(SeriesRecord { reference: cursor.be64()?, labels: WalLabels::take(cursor)? });
    }
    Ok(rows)
}

pub(super) fn put_series(rows: &[SeriesRecord<'_>], out: &mut Vec<u8>) {
    for row in rows {
        put_be64(row.reference, out);
        out.extend_from_slice(row.labels.as_bytes());
    }
}

pub(super) fn take_tombstones(cursor: &mut Cursor<'_>) -> Result<Vec<TombstoneRecord>, RecordError> {
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        let (reference, min_time_ms) = (cursor.be64()?, cursor.varint()?);
        rows.push(TombstoneRecord { reference, min_time_ms, max_time_ms: cursor.varint()? });
    }
    Ok(rows)
}

pub(super) fn put_tombstones(rows: &[TombstoneRecord], out: &mut Vec<u8>) {
    for row in rows {
        put_be64(row.reference, out);
        put_varint(row.min_time_ms, out);
        put_varint(row.max_time_ms, out);
    }
}

pub(super) fn take_exemplars<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<ExemplarRecord<'a>>, RecordError> {
    let mut rows = Vec::new();
    each_based(cursor, |cursor, Stamp { reference, ts_ms, .. }| {
        let value_bits = cursor.be64()?;
        rows.push(ExemplarRecord { reference, ts_ms, value_bits, labels: WalLabels::take(cursor)? });
        Ok(())
    })?;
    Ok(rows)
}

pub(super) fn put_exemplars(rows: &[ExemplarRecord<'_>], out: &mut Vec<u8>) {
    let stamp = |row: &ExemplarRecord<'_>| Stamp { reference: row.reference, ts_ms: row.ts_ms, start_ms: 0 };
    put_based(rows, stamp, out, |row, out| {
        put_be64(row.value_bits, out);
        out.extend_from_slice(row.labels.as_bytes());
    });
}

pub(super) fn take_markers(cursor: &mut Cursor<'_>) -> Result<Vec<MmapMarker>, RecordError> {
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        rows.push(MmapMarker { reference: cursor.be64()?, chunk: cursor.be64()? });
    }
    Ok(rows)
}

pub(super) fn put_markers(rows: &[MmapMarker], out: &mut Vec<u8>) {
    for row in rows {
        put_be64(row.reference, out);
        put_be64(row.chunk, out);
    }
}

pub(super) fn take_metadata<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<MetadataRecord<'a>>, RecordError> {
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        let (reference, metric_type) = (cursor.uvarint()?, cursor.byte()?);
        let (mut unit, mut help): (&[u8], &[u8]) = (b"", b"");
        for _ in 0..cursor.count(2)? {
            match (cursor.text()?, cursor.text()?) {
                (UNIT, value) => unit = value,
                (HELP, value) => help = value,
                _ => {}
            }
        }
        rows.push(MetadataRecord { reference, metric_type, unit: unit.into(), help: help.into() });
    }
    Ok(rows)
}

pub(super) fn put_metadata(rows: &[MetadataRecord<'_>], out: &mut Vec<u8>) {
    for row in rows {
        put_uvarint(row.reference, out);
        out.push(row.metric_type);
        put_uvarint(2, out);
        for text in [UNIT, &*row.unit, HELP, &*row.help] {
            put_text(text, out);
        }
    }
}
