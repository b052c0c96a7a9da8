//! Reading a segment back, one entry in memory at a time.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::Entry;
use super::decode::EntryDecoder;
use super::directory::{SegmentName, keep_damaged};
use super::error::{CodecError, LogError};
use super::frame::{FRAME_BYTES, FrameHeader};
use super::segment::{EntriesStart, SegmentLink, VERSION};
use crate::model::Ulid;

const READ_BYTES: usize = 1 << 20;

/// A segment of an earlier epoch.
#[derive(Debug, Clone)]
pub struct RecoveredSegment {
    pub(super) dir: PathBuf,
    pub(super) name: SegmentName,
    pub(super) receiver: String,
    pub(super) last_seq: u64,
    pub(super) follows: Option<(Ulid, u64)>,
    /// Where and how its entries start; unknown where the header is damaged.
    pub(super) start: Option<EntriesStart>,
    /// Where it ended when its writer or recovery closed it.
    pub(super) end: u64,
    pub(super) skip_damaged: bool,
}

/// What was passed over in a damaged segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// Where the first bytes stand that do not read.
    pub offset: u64,
    /// Bytes from there to the end.
    pub bytes: u64,
    /// Entries that were not replayed, as far as sequence numbers tell.
    pub entries: u64,
}

impl RecoveredSegment {
    /// Returns the epoch that wrote it.
    #[must_use]
    pub fn epoch(&self) -> Ulid {
        self.name.epoch
    }

    /// Returns the name of the receiver that wrote it; empty where the header is damaged.
    #[must_use]
    pub fn receiver(&self) -> &str {
        &self.receiver
    }

    /// Returns the sequence number of its first entry.
    #[must_use]
    pub fn first_seq(&self) -> u64 {
        self.name.first_seq
    }

    /// Returns the sequence number of its last entry; one less than the first where it holds none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Returns the epoch and sequence number of the entry before its first one; `None` for the first of the log, or
    /// where the header is damaged. For the oldest segment that position was released: it must be covered, or
    /// entries are lost.
    #[must_use]
    pub fn follows(&self) -> Option<(Ulid, u64)> {
        self.follows
    }

    /// Returns its length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// Returns where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.name.path(&self.dir)
    }

    /// Returns what the header of the next segment says about it.
    pub(super) fn link(&self) -> SegmentLink {
        SegmentLink {
            epoch: self.name.epoch,
            first_seq: self.name.first_seq,
            last_seq: self.last_seq,
            length: self.end,
        }
    }

    /// Opens it for reading its entries in order.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn entries(&self) -> Result<SegmentReader, LogError> {
        let path = self.path();
        let start = self.start.unwrap_or(EntriesStart { offset: 0, seed: 0, version: VERSION });
        let frames = FrameReader::open(&path, start.offset as u64, self.end);
        let frames = frames.map_err(LogError::io("open", &path))?;
        let decoder = EntryDecoder::new(start, self.name.first_seq).map_err(|e| e.at(&path, 0))?;
        Ok(SegmentReader { segment: self.clone(), path, frames, decoder, ended: false, skipped: None })
    }
}

/// The entries of a segment. After an error, or a part that was skipped, there are no more.
#[derive(Debug)]
pub struct SegmentReader {
    segment: RecoveredSegment,
    path: PathBuf,
    frames: FrameReader,
    decoder: EntryDecoder,
    ended: bool,
    skipped: Option<Skipped>,
}

impl SegmentReader {
    /// Returns what was passed over because of damage, once the iterator has ended. Only with
    /// [`LogSettings::skip_damaged`](super::LogSettings::skip_damaged); without, the iterator yields an error.
    #[must_use]
    pub fn skipped(&self) -> Option<Skipped> {
        self.skipped
    }

    fn read_next(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.segment.start.is_none() {
            return Err(CodecError::Malformed("the segment header does not read").into());
        }
        let Some((header, bytes)) = self.frames.next()? else {
            let complete = self.decoder.next_seq() == self.segment.last_seq.saturating_add(1);
            return match complete {
                true => Ok(None),
                false => Err(CodecError::Malformed("entries are missing before the recorded end").into()),
            };
        };
        let entry = self.decoder.decode(&header, bytes)?;
        self.frames.accept();
        Ok(Some(entry))
    }

    fn fail(&mut self, error: ReadError) -> Result<(), LogError> {
        let offset = self.frames.offset();
        let damage = match error {
            ReadError::Io(source) => {
                return Err(LogError::Io { action: "read", path: self.path.clone(), source });
            }
            ReadError::Codec(error) => error.at(&self.path, offset),
        };
        if !self.segment.skip_damaged {
            return Err(damage);
        }
        let kept = keep_damaged(&self.segment.dir, &self.segment.name)?;
        let skipped = Skipped {
            offset,
            bytes: self.segment.end.saturating_sub(offset),
            entries: self.segment.last_seq.saturating_add(1).saturating_sub(self.decoder.next_seq()),
        };
        tracing::error!(
            error = %damage, ?kept, entries = skipped.entries, bytes = skipped.bytes,
            "skipped the rest of a damaged log segment, acknowledged samples are lost"
        );
        self.skipped = Some(skipped);
        Ok(())
    }
}

impl Iterator for SegmentReader {
    type Item = Result<Entry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.read_next() {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                self.fail(error).err().map(Err)
            }
        }
    }
}

/// Why the next frame could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    Io(io::Error),
    Codec(CodecError),
}

impl From<CodecError> for ReadError {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Codec(CodecError::Cut),
            _ => Self::Io(error),
        }
    }
}

/// Reads frames from a file, up to where the segment ends.
#[derive(Debug)]
pub(super) struct FrameReader {
    file: BufReader<File>,
    offset: u64,
    end: u64,
    entry: Vec<u8>,
}

impl FrameReader {
    pub(super) fn open(path: &Path, start: u64, end: u64) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
        file.seek(SeekFrom::Start(start))?;
        Ok(Self { file, offset: start, end, entry: Vec::new() })
    }

    /// Returns where the next frame starts, or the one that was not accepted.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next frame, its checksum not yet verified; [`Self::accept`] moves past it.
    pub(super) fn next(&mut self) -> Result<Option<(FrameHeader, &[u8])>, ReadError> {
        let left = self.end.saturating_sub(self.offset);
        if left == 0 {
            return Ok(None);
        }
        self.entry.resize(FRAME_BYTES, 0);
        if left < FRAME_BYTES as u64 {
            return Err(CodecError::Cut.into());
        }
        self.file.read_exact(&mut self.entry)?;
        let header = FrameHeader::decode(&self.entry)?;
        if left < (FRAME_BYTES + header.stored) as u64 {
            return Err(CodecError::Cut.into());
        }
        self.entry.resize(FRAME_BYTES + header.stored, 0);
        self.file.read_exact(&mut self.entry[FRAME_BYTES..])?;
        Ok(Some((header, &self.entry)))
    }

    pub(super) fn accept(&mut self) {
        self.offset += self.entry.len() as u64;
    }
}
