//! The head's chunk files, `chunks_head/`: a cache that Prometheus builds anew, so that damage costs time only.
//!
//! A header of 8 bytes, then entries: series BE64, first and last time BE64, encoding, length as uvarint, data, CRC-32C
//! of all that. An entry of zeros ends a file.

use std::path::Path;

use super::{DirReport, below, names_in};
use crate::restore::RestoreError;
use crate::restore::progress::Progress;

const HEADER: [u8; 5] = [0x01, 0x30, 0xBC, 0x91, 1];
const HEADER_BYTES: usize = 8;

/// Series, two times and an encoding.
const FIXED_BYTES: usize = 25;

const CRC_BYTES: usize = 4;

/// Checks the chunk files, where there are any.
pub(super) fn check_chunks_head(dir: &Path, progress: &dyn Progress) -> Result<DirReport, RestoreError> {
    let mut report = DirReport::default();
    let folder = dir.join("chunks_head");
    if !folder.is_dir() {
        return Ok(report);
    }
    for name in names_in(&folder)?.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(RestoreError::file(&path))?;
        if let Some((offset, what)) = first_flaw(&bytes) {
            let what = format!("{what}; Prometheus builds the file anew out of the log");
            report.remark(below(dir, &path), Some(offset as u64), what);
        }
        progress.advance(bytes.len() as u64);
    }
    Ok(report)
}

/// Returns where the first entry is that is not whole, and why.
fn first_flaw(bytes: &[u8]) -> Option<(usize, &'static str)> {
    // A file that was just begun is empty.
    if bytes.is_empty() {
        return None;
    }
    if !bytes.starts_with(&HEADER) || bytes.len() < HEADER_BYTES {
        return Some((0, "it does not begin as a file of head chunks"));
    }
    let mut at = HEADER_BYTES;
    while let Some(entry) = bytes.get(at..) {
        if entry.len() < FIXED_BYTES || entry[..24].iter().all(|byte| *byte == 0) {
            // What is allocated ahead is zero up to the end.
            return entry.iter().any(|byte| *byte != 0).then_some((at, "bytes follow the last chunk"));
        }
        match entry_bytes(entry) {
            Ok(len) => at += len,
            Err(what) => return Some((at, what)),
        }
    }
    None
}

/// Returns the length of an entry whose checksum is right.
fn entry_bytes(entry: &[u8]) -> Result<usize, &'static str> {
    let cut_off = "a chunk is cut off";
    let mut len = 0_u64;
    let mut at = FIXED_BYTES;
    for shift in (0..35).step_by(7) {
        let byte = *entry.get(at).ok_or(cut_off)?;
        at += 1;
        len |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
    }
    let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len)).ok_or(cut_off)?;
    let stored = entry.get(end..).and_then(|rest| rest.first_chunk::<CRC_BYTES>()).ok_or(cut_off)?;
    if crc32c::crc32c(&entry[..end]) == u32::from_be_bytes(*stored) {
        Ok(end + CRC_BYTES)
    } else {
        Err("a chunk does not match its checksum")
    }
}

/// Walks arbitrary bytes as a file of head chunks; for fuzzing.
pub fn fuzz_chunks_head(data: &[u8]) {
    if let Some((offset, _)) = first_flaw(data) {
        assert!(offset <= data.len(), "a flaw lies inside of the file");
    }
}
