//! The header of a segment, and the link to the segment before it.

use super::bytes::Reader;
use super::error::CodecError;
use crate::model::Ulid;

/// The format version that is written, and the newest that is read. Version 1 had float samples only.
pub(super) const VERSION: u16 = 2;
/// The longest receiver name.
pub(super) const RECEIVER_BYTES_MAX: usize = 255;
/// The header's length but for the receiver's name.
pub(super) const HEADER_BYTES_FIXED: usize = 8 + 2 + 16 + 8 + LINK_BYTES + 1 + 4;

const MAGIC: [u8; 8] = *b"PRNL-LOG";
const LINK_BYTES: usize = 16 + 8 + 8 + 8;

/// Where a segment ended: what its successor's header records about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentLink {
    pub(super) epoch: Ulid,
    pub(super) first_seq: u64,
    /// The last sequence number in it; one less than `first_seq` where it holds no entry.
    pub(super) last_seq: u64,
    /// Its length in bytes. What lies beyond was never acknowledged.
    pub(super) length: u64,
}

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) epoch: Ulid,
    pub(super) receiver: String,
    pub(super) first_seq: u64,
    pub(super) previous: Option<SegmentLink>,
}

/// A header as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DecodedHeader {
    pub(super) header: SegmentHeader,
    pub(super) start: EntriesStart,
}

/// Where and how the entries of a segment start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntriesStart {
    /// The length of the header.
    pub(super) offset: usize,
    /// The checksum of the header, which seeds those of the entries.
    pub(super) seed: u32,
    /// The version of the format.
    pub(super) version: u16,
}

impl SegmentHeader {
    /// Encodes the header and returns it with its checksum.
    pub(super) fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(HEADER_BYTES_FIXED + self.receiver.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        match &self.previous {
            Some(link) => {
                out.extend_from_slice(&link.epoch.0.to_be_bytes());
                for number in [link.first_seq, link.last_seq, link.length] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }
            None => out.extend_from_slice(&[0; LINK_BYTES]),
        }
        out.push(self.receiver.len() as u8);
        out.extend_from_slice(self.receiver.as_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        (out, crc)
    }
}

/// Decodes the header at the start of a segment.
pub(super) fn decode_header(bytes: &[u8]) -> Result<DecodedHeader, CodecError> {
    let mut reader = Reader::new(bytes);
    if reader.array::<8>()? != MAGIC {
        return Err(CodecError::Malformed("this is not a log segment"));
    }
    let version = reader.u16()?;
    if version == 0 || version > VERSION {
        return Err(CodecError::Version(version));
    }
    let epoch = Ulid(reader.u128_be()?);
    let first_seq = reader.u64()?;
    let previous = decode_link(&mut reader)?;
    let receiver_len = usize::from(reader.u8()?);
    let receiver = reader.take(receiver_len)?;
    let covered = bytes.len() - reader.remaining();
    let seed = reader.u32()?;
    if crc32c::crc32c(&bytes[..covered]) != seed {
        return Err(CodecError::Malformed("the checksum of the segment header does not match"));
    }
    if first_seq == 0 {
        return Err(CodecError::Malformed("a segment starts at sequence number 0"));
    }
    let receiver = std::str::from_utf8(receiver)
        .map_err(|_| CodecError::Malformed("the receiver name is not UTF-8"))?
        .to_owned();
    let header = SegmentHeader { epoch, receiver, first_seq, previous };
    Ok(DecodedHeader { header, start: EntriesStart { offset: covered + 4, seed, version } })
}

fn decode_link(reader: &mut Reader<'_>) -> Result<Option<SegmentLink>, CodecError> {
    let epoch = Ulid(reader.u128_be()?);
    let (first_seq, last_seq, length) = (reader.u64()?, reader.u64()?, reader.u64()?);
    Ok((first_seq != 0).then_some(SegmentLink { epoch, first_seq, last_seq, length }))
}
