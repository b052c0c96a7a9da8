//! The part of the loop that archives what lies beside the logs.

use std::io::ErrorKind as IoErrorKind;
use std::sync::Arc;

use super::Archiver;
use crate::archive::source::base::{BaseMaker, MadeBase};
use crate::archive::source::scan::{KEPT, Scan, Stored, keep, list};
use crate::archive::{ArchiveError, Event, EventKind};
use crate::model::error_chain;

/// So many scans wait at most; then the newest takes the place of the one before.
const SCANS_MAX: usize = 64;

impl Archiver {
    /// Lists what lies beside the logs; keeps it where it changed.
    pub(super) async fn scan(&mut self) -> Result<(), ArchiveError> {
        let Some(logs) = self.tailer().logs_seen() else { return Ok(()) };
        let (data_dir, spool) = (self.settings.data_dir.clone(), Arc::clone(&self.spool));
        let (before, archived) = (self.signature.clone(), Stored::of(self.last_base.as_deref()));
        let scanned = self.uploader.cpu.run(move || {
            let signature = list(&data_dir)?;
            if before.as_ref() == Some(&signature) {
                return Ok(None);
            }
            keep(&data_dir, &spool, logs, (signature, before.as_ref()), &archived)
        });
        match scanned.await? {
            Ok(Some(scan)) => self.take_scan(scan),
            Ok(None) => {}
            // Something was deleted while it was looked at: the next scan sees what is left.
            Err(error) if error.kind() == IoErrorKind::NotFound => {}
            Err(error) => {
                let source = &self.settings.source;
                tracing::warn!(%source, %error, "cannot list the server's blocks, trying again");
            }
        }
        Ok(())
    }

    pub(super) fn take_scan(&mut self, scan: Scan) {
        self.signature = Some(scan.signature.clone());
        for (id, reason) in &scan.unreadable {
            if !self.unreadable.contains(id) {
                self.unreadable.push(*id);
                tracing::warn!(source = %self.settings.source, block = %id, reason, "a block cannot be archived");
                self.events.push(Event {
                    kind: EventKind::BlockUnreadable,
                    at_ms: scan.logs.seen.wall_ms,
                    position: scan.logs.position,
                    block: Some(*id),
                    detail: reason.clone(),
                });
            }
        }
        if self.scans.len() >= SCANS_MAX {
            self.scans.pop_back();
        }
        self.scans.push_back(scan);
    }

    pub(super) fn make_next(&mut self) {
        if self.making.is_some() {
            return;
        }
        let Some(scan) = self.scans.pop_front() else { return };
        let maker = BaseMaker { uploader: self.uploader.clone(), spool: Arc::clone(&self.spool) };
        let before = self.last_base.clone();
        self.making = Some(tokio::spawn(async move { maker.make(scan, before).await }));
    }

    pub(super) async fn made(
        &mut self,
        made: Result<Result<MadeBase, ArchiveError>, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        match made.and_then(|made| made) {
            Ok(MadeBase { base, events, uploads }) => {
                self.uploader.instruments.base_uploads.inc_by(uploads);
                self.events.extend(events);
                if let Some(base) = base {
                    self.last_base = Some(Arc::new(base.clone()));
                    self.bases.push_back(base);
                } else {
                    self.release_base().await?;
                }
            }
            Err(error) => {
                let source = &self.settings.source;
                tracing::warn!(%source, error = error_chain(&error), "cannot archive the server's blocks, trying again");
                self.signature = None;
            }
        }
        Ok(())
    }

    /// Lets go of blocks and checkpoints once nothing waits to be stored or named.
    pub(super) async fn release_base(&self) -> Result<(), ArchiveError> {
        if !self.scans.is_empty() || self.making.is_some() || !self.bases.is_empty() {
            return Ok(());
        }
        let spool = Arc::clone(&self.spool);
        if let Err(error) = self.uploader.cpu.run(move || spool.release_folder(KEPT)).await? {
            tracing::warn!(source = %self.settings.source, %error, "cannot remove links from the spool");
        }
        Ok(())
    }
}
