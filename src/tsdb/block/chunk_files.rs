//! The chunk files of a block: header `85BD40DD`, version, three zeros; then entries of `length uvarint, encoding
//! u8, data, checksum over encoding and data`.

use std::io::Write;

use super::BlockError;
use super::cursor::{Cursor, put_uvarint};
use super::files::{BlockFile, BlockFiles, ReadAt, Window};
use super::index::ChunkMeta;
use super::series_chunks::SeriesChunks;
use crate::tsdb::chunk::Encoding;

const HEADER: [u8; 8] = [0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0];
const FILE_BYTES_MAX: u64 = 512 << 20;
/// A length of up to 2^35 - 1, which is more than a file holds.
const LENGTH_BYTES_MAX: u64 = 5;
/// How much is read at once: the chunks of a series stand together.
const AHEAD_BYTES: u64 = 64 << 10;
const PART: &str = "a chunk of a chunk file";

/// Appends an entry.
pub(super) fn put_entry(out: &mut Vec<u8>, encoding: Encoding, data: &[u8]) {
    put_uvarint(out, data.len() as u64);
    let start = out.len();
    out.push(encoding.to_byte());
    out.extend_from_slice(data);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// Writes entries into one file after the other.
#[derive(Debug)]
pub(super) struct ChunkWriter<F> {
    open: Option<F>,
    number: u32,
    position: u64,
    pub(super) file_bytes_max: u64,
}

impl<F> Default for ChunkWriter<F> {
    fn default() -> Self {
        Self { open: None, number: 0, position: 0, file_bytes_max: FILE_BYTES_MAX }
    }
}

impl<F: Write> ChunkWriter<F> {
    /// Writes the chunks of a series and appends where they are.
    pub(super) fn write<B: BlockFiles<File = F>>(
        &mut self,
        files: &mut B,
        chunks: &SeriesChunks,
        metas: &mut Vec<ChunkMeta>,
    ) -> Result<(), BlockError> {
        let entries = chunks.entries();
        // Entries that go into the same file are written at once.
        let (mut first, mut start) = (0, 0);
        while first < entries.len() {
            if self.open.is_none()
                || self.position + (entries[first].end - start) as u64 > self.file_bytes_max
            {
                self.cut(files)?;
            }
            let room = self.file_bytes_max.saturating_sub(self.position);
            let count = entries[first..].partition_point(|entry| (entry.end - start) as u64 <= room).max(1);
            for (i, entry) in entries[first..first + count].iter().enumerate() {
                let entry_start = if i == 0 { start } else { entries[first + i - 1].end };
                let offset = self.position + (entry_start - start) as u64;
                metas.push(ChunkMeta {
                    min_time_ms: entry.min_time_ms,
                    max_time_ms: entry.max_time_ms,
                    reference: (u64::from(self.number) << 32) | offset,
                });
            }
            let end = entries[first + count - 1].end;
            if let Some(file) = &mut self.open {
                file.write_all(&chunks.bytes()[start..end]).map_err(BlockError::io("write a chunk file"))?;
            }
            self.position += (end - start) as u64;
            (first, start) = (first + count, end);
        }
        Ok(())
    }

    fn cut<B: BlockFiles<File = F>>(&mut self, files: &mut B) -> Result<(), BlockError> {
        if self.open.is_some() {
            self.close(files)?;
            self.number += 1;
        }
        let name = BlockFile::Chunks(self.number);
        let mut file = files.create(name).map_err(BlockError::io(format!("create {name}")))?;
        file.write_all(&HEADER).map_err(BlockError::io("write a chunk file"))?;
        self.position = HEADER.len() as u64;
        self.open = Some(file);
        Ok(())
    }

    /// Closes the last file.
    pub(super) fn close<B: BlockFiles<File = F>>(&mut self, files: &mut B) -> Result<(), BlockError> {
        let name = BlockFile::Chunks(self.number);
        match self.open.take() {
            Some(file) => files.close(name, file).map_err(BlockError::io(format!("close {name}"))),
            None => Ok(()),
        }
    }
}

/// An entry of a chunk file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry<'a> {
    /// How the samples are encoded.
    pub encoding: Encoding,
    /// The chunk without length, encoding byte and checksum.
    pub data: &'a [u8],
    /// Where the entry begins in its file.
    pub offset: u64,
    /// Where it ends.
    pub end: u64,
}

/// One chunk file, read at any place or from front to back.
#[derive(Debug)]
pub struct ChunkFile<'a, R: ?Sized> {
    window: Window<'a, R>,
}

impl<'a, R: ReadAt + ?Sized> ChunkFile<'a, R> {
    /// Opens a file and verifies its header.
    ///
    /// # Errors
    /// A failure to read, or another header.
    pub fn open(source: &'a R) -> Result<Self, BlockError> {
        let mut window = Window::new(source, AHEAD_BYTES);
        let header = window.get_up_to(0, HEADER.len() as u64).map_err(BlockError::io("read a chunk file"))?;
        if header != HEADER {
            let found = header.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(BlockError::Header { file: "a chunk file", found, expected: "85bd40dd01000000" });
        }
        Ok(Self { window })
    }

    /// Returns where the first entry begins.
    #[must_use]
    pub fn first_offset(&self) -> u64 {
        HEADER.len() as u64
    }

    /// Returns how large the file is, which is where the last entry ends.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.window.len()
    }

    /// Returns whether the file holds no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() <= self.first_offset()
    }

    /// Reads the entry that begins at an offset and verifies its checksum. To walk over a file, go on at its end.
    ///
    /// # Errors
    /// A failure to read, damage, or an unknown encoding.
    pub fn entry_at(&mut self, offset: u64) -> Result<ChunkEntry<'_>, BlockError> {
        let cut_off = || BlockError::CutOff { part: PART, offset };
        if offset < self.first_offset() || offset >= self.len() {
            let reason = "it lies outside of the file";
            return Err(BlockError::Malformed { part: PART, offset, reason });
        }
        let head = self.window.get_up_to(offset, LENGTH_BYTES_MAX);
        let head = head.map_err(BlockError::io("read a chunk file"))?;
        let mut cursor = Cursor::new(head);
        let length = cursor.uvarint().ok_or_else(cut_off)?;
        let start = offset + (head.len() - cursor.rest().len()) as u64;
        // Length, one byte of encoding and four of checksum.
        let end = length.checked_add(start + 5).filter(|end| *end <= self.len()).ok_or_else(cut_off)?;
        let bytes = self.window.get(start..end).map_err(BlockError::io("read a chunk file"))?;
        let checked = bytes.split_last_chunk::<4>().and_then(|(content, crc)| {
            let is_right = crc32c::crc32c(content) == u32::from_be_bytes(*crc);
            content.split_first().filter(|_| is_right)
        });
        let (encoding, data) = checked.ok_or(BlockError::Checksum { part: PART, offset })?;
        Ok(ChunkEntry { encoding: Encoding::from_byte(*encoding)?, data, offset, end })
    }
}

/// All chunk files of a block, in the order of their numbers. Each thread takes its own: it reads ahead.
#[derive(Debug)]
pub struct BlockChunks<'a, R> {
    files: Vec<ChunkFile<'a, R>>,
}

impl<'a, R: ReadAt> BlockChunks<'a, R> {
    /// Opens the files and verifies their headers.
    ///
    /// # Errors
    /// A failure to read, or another header.
    pub fn open(sources: &'a [R]) -> Result<Self, BlockError> {
        Ok(Self { files: sources.iter().map(ChunkFile::open).collect::<Result<_, _>>()? })
    }

    /// Reads the chunk that the index names so.
    ///
    /// # Errors
    /// A reference to a file that is not there, a failure to read, damage, or an unknown encoding.
    pub fn read(&mut self, reference: u64) -> Result<ChunkEntry<'_>, BlockError> {
        let (number, offset) = (reference >> 32, reference & u64::from(u32::MAX));
        let file = usize::try_from(number).ok().and_then(|number| self.files.get_mut(number));
        let reason = "its reference names a file that is not there";
        file.ok_or(BlockError::Malformed { part: PART, offset: reference, reason })?.entry_at(offset)
    }
}
