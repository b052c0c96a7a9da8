//! What a start finds: the chain of segments, its end, and whether that end is a torn write or damage.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::directory::{SegmentName, list_segments};
use super::error::{CodecError, LogError};
use super::files::LogFiles;
use super::frame::{ENTRY_BYTES_MAX, FRAME_BYTES, FrameHeader, MAGIC};
use super::replay::{FrameReader, ReadError, RecoveredSegment};
use super::segment::{DecodedHeader, HEADER_BYTES_FIXED, RECEIVER_BYTES_MAX, SegmentLink, decode_header};
use crate::model::Ulid;
use crate::runtime::crash_point;

/// A listed segment and its header, if that reads.
struct Found {
    name: SegmentName,
    header: Option<DecodedHeader>,
}

/// Checks the segments in a directory and makes their end durable; returns them oldest first.
pub(super) fn recover(
    dir: &Path,
    files: &dyn LogFiles,
    skip_damaged: bool,
) -> Result<Vec<RecoveredSegment>, LogError> {
    check_segments(dir, list_segments(dir)?, files, skip_damaged)
}

/// As [`recover`], of segments that were listed.
pub(super) fn check_segments(
    dir: &Path,
    names: Vec<SegmentName>,
    files: &dyn LogFiles,
    skip_damaged: bool,
) -> Result<Vec<RecoveredSegment>, LogError> {
    let mut found = Vec::new();
    for name in names {
        let header = match read_header(dir, &name) {
            Ok(header) => Some(header),
            Err(error @ LogError::Damaged { .. }) if skip_damaged => {
                tracing::error!(%error, "cannot read the header of a log segment");
                None
            }
            Err(error) => return Err(error),
        };
        found.push(Found { name, header });
    }
    let mut segments = Vec::with_capacity(found.len());
    for (i, segment) in found.iter().enumerate() {
        let successor = found.get(i + 1);
        let link = match successor.map(|next| check_link(dir, segment, next)) {
            Some(Err(error)) if skip_damaged => {
                tracing::error!(%error, "a log segment is missing");
                None
            }
            Some(link) => link?,
            None => None,
        };
        let (end, last_seq) = match link {
            Some(link) => (link.length, link.last_seq),
            None => find_end(dir, segment, successor.is_none(), files, skip_damaged)?,
        };
        segments.push(RecoveredSegment {
            dir: dir.to_owned(),
            name: segment.name.clone(),
            receiver: segment.header.as_ref().map(|h| h.header.receiver.clone()).unwrap_or_default(),
            last_seq,
            follows: follows(segment),
            start: segment.header.as_ref().map(|h| h.start),
            end,
            skip_damaged,
        });
    }
    Ok(segments)
}

fn follows(segment: &Found) -> Option<(Ulid, u64)> {
    let link = segment.header.as_ref()?.header.previous?;
    Some((link.epoch, link.last_seq))
}

fn read_header(dir: &Path, name: &SegmentName) -> Result<DecodedHeader, LogError> {
    let path = name.path(dir);
    let mut bytes = Vec::new();
    let longest = (HEADER_BYTES_FIXED + RECEIVER_BYTES_MAX) as u64;
    File::open(&path)
        .and_then(|file| file.take(longest).read_to_end(&mut bytes))
        .map_err(LogError::io("read", &path))?;
    let decoded = decode_header(&bytes).map_err(|error| error.at(&path, 0))?;
    if decoded.header.epoch != name.epoch || decoded.header.first_seq != name.first_seq {
        return Err(CodecError::Malformed("the header belongs to another segment").at(&path, 0));
    }
    Ok(decoded)
}

/// Returns where a segment ended, as its successor says; `None` where the successor's header does not read.
fn check_link(dir: &Path, segment: &Found, next: &Found) -> Result<Option<SegmentLink>, LogError> {
    let Some(header) = &next.header else { return Ok(None) };
    let file = next.name.path(dir);
    let Some(link) = header.header.previous else {
        return Err(CodecError::Malformed("it names no earlier segment, but there is one").at(&file, 0));
    };
    let named = SegmentName { epoch: link.epoch, first_seq: link.first_seq };
    if named != segment.name {
        return Err(LogError::Missing { missing: named.path(dir), file });
    }
    let follows = link.epoch != next.name.epoch || link.last_seq.checked_add(1) == Some(next.name.first_seq);
    if !follows || link.last_seq.saturating_add(1) < link.first_seq {
        return Err(CodecError::Malformed("its sequence numbers do not follow those before").at(&file, 0));
    }
    Ok(Some(link))
}

/// Finds the end of a segment that no successor describes, and its last sequence number. Of the very last
/// segment a torn tail is cut off.
fn find_end(
    dir: &Path,
    segment: &Found,
    is_last: bool,
    files: &dyn LogFiles,
    skip_damaged: bool,
) -> Result<(u64, u64), LogError> {
    let path = segment.name.path(dir);
    let length = fs::metadata(&path).map_err(LogError::io("read", &path))?.len();
    let before_first = segment.name.first_seq - 1;
    let Some(header) = &segment.header else { return Ok((length, before_first)) };
    let scanned = scan(&path, header, length).map_err(LogError::io("read", &path))?;
    let Some(error) = scanned.error else {
        if is_last {
            // An entry that was written but not synced is replayed, so it has to be durable from here on.
            files.truncate(&path, length).map_err(LogError::io("sync", &path))?;
        }
        return Ok((length, scanned.last_seq));
    };
    match find_damage(&path, header.start.seed, scanned.good, length).map_err(LogError::io("read", &path))? {
        None if is_last => {
            tracing::warn!(
                ?path,
                offset = scanned.good,
                bytes = length - scanned.good,
                "cut off a torn write at the end of the log"
            );
            files.truncate(&path, scanned.good).map_err(LogError::io("truncate", &path))?;
            crash_point("log.truncate");
            Ok((scanned.good, scanned.last_seq))
        }
        damage if skip_damaged => {
            let last_valid = damage.map_or(0, |damage| damage.last_seq);
            Ok((length, scanned.last_seq.max(last_valid)))
        }
        Some(damage) => Err(CodecError::Malformed(damage.reason).at(&path, scanned.good)),
        None => Err(error.at(&path, scanned.good)),
    }
}

struct Scanned {
    good: u64,
    last_seq: u64,
    error: Option<CodecError>,
}

/// Follows the entries by checksum and sequence number.
fn scan(path: &Path, header: &DecodedHeader, length: u64) -> io::Result<Scanned> {
    let mut frames = FrameReader::open(path, header.start.offset as u64, length)?;
    let mut last_seq = header.header.first_seq - 1;
    let error = loop {
        let checked = frames.next().and_then(|frame| match frame {
            None => Ok(false),
            Some((frame, bytes)) => {
                frame.verify(bytes, header.start.seed)?;
                match frame.seq.checked_sub(1) == Some(last_seq) {
                    true => Ok(true),
                    false => Err(CodecError::Malformed("a sequence number is out of order").into()),
                }
            }
        });
        match checked {
            Ok(true) => {
                frames.accept();
                last_seq += 1;
            }
            Ok(false) => break None,
            Err(ReadError::Codec(error)) => break Some(error),
            Err(ReadError::Io(error)) => return Err(error),
        }
    };
    Ok(Scanned { good: frames.offset(), last_seq, error })
}

struct Damage {
    reason: &'static str,
    /// The greatest sequence number that was found after the damage; 0 where none was.
    last_seq: u64,
}

/// Tells whether bytes that do not read are more than one torn entry.
fn find_damage(path: &Path, seed: u32, from: u64, length: u64) -> io::Result<Option<Damage>> {
    if length - from > ENTRY_BYTES_MAX as u64 {
        let reason = "what follows is not an entry, and too long for a torn one";
        return Ok(Some(Damage { reason, last_seq: 0 }));
    }
    let mut tail = Vec::new();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    file.take(length - from).read_to_end(&mut tail)?;
    Ok(last_valid_seq(&tail, seed)
        .map(|last_seq| Damage { reason: "an entry does not read, but a later one does", last_seq }))
}

/// Returns the greatest sequence number of the valid entries that start anywhere in `bytes`.
pub(super) fn last_valid_seq(bytes: &[u8], seed: u32) -> Option<u64> {
    let mut last = None;
    for at in 0..bytes.len().saturating_sub(FRAME_BYTES - 1) {
        if bytes[at..at + MAGIC.len()] != MAGIC {
            continue;
        }
        let Ok(header) = FrameHeader::decode(&bytes[at..]) else { continue };
        let Some(entry) = bytes.get(at..at + FRAME_BYTES + header.stored) else { continue };
        if header.verify(entry, seed).is_ok() {
            last = last.max(Some(header.seq));
        }
    }
    last
}
