//! Numbers in records: read within bounds, and written.

use super::{RecordError, RecordKind};

/// Reads a record from front to back.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    len: usize,
    kind: RecordKind,
}

impl<'a> Cursor<'a> {
    /// Takes a record of this kind and stands after its first byte.
    pub(super) fn new(kind: RecordKind, data: &'a [u8]) -> Self {
        Self { rest: data.get(1..).unwrap_or_default(), len: data.len(), kind }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn kind(&self) -> RecordKind {
        self.kind
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[cold]
    fn cut_off(&self) -> RecordError {
        RecordError::CutOff { kind: self.kind, offset: self.len - self.rest.len() }
    }

    #[cold]
    pub(super) fn bad_number(&self) -> RecordError {
        RecordError::Number { kind: self.kind, offset: self.len - self.rest.len() }
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, RecordError> {
        let Some((byte, rest)) = self.rest.split_first() else { return Err(self.cut_off()) };
        self.rest = rest;
        Ok(*byte)
    }

    #[inline]
    pub(super) fn be64(&mut self) -> Result<u64, RecordError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<8>() else { return Err(self.cut_off()) };
        self.rest = rest;
        Ok(u64::from_be_bytes(*bytes))
    }

    /// Reads a time that nothing follows.
    pub(super) fn whole_time(&mut self) -> Result<i64, RecordError> {
        let time = self.be64()? as i64;
        if self.is_empty() { Ok(time) } else { Err(self.bad_number()) }
    }

    pub(super) fn float(&mut self) -> Result<f64, RecordError> {
        self.be64().map(f64::from_bits)
    }

    #[inline]
    pub(super) fn uvarint(&mut self) -> Result<u64, RecordError> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*low & 0x7F) | u64::from(*high) << 7)
            }
            _ => self.long_uvarint(),
        }
    }

    fn long_uvarint(&mut self) -> Result<u64, RecordError> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(*byte & 0x7F) << (7 * i);
            if *byte < 0x80 {
                // The tenth byte holds the last bit.
                if i == 9 && *byte > 1 {
                    return Err(self.bad_number());
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { self.cut_off() } else { self.bad_number() })
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<i64, RecordError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn uvarint32(&mut self) -> Result<u32, RecordError> {
        let value = self.uvarint()?;
        u32::try_from(value).map_err(|_| self.bad_number())
    }

    pub(super) fn varint32(&mut self) -> Result<i32, RecordError> {
        let value = self.varint()?;
        i32::try_from(value).map_err(|_| self.bad_number())
    }

    /// Reads how many elements follow, if elements of at least so many bytes can.
    pub(super) fn count(&mut self, element_bytes: usize) -> Result<usize, RecordError> {
        let count = self.uvarint()?;
        if count > (self.rest.len() / element_bytes) as u64 {
            return Err(self.cut_off());
        }
        Ok(count as usize)
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], RecordError> {
        let len = self.count(1)?;
        self.skip(len)
    }

    pub(super) fn skip(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else { return Err(self.cut_off()) };
        self.rest = rest;
        Ok(bytes)
    }
}

#[inline]
pub(super) fn put_uvarint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(super) fn put_varint(value: i64, out: &mut Vec<u8>) {
    put_uvarint((value << 1 ^ value >> 63) as u64, out);
}

#[inline]
pub(super) fn put_be64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    put_uvarint(text.len() as u64, out);
    out.extend_from_slice(text);
}
