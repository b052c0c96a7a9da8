//! XOR chunks that Prometheus wrote decode, and encode to the same bytes.

use std::path::{Path, PathBuf};

use perennial::tsdb::{XorChunks, XorDecoder};

/// Returns the recordings' folder: `PERENNIAL_DATA`, or `shared/data` beside the package's folder or worktree.
fn recordings() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = [
        std::env::var_os("PERENNIAL_DATA").map(PathBuf::from),
        Some(root.join("../shared/data")),
        Some(root.join("../../shared/data")),
    ];
    candidates.into_iter().flatten().find(|folder| folder.is_dir())
}

/// Calls `visit` with encoding and data of each chunk of a block's chunk file (`uvarint length, encoding, data,
/// CRC32C`, after eight bytes).
fn for_each_chunk(file: &[u8], mut visit: impl FnMut(u8, &[u8])) {
    let mut rest = &file[8..];
    while !rest.is_empty() {
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        let (entry, tail) = rest.split_at(1 + len);
        let (sum, tail) = tail.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*sum), crc32c::crc32c(entry));
        visit(entry[0], &entry[1..]);
        rest = tail;
    }
}

#[test]
fn real_chunks_decode_and_encode_to_the_same_bytes() {
    let Some(recordings) = recordings() else {
        eprintln!(
            "SKIPPED: real_chunks_decode_and_encode_to_the_same_bytes needs the recordings (PERENNIAL_DATA)"
        );
        return;
    };
    let (mut chunks, mut padded_chunks, mut samples) = (0, 0, 0);
    let mut encoded = XorChunks::with_chunk_samples(u16::MAX);
    for block in std::fs::read_dir(recordings.join("recording-1/tsdb")).unwrap() {
        for file in std::fs::read_dir(block.unwrap().path().join("chunks")).unwrap() {
            for_each_chunk(&std::fs::read(file.unwrap().path()).unwrap(), |encoding, data| {
                assert_eq!(encoding, 1, "the recording holds XOR chunks only");
                encoded.clear();
                for sample in XorDecoder::new(data) {
                    let (ts_ms, value) = sample.unwrap();
                    encoded.push(ts_ms, value);
                    samples += 1;
                }
                encoded.finish();
                let again = encoded.iter().next().unwrap();
                // Before 3.0 Prometheus left an empty byte behind where the last bits filled their byte.
                let padded = data.strip_suffix(&[0]) == Some(again.data);
                assert!(again.data == data || padded, "chunk {chunks} has changed");
                padded_chunks += usize::from(again.data != data);
                chunks += 1;
            });
        }
    }
    assert_eq!(samples, 9_079_520, "over {chunks} chunks");
    assert!(padded_chunks * 10 < chunks, "{padded_chunks} of {chunks} chunks end in an empty byte");
}
