//! The part of the loop that looks how far the server's logs are, and knows when it cannot.

use std::sync::Arc;

use super::{Archiver, HEARTBEAT_MS, lock};
use crate::archive::source::instruments::seconds;
use crate::archive::source::resume::CLOCK_STEP_MS;
use crate::archive::{ArchiveError, Stamp};

impl Archiver {
    /// Looks at both logs. After a failure every look is a thorough one: a quick one may not meet what is wrong.
    pub(super) async fn look(&mut self, now: Stamp, thorough: bool) -> Result<(), ArchiveError> {
        let (tailer, thorough) = (Arc::clone(&self.tailer), thorough || self.blind.is_some());
        let looked = self.uploader.cpu.run(move || lock(&tailer).look(now, thorough)).await?;
        let source = &self.settings.source;
        match looked {
            Ok(sees) => {
                if self.blind.take().is_some() {
                    tracing::info!(%source, "the server's logs can be seen again");
                }
                if sees {
                    self.last_look = now;
                }
            }
            Err(error) => {
                let said = self.blind.filter(|said| now.monotonic_ms.saturating_sub(*said) < HEARTBEAT_MS);
                if said.is_none() {
                    let blind_ms = now.monotonic_ms.saturating_sub(self.last_look.monotonic_ms);
                    tracing::warn!(%source, %error, blind_ms, "cannot look at the server's logs, trying again");
                }
                self.blind = said.or(Some(now.monotonic_ms));
            }
        }
        Ok(())
    }

    /// Returns whether a look of this moment found how far the logs are, and all that was found can be read.
    pub(super) fn sees(&self, now: Stamp) -> bool {
        self.last_look == now && self.tailer().stuck_since().is_none()
    }

    /// Returns until when it is known what the server wrote: now, unless looking or reading fails. An entry that was
    /// made later would say that nothing was written meanwhile.
    pub(super) fn knows_until(&self) -> Stamp {
        let last = self.last_entry;
        let known = match (self.tailer().stuck_since(), self.blind) {
            (Some(read), _) => read.unwrap_or(last),
            (None, Some(_)) => self.last_look,
            (None, None) => return self.now(),
        };
        let newest = if last.monotonic_ms > known.monotonic_ms { last } else { known };
        Stamp { wall_ms: newest.wall_ms.max(last.wall_ms), ..newest }
    }

    pub(super) fn check_clock(&mut self, now: Stamp) {
        let drift_ms = now.wall_ms.saturating_sub(now.monotonic_ms);
        let step_ms = drift_ms.saturating_sub(self.drift_ms);
        self.drift_ms = drift_ms;
        if step_ms.saturating_abs() > CLOCK_STEP_MS {
            self.uploader.instruments.clock_steps.inc();
            let detail = format!("the wall clock was set by {step_ms} ms");
            tracing::warn!(source = %self.settings.source, step_ms, "the wall clock was set");
            self.tailer().clock_stepped(now, detail);
        }
    }

    pub(super) async fn show_spool(&self) -> Result<(), ArchiveError> {
        let (spool, instruments) = (Arc::clone(&self.spool), &self.uploader.instruments);
        instruments.show_mode(spool.mode());
        let bytes = self.uploader.cpu.run(move || spool.bytes()).await?;
        instruments.spool_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Shows how old the oldest record may be that cannot be restored: one that waits, or one that no look could see.
    pub(super) fn show_lag(&self, now: Stamp) {
        let unseen = (self.last_look != now).then_some(self.last_look);
        let since = [self.storing_since, self.tailer().waits_since(), unseen].into_iter().flatten();
        let oldest_ms = since.map(|stamp| stamp.monotonic_ms).min();
        let lag_ms = oldest_ms.map_or(0, |oldest_ms| now.monotonic_ms.saturating_sub(oldest_ms));
        self.uploader.instruments.lag.set(seconds(lag_ms));
    }
}
