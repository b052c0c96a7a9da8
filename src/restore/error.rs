//! What can go wrong with a restore.

use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;
use crate::model::ErrorKind;
use crate::tsdb::block::BlockError;

/// A failure of a restore.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive failed, or cannot give what was asked for.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A local file or directory failed.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The target cannot be written to as it is.
    #[error("cannot restore to {path}: {reason}")]
    Target {
        /// The target.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// Another process uses the directory.
    #[error("{path} is locked by another process: {advice}")]
    Locked {
        /// What is locked.
        path: PathBuf,
        /// What to do.
        advice: &'static str,
    },
    /// A restore of something else was begun there.
    #[error(
        "{path} holds an unfinished restore of something else: {difference}; go on with that one, or give --restart to throw \
         away what it has fetched"
    )]
    OtherRestore {
        /// The work directory.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The disk has no room.
    #[error(
        "the restore needs {needed} and {path} has {free} free: give another --to, or make room",
        needed = bytesize::ByteSize(*needed_bytes), free = bytesize::ByteSize(*free_bytes)
    )]
    Space {
        /// The file system.
        path: PathBuf,
        /// What is needed.
        needed_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// Names or sizes in the archive that no archiver writes.
    #[error("the archive's {what} cannot be trusted: {reason}")]
    Untrusted {
        /// Which part.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes that were fetched or written are not what they should be.
    #[error("{what} is damaged: {reason}")]
    Damaged {
        /// Which bytes.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A block could not be read or written.
    #[error("block {block}: {source}")]
    Block {
        /// The block's folder.
        block: String,
        /// Why.
        #[source]
        source: BlockError,
    },
    /// The version asked for cannot read what the archive holds.
    #[error("{0}")]
    Unsupported(String),
    /// The plan changes or lacks something and was not confirmed.
    #[error("not confirmed: {0}; give --yes to go on")]
    Unconfirmed(String),
    /// Restored blocks could not be read.
    #[error(transparent)]
    Select(#[from] crate::select::SelectError),
    /// The server that a drill has started does not answer.
    #[error("the restored Prometheus does not answer")]
    Server(#[source] reqwest::Error),
    /// A setting is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The compute threads failed.
    #[error(transparent)]
    Cpu(#[from] crate::runtime::CpuError),
}

impl RestoreError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Archive(error) => error.kind(),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::File { .. } | Self::Space { .. } | Self::Server(_) => ErrorKind::Unavailable,
            Self::Target { .. } | Self::Invalid(_) => ErrorKind::Invalid,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::OtherRestore { .. } => ErrorKind::Conflict,
            Self::Untrusted { .. } | Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Block { source, .. } => source.kind(),
            Self::Select(error) => error.kind(),
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Unconfirmed(_) => ErrorKind::NeedsConfirmation,
            Self::Cpu(_) => ErrorKind::Internal,
        }
    }

    /// Wraps a failure of the system.
    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
