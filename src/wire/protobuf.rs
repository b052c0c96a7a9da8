//! A cursor over protobuf's wire format: borrowed bytes, no recursion, no allocation.

use super::error::Malformed;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// A message being read: the bytes up to its end, and the place in them. A nested message shares the bytes of
/// the outer one, so that places stay places in the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(super) const fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    /// Returns the bytes between two places that were passed.
    pub(super) fn between(&self, start: usize, end: usize) -> &'a [u8] {
        &self.bytes[start..end]
    }

    #[cold]
    pub(super) const fn refuse(&self, what: &'static str) -> Malformed {
        Malformed { at: self.at, what }
    }

    /// Reads a field's tag: number and wire type as `number << 3 | type`.
    #[inline]
    pub(super) fn tag(&mut self) -> Result<u32, Malformed> {
        let tag = match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                u32::from(*byte)
            }
            _ => {
                let wide = self.varint()?;
                u32::try_from(wide).map_err(|_| self.refuse("a field number is too large"))?
            }
        };
        if tag >> 3 == 0 { Err(self.refuse("a field has number 0")) } else { Ok(tag) }
    }

    /// Reads a varint of at most ten bytes.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            Some(low) => match self.bytes.get(self.at + 1) {
                Some(high) if *high < 0x80 => {
                    self.at += 2;
                    Ok(u64::from(*low & 0x7F) | (u64::from(*high) << 7))
                }
                _ => self.long_varint(),
            },
            None => self.long_varint(),
        }
    }

    #[inline]
    pub(super) const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                if i == 9 && *byte > 1 {
                    return Err(self.refuse("a number has more than 64 bits"));
                }
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.refuse("a number is cut off or longer than ten bytes"))
    }

    /// Reads a number whose sign is folded into its lowest bit.
    #[inline]
    pub(super) fn zigzag(&mut self) -> Result<i64, Malformed> {
        let folded = self.varint()?;
        Ok((folded >> 1).cast_signed() ^ -((folded & 1).cast_signed()))
    }

    /// Reads eight bytes.
    #[inline]
    pub(super) fn fixed64(&mut self) -> Result<u64, Malformed> {
        match self.bytes[self.at..].first_chunk::<8>() {
            Some(bytes) => {
                self.at += 8;
                Ok(u64::from_le_bytes(*bytes))
            }
            None => Err(self.refuse("a fixed-width number is cut off")),
        }
    }

    /// Reads a length and returns where the field of that length ends.
    #[inline]
    fn field_end(&mut self) -> Result<usize, Malformed> {
        let len = self.varint()?;
        let left = self.bytes.len() - self.at;
        match usize::try_from(len) {
            Ok(len) if len <= left => Ok(self.at + len),
            _ => Err(self.refuse("a field is longer than what holds it")),
        }
    }

    /// Enters a nested message.
    #[inline]
    pub(super) fn message(&mut self) -> Result<Self, Malformed> {
        let end = self.field_end()?;
        let nested = Self { bytes: &self.bytes[..end], at: self.at };
        self.at = end;
        Ok(nested)
    }

    /// Reads a string or bytes field.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.field_end()?;
        let field = &self.bytes[self.at..end];
        self.at = end;
        Ok(field)
    }

    /// Steps over a length-delimited field.
    #[inline]
    pub(super) fn step_over(&mut self) -> Result<(), Malformed> {
        self.at = self.field_end()?;
        Ok(())
    }

    /// Steps over the fields that follow with this tag, as long as their lengths take one byte.
    #[inline]
    pub(super) fn step_over_run(&mut self, tag: u8) {
        while let Some([next, len]) = self.bytes[self.at..].first_chunk::<2>()
            && *next == tag
            && *len < 0x80
            && usize::from(*len) + 2 <= self.bytes.len() - self.at
        {
            self.at += usize::from(*len) + 2;
        }
    }

    /// Steps over a field that the message does not define. Numbers up to `known` are defined and get here with a
    /// wrong wire type only: they are refused, as skipping them would lose what the sender meant.
    #[cold]
    pub(super) fn skip_unknown(&mut self, tag: u32, known: u32) -> Result<(), Malformed> {
        if tag >> 3 <= known {
            return Err(self.refuse("a field has another wire type than its message defines"));
        }
        match tag & 7 {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.fixed64().map(|_| ()),
            LENGTH => self.step_over(),
            FIXED32 if self.bytes.len() - self.at >= 4 => {
                self.at += 4;
                Ok(())
            }
            FIXED32 => Err(self.refuse("a fixed-width number is cut off")),
            _ => Err(self.refuse("a field is a group, which these messages never hold")),
        }
    }
}
