//! The bytes of a piece: records of a log, decompressed, with the times at which they were seen.
//!
//! `"PPCE"`, version 1, length of the header (LE32), the header in JSON, then per record `uvarint` of its end in the
//! segment after the previous one's, `uvarint` of its length, its bytes. All of that in one zstd frame.

use std::io::Read;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::LogPosition;
use crate::bucket::LogKind;

const MAGIC: &[u8; 4] = b"PPCE";
const VERSION: u8 = 1;

/// The most that a piece may have before compression.
pub const PIECE_PLAIN_BYTES_MAX: u64 = 160 << 20;

/// The largest header: some hundred thousand marks.
const HEADER_BYTES_MAX: usize = 16 << 20;

/// The largest window that a frame may ask for: 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// A look at the log: what ends at `end` or before was there at `wall_ms`, and what ends after the mark before was
/// not there at that mark's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(
    /// The offset in the segment.
    pub u64,
    /// The archiver's wall clock.
    pub i64,
);

/// What a piece says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceHeader {
    /// The timeline that it was read on.
    pub timeline: u32,
    /// Which log.
    pub log: LogKind,
    /// The segment.
    pub segment: u32,
    /// Where its first record begins.
    pub start: u64,
    /// Where its last record ends.
    pub end: u64,
    /// None of its records was there at this time (0 where that is unknown).
    pub after_ms: i64,
    /// The looks, in order of offset. The last one ends where the piece ends.
    pub marks: Vec<Mark>,
}

/// Collects records into a piece.
#[derive(Debug)]
pub struct PieceBuilder {
    header: PieceHeader,
    records: Vec<u8>,
}

impl PieceBuilder {
    /// Begins a piece at a place in a log.
    #[must_use]
    pub fn new(timeline: u32, log: LogKind, start: LogPosition, after_ms: i64) -> Self {
        let LogPosition { segment, offset } = start;
        let header =
            PieceHeader { timeline, log, segment, start: offset, end: offset, after_ms, marks: Vec::new() };
        Self { header, records: Vec::new() }
    }

    /// Appends a record that ends at an offset of the segment, after the one before.
    pub fn push(&mut self, end: u64, record: &[u8]) {
        put_uvarint(&mut self.records, end.saturating_sub(self.header.end));
        put_uvarint(&mut self.records, record.len() as u64);
        self.records.extend_from_slice(record);
        self.header.end = end;
    }

    /// Notes that at a time all records so far were there, and no more. Of the looks that found the same the first and
    /// the last are kept.
    pub fn mark(&mut self, wall_ms: i64) {
        if self.records.is_empty() {
            return;
        }
        let (end, marks) = (self.header.end, &mut self.header.marks);
        match marks.as_mut_slice() {
            [.., Mark(at, last_ms)] if *at == end && wall_ms <= *last_ms => {}
            [.., Mark(before, _), Mark(at, last_ms)] if (*before, *at) == (end, end) => *last_ms = wall_ms,
            _ => marks.push(Mark(end, wall_ms)),
        }
    }

    /// Returns the size of the records so far.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns what the piece says of itself so far.
    #[must_use]
    pub fn header(&self) -> &PieceHeader {
        &self.header
    }

    /// Returns the bytes before compression.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let header = serde_json::to_vec(&self.header).expect("numbers and names always have a JSON form");
        let mut plain = Vec::with_capacity(9 + header.len() + self.records.len());
        plain.extend_from_slice(MAGIC);
        plain.push(VERSION);
        plain.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        plain.extend_from_slice(&header);
        plain.extend_from_slice(&self.records);
        Bytes::from(plain)
    }
}

/// A piece that was read back.
#[derive(Debug, Clone)]
pub struct Piece {
    header: PieceHeader,
    records: Bytes,
}

/// A record of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceRecord<'a> {
    /// Where it ends in the segment.
    pub end: u64,
    /// Its bytes, decompressed.
    pub data: &'a [u8],
}

impl Piece {
    /// Decompresses and decodes a piece. `plain_bytes` is the size that its entry promises.
    ///
    /// # Errors
    /// What is wrong with the bytes, for people.
    pub fn decompress(compressed: &[u8], plain_bytes: u64) -> Result<Self, String> {
        Self::decode(decompress(compressed, plain_bytes.min(PIECE_PLAIN_BYTES_MAX))?)
    }

    /// Decodes the bytes of [`PieceBuilder::finish`].
    ///
    /// # Errors
    /// What is wrong with the bytes, for people.
    pub fn decode(plain: Bytes) -> Result<Self, String> {
        let fixed = plain.get(..9).filter(|fixed| fixed.starts_with(MAGIC)).ok_or("it is not a piece")?;
        if fixed[4] != VERSION {
            return Err(format!("it has version {} and this program reads {VERSION}", fixed[4]));
        }
        let header_bytes = u32::from_le_bytes([fixed[5], fixed[6], fixed[7], fixed[8]]) as usize;
        if header_bytes > HEADER_BYTES_MAX {
            return Err(format!("its header claims {header_bytes} bytes"));
        }
        let header = plain.get(9..9 + header_bytes).ok_or("its header is cut off")?;
        let header: PieceHeader = serde_json::from_slice(header).map_err(|e| format!("its header: {e}"))?;
        let piece = Self { header, records: plain.slice(9 + header_bytes..) };
        piece.check()?;
        Ok(piece)
    }

    fn check(&self) -> Result<(), String> {
        let mut rest = &self.records[..];
        let mut end = self.header.start;
        while !rest.is_empty() {
            let (record, tail) =
                next_record(rest, end).ok_or_else(|| format!("it is cut off after offset {end}"))?;
            (end, rest) = (record.end, tail);
        }
        if end == self.header.end {
            Ok(())
        } else {
            Err(format!("its records end at {end} and not at {}", self.header.end))
        }
    }

    /// Returns what it says of itself.
    #[must_use]
    pub fn header(&self) -> &PieceHeader {
        &self.header
    }

    /// Iterates over the records.
    pub fn records(&self) -> impl Iterator<Item = PieceRecord<'_>> + Clone {
        let mut rest = &self.records[..];
        let mut end = self.header.start;
        std::iter::from_fn(move || {
            let (record, tail) = next_record(rest, end)?;
            (end, rest) = (record.end, tail);
            Some(record)
        })
    }
}

fn next_record(bytes: &[u8], end: u64) -> Option<(PieceRecord<'_>, &[u8])> {
    let (step, rest) = get_uvarint(bytes)?;
    let (size, rest) = get_uvarint(rest)?;
    let (data, rest) = rest.split_at_checked(usize::try_from(size).ok()?)?;
    Some((PieceRecord { end: end.checked_add(step)?, data }, rest))
}

/// Compresses a piece or part.
#[must_use]
pub fn compress(plain: &[u8], level: i32) -> Vec<u8> {
    zstd::bulk::compress(plain, level).expect("compressing into memory does no input or output")
}

/// So much room is made at once for what is decompressed.
const ROOM_BYTES_MAX: u64 = 64 << 20;

/// Decompresses at most so many bytes; more is an error.
///
/// # Errors
/// What is wrong with the bytes, for people.
pub fn decompress(compressed: &[u8], plain_bytes_max: u64) -> Result<Bytes, String> {
    let mut decoder = zstd::stream::read::Decoder::new(compressed).map_err(|e| e.to_string())?.single_frame();
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(|e| e.to_string())?;
    // What the frame says is believed for room only.
    let says = zstd::zstd_safe::get_frame_content_size(compressed).ok().flatten().unwrap_or(0);
    let mut plain = Vec::with_capacity(says.min(plain_bytes_max).min(ROOM_BYTES_MAX) as usize);
    decoder.take(plain_bytes_max.saturating_add(1)).read_to_end(&mut plain).map_err(|e| e.to_string())?;
    if plain.len() as u64 > plain_bytes_max {
        return Err(format!("it decompresses to more than {plain_bytes_max} bytes"));
    }
    Ok(Bytes::from(plain))
}

pub(super) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn get_uvarint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Decodes arbitrary bytes as a piece, compressed and plain; for fuzzing.
pub fn fuzz_piece(data: &[u8]) {
    for piece in [Piece::decompress(data, 1 << 20), Piece::decode(Bytes::copy_from_slice(data))] {
        let Ok(piece) = piece else { continue };
        let last = piece.records().last().map_or(piece.header().start, |record| record.end);
        assert_eq!(last, piece.header().end, "a piece that was read ends where it says");
    }
}
