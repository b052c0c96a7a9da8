//! What fuzzing runs over the files of a block.

use super::{
    BlockChunks, BlockMeta, BlockParts, IndexReader, SeriesEntry, check_block, decode_tombstones,
    encode_tombstones,
};
use crate::tsdb::chunk::{Encoding, decode_chunk};

/// Decodes arbitrary bytes as a meta.json. What decodes must come back the same from its own encoding.
///
/// # Panics
/// When it does not.
pub fn fuzz_block_meta(data: &[u8]) {
    if let Ok(meta) = BlockMeta::decode(data) {
        assert_eq!(BlockMeta::decode(&meta.encode()).ok().as_ref(), Some(&meta));
    }
}

/// Decodes arbitrary bytes as a tombstones file. What decodes must come back the same from its own encoding.
///
/// # Panics
/// When it does not.
pub fn fuzz_tombstones(data: &[u8]) {
    if let Ok(tombstones) = decode_tombstones(data) {
        let again = decode_tombstones(&encode_tombstones(&tombstones));
        assert_eq!(again.ok(), Some(tombstones));
    }
}

/// Reads arbitrary bytes as an index in every way there is.
///
/// # Panics
/// When what one way reads another one does not.
pub fn fuzz_index(data: &[u8]) {
    let Ok(index) = IndexReader::open(data) else { return };
    let entries: Vec<SeriesEntry> = index.series().filter_map(Result::ok).collect();
    for entry in &entries {
        assert_eq!(index.series_at(entry.reference).ok().as_ref(), Some(entry));
    }
    for name in index.label_names() {
        for value in index.label_values(name).take(10) {
            let _ = index.postings(name, value);
        }
    }
    let parts = BlockParts { ulid: None, meta: b"", tombstones: None, index: &data, chunks: &[] };
    assert!(!check_block(&parts).is_sound());
}

/// Reads arbitrary bytes as a chunk file, and as a chunk of every encoding.
///
/// # Panics
/// When decoding gives more samples than the chunk says.
pub fn fuzz_block_chunks(data: &[u8]) {
    if let Ok(mut file) = BlockChunks::open(&[data]) {
        let mut offset = 8;
        while let Ok(entry) = file.read(offset) {
            decode_all(entry.encoding, entry.data);
            offset = entry.end;
        }
    }
    for byte in 1..=6 {
        if let Ok(encoding) = Encoding::from_byte(byte) {
            decode_all(encoding, data);
        }
    }
}

fn decode_all(encoding: Encoding, data: &[u8]) {
    let samples = decode_chunk(encoding, data);
    let promised = usize::from(samples.sample_count());
    assert!(samples.take_while(Result::is_ok).count() <= promised);
}
