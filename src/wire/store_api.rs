//! StoreAPI and Info: their messages, and an encoding of series that copies instead of building.
//!
//! A series' labels go over the wire as exactly the bytes that [`Labels`] keeps, and its chunks as the bytes that
//! `tsdb` made. So the message `Series` is not generated: [`EncodedSeries`] stands in its place in
//! [`SeriesResponse`] and [`SeriesBatch`], holds the encoded fields and is written with one copy. [`Series`] is
//! the same message in parts, for clients and tests.
//!
//! Everything else of the package `thanos` is generated and re-exported here; services are
//! `store_server::StoreServer`, `exemplars_server::ExemplarsServer`, `metadata_server::MetadataServer` and
//! `info::info_server::InfoServer`, with their clients beside them.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, skip_field};
use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::chunk::WireChunk;
use super::error::WireError;
pub use super::generated::STORE_API_DESCRIPTORS;
pub use super::generated::thanos::*;
use crate::model::{Labels, MatchKind, Matcher};

#[cfg(test)]
mod tests;

/// How large a request may be. It bounds what its expressions cost to compile and what decoding allocates; the
/// gRPC server takes it as its limit for messages.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// How many matchers a request or query may have.
pub(super) const MATCHERS_MAX: usize = 128;

/// What a chunk takes at most beside its data: tags, three lengths, two times and a hash.
const CHUNK_OVERHEAD: usize = 64;

/// The fields of an encoded `thanos.Series`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EncodedSeries(Vec<u8>);

/// A `thanos.Series` in parts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Series {
    /// Sorted by name, unique.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// In order of time.
    #[prost(message, repeated, tag = "2")]
    pub chunks: Vec<AggrChunk>,
}

impl EncodedSeries {
    /// Encodes a series with raw chunks; each gets its hash. Without chunks it is what a request with `skip_chunks` is
    /// answered with.
    #[must_use]
    pub fn encode<'a>(labels: &Labels, chunks: impl Iterator<Item = WireChunk<'a>> + Clone) -> Self {
        let chunk_bytes: usize = chunks.clone().map(|chunk| chunk.data.len() + CHUNK_OVERHEAD).sum();
        let mut out = Vec::with_capacity(labels.as_bytes().len() + chunk_bytes);
        out.extend_from_slice(labels.as_bytes());
        chunks.for_each(|chunk| put_chunk(&mut out, chunk));
        Self(out)
    }

    /// Returns the series in parts.
    ///
    /// # Errors
    /// Fields that are not a series.
    pub fn decode(&self) -> Result<Series, prost::DecodeError> {
        prost::Message::decode(self.0.as_slice())
    }

    /// Returns the length of the encoded fields.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }
}

/// Appends field 2 of a series: `AggrChunk {1 min, 2 max, 3 raw: Chunk {1 type, 2 data, 3 hash}}`; type 0 is left out.
fn put_chunk(out: &mut Vec<u8>, chunk: WireChunk<'_>) {
    let (min, max) = (chunk.min_time_ms as u64, chunk.max_time_ms as u64);
    let (kind, data, hash) = (chunk.kind.in_store_api(), chunk.data, xxh64(chunk.data, 0));
    let varint_field = |value: u64| 1 + encoded_len_varint(value);
    let kind_bytes = if kind == 0 { 0 } else { 2 };
    let raw = kind_bytes + varint_field(data.len() as u64) + data.len() + varint_field(hash);
    let chunk = varint_field(min) + varint_field(max) + varint_field(raw as u64) + raw;
    let mut varint = |tag: u8, value: u64| {
        out.push(tag);
        encode_varint(value, out);
    };
    varint(0x12, chunk as u64);
    varint(0x08, min);
    varint(0x10, max);
    varint(0x1A, raw as u64);
    if kind != 0 {
        varint(0x08, kind.into());
    }
    varint(0x12, data.len() as u64);
    out.extend_from_slice(data);
    out.push(0x18);
    encode_varint(hash, out);
}

impl prost::Message for EncodedSeries {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        if wire_type != WireType::LengthDelimited {
            return skip_field(wire_type, tag, buf, ctx);
        }
        let mut field = Vec::new();
        prost::encoding::bytes::merge(wire_type, &mut field, buf, ctx)?;
        encode_key(tag, wire_type, &mut self.0);
        encode_varint(field.len() as u64, &mut self.0);
        self.0.extend_from_slice(&field);
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl SeriesResponse {
    /// Makes a message of several series.
    #[must_use]
    pub fn batch(series: Vec<EncodedSeries>) -> Self {
        Self { result: Some(series_response::Result::Batch(SeriesBatch { series })) }
    }

    /// Makes a message of one series.
    #[must_use]
    pub fn series(series: EncodedSeries) -> Self {
        Self { result: Some(series_response::Result::Series(series)) }
    }

    /// Makes a warning, which queriers show beside a partial result.
    #[must_use]
    pub fn warning(text: String) -> Self {
        Self { result: Some(series_response::Result::Warning(text)) }
    }
}

impl ShardInfo {
    /// Returns whether a series lies in this shard, given its final label set: external labels added, replica
    /// labels removed. Without shards every series does.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        let Ok(shards @ 1..) = u64::try_from(self.total_shards) else { return true };
        let mut hash = Xxh64::new(0);
        for (name, value) in labels.iter() {
            if self.labels.iter().any(|l| l == name) == self.by {
                hash.update(name.as_bytes());
                hash.update(&[0xFF]);
                hash.update(value.as_bytes());
                hash.update(&[0xFF]);
            }
        }
        u64::try_from(self.shard_index).is_ok_and(|index| hash.digest() % shards == index)
    }
}

/// Turns a request's matchers into the model's.
///
/// # Errors
/// Too many of them, an unknown type, or an expression that is not valid RE2.
pub fn decode_matchers(matchers: &[LabelMatcher]) -> Result<Vec<Matcher>, WireError> {
    if matchers.len() > MATCHERS_MAX {
        return Err(WireError::QueryTooLarge { what: "matchers", limit: MATCHERS_MAX });
    }
    matchers
        .iter()
        .map(|m| Ok(Matcher::new(match_kind(m.r#type.into())?, m.name.as_str(), m.value.as_str())?))
        .collect()
}

/// Returns what a matcher's number means, which is the same for StoreAPI and remote read.
pub(super) fn match_kind(number: i64) -> Result<MatchKind, WireError> {
    match number {
        0 => Ok(MatchKind::Equal),
        1 => Ok(MatchKind::NotEqual),
        2 => Ok(MatchKind::Regex),
        3 => Ok(MatchKind::NotRegex),
        other => Err(WireError::UnknownMatcher(other)),
    }
}
