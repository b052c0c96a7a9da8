//! Checks at the start that the server still has what is archived.

use std::fs::File;

use super::tailer::Tailer;
use super::walk::walk;
use crate::archive::{Archive, ArchiveError, ArchiveView, LogPosition, Piece, Stamp};
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

/// Compares the end of what is archived with what the server has. Where that holds something else, so may all that
/// was before: it is read again on a new timeline, as is a log that ends before what is archived of it, which was put in
/// its place (a restored directory) or begun anew. What is missing is found by the first look.
pub(super) fn compare_ends(
    piece: Option<&Piece>,
    tailer: &mut Tailer,
    now: Stamp,
) -> Result<(), ArchiveError> {
    if let Some(piece) = piece
        && let Some(file) = tailer.wal_segment(piece.header().segment)
    {
        let segment = piece.header().segment;
        let path = || std::path::PathBuf::from(format!("wal/{segment:08}"));
        match compare(&file, piece).map_err(|source| ArchiveError::File { path: path(), source })? {
            Compared::Same => {}
            Compared::CutBack(offset) => {
                tailer.cut_back(LogPosition { segment, offset }, now);
                return Ok(());
            }
            Compared::Other => {
                tailer.reread(format!("segment {segment} is not the one that is archived"), now);
                return Ok(());
            }
        }
    }
    match tailer.cut_log() {
        Some(log) => tailer.reread(format!("the {log:?} ends before what is archived of it"), now),
        None => tailer.expect_archived(),
    }
    Ok(())
}

/// How a segment compares with the newest piece that was read from it.
enum Compared {
    /// It holds the same records.
    Same,
    /// It ends in the middle of them.
    CutBack(u64),
    /// It holds others, or nothing that tells.
    Other,
}

fn compare(segment: &File, piece: &Piece) -> std::io::Result<Compared> {
    let header = piece.header();
    let size = segment.metadata()?.len();
    let mut records = piece.records();
    let mut same = true;
    let (at, _) = walk(segment, header.start, header.end.min(size), |_, found| {
        let expected = records.next();
        same = expected.is_some_and(|record| record.end == found.end && record.data == &*found.data);
        same
    })?;
    let rest = records.next();
    Ok(match rest {
        _ if !same => Compared::Other,
        None => Compared::Same,
        Some(_) if size < header.end && at > header.start => Compared::CutBack(at),
        Some(_) => Compared::Other,
    })
}
