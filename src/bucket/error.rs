//! What can go wrong with the bucket.

use std::fmt::Display;
use std::path::PathBuf;

use crate::model::ErrorKind;

use super::attempts::answer_of;
use super::instruments::Operation;

/// A failure of object storage.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The configuration is wrong.
    #[error("the object storage configuration is refused: {reason}")]
    Config {
        /// The key, its value and what is allowed.
        reason: String,
    },
    /// The folder of a local bucket cannot be used.
    #[error(
        "the bucket folder {path} cannot be used: create it, or give this process the right to write there"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A local file that was to be stored cannot be read.
    #[error("the file {path} cannot be read for upload")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A key or folder name is not allowed.
    #[error("{name:?} is not an object name: use relative names without empty, . or .. segments")]
    Name {
        /// The name.
        name: String,
    },
    /// There is no such object.
    #[error("the object {key} does not exist")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// A create found another object under its key, which should be unique.
    #[error("the object {key} exists with other content; it was left as it is")]
    Occupied {
        /// Its key.
        key: String,
    },
    /// An object is larger than anything that is read whole.
    #[error(
        "the object {key} has {size_bytes} bytes, more than the {limit_bytes} that such an object may have"
    )]
    TooLarge {
        /// Its key.
        key: String,
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The store does not keep two writers apart.
    #[error(
        "the store has no working conditional create ({reason}): without it two writers can undo each other's \
         work; use a store that honours If-None-Match on PUT, such as Amazon S3 or MinIO, or FILESYSTEM"
    )]
    NoConditionalCreate {
        /// What the probe saw.
        reason: String,
    },
    /// A create was tried several times and it is not known whether one of them arrived.
    #[error("the object {key} could not be stored in {attempts} attempts")]
    Unverified {
        /// Its key.
        key: String,
        /// How often it was tried.
        attempts: u32,
        /// What the store said last.
        #[source]
        source: Box<object_store::Error>,
    },
    /// A lock keeps an object from being deleted.
    #[error("the object {key} is locked until {}: it cannot be deleted before", crate::model::format_time_ms(*until_ms))]
    Held {
        /// Its key.
        key: String,
        /// When the lock ends.
        until_ms: i64,
    },
    /// The bucket cannot lock objects.
    #[error(
        "the bucket {location} has no Object Lock: make a bucket with it (S3 cannot turn it on without versioning), \
         or leave the lock out"
    )]
    NoObjectLock {
        /// Where the bucket is.
        location: String,
    },
    /// The store failed.
    #[error("cannot {operation} {name} in object storage")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// The key or folder.
        name: String,
        /// What the store said.
        #[source]
        source: Box<object_store::Error>,
    },
}

impl BucketError {
    /// Turns a store's failure into ours.
    pub(super) fn of(operation: Operation, name: impl Display, source: object_store::Error) -> Self {
        match source {
            // A create that finds nothing misses the bucket itself, not the object.
            object_store::Error::NotFound { .. }
                if !matches!(operation, Operation::Create | Operation::Put) =>
            {
                Self::NotFound { key: name.to_string() }
            }
            source => {
                Self::Store { operation: operation.verb(), name: name.to_string(), source: Box::new(source) }
            }
        }
    }

    /// Returns whether the store may only be away for now, or full: it was not reached, did not answer in time or
    /// failed inside. A refusal that stays, as of credentials or of a bucket that does not exist, is none.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        let error = match self {
            Self::Unverified { source, .. } | Self::Store { source, .. } => &**source,
            _ => return false,
        };
        let object_store::Error::Generic { store, source } = error else { return false };
        let full = source.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        });
        let refused = answer_of(error).is_some_and(|answer| !answer.is_transient());
        full || *store != super::durable::STORE && !refused
    }

    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } | Self::Name { .. } => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Occupied { .. } => ErrorKind::Conflict,
            Self::TooLarge { .. } => ErrorKind::Corrupt,
            Self::NoConditionalCreate { .. } | Self::NoObjectLock { .. } => ErrorKind::Unsupported,
            Self::Held { .. } => ErrorKind::Locked,
            Self::Folder { .. } | Self::File { .. } | Self::Unverified { .. } | Self::Store { .. } => {
                ErrorKind::Unavailable
            }
        }
    }
}
