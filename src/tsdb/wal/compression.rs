//! Decompressing a record, with its length checked first.

use std::fmt;

use super::{Flaw, RECORD_BYTES_MAX};

/// The densest element of snappy: three bytes that copy 64.
const SNAPPY_ELEMENT: (usize, usize) = (3, 64);
/// The densest block of zstd: four bytes that repeat one up to the largest block.
const ZSTD_BLOCK: (usize, usize) = (4, 128 * 1024);

/// Decompresses records; keeps zstd's state from one to the next.
#[derive(Default)]
pub(super) struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Decompressor {
    pub(super) fn snappy(&self, compressed: &[u8]) -> Result<Vec<u8>, Flaw> {
        let flaw = || Flaw::Compression { compression: "snappy" };
        // The library takes no bytes at all for an empty record; the format always has a length.
        if compressed.is_empty() {
            return Err(flaw());
        }
        let bytes = snap::raw::decompress_len(compressed).map_err(|_| flaw())?;
        check(bytes as u64, compressed.len(), SNAPPY_ELEMENT)?;
        snap::raw::Decoder::new().decompress_vec(compressed).map_err(|_| flaw())
    }

    pub(super) fn zstd(&mut self, compressed: &[u8]) -> Result<Vec<u8>, Flaw> {
        let flaw = || Flaw::Compression { compression: "zstd" };
        let holdable = holdable(compressed.len(), ZSTD_BLOCK);
        let bytes = match zstd::zstd_safe::get_frame_content_size(compressed) {
            Ok(Some(bytes)) => {
                check(bytes, compressed.len(), ZSTD_BLOCK)?;
                usize::try_from(bytes).map_err(|_| Flaw::TooLarge { bytes })?
            }
            // Writers leave the length out of small frames only.
            Ok(None) => holdable.min(RECORD_BYTES_MAX),
            Err(_) => return Err(flaw()),
        };
        let decompressor = match &mut self.zstd {
            Some(kept) => kept,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| flaw())?),
        };
        decompressor.decompress(compressed, bytes).map_err(|_| flaw())
    }
}

/// Returns the most that so many compressed bytes can hold.
fn holdable(compressed: usize, (bytes, output): (usize, usize)) -> usize {
    compressed.div_ceil(bytes).saturating_mul(output)
}

fn check(bytes: u64, compressed: usize, densest: (usize, usize)) -> Result<(), Flaw> {
    if bytes > RECORD_BYTES_MAX as u64 || bytes > holdable(compressed, densest) as u64 {
        return Err(Flaw::TooLarge { bytes });
    }
    Ok(())
}
