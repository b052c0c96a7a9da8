//! Snappy's block format, decoded within bounds.

use snap::raw::{Decoder, Encoder, decompress_len};

use super::error::WireError;

/// The densest element of the format: three bytes that copy 64.
const ELEMENT_BYTES: usize = 3;
const ELEMENT_OUTPUT_BYTES: usize = 64;

/// Returns the length that a body claims to have when decompressed, so that room can be reserved for it first.
///
/// # Errors
/// A header that is cut off, and a length that so few compressed bytes cannot hold.
pub fn declared_len(compressed: &[u8]) -> Result<usize, WireError> {
    let bytes = match compressed {
        [] => return Err(WireError::Snappy(snap::Error::Empty)),
        _ => decompress_len(compressed).map_err(WireError::Snappy)?,
    };
    let holdable = compressed.len().div_ceil(ELEMENT_BYTES).saturating_mul(ELEMENT_OUTPUT_BYTES);
    if bytes > holdable {
        return Err(WireError::SnappyLength { bytes, compressed: compressed.len() });
    }
    Ok(bytes)
}

/// Decompresses a body into `out`, replacing what it holds. The length is checked against `limit_bytes` before
/// anything is allocated; `out` keeps its capacity, so that a caller can use it again.
///
/// # Errors
/// A length over the limit, and bytes that are not a snappy block; `out` is then empty.
pub fn decode_into(compressed: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    let decoded = decode_checked(compressed, limit_bytes, out);
    if decoded.is_err() {
        out.clear();
    }
    decoded
}

fn decode_checked(compressed: &[u8], limit_bytes: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
    let bytes = declared_len(compressed)?;
    if bytes > limit_bytes {
        return Err(WireError::BodyTooLarge { bytes, limit: limit_bytes });
    }
    // A vector that grows by itself would double past the length.
    out.reserve_exact(bytes.saturating_sub(out.len()));
    out.resize(bytes, 0);
    let written = Decoder::new().decompress(compressed, out).map_err(WireError::Snappy)?;
    out.truncate(written);
    Ok(())
}

/// Compresses a body.
///
/// # Errors
/// A body of 4 GiB or more.
pub fn encode(body: &[u8]) -> Result<Vec<u8>, WireError> {
    Encoder::new().compress_vec(body).map_err(WireError::Snappy)
}

#[cfg(test)]
mod tests;
