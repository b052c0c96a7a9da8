//! The records of the logs, in order: checkpoint files, then pieces, out of the work directory.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::RestoreError;
use super::context::RestoreContext;
use super::inventory::{Inventory, Obstacle};
use super::progress::Phase;
use crate::archive::{Archive, ArchiveError, PIECE_PLAIN_BYTES_MAX, Piece, PieceCut, Sha256Hash, decompress};
use crate::bucket::LogKind;
use crate::tsdb::wal::{SegmentReader, Step};

/// Pieces stay in memory between passes where all of them have no more than this.
const CACHE_BYTES_MAX: u64 = 512 << 20;

/// One log as a restore has it.
#[derive(Debug)]
pub(super) struct LogRecords {
    archive: Archive,
    stage: PathBuf,
    checkpoint: Vec<PathBuf>,
    cuts: Vec<PieceCut>,
    cache: Option<Vec<OnceLock<Arc<Piece>>>>,
}

impl LogRecords {
    /// Puts a log together of what was fetched. The checkpoint belongs to the WAL.
    pub(super) fn new(archive: &Archive, stage: &Path, inventory: &Inventory, log: LogKind) -> Self {
        let resolved = &inventory.resolved;
        let (cuts, checkpoint) = match log {
            LogKind::Wal => (resolved.wal.clone(), inventory.checkpoint_files()),
            LogKind::Wbl => (resolved.wbl.clone(), &[][..]),
        };
        let mut files: Vec<&str> = checkpoint.iter().map(|file| file.path.as_str()).collect();
        files.sort_unstable();
        let checkpoint = files.into_iter().map(|file| stage.join("checkpoint").join(file)).collect();
        let plain_bytes = cuts.iter().fold(0_u64, |sum, cut| sum.saturating_add(cut.piece.plain_bytes));
        let cache = (plain_bytes <= CACHE_BYTES_MAX).then(|| cuts.iter().map(|_| OnceLock::new()).collect());
        Self { archive: archive.clone(), stage: stage.to_owned(), checkpoint, cuts, cache }
    }

    /// Returns whether there is no record.
    pub(super) fn is_empty(&self) -> bool {
        self.checkpoint.is_empty() && self.cuts.is_empty()
    }

    /// Returns the pieces.
    pub(super) fn cuts(&self) -> &[PieceCut] {
        &self.cuts
    }

    pub(super) fn plain_bytes(&self) -> u64 {
        self.cuts.iter().map(|cut| cut.piece.plain_bytes).sum()
    }

    /// Opens every piece and holds it against its entry.
    pub(super) async fn verify(self: &Arc<Self>, context: &RestoreContext) -> Result<(), Obstacle> {
        context.progress.begin(Phase::Verify, self.plain_bytes());
        let checks = (0..self.cuts.len()).map(|i| {
            let log = Arc::clone(self);
            async move {
                let (id, plain_bytes) = (log.cuts[i].piece.id, log.cuts[i].piece.plain_bytes);
                let checked = context.cpu.run(move || log.load(i, true).map(drop)).await;
                let checked = checked.map_err(RestoreError::from).and_then(|checked| checked);
                checked.map_err(|error| Obstacle::of(id, error))?;
                context.progress.advance(plain_bytes);
                Ok(())
            }
        });
        let checks = futures::stream::iter(checks).buffered(context.threads * 2);
        checks.try_collect::<()>().await?;
        context.progress.end();
        Ok(())
    }

    /// Calls `visit` with every record, in the order in which the server wrote them.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        self.each_of_checkpoint(&mut visit)?;
        self.each_of_pieces(0..self.cuts.len(), visit)
    }

    /// Calls `visit` with every record of the checkpoint.
    pub(super) fn each_of_checkpoint(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        self.checkpoint.iter().try_for_each(|path| each_of_segment(path, &mut visit))
    }

    /// Calls `visit` with every record of some pieces, named by their places among [`Self::cuts`].
    pub(super) fn each_of_pieces(
        &self,
        pieces: Range<usize>,
        mut visit: impl FnMut(&[u8]) -> Result<(), RestoreError>,
    ) -> Result<(), RestoreError> {
        for i in pieces {
            let (piece, until) = (self.load(i, false)?, self.cuts[i].until);
            for record in piece.records().take_while(|record| record.end <= until) {
                visit(record.data)?;
            }
        }
        Ok(())
    }

    fn load(&self, i: usize, check_hash: bool) -> Result<Arc<Piece>, RestoreError> {
        let slot = self.cache.as_ref().map(|cache| &cache[i]);
        if let Some(piece) = slot.and_then(OnceLock::get) {
            return Ok(Arc::clone(piece));
        }
        let entry = &self.cuts[i].piece;
        let key = entry.key(self.archive.source());
        let damaged = |reason: String| ArchiveError::Damaged { key: key.to_string(), reason };
        let path = self.stage.join(entry.id.to_string());
        let stored = std::fs::read(&path).map_err(RestoreError::file(&path))?;
        let opened = self.archive.open(&key, Bytes::from(stored))?;
        let plain = decompress(&opened, entry.plain_bytes.min(PIECE_PLAIN_BYTES_MAX)).map_err(damaged)?;
        if check_hash && Sha256Hash::of(&plain) != entry.plain_sha256 {
            return Err(damaged("its content is not what was recorded".to_owned()).into());
        }
        let piece = Piece::decode(plain).map_err(damaged)?;
        let header = piece.header();
        let says = (header.log, header.segment, header.start, header.end);
        if says != (entry.log, entry.segment, entry.start, entry.end) {
            return Err(damaged(format!("it says to be {says:?}")).into());
        }
        let piece = Arc::new(piece);
        if let Some(slot) = slot {
            let _ = slot.set(Arc::clone(&piece));
        }
        Ok(piece)
    }
}

/// Calls `visit` with every record of a segment file.
fn each_of_segment(
    path: &Path,
    visit: &mut impl FnMut(&[u8]) -> Result<(), RestoreError>,
) -> Result<(), RestoreError> {
    let bytes = std::fs::read(path).map_err(RestoreError::file(path))?;
    let mut reader = SegmentReader::new(&bytes, 0);
    let damaged = |reason: String| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Err(RestoreError::Damaged { what: format!("segment {name} of the checkpoint"), reason })
    };
    loop {
        match reader.next_record() {
            Step::Record(record) => visit(&record.data)?,
            Step::End { .. } => return Ok(()),
            Step::Incomplete { offset } => return damaged(format!("it is cut off at byte {offset}")),
            Step::Damaged(damage) => return damaged(damage.to_string()),
        }
    }
}
