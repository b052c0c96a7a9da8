//! Reads a range of a segment file in bounded steps.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt;

use crate::tsdb::wal::{Damage, SegmentReader, SegmentRecord, Step};

/// How much is read at once, unless a single record is larger.
const STEP_BYTES: u64 = 1 << 20;

/// Why a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// No further whole record begins before the end of the range.
    Range,
    /// The visitor has enough.
    Enough,
    /// What follows can never be read.
    Damaged(Damage),
}

/// Reads the records that lie in a range and returns where the last one ended. The visitor is handed each record
/// with the offset at which the one before it ended; it returns whether it wants more.
pub(super) fn walk(
    file: &File,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, SegmentRecord<'_>) -> bool,
) -> Result<(u64, WalkEnd)> {
    let (mut at, mut step) = (from, STEP_BYTES);
    let mut buffer = Vec::new();
    while at < to {
        let until = to.min(at.saturating_add(step));
        buffer.resize(usize::try_from(until - at).unwrap_or(usize::MAX), 0);
        let read = read_at_most(file, &mut buffer, at)?;
        let mut reader = SegmentReader::new(&buffer[..read], at);
        let before = at;
        loop {
            match reader.next_record() {
                Step::Record(record) => {
                    let end = record.end;
                    let more = visit(at, record);
                    at = end;
                    if !more {
                        return Ok((at, WalkEnd::Enough));
                    }
                }
                Step::End { .. } | Step::Incomplete { .. } => break,
                // A record that goes on beyond the buffer may look damaged only where the bytes end.
                Step::Damaged(damage) => return Ok((at, WalkEnd::Damaged(damage))),
            }
        }
        if until == to || (read as u64) < until - before {
            break;
        }
        step = if at == before { step.saturating_mul(2) } else { STEP_BYTES };
    }
    Ok((at, WalkEnd::Range))
}

/// Fills a buffer as far as the file goes.
pub(super) fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Returns the last record boundary of `new` up to which both files have the same bytes, not beyond `limit`.
pub(super) fn common_boundary(old: &File, new: &File, limit: u64) -> Result<u64> {
    let (mut ours, mut theirs) = (vec![0; STEP_BYTES as usize], vec![0; STEP_BYTES as usize]);
    let mut same = 0;
    while same < limit {
        let window = usize::try_from((limit - same).min(STEP_BYTES)).unwrap_or(usize::MAX);
        let read = read_at_most(old, &mut ours[..window], same)?;
        let read = read.min(read_at_most(new, &mut theirs[..window], same)?);
        let equal = ours[..read].iter().zip(&theirs[..read]).take_while(|(a, b)| a == b).count();
        same += equal as u64;
        if equal < window {
            break;
        }
    }
    walk(new, 0, same, |_, _| true).map(|(boundary, _)| boundary)
}
