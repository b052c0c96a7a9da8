//! StoreAPI frames out of series and samples.

use super::error::StoreError;
use super::pump::Encode;
use super::series_list::Batch;
use crate::model::{Labels, SeriesData};
use crate::tsdb::chunk::{EncodedChunk, Encoding, SampleChunks};
use crate::wire::store_api::{EncodedSeries, SeriesRequest, SeriesResponse};
use crate::wire::{ChunkKind, WireChunk};

/// A frame goes out with this many bytes, whatever number of series was asked for; a longer series goes on in the
/// next one.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Replaces what is in `chunks` by everything that a series holds. Each part has chunks of its own.
pub(super) fn encode_chunks(
    chunks: &mut SampleChunks,
    labels: &Labels,
    parts: &[SeriesData],
) -> Result<(), StoreError> {
    chunks.clear();
    for part in parts {
        let encoded = chunks.push_all(&part.samples, &part.histograms);
        encoded.map_err(|source| StoreError::Chunk { labels: labels.to_string(), source })?;
        chunks.finish();
        chunks.forget_previous();
    }
    Ok(())
}

/// Returns a chunk as it is sent.
pub(super) fn wire_chunk(chunk: EncodedChunk<'_>) -> WireChunk<'_> {
    let EncodedChunk { encoding, min_time_ms, max_time_ms, data } = chunk;
    let kind = match encoding {
        Encoding::Histogram | Encoding::HistogramStart => ChunkKind::Histogram,
        Encoding::FloatHistogram | Encoding::FloatHistogramStart => ChunkKind::FloatHistogram,
        Encoding::Xor | Encoding::Xor2 => ChunkKind::Xor,
    };
    WireChunk { kind, min_time_ms, max_time_ms, data }
}

/// Builds the frames of a Series answer.
#[derive(Debug)]
pub(super) struct FrameEncoder {
    /// Series a frame; 1 for frames of one series.
    batch_series: usize,
    /// Series in all; 0 for no limit.
    limit: usize,
    /// The series sent last: equal ones follow each other and count once.
    last: Option<Labels>,
    chunks: SampleChunks,
    open: Vec<EncodedSeries>,
    open_bytes: usize,
    frames: Vec<SeriesResponse>,
    pub(super) series: u64,
    pub(super) samples: u64,
}

impl FrameEncoder {
    pub(super) fn new(request: &SeriesRequest) -> Self {
        Self {
            batch_series: usize::try_from(request.response_batch_size).unwrap_or(0).max(1),
            limit: usize::try_from(request.limit).unwrap_or(0),
            last: None,
            chunks: SampleChunks::new(),
            open: Vec::new(),
            open_bytes: 0,
            frames: Vec::new(),
            series: 0,
            samples: 0,
        }
    }

    /// Counts a series; false where it is one too many.
    fn admit(&mut self, labels: &Labels) -> bool {
        if self.last.as_ref() == Some(labels) {
            return true;
        }
        if self.is_complete() {
            return false;
        }
        self.series += 1;
        self.last = Some(labels.clone());
        true
    }

    /// Appends a series without chunks; one that came before is left out.
    pub(super) fn push_labels(&mut self, labels: &Labels) {
        if self.last.as_ref() != Some(labels) && self.admit(labels) {
            self.push_encoded(EncodedSeries::encode(labels, std::iter::empty()));
        }
    }

    /// Appends a series with its chunks; one without samples is left out.
    fn push_series(&mut self, labels: &Labels, parts: &[SeriesData]) -> Result<(), StoreError> {
        if parts.is_empty() || !self.admit(labels) {
            return Ok(());
        }
        self.samples += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let mut chunks = std::mem::take(&mut self.chunks);
        encode_chunks(&mut chunks, labels, parts)?;
        let bytes_per_chunk = chunks.byte_len() / chunks.len().max(1) + 1;
        let at_once = (FRAME_BYTES_MAX / bytes_per_chunk).max(1);
        for start in (0..chunks.len()).step_by(at_once) {
            let some = chunks.iter().skip(start).take(at_once).map(wire_chunk);
            self.push_encoded(EncodedSeries::encode(labels, some));
        }
        self.chunks = chunks;
        Ok(())
    }

    fn push_encoded(&mut self, series: EncodedSeries) {
        self.open_bytes += series.byte_len();
        self.open.push(series);
        if self.open.len() >= self.batch_series || self.open_bytes >= FRAME_BYTES_MAX {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        self.open_bytes = 0;
        let mut open = std::mem::take(&mut self.open);
        if self.batch_series > 1 && !open.is_empty() {
            self.frames.push(SeriesResponse::batch(open));
        } else if let Some(one) = open.pop() {
            self.frames.push(SeriesResponse::series(one));
        }
    }

    /// Ends the open frame and returns all that are done.
    pub(super) fn take(&mut self) -> Vec<SeriesResponse> {
        self.end_frame();
        std::mem::take(&mut self.frames)
    }
}

impl Encode for FrameEncoder {
    type Messages = Vec<SeriesResponse>;

    fn encode(&mut self, batch: &Batch) -> Result<Vec<SeriesResponse>, StoreError> {
        batch.iter().try_for_each(|(labels, parts)| self.push_series(labels, parts))?;
        Ok(self.take())
    }

    fn is_complete(&self) -> bool {
        self.limit > 0 && self.series >= self.limit as u64
    }
}
