//! One stream of XORed values inside of a chunk that has several: a value, and the window of bits in use.

use crate::tsdb::bits::{BitReader, BitWriter};

/// No window is open: more leading zeros than any difference has.
const NO_WINDOW: u32 = u32::MAX;

/// The writing side of a stream.
#[derive(Debug, Clone)]
pub(super) struct XorWriter {
    value: u64,
    leading: u32,
    trailing: u32,
}

impl XorWriter {
    /// Starts with a value that was written as 64 bits.
    pub(super) fn new(value: u64) -> Self {
        Self { value, leading: NO_WINDOW, trailing: 0 }
    }

    pub(super) fn value(&self) -> u64 {
        self.value
    }

    pub(super) fn put(&mut self, bits: &mut BitWriter, out: &mut Vec<u8>, value: u64) {
        let difference = value ^ self.value;
        self.value = value;
        if difference == 0 {
            return bits.put(out, 0, 1);
        }
        // Five bits hold no more than 31.
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            bits.put(out, 0b10, 2);
        } else {
            (self.leading, self.trailing) = (leading, trailing);
            // A width of 64 is written as 0.
            let width = u64::from(64 - leading - trailing) & 63;
            bits.put(out, (0b11 << 11) | (u64::from(leading) << 6) | width, 13);
        }
        bits.put(out, difference >> self.trailing, 64 - self.leading - self.trailing);
    }
}

/// The reading side of a stream.
#[derive(Debug, Clone)]
pub(super) struct XorReader {
    pub(super) value: u64,
    leading: u32,
    width: u32,
}

impl Default for XorReader {
    fn default() -> Self {
        Self::new(0)
    }
}

impl XorReader {
    /// Starts with a value that was read as 64 bits.
    pub(super) fn new(value: u64) -> Self {
        Self { value, leading: 0, width: 64 }
    }

    /// Takes the code and the value: `0` for the same, `10` for the window in use, `11` for a new one.
    pub(super) fn take(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        if bits.take(1)? == 0 {
            return Some(());
        }
        if bits.take(1)? == 0 { self.take_in_window(bits) } else { self.take_new_window(bits) }
    }

    pub(super) fn take_in_window(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        let difference = bits.take(self.width)?;
        self.value ^= difference << (64 - self.leading - self.width);
        Some(())
    }

    pub(super) fn take_new_window(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        let head = bits.take(11)? as u32;
        let (leading, width) = (head >> 6, if head & 63 == 0 { 64 } else { head & 63 });
        if leading + width > 64 {
            return None;
        }
        (self.leading, self.width) = (leading, width);
        self.take_in_window(bits)
    }
}
