//! Walks the bytes of one segment, record by record.

use std::borrow::Cow;

use super::compression::Decompressor;
use super::{
    Damage, FIRST, FRAGMENT_MASK, FULL, Flaw, HEADER_BYTES, LAST, MIDDLE, PAGE_BYTES, SNAPPY_FLAG, ZSTD_FLAG,
};

/// What a reader found where the last record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<R> {
    /// A whole record.
    Record(R),
    /// Nothing but unused page ends follows.
    End {
        /// Offset in the segment at which the last record ended: where to go on when there are more bytes.
        offset: u64,
    },
    /// A record begins that is not wholly there: a live tail, or what a crash has left of one.
    Incomplete {
        /// Offset in the segment at which it begins.
        offset: u64,
    },
    /// What follows is nothing that a writer leaves behind. A reader never gets past it.
    Damaged(Damage),
}

/// Where a record lies in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordBounds {
    /// Offset of its first fragment.
    pub start: u64,
    /// Offset after its last fragment. The bytes of a segment up to here are a valid segment.
    pub end: u64,
    /// Bytes of its fragments without their headers, as they are stored.
    pub stored_bytes: usize,
}

/// A record with the place it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord<'a> {
    /// Offset of its first fragment.
    pub start: u64,
    /// Offset after its last fragment. The bytes of a segment up to here are a valid segment.
    pub end: u64,
    /// Its bytes, decompressed; borrowed where the segment holds them as they are.
    pub data: Cow<'a, [u8]>,
}

/// Reads the records of one segment, or of a part of it that begins where a record begins or ended.
///
/// A tailer makes a new one for every look: over the bytes from the last record's end on, with that offset.
#[derive(Debug)]
pub struct SegmentReader<'a> {
    bytes: &'a [u8],
    start_offset: u64,
    at: usize,
    joined: Vec<u8>,
    decompressor: Decompressor,
}

struct Fragment<'a> {
    kind: u8,
    flags: u8,
    data: &'a [u8],
    start: usize,
    end: usize,
}

/// What stands at a place in the bytes.
enum Found<'a> {
    Fragment(Fragment<'a>),
    /// Nothing more, after unused page ends.
    Nothing,
    /// A fragment that is not wholly there.
    Partial(usize),
    Flawed(usize, Flaw),
}

/// A record found by its fragments.
struct Whole<'a> {
    bounds: RecordBounds,
    flags: u8,
    /// Its bytes, if they stand in one fragment; else they were joined.
    single: Option<&'a [u8]>,
    end_at: usize,
}

impl<'a> SegmentReader<'a> {
    /// Takes bytes of a segment that begin at `start_offset` of it.
    #[must_use]
    pub fn new(bytes: &'a [u8], start_offset: u64) -> Self {
        Self { bytes, start_offset, at: 0, joined: Vec::new(), decompressor: Decompressor::default() }
    }

    /// Returns the offset in the segment after the last record that was read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset_of(self.at)
    }

    /// Reads the next record. After anything else than a record, every call says the same.
    pub fn next_record(&mut self) -> Step<SegmentRecord<'a>> {
        let whole = match self.gather(true) {
            Step::Record(whole) => whole,
            Step::End { offset } => return Step::End { offset },
            Step::Incomplete { offset } => return Step::Incomplete { offset },
            Step::Damaged(damage) => return Step::Damaged(damage),
        };
        let stored = whole.single.unwrap_or(&self.joined);
        let data = match whole.flags {
            SNAPPY_FLAG => self.decompressor.snappy(stored).map(Cow::Owned),
            ZSTD_FLAG => self.decompressor.zstd(stored).map(Cow::Owned),
            _ => Ok(whole.single.map_or_else(|| Cow::Owned(self.joined.clone()), Cow::Borrowed)),
        };
        let RecordBounds { start, end, .. } = whole.bounds;
        match data {
            Ok(data) => {
                self.at = whole.end_at;
                Step::Record(SegmentRecord { start, end, data })
            }
            Err(flaw) => Step::Damaged(Damage { record_start: start, offset: start, flaw }),
        }
    }

    /// Finds the next record and checks its checksums, without decompressing it.
    pub fn next_bounds(&mut self) -> Step<RecordBounds> {
        match self.gather(false) {
            Step::Record(whole) => {
                self.at = whole.end_at;
                Step::Record(whole.bounds)
            }
            Step::End { offset } => Step::End { offset },
            Step::Incomplete { offset } => Step::Incomplete { offset },
            Step::Damaged(damage) => Step::Damaged(damage),
        }
    }

    fn offset_of(&self, at: usize) -> u64 {
        self.start_offset.saturating_add(at as u64)
    }

    fn bounds(&self, start: usize, end: usize, stored_bytes: usize) -> RecordBounds {
        RecordBounds { start: self.offset_of(start), end: self.offset_of(end), stored_bytes }
    }

    /// Finds the fragments of the next record; joins their bytes if asked for and there are several.
    fn gather(&mut self, join: bool) -> Step<Whole<'a>> {
        let first = match self.fragment(self.at) {
            Found::Fragment(fragment) => fragment,
            Found::Nothing => return Step::End { offset: self.offset() },
            Found::Partial(at) => return Step::Incomplete { offset: self.offset_of(at) },
            Found::Flawed(at, flaw) => return self.damaged(at, at, flaw),
        };
        let (start, flags) = (first.start, first.flags);
        match first.kind {
            FULL => {
                let bounds = self.bounds(start, first.end, first.data.len());
                return Step::Record(Whole { bounds, flags, single: Some(first.data), end_at: first.end });
            }
            FIRST => {}
            kind => return self.damaged(start, start, order(kind, "outside of")),
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        let gathered = self.gather_rest(first, if join { Some(&mut joined) } else { None });
        self.joined = joined;
        match gathered {
            Ok((last, stored_bytes)) => {
                let bounds = self.bounds(start, last.end, stored_bytes);
                Step::Record(Whole { bounds, flags, single: None, end_at: last.end })
            }
            Err(None) => Step::Incomplete { offset: self.offset_of(start) },
            Err(Some((at, flaw))) => self.damaged(start, at, flaw),
        }
    }

    /// Finds the fragments after a first one. An error without a flaw means that they are not there yet.
    fn gather_rest(
        &self,
        first: Fragment<'a>,
        mut joined: Option<&mut Vec<u8>>,
    ) -> Result<(Fragment<'a>, usize), Option<(usize, Flaw)>> {
        let flags = first.flags;
        let mut stored_bytes = 0;
        let mut fragment = first;
        loop {
            stored_bytes += fragment.data.len();
            if let Some(joined) = &mut joined {
                joined.extend_from_slice(fragment.data);
            }
            if fragment.kind == LAST {
                return Ok((fragment, stored_bytes));
            }
            fragment = match self.fragment(fragment.end) {
                Found::Fragment(next) => next,
                Found::Nothing | Found::Partial(_) => return Err(None),
                Found::Flawed(at, flaw) => return Err(Some((at, flaw))),
            };
            if fragment.kind < MIDDLE {
                return Err(Some((fragment.start, order(fragment.kind, "inside"))));
            }
            if fragment.flags != flags {
                return Err(Some((fragment.start, Flaw::MixedCompression)));
            }
        }
    }

    fn damaged<R>(&self, start: usize, at: usize, flaw: Flaw) -> Step<R> {
        let (record_start, offset) = (self.offset_of(start), self.offset_of(at));
        Step::Damaged(Damage { record_start, offset, flaw })
    }

    /// Finds the fragment at a place, past unused page ends.
    fn fragment(&self, mut at: usize) -> Found<'a> {
        loop {
            let room = PAGE_BYTES - (self.offset_of(at) % PAGE_BYTES as u64) as usize;
            let there = &self.bytes[at..self.bytes.len().min(at.saturating_add(room))];
            let Some(&first) = there.first() else { return Found::Nothing };
            if room >= HEADER_BYTES && first & FRAGMENT_MASK != 0 {
                return self.fragment_of(at, there, room);
            }
            if there.iter().any(|byte| *byte != 0) {
                return Found::Flawed(at, Flaw::Fill);
            }
            at += there.len();
        }
    }

    /// Reads the fragment that begins a slice, which ends with the page or the bytes.
    fn fragment_of(&self, start: usize, there: &'a [u8], room: usize) -> Found<'a> {
        let (kind, flags) = (there[0] & FRAGMENT_MASK, there[0] & !FRAGMENT_MASK);
        if kind > LAST || ![0, SNAPPY_FLAG, ZSTD_FLAG].contains(&flags) {
            return Found::Flawed(start, Flaw::Type(there[0]));
        }
        let Some((header, rest)) = there.split_first_chunk::<HEADER_BYTES>() else {
            return Found::Partial(start);
        };
        let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
        let stored = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
        if length > room - HEADER_BYTES {
            return Found::Flawed(start, Flaw::Overlong { length, room: room - HEADER_BYTES });
        }
        let Some(data) = rest.get(..length) else { return Found::Partial(start) };
        let computed = crc32c::crc32c(data);
        if computed != stored {
            return Found::Flawed(start, Flaw::Checksum { stored, computed });
        }
        Found::Fragment(Fragment { kind, flags, data, start, end: start + HEADER_BYTES + length })
    }
}

fn order(kind: u8, place: &'static str) -> Flaw {
    let found = match kind {
        FULL => "full",
        FIRST => "first",
        MIDDLE => "middle",
        _ => "last",
    };
    Flaw::Order { found, place }
}
