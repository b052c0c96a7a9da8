//! Why an export failed.

use std::path::{Path, PathBuf};

use crate::model::{ErrorKind, TenantId};
use crate::runtime::CpuError;
use crate::select::SelectError;
use crate::tsdb::block::BlockError;
use crate::tsdb::chunk::ChunkError;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The stored samples could not be read.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A compute job panicked.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A block could not be built.
    #[error("cannot build a block: {0}")]
    Block(#[source] BlockError),
    /// A stored histogram contradicts itself.
    #[error("a histogram of {labels} does not fit into a chunk: {source}")]
    Histogram {
        /// Its series.
        labels: String,
        /// Why.
        #[source]
        source: ChunkError,
    },
    /// The target holds something.
    #[error("{} is no new or empty directory: name another one, nothing is ever overwritten", .0.display())]
    Occupied(PathBuf),
    /// Something else has the name of the work directory.
    #[error(
        "{} is in the way, and no export has left it: remove it, or name another directory; nothing of others is ever \
         removed",
        .0.display()
    )]
    Strange(PathBuf),
    /// Another run writes there.
    #[error("another export writes to {}: wait for it or name another directory", .0.display())]
    Busy(PathBuf),
    /// There are no samples.
    #[error(
        "tenant {0} has no samples of that kind and time in its blocks: check --tenant, --match, --from and --until; \
         what receivers hold in memory comes into blocks with their next cut"
    )]
    Nothing(TenantId),
}

impl ExportError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Select(error) => error.kind(),
            Self::Cpu(_) => ErrorKind::Internal,
            Self::Block(error) => error.kind(),
            Self::Histogram { .. } => ErrorKind::Corrupt,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Occupied(_) | Self::Strange(_) => ErrorKind::Invalid,
            Self::Busy(_) => ErrorKind::Locked,
            Self::Nothing(_) => ErrorKind::NotFound,
        }
    }
}
