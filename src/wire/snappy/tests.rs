use super::*;
use crate::model::ErrorKind;

const LIMIT: usize = 1 << 20;

#[test]
fn bodies_come_back_and_the_buffer_is_used_again() {
    let mut out = Vec::new();
    for body in [vec![7u8; 100_000], (0..=255).collect(), Vec::new()] {
        let compressed = encode(&body).unwrap();
        assert_eq!(declared_len(&compressed).unwrap(), body.len());
        decode_into(&compressed, LIMIT, &mut out).unwrap();
        assert_eq!(out, body);
    }
    assert_eq!(out.capacity(), 100_000);
}

#[test]
fn a_body_over_the_limit_is_refused_before_allocation() {
    let compressed = encode(&vec![0u8; LIMIT + 1]).unwrap();
    let mut out = Vec::new();
    let refused = decode_into(&compressed, LIMIT, &mut out).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(out.capacity(), 0);
}

#[test]
fn seven_bytes_that_claim_a_gibibyte_are_refused_before_allocation() {
    let bomb = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00, 0x61];
    let mut out = Vec::new();
    let refused = decode_into(&bomb, usize::MAX, &mut out).unwrap_err();
    assert!(matches!(refused, WireError::SnappyLength { bytes: 0x4000_0000, compressed: 7 }), "{refused}");
    assert_eq!(out.capacity(), 0);
}

#[test]
fn the_densest_body_is_not_taken_for_a_bomb() {
    for bytes in [0, 1, 60, 61, 64, 100, 65_536, 1_000_000] {
        assert!(declared_len(&encode(&vec![0u8; bytes]).unwrap()).is_ok(), "{bytes}");
    }
}

#[test]
fn bytes_that_are_no_block_are_refused_and_leave_nothing() {
    let framed = b"\xff\x06\x00\x00sNaPpY".as_slice();
    let good = encode(&vec![1u8; 1000]).unwrap();
    for bad in [b"".as_slice(), b"\xff", framed, &good[..good.len() - 1], b"\x05\x00"] {
        let mut out = vec![9; 10];
        let refused = decode_into(bad, LIMIT, &mut out).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(out.is_empty());
    }
}
