//! What the metrics say of the time that can be restored, and of the time that is missing.

use super::Archiver;
use crate::archive::source::instruments::{Instruments, seconds};
use crate::archive::source::tailer::Batch;
use crate::archive::{Archive, ArchiveView, Entry, EventKind, Stamp};
use crate::bucket::LogKind;
use crate::model::error_chain;

/// Retention and roll-up change the archive from elsewhere: it is read again so often.
const READ_AGAIN_MS: i64 = 3_600_000;

/// Shows since when every second can be restored.
pub(super) fn show_window(instruments: &Instruments, view: &ArchiveView) {
    if let Some(since_ms) = view.continuous_since_ms() {
        instruments.window_start.set(seconds(since_ms));
    }
}

async fn read_and_show(archive: Archive, instruments: Instruments) {
    match archive.load().await {
        Ok(view) => show_window(&instruments, &view),
        Err(error) => {
            let (source, error) = (archive.source(), error_chain(&error));
            tracing::warn!(%source, error, "cannot read since when every second can be restored");
        }
    }
}

impl Archiver {
    /// Shows what an entry, and what others did to the archive, mean for the time that can be restored.
    pub(super) fn update_window(&mut self, entry: &Entry) {
        let instruments = &self.uploader.instruments;
        if let Some(base) = entry.base.as_ref().filter(|_| instruments.window_start.get() == 0.0) {
            instruments.window_start.set(seconds(base.seen.wall_ms));
        }
        let now_ms = entry.made.monotonic_ms;
        if now_ms.saturating_sub(self.window_read_ms) >= READ_AGAIN_MS {
            self.window_read_ms = now_ms;
            tokio::spawn(read_and_show(self.uploader.archive.clone(), instruments.clone()));
        }
    }

    /// Adds up the time of which records are missing: from when the log was last seen to the first sample after that.
    pub(super) fn count_gap(&self, batch: &Batch, now: Stamp) {
        let gap = batch.events.iter().find(|event| event.kind == EventKind::Gap && event.at_ms > 0);
        let Some(from_ms) = gap.map(|gap| gap.at_ms) else { return };
        let first = batch.pieces.iter().find(|piece| piece.entry.log == LogKind::Wal);
        let sampled = first.and_then(|piece| piece.entry.sample_times_ms);
        let to_ms = sampled.map_or(now.wall_ms, |(first_ms, _)| first_ms.min(now.wall_ms));
        self.uploader.instruments.gaps.inc_by(seconds(to_ms.saturating_sub(from_ms).max(0)));
    }
}
