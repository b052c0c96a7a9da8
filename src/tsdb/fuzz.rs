//! What fuzzing runs over Prometheus' formats.

use super::{XorChunks, XorDecoder};

/// Decodes arbitrary bytes as an XOR chunk. What decodes must come back the same from its own encoding.
///
/// # Panics
/// When it does not.
pub fn fuzz_xor_chunk(data: &[u8]) {
    let Ok(samples) = XorDecoder::new(data).map(|s| s.map(|(ts, v)| (ts, v.to_bits()))).collect() else {
        return;
    };
    let samples: Vec<(i64, u64)> = samples;
    let mut chunks = XorChunks::with_chunk_samples(u16::MAX);
    for (ts_ms, bits) in &samples {
        chunks.push(*ts_ms, f64::from_bits(*bits));
    }
    chunks.finish();
    let bytes = chunks.iter().next().map_or(&[0, 0][..], |c| c.data);
    let again: Result<Vec<_>, _> =
        XorDecoder::new(bytes).map(|s| s.map(|(ts, v)| (ts, v.to_bits()))).collect();
    assert_eq!(again.as_ref(), Ok(&samples));
}
