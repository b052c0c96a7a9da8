//! The bytes of an object: a header, and in an entry with samples one frame as in a segment.

use bytes::Bytes;

use super::super::Entry;
use super::super::bytes::Reader;
use super::super::columns::{Declared, decode_body};
use super::super::error::CodecError;
use super::super::frame::{FRAME_BYTES, FrameDecoder, FrameEncoder, FrameHeader};
use crate::model::{Labels, Ulid};

/// The format version that is written, and the newest that is read.
pub(in super::super) const VERSION: u16 = 1;
/// The layout of the bodies in it: that of segments of this version.
const BODY_VERSION: u16 = 2;
/// The longest name of a receiver.
pub(in super::super) const NAME_BYTES_MAX: usize = 255;
/// The most bytes of external labels.
pub(in super::super) const EXTERNAL_BYTES_MAX: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"PRNL-OBJ";

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// An entry of the epoch, which may hold nothing.
    Entry,
    /// The end of the epoch: nothing of it has this number or a later one.
    Seal,
    /// Says that blocks hold the whole epoch and that its entries are garbage. Follows the seal.
    Released,
}

/// What every object says about itself and its epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHeader {
    /// What it is.
    pub kind: ObjectKind,
    /// The epoch.
    pub epoch: Ulid,
    /// Its sequence number.
    pub seq: u64,
    /// The first entry of its generation: series numbers mean something from there on.
    pub generation: u64,
    /// Blocks hold the entries up to here, and they may be deleted.
    pub released: u64,
    /// Makes the bytes of any two objects different.
    pub nonce: u64,
    /// Whose epoch it is.
    pub receiver: String,
    /// Who wrote this object.
    pub by: String,
    /// The external labels of the epoch's samples.
    pub external_labels: Labels,
}

impl ObjectKind {
    const fn code(self) -> u8 {
        match self {
            Self::Entry => 0,
            Self::Seal => 1,
            Self::Released => 2,
        }
    }

    fn from_code(code: u8) -> Result<Self, CodecError> {
        match code {
            0 => Ok(Self::Entry),
            1 => Ok(Self::Seal),
            2 => Ok(Self::Released),
            _ => Err(CodecError::Malformed("the kind of the object is not known")),
        }
    }
}

impl ObjectHeader {
    /// Encodes an object without samples.
    pub(in super::super) fn encode(&self) -> Bytes {
        self.encode_header().0.into()
    }

    /// Encodes an entry with the body of its samples.
    pub(in super::super) fn encode_entry(
        &self,
        body: &[u8],
        frames: &mut FrameEncoder,
    ) -> std::io::Result<Bytes> {
        let (mut out, seed) = self.encode_header();
        out.extend_from_slice(frames.encode(self.seq, body, seed)?);
        Ok(out.into())
    }

    fn encode_header(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.push(self.kind.code());
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        for number in [self.seq, self.generation, self.released, self.nonce] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for name in [&self.receiver, &self.by] {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
        }
        let labels = self.external_labels.as_bytes();
        out.extend_from_slice(&(labels.len() as u32).to_le_bytes());
        out.extend_from_slice(labels);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        (out, crc)
    }
}

/// An object as read: its header, and where its frame starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct DecodedObject {
    pub(in super::super) header: ObjectHeader,
    frame_at: usize,
    seed: u32,
}

/// Decodes the header of an object; what follows is only looked at by [`DecodedObject::entry`].
pub(in super::super) fn decode_object(bytes: &[u8]) -> Result<DecodedObject, CodecError> {
    let mut reader = Reader::new(bytes);
    if reader.array::<8>()? != MAGIC {
        return Err(CodecError::Malformed("this is not an object of a log"));
    }
    let version = reader.u16()?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let kind = ObjectKind::from_code(reader.u8()?)?;
    let epoch = Ulid(reader.u128_be()?);
    let (seq, generation) = (reader.u64()?, reader.u64()?);
    let (released, nonce) = (reader.u64()?, reader.u64()?);
    let (receiver, by) = (decode_name(&mut reader)?, decode_name(&mut reader)?);
    let labels = reader.count(1)?;
    let labels = reader.take(labels)?;
    let covered = bytes.len() - reader.remaining();
    let seed = reader.u32()?;
    if crc32c::crc32c(&bytes[..covered]) != seed {
        return Err(CodecError::Malformed("the checksum of the header does not match"));
    }
    let external_labels = Labels::from_canonical(labels)
        .map_err(|_| CodecError::Malformed("the external labels are not in canonical form"))?;
    if seq == 0 || generation == 0 || generation > seq || released >= seq {
        return Err(CodecError::Malformed("the sequence numbers contradict each other"));
    }
    let header =
        ObjectHeader { kind, epoch, seq, generation, released, nonce, receiver, by, external_labels };
    Ok(DecodedObject { header, frame_at: covered + 4, seed })
}

fn decode_name(reader: &mut Reader<'_>) -> Result<String, CodecError> {
    let len = usize::from(reader.u8()?);
    let name = std::str::from_utf8(reader.take(len)?);
    name.map(str::to_owned).map_err(|_| CodecError::Malformed("a receiver's name is not UTF-8"))
}

impl DecodedObject {
    /// Decodes what the entry holds. `declared` holds what earlier entries of the generation declared.
    pub(in super::super) fn entry(
        &self,
        bytes: &[u8],
        frames: &mut FrameDecoder,
        declared: &mut Declared,
    ) -> Result<Entry, CodecError> {
        let seq = self.header.seq;
        let frame = bytes.get(self.frame_at..).ok_or(CodecError::Cut)?;
        if frame.is_empty() {
            return Ok(Entry { seq, tenants: Vec::new() });
        }
        let header = FrameHeader::decode(frame)?;
        if frame.len() != FRAME_BYTES + header.stored {
            return Err(CodecError::Cut);
        }
        header.verify(frame, self.seed)?;
        if header.seq != seq {
            return Err(CodecError::Malformed("the sequence numbers contradict each other"));
        }
        decode_body((seq, BODY_VERSION), frames.body(&header, &frame[FRAME_BYTES..])?, declared)
    }
}

/// Feeds any bytes to the decoder of objects. Must neither panic nor allocate more than a small multiple of them.
pub fn fuzz_log_object(data: &[u8]) {
    let Ok(object) = decode_object(data) else { return };
    assert!(object.frame_at <= data.len(), "a decoder read past its input");
    if let Ok(mut frames) = FrameDecoder::new() {
        let _ = object.entry(data, &mut frames, &mut Declared::default());
    }
}
