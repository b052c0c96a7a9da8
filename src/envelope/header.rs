//! The clear part in front of a sealed object: who can open it, and how.

use std::io::Read;

use super::EnvelopeError;
use super::frames::read_full;

/// How a sealed object begins. No plain object of ours begins so.
pub(super) const MAGIC: &[u8; 4] = b"PENV";

/// The format that is written, and the newest that is read.
pub(super) const VERSION: u8 = 1;

/// Room that a header with a few recipients needs.
pub(super) const BYTES_USUAL: usize = 1024;

const BODY_BYTES_MAX: usize = 64 << 10;
const SCHEME_BYTES_MAX: usize = 32;
const RECIPIENTS_MAX: usize = 64;
const RECIPIENT_BYTES_MAX: usize = 256;
const WRAPPED_BYTES_MAX: usize = 32 << 10;
/// Magic, version and the body's length.
const PREFIX_BYTES: usize = 9;
const CHECKSUM_BYTES: usize = 4;

/// The header without what frames it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) scheme: String,
    pub(super) recipients: Vec<String>,
    pub(super) wrapped: Vec<u8>,
}

impl Header {
    /// Returns the header's bytes, magic and checksum included.
    pub(super) fn encode(&self) -> Result<Vec<u8>, EnvelopeError> {
        self.check()?;
        let mut out = Vec::with_capacity(BYTES_USUAL);
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&[0; 4]);
        push_short(&mut out, self.scheme.as_bytes());
        out.push(u8::try_from(self.recipients.len()).unwrap_or(u8::MAX));
        for recipient in &self.recipients {
            push_long(&mut out, recipient.as_bytes());
        }
        push_long(&mut out, &self.wrapped);
        let body_bytes = u32::try_from(out.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
        out[5..PREFIX_BYTES].copy_from_slice(&body_bytes.to_le_bytes());
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        Ok(out)
    }

    /// Reads a header after its magic. Returns it with all its bytes, magic and checksum included.
    pub(super) fn read(name: &str, stored: &mut dyn Read) -> Result<(Self, Vec<u8>), EnvelopeError> {
        let failed = |source| EnvelopeError::Stream { name: name.to_owned(), source };
        let short = || EnvelopeError::damaged(name, "it ends within its header");
        let mut bytes = vec![0; PREFIX_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        let rest = &mut bytes[MAGIC.len()..];
        if read_full(stored, rest).map_err(failed)? < rest.len() {
            return Err(short());
        }
        let body_bytes = u32::from_le_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) as usize;
        if bytes[4] != VERSION {
            return Err(EnvelopeError::Version { name: name.to_owned(), found: bytes[4], known: VERSION });
        }
        if body_bytes > BODY_BYTES_MAX {
            return Err(EnvelopeError::damaged(name, "its header has an impossible length"));
        }
        bytes.resize(PREFIX_BYTES + body_bytes + CHECKSUM_BYTES, 0);
        let rest = &mut bytes[PREFIX_BYTES..];
        if read_full(stored, rest).map_err(failed)? < rest.len() {
            return Err(short());
        }
        let (covered, checksum) = bytes.split_at(PREFIX_BYTES + body_bytes);
        if crc32c::crc32c(covered).to_le_bytes() != checksum {
            return Err(EnvelopeError::damaged(name, "the checksum of its header does not fit"));
        }
        let body = &covered[PREFIX_BYTES..];
        let header =
            decode_body(body).ok_or_else(|| EnvelopeError::damaged(name, "its header is not in form"))?;
        Ok((header, bytes))
    }

    fn is_in_form(&self) -> bool {
        let scheme = self.scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let printable = |r: &String| r.len() <= RECIPIENT_BYTES_MAX && !r.chars().any(char::is_control);
        scheme
            && (1..=SCHEME_BYTES_MAX).contains(&self.scheme.len())
            && self.recipients.len() <= RECIPIENTS_MAX
            && self.recipients.iter().all(printable)
            && self.wrapped.len() <= WRAPPED_BYTES_MAX
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        if self.is_in_form() {
            return Ok(());
        }
        let reason = format!(
            "at most {RECIPIENTS_MAX} of {RECIPIENT_BYTES_MAX} printable bytes, a scheme of at most \
             {SCHEME_BYTES_MAX} of a-z 0-9 - and {WRAPPED_BYTES_MAX} bytes of wrapped key are allowed"
        );
        Err(EnvelopeError::Recipients { reason })
    }
}

fn decode_body(mut body: &[u8]) -> Option<Header> {
    let length = usize::from(*take(&mut body, 1)?.first()?);
    let scheme = text(take(&mut body, length)?)?;
    let count = usize::from(*take(&mut body, 1)?.first()?);
    let mut recipients = Vec::new();
    for _ in 0..count.min(RECIPIENTS_MAX + 1) {
        recipients.push(text(take_long(&mut body)?)?);
    }
    let wrapped = take_long(&mut body)?.to_vec();
    let header = Header { scheme, recipients, wrapped };
    (body.is_empty() && header.is_in_form()).then_some(header)
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn take<'a>(body: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(head)
}

fn take_long<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(body, 2)?;
    take(body, usize::from(u16::from_le_bytes([length[0], length[1]])))
}

fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(bytes);
}

fn push_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}
