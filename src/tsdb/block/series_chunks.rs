//! Encodes the samples of one series as the entries of a chunk file.

use super::chunk_files::put_entry;
use crate::model::{FloatHistogram, Histogram};
use crate::tsdb::chunk::{ChunkError, Encoding, Fit, FloatHistogramEncoder, HistogramEncoder};
use crate::tsdb::{CHUNK_SAMPLES, XorChunks};

/// The chunks of one series, in one buffer that is reused from series to series.
///
/// Push samples in order of time, hand it to [`super::BlockBuilder::add`], [`Self::clear`]. A chunk ends after 120
/// samples, where the kind of sample changes, and where a histogram does not go with the one before: another
/// layout, or a counter reset.
#[derive(Debug, Default)]
pub struct SeriesChunks {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    floats: XorChunks,
    histograms: HistogramEncoder,
    float_histograms: FloatHistogramEncoder,
    /// The open chunk of histograms.
    scratch: Vec<u8>,
    open: Option<Kind>,
    open_min_ms: i64,
    last_ms: Option<i64>,
    disorder: Option<(i64, i64)>,
    last_kind: Option<Kind>,
}

/// A finished entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) min_time_ms: i64,
    pub(super) max_time_ms: i64,
    pub(super) end: usize,
    pub(super) samples: u16,
    pub(super) is_float: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float,
    Histogram,
    FloatHistogram,
}

impl SeriesChunks {
    /// Makes an empty run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a float by its bits.
    #[inline]
    pub fn push_float(&mut self, t_ms: i64, bits: u64) {
        self.note_time(t_ms);
        if self.open != Some(Kind::Float) {
            self.finish();
            self.open = Some(Kind::Float);
        }
        self.floats.push(t_ms, f64::from_bits(bits));
        if !self.floats.is_empty() {
            self.frame_floats();
        }
    }

    /// Appends a histogram with whole counts.
    ///
    /// # Errors
    /// Buckets that do not go with the spans. The histogram is left out.
    pub fn push_histogram(&mut self, t_ms: i64, value: &Histogram) -> Result<(), ChunkError> {
        let is_open = self.open == Some(Kind::Histogram) && self.histograms.count() < CHUNK_SAMPLES;
        if !is_open || self.histograms.append(&mut self.scratch, t_ms, value)? == Fit::NeedsNewChunk {
            self.finish();
            let follows = self.last_kind == Some(Kind::Histogram);
            self.histograms.start(&mut self.scratch, t_ms, value, follows)?;
            (self.open, self.open_min_ms) = (Some(Kind::Histogram), t_ms);
        }
        self.note_time(t_ms);
        Ok(())
    }

    /// Appends a histogram with fractional counts.
    ///
    /// # Errors
    /// Buckets that do not go with the spans. The histogram is left out.
    pub fn push_float_histogram(&mut self, t_ms: i64, value: &FloatHistogram) -> Result<(), ChunkError> {
        let is_open =
            self.open == Some(Kind::FloatHistogram) && self.float_histograms.count() < CHUNK_SAMPLES;
        if !is_open || self.float_histograms.append(&mut self.scratch, t_ms, value)? == Fit::NeedsNewChunk {
            self.finish();
            let follows = self.last_kind == Some(Kind::FloatHistogram);
            self.float_histograms.start(&mut self.scratch, t_ms, value, follows)?;
            (self.open, self.open_min_ms) = (Some(Kind::FloatHistogram), t_ms);
        }
        self.note_time(t_ms);
        Ok(())
    }

    /// Appends a chunk as it is. Its times are trusted; `check_block` verifies them.
    pub fn push_encoded(&mut self, encoding: Encoding, min_time_ms: i64, max_time_ms: i64, data: &[u8]) {
        self.finish();
        self.note_time(min_time_ms);
        self.last_ms = Some(max_time_ms);
        put_entry(&mut self.bytes, encoding, data);
        let (end, samples) = (self.bytes.len(), encoding.sample_count(data));
        let is_float = encoding.is_float();
        self.entries.push(Entry { min_time_ms, max_time_ms, end, samples, is_float });
        self.last_kind = None;
    }

    /// Closes the open chunk, if there is one. [`super::BlockBuilder::add`] does so too.
    pub fn finish(&mut self) {
        let encoding = match self.open.take() {
            None => return,
            Some(Kind::Float) => {
                self.floats.finish();
                return self.frame_floats();
            }
            Some(Kind::Histogram) => Encoding::Histogram,
            Some(Kind::FloatHistogram) => Encoding::FloatHistogram,
        };
        let max_time_ms = if encoding == Encoding::Histogram {
            self.histograms.finish(&mut self.scratch);
            self.last_kind = Some(Kind::Histogram);
            self.histograms.last_ms()
        } else {
            self.float_histograms.finish(&mut self.scratch);
            self.last_kind = Some(Kind::FloatHistogram);
            self.float_histograms.last_ms()
        };
        put_entry(&mut self.bytes, encoding, &self.scratch);
        self.entries.push(Entry {
            min_time_ms: self.open_min_ms,
            max_time_ms,
            end: self.bytes.len(),
            samples: encoding.sample_count(&self.scratch),
            is_float: false,
        });
        self.scratch.clear();
    }

    fn frame_floats(&mut self) {
        for chunk in self.floats.iter() {
            put_entry(&mut self.bytes, Encoding::Xor, chunk.data);
            self.entries.push(Entry {
                min_time_ms: chunk.min_time_ms,
                max_time_ms: chunk.max_time_ms,
                end: self.bytes.len(),
                samples: Encoding::Xor.sample_count(chunk.data),
                is_float: true,
            });
        }
        self.floats.clear();
        self.open = None;
        self.last_kind = Some(Kind::Float);
    }

    #[inline(always)]
    fn note_time(&mut self, t_ms: i64) {
        if let Some(last_ms) = self.last_ms
            && t_ms <= last_ms
        {
            self.disorder = self.disorder.or(Some((last_ms, t_ms)));
        }
        self.last_ms = Some(t_ms);
    }

    /// Forgets all chunks and keeps the buffers.
    pub fn clear(&mut self) {
        self.finish();
        self.bytes.clear();
        self.entries.clear();
        (self.last_ms, self.disorder, self.last_kind) = (None, None, None);
    }

    /// Returns whether no sample was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.open.is_none()
    }

    /// Returns how many samples the finished chunks hold.
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.samples)).sum()
    }

    /// Returns how many bytes the finished chunks take up in a chunk file.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the first pair of times that does not ascend.
    pub(super) fn disorder(&self) -> Option<(i64, i64)> {
        self.disorder
    }
}
