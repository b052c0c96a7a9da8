//! The index of a block: symbols, series, postings and where they are.
//!
//! `BAAAD700`, version u8; symbols; series, each at a multiple of 16; label indices, which nobody reads; postings,
//! each at a multiple of 4; the postings offset table; and last the table of contents, 52 bytes. Sections are
//! `length BE32, content, checksum BE32`. In version 1 series stand anywhere and symbols are named by offset.

mod reader;
mod series;
mod symbols;
mod table;
mod writer;

pub use reader::{IndexReader, SeriesIter};
pub use series::{ChunkMeta, SeriesEntry};
pub use writer::IndexWriter;

pub(super) use reader::IndexWindow;
pub(super) use series::RawSeries;

use super::BlockError;
use super::cursor::Cursor;
use super::files::{ReadAt, Window};

const MAGIC: [u8; 4] = [0xBA, 0xAA, 0xD7, 0x00];
pub(super) const HEADER_BYTES: u64 = 5;
pub(super) const TOC_BYTES: u64 = 52;
/// Series stand at multiples of this, so that 32 bits reach 64 GiB.
pub(super) const SERIES_ALIGN: u64 = 16;
/// Postings stand at multiples of this.
pub(super) const POSTINGS_ALIGN: u64 = 4;

/// Reads the content of a section and verifies its checksum; returns it and where the section ends.
pub(super) fn read_section<'w, R: ReadAt + ?Sized>(
    window: &'w mut Window<'_, R>,
    offset: u64,
    part: &'static str,
) -> Result<(&'w [u8], u64), BlockError> {
    let reading = || BlockError::io(format!("read {part}"));
    let cut_off = BlockError::CutOff { part, offset };
    if offset.checked_add(8).is_none_or(|end| end > window.len()) {
        return Err(cut_off);
    }
    let length = Cursor::new(window.get(offset..offset + 4).map_err(reading())?).be32();
    let end = offset + 8 + u64::from(length.unwrap_or(u32::MAX));
    if end > window.len() {
        return Err(cut_off);
    }
    let bytes = window.get(offset + 4..end).map_err(reading())?;
    match bytes.split_last_chunk::<4>() {
        Some((content, crc)) if crc32c::crc32c(content) == u32::from_be_bytes(*crc) => Ok((content, end)),
        _ => Err(BlockError::Checksum { part, offset }),
    }
}

pub(super) const fn align_up(position: u64, align: u64) -> u64 {
    position.saturating_add(align - 1) / align * align
}
