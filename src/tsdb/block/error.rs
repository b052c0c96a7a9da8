//! Why a block's file was refused, or a block could not be written.

use std::io;

use crate::model::{ErrorKind, LabelError};
use crate::tsdb::chunk::ChunkError;

/// Why a block's file was refused, or a block could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Reading or writing a file failed.
    #[error("cannot {doing}")]
    Io {
        /// What was to be done, with the file.
        doing: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Bytes are not those that were written.
    #[error("{part} at byte {offset} does not match its checksum")]
    Checksum {
        /// Which part of which file.
        part: &'static str,
        /// Where it begins.
        offset: u64,
    },
    /// The file ends before the part does.
    #[error("{part} at byte {offset} is cut off")]
    CutOff {
        /// Which part of which file.
        part: &'static str,
        /// Where it begins.
        offset: u64,
    },
    /// The checksum is right but the content cannot be.
    #[error("{part} at byte {offset} is malformed: {reason}")]
    Malformed {
        /// Which part of which file.
        part: &'static str,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The file begins like no file of its kind, or one of a later version.
    #[error("{file} begins with {found}: expected is {expected}")]
    Header {
        /// Which file.
        file: &'static str,
        /// Its first bytes.
        found: String,
        /// What they have to be.
        expected: &'static str,
    },
    /// meta.json is no JSON of the right shape.
    #[error("meta.json is malformed")]
    Meta(#[source] serde_json::Error),
    /// A part exceeds what the format can hold or we read.
    #[error("{part} has {bytes} bytes: at most {limit} are allowed")]
    TooLarge {
        /// Which part of which file.
        part: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Series were given out of order.
    #[error("series {labels} does not sort after {previous}: give each series once, ordered by labels")]
    SeriesOrder {
        /// The series.
        labels: String,
        /// The one before.
        previous: String,
    },
    /// Samples or chunks of a series were given out of order.
    #[error(
        "series {labels} goes from {previous_ms} ms to {t_ms} ms: give its samples in order, each time once"
    )]
    SampleOrder {
        /// The series.
        labels: String,
        /// The time given.
        t_ms: i64,
        /// The time before.
        previous_ms: i64,
    },
    /// A chunk cannot be.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// The labels of a series cannot be.
    #[error("the labels of the series at byte {offset} of the index are invalid")]
    Labels {
        /// Where the series stands.
        offset: u64,
        /// What is wrong with them.
        #[source]
        source: LabelError,
    },
}

impl BlockError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Checksum { .. }
            | Self::CutOff { .. }
            | Self::Malformed { .. }
            | Self::Header { .. }
            | Self::Meta(_)
            | Self::Labels { .. } => ErrorKind::Corrupt,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::SeriesOrder { .. } | Self::SampleOrder { .. } => ErrorKind::Invalid,
            Self::Chunk(error) => error.kind(),
        }
    }

    /// Wraps a failure of the system.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Returns where the damage begins, if the failure is about a place.
    pub(super) fn offset(&self) -> Option<u64> {
        match self {
            Self::Checksum { offset, .. }
            | Self::CutOff { offset, .. }
            | Self::Malformed { offset, .. }
            | Self::Labels { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}
