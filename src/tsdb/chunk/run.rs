//! Encodes the samples of one series, of any kind, into chunks in order of time.

use super::{ChunkError, Encoding, Fit, FloatHistogramEncoder, HistogramEncoder};
use crate::model::{FloatHistogram, Histogram, HistogramSample, NativeHistogram, Sample};
use crate::tsdb::CHUNK_SAMPLES;
use crate::tsdb::xor::XorEncoder;

/// The bytes of a chunk, and what stands beside them wherever it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedChunk<'a> {
    /// How its samples are encoded.
    pub encoding: Encoding,
    /// Time of the first sample.
    pub min_time_ms: i64,
    /// Time of the last sample, inclusive.
    pub max_time_ms: i64,
    /// The chunk without length, encoding byte and checksum.
    pub data: &'a [u8],
}

/// The chunks of one series, all in one buffer that is reused from series to series.
///
/// Push samples in order of time, [`Self::finish`], iterate, [`Self::clear`]. A chunk ends after 120 samples, where
/// the kind of sample changes, and where a histogram does not go with the one before: another layout, or a counter
/// reset. Only encodings 1 to 3 come out, which every reader knows; start timestamps are left behind.
#[derive(Debug, Default)]
pub struct SampleChunks {
    bytes: Vec<u8>,
    spans: Vec<ChunkSpan>,
    floats: XorEncoder,
    histograms: HistogramEncoder,
    float_histograms: FloatHistogramEncoder,
    open: Option<Encoding>,
    open_min_ms: i64,
    /// The encoding of the chunk before the open one, where histograms are compared with it.
    last: Option<Encoding>,
}

/// Where a finished chunk ends in the buffer.
#[derive(Debug)]
struct ChunkSpan {
    encoding: Encoding,
    min_time_ms: i64,
    max_time_ms: i64,
    end: usize,
}

impl SampleChunks {
    /// Makes an empty run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a float by its bits.
    #[inline]
    pub fn push_float(&mut self, t_ms: i64, bits: u64) {
        if self.open != Some(Encoding::Xor) {
            self.finish();
            (self.open, self.open_min_ms) = (Some(Encoding::Xor), t_ms);
        }
        self.floats.push(&mut self.bytes, t_ms, bits);
        if self.floats.count() == CHUNK_SAMPLES {
            self.finish();
        }
    }

    /// Appends a native histogram.
    ///
    /// # Errors
    /// Buckets that do not go with the spans. The histogram is left out.
    pub fn push_native(&mut self, t_ms: i64, value: &NativeHistogram) -> Result<(), ChunkError> {
        match value {
            NativeHistogram::Int(value) => self.push_histogram(t_ms, value),
            NativeHistogram::Float(value) => self.push_float_histogram(t_ms, value),
        }
    }

    /// Appends a histogram with whole counts.
    ///
    /// # Errors
    /// Buckets that do not go with the spans. The histogram is left out.
    pub fn push_histogram(&mut self, t_ms: i64, value: &Histogram) -> Result<(), ChunkError> {
        let is_open = self.open == Some(Encoding::Histogram) && self.histograms.count() < CHUNK_SAMPLES;
        if !is_open || self.histograms.append(&mut self.bytes, t_ms, value)? == Fit::NeedsNewChunk {
            self.finish();
            let follows = self.last == Some(Encoding::Histogram);
            self.histograms.start(&mut self.bytes, t_ms, value, follows)?;
            (self.open, self.open_min_ms) = (Some(Encoding::Histogram), t_ms);
        }
        Ok(())
    }

    /// Appends a histogram with fractional counts.
    ///
    /// # Errors
    /// Buckets that do not go with the spans. The histogram is left out.
    pub fn push_float_histogram(&mut self, t_ms: i64, value: &FloatHistogram) -> Result<(), ChunkError> {
        let is_open =
            self.open == Some(Encoding::FloatHistogram) && self.float_histograms.count() < CHUNK_SAMPLES;
        if !is_open || self.float_histograms.append(&mut self.bytes, t_ms, value)? == Fit::NeedsNewChunk {
            self.finish();
            let follows = self.last == Some(Encoding::FloatHistogram);
            self.float_histograms.start(&mut self.bytes, t_ms, value, follows)?;
            (self.open, self.open_min_ms) = (Some(Encoding::FloatHistogram), t_ms);
        }
        Ok(())
    }

    /// Appends floats and histograms of one series, both sorted, in order of time.
    ///
    /// # Errors
    /// A histogram whose buckets do not go with its spans; what came before it is kept.
    pub fn push_all(&mut self, floats: &[Sample], histograms: &[HistogramSample]) -> Result<(), ChunkError> {
        let mut floats = floats.iter().peekable();
        for sample in histograms {
            while let Some(float) = floats.next_if(|float| float.ts_ms < sample.ts_ms) {
                self.push_float(float.ts_ms, float.value.to_bits());
            }
            self.push_native(sample.ts_ms, &sample.histogram)?;
        }
        floats.for_each(|float| self.push_float(float.ts_ms, float.value.to_bits()));
        Ok(())
    }

    /// Closes the open chunk, if there is one. The next sample starts another.
    pub fn finish(&mut self) {
        let Some(encoding) = self.open.take() else { return };
        let max_time_ms = match encoding {
            Encoding::Histogram => {
                self.histograms.finish(&mut self.bytes);
                self.histograms.last_ms()
            }
            Encoding::FloatHistogram => {
                self.float_histograms.finish(&mut self.bytes);
                self.float_histograms.last_ms()
            }
            _ => {
                let open = std::mem::take(&mut self.floats);
                let last_ms = open.last_ms();
                open.finish(&mut self.bytes);
                last_ms
            }
        };
        self.last = Some(encoding);
        let (min_time_ms, end) = (self.open_min_ms, self.bytes.len());
        self.spans.push(ChunkSpan { encoding, min_time_ms, max_time_ms, end });
    }

    /// Forgets all chunks and keeps the buffer.
    pub fn clear(&mut self) {
        // Closing makes the open encoder ready for another chunk.
        self.finish();
        self.forget_finished();
        self.forget_previous();
    }

    /// Forgets the finished chunks. There is no open one; the next is still compared with the last.
    pub(in crate::tsdb) fn forget_finished(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Lets the next chunk stand for itself, because something else stands before it.
    pub fn forget_previous(&mut self) {
        self.last = None;
    }

    /// Returns the finished chunks, in the order of pushing.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EncodedChunk<'_>> + Clone {
        self.spans.iter().enumerate().map(|(i, span)| {
            let start = if i == 0 { 0 } else { self.spans[i - 1].end };
            EncodedChunk {
                encoding: span.encoding,
                min_time_ms: span.min_time_ms,
                max_time_ms: span.max_time_ms,
                data: &self.bytes[start..span.end],
            }
        })
    }

    /// Returns how many chunks are finished.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.open.is_none()
    }

    /// Returns how many bytes are in the buffer, the open chunk's so far included.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}
