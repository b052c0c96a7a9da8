//! Where an archiver begins: what the logs are compared with the end of what is archived.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::super::log_tail::LogTail;
use super::super::segments::Segment;
use super::Tailer;
use crate::archive::{EventKind, ForkReason, Stamp};
use crate::bucket::LogKind;

impl Tailer {
    /// Returns the first log that ends before what is archived of it.
    pub(in crate::archive::source) fn cut_log(&self) -> Option<LogKind> {
        let cut = |tail: &&LogTail| tail.end().is_some_and(|end| tail.watch.ends_before(end));
        [&self.wal, &self.wbl].into_iter().find(cut).map(|tail| tail.watch.log())
    }

    /// Takes what is archived for known, even if nothing of it was kept.
    pub(in crate::archive::source) fn expect_archived(&mut self) {
        for tail in [&mut self.wal, &mut self.wbl] {
            if let Some(end) = tail.end() {
                tail.watch.expect(end);
            }
        }
    }

    /// Goes on from where the logs end now, where a machine lost the end of what was archived of them. Returns whether
    /// that was so.
    pub(in crate::archive::source) fn cut_back(&mut self, now: Stamp) -> io::Result<bool> {
        let mut details = Vec::new();
        for tail in [&mut self.wal, &mut self.wbl] {
            details.extend(tail.cut_back()?.map(|at| format!("{:?} after {at}", tail.watch.log())));
        }
        if details.is_empty() {
            return Ok(false);
        }
        self.known_before = self.wal.watch.last().unwrap_or(0);
        let detail = format!("the server lost the end of its log: {}", details.join(", "));
        self.begin_timeline((ForkReason::Repair, EventKind::Repair), now.wall_ms, now, detail);
        Ok(true)
    }

    /// Begins again with the first segments that are there: the archive holds something else.
    pub(in crate::archive::source) fn reread(&mut self, detail: String, now: Stamp) {
        self.rewind();
        self.known_before = self.wal.watch.last().unwrap_or(0);
        self.begin_timeline((ForkReason::Rewritten, EventKind::Rewritten), now.wall_ms, now, detail);
    }

    pub(in crate::archive::source) fn wal_folder(&self) -> PathBuf {
        self.wal.watch.folder().to_owned()
    }

    /// Opens a segment of the WAL, unless another file was kept of it: the looks compare those.
    pub(in crate::archive::source) fn wal_segment(&self, number: u32) -> Option<Arc<File>> {
        let watch = &self.wal.watch;
        let known = watch.segment(number).unwrap_or(Segment { inode: 0, size: 0 });
        let live = std::fs::metadata(watch.path(number)).ok().map(|live| live.ino());
        let same = known.inode == 0 || live.is_none_or(|live| live == known.inode);
        same.then(|| watch.open_segment(number, known, &self.spool).ok()).flatten()
    }
}
