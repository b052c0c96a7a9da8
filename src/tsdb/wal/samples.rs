//! Float samples: kinds 2 and 11. This is the path that nearly every byte of a log takes.

use super::cursor::{Cursor, put_be64, put_varint};
use super::{RecordError, RecordKind};

/// How a sample's start time is stored in kinds 11 to 13.
const NO_START: u8 = 0;
const SAME_START: u8 = 1;
const EXPLICIT_START: u8 = 2;

/// A float sample of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloatSample {
    /// The series, by the number that a series record gives it.
    pub reference: u64,
    /// When, in milliseconds.
    pub ts_ms: i64,
    /// The value's bit pattern.
    pub value_bits: u64,
    /// When the counter started; 0 where nothing is known. Kind 2 cannot hold it.
    pub start_ms: i64,
}

/// Series, time and start time of a sample, however they are stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stamp {
    pub(super) reference: u64,
    pub(super) ts_ms: i64,
    pub(super) start_ms: i64,
}

/// Calls `visit` with each float sample of a record of kind 2 or 11 and returns how many there are. Nothing is
/// allocated.
///
/// # Errors
/// Damaged bytes, after the samples before them were visited; a record of another kind.
pub fn decode_samples(data: &[u8], mut visit: impl FnMut(FloatSample)) -> Result<usize, RecordError> {
    let kind = RecordKind::of(data);
    let mut cursor = Cursor::new(kind, data);
    match kind {
        RecordKind::Samples => each_based(&mut cursor, |cursor, stamp| {
            let value_bits = cursor.be64()?;
            visit(FloatSample { reference: stamp.reference, ts_ms: stamp.ts_ms, value_bits, start_ms: 0 });
            Ok(())
        }),
        RecordKind::SamplesV2 => each_chained(&mut cursor, |cursor, Stamp { reference, ts_ms, start_ms }| {
            let value_bits = cursor.be64()?;
            visit(FloatSample { reference, ts_ms, value_bits, start_ms });
            Ok(())
        }),
        _ => Err(RecordError::NoSamples { kind }),
    }
}

/// Walks the stamps of kinds 2, 4 and 7 to 10, which all differ from one base; `body` reads what follows each.
#[inline]
pub(super) fn each_based<'a>(
    cursor: &mut Cursor<'a>,
    mut body: impl FnMut(&mut Cursor<'a>, Stamp) -> Result<(), RecordError>,
) -> Result<usize, RecordError> {
    if cursor.is_empty() {
        return Ok(0);
    }
    let (base_reference, base_ms) = (cursor.be64()?, cursor.be64()? as i64);
    let mut count = 0;
    while !cursor.is_empty() {
        let reference = base_reference.wrapping_add_signed(cursor.varint()?);
        let ts_ms = base_ms.wrapping_add(cursor.varint()?);
        body(cursor, Stamp { reference, ts_ms, start_ms: 0 })?;
        count += 1;
    }
    Ok(count)
}

/// Walks the stamps of kinds 11 to 13: series differ from the one before, times from the first.
pub(super) fn each_chained<'a>(
    cursor: &mut Cursor<'a>,
    mut body: impl FnMut(&mut Cursor<'a>, Stamp) -> Result<(), RecordError>,
) -> Result<usize, RecordError> {
    if cursor.is_empty() {
        return Ok(0);
    }
    let reference = cursor.varint()? as u64;
    let first = Stamp { reference, ts_ms: cursor.varint()?, start_ms: cursor.varint()? };
    body(cursor, first)?;
    let (mut previous, mut count) = (first, 1);
    while !cursor.is_empty() {
        let reference = previous.reference.wrapping_add_signed(cursor.varint()?);
        let ts_ms = first.ts_ms.wrapping_add(cursor.varint()?);
        let start_ms = match cursor.byte()? {
            NO_START => 0,
            SAME_START => previous.start_ms,
            EXPLICIT_START => first.start_ms.wrapping_add(cursor.varint()?),
            _ => return Err(cursor.bad_number()),
        };
        previous = Stamp { reference, ts_ms, start_ms };
        body(cursor, previous)?;
        count += 1;
    }
    Ok(count)
}

/// Writes the stamps that [`each_based`] reads; `body` writes what follows each.
pub(super) fn put_based<T>(
    items: &[T],
    stamp: impl Fn(&T) -> Stamp,
    out: &mut Vec<u8>,
    body: impl Fn(&T, &mut Vec<u8>),
) {
    let Some(first) = items.first().map(&stamp) else { return };
    put_be64(first.reference, out);
    put_be64(first.ts_ms as u64, out);
    for item in items {
        let Stamp { reference, ts_ms, .. } = stamp(item);
        put_varint(reference.wrapping_sub(first.reference) as i64, out);
        put_varint(ts_ms.wrapping_sub(first.ts_ms), out);
        body(item, out);
    }
}

/// Writes the stamps that [`each_chained`] reads; `body` writes what follows each.
pub(super) fn put_chained<T>(
    items: &[T],
    stamp: impl Fn(&T) -> Stamp,
    out: &mut Vec<u8>,
    body: impl Fn(&T, &mut Vec<u8>),
) {
    let Some(first_item) = items.first() else { return };
    let first = stamp(first_item);
    put_varint(first.reference as i64, out);
    put_varint(first.ts_ms, out);
    put_varint(first.start_ms, out);
    body(first_item, out);
    let mut previous = first;
    for item in &items[1..] {
        let next = stamp(item);
        put_varint(next.reference.wrapping_sub(previous.reference) as i64, out);
        put_varint(next.ts_ms.wrapping_sub(first.ts_ms), out);
        if next.start_ms == 0 {
            out.push(NO_START);
        } else if next.start_ms == previous.start_ms {
            out.push(SAME_START);
        } else {
            out.push(EXPLICIT_START);
            put_varint(next.start_ms.wrapping_sub(first.start_ms), out);
        }
        body(item, out);
        previous = next;
    }
}

impl FloatSample {
    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { reference: self.reference, ts_ms: self.ts_ms, start_ms: self.start_ms }
    }
}
