//! The dictionary of one column chunk: its distinct values without its rows.

use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::error::BlockError;

/// Returns where a column chunk lies; `None` where its footer makes no sense.
pub(super) fn chunk_range(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let start = u64::try_from(start).ok()?;
    Some(start..start.checked_add(u64::try_from(column.compressed_size()).ok()?)?)
}

/// Returns where the dictionary of a column chunk lies; `None` where some of its pages go without it.
pub(super) fn dictionary_range(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let only = |encoding| column.page_encoding_stats_mask().is_some_and(|mask| mask.is_only(encoding));
    let start = u64::try_from(column.dictionary_page_offset()?).ok()?;
    let end = u64::try_from(column.data_page_offset()).ok()?;
    (only(Encoding::RLE_DICTIONARY) && start < end && end <= chunk_range(column)?.end).then_some(start..end)
}

/// Some bytes of a file, at their place in it.
struct Piece {
    start: u64,
    bytes: Bytes,
}

impl Piece {
    fn from(&self, start: u64) -> ParquetResult<Bytes> {
        let from = start.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let from = from.filter(|from| *from <= self.bytes.len());
        let outside = || ParquetError::EOF(format!("byte {start} is outside of the dictionary"));
        Ok(self.bytes.slice(from.ok_or_else(outside)?..))
    }
}

impl Length for Piece {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Piece {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(Box::new(self.from(start)?.reader()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} go beyond the dictionary")));
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Decodes the dictionary whose bytes stand at `start` of the file.
pub(super) fn dictionary_values(
    column: &ColumnChunkMetaData,
    start: u64,
    bytes: Bytes,
) -> Result<Vec<String>, BlockError> {
    let rows = usize::try_from(column.num_values()).unwrap_or(0);
    let piece = Arc::new(Piece { start, bytes });
    let mut pages = SerializedPageReader::new(piece, column, rows, None).map_err(BlockError::Damaged)?;
    let not_one = || BlockError::Footer("a column's dictionary is not where the footer says".to_owned());
    match pages.get_next_page().map_err(BlockError::Damaged)? {
        Some(Page::DictionaryPage { buf, num_values, .. }) => {
            plain_strings(&buf, num_values as usize).ok_or_else(not_one)
        }
        _ => Err(not_one()),
    }
}

/// Decodes strings in PLAIN encoding: a length of four bytes before each.
fn plain_strings(mut bytes: &[u8], count: usize) -> Option<Vec<String>> {
    // Every string takes at least its length.
    if count > bytes.len() / 4 {
        return None;
    }
    let mut strings = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk()?;
        let (string, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        strings.push(std::str::from_utf8(string).ok()?.to_owned());
        bytes = rest;
    }
    bytes.is_empty().then_some(strings)
}

/// What fuzzing runs over dictionaries: strings that decode must encode to the same bytes.
///
/// # Panics
/// When they do not.
pub fn fuzz_dictionary(data: &[u8]) {
    let Some((count, bytes)) = data.split_first() else { return };
    let Some(strings) = plain_strings(bytes, usize::from(*count)) else { return };
    let mut again = Vec::new();
    for string in &strings {
        again.extend((string.len() as u32).to_le_bytes());
        again.extend(string.as_bytes());
    }
    assert_eq!(again, bytes);
}
