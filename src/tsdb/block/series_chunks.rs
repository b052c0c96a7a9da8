//! Encodes the samples of one series as the entries of a chunk file.

use super::chunk_files::put_entry;
use crate::model::{FloatHistogram, Histogram, HistogramSample, Sample};
use crate::tsdb::chunk::{ChunkError, Encoding, SampleChunks};

/// The chunks of one series, in one buffer that is reused from series to series.
///
/// Push samples in order of time, hand it to [`super::BlockBuilder::add`], [`Self::clear`]. Chunks end as in
/// [`SampleChunks`].
#[derive(Debug, Default)]
pub struct SeriesChunks {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// What was pushed since the last [`Self::finish`].
    run: SampleChunks,
    last_ms: Option<i64>,
    disorder: Option<(i64, i64)>,
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
        self.run.push_float(t_ms, bits);
    }

    /// Appends a histogram with whole counts.
    ///
    /// # Errors
    /// Buckets that do not go with the spans. The histogram is left out.
    pub fn push_histogram(&mut self, t_ms: i64, value: &Histogram) -> Result<(), ChunkError> {
        self.run.push_histogram(t_ms, value)?;
        self.note_time(t_ms);
        Ok(())
    }

    /// Appends a histogram with fractional counts.
    ///
    /// # Errors
    /// Buckets that do not go with the spans. The histogram is left out.
    pub fn push_float_histogram(&mut self, t_ms: i64, value: &FloatHistogram) -> Result<(), ChunkError> {
        self.run.push_float_histogram(t_ms, value)?;
        self.note_time(t_ms);
        Ok(())
    }

    /// Appends floats and histograms, both sorted, in order of time.
    ///
    /// # Errors
    /// A histogram whose buckets do not go with its spans; what came before it is kept.
    pub fn push_all(&mut self, floats: &[Sample], histograms: &[HistogramSample]) -> Result<(), ChunkError> {
        let first = [floats.first().map(|s| s.ts_ms), histograms.first().map(|h| h.ts_ms)];
        let last = [floats.last().map(|s| s.ts_ms), histograms.last().map(|h| h.ts_ms)];
        if let Some(first_ms) = first.into_iter().flatten().min() {
            self.note_time(first_ms);
        }
        self.run.push_all(floats, histograms)?;
        self.last_ms = self.last_ms.max(last.into_iter().flatten().max());
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
        self.run.forget_previous();
    }

    /// Closes the open chunk, if there is one. [`super::BlockBuilder::add`] does so too.
    pub fn finish(&mut self) {
        self.run.finish();
        for chunk in self.run.iter() {
            put_entry(&mut self.bytes, chunk.encoding, chunk.data);
            self.entries.push(Entry {
                min_time_ms: chunk.min_time_ms,
                max_time_ms: chunk.max_time_ms,
                end: self.bytes.len(),
                samples: chunk.encoding.sample_count(chunk.data),
                is_float: chunk.encoding.is_float(),
            });
        }
        self.run.forget_finished();
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
        self.run.clear();
        self.bytes.clear();
        self.entries.clear();
        (self.last_ms, self.disorder) = (None, None);
    }

    /// Returns whether no sample was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.run.is_empty()
    }

    /// Returns how many samples the chunks hold that were closed by [`Self::finish`].
    #[must_use]
    pub fn sample_count(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.samples)).sum()
    }

    /// Returns how many bytes the chunks take up in a chunk file that were closed by [`Self::finish`].
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
