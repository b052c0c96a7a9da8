//! Checks at the start that the server still has what is archived.

use std::fs::File;

use super::tailer::Tailer;
use super::walk::walk;
use crate::archive::{Archive, ArchiveError, ArchiveView, Piece, Stamp};
use crate::model::{ErrorKind, error_chain};

/// The wall clock was set where it moves so much against another one.
pub(super) const CLOCK_STEP_MS: i64 = 2_000;

/// Begins a timeline where the wall clock was behind what an earlier archiver wrote by it: it was set back since, or this
/// machine has another one. `begun` comes before all that was seen.
pub(super) fn check_clock(
    view: &ArchiveView,
    tailer: &mut Tailer,
    begun: Stamp,
    instruments: &super::instruments::Instruments,
) {
    let behind_ms = view.last_made.wall_ms.saturating_sub(begun.wall_ms);
    if behind_ms > CLOCK_STEP_MS {
        instruments.clock_steps.inc();
        tracing::warn!(source = %view.source, behind_ms, "the wall clock is behind what was archived");
        let detail = format!("the wall clock was set back by at least {behind_ms} ms while no archiver ran");
        tailer.begin_by_clock(begun, detail);
    }
}

/// Reads the newest piece of the WAL, where it can be.
pub(super) async fn newest_piece(
    archive: &Archive,
    view: &ArchiveView,
) -> Result<Option<Piece>, ArchiveError> {
    let Some(entry) = view.newest_timeline().and_then(|timeline| timeline.wal.last()) else {
        return Ok(None);
    };
    let source = archive.source();
    match archive.read_piece(entry).await {
        Ok(piece) => Ok(Some(piece)),
        Err(ArchiveError::Envelope { source: error, .. }) => {
            tracing::info!(
                %source,
                error = error_chain(&error),
                "the newest piece cannot be compared with the log without the secret keys"
            );
            Ok(None)
        }
        // What is archived is damaged: verifying tells, and what comes is archived all the same.
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(%source, error = error_chain(&error), "the newest piece cannot be compared with the log");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Compares the ends of what is archived with what the server has. A log that lost its end goes on from there. One that
/// holds something else, or ends before without being the one that was read (a restored directory, or one that was begun
/// anew), is read again from its first segment, on a new timeline. What is missing is found by the first look.
pub(super) fn compare_ends(
    piece: Option<&Piece>,
    tailer: &mut Tailer,
    now: Stamp,
) -> Result<(), ArchiveError> {
    let path = tailer.wal_folder();
    let failed = |source| ArchiveError::File { path: path.clone(), source };
    let lost_its_end = tailer.cut_back(now).map_err(failed)?;
    let other = match (tailer.cut_log(), piece) {
        (Some(log), _) => Some(format!("the {log:?} ends before what is archived of it")),
        (None, Some(piece)) if !lost_its_end => {
            let segment = piece.header().segment;
            let differs = tailer.wal_segment(segment).map(|file| differs(&file, piece)).transpose();
            differs
                .map_err(failed)?
                .unwrap_or(false)
                .then(|| format!("segment {segment} is not the one that is archived"))
        }
        (None, _) => None,
    };
    match other {
        Some(detail) => tailer.reread(detail, now),
        None => tailer.expect_archived(),
    }
    Ok(())
}

/// Returns whether a segment has not all records of the newest piece, which was read from it.
fn differs(segment: &File, piece: &Piece) -> std::io::Result<bool> {
    let header = piece.header();
    let mut records = piece.records();
    let mut same = true;
    walk(segment, header.start, header.end, |_, found| {
        let expected = records.next();
        same = expected.is_some_and(|record| record.end == found.end && record.data == &*found.data);
        same
    })?;
    Ok(!same || records.next().is_some())
}
