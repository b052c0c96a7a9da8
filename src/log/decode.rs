//! A whole segment as bytes: what tests and fuzzers drive, and the same steps that replay takes from a file.

use super::Entry;
use super::columns::{Declared, decode_body};
use super::error::CodecError;
use super::frame::{FRAME_BYTES, FrameDecoder, FrameHeader};
use super::segment::{EntriesStart, VERSION, decode_header};

/// Decodes entries of one segment, one after the other.
#[derive(Debug)]
pub(super) struct EntryDecoder {
    start: EntriesStart,
    next_seq: u64,
    declared: Declared,
    frames: FrameDecoder,
}

impl EntryDecoder {
    pub(super) fn new(start: EntriesStart, first_seq: u64) -> Result<Self, CodecError> {
        let frames = FrameDecoder::new().map_err(|_| CodecError::Malformed("zstd cannot be started"))?;
        Ok(Self { start, next_seq: first_seq, declared: Declared::default(), frames })
    }

    /// Returns the sequence number that the next entry must have.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Decodes a whole entry, its fixed part included.
    pub(super) fn decode(&mut self, header: &FrameHeader, entry: &[u8]) -> Result<Entry, CodecError> {
        header.verify(entry, self.start.seed)?;
        if header.seq != self.next_seq {
            return Err(CodecError::Malformed("a sequence number is out of order"));
        }
        let body = self.frames.body(header, &entry[FRAME_BYTES..])?;
        let decoded = decode_body((header.seq, self.start.version), body, &mut self.declared)?;
        self.next_seq = self.next_seq.saturating_add(1);
        Ok(decoded)
    }
}

/// Decodes the bytes of a segment up to the first that do not read; returns its entries, how many bytes were good,
/// and what was wrong with the rest.
pub(super) fn decode_segment(bytes: &[u8]) -> Result<DecodedSegment, CodecError> {
    let decoded = decode_header(bytes)?;
    let mut decoder = EntryDecoder::new(decoded.start, decoded.header.first_seq)?;
    let mut segment = DecodedSegment { entries: Vec::new(), good: decoded.start.offset, rest: None };
    while segment.good < bytes.len() {
        match decode_next(&mut decoder, &bytes[segment.good..]) {
            Ok((entry, length)) => {
                segment.entries.push(entry);
                segment.good += length;
            }
            Err(error) => {
                segment.rest = Some(error);
                break;
            }
        }
    }
    Ok(segment)
}

fn decode_next(decoder: &mut EntryDecoder, bytes: &[u8]) -> Result<(Entry, usize), CodecError> {
    let header = FrameHeader::decode(bytes)?;
    let length = FRAME_BYTES + header.stored;
    let entry = decoder.decode(&header, bytes.get(..length).ok_or(CodecError::Cut)?)?;
    Ok((entry, length))
}

/// What [`decode_segment`] found.
#[derive(Debug)]
pub(super) struct DecodedSegment {
    pub(super) entries: Vec<Entry>,
    pub(super) good: usize,
    pub(super) rest: Option<CodecError>,
}

/// Feeds any bytes to the decoders: as a segment, and, since a checksum keeps most inputs from getting further,
/// as the body of an entry. Must neither panic nor allocate more than a small multiple of the input.
pub fn fuzz_log(data: &[u8]) {
    if let Ok(segment) = decode_segment(data) {
        assert!(segment.good <= data.len(), "a decoder read past its input");
    }
    for version in 1..=VERSION {
        if let Ok(entry) = decode_body((1, version), data, &mut Declared::default()) {
            assert!(entry.samples() <= data.len(), "more samples than bytes");
        }
    }
}
