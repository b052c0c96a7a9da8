//! A chunk as StoreAPI and streamed remote read send it.

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// Floats.
    Xor,
    /// Native histograms with whole counts.
    Histogram,
    /// Native histograms with fractional counts.
    FloatHistogram,
}

impl ChunkKind {
    /// Returns the number that StoreAPI has for it.
    pub(super) const fn in_store_api(self) -> u8 {
        self as u8
    }

    /// Returns the number that remote read has for it.
    pub(super) const fn in_remote_read(self) -> u8 {
        self as u8 + 1
    }
}

/// A chunk to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireChunk<'a> {
    /// What it holds.
    pub kind: ChunkKind,
    /// Time of its first sample.
    pub min_time_ms: i64,
    /// Time of its last sample, inclusive.
    pub max_time_ms: i64,
    /// Prometheus' bytes, without length, encoding and checksum.
    pub data: &'a [u8],
}
