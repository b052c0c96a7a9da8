//! What commands and jobs do.

use std::sync::Arc;

use serde::Serialize;

use super::super::Failure;
use super::super::compose::Base;
use crate::archive::{
    Archive, ArchiveError, Hold, LockExtension, LockReport, RestorePoint, Retention, RetentionPolicy,
    RetentionReport, RollUp, RollUpReport, RollUpSettings, Verify, VerifyProgress, VerifyReport,
    VerifySettings,
};
use crate::bucket::{Bucket, LockMode};
use crate::envelope::Envelope;
use crate::model::{SourceName, Ulid};
use crate::restore::{DrillReport, DrillSettings, Progress, RestoreContext, RestoreError, drill};
use crate::runtime::{Clock, Cpu, Random};

/// What upkeep works with; clones share it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Upkeep {
    bucket: Bucket,
    envelope: Envelope,
    cpu: Cpu,
    clock: Arc<dyn Clock>,
    random: Random,
}

/// What a retention run would do.
#[derive(Debug, Serialize)]
pub(super) struct PlannedRetention {
    pub(super) source: SourceName,
    /// Every second from here on stays restorable.
    pub(super) window_start_ms: i64,
    pub(super) points: Vec<RestorePoint>,
    pub(super) holds: Vec<Hold>,
    pub(super) dropped_bases: usize,
    pub(super) dropped_pieces: usize,
    pub(super) dropped_piece_bytes: u64,
}

impl Upkeep {
    pub(in crate::cli) fn new(base: &Base, bucket: Bucket, envelope: Envelope) -> Self {
        Self {
            bucket,
            envelope,
            cpu: base.cpu.clone(),
            clock: Arc::clone(&base.clock),
            random: base.random.clone(),
        }
    }

    #[cfg(test)]
    pub(super) fn of_parts(
        bucket: Bucket,
        envelope: Envelope,
        cpu: Cpu,
        clock: Arc<dyn Clock>,
        random: Random,
    ) -> Self {
        Self { bucket, envelope, cpu, clock, random }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn archive(&self, source: &SourceName) -> Archive {
        Archive::new(self.bucket.clone(), self.envelope.clone(), source.clone())
    }

    /// Returns the sources that a job means: one, or all there are.
    pub(super) async fn sources(&self, named: &str) -> Result<Vec<SourceName>, Failure> {
        if named == "*" {
            let sources = crate::archive::sources(&self.bucket).await?;
            if sources.is_empty() {
                let message = format!(
                    "there is no archive in {}: check the bucket and its prefix, or let an archiver store its first entry",
                    self.bucket.location()
                );
                return Err(Failure::new(crate::model::ErrorKind::NotFound, message));
            }
            return Ok(sources);
        }
        let source = SourceName::new(named).map_err(|e| Failure::new(crate::model::ErrorKind::Invalid, e))?;
        Ok(vec![source])
    }

    pub(super) async fn roll_up(&self, source: &SourceName) -> Result<RollUpReport, ArchiveError> {
        let archive = self.archive(source);
        let run = RollUp { archive: &archive, cpu: &self.cpu, random: &self.random, now_ms: self.now_ms() };
        run.run(RollUpSettings::default()).await
    }

    pub(super) async fn retention_plan(
        &self,
        source: &SourceName,
        policy: &RetentionPolicy,
        delay_ms: i64,
    ) -> Result<PlannedRetention, ArchiveError> {
        let archive = self.archive(source);
        let (random, now_ms) = (&self.random, self.now_ms());
        let plan = Retention { archive: &archive, policy, delay_ms, random, now_ms }.plan().await?;
        Ok(PlannedRetention {
            source: source.clone(),
            window_start_ms: restorable_since(&archive, plan.window_start_ms).await?,
            points: plan.points,
            holds: archive.holds().await?,
            dropped_bases: plan.dropped_bases,
            dropped_pieces: plan.dropped_pieces.0,
            dropped_piece_bytes: plan.dropped_pieces.1,
        })
    }

    pub(super) async fn retain(
        &self,
        source: &SourceName,
        policy: &RetentionPolicy,
        delay_ms: i64,
    ) -> Result<RetentionReport, ArchiveError> {
        let archive = self.archive(source);
        let (random, now_ms) = (&self.random, self.now_ms());
        let mut report = Retention { archive: &archive, policy, delay_ms, random, now_ms }.run().await?;
        report.window_start_ms = restorable_since(&archive, report.window_start_ms).await?;
        Ok(report)
    }

    pub(super) async fn hold(
        &self,
        source: &SourceName,
        range: (i64, i64),
        reason: &str,
    ) -> Result<Hold, ArchiveError> {
        self.archive(source).hold(range, reason, &self.random, self.now_ms()).await
    }

    pub(super) async fn release(
        &self,
        source: &SourceName,
        hold: Ulid,
        reason: &str,
    ) -> Result<Hold, ArchiveError> {
        self.archive(source).release(hold, reason, &self.random, self.now_ms()).await
    }

    pub(super) async fn holds(&self, source: &SourceName) -> Result<Vec<Hold>, ArchiveError> {
        let archive = self.archive(source);
        archive.chain_end().await.and_then(|end| match end.seq {
            0 => Err(ArchiveError::NoSource(source.to_string())),
            _ => Ok(()),
        })?;
        archive.holds().await
    }

    pub(super) async fn verify(
        &self,
        source: &SourceName,
        settings: VerifySettings,
        progress: &VerifyProgress,
    ) -> Result<VerifyReport, ArchiveError> {
        let archive = self.archive(source);
        Verify { archive: &archive, cpu: &self.cpu, progress }.run(settings).await
    }

    /// Restores a random moment, or that one, starts Prometheus on it and compares.
    pub(super) async fn drill(
        &self,
        source: &SourceName,
        settings: &DrillSettings,
        progress: Arc<dyn Progress>,
    ) -> Result<DrillReport, RestoreError> {
        let archive = self.archive(source);
        let view = archive.load().await?;
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let mut context = RestoreContext::new(archive, self.cpu.clone(), threads, Arc::clone(&self.clock));
        context.progress = progress;
        drill(&context, &view, settings).await
    }

    /// Returns what decides the time of a drill where nobody says it.
    pub(super) fn any_seed(&self) -> u64 {
        self.random.next_u64() % 1_000_000
    }

    /// Returns the turn of an L2 where nobody says it.
    pub(super) fn any_turn(&self, share: u64) -> u64 {
        self.random.next_u64() % share.max(1)
    }

    pub(super) async fn extend_locks(
        &self,
        source: &SourceName,
        mode: LockMode,
        retain_ms: i64,
    ) -> Result<LockReport, ArchiveError> {
        let archive = self.archive(source);
        LockExtension { archive: &archive, mode, retain_ms, now_ms: self.now_ms() }.run().await
    }
}

/// Returns since when every second can be restored: an archive may be younger than the window, or have a gap in it.
async fn restorable_since(archive: &Archive, window_start_ms: i64) -> Result<i64, ArchiveError> {
    let since_ms = archive.load().await?.continuous_since_ms();
    Ok(since_ms.map_or(window_start_ms, |since_ms| since_ms.max(window_start_ms)))
}
