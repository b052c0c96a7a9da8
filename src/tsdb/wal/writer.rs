//! Writes records into the pages of a segment.

use std::fmt;

use super::{FIRST, FULL, HEADER_BYTES, LAST, MIDDLE, PAGE_BYTES, SEGMENT_BYTES_MAX, SNAPPY_FLAG};

/// How a writer stores records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    None,
    /// With snappy where that makes them smaller: Prometheus' default, and what every version reads.
    #[default]
    Snappy,
}

/// Appends records to one segment, as Prometheus lays them out.
///
/// The bytes gather here; [`Self::take`] hands them over as often as the caller likes. It is the caller who starts
/// another segment when the next record no longer [fits](Self::fits).
pub struct SegmentWriter {
    out: Vec<u8>,
    taken_bytes: u64,
    compression: Compression,
    encoder: snap::raw::Encoder,
    compressed: Vec<u8>,
}

impl fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("len", &self.len())
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

impl SegmentWriter {
    /// Begins a segment.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        Self::at(0, compression)
    }

    /// Goes on after the first `offset` bytes of a segment, which end where a record ended.
    #[must_use]
    pub fn at(offset: u64, compression: Compression) -> Self {
        Self {
            out: Vec::new(),
            taken_bytes: offset,
            compression,
            encoder: snap::raw::Encoder::new(),
            compressed: Vec::new(),
        }
    }

    /// Returns how long the segment is, with the bytes that were taken.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.taken_bytes + self.out.len() as u64
    }

    /// Returns whether the segment is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says whether a record of so many bytes, even if it does not compress, still has room in this segment.
    #[must_use]
    pub fn fits(&self, record_len: usize) -> bool {
        let pages_left = (SEGMENT_BYTES_MAX as u64).saturating_sub(self.len()).div_ceil(PAGE_BYTES as u64);
        let Some(whole_pages) = pages_left.checked_sub(1) else { return false };
        // A page end too short for a header is no room.
        let here = self.room().saturating_sub(HEADER_BYTES) as u64;
        record_len as u64 <= here + whole_pages * (PAGE_BYTES - HEADER_BYTES) as u64
    }

    /// Appends a record, whether it fits or not.
    pub fn append(&mut self, record: &[u8]) {
        let mut compressed = std::mem::take(&mut self.compressed);
        match self.compress(record, &mut compressed) {
            Some(len) => self.append_fragments(&compressed[..len], SNAPPY_FLAG),
            None => self.append_fragments(record, 0),
        }
        self.compressed = compressed;
    }

    /// Hands over the bytes since the last call; the segment goes on after them.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.taken_bytes = self.len();
        std::mem::take(&mut self.out)
    }

    /// Fills the last page and hands over the bytes since the last [`Self::take`].
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if self.room() < PAGE_BYTES {
            self.fill_page();
        }
        self.out
    }

    /// Returns what is left of the page; a whole one where the last is full.
    fn room(&self) -> usize {
        PAGE_BYTES - (self.len() % PAGE_BYTES as u64) as usize
    }

    fn fill_page(&mut self) {
        let room = self.room();
        self.out.resize(self.out.len() + room, 0);
    }

    /// Compresses into a buffer and returns how long that is, if it is worth it.
    fn compress(&mut self, record: &[u8], compressed: &mut Vec<u8>) -> Option<usize> {
        // The encoder finds nothing to copy in less.
        if self.compression == Compression::None || record.len() < 16 {
            return None;
        }
        let bound = snap::raw::max_compress_len(record.len());
        if compressed.len() < bound {
            compressed.resize(bound, 0);
        }
        let len = self.encoder.compress(record, compressed).ok()?;
        (len < record.len()).then_some(len)
    }

    fn append_fragments(&mut self, mut stored: &[u8], flags: u8) {
        if self.room() < HEADER_BYTES {
            self.fill_page();
        }
        let mut first = true;
        loop {
            let (part, rest) = stored.split_at(stored.len().min(self.room() - HEADER_BYTES));
            let kind = match (first, rest.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            self.out.push(kind | flags);
            self.out.extend_from_slice(&(part.len() as u16).to_be_bytes());
            self.out.extend_from_slice(&crc32c::crc32c(part).to_be_bytes());
            self.out.extend_from_slice(part);
            if self.room() < HEADER_BYTES {
                self.fill_page();
            }
            if rest.is_empty() {
                return;
            }
            (stored, first) = (rest, false);
        }
    }
}
