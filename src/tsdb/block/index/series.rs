//! An entry of the series section: `(name, value)` symbols, then the chunks' times and references as deltas.

use super::super::BlockError;
use super::super::cursor::{Cursor, put_uvarint, put_varint};
use super::symbols::Symbols;
use crate::model::{Labels, encode_label};

/// A chunk of a series, as the index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Time of the first sample.
    pub min_time_ms: i64,
    /// Time of the last sample, inclusive.
    pub max_time_ms: i64,
    /// The chunk file's number, from 0, in the upper 32 bits; the offset in it in the lower ones.
    pub reference: u64,
}

/// A series of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesEntry {
    /// Where it stands in the index; what postings and tombstones name it by.
    pub reference: u32,
    /// Its labels.
    pub labels: Labels,
    /// Its chunks, in order of time.
    pub chunks: Vec<ChunkMeta>,
}

/// A series whose labels are still symbol references.
#[derive(Debug, Default)]
pub(in crate::tsdb::block) struct RawSeries {
    pub(in crate::tsdb::block) symbols: Vec<(u32, u32)>,
    pub(in crate::tsdb::block) chunks: Vec<ChunkMeta>,
}

const PART: &str = "a series of the index";

impl RawSeries {
    /// Reads an entry without length and checksum.
    pub(in crate::tsdb::block) fn decode(&mut self, content: &[u8], offset: u64) -> Result<(), BlockError> {
        self.symbols.clear();
        self.chunks.clear();
        let mut cursor = Cursor::new(content);
        let malformed = |reason| BlockError::Malformed { part: PART, offset, reason };
        self.take_symbols(&mut cursor).ok_or(malformed("its labels are cut off"))?;
        self.take_chunks(&mut cursor).ok_or(malformed("its chunks are cut off or out of all time"))?;
        if cursor.is_empty() { Ok(()) } else { Err(malformed("bytes follow its last chunk")) }
    }

    fn take_symbols(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        for _ in 0..cursor.count(2)? {
            self.symbols.push((cursor.uvarint32()?, cursor.uvarint32()?));
        }
        Some(())
    }

    fn take_chunks(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let count = cursor.count(3)?;
        self.chunks.reserve(count);
        let mut previous: Option<ChunkMeta> = None;
        for _ in 0..count {
            let min_time_ms = match &previous {
                None => cursor.varint()?,
                Some(chunk) => chunk.max_time_ms.checked_add_unsigned(cursor.uvarint()?)?,
            };
            let max_time_ms = min_time_ms.checked_add_unsigned(cursor.uvarint()?)?;
            let reference = match &previous {
                None => cursor.uvarint()?,
                Some(chunk) => chunk.reference.checked_add_signed(cursor.varint()?)?,
            };
            let chunk = ChunkMeta { min_time_ms, max_time_ms, reference };
            self.chunks.push(chunk);
            previous = Some(chunk);
        }
        Some(())
    }

    /// Looks the labels up; `bytes` is a buffer to be reused.
    pub(super) fn labels(
        &self,
        symbols: &Symbols,
        offset: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<Labels, BlockError> {
        bytes.clear();
        for (name, value) in &self.symbols {
            let (Some(name), Some(value)) = (symbols.get(*name), symbols.get(*value)) else {
                let reason = "it names a symbol that is not there";
                return Err(BlockError::Malformed { part: PART, offset, reason });
            };
            encode_label(name, value, bytes);
        }
        Labels::from_canonical(bytes).map_err(|source| BlockError::Labels { offset, source })
    }
}

/// Writes the part of an entry that follows the labels.
pub(super) fn put_chunks(out: &mut Vec<u8>, chunks: &[ChunkMeta]) {
    put_uvarint(out, chunks.len() as u64);
    let mut previous: Option<&ChunkMeta> = None;
    for chunk in chunks {
        match previous {
            None => put_varint(out, chunk.min_time_ms),
            Some(before) => put_uvarint(out, chunk.min_time_ms.wrapping_sub(before.max_time_ms) as u64),
        }
        put_uvarint(out, chunk.max_time_ms.wrapping_sub(chunk.min_time_ms) as u64);
        match previous {
            None => put_uvarint(out, chunk.reference),
            Some(before) => put_varint(out, chunk.reference.wrapping_sub(before.reference) as i64),
        }
        previous = Some(chunk);
    }
}
