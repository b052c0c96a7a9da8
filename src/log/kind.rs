//! One type for both kinds of log, so that what writes need not know which one it is.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::object::{EndedEpoch, ObjectLog};
use super::{DiskLog, LogError, TenantWrite};
use crate::model::Ulid;

/// The log of a receiver.
#[derive(Debug)]
pub enum Log {
    /// Segments in a directory.
    Disk(Box<DiskLog>),
    /// Objects in the bucket.
    Object(Box<ObjectLog>),
}

/// An append that is encoded.
enum Staged<'a> {
    Done(Result<u64, LogError>),
    Put(&'a mut ObjectLog),
}

impl Log {
    /// Makes the samples durable and returns the last sequence number. The writes are encoded before this returns,
    /// so the future does not hold them. After an error none of them may be acknowledged.
    ///
    /// # Errors
    /// Those of [`DiskLog::append`], and of an object log that was sealed, from the future.
    pub fn append<'a>(
        &'a mut self,
        writes: &[TenantWrite<'_>],
    ) -> impl Future<Output = Result<u64, LogError>> + Send + use<'a> {
        let staged = match self {
            Self::Disk(log) => Staged::Done(log.append(writes)),
            Self::Object(log) => match log.stage(writes) {
                Ok(()) => Staged::Put(log),
                Err(error) => Staged::Done(Err(error)),
            },
        };
        async move {
            match staged {
                Staged::Done(appended) => appended,
                Staged::Put(log) => log.put_staged().await,
            }
        }
    }

    /// Returns how long writes are gathered since the last entry began; nothing where an entry starts at once.
    #[must_use]
    pub fn flush_interval(&self) -> Duration {
        match self {
            Self::Disk(_) => Duration::ZERO,
            Self::Object(log) => log.settings().flush_interval,
        }
    }

    /// Returns after how long without an entry [`Self::beat`] is due, if ever.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Duration> {
        match self {
            Self::Disk(_) => None,
            Self::Object(log) => Some(log.settings().heartbeat),
        }
    }

    /// Tells other processes that this log's writer lives.
    ///
    /// # Errors
    /// The store's failure, or the epoch was sealed.
    pub async fn beat(&mut self) -> Result<(), LogError> {
        match self {
            Self::Disk(_) => Ok(()),
            Self::Object(log) => log.beat().await,
        }
    }

    /// Returns the epochs that ended since the last call; see [`ObjectLog::take_ended`].
    pub fn take_ended(&mut self) -> Vec<EndedEpoch> {
        match self {
            Self::Disk(_) => Vec::new(),
            Self::Object(log) => log.take_ended(),
        }
    }

    /// Ends every tenant at the entry written last: what comes declares its series anew.
    pub fn start_segment(&mut self) {
        match self {
            Self::Disk(log) => log.start_segment(),
            Self::Object(log) => log.start_generation(),
        }
    }

    /// Lets go of what an epoch wrote up to `through_seq`. What lies in the bucket is returned and may be deleted.
    ///
    /// # Errors
    /// The file system's or the store's; the next call tries again.
    pub async fn release(
        &mut self,
        epoch: Ulid,
        through_seq: u64,
    ) -> Result<Option<RangeInclusive<u64>>, LogError> {
        match self {
            Self::Disk(log) => log.release(epoch, through_seq).map(|_| None),
            Self::Object(log) => log.release(epoch, through_seq).await,
        }
    }

    /// Ends the log where blocks hold all of it.
    ///
    /// # Errors
    /// The store's failure; the next start, or another receiver, ends it then.
    pub async fn close(&mut self) -> Result<(), LogError> {
        match self {
            Self::Disk(_) => Ok(()),
            Self::Object(log) => log.close().await,
        }
    }

    /// Returns the epoch.
    #[must_use]
    pub fn epoch(&self) -> Ulid {
        match self {
            Self::Disk(log) => log.epoch(),
            Self::Object(log) => log.epoch(),
        }
    }

    /// Returns the last sequence number of the epoch; 0 before its first entry.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        match self {
            Self::Disk(log) => log.last_seq(),
            Self::Object(log) => log.last_seq(),
        }
    }

    /// Returns the bytes that the log takes on this machine.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Disk(log) => log.bytes(),
            Self::Object(_) => 0,
        }
    }
}
