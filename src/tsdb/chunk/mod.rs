//! Every chunk that Prometheus writes, decoded; those that every Prometheus reads, encoded.
//!
//! Owns the byte rules of the encodings: XOR floats (1), native histograms with whole (2) and fractional counts
//! (3), XOR2 floats (4), and both histograms with start timestamps (5, 6).
//!
//! Vocabulary: a **chunk** is one bit stream with its count; its **layout** is what all its histograms share:
//! schema, zero threshold, spans and custom bounds; the **start timestamp** of a sample is when its counter was
//! last at zero.
//!
//! Flow: bytes → [`decode_chunk`] → [`ChunkSample`]s. The other way [`SampleChunks`] drives the encoders and decides
//! where a chunk ends.
//!
//! **Invariants**
//! - Values are bit patterns: NaN payloads, stale markers and -0.0 go through unchanged.
//! - Decoding never panics. It allocates at most in proportion to the bytes of the chunk, because every bucket,
//!   span and bound costs at least one bit of it.
//! - A stale histogram has a sum and nothing else, as in Prometheus.
//! - What the encoders write decodes to the same samples, apart from the hints of samples that do not start a
//!   chunk: there a chunk only knows "gauge" or "no reset".
//!
//! What it does not do: no encoding of 4 to 6, which Prometheus before 3.11 cannot read; no recoding of a chunk
//! when its layout grows (Prometheus does; here a new chunk starts).

mod decode;
mod float_histogram;
mod histogram;
mod layout;
mod run;
mod start;
mod varbit;
mod window;
mod xor2;

#[cfg(test)]
mod tests;

pub use decode::{ChunkSample, ChunkSamples, SampleValue, decode_chunk};
pub use run::{EncodedChunk, SampleChunks};

use float_histogram::FloatHistogramEncoder;
use histogram::HistogramEncoder;
use layout::Fit;

use super::TsdbError;
use crate::model::ErrorKind;

/// How the samples of a chunk are encoded: the byte before its data in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Floats.
    Xor,
    /// Native histograms with whole counts.
    Histogram,
    /// Native histograms with fractional counts.
    FloatHistogram,
    /// Floats with joint codes and start timestamps (Prometheus 3.11 and later).
    Xor2,
    /// Native histograms with whole counts and start timestamps (Prometheus 3.14 and later).
    HistogramStart,
    /// Native histograms with fractional counts and start timestamps (Prometheus 3.14 and later).
    FloatHistogramStart,
}

impl Encoding {
    /// Returns the encoding that a byte stands for.
    ///
    /// # Errors
    /// A byte that no Prometheus up to 3.14 writes.
    pub fn from_byte(byte: u8) -> Result<Self, ChunkError> {
        Ok(match byte {
            1 => Self::Xor,
            2 => Self::Histogram,
            3 => Self::FloatHistogram,
            4 => Self::Xor2,
            5 => Self::HistogramStart,
            6 => Self::FloatHistogramStart,
            _ => return Err(ChunkError::Encoding { found: byte }),
        })
    }

    /// Returns the byte that stands for the encoding.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Xor => 1,
            Self::Histogram => 2,
            Self::FloatHistogram => 3,
            Self::Xor2 => 4,
            Self::HistogramStart => 5,
            Self::FloatHistogramStart => 6,
        }
    }

    /// Returns whether the samples are floats.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Xor | Self::Xor2)
    }

    /// Returns how many samples a chunk says it holds; 0 for bytes without a whole count.
    #[must_use]
    pub fn sample_count(self, data: &[u8]) -> u16 {
        let count = data.first_chunk::<2>().map_or(0, |count| u16::from_be_bytes(*count));
        // With start timestamps the counter-reset bits moved into the count.
        match self {
            Self::HistogramStart | Self::FloatHistogramStart => count & 0x3FFF,
            _ => count,
        }
    }
}

/// Why a chunk was refused, or a histogram does not fit into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The samples of a float chunk are damaged.
    #[error(transparent)]
    Float(#[from] TsdbError),
    /// The encoding is unknown.
    #[error("chunk encoding {found} is unknown: 1 to 6 are read, which Prometheus up to 3.14 writes")]
    Encoding {
        /// The byte found.
        found: u8,
    },
    /// The layout that the chunk's histograms share cannot be.
    #[error("the histogram layout of the chunk is damaged: {reason}")]
    Layout {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A histogram's buckets and spans contradict each other.
    #[error("the histogram at {t_ms} ms has {buckets} buckets where its spans say {spans}")]
    Buckets {
        /// The sample's time.
        t_ms: i64,
        /// How many buckets it has.
        buckets: usize,
        /// How many its spans cover.
        spans: u64,
    },
}

impl ChunkError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Float(error) => error.kind(),
            Self::Encoding { .. } => ErrorKind::Unsupported,
            Self::Layout { .. } => ErrorKind::Corrupt,
            Self::Buckets { .. } => ErrorKind::Invalid,
        }
    }
}
