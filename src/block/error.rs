//! What can go wrong with a block.

use std::error::Error;

use parquet::errors::ParquetError;

use crate::model::{BlockKind, ErrorKind, LabelError};
use crate::runtime::CpuError;

/// A failed read of bytes, with its kind as the storage layer sees it.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct ReadFailure {
    /// What the failure asks of the caller.
    pub kind: ErrorKind,
    /// The failure itself.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// A block that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Series came out of order, or one came twice.
    #[error("series {series} does not come after {previous}: hand series over once each, in block order")]
    SeriesOrder {
        /// The series before.
        previous: String,
        /// The series at fault.
        series: String,
    },
    /// A series' samples are not sorted, not unique, or outside the block's range.
    #[error("series {series} has a sample at {ts_ms} ms that is {reason}")]
    SampleOrder {
        /// The series at fault.
        series: String,
        /// The sample's time.
        ts_ms: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A label cannot have a column, or two columns would have one name.
    #[error("label {0:?} cannot be a column of a block: take the list from `extend_label_columns`")]
    LabelColumn(String),
    /// The file could not be encoded or the output refused bytes.
    #[error("cannot write the block: {0}")]
    Write(#[source] ParquetError),
    /// The file has a version that this program does not read.
    #[error("block format {found:?} is not supported: this version reads format 1; use a newer perennial")]
    Version {
        /// The version found, empty if there is none.
        found: String,
    },
    /// The file holds another kind of data.
    #[error("the block holds {found}, not {wanted}")]
    Kind {
        /// What it holds.
        found: BlockKind,
        /// What was to be read.
        wanted: &'static str,
    },
    /// The footer lacks something or contradicts itself.
    #[error("the block's footer is not valid: {0}")]
    Footer(String),
    /// The Parquet bytes cannot be decoded.
    #[error("the block is damaged: {0}")]
    Damaged(#[source] ParquetError),
    /// A stored label set is not valid.
    #[error("the block has a row with invalid labels: {0}")]
    Labels(#[source] LabelError),
    /// A row number is not in the file, or row numbers do not ascend.
    #[error("row {row} was asked for: rows are below {rows} and ascend")]
    Rows {
        /// The row asked for.
        row: u32,
        /// How many rows the file has.
        rows: u32,
    },
    /// The bytes could not be fetched.
    #[error("cannot read the block: {0}")]
    Read(#[source] ReadFailure),
    /// The compute job failed.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The caller went away while the block was decoded.
    #[error("reading the block was cancelled")]
    Cancelled,
}

impl BlockError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::SeriesOrder { .. }
            | Self::SampleOrder { .. }
            | Self::LabelColumn(_)
            | Self::Rows { .. }
            | Self::Cpu(_) => ErrorKind::Internal,
            Self::Write(_) => ErrorKind::Unavailable,
            Self::Version { .. } | Self::Kind { .. } => ErrorKind::Unsupported,
            Self::Footer(_) | Self::Damaged(_) | Self::Labels(_) => ErrorKind::Corrupt,
            Self::Read(failure) => failure.kind,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}
