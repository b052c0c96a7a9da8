//! Why a query was refused or not answered.

use crate::model::{ErrorKind, TenantError};
use crate::runtime::{CpuError, MemoryFull};
use crate::select::SelectError;
use crate::tsdb::chunk::ChunkError;
use crate::wire::WireError;

use super::selector_text::SelectorError;

/// Why a query was refused or not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Cpu(#[from] CpuError),
    #[error(transparent)]
    Tenant(#[from] TenantError),
    #[error("invalid parameter {name:?}: {source}")]
    Selector {
        name: &'static str,
        #[source]
        source: SelectorError,
    },
    #[error("the request has no matchers: give at least one")]
    NoMatchers,
    #[error("no match[] parameter provided")]
    NoSelector,
    #[error("{0} must contain at least one non-empty matcher")]
    EmptySelector(&'static str),
    #[error("invalid parameter {name:?}: {value:?} is not {allowed}")]
    Parameter { name: &'static str, value: String, allowed: &'static str },
    #[error("the body cannot be read: {0}")]
    Body(String),
    #[error("the body is larger than the {0} bytes that are allowed: ask for less in one request")]
    BodyTooLarge(usize),
    #[error("the answer is larger than {0} bytes: ask for a shorter time, or accept STREAMED_XOR_CHUNKS")]
    AnswerTooLarge(usize),
    #[error(
        "the query took longer than {0} ms (its own deadline or --query.timeout): ask for fewer series or a shorter time"
    )]
    Deadline(u128),
    #[error(transparent)]
    NoMemory(#[from] MemoryFull),
    #[error("not ready: the log is being replayed or the catalogs are being read, try again soon")]
    NotReady,
    #[error("a histogram of {labels} does not fit into a chunk: {source}")]
    Chunk {
        labels: String,
        #[source]
        source: ChunkError,
    },
    #[error("the process is stopping")]
    Stopping,
}

impl StoreError {
    /// Returns what the failure asks of the caller.
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Select(error) => error.kind(),
            Self::Wire(error) => error.kind(),
            Self::Cpu(_) => ErrorKind::Internal,
            Self::Chunk { .. } => ErrorKind::Corrupt,
            Self::AnswerTooLarge(_) | Self::BodyTooLarge(_) => ErrorKind::TooLarge,
            Self::NoMemory(_) => ErrorKind::Overloaded,
            Self::Deadline(_) => ErrorKind::Cancelled,
            Self::NotReady | Self::Stopping => ErrorKind::Unavailable,
            Self::Tenant(_)
            | Self::Selector { .. }
            | Self::NoMatchers
            | Self::NoSelector
            | Self::EmptySelector(_)
            | Self::Parameter { .. }
            | Self::Body(_) => ErrorKind::Invalid,
        }
    }

    /// Shortens text of a request so that an error can quote it.
    pub(super) fn quote(text: &str) -> String {
        text.chars().take(100).collect()
    }
}
