//! One iterator over the samples of any chunk.

use super::float_histogram::FloatHistogramReader;
use super::histogram::HistogramReader;
use super::xor2::Xor2Reader;
use super::{ChunkError, Encoding};
use crate::model::{FloatHistogram, Histogram};
use crate::tsdb::{TsdbError, XorDecoder};

/// A sample of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSample {
    /// When it was taken.
    pub t_ms: i64,
    /// When its counter was last at zero, if the chunk says so.
    pub start_ms: Option<i64>,
    /// What was measured.
    pub value: SampleValue,
}

/// The value of a sample. A stale marker is a float, or a histogram whose sum is the marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleValue {
    /// The bits of a float.
    Float(u64),
    /// A native histogram with whole counts.
    Histogram(Box<Histogram>),
    /// A native histogram with fractional counts.
    FloatHistogram(Box<FloatHistogram>),
}

/// Iterates over the samples of a chunk of any encoding.
///
/// The first histogram has the counter-reset hint of the chunk's header, later ones have "gauge" or "no reset".
#[must_use]
pub fn decode_chunk(encoding: Encoding, data: &[u8]) -> ChunkSamples<'_> {
    let count = encoding.sample_count(data);
    let inner = match encoding {
        Encoding::Xor => Inner::Xor(XorDecoder::new(data)),
        Encoding::Xor2 => Inner::Xor2(Box::new(Xor2Reader::new(data))),
        Encoding::Histogram => Inner::Histogram(Box::new(HistogramReader::new(data, false))),
        Encoding::HistogramStart => Inner::Histogram(Box::new(HistogramReader::new(data, true))),
        Encoding::FloatHistogram => Inner::FloatHistogram(Box::new(FloatHistogramReader::new(data, false))),
        Encoding::FloatHistogramStart => {
            Inner::FloatHistogram(Box::new(FloatHistogramReader::new(data, true)))
        }
    };
    ChunkSamples { inner, next: 0, count }
}

/// Iterator over the samples of a chunk. After an error it is at its end.
#[derive(Debug, Clone)]
pub struct ChunkSamples<'a> {
    inner: Inner<'a>,
    next: u16,
    count: u16,
}

#[derive(Debug, Clone)]
enum Inner<'a> {
    Xor(XorDecoder<'a>),
    Xor2(Box<Xor2Reader<'a>>),
    Histogram(Box<HistogramReader<'a>>),
    FloatHistogram(Box<FloatHistogramReader<'a>>),
}

impl ChunkSamples<'_> {
    /// Returns how many samples the chunk says it holds.
    #[must_use]
    pub fn sample_count(&self) -> u16 {
        self.count
    }

    fn take(&mut self) -> Result<ChunkSample, ChunkError> {
        let cut_off = TsdbError::CutOff { sample: self.next, count: self.count };
        match &mut self.inner {
            Inner::Xor(samples) => {
                let (t_ms, value) = samples.next().ok_or(cut_off)??;
                Ok(ChunkSample { t_ms, start_ms: None, value: SampleValue::Float(value.to_bits()) })
            }
            Inner::Xor2(samples) => {
                let (t_ms, start_ms, bits) = samples.take(self.next).ok_or(cut_off)?;
                Ok(ChunkSample { t_ms, start_ms, value: SampleValue::Float(bits) })
            }
            Inner::Histogram(samples) => {
                let (t_ms, start_ms, value) = samples.take(self.next)?.ok_or(cut_off)?;
                Ok(ChunkSample { t_ms, start_ms, value: SampleValue::Histogram(Box::new(value)) })
            }
            Inner::FloatHistogram(samples) => {
                let (t_ms, start_ms, value) = samples.take(self.next)?.ok_or(cut_off)?;
                Ok(ChunkSample { t_ms, start_ms, value: SampleValue::FloatHistogram(Box::new(value)) })
            }
        }
    }
}

impl Iterator for ChunkSamples<'_> {
    type Item = Result<ChunkSample, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.count {
            return None;
        }
        let sample = self.take();
        self.next = if sample.is_ok() { self.next + 1 } else { self.count };
        Some(sample)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.count - self.next)))
    }
}

impl std::iter::FusedIterator for ChunkSamples<'_> {}
