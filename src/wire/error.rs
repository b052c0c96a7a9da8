//! Why bytes from the network were refused.

use crate::model::{ErrorKind, MatcherError};

/// Bytes that are not the protobuf message they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the protobuf message is malformed at byte {at}: {what}")]
pub struct Malformed {
    /// The offset in the message, after decompression.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

/// Why a request was refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The content type names no remote-write message.
    #[error(
        "content type {0:?} is not supported: send application/x-protobuf, with proto=prometheus.WriteRequest \
         (1.0, also when absent) or proto=io.prometheus.write.v2.Request (2.0)"
    )]
    ContentType(String),
    /// The body is larger than allowed.
    #[error(
        "the decompressed body is {bytes} bytes and {limit} are allowed: send fewer samples in one request"
    )]
    BodyTooLarge {
        /// The length that the body claims.
        bytes: usize,
        /// The length that is allowed.
        limit: usize,
    },
    /// The header claims more than the compressed bytes can hold.
    #[error(
        "the snappy header claims {bytes} bytes, which {compressed} compressed bytes cannot hold: send snappy's \
         block format, not the framed one"
    )]
    SnappyLength {
        /// The length that the header claims.
        bytes: usize,
        /// The length of the compressed body.
        compressed: usize,
    },
    /// The bytes are not a snappy block.
    #[error("the body is not a snappy block: send snappy's block format, not the framed one")]
    Snappy(#[source] snap::Error),
    /// The bytes are not a snappy stream.
    #[error("the message is not a snappy stream: {0}")]
    SnappyStream(#[source] std::io::Error),
    /// The bytes are not the message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// More parts of one kind than a request may have.
    #[error("the request has more than {limit} {what}: send fewer series in one request")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A query has more parts of one kind than allowed.
    #[error("the query has more than {limit} {what}: ask in several requests")]
    QueryTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// A matcher has a type that is not defined.
    #[error("matcher type {0} is not defined: 0 is =, 1 is !=, 2 is =~ and 3 is !~")]
    UnknownMatcher(i64),
    /// A matcher's expression is not valid.
    #[error(transparent)]
    Matcher(#[from] MatcherError),
    /// A read request accepts no form of answer that exists.
    #[error(
        "none of the accepted response types is supported: accept 0 (SAMPLES) or 1 (STREAMED_XOR_CHUNKS),          or name none"
    )]
    ResponseType,
}

impl WireError {
    /// Returns what the failure asks of the sender.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::ContentType(_) | Self::ResponseType => ErrorKind::Unsupported,
            Self::BodyTooLarge { .. } | Self::TooMany { .. } | Self::QueryTooLarge { .. } => {
                ErrorKind::TooLarge
            }
            Self::SnappyLength { .. }
            | Self::Snappy(_)
            | Self::SnappyStream(_)
            | Self::Malformed(_)
            | Self::UnknownMatcher(_)
            | Self::Matcher(_) => ErrorKind::Invalid,
        }
    }
}
