//! The XOR chunk: `count BE16`, then samples. Sample 0 is `varint t, 64 bits v`; sample 1 is `uvarint t - t0` and
//! a value; every later one a delta of deltas and a value. Bits start after sample 1's time.
//!
//! A delta of deltas is `0` for none, else `10` + 14 bits, `110` + 17, `1110` + 20 or `1111` + 64, where an N-bit
//! number reaches from -(2^(N-1) - 1) to 2^(N-1). A value is XORed with the one before: `0` for no difference,
//! `10` + the bits of the window in use, or `11` + 5 bits of leading zeros + 6 bits of width + a new window.

use super::TsdbError;
use super::bits::{BitReader, BitWriter};

/// How many samples a chunk of an answer holds at most, as in Prometheus' own head.
pub const CHUNK_SAMPLES: u16 = 120;

/// The times and bytes of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Time of the first sample.
    pub min_time_ms: i64,
    /// Time of the last sample, inclusive.
    pub max_time_ms: i64,
    /// The chunk as StoreAPI and remote read send it: without length, encoding byte and checksum.
    pub data: &'a [u8],
}

/// Encodes one series' samples into chunks, all in one buffer that is reused from series to series.
///
/// Push samples in order of time, [`Self::finish`], iterate, [`Self::clear`].
#[derive(Debug)]
pub struct XorChunks {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    open: XorEncoder,
    chunk_samples: u16,
}

/// Where a finished chunk ends in the buffer, and its times.
#[derive(Debug)]
struct Span {
    min_time_ms: i64,
    max_time_ms: i64,
    end: usize,
}

impl Default for XorChunks {
    fn default() -> Self {
        Self::with_chunk_samples(CHUNK_SAMPLES)
    }
}

impl XorChunks {
    /// Makes an empty run whose chunks hold at most so many samples (at least one).
    #[must_use]
    pub fn with_chunk_samples(chunk_samples: u16) -> Self {
        Self {
            bytes: Vec::new(),
            spans: Vec::new(),
            open: XorEncoder::default(),
            chunk_samples: chunk_samples.max(1),
        }
    }

    /// Appends a sample, cutting a chunk where the open one is full.
    #[inline]
    pub fn push(&mut self, ts_ms: i64, value: f64) {
        self.open.push(&mut self.bytes, ts_ms, value.to_bits());
        if self.open.count == self.chunk_samples {
            self.finish();
        }
    }

    /// Closes the open chunk, if there is one. The next sample starts another.
    pub fn finish(&mut self) {
        if self.open.count > 0 {
            let (min_time_ms, max_time_ms) = (self.open.first_ms, self.open.ts_ms);
            std::mem::take(&mut self.open).finish(&mut self.bytes);
            self.spans.push(Span { min_time_ms, max_time_ms, end: self.bytes.len() });
        }
    }

    /// Forgets all chunks and keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.open = XorEncoder::default();
    }

    /// Returns the finished chunks, in the order of pushing.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Chunk<'_>> + Clone {
        self.spans.iter().enumerate().map(|(i, span)| {
            let start = if i == 0 { 0 } else { self.spans[i - 1].end };
            Chunk {
                min_time_ms: span.min_time_ms,
                max_time_ms: span.max_time_ms,
                data: &self.bytes[start..span.end],
            }
        })
    }

    /// Returns how many chunks are finished.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns whether no chunk is finished.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns how many bytes are in the buffer, the open chunk's so far included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

/// No window is open: more leading zeros than any difference has.
const NO_WINDOW: u32 = u32::MAX;

/// An open chunk, in a buffer that is passed along.
#[derive(Debug)]
pub(super) struct XorEncoder {
    bits: BitWriter,
    start: usize,
    first_ms: i64,
    ts_ms: i64,
    delta_ms: i64,
    value: u64,
    leading: u32,
    trailing: u32,
    count: u16,
}

impl Default for XorEncoder {
    fn default() -> Self {
        Self {
            bits: BitWriter::default(),
            start: 0,
            first_ms: 0,
            ts_ms: 0,
            delta_ms: 0,
            value: 0,
            leading: NO_WINDOW,
            trailing: 0,
            count: 0,
        }
    }
}

impl XorEncoder {
    /// Returns how many samples the chunk holds.
    #[inline(always)]
    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Returns the time of the last sample.
    pub(super) fn last_ms(&self) -> i64 {
        self.ts_ms
    }

    /// Appends a sample.
    #[inline(always)]
    pub(super) fn push(&mut self, out: &mut Vec<u8>, ts_ms: i64, value: u64) {
        if self.count < 2 {
            self.push_early(out, ts_ms, value);
        } else {
            let delta_ms = ts_ms.wrapping_sub(self.ts_ms);
            let delta_of_delta = delta_ms.wrapping_sub(self.delta_ms);
            self.delta_ms = delta_ms;
            self.put_delta(out, delta_of_delta);
            self.put_value(out, value);
        }
        self.ts_ms = ts_ms;
        self.value = value;
        self.count += 1;
    }

    fn push_early(&mut self, out: &mut Vec<u8>, ts_ms: i64, value: u64) {
        if self.count == 0 {
            self.start = out.len();
            self.first_ms = ts_ms;
            out.extend_from_slice(&[0, 0]);
            put_uvarint(out, ((ts_ms << 1) ^ (ts_ms >> 63)) as u64);
            out.extend_from_slice(&value.to_be_bytes());
        } else {
            self.delta_ms = ts_ms.wrapping_sub(self.ts_ms);
            put_uvarint(out, self.delta_ms as u64);
            self.put_value(out, value);
        }
    }

    #[inline(always)]
    fn put_delta(&mut self, out: &mut Vec<u8>, dod: i64) {
        let fits = |bits: u32| (-(1i64 << (bits - 1)) + 1..=1i64 << (bits - 1)).contains(&dod);
        let low = |bits: u32| dod as u64 & ((1 << bits) - 1);
        if dod == 0 {
            self.bits.put(out, 0, 1);
        } else if fits(14) {
            self.bits.put(out, (0b10 << 14) | low(14), 16);
        } else if fits(17) {
            self.bits.put(out, (0b110 << 17) | low(17), 20);
        } else if fits(20) {
            self.bits.put(out, (0b1110 << 20) | low(20), 24);
        } else {
            self.bits.put(out, 0b1111, 4);
            self.bits.put(out, dod as u64, 64);
        }
    }

    #[inline(always)]
    fn put_value(&mut self, out: &mut Vec<u8>, value: u64) {
        let difference = value ^ self.value;
        if difference == 0 {
            self.bits.put(out, 0, 1);
            return;
        }
        // Five bits hold no more than 31.
        let leading = difference.leading_zeros().min(31);
        let trailing = difference.trailing_zeros();
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            let width = 64 - self.leading - self.trailing;
            self.put_window(out, 0b10, 2, difference >> self.trailing, width);
        } else {
            (self.leading, self.trailing) = (leading, trailing);
            let width = 64 - leading - trailing;
            // A width of 64 is written as 0.
            let head = (0b11 << 11) | (u64::from(leading) << 6) | u64::from(width & 63);
            self.put_window(out, head, 13, difference >> trailing, width);
        }
    }

    #[inline(always)]
    fn put_window(&mut self, out: &mut Vec<u8>, head: u64, head_bits: u32, window: u64, width: u32) {
        if head_bits + width <= 64 {
            self.bits.put(out, (head << width) | window, head_bits + width);
        } else {
            self.bits.put(out, head, head_bits);
            self.bits.put(out, window, width);
        }
    }

    /// Closes the chunk, which holds a sample at least.
    pub(super) fn finish(mut self, out: &mut Vec<u8>) {
        self.bits.finish(out);
        out[self.start..self.start + 2].copy_from_slice(&self.count.to_be_bytes());
    }
}

/// Iterates over the samples of one chunk. After an error it is at its end.
#[derive(Debug, Clone)]
pub struct XorDecoder<'a> {
    bits: BitReader<'a>,
    /// What follows the last byte-aligned part; used before the bits start.
    head: &'a [u8],
    ts_ms: i64,
    delta_ms: i64,
    value: u64,
    leading: u32,
    width: u32,
    next: u16,
    count: u16,
}

impl<'a> XorDecoder<'a> {
    /// Starts at the first sample. Bytes without a whole count hold no samples.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        let (count, head) = match data.split_first_chunk::<2>() {
            Some((count, head)) => (u16::from_be_bytes(*count), head),
            None => (0, data),
        };
        Self {
            bits: BitReader::new(&[]),
            head,
            ts_ms: 0,
            delta_ms: 0,
            value: 0,
            leading: 0,
            width: 64,
            next: 0,
            count,
        }
    }

    /// Returns how many samples the chunk says it holds.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    fn cut_off(&self) -> TsdbError {
        TsdbError::CutOff { sample: self.next, count: self.count }
    }

    fn read_early(&mut self) -> Result<(), TsdbError> {
        let (number, rest) = take_uvarint(self.head).ok_or_else(|| self.cut_off())?;
        if self.next == 0 {
            let (value, rest) = rest.split_first_chunk::<8>().ok_or_else(|| self.cut_off())?;
            self.ts_ms = (number >> 1) as i64 ^ -((number & 1) as i64);
            self.value = u64::from_be_bytes(*value);
            self.head = rest;
            return Ok(());
        }
        self.delta_ms = number as i64;
        self.ts_ms = self.ts_ms.wrapping_add(self.delta_ms);
        self.bits = BitReader::new(rest);
        self.bits.refill();
        self.read_value()
    }

    #[inline(always)]
    fn read_late(&mut self) -> Result<(), TsdbError> {
        self.bits.refill();
        let dod = self.read_delta().ok_or_else(|| self.cut_off())?;
        self.delta_ms = self.delta_ms.wrapping_add(dod);
        self.ts_ms = self.ts_ms.wrapping_add(self.delta_ms);
        self.read_value()
    }

    #[inline(always)]
    fn read_delta(&mut self) -> Option<i64> {
        let window = self.bits.window();
        let (prefix, width) = match (!window).leading_zeros() {
            0 => {
                self.bits.skip(1)?;
                return Some(0);
            }
            1 => (2, 14),
            2 => (3, 17),
            3 => (4, 20),
            _ => {
                self.bits.skip(4)?;
                let dod = self.bits.take(64)?;
                self.bits.refill();
                return Some(dod as i64);
            }
        };
        self.bits.skip(prefix + width)?;
        let number = ((window << prefix) >> (64 - width)) as i64;
        Some(if number > 1 << (width - 1) { number - (1 << width) } else { number })
    }

    /// Needs 13 valid bits, or all that are left.
    #[inline(always)]
    fn read_value(&mut self) -> Result<(), TsdbError> {
        let window = self.bits.window();
        if window >> 63 == 0 {
            return self.bits.skip(1).ok_or_else(|| self.cut_off());
        }
        if window >> 62 == 0b10 {
            self.bits.skip(2).ok_or_else(|| self.cut_off())?;
        } else {
            self.bits.skip(13).ok_or_else(|| self.cut_off())?;
            let leading = (window >> 57) as u32 & 31;
            let width = match (window >> 51) as u32 & 63 {
                0 => 64,
                width => width,
            };
            if leading + width > 64 {
                return Err(TsdbError::BadWindow { sample: self.next, leading, significant: width });
            }
            (self.leading, self.width) = (leading, width);
        }
        let difference = self.bits.take(self.width).ok_or_else(|| self.cut_off())?;
        self.value ^= difference << (64 - self.leading - self.width);
        Ok(())
    }
}

impl Iterator for XorDecoder<'_> {
    type Item = Result<(i64, f64), TsdbError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        let read = if self.next < 2 { self.read_early() } else { self.read_late() };
        Some(match read {
            Ok(()) => {
                self.next += 1;
                Ok((self.ts_ms, f64::from_bits(self.value)))
            }
            Err(error) => {
                self.next = self.count;
                Err(error)
            }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.count - self.next)))
    }
}

impl std::iter::FusedIterator for XorDecoder<'_> {}

fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint of at most ten bytes that fits into 64 bits.
fn take_uvarint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}
