//! Bit streams, most significant bit first, moved 64 bits at a time.

/// Appends bits to a byte vector, which is passed along so that its owner can keep it.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    /// Bits not yet written, from the top; the rest is zero.
    pending: u64,
    /// How many bits are pending, below 64.
    used: u32,
}

impl BitWriter {
    /// Appends the lowest `count` bits of `value`; `count` is 1 to 64 and the bits above are zero.
    #[inline(always)]
    pub(super) fn put(&mut self, out: &mut Vec<u8>, value: u64, count: u32) {
        let free = 64 - self.used;
        if count < free {
            self.pending |= value << (free - count);
            self.used += count;
            return;
        }
        let over = count - free;
        out.extend_from_slice(&(self.pending | (value >> over)).to_be_bytes());
        self.pending = if over == 0 { 0 } else { value << (64 - over) };
        self.used = over;
    }

    /// Appends the last bits, filled up with zeros to a whole byte, and is empty again.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let bytes = self.used.div_ceil(8) as usize;
        out.extend_from_slice(&self.pending.to_be_bytes()[..bytes]);
        *self = Self::default();
    }
}

/// Takes bits from a byte slice.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    rest: &'a [u8],
    /// The next bits, from the top. Below the `valid` ones are zeros or the bits that follow in the stream.
    window: u64,
    valid: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, window: 0, valid: 0 }
    }

    /// Makes at least 56 bits valid, or all that are left.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if let Some(next) = self.rest.first_chunk::<8>() {
            self.window |= u64::from_be_bytes(*next) >> self.valid;
            let bytes = (63 - self.valid) >> 3;
            self.rest = &self.rest[bytes as usize..];
            self.valid += bytes << 3;
        } else {
            self.refill_from_tail();
        }
    }

    #[cold]
    fn refill_from_tail(&mut self) {
        while self.valid <= 56
            && let Some((byte, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(*byte) << (56 - self.valid);
            self.valid += 8;
            self.rest = rest;
        }
    }

    /// Returns how many bits are left, the valid ones included.
    pub(super) fn remaining(&self) -> u64 {
        self.rest.len() as u64 * 8 + u64::from(self.valid)
    }

    /// Returns the next bits from the top, as far as the last [`Self::refill`] made them valid.
    #[inline(always)]
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Skips `count` bits, at most 63; `None` where fewer are valid.
    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        self.valid = self.valid.checked_sub(count)?;
        self.window <<= count;
        Some(())
    }

    /// Takes `count` bits, 1 to 64, of which at most the first 56 need be valid.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        if count <= self.valid && count < 64 {
            let value = self.window >> (64 - count);
            self.window <<= count;
            self.valid -= count;
            return Some(value);
        }
        self.take_refilling(count)
    }

    fn take_refilling(&mut self, count: u32) -> Option<u64> {
        self.refill();
        let (high, low) = if count > 32 { (32, count - 32) } else { (count, 0) };
        let mut value = self.window >> (64 - high);
        self.skip(high)?;
        if low > 0 {
            self.refill();
            value = (value << low) | (self.window >> (64 - low));
            self.skip(low)?;
        }
        Some(value)
    }
}
