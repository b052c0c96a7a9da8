//! What can go wrong with an archive.

use std::path::PathBuf;

use crate::bucket::BucketError;
use crate::model::{ErrorKind, SourceName};

/// A failure of an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bucket failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// There is no archive of that name.
    #[error(
        "there is no archive of source {0:?} in this bucket: check the name (`perennial restore status` lists them)"
    )]
    NoSource(String),
    /// Stored bytes are not what they should be.
    #[error("the archive object {key} is damaged: {reason}")]
    Damaged {
        /// The object's key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// An object that the archive catalog names is not there.
    #[error("the archive object {key} is missing: the archive catalog names it")]
    Missing {
        /// The object's key.
        key: String,
    },
    /// The catalog's chain is broken.
    #[error("the archive catalog is broken at entry {seq}: {reason}")]
    Chain {
        /// The entry.
        seq: u64,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote this.
    #[error(
        "the archive object {key} has format {found} and this program reads up to {known}: update this program"
    )]
    NewerFormat {
        /// The object's key.
        key: String,
        /// Its format.
        found: u32,
        /// The newest format known.
        known: u32,
    },
    /// Somebody else appends to the same catalog.
    #[error(
        "entry {seq} of the archive of {source_name} was written by another archiver: run one archiver per source \
         name, and give each Prometheus a name of its own"
    )]
    TwoArchivers {
        /// The source.
        source_name: SourceName,
        /// The entry.
        seq: u64,
    },
    /// Another archiver works in the same data directory.
    #[error("another archiver works in {0}: run one archiver per data directory")]
    Locked(PathBuf),
    /// The object cannot be opened with the keys at hand, or sealed.
    #[error("{key}: {source}")]
    Envelope {
        /// The object's key.
        key: String,
        /// Why.
        #[source]
        source: crate::envelope::EnvelopeError,
    },
    /// A local file failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The time asked for cannot be restored.
    #[error("{reason}; the nearest time that can be restored is {nearest}")]
    OutsideWindow {
        /// Why not.
        reason: String,
        /// RFC 3339.
        nearest: String,
    },
    /// Nothing can be restored yet.
    #[error("the archive of {0} holds nothing to restore yet: let the archiver finish its first upload")]
    Empty(SourceName),
    /// There is no such hold.
    #[error("{hold} is not a hold of this archive: {known}")]
    NoHold {
        /// Its id.
        hold: crate::model::Ulid,
        /// Those that there are, for people.
        known: String,
    },
    /// A setting or policy is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The compute threads failed.
    #[error(transparent)]
    Cpu(#[from] crate::runtime::CpuError),
}

impl ArchiveError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Bucket(error) => error.kind(),
            Self::NoSource(_) | Self::Empty(_) | Self::NoHold { .. } => ErrorKind::NotFound,
            Self::Damaged { .. } | Self::Missing { .. } | Self::Chain { .. } => ErrorKind::Corrupt,
            Self::NewerFormat { .. } => ErrorKind::Unsupported,
            Self::TwoArchivers { .. } => ErrorKind::Conflict,
            Self::Locked(_) => ErrorKind::Locked,
            Self::Envelope { source, .. } => source.kind(),
            Self::File { .. } => ErrorKind::Unavailable,
            Self::OutsideWindow { .. } => ErrorKind::OutOfRange,
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Cpu(_) => ErrorKind::Internal,
        }
    }
}
