use super::*;
use crate::model::ErrorKind;
use crate::wire::fuzz::fuzz_snappy_stream;

#[test]
fn streams_come_back_within_the_limit() {
    for length in [0, 1, 65_536, 65_537, 300_000] {
        let bytes: Vec<u8> = (0..length).map(|i: u32| (i.wrapping_mul(i) >> 7) as u8).collect();
        let stream = encode(&bytes).unwrap();
        assert_eq!(decode(&stream, bytes.len()).unwrap(), bytes);
        if length > 0 {
            let kind = decode(&stream, bytes.len() - 1).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::TooLarge);
        }
    }
}

#[test]
fn a_small_stream_of_a_large_message_is_refused_at_the_limit() {
    let bomb = encode(&vec![0; 64 << 20]).unwrap();
    assert!(bomb.len() < 4 << 20);
    assert_eq!(decode(&bomb, 1 << 20).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn the_stream_has_the_bytes_that_its_format_says() {
    let stream = encode(b"abc").unwrap();
    assert_eq!(&stream[..10], b"\xFF\x06\x00\x00sNaPpY");
    // An uncompressed chunk: type, length, checksum, data.
    assert_eq!(stream[10], 0x01);
    assert_eq!(&stream[stream.len() - 3..], b"abc");
}

#[test]
fn damaged_streams_are_refused_and_never_panic() {
    let stream = encode(&[7; 1_000]).unwrap();
    for at in 0..stream.len() {
        let mut damaged = stream.clone();
        damaged[at] ^= 0x41;
        fuzz_snappy_stream(&damaged);
        fuzz_snappy_stream(&stream[..at]);
    }
    let mut damaged = stream.clone();
    damaged[20] ^= 1;
    assert_eq!(decode(&damaged, 1 << 20).unwrap_err().kind(), ErrorKind::Invalid);
}
