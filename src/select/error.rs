//! Why a selection failed.

use std::path::PathBuf;

use crate::block::{BlockError, ReadFailure};
use crate::catalog::CatalogError;
use crate::model::{ErrorKind, TenantId, Ulid};
use crate::runtime::{CpuError, MemoryFull};
use crate::tsdb::block::BlockError as TsdbBlockError;

/// Why a selection failed.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// A catalog part could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A tenant's catalog could not be read since this process started.
    #[error("the catalog of tenant {tenant} does not read: {reason}")]
    Unreadable {
        /// The tenant.
        tenant: TenantId,
        /// Why, at the last attempt.
        reason: String,
        /// What the failure asks of the caller.
        kind: ErrorKind,
    },
    /// A block could not be read.
    #[error("block {id}: {source}")]
    Block {
        /// The block.
        id: Ulid,
        /// Why.
        #[source]
        source: BlockError,
    },
    /// A block could not be opened; other readers wait for the same attempt.
    #[error("block {id}: {reason}")]
    Open {
        /// The block.
        id: Ulid,
        /// Why.
        reason: String,
        /// What the failure asks of the caller.
        kind: ErrorKind,
    },
    /// A block of a data directory could not be read.
    #[error("block {id} of the data directory: {source}")]
    TsdbBlock {
        /// The block.
        id: Ulid,
        /// Why.
        #[source]
        source: TsdbBlockError,
    },
    /// A data directory could not be listed.
    #[error("cannot read the data directory {}: {source}", path.display())]
    DataDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A data directory without blocks.
    #[error("{} holds no blocks: name a Prometheus data directory that was restored with its head as a block", .0.display())]
    NoTsdbBlocks(PathBuf),
    /// A compute job panicked.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The query selects more series than allowed.
    #[error(
        "the query selects more than {0} series (--store.limits.request-series): narrow its matchers or its time range"
    )]
    TooManySeries(usize),
    /// The query selects more samples than allowed.
    #[error(
        "the query selects more than {0} samples (--store.limits.request-samples): narrow its matchers or its time range"
    )]
    TooManySamples(u64),
    /// The query fetches more bytes than allowed.
    #[error(
        "the query fetches more than {0} bytes from the bucket (--store.grpc.downloaded-bytes-limit): narrow its matchers or its time range"
    )]
    TooManyBytes(u64),
    /// No memory is left for what the query finds.
    #[error(transparent)]
    NoMemory(#[from] MemoryFull),
}

impl SelectError {
    /// Returns why a block could not be read, or what the query was refused for while it was.
    pub(super) fn of_block(id: Ulid, source: BlockError) -> Self {
        match source {
            BlockError::Read(ReadFailure { kind, source }) => match source.downcast::<Self>() {
                Ok(refusal) => *refusal,
                Err(source) => Self::Block { id, source: BlockError::Read(ReadFailure { kind, source }) },
            },
            source => Self::Block { id, source },
        }
    }

    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Block { source, .. } => source.kind(),
            Self::Open { kind, .. } | Self::Unreadable { kind, .. } => *kind,
            Self::TsdbBlock { source, .. } => source.kind(),
            Self::DataDirectory { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::DataDirectory { .. } => ErrorKind::Unavailable,
            Self::NoTsdbBlocks(_) => ErrorKind::NotFound,
            Self::Cpu(_) => ErrorKind::Internal,
            Self::NoMemory(_) => ErrorKind::Overloaded,
            Self::TooManySeries(_) | Self::TooManySamples(_) | Self::TooManyBytes(_) => ErrorKind::TooLarge,
        }
    }
}
