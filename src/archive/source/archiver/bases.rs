//! The part of the loop that archives what lies beside the logs.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::Archiver;
use crate::archive::source::base::{BaseMaker, Finished, MadeBase, lock, unreadable_block};
use crate::archive::source::scan::{Before, KEPT, Listed, Scan, Stored, keep, list};
use crate::archive::source::spool::Spool;
use crate::archive::source::tailer::LogsSeen;
use crate::archive::{ArchiveError, ArchiveView, Event, Stamp};
use crate::model::error_chain;

/// So many scans wait at most; then the newest takes the place of the one before.
const SCANS_MAX: usize = 64;

/// How long to wait before what could not be read is tried again; then twice that, and so on.
const PAUSE_FIRST_MS: i64 = 5_000;
const PAUSE_MAX_MS: i64 = 300_000;

enum Listing {
    Same,
    /// The server changed it meanwhile.
    Changing,
    Kept(Box<Scan>),
}

/// What is known of the data directory beside the logs.
#[derive(Debug)]
pub(super) struct BaseWatch {
    before: Before,
    /// When a base is to be made although nothing changed, on the clock that never steps.
    due_ms: Option<i64>,
    /// How long to wait after the next failure.
    pause_ms: i64,
    pub(super) finished: Finished,
}

impl BaseWatch {
    pub(super) fn new(view: Option<&ArchiveView>) -> Self {
        let made_ms = view.map_or(i64::MIN, |view| view.last_made.wall_ms);
        Self {
            before: Before::Archive(made_ms),
            due_ms: None,
            pause_ms: PAUSE_FIRST_MS,
            finished: Finished::default(),
        }
    }

    fn still_so(&mut self, seen_ms: i64) {
        if let Before::Listing(listed) = &mut self.before {
            listed.seen_ms = seen_ms;
        }
    }

    fn take(&mut self, scan: &Scan) {
        let (signature, seen_ms) = (scan.signature.clone(), scan.logs.seen.wall_ms);
        self.before = Before::Listing(Listed { signature, seen_ms, dated: scan.dated });
        self.due_ms = None;
    }

    /// Has a base made of what is there.
    pub(super) fn ask(&mut self) {
        self.due_ms = Some(i64::MIN);
    }

    /// Has a base made of what is there then, each time later.
    fn ask_later(&mut self, now: Stamp) {
        let then_ms = now.monotonic_ms.saturating_add(self.pause_ms);
        self.due_ms = Some(self.due_ms.map_or(then_ms, |due_ms| due_ms.min(then_ms)));
        self.pause_ms = self.pause_ms.saturating_mul(2).min(PAUSE_MAX_MS);
    }

    fn is_due(&self, now: Stamp) -> bool {
        self.due_ms.is_some_and(|due_ms| due_ms <= now.monotonic_ms)
    }
}

fn list_and_keep(
    data_dir: &Path,
    spool: &Spool,
    logs: LogsSeen,
    (before, due): (&Before, bool),
    archived: &Stored,
) -> std::io::Result<Listing> {
    let signature = list(data_dir)?;
    if !due && before.is(&signature) {
        return Ok(Listing::Same);
    }
    Ok(keep(data_dir, spool, logs, (signature, before), archived)?
        .map_or(Listing::Changing, |scan| Listing::Kept(Box::new(scan))))
}

impl Archiver {
    /// Lists what lies beside the logs; keeps it where it changed.
    pub(super) async fn scan(&mut self) -> Result<(), ArchiveError> {
        let Some(logs) = self.tailer().logs_seen() else { return Ok(()) };
        let (data_dir, spool) = (self.settings.data_dir.clone(), Arc::clone(&self.spool));
        let (before, archived) = (self.watch.before.clone(), Stored::of(self.last_base.as_deref()));
        let due = self.watch.is_due(self.now());
        let scanned =
            self.uploader.cpu.run(move || list_and_keep(&data_dir, &spool, logs, (&before, due), &archived));
        match scanned.await? {
            Ok(Listing::Kept(scan)) => self.take_scan(*scan),
            Ok(Listing::Same) => self.watch.still_so(logs.seen.wall_ms),
            Ok(Listing::Changing) => {}
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
        self.watch.take(&scan);
        for (id, reason) in &scan.unreadable {
            self.tell_unreadable(unreadable_block(&scan.logs, *id, reason.clone()));
        }
        if self.scans.len() >= SCANS_MAX {
            self.scans.pop_back();
        }
        self.scans.push_back(scan);
    }

    fn tell_unreadable(&mut self, event: Event) {
        let Some(id) = event.block.filter(|id| !self.unreadable.contains(id)) else { return };
        self.unreadable.push(id);
        let (source, reason) = (&self.settings.source, &event.detail);
        tracing::warn!(%source, block = %id, reason, "a block cannot be archived");
        self.events.push(event);
    }

    pub(super) fn make_next(&mut self) {
        if self.making.is_some() {
            return;
        }
        let Some(scan) = self.scans.pop_front() else { return };
        let (uploader, spool) = (self.uploader.clone(), Arc::clone(&self.spool));
        let maker = BaseMaker { uploader, spool, finished: Arc::clone(&self.watch.finished) };
        let before = self.last_base.clone();
        self.making = Some(tokio::spawn(async move { maker.make(scan, before).await }));
    }

    pub(super) async fn made(
        &mut self,
        made: Result<Result<MadeBase, ArchiveError>, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        match made.and_then(|made| made) {
            Ok(MadeBase { base, events, uploads, unreadable }) => {
                lock(&self.watch.finished).clear();
                if unreadable.is_empty() {
                    self.watch.pause_ms = PAUSE_FIRST_MS;
                } else {
                    self.watch.ask_later(self.now());
                }
                unreadable.into_iter().for_each(|event| self.tell_unreadable(event));
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
                self.watch.ask_later(self.now());
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
