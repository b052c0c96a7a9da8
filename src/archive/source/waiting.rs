//! Looks before it is known how far the archive goes: what the server may delete meanwhile is kept.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

use super::segments::{Found, LogWatch};
use super::sightings::Sightings;
use super::spool::Spool;
use crate::archive::{LogPosition, Stamp};
use crate::bucket::LogKind;

/// Both logs, watched and not read yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) wal: LogWatch,
    pub(super) wbl: LogWatch,
    pub(super) sightings: Sightings,
    spool: Arc<Spool>,
}

impl Waiting {
    /// Begins with the segments that an earlier archiver kept.
    pub(super) fn open(data_dir: &Path, spool: &Arc<Spool>) -> Result<Self> {
        Ok(Self {
            wal: LogWatch::open(LogKind::Wal, data_dir, spool)?,
            wbl: LogWatch::open(LogKind::Wbl, data_dir, spool)?,
            sightings: Sightings::new(),
            spool: Arc::clone(spool),
        })
    }

    /// Looks how far the logs are written, and keeps their segments.
    pub(super) fn look(&mut self, now: Stamp, thorough: bool) -> Result<()> {
        if let Some((Some(wal), wbl)) = look_at_both((&mut self.wal, &mut self.wbl), thorough, &self.spool)? {
            self.sightings.note(now, wal, wbl);
        }
        Ok(())
    }
}

/// Looks how far both logs are written; nothing where one of them does not go on from what is known. The log of
/// out-of-order samples comes first, so that each of its series is found in what is seen of the WAL.
pub(super) fn look_at_both(
    (wal, wbl): (&mut LogWatch, &mut LogWatch),
    thorough: bool,
    spool: &Spool,
) -> Result<Option<(Option<LogPosition>, Option<LogPosition>)>> {
    let out_of_order = wbl.look(thorough, spool)?;
    let in_order = wal.look(thorough, spool)?;
    let (Found::End(out_of_order), Found::End(in_order)) = (out_of_order, in_order) else { return Ok(None) };
    if wal.is_gone() {
        let folder = wal.folder().display();
        let reason = format!("{folder} holds no segment any more: is the volume mounted?");
        return Err(Error::new(ErrorKind::NotFound, reason));
    }
    Ok(Some((in_order, out_of_order)))
}
