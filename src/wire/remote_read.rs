//! Remote read: requests to matchers and a time range, answers as samples or as streamed chunks.
//!
//! Bodies come here decompressed. A request is walked over borrowed bytes and bounded before anything is
//! allocated. Answers copy label sets as they are; each nested message is written into a buffer of its own level
//! first, because its length stands before it.

use prost::encoding::{encode_varint, encoded_len_varint};

use super::chunk::WireChunk;
use super::error::WireError;
pub use super::generated::prometheus as messages;
use super::protobuf::Cursor;
use super::store_api::{MATCHERS_MAX, REQUEST_BYTES_MAX, match_kind};
use crate::model::{Labels, Matcher, Sample, SeriesData, TimeRange};

mod histogram;

#[cfg(test)]
mod tests;

/// How many queries a request may have. Prometheus sends one.
const QUERIES_MAX: usize = 64;

/// How many accepted response types are looked at. Two exist.
const RESPONSE_TYPES_MAX: usize = 16;

/// Where a streamed series goes on in another frame, as Prometheus' own servers do it.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseType {
    /// One snappy-compressed `ReadResponse` of samples.
    Samples,
    /// Frames of `ChunkedReadResponse`, as they come, without compression.
    StreamedXorChunks,
}

impl ResponseType {
    /// Returns the content type of the answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Samples => "application/x-protobuf",
            Self::StreamedXorChunks => {
                "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
            }
        }
    }

    /// Returns the content encoding of the answer, where there is one.
    #[must_use]
    pub const fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Samples => Some("snappy"),
            Self::StreamedXorChunks => None,
        }
    }

    /// Chooses the first accepted type that exists; a client that names none gets samples.
    fn negotiate(accepted: &[i32]) -> Result<Self, WireError> {
        let known = |number: &i32| match number {
            0 => Some(Self::Samples),
            1 => Some(Self::StreamedXorChunks),
            _ => None,
        };
        match accepted {
            [] => Ok(Self::Samples),
            _ => accepted.iter().find_map(known).ok_or(WireError::ResponseType),
        }
    }
}

/// A read request.
#[derive(Debug)]
pub struct ReadRequest {
    /// Each gets a result, in this order.
    pub queries: Vec<ReadQuery>,
    /// The form of the answer.
    pub response_type: ResponseType,
}

/// One query of a read request.
#[derive(Debug)]
pub struct ReadQuery {
    /// What series must satisfy.
    pub matchers: Vec<Matcher>,
    /// The times asked for.
    pub range: TimeRange,
    /// The client will look at label sets only (it serves `/api/v1/series`): samples may be left out of an answer
    /// of [`ResponseType::Samples`]. A streamed series without chunks would be lost on the client.
    pub labels_only: bool,
}

/// Reads a decompressed `ReadRequest`.
///
/// # Errors
/// Malformed bytes, too many parts, matchers that are not valid, no response type that exists.
pub fn decode_request(body: &[u8]) -> Result<ReadRequest, WireError> {
    if body.len() > REQUEST_BYTES_MAX {
        return Err(WireError::QueryTooLarge { what: "bytes", limit: REQUEST_BYTES_MAX });
    }
    let mut cursor = Cursor::new(body);
    let (mut queries, mut accepted) = (Vec::new(), Vec::new());
    while !cursor.is_done() {
        match cursor.tag()? {
            0x0A => {
                admit(&queries, "queries", QUERIES_MAX)?;
                queries.push(decode_query(cursor.message()?)?);
            }
            0x10 => {
                admit(&accepted, "response types", RESPONSE_TYPES_MAX)?;
                accepted.push(cursor.varint()? as i32);
            }
            0x12 => {
                let mut packed = cursor.message()?;
                while !packed.is_done() {
                    admit(&accepted, "response types", RESPONSE_TYPES_MAX)?;
                    accepted.push(packed.varint()? as i32);
                }
            }
            tag => cursor.skip_unknown(tag, 2)?,
        }
    }
    Ok(ReadRequest { queries, response_type: ResponseType::negotiate(&accepted)? })
}

fn admit<T>(so_far: &[T], what: &'static str, limit: usize) -> Result<(), WireError> {
    if so_far.len() < limit { Ok(()) } else { Err(WireError::QueryTooLarge { what, limit }) }
}

fn decode_query(mut cursor: Cursor<'_>) -> Result<ReadQuery, WireError> {
    let (mut start_ms, mut end_ms, mut matchers, mut labels_only) = (0, 0, Vec::new(), false);
    while !cursor.is_done() {
        match cursor.tag()? {
            0x08 => start_ms = cursor.varint()? as i64,
            0x10 => end_ms = cursor.varint()? as i64,
            0x1A => {
                admit(&matchers, "matchers", MATCHERS_MAX)?;
                matchers.push(decode_matcher(cursor.message()?)?);
            }
            0x22 => labels_only = decode_hints(cursor.message()?)?,
            tag => cursor.skip_unknown(tag, 4)?,
        }
    }
    Ok(ReadQuery { matchers, range: TimeRange::from_inclusive(start_ms, end_ms), labels_only })
}

fn decode_matcher(mut cursor: Cursor<'_>) -> Result<Matcher, WireError> {
    let (mut kind, mut name, mut value) = (0, "", "");
    while !cursor.is_done() {
        match cursor.tag()? {
            // The type is an enum, which is a 32-bit number on the wire whatever its varint holds.
            0x08 => kind = cursor.varint()? as i32,
            0x12 => name = text(&mut cursor)?,
            0x1A => value = text(&mut cursor)?,
            tag => cursor.skip_unknown(tag, 3)?,
        }
    }
    Ok(Matcher::new(match_kind(kind.into())?, name, value)?)
}

fn text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, WireError> {
    let refused = cursor.refuse("a matcher is not UTF-8");
    Ok(std::str::from_utf8(cursor.bytes()?).map_err(|_| refused)?)
}

/// Returns whether the hints say that only label sets are wanted; nothing else in them changes an answer.
fn decode_hints(mut cursor: Cursor<'_>) -> Result<bool, WireError> {
    let mut labels_only = false;
    while !cursor.is_done() {
        match cursor.tag()? {
            0x12 => labels_only = cursor.bytes()? == b"series",
            tag => cursor.skip_unknown(tag, 0)?,
        }
    }
    Ok(labels_only)
}

/// Builds a `ReadResponse`: for each query its series, then [`Self::end_query`].
#[derive(Debug, Default)]
pub struct SamplesAnswer {
    out: Vec<u8>,
    query: Vec<u8>,
    series: Vec<u8>,
}

impl SamplesAnswer {
    /// Appends a series to the open query's result, with its samples in parts that follow each other in time.
    pub fn push_series(&mut self, labels: &Labels, parts: &[SeriesData]) {
        self.series.clear();
        self.series.extend_from_slice(labels.as_bytes());
        for Sample { ts_ms, value, .. } in parts.iter().flat_map(|part| &part.samples) {
            let ts = *ts_ms as u64;
            // Sample {1 value, 2 timestamp} as field 2 of a series: at most 9 + 11 bytes.
            self.series.extend_from_slice(&[0x12, 10 + encoded_len_varint(ts) as u8, 0x09]);
            self.series.extend_from_slice(&value.to_bits().to_le_bytes());
            self.series.push(0x10);
            encode_varint(ts, &mut self.series);
        }
        for sample in parts.iter().flat_map(|part| &part.histograms) {
            put_field(&mut self.series, 0x22, &histogram::encode(sample));
        }
        put_field(&mut self.query, 0x0A, &self.series);
    }

    /// Closes the result of a query. Every query needs one, also without series.
    pub fn end_query(&mut self) {
        put_field(&mut self.out, 0x0A, &self.query);
        self.query.clear();
    }

    /// Returns how many bytes are built so far, to be held against a limit.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.out.len() + self.query.len()
    }

    /// Returns the message, not yet compressed.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

fn put_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends the frames of one series to `out`: one, or several of about 1 MiB. A series without chunks has no frame.
pub fn encode_frames<'a>(
    query_index: usize,
    labels: &Labels,
    chunks: impl Iterator<Item = WireChunk<'a>>,
    out: &mut Vec<u8>,
) {
    let (mut series, mut chunk) = (labels.as_bytes().to_vec(), Vec::new());
    for WireChunk { kind, min_time_ms, max_time_ms, data } in chunks {
        if series.len() >= FRAME_BYTES_MAX {
            put_frame(query_index, &series, out);
            series.truncate(labels.as_bytes().len());
        }
        // Chunk {1 min, 2 max, 3 type, 4 data} as field 2 of a series.
        chunk.clear();
        chunk.push(0x08);
        encode_varint(min_time_ms as u64, &mut chunk);
        chunk.push(0x10);
        encode_varint(max_time_ms as u64, &mut chunk);
        chunk.extend_from_slice(&[0x18, kind.in_remote_read()]);
        put_field(&mut chunk, 0x22, data);
        put_field(&mut series, 0x12, &chunk);
    }
    if series.len() > labels.as_bytes().len() {
        put_frame(query_index, &series, out);
    }
}

/// Appends `uvarint length, CRC32C big-endian, ChunkedReadResponse {1 series, 2 query index}`.
fn put_frame(query_index: usize, series: &[u8], out: &mut Vec<u8>) {
    let mut message = Vec::with_capacity(series.len() + 24);
    put_field(&mut message, 0x0A, series);
    message.push(0x10);
    encode_varint(query_index as u64, &mut message);
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}
