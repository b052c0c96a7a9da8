//! Why a selection failed.

use crate::block::BlockError;
use crate::catalog::CatalogError;
use crate::model::{ErrorKind, TenantId, Ulid};
use crate::runtime::CpuError;

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
}

impl SelectError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Catalog(error) => error.kind(),
            Self::Block { source, .. } => source.kind(),
            Self::Open { kind, .. } | Self::Unreadable { kind, .. } => *kind,
            Self::Cpu(_) => ErrorKind::Internal,
            Self::TooManySeries(_) | Self::TooManySamples(_) => ErrorKind::TooLarge,
        }
    }
}
