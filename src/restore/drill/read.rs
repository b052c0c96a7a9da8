//! Reads what a server has in a range, over remote read with streamed chunks.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use super::server::DrillServer;
use crate::archive::DigestRow;
use crate::model::Labels;
use crate::restore::context::RestoreContext;
use crate::restore::error::RestoreError;
use crate::tsdb::chunk::{Encoding, SampleValue, decode_chunk};
use crate::wire::remote_read::messages::{
    ChunkedReadResponse, ChunkedSeries, LabelMatcher, Query, ReadRequest, label_matcher, read_request,
};
use crate::wire::snappy;

/// A server makes frames of about 1 MiB; a series with very many chunks makes a larger one.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// A label that no series has: `=""` on it takes all series.
const NO_LABEL: &str = "perennial_drill";

impl DrillServer {
    /// Reads all series that have samples in a range, and hands each over with what its samples add up to.
    pub(super) async fn read(
        &self,
        range: (i64, i64),
        context: &RestoreContext,
        mut each: impl FnMut(&Labels, &DigestRow),
    ) -> Result<(), RestoreError> {
        let request = snappy::encode(&request(range).encode_to_vec());
        let request = request.map_err(|e| RestoreError::Invalid(e.to_string()))?;
        let mut response = self.post("api/v1/read", request).await?;
        let mut received = BytesMut::new();
        let mut open: Option<(Labels, DigestRow)> = None;
        while let Some(bytes) = response.chunk().await.map_err(RestoreError::Server)? {
            received.extend_from_slice(&bytes);
            while let Some(frame) = take_frame(&mut received).map_err(broken)? {
                for (labels, row) in
                    context.cpu.run(move || decode_frame(&frame, range)).await?.map_err(broken)?
                {
                    match &mut open {
                        // A series with many chunks goes on in the next frame.
                        Some((last, sum)) if *last == labels => sum.merge(&row),
                        _ => {
                            let last = open.replace((labels, row));
                            last.iter().for_each(|(labels, row)| each(labels, row));
                        }
                    }
                }
            }
        }
        open.iter().for_each(|(labels, row)| each(labels, row));
        if received.is_empty() { Ok(()) } else { Err(broken("it ends in the middle of a frame".to_owned())) }
    }
}

fn broken(reason: String) -> RestoreError {
    RestoreError::Damaged { what: "the answer of the restored server".to_owned(), reason }
}

fn request((min_time_ms, max_time_ms): (i64, i64)) -> ReadRequest {
    let matcher = LabelMatcher {
        r#type: label_matcher::Type::Eq.into(),
        name: NO_LABEL.to_owned(),
        value: String::new(),
    };
    let query = Query {
        start_timestamp_ms: min_time_ms,
        end_timestamp_ms: max_time_ms.saturating_sub(1),
        matchers: vec![matcher],
        hints: None,
    };
    ReadRequest {
        queries: vec![query],
        accepted_response_types: vec![read_request::ResponseType::StreamedXorChunks.into()],
    }
}

/// Takes a frame off what was received: its length (uvarint), a CRC-32C (big endian), its bytes.
fn take_frame(received: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let (mut length, mut used) = (0_usize, 0);
    loop {
        let Some(byte) = received.get(used).copied() else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte < 0x80 {
            break;
        }
        if used == 5 {
            return Err("a frame's length has no end".to_owned());
        }
    }
    if length > FRAME_BYTES_MAX {
        return Err(format!("a frame claims {length} bytes"));
    }
    if received.len() < used + 4 + length {
        return Ok(None);
    }
    received.advance(used);
    let checksum = received.get_u32();
    let frame = received.split_to(length).freeze();
    if crc32c::crc32c(&frame) != checksum {
        return Err("a frame's checksum is wrong".to_owned());
    }
    Ok(Some(frame))
}

fn decode_frame(frame: &[u8], range: (i64, i64)) -> Result<Vec<(Labels, DigestRow)>, String> {
    let response = ChunkedReadResponse::decode(frame).map_err(|e| e.to_string())?;
    response.chunked_series.into_iter().map(|series| add_up(series, range)).collect()
}

fn add_up(
    series: ChunkedSeries,
    (min_time_ms, max_time_ms): (i64, i64),
) -> Result<(Labels, DigestRow), String> {
    let pairs = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
    let labels = Labels::from_pairs(pairs).map_err(|e| e.to_string())?;
    let mut row = DigestRow { labels: labels.series_hash(), ..DigestRow::default() };
    for chunk in &series.chunks {
        let encoding = u8::try_from(chunk.r#type).map_err(|e| e.to_string())?;
        let encoding = Encoding::from_byte(encoding).map_err(|e| e.to_string())?;
        for sample in decode_chunk(encoding, &chunk.data) {
            let sample = sample.map_err(|e| format!("{labels}: {e}"))?;
            // Chunks come whole where a part of them is asked for.
            if let SampleValue::Float(bits) = sample.value
                && (min_time_ms..max_time_ms).contains(&sample.t_ms)
            {
                row.add(sample.t_ms, bits);
            }
        }
    }
    Ok((labels, row))
}

#[cfg(test)]
pub(super) mod frames {
    use super::*;

    /// Splits received bytes into frames.
    pub(in crate::restore::drill) fn all(bytes: &[u8]) -> Result<Vec<Bytes>, String> {
        let mut received = BytesMut::from(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = take_frame(&mut received)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    pub(in crate::restore::drill) fn decode(
        frame: &[u8],
        range: (i64, i64),
    ) -> Result<Vec<(Labels, DigestRow)>, String> {
        decode_frame(frame, range)
    }
}
