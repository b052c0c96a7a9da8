//! Chunks of native histograms with fractional counts: an XOR stream of every number, per bucket.

use super::ChunkError;
use super::layout::{self, Fit, Layout, LayoutRef, OpenChunk, ResetHeader, Shape};
use super::start::StartReader;
use super::varbit;
use super::window::{XorReader, XorWriter};
use crate::model::FloatHistogram;
use crate::model::STALE_MARKER_BITS;
use crate::tsdb::bits::{BitReader, BitWriter};

/// Appends histograms to a chunk in a buffer that is passed along.
#[derive(Debug)]
pub(super) struct FloatHistogramEncoder {
    bits: BitWriter,
    start: usize,
    samples: u16,
    is_gauge: bool,
    layout: Layout,
    t_ms: i64,
    delta_ms: i64,
    count: XorWriter,
    zero_count: XorWriter,
    sum: XorWriter,
    positive: Vec<XorWriter>,
    negative: Vec<XorWriter>,
}

impl Default for FloatHistogramEncoder {
    fn default() -> Self {
        Self {
            bits: BitWriter::default(),
            start: 0,
            samples: 0,
            is_gauge: false,
            layout: Layout::default(),
            t_ms: 0,
            delta_ms: 0,
            count: XorWriter::new(0),
            zero_count: XorWriter::new(0),
            sum: XorWriter::new(0),
            positive: Vec::new(),
            negative: Vec::new(),
        }
    }
}

impl Shape for FloatHistogram {
    fn hint(&self) -> u8 {
        self.counter_reset_hint
    }

    fn sum_bits(&self) -> u64 {
        self.sum.to_bits()
    }

    fn layout(&self) -> LayoutRef<'_> {
        LayoutRef {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            positive: &self.positive_spans,
            negative: &self.negative_spans,
            custom_values: &self.custom_values,
        }
    }
}

fn floats(streams: &[XorWriter]) -> impl Iterator<Item = f64> {
    streams.iter().map(|stream| f64::from_bits(stream.value()))
}

impl FloatHistogramEncoder {
    /// Returns how many samples the open chunk holds.
    pub(super) fn count(&self) -> u16 {
        self.samples
    }

    /// Returns the time of the last sample.
    pub(super) fn last_ms(&self) -> i64 {
        self.t_ms
    }

    /// Appends to the open chunk if the histogram goes with what is there.
    pub(super) fn append(
        &mut self,
        out: &mut Vec<u8>,
        t_ms: i64,
        value: &FloatHistogram,
    ) -> Result<Fit, ChunkError> {
        let is_stale = value.sum.to_bits() == STALE_MARKER_BITS;
        if self.samples == u16::MAX || (!is_stale && !self.goes_with(value)) {
            return Ok(Fit::NeedsNewChunk);
        }
        if !is_stale {
            layout::expect_buckets(t_ms, &value.positive_spans, value.positive_buckets.len())?;
            layout::expect_buckets(t_ms, &value.negative_spans, value.negative_buckets.len())?;
        }
        let delta_ms = t_ms.wrapping_sub(self.t_ms);
        let bits = &mut self.bits;
        varbit::put_int(bits, out, delta_ms.wrapping_sub(self.delta_ms));
        (self.t_ms, self.delta_ms) = (t_ms, delta_ms);
        if is_stale {
            // Nothing but stale markers can follow, so the counts do not matter any more. Prometheus writes zeros.
            self.count.put(bits, out, 0);
            self.zero_count.put(bits, out, 0);
            self.sum.put(bits, out, STALE_MARKER_BITS);
        } else {
            self.count.put(bits, out, value.count.to_bits());
            self.zero_count.put(bits, out, value.zero_count.to_bits());
            self.sum.put(bits, out, value.sum.to_bits());
            let buckets = value.positive_buckets.iter().chain(&value.negative_buckets);
            for (stream, bucket) in self.positive.iter_mut().chain(&mut self.negative).zip(buckets) {
                stream.put(bits, out, bucket.to_bits());
            }
        }
        self.samples += 1;
        Ok(Fit::Appended)
    }

    /// Starts a chunk with a histogram. Its header tells how it follows the one before, which is closed.
    pub(super) fn start(
        &mut self,
        out: &mut Vec<u8>,
        t_ms: i64,
        value: &FloatHistogram,
        follows: bool,
    ) -> Result<(), ChunkError> {
        let is_stale = value.sum.to_bits() == STALE_MARKER_BITS;
        let stale = FloatHistogram { sum: value.sum, ..FloatHistogram::default() };
        let stored = if is_stale { &stale } else { value };
        layout::expect_buckets(t_ms, &stored.positive_spans, stored.positive_buckets.len())?;
        layout::expect_buckets(t_ms, &stored.negative_spans, stored.negative_buckets.len())?;
        let header = self.header_for(value, follows);
        self.is_gauge = header == ResetHeader::Gauge;
        self.layout = if is_stale { LayoutRef::EMPTY } else { value.layout() }.to_layout();
        (self.start, self.samples) = (out.len(), 1);
        (self.t_ms, self.delta_ms) = (t_ms, 0);
        self.bits = BitWriter::default();
        out.extend_from_slice(&[0, 0, header.to_top_bits()]);
        let bits = &mut self.bits;
        self.layout.put(bits, out);
        varbit::put_int(bits, out, t_ms);
        let mut open = |value: f64| {
            bits.put(out, value.to_bits(), 64);
            XorWriter::new(value.to_bits())
        };
        self.count = open(stored.count);
        self.zero_count = open(stored.zero_count);
        self.sum = open(stored.sum);
        self.positive.clear();
        self.positive.extend(stored.positive_buckets.iter().map(|bucket| open(*bucket)));
        self.negative.clear();
        self.negative.extend(stored.negative_buckets.iter().map(|bucket| open(*bucket)));
        Ok(())
    }

    /// Closes the chunk.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.bits.finish(out);
        out[self.start..self.start + 2].copy_from_slice(&self.samples.to_be_bytes());
        self.samples = 0;
    }
}

impl OpenChunk for FloatHistogramEncoder {
    type Value = FloatHistogram;

    fn is_gauge(&self) -> bool {
        self.is_gauge
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn sum_bits(&self) -> u64 {
        self.sum.value()
    }

    fn count_shrank(&self, value: &FloatHistogram) -> bool {
        value.count < f64::from_bits(self.count.value())
    }

    fn buckets_shrank(&self, value: &FloatHistogram) -> bool {
        value.zero_count < f64::from_bits(self.zero_count.value())
            || layout::any_shrank(
                layout::bucket_indexes(&self.layout.positive).zip(floats(&self.positive)),
                layout::bucket_indexes(&value.positive_spans).zip(value.positive_buckets.iter().copied()),
            )
            || layout::any_shrank(
                layout::bucket_indexes(&self.layout.negative).zip(floats(&self.negative)),
                layout::bucket_indexes(&value.negative_spans).zip(value.negative_buckets.iter().copied()),
            )
    }
}

/// Takes the histograms of a chunk one by one.
#[derive(Debug, Clone)]
pub(super) struct FloatHistogramReader<'a> {
    bits: BitReader<'a>,
    header: ResetHeader,
    start: Option<StartReader>,
    layout: Layout,
    t_ms: i64,
    delta_ms: i64,
    count: XorReader,
    zero_count: XorReader,
    sum: XorReader,
    positive: Vec<XorReader>,
    negative: Vec<XorReader>,
}

impl<'a> FloatHistogramReader<'a> {
    pub(super) fn new(data: &'a [u8], has_start: bool) -> Self {
        let (header, rest) = data.split_at_checked(3).unwrap_or((&[0, 0, 0], &[]));
        Self {
            bits: BitReader::new(rest),
            header: ResetHeader::from_top_bits(header[if has_start { 0 } else { 2 }]),
            start: has_start.then(|| StartReader::new(header[2])),
            layout: Layout::default(),
            t_ms: 0,
            delta_ms: 0,
            count: XorReader::default(),
            zero_count: XorReader::default(),
            sum: XorReader::default(),
            positive: Vec::new(),
            negative: Vec::new(),
        }
    }

    /// Takes sample `index`; `None` where the bits end or contradict themselves.
    pub(super) fn take(
        &mut self,
        index: u16,
    ) -> Result<Option<(i64, Option<i64>, FloatHistogram)>, ChunkError> {
        let previous_ms = self.t_ms;
        if index == 0 {
            self.layout = Layout::take(&mut self.bits, 64)?;
        }
        let taken = if index == 0 { self.take_first() } else { self.take_later() };
        let start_taken = taken.and_then(|()| match &mut self.start {
            Some(start) => start.take(&mut self.bits, index, self.t_ms, previous_ms),
            None => Some(()),
        });
        let start_ms = self.start.as_ref().and_then(StartReader::start_ms);
        Ok(start_taken.map(|()| (self.t_ms, start_ms, self.histogram(index == 0))))
    }

    fn take_first(&mut self) -> Option<()> {
        let bits = &mut self.bits;
        self.t_ms = varbit::take_int(bits)?;
        self.count = XorReader::new(bits.take(64)?);
        self.zero_count = XorReader::new(bits.take(64)?);
        self.sum = XorReader::new(bits.take(64)?);
        for _ in 0..layout::bucket_count(&self.layout.positive) {
            self.positive.push(XorReader::new(bits.take(64)?));
        }
        for _ in 0..layout::bucket_count(&self.layout.negative) {
            self.negative.push(XorReader::new(bits.take(64)?));
        }
        Some(())
    }

    fn take_later(&mut self) -> Option<()> {
        let bits = &mut self.bits;
        self.delta_ms = self.delta_ms.wrapping_add(varbit::take_int(bits)?);
        self.t_ms = self.t_ms.wrapping_add(self.delta_ms);
        self.count.take(bits)?;
        self.zero_count.take(bits)?;
        self.sum.take(bits)?;
        if self.sum.value == STALE_MARKER_BITS {
            return Some(());
        }
        self.positive.iter_mut().chain(&mut self.negative).try_for_each(|stream| stream.take(bits))
    }

    fn histogram(&self, is_first: bool) -> FloatHistogram {
        let sum = f64::from_bits(self.sum.value);
        if self.sum.value == STALE_MARKER_BITS {
            return FloatHistogram { sum, ..FloatHistogram::default() };
        }
        let floats = |streams: &[XorReader]| streams.iter().map(|s| f64::from_bits(s.value)).collect();
        FloatHistogram {
            counter_reset_hint: self.header.hint(is_first),
            schema: self.layout.schema,
            zero_threshold: f64::from_bits(self.layout.zero_threshold),
            zero_count: f64::from_bits(self.zero_count.value),
            count: f64::from_bits(self.count.value),
            sum,
            positive_spans: self.layout.positive.clone(),
            negative_spans: self.layout.negative.clone(),
            positive_buckets: floats(&self.positive),
            negative_buckets: floats(&self.negative),
            custom_values: self.layout.custom_floats(),
        }
    }
}
