//! The tombstones file: `0130BA30`, version, `(series uvarint, from varint, to varint)*`, checksum of the entries.

use super::BlockError;
use super::cursor::{Cursor, put_uvarint, put_varint};

const MAGIC: [u8; 4] = [0x01, 0x30, 0xBA, 0x30];
const VERSION: u8 = 1;
const CRC_BYTES: usize = 4;

/// An interval of a series that queries leave out; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// The series, by its place in the index.
    pub reference: u64,
    /// First time left out.
    pub min_time_ms: i64,
    /// Last time left out.
    pub max_time_ms: i64,
}

/// Writes a tombstones file. Prometheus wants the intervals of a series together and in order.
#[must_use]
pub fn encode_tombstones(tombstones: &[Tombstone]) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + tombstones.len() * 14);
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    let entries_at = out.len();
    for tombstone in tombstones {
        put_uvarint(&mut out, tombstone.reference);
        put_varint(&mut out, tombstone.min_time_ms);
        put_varint(&mut out, tombstone.max_time_ms);
    }
    let crc = crc32c::crc32c(&out[entries_at..]);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Reads a tombstones file.
///
/// # Errors
/// Another beginning, a wrong checksum, or an entry that is not whole.
pub fn decode_tombstones(bytes: &[u8]) -> Result<Vec<Tombstone>, BlockError> {
    const PART: &str = "the tombstones file";
    let (header, rest) =
        bytes.split_at_checked(MAGIC.len() + 1).ok_or(BlockError::CutOff { part: PART, offset: 0 })?;
    if header[..4] != MAGIC || header[4] != VERSION {
        let found = header.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(BlockError::Header { file: "tombstones", found, expected: "0130ba3001" });
    }
    let (entries, crc) =
        rest.split_last_chunk::<CRC_BYTES>().ok_or(BlockError::CutOff { part: PART, offset: 5 })?;
    if crc32c::crc32c(entries) != u32::from_be_bytes(*crc) {
        return Err(BlockError::Checksum { part: PART, offset: 5 });
    }
    let mut cursor = Cursor::new(entries);
    let mut tombstones = Vec::new();
    while !cursor.is_empty() {
        let offset = (5 + entries.len() - cursor.rest().len()) as u64;
        let tombstone = take_tombstone(&mut cursor).ok_or(BlockError::CutOff { part: PART, offset })?;
        tombstones.push(tombstone);
    }
    Ok(tombstones)
}

fn take_tombstone(cursor: &mut Cursor<'_>) -> Option<Tombstone> {
    Some(Tombstone {
        reference: cursor.uvarint()?,
        min_time_ms: cursor.varint()?,
        max_time_ms: cursor.varint()?,
    })
}
