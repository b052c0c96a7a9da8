//! Flags for S3 Object Lock.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use super::flags::positive_duration;
use crate::bucket::{Bucket, BucketError, LockMode, LockSettings};
use crate::model::ErrorKind;
use crate::runtime::Clock;

/// Who can end a lock before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Nobody.
    Compliance,
    /// Those with the permission to bypass it.
    Governance,
}

/// Whether what is stored is locked against deletion.
#[derive(Debug, Clone, Args)]
pub(super) struct LockArgs {
    /// Lock every object that is stored for so long (S3 Object Lock). Longer than the window of retention, and
    /// `archive extend-locks` as a job: what is still needed is locked again before it runs out. A lock costs nothing,
    /// but what is locked is paid for until it ends. Default: no locks.
    #[arg(long = "lock.retain", id = "lock_retain", value_name = "DURATION", value_parser = positive_duration)]
    retain: Option<Duration>,
    #[command(flatten)]
    pub(super) mode: ModeArgs,
}

/// How what is locked is locked.
#[derive(Debug, Clone, Args)]
pub(super) struct ModeArgs {
    /// Who can end a lock before its time.
    #[arg(
        long = "lock.mode",
        id = "lock_mode",
        value_name = "MODE",
        default_value = "governance",
        value_enum
    )]
    mode: Mode,
}

impl ModeArgs {
    pub(super) const fn of(&self) -> LockMode {
        match self.mode {
            Mode::Compliance => LockMode::Compliance,
            Mode::Governance => LockMode::Governance,
        }
    }
}

impl LockArgs {
    /// Returns the bucket with locks on what is created from now on, where that was asked for.
    pub(super) async fn apply(&self, bucket: Bucket, clock: &Arc<dyn Clock>) -> Result<Bucket, Failure> {
        let bucket = self.apply_unchecked(bucket, clock)?;
        bucket.check_lock().await.map_err(refused)?;
        Ok(bucket)
    }

    /// Does so without asking the store whether it can lock: whoever writes asks first.
    pub(super) fn apply_unchecked(&self, bucket: Bucket, clock: &Arc<dyn Clock>) -> Result<Bucket, Failure> {
        let Some(retain) = self.retain else { return Ok(bucket) };
        let retain_ms = i64::try_from(retain.as_millis()).unwrap_or(i64::MAX);
        let settings = LockSettings { mode: self.mode.of(), retain_ms };
        bucket.with_unchecked_lock(settings, Arc::clone(clock)).map_err(refused)
    }
}

fn refused(error: BucketError) -> Failure {
    let kind = if error.kind() == ErrorKind::Internal { ErrorKind::Unavailable } else { error.kind() };
    Failure::new(kind, format!("--lock.retain: {}", crate::model::error_chain(&error)))
}
