//! A slow, plain decoder of XOR chunks, so that what comes over StoreAPI and remote read is read by other code than
//! wrote it.

struct Bits<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> u64 {
        (0..count).fold(0, |value, _| {
            let bit = (self.bytes[self.position / 8] >> (7 - self.position % 8)) & 1;
            self.position += 1;
            (value << 1) | u64::from(bit)
        })
    }

    fn uvarint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.take(8);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn varint(&mut self) -> i64 {
        let zigzag = self.uvarint();
        (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
    }

    fn delta_of_delta(&mut self) -> i64 {
        let ones = (0..4).take_while(|_| self.take(1) == 1).count();
        let width = match ones {
            0 => return 0,
            1 => 14,
            2 => 17,
            3 => 20,
            _ => return self.take(64).cast_signed(),
        };
        let raw = self.take(width).cast_signed();
        if raw > 1 << (width - 1) { raw - (1 << width) } else { raw }
    }
}

/// Returns the `(ms, bits)` of an XOR chunk's payload.
pub(super) fn decode_xor(payload: &[u8]) -> Vec<(i64, u64)> {
    let count = usize::from(u16::from_be_bytes([payload[0], payload[1]]));
    let mut bits = Bits { bytes: payload, position: 16 };
    let (mut ts, mut value, mut delta) = (0i64, 0u64, 0i64);
    let (mut leading, mut trailing) = (0usize, 0usize);
    let mut samples = Vec::with_capacity(count);
    for number in 0..count {
        match number {
            0 => {
                ts = bits.varint();
                value = bits.take(64);
                samples.push((ts, value));
                continue;
            }
            1 => delta = bits.uvarint().cast_signed(),
            _ => delta = delta.wrapping_add(bits.delta_of_delta()),
        }
        ts = ts.wrapping_add(delta);
        if bits.take(1) == 1 {
            if bits.take(1) == 1 {
                leading = usize::try_from(bits.take(5)).unwrap();
                let width = usize::try_from(bits.take(6)).unwrap();
                trailing = 64 - leading - if width == 0 { 64 } else { width };
            }
            value ^= bits.take(64 - leading - trailing) << trailing;
        }
        samples.push((ts, value));
    }
    samples
}
