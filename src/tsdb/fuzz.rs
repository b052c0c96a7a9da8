//! What fuzzing runs over Prometheus' formats.

use super::{XorDecoder, XorEncoder};

/// Decodes arbitrary bytes as an XOR chunk. What decodes must come back the same from its own encoding.
///
/// # Panics
/// When it does not.
pub fn fuzz_xor_chunk(data: &[u8]) {
    let Ok(samples) = XorDecoder::new(data).map(|s| s.map(|(ts, v)| (ts, v.to_bits()))).collect() else { return };
    let samples: Vec<(i64, u64)> = samples;
    let mut bytes = Vec::new();
    let mut encoder = XorEncoder::new(&mut bytes);
    for (ts_ms, bits) in &samples {
        encoder.push(*ts_ms, f64::from_bits(*bits)).expect("a chunk's count fits into a chunk");
    }
    encoder.finish();
    let again: Result<Vec<_>, _> = XorDecoder::new(&bytes).map(|s| s.map(|(ts, v)| (ts, v.to_bits()))).collect();
    assert_eq!(again.as_ref(), Ok(&samples));
}
