//! The XOR2 chunk: `count BE16, start header u8`, then samples whose time and value share one code.
//!
//! Sample 0 is `varint t, 64 bits v`, sample 1 `uvarint t - t0` and a value code. From sample 2 on: `0` same
//! delta and value; `10` same delta, then `0` or `1` for the window in use or a new one; `110` + 13 bits, `1110` +
//! 20 and `11110` + 64 of delta of deltas, in two's complement, then a value code; `11111` same delta, stale.
//! A value code is `0` same, `10` window in use, `110` new window, `111` stale. Stale markers leave the value that
//! later ones are XORed with as it was.

use super::start::StartReader;
use super::varbit;
use super::window::XorReader;
use crate::model::STALE_MARKER_BITS;
use crate::tsdb::bits::BitReader;

/// Iterates over the samples of one chunk.
#[derive(Debug, Clone)]
pub(super) struct Xor2Reader<'a> {
    bits: BitReader<'a>,
    start: StartReader,
    baseline: XorReader,
    t_ms: i64,
    delta_ms: i64,
    value: u64,
}

impl<'a> Xor2Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        let (header, rest) = data.split_at_checked(3).unwrap_or((&[0, 0, 0], &[]));
        Self {
            bits: BitReader::new(rest),
            start: StartReader::new(header[2]),
            baseline: XorReader::default(),
            t_ms: 0,
            delta_ms: 0,
            value: 0,
        }
    }

    /// Takes sample `index`; `None` where the bits end or contradict themselves.
    pub(super) fn take(&mut self, index: u16) -> Option<(i64, Option<i64>, u64)> {
        let previous_ms = self.t_ms;
        match index {
            0 => self.take_first()?,
            1 => {
                self.delta_ms = varbit::take_uvarint(&mut self.bits)? as i64;
                self.take_value()?;
                self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
            }
            _ => {
                self.take_joint()?;
                self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
            }
        }
        self.start.take(&mut self.bits, index, self.t_ms, previous_ms)?;
        Some((self.t_ms, self.start.start_ms(), self.value))
    }

    fn take_first(&mut self) -> Option<()> {
        self.t_ms = varbit::take_varint(&mut self.bits)?;
        self.value = self.bits.take(64)?;
        if self.value != STALE_MARKER_BITS {
            self.baseline = XorReader::new(self.value);
        }
        Some(())
    }

    fn take_joint(&mut self) -> Option<()> {
        self.bits.refill();
        let ones = self.bits.window().leading_ones().min(5);
        self.bits.skip((ones + 1).min(5))?;
        match ones {
            0 => self.value = self.baseline.value,
            1 => {
                if self.bits.take(1)? == 0 {
                    self.baseline.take_in_window(&mut self.bits)?;
                } else {
                    self.baseline.take_new_window(&mut self.bits)?;
                }
                self.value = self.baseline.value;
            }
            5 => self.value = STALE_MARKER_BITS,
            _ => {
                let width = [13, 20, 64][ones as usize - 2];
                let number = self.bits.take(width)?;
                let dod = ((number << (64 - width)) as i64) >> (64 - width);
                self.delta_ms = self.delta_ms.wrapping_add(dod);
                self.take_value()?;
            }
        }
        Some(())
    }

    fn take_value(&mut self) -> Option<()> {
        if self.bits.take(1)? == 1 {
            if self.bits.take(1)? == 0 {
                self.baseline.take_in_window(&mut self.bits)?;
            } else if self.bits.take(1)? == 0 {
                self.baseline.take_new_window(&mut self.bits)?;
            } else {
                self.value = STALE_MARKER_BITS;
                return Some(());
            }
        }
        self.value = self.baseline.value;
        Some(())
    }
}
