//! The frame of an entry: magic, checksum, sequence number, lengths, and the compressed body.
//!
//! The checksum is seeded with that of the segment header, which holds the epoch. Bytes of another segment, or an
//! entry that a sender planted in its sample values, are therefore never taken for an entry of this segment.

use std::fmt;
use std::io;

use super::bytes::Reader;
use super::error::CodecError;

/// The most bytes of a body, so that replay knows what it may have to hold.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;
/// The most bytes of a stored entry. zstd's own bound for a body that does not compress lies below.
pub(super) const ENTRY_BYTES_MAX: usize = FRAME_BYTES + BODY_BYTES_MAX + BODY_BYTES_MAX / 128 + 1024;
/// The length of a frame without its body.
pub(super) const FRAME_BYTES: usize = 4 + 4 + 8 + 4 + 4;
/// What every frame starts with.
pub(super) const MAGIC: [u8; 4] = [0x9E, b'E', b'N', b'T'];

const COVERED_FROM: usize = 8;
/// zstd's first fast level. On scrapes of real exporters it stores within 6 % of level 1 (about 1 B a sample of 10.3);
/// on values that do not compress it takes a quarter of the time.
const ZSTD_LEVEL: i32 = -1;

/// The fixed part of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) crc: u32,
    pub(super) seq: u64,
    /// Bytes of the body as stored.
    pub(super) stored: usize,
    /// Bytes of the body once decompressed.
    pub(super) plain: usize,
}

impl FrameHeader {
    /// Decodes the fixed part and checks that its lengths are allowed.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        if reader.array::<4>()? != MAGIC {
            return Err(CodecError::Malformed("no entry starts here"));
        }
        let (crc, seq) = (reader.u32()?, reader.u64()?);
        let (stored, plain) = (reader.u32()? as usize, reader.u32()? as usize);
        if plain > BODY_BYTES_MAX || stored > ENTRY_BYTES_MAX - FRAME_BYTES {
            return Err(CodecError::Malformed("an entry is over the size limit"));
        }
        Ok(Self { crc, seq, stored, plain })
    }

    /// Returns whether the checksum of a whole entry, this fixed part included, holds.
    pub(super) fn verify(&self, entry: &[u8], seed: u32) -> Result<(), CodecError> {
        if crc32c::crc32c_append(seed, &entry[COVERED_FROM..]) == self.crc {
            Ok(())
        } else {
            Err(CodecError::Malformed("the checksum of an entry does not match"))
        }
    }
}

/// Puts bodies into frames; its buffers are kept from entry to entry.
pub(super) struct FrameEncoder {
    zstd: zstd::bulk::Compressor<'static>,
    out: Vec<u8>,
}

impl FrameEncoder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(ZSTD_LEVEL)?, out: Vec::new() })
    }

    /// Encodes one entry; the bytes are valid until the next call.
    pub(super) fn encode(&mut self, seq: u64, body: &[u8], seed: u32) -> io::Result<&[u8]> {
        let bound = FRAME_BYTES + zstd::zstd_safe::compress_bound(body.len());
        if self.out.len() < bound {
            self.out.resize(bound, 0);
        }
        let stored = self.zstd.compress_to_buffer(body, &mut self.out[FRAME_BYTES..])?;
        let out = &mut self.out[..FRAME_BYTES + stored];
        out[..4].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&seq.to_le_bytes());
        out[16..20].copy_from_slice(&(stored as u32).to_le_bytes());
        out[20..24].copy_from_slice(&(body.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &out[COVERED_FROM..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        Ok(out)
    }
}

impl fmt::Debug for FrameEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameEncoder").field("buffered", &self.out.len()).finish_non_exhaustive()
    }
}

/// Takes bodies out of frames.
pub(super) struct FrameDecoder {
    zstd: zstd::bulk::Decompressor<'static>,
    body: Vec<u8>,
}

impl FrameDecoder {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new()?, body: Vec::new() })
    }

    /// Decompresses the body of an entry whose checksum holds; valid until the next call.
    pub(super) fn body(&mut self, header: &FrameHeader, stored: &[u8]) -> Result<&[u8], CodecError> {
        if self.body.len() < header.plain {
            self.body.resize(header.plain, 0);
        }
        let body = &mut self.body[..header.plain];
        let length = self.zstd.decompress_to_buffer(stored, body);
        if length.is_ok_and(|length| length == header.plain) {
            Ok(body)
        } else {
            Err(CodecError::Malformed("the body of an entry does not decompress"))
        }
    }
}

impl fmt::Debug for FrameDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameDecoder").field("buffered", &self.body.len()).finish_non_exhaustive()
    }
}
