//! One type for both kinds of log, so that what writes need not know which one it is.

use super::{DiskLog, LogError, TenantWrite};
use crate::model::Ulid;

/// The log of a receiver.
#[derive(Debug)]
pub enum Log {
    /// Segments in a directory.
    Disk(DiskLog),
}

impl Log {
    /// Makes the samples durable and returns the last sequence number. The writes are encoded before this returns,
    /// so the future does not hold them.
    ///
    /// # Errors
    /// Those of [`DiskLog::append`], from the future.
    pub fn append(
        &mut self,
        writes: &[TenantWrite<'_>],
    ) -> impl Future<Output = Result<u64, LogError>> + Send + use<> {
        let appended = match self {
            Self::Disk(log) => log.append(writes),
        };
        async move { appended }
    }

    /// Ends every tenant at the entry written last: what comes declares its series anew.
    pub fn start_segment(&mut self) {
        match self {
            Self::Disk(log) => log.start_segment(),
        }
    }

    /// Lets go of what an epoch wrote up to `through_seq`.
    ///
    /// # Errors
    /// Those of [`DiskLog::release`].
    pub async fn release(&mut self, epoch: Ulid, through_seq: u64) -> Result<(), LogError> {
        match self {
            Self::Disk(log) => log.release(epoch, through_seq).map(|_| ()),
        }
    }

    /// Returns the epoch.
    #[must_use]
    pub fn epoch(&self) -> Ulid {
        match self {
            Self::Disk(log) => log.epoch(),
        }
    }

    /// Returns the last sequence number of the epoch; 0 before its first entry.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        match self {
            Self::Disk(log) => log.last_seq(),
        }
    }

    /// Returns the bytes that the log takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Disk(log) => log.bytes(),
        }
    }
}
