//! Why bytes are not a segment, or not a record.

use super::RecordKind;
use crate::model::{ErrorKind, LabelError};

/// Where a segment is damaged. Everything before `record_start` is whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the segment is damaged at byte {offset}, in the record that begins at byte {record_start}: {flaw}")]
pub struct Damage {
    /// Offset in the segment at which the record begins that cannot be read.
    pub record_start: u64,
    /// Offset in the segment of the fragment or page end that is wrong.
    pub offset: u64,
    /// What is wrong there.
    #[source]
    pub flaw: Flaw,
}

impl Damage {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// What is wrong with a segment's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The checksum of a fragment does not match its bytes.
    #[error("the checksum is {computed:#010x}, the header says {stored:#010x}")]
    Checksum {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A type byte that no version writes.
    #[error("{0:#04x} is no type of a fragment")]
    Type(u8),
    /// A fragment that cannot stand where it stands.
    #[error("a {found} fragment stands {place} a record")]
    Order {
        /// The kind of the fragment.
        found: &'static str,
        /// `inside` or `outside of`.
        place: &'static str,
    },
    /// The fragments of one record say different compressions.
    #[error("the fragments of one record are compressed differently")]
    MixedCompression,
    /// A fragment that would cross its page.
    #[error("a fragment of {length} bytes stands where the page has room for {room}")]
    Overlong {
        /// The length that the header gives.
        length: usize,
        /// What is left of the page.
        room: usize,
    },
    /// The end of a page is not filled with zeros.
    #[error("the unused end of a page holds something else than zeros")]
    Fill,
    /// The compressed bytes of a record do not decompress.
    #[error("the record's {compression} bytes do not decompress")]
    Compression {
        /// `snappy` or `zstd`.
        compression: &'static str,
    },
    /// A record that says to be larger than any is.
    #[error("the record says to hold {bytes} bytes, more than its compressed bytes can or the limit allows")]
    TooLarge {
        /// The length that the compressed bytes give.
        bytes: u64,
    },
}

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes end before what they promise.
    #[error("the {kind} record is cut off at byte {offset}")]
    CutOff {
        /// The kind of the record.
        kind: RecordKind,
        /// Where in the record.
        offset: usize,
    },
    /// A number that does not end or does not fit.
    #[error("the {kind} record holds a number without end or out of range before byte {offset}")]
    Number {
        /// The kind of the record.
        kind: RecordKind,
        /// Where in the record.
        offset: usize,
    },
    /// A record of another kind than the caller can take.
    #[error("a {kind} record stands where one with float samples is needed")]
    NoSamples {
        /// The kind of the record.
        kind: RecordKind,
    },
    /// A stored label set that is none of ours: not UTF-8, one name twice.
    #[error("stored labels cannot be used: {0}")]
    Labels(#[from] LabelError),
}

impl RecordError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CutOff { .. } | Self::Number { .. } | Self::Labels(_) => ErrorKind::Corrupt,
            Self::NoSamples { .. } => ErrorKind::Internal,
        }
    }
}
