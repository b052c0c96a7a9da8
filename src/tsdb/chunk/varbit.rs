//! Numbers of variable width: a prefix of ones, a zero, then 3, 6, 9, 12, 18, 25 or 56 bits; eight ones and 64.
//!
//! An N-bit signed number reaches from -(2^(N-1) - 1) to 2^(N-1). A lone zero bit is 0.

use crate::tsdb::bits::{BitReader, BitWriter};

const WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Writes the number behind the shortest prefix whose width holds it; `None` means 64 bits.
fn put(bits: &mut BitWriter, out: &mut Vec<u8>, value: u64, step: Option<usize>) {
    match step {
        Some(step) => {
            let (ones, width) = (step as u32 + 1, WIDTHS[step]);
            let prefix = ((1u64 << ones) - 1) << 1;
            bits.put(out, (prefix << width) | (value & ((1 << width) - 1)), ones + 1 + width);
        }
        None => {
            bits.put(out, 0xFF, 8);
            bits.put(out, value, 64);
        }
    }
}

pub(super) fn put_int(bits: &mut BitWriter, out: &mut Vec<u8>, value: i64) {
    if value == 0 {
        return bits.put(out, 0, 1);
    }
    let fits = |width: &u32| (-(1i64 << (width - 1)) + 1..=1i64 << (width - 1)).contains(&value);
    put(bits, out, value as u64, WIDTHS.iter().position(fits));
}

pub(super) fn put_uint(bits: &mut BitWriter, out: &mut Vec<u8>, value: u64) {
    if value == 0 {
        return bits.put(out, 0, 1);
    }
    put(bits, out, value, WIDTHS.iter().position(|width| value >> width == 0));
}

/// Takes a prefix and returns the width that follows it, 0 for none.
fn take_width(bits: &mut BitReader<'_>) -> Option<u32> {
    bits.refill();
    let ones = bits.window().leading_ones().min(8);
    if ones == 8 {
        bits.skip(8)?;
        return Some(64);
    }
    bits.skip(ones + 1)?;
    Some(if ones == 0 { 0 } else { WIDTHS[ones as usize - 1] })
}

pub(super) fn take_int(bits: &mut BitReader<'_>) -> Option<i64> {
    let width = take_width(bits)?;
    if width == 0 {
        return Some(0);
    }
    let number = bits.take(width)?;
    Some(if width < 64 && number > 1 << (width - 1) {
        number.wrapping_sub(1 << width) as i64
    } else {
        number as i64
    })
}

pub(super) fn take_uint(bits: &mut BitReader<'_>) -> Option<u64> {
    match take_width(bits)? {
        0 => Some(0),
        width => bits.take(width),
    }
}

/// Takes a LEB128 number of whole bytes, which need not be aligned in the stream.
pub(super) fn take_uvarint(bits: &mut BitReader<'_>) -> Option<u64> {
    let mut value = 0u64;
    for i in 0..10 {
        let byte = bits.take(8)?;
        if i == 9 && byte > 1 {
            return None;
        }
        value |= (byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(super) fn take_varint(bits: &mut BitReader<'_>) -> Option<i64> {
    let number = take_uvarint(bits)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}
