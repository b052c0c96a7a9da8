//! Prometheus' own binary formats, as pure functions over bytes.
//!
//! Owns the byte rules of Prometheus' TSDB. The **XOR chunk** holds up to 65,535 float samples of one series,
//! delta-of-delta times and XORed values in one bit stream. StoreAPI and streamed remote read answer in these
//! chunks; they are re-encoded from the sample lists of head and blocks. [`wal`] holds the write-ahead log, the
//! out-of-order log and checkpoints, [`chunk`] every other chunk, [`mod@block`] the files of a block.
//! What log and chunks store beside floats are the model's native histograms.
//!
//! Vocabulary: a **chunk** is one XOR stream with its count; [`XorChunks`] is what one series answers with, a run
//! of chunks of at most [`CHUNK_SAMPLES`] samples each, in one reused buffer.
//!
//! Flow: samples of a series → [`XorChunks::push`] → [`XorChunks::iter`] → the messages of `wire`. The other way
//! [`XorDecoder`] turns the bytes of a chunk into samples.
//!
//! **Invariants**
//! - Encoding gives exactly the bytes that Prometheus (3.0 and later) writes for the same samples, so that equal
//!   data has equal chunk hashes wherever it is answered from. Held against real chunks in `tests/it`. Earlier
//!   versions left an empty byte at the end of some chunks; decoding ignores it.
//! - Values are bit patterns; NaN payloads, stale markers and -0.0 go through unchanged.
//! - Times wrap as they do in Go: any sequence of `i64` times is encoded and comes back.
//! - Decoding never panics, never allocates and reads at most the samples that the count promises.
//!
//! What it does not do: no I/O.

mod bits;
pub mod block;
pub mod chunk;
mod fuzz;
pub mod wal;
mod xor;

#[cfg(test)]
mod tests;

pub use fuzz::fuzz_xor_chunk;
pub use xor::{CHUNK_SAMPLES, Chunk, XorChunks, XorDecoder};

use crate::model::ErrorKind;

/// Why bytes of a Prometheus format were refused, or samples do not fit into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TsdbError {
    /// The bytes end before what they promise, or a number in them has no end.
    #[error("the chunk is cut off or damaged at sample {sample} of {count}")]
    CutOff {
        /// The sample that is not whole, from 0.
        sample: u16,
        /// How many samples the chunk promises.
        count: u16,
    },
    /// A bit window is wider than a value.
    #[error(
        "sample {sample} of the chunk has {leading} leading zeros and {significant} bits, more than 64 in all"
    )]
    BadWindow {
        /// The sample, from 0.
        sample: u16,
        /// Leading zeros that it gives.
        leading: u32,
        /// Significant bits that it gives.
        significant: u32,
    },
}

impl TsdbError {
    /// Returns what the failure asks of the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CutOff { .. } | Self::BadWindow { .. } => ErrorKind::Corrupt,
        }
    }
}
