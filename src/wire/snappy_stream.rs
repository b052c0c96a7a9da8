//! Snappy's framed stream format, as gRPC messages have it: decoded within bounds.

use std::io::{Read, Write};

use super::error::WireError;

#[cfg(test)]
mod tests;

/// Decompresses one stream. No more than `limit_bytes` are decoded.
///
/// # Errors
/// More bytes than allowed, and bytes that are not a stream.
pub fn decode(compressed: &[u8], limit_bytes: usize) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::new();
    let beyond = u64::try_from(limit_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let decoder = snap::read::FrameDecoder::new(compressed);
    decoder.take(beyond).read_to_end(&mut out).map_err(WireError::SnappyStream)?;
    if out.len() > limit_bytes {
        return Err(WireError::BodyTooLarge { bytes: out.len(), limit: limit_bytes });
    }
    Ok(out)
}

/// Compresses bytes into one stream.
///
/// # Errors
/// None that a buffer in memory gives.
pub fn encode(bytes: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::with_capacity(bytes.len() / 2 + 64));
    encoder.write_all(bytes).map_err(WireError::SnappyStream)?;
    encoder.into_inner().map_err(|error| WireError::SnappyStream(error.into_error()))
}
