//! What can go wrong with the log, in words for the person who runs it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bucket::{BucketError, ObjectKey};
use crate::model::{ErrorKind, Ulid};
use crate::runtime::CpuError;

/// Why the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process, or another log of this one, uses the directory.
    #[error(
        "the log directory {dir:?} is in use by {holder}: stop that process, or give this one a --data-dir of its own"
    )]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
    },
    /// The operating system refused a step.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// The step.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// Bytes that were durable once do not read back.
    #[error(
        "log segment {file:?} is damaged at byte {offset}: {reason}. Acknowledged samples may be lost: restore the file from a \
         copy, or start with --log.skip-damaged to go on with what can be read (the file is then kept in the folder `damaged`)"
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the first bytes stand that do not read.
        offset: u64,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// A segment that was never released is not there.
    #[error(
        "log segment {missing:?} is missing: {file:?} follows it, and it was never released. Acknowledged samples may be lost: \
         restore the file from a copy, or start with --log.skip-damaged to go on without it"
    )]
    Missing {
        /// The absent segment.
        missing: PathBuf,
        /// The segment that names it as its predecessor.
        file: PathBuf,
    },
    /// The segment was written by a later version.
    #[error(
        "log segment {file:?} has format version {version}, this program reads {readable}: start the newer program again"
    )]
    Version {
        /// The segment.
        file: PathBuf,
        /// Its format version.
        version: u16,
        /// The newest version that can be read.
        readable: u16,
    },
    /// A label set, histogram or metadata entry has more bytes than an entry may hold.
    #[error(
        "a label set, histogram or metadata entry of tenant {tenant} has {bytes} bytes, the log takes at most {allowed}"
    )]
    LabelsTooLarge {
        /// The tenant.
        tenant: String,
        /// The size of the label set.
        bytes: usize,
        /// The largest size allowed.
        allowed: usize,
    },
    /// The receiver's name does not fit into a segment header.
    #[error("the receiver name has {bytes} bytes, at most {allowed} are allowed")]
    ReceiverName {
        /// The length given.
        bytes: usize,
        /// The longest allowed.
        allowed: usize,
    },
    /// A compute thread failed.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The bucket failed.
    #[error("the log in the bucket: {0}")]
    Bucket(#[from] BucketError),
    /// Somebody took this writer for dead.
    #[error(
        "the log epoch {epoch} was sealed by {by}, which took this receiver for dead: nothing is lost, a new epoch \
         begins and senders try again"
    )]
    Sealed {
        /// The epoch.
        epoch: Ulid,
        /// Who sealed it.
        by: String,
    },
    /// This writer stored nothing for so long that it must count as dead.
    #[error(
        "the log epoch {epoch} took no entry for {seconds} s and may be taken for dead: nothing is lost, a new epoch \
         begins and senders try again"
    )]
    Silent {
        /// The epoch.
        epoch: Ulid,
        /// For how long.
        seconds: i64,
    },
    /// An object does not read.
    #[error(
        "the log entry {key} is damaged: {reason}. Acknowledged samples may be lost: restore the object from a copy, or \
         start a receiver with --log.skip-damaged to go on with what can be read"
    )]
    ObjectDamaged {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// An object that was never released is not there.
    #[error(
        "the log entry {key} is missing and was never released. Acknowledged samples may be lost: restore the object from a \
         copy, or start a receiver with --log.skip-damaged to go on without it"
    )]
    ObjectMissing {
        /// Its key.
        key: String,
    },
    /// An object was written by a later version.
    #[error(
        "the log entry {key} has format version {version}, this program reads {readable}: update this program"
    )]
    ObjectVersion {
        /// Its key.
        key: String,
        /// Its format version.
        version: u16,
        /// The newest version that can be read.
        readable: u16,
    },
    /// The body of an entry could not be compressed.
    #[error("cannot compress a log entry: {0}")]
    Compress(#[source] io::Error),
}

impl LogError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Io { .. } | Self::Sealed { .. } | Self::Silent { .. } => ErrorKind::Unavailable,
            Self::Bucket(error) => error.kind(),
            Self::Damaged { .. }
            | Self::Missing { .. }
            | Self::ObjectDamaged { .. }
            | Self::ObjectMissing { .. } => ErrorKind::Corrupt,
            Self::Version { .. } | Self::ObjectVersion { .. } => ErrorKind::Unsupported,
            Self::LabelsTooLarge { .. } => ErrorKind::TooLarge,
            Self::ReceiverName { .. } => ErrorKind::Invalid,
            Self::Compress(_) | Self::Cpu(_) => ErrorKind::Internal,
        }
    }

    /// Says that the bucket did not answer a put.
    pub(super) fn put_timeout(key: &ObjectKey, waited: Duration) -> Self {
        let reason = format!("no answer within {} s, it may still arrive", waited.as_secs());
        let source = io::Error::new(io::ErrorKind::TimedOut, reason);
        Self::Io { action: "store", path: key.to_string().into(), source }
    }

    /// Returns a closure that says which step on which path an I/O error belongs to.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Why bytes are not a segment or an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecError {
    /// The bytes end too early.
    #[error("the bytes are cut off")]
    Cut,
    /// The bytes contradict the format.
    #[error("{0}")]
    Malformed(&'static str),
    /// A later format version.
    #[error("format version {0} is not known")]
    Version(u16),
}

impl CodecError {
    /// Returns the reason as a fixed text.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Cut => "the bytes are cut off",
            Self::Malformed(reason) => reason,
            Self::Version(_) => "the format version is not known",
        }
    }

    /// Says in which object of the bucket.
    pub(super) fn of_object(self, key: &ObjectKey) -> LogError {
        let key = key.to_string();
        match self {
            Self::Version(version) => {
                LogError::ObjectVersion { key, version, readable: super::object::VERSION }
            }
            _ => LogError::ObjectDamaged { key, reason: self.reason() },
        }
    }

    /// Says in which file and where.
    pub(super) fn at(self, file: &Path, offset: u64) -> LogError {
        match self {
            Self::Version(version) => {
                LogError::Version { file: file.to_owned(), version, readable: super::segment::VERSION }
            }
            _ => LogError::Damaged { file: file.to_owned(), offset, reason: self.reason() },
        }
    }
}
